//! The server over a real socket, with the real control plane on a store in memory.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use freehold_api::{
    ApplyRequest, ListQuery, TokenCreate, TokenKind,
    client::{Client, Error},
};
use freehold_control::{Control, Options as ControlOptions};
use freehold_model::{Clock, Code, Entropy, Kind, Name, Secret, SystemClock, SystemEntropy};
use freehold_server::{Limits, Options, Server, Telemetry, TlsFiles};
use freehold_store::{MemoryStore, StoreHandle};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

struct House {
    address: SocketAddr,
    token: Secret,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn house() -> House {
    house_with(Limits::default(), None).await
}

async fn house_with(limits: Limits, tls: Option<TlsFiles>) -> House {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let folder = tempfile::tempdir().unwrap();
    let store = StoreHandle::new(MemoryStore::new(clock.clone(), entropy.clone()));
    let options = ControlOptions::new("test", folder.path().to_owned(), PathBuf::from("/none"));
    let started = Control::start_on_any_store(store, clock.clone(), entropy.clone(), options)
        .await
        .unwrap();
    let token = std::fs::read_to_string(started.bootstrap_token_file.unwrap()).unwrap();
    let options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls,
        limits,
    };
    let telemetry = Telemetry::detached().unwrap();
    let server = Server::bind(options, started.control, clock, entropy, telemetry)
        .await
        .unwrap();
    let address = server.address();
    let stop = CancellationToken::new();
    House {
        address,
        token: Secret::new(token.trim()),
        serving: tokio::spawn(server.serve(stop.clone())),
        stop,
        _folder: folder,
    }
}

impl House {
    fn client(&self) -> Client {
        self.client_with(self.token.expose())
    }

    fn client_with(&self, token: &str) -> Client {
        let address = format!("http://{}", self.address);
        Client::new(&address, Some(Secret::new(token)), None).unwrap()
    }

