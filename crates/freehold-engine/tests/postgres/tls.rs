//! TLS to the server: who is let in, who is refused, and what the refusal says.

use std::{net::SocketAddr, sync::Arc};

use freehold_engine::{
    ConnectTarget, EngineError, EngineHandle, Fault, ScriptSession as _, Tls, conformance,
    postgres::{PostgresEngine, PostgresSession},
};
use freehold_model::Secret;
use freehold_testing::{
    certificates::{Authority, Certificate},
    postgres::{Login, Server},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use crate::world::{self, ANY, database};

const HERE: &[&str] = &["127.0.0.1"];
const ENCRYPTED: &str = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

fn only_tls(certificate: &Certificate) -> Server {
    Server::builder().version(ANY).tls_only(certificate).start()
}

fn target(server: &Server, tls: Tls) -> ConnectTarget {
    let mut target = world::target(server.port(), &server.superuser_login());
    target.tls = tls;
    target
}

fn proven_by(authority: &Authority) -> Tls {
    Tls::VerifyFull {
        ca_pem: Some(authority.pem()),
    }
}

async fn connect(target: &ConnectTarget) -> Result<PostgresSession, EngineError> {
    PostgresSession::connect(target).await
}

async fn is_encrypted(session: &mut PostgresSession) -> bool {
    let rows = session.query(ENCRYPTED, &[]).await.expect("answers");
    rows == [[Some("true".to_owned())]]
}

/// The words of a refusal, which must be one before any login.
async fn refusal(server: &Server, tls: Tls) -> String {
    let Err(error) = connect(&target(server, tls)).await else {
        panic!("connected")
    };
    assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_server_with_the_right_certificate_is_connected_to_and_encrypted() {
    let authority = Authority::new("ours");
    for version in world::oldest_and_newest() {
        let server = Server::builder()
            .version(version)
            .tls_only(&authority.certificate(HERE))
            .start();
        let session = connect(&target(&server, proven_by(&authority))).await;
        assert!(is_encrypted(&mut session.expect("connects")).await);
    }
}

#[tokio::test]
async fn one_of_several_authorities_is_enough() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = only_tls(&ours.certificate(HERE));
    let bundle = Tls::VerifyFull {
        ca_pem: Some(other.pem() + &ours.pem()),
    };
    assert!(connect(&target(&server, bundle)).await.is_ok());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_even_when_the_names_are_alike() {
    let server = only_tls(&Authority::new("ours").certificate(HERE));
    let said = refusal(&server, proven_by(&Authority::new("ours"))).await;
    assert!(said.contains("let `ca` name"), "{said}");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::new("ours");
    let server = only_tls(&authority.certificate(&["db.internal", "127.0.0.2"]));
    let said = refusal(&server, proven_by(&authority)).await;
    assert!(said.contains("subject alternative names"), "{said}");
    // What it is for is said, so that one sees which of the two is wrong.
    assert!(said.contains("db.internal"), "{said}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new("ours");
    let server = only_tls(&authority.expired(HERE));
    let said = refusal(&server, proven_by(&authority)).await;
    assert!(said.contains("renew the server's certificate"), "{said}");
}

#[tokio::test]
async fn a_certificate_that_vouches_for_itself_as_an_authority_is_refused_with_the_reason() {
    let certificate = Certificate::self_signed(HERE);
    let server = only_tls(&certificate);
    let itself = Tls::VerifyFull {
        ca_pem: Some(certificate.chain_pem.clone()),
    };
    let said = refusal(&server, itself).await;
    assert!(said.contains("CA:FALSE"), "{said}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_must_be_proven() {
    let server = Server::start_version(ANY);
    let said = refusal(&server, proven_by(&Authority::new("ours"))).await;
    assert!(said.contains("turn on `ssl`"), "{said}");
}

#[tokio::test]
async fn authorities_that_are_none_are_refused_before_anything_is_connected_to() {
    let server = only_tls(&Authority::new("ours").certificate(HERE));
    for nonsense in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let ca_pem = Some(nonsense.to_owned());
        let error = connect(&target(&server, Tls::VerifyFull { ca_pem })).await;
        let Err(error) = error else {
            panic!("connected with {nonsense:?}")
        };
        assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    }
}

#[tokio::test]
async fn prefer_takes_any_certificate_and_also_none() {
    let stranger = Server::builder()
        .version(ANY)
        .tls_only(&Authority::new("a stranger").expired(&["elsewhere"]))
        .start();
    let session = connect(&target(&stranger, Tls::Prefer)).await;
    assert!(is_encrypted(&mut session.expect("connects")).await);
    let plain = Server::start_version(ANY);
    let session = connect(&target(&plain, Tls::Prefer)).await;
    assert!(!is_encrypted(&mut session.expect("connects")).await);
}

#[tokio::test]
async fn without_tls_a_server_that_insists_on_it_says_so_and_the_password_is_not_blamed() {
    let server = only_tls(&Authority::new("ours").certificate(HERE));
    let Err(error) = connect(&target(&server, Tls::Disable)).await else {
        panic!("connected in clear")
    };
    assert!(matches!(error.fault, Fault::Denied { .. }), "{error}");
    assert!(error.to_string().contains("tls: verifyFull"), "{error}");
    // And a wrong password is still one.
    let mut wrong = target(&server, Tls::Prefer);
    wrong.password = Some(Secret::new("wrong"));
    let Err(error) = connect(&wrong).await else {
        panic!("connected with a wrong password")
    };
    assert_eq!(error.fault, Fault::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_cancelled_over_tls() {
    let authority = Authority::new("ours");
    let server = only_tls(&authority.certificate(HERE));
    let session = connect(&target(&server, proven_by(&authority))).await;
    let mut session = session.expect("connects");
    let cancel = session.canceller();
    let running = tokio::spawn(async move { session.execute("SELECT pg_sleep(600)").await });
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while server.psql("postgres", asleep) != "1" {}
    (cancel.0)().await.expect("cancelled");
    let error = running.await.expect("no panic").expect_err("cancelled");
    assert!(matches!(error.fault, Fault::Statement(_)), "{error}");
}

struct Probe<'a> {
    server: &'a Server,
    tls: Tls,
}

impl conformance::LoginProbe for Probe<'_> {
    async fn can_log_in(&self, database: &str, login: &str, password: &Secret) -> bool {
        let login = Login {
            name: login.into(),
            password: password.expose().into(),
        };
        let mut target = world::target(self.server.port(), &login);
        target.database = database.into();
        target.tls = self.tls.clone();
        connect(&target).await.is_ok()
    }
}

#[tokio::test]
async fn postgres_conforms_over_tls() {
    let authority = Authority::new("ours");
    let server = only_tls(&authority.certificate(HERE));
    let tls = proven_by(&authority);
    let engine = EngineHandle::new(PostgresEngine::new(target(&server, tls.clone())));
    let server = &server;
    conformance::check(&engine, &Probe { server, tls }).await;
}

#[tokio::test]
async fn an_engine_tells_of_a_certificate_that_ran_out_and_goes_on_once_it_is_renewed() {
    let authority = Authority::new("ours");
    let server = only_tls(&authority.expired(HERE));
    let engine = PostgresEngine::new(target(&server, proven_by(&authority)));
    let engine = EngineHandle::new(engine);
    let desired = database("renewed");
    let fence = world::fence(1);
    let gate = freehold_model::Gate::open();
    let error = engine
        .reserve(&desired.name, &desired.stamp, &fence, &gate)
        .await
        .expect_err("the certificate is not valid");
    assert!(
        error.is_retryable() && error.to_string().contains("renew"),
        "{error}"
    );
    server.present(&authority.certificate(HERE));
    engine
        .reserve(&desired.name, &desired.stamp, &fence, &gate)
        .await
        .expect("the certificate is valid");
}

/// An impostor has a certificate of its own and passes everything on to the true server. Where the
/// certificate is not checked only SCRAM's channel binding stops it.
#[tokio::test]
async fn a_login_through_somebody_in_the_middle_fails_also_where_no_certificate_is_checked() {
    let authority = Authority::new("ours");
    let server = only_tls(&authority.certificate(HERE));
    let own = Authority::new("an impostor").certificate(HERE);
    let middle = impostor(server.port(), acceptor(&own), connector(&authority)).await;
    let mut target = target(&server, Tls::Prefer);
    target.port = middle.port();
    let Err(error) = connect(&target).await else {
        panic!("logged in through an impostor")
    };
    assert_eq!(error.fault, Fault::Unauthenticated, "{error}");
    let log = server.log();
    assert!(log.contains("channel binding check failed"), "{log}");
}

async fn impostor(port: u16, acceptor: TlsAcceptor, connector: TlsConnector) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that goes away ends its own connection only.
            let _ = pass_on(client, &acceptor, &connector, port).await;
        }
    });
    address
}

async fn pass_on(
    mut client: TcpStream,
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    port: u16,
) -> std::io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    server.write_all(&request).await?;
    let mut answer = [0];
    server.read_exact(&mut answer).await?;
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let mut server = connector.connect(name, server).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn acceptor(own: &Certificate) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(own.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key belongs to the certificate");
    TlsAcceptor::from(Arc::new(config))
}

/// The impostor knows whom it speaks for.
fn connector(upstream: &Authority) -> TlsConnector {
    let authority = CertificateDer::from_pem_slice(upstream.pem().as_bytes()).expect("PEM");
    let mut roots = RootCertStore::empty();
    roots.add(authority).expect("an authority's certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