    /// Says exactly these bytes and reads until the server closes.
    async fn say(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    async fn ask(&self, line: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.say(&format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    fn bearer(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.token.expose())
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Status, code, and message of the one error body; its request id is the header's.
    fn failure(&self) -> (u16, String, String) {
        let body: serde_json::Value =
            serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body));
        let error = &body["error"];
        let id = error["request_id"].as_str().unwrap();
        assert!(
            self.head.contains(&format!("x-request-id: {id}")),
            "{}",
            self.head
        );
        let text = |key: &str| error[key].as_str().unwrap().to_owned();
        (self.status, text("code"), text("message"))
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn manifest(text: &str) -> ApplyRequest {
    ApplyRequest {
        manifests: text.to_owned(),
        environment: name("local"),
        team: None,
        manager: None,
        force: false,
        dry_run: false,
        prune_set: None,
    }
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one table of all kinds of wrong requests"
)]
async fn every_kind_of_wrong_request_gets_the_one_error_body() {
    let house = house().await;
    let bearer = house.bearer();
    let json = format!("{bearer}content-type: application/json\r\n");
    let long = "x".repeat(300_000);
    let cases = [
        (
            "GET /v1/whoami",
            String::new(),
            "",
            401,
            "unauthenticated",
            "no token",
        ),
        (
            "GET /v1/whoami",
            "authorization: Basic x\r\n".to_owned(),
            "",
            401,
            "unauthenticated",
            "Bearer",
        ),
        (
            "GET /v1/whoami",
            "authorization: Bearer x\r\n".to_owned(),
            "",
            401,
            "unauthenticated",
            "",
        ),
        (
            "GET /v1/nope",
            bearer.clone(),
            "",
            404,
            "not_found",
            "/v1/nope",
        ),
        ("PUT /v1/whoami", bearer.clone(), "", 405, "invalid", "PUT"),
        (
            "POST /v1/apply",
            bearer.clone(),
            "{}",
            415,
            "invalid",
            "JSON",
        ),
        (
            "POST /v1/apply",
            json.clone(),
            "{",
            400,
            "invalid",
            "in the body",
        ),
        (
            "POST /v1/apply",
            json.clone(),
            "{\"manifests\": 1}",
            400,
            "invalid",
            "manifests",
        ),
        (
            "POST /v1/tokens",
            json.clone(),
            "{\"subject\":\"A b\",\"kind\":\"person\"}",
            400,
            "invalid",
            "subject",
        ),
        (
            "POST /v1/tokens",
            json.clone(),
            long.as_str(),
            413,
            "too_large",
            "larger",
        ),
        (
            "GET /v1/resources/tables",
            bearer.clone(),
            "",
            400,
            "invalid",
            "databases",
        ),
        (
            "GET /v1/resources/teams?teem=a",
            bearer.clone(),
            "",
            400,
            "invalid",
            "teem",
        ),
        (
            "GET /v1/operations/x",
            bearer.clone(),
            "",
            400,
            "invalid",
            "path",
        ),
        (
            "PUT /v1/bundles/sha256:1",
            bearer.clone(),
            "",
            400,
            "invalid",
            "sha256",
        ),
    ];
    for (line, headers, body, status, code, part) in cases {
        let answer = house.ask(line, &headers, body).await;
        let (found, found_code, message) = answer.failure();
        assert_eq!(
            (found, found_code.as_str()),
            (status, code),
            "{line}: {message}"
        );
        assert!(message.contains(part), "{line}: {message}");
    }
}

#[tokio::test]
async fn a_request_id_from_outside_is_not_taken_over() {
    let house = house().await;
    let answer = house
        .ask("GET /v1/version", "x-request-id: mine\r\n", "")
        .await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("x-request-id: "));
    assert!(
        !answer.head.contains("x-request-id: mine"),
        "{}",
        answer.head
    );
    assert!(
        answer.head.contains("cache-control: no-store"),
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn a_token_works_until_it_is_revoked() {
    let house = house().await;
    let admin = house.client();
    assert_eq!(
        admin.login().await.unwrap().subject,
        admin.whoami().await.unwrap().subject
    );
    let request = TokenCreate {
        subject: name("ana"),
        kind: TokenKind::Person,
        platform_role: None,
        days: Some(1),
    };
    let created = admin.token_create(&request).await.unwrap();
    let ana = house.client_with(created.token.expose());
    assert_eq!(ana.whoami().await.unwrap().subject, name("ana"));
    let listed = admin.token_list().await.unwrap();
    assert!(listed.items.iter().any(|token| token.id == created.view.id));
    assert!(
        admin
            .token_revoke(&created.view.id)
            .await
            .unwrap()
            .revoked_at
            .is_some()
    );
    assert_eq!(
        ana.whoami().await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn what_is_applied_can_be_listed_by_pages_and_read() {
    let house = house().await;
    let client = house.client();
    let text: String = ["ada", "bob", "cyd"]
        .map(|team| format!("apiVersion: freehold.dev/v1alpha1\nkind: Team\nmetadata: {{name: {team}}}\nspec: {{}}\n"))
        .join("---\n");
    let report = client.apply(&manifest(&text)).await.unwrap();
    assert_eq!(report.applied.len(), 3);
    let mut query = ListQuery {
        limit: Some(2),
        ..ListQuery::default()
    };
    let mut found = Vec::new();
    loop {
        let page = client.resource_list(Kind::Team, &query).await.unwrap();
        assert!(page.items.len() <= 2);
        found.extend(page.items.iter().map(|team| team.metadata.name.to_string()));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, ["ada", "bob", "cyd"]);
    let missing = freehold_model::ResourceKey {
        kind: Kind::Team,
        environment: None,
        team: None,
        name: name("dan"),
    };
    assert_eq!(
        client.resource_get(&missing).await.unwrap_err().code(),
        Code::NotFound
    );
    let export = client.audit_checkpoint().await;
    assert!(export.is_ok() || export.is_err_and(|e| e.code() != Code::Internal));
}

#[tokio::test]
async fn a_busy_server_sheds_load_and_still_says_that_it_lives() {
    let limits = Limits {
        requests_max: 0,
        ..Limits::default()
    };
    let house = house_with(limits, None).await;
    let answer = house.ask("GET /v1/version", "", "").await;
    assert_eq!(answer.failure().0, 429);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        let answer = house.ask(&format!("GET {path}"), "", "").await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_stopped_server_ends_by_itself_and_closes_its_port() {
    let house = house().await;
    house.client().whoami().await.unwrap();
    house.stop.cancel();
    house.serving.await.unwrap();
    let address = format!("http://{}", house.address);
    let error = Client::new(&address, None, None)
        .unwrap()
        .version()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("freehold serve"), "{hint}");
    assert_eq!(error.to_string(), format!("nothing answers at {address}"));
}

#[tokio::test]
async fn a_port_in_use_is_told_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let folder = tempfile::tempdir().unwrap();
    let store = StoreHandle::new(MemoryStore::new(clock.clone(), entropy.clone()));
    let control_options = ControlOptions::new("test", folder.path().to_owned(), PathBuf::new());
    let started =
        Control::start_on_any_store(store, clock.clone(), entropy.clone(), control_options)
            .await
            .unwrap();
    let options = Options {
        listen: taken.local_addr().unwrap(),
        tls: None,
        limits: Limits::default(),
    };
    let telemetry = Telemetry::detached().unwrap();
    let bound = Server::bind(options, started.control, clock, entropy, telemetry).await;
    let error = bound.err().unwrap();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(error.hint.unwrap().contains("--listen"));
}

fn tls_files() -> (TlsFiles, Vec<u8>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let files = TlsFiles {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
    };
    (files, std::fs::read(folder.join("ca.pem")).unwrap())
}

#[tokio::test]
async fn tls_is_trusted_through_its_authority_only() {
    let (files, ca) = tls_files();
    let house = house_with(Limits::default(), Some(files)).await;
    let address = format!("https://localhost:{}", house.address.port());
    let client = |ca: Option<&[u8]>| Client::new(&address, Some(house.token.clone()), ca).unwrap();
    client(Some(&ca)).whoami().await.unwrap();
    let error = client(None).whoami().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_nobody() {
    let (files, ca) = tls_files();
    let house = house_with(Limits::default(), Some(files)).await;
    let _silent = TcpStream::connect(house.address).await.unwrap();
    let address = format!("https://localhost:{}", house.address.port());
    let client = Client::new(&address, Some(house.token.clone()), Some(&ca)).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), client.whoami()).await;
    answer.unwrap().unwrap();
}

/// Begins an upload that says it has a thousand bytes.
async fn begin_upload(house: &House) -> TcpStream {
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = format!(
        "PUT /v1/bundles/sha256:{} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n{}\r\n",
        "0".repeat(64),
        house.bearer()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes));
    // A server that gives up on a body may reset the connection behind its answer.
    let _ = read.await.expect("the server ends it");
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_body_that_stalls_or_trickles_is_given_up_and_its_place_is_free_again() {
    let limits = Limits {
        uploads_max: 1,
        body_patience: Duration::from_millis(200),
        body_bytes_per_second_min: 1000,
        ..Limits::default()
    };
    let house = house_with(limits, None).await;
    let mut stalled = begin_upload(&house).await;
    let answer = read_to_end(&mut stalled).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("too slowly"), "{answer}");

    let (mut back, mut out) = begin_upload(&house).await.into_split();
    let trickle = async move {
        // A tenth of what is asked for: never still, and never fast enough.
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            if out.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    let trickling = tokio::spawn(trickle);
    let answer = read_to_end(&mut back).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    trickling.abort();

    let line = format!("PUT /v1/bundles/sha256:{}", "0".repeat(64));
    let answer = house.ask(&line, &house.bearer(), "no bundle").await;
    assert_eq!(answer.failure().0, 400, "there is a place for it");
}

#[tokio::test]
async fn a_stream_of_events_ends_when_its_token_is_revoked() {
    let house = house().await;
    let admin = house.client();
    let world = "
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {name: shop}
spec: {members: [{subject: ana, role: owner}]}
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {name: standard}
spec: {engine: postgres}
---
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {name: orders, namespace: shop}
spec: {class: standard}
";
    let report = admin.apply(&manifest(world)).await.unwrap();
    let operation = report.applied.iter().find_map(|a| a.operation).unwrap();
    let created = admin
        .token_create(&TokenCreate {
            subject: name("ana"),
            kind: TokenKind::Person,
            platform_role: None,
            days: None,
        })
        .await
        .unwrap();
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = format!(
        "GET /v1/operations/{operation}/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         accept: text/event-stream\r\nauthorization: Bearer {}\r\n\r\n",
        created.token.expose()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    admin.token_revoke(&created.view.id).await.unwrap();
    // Within a minute at most, where a stream may live for a quarter of an hour.
    let rest = read_to_end(&mut stream).await;
    assert!(!rest.contains("event: end"), "{rest}");
}
