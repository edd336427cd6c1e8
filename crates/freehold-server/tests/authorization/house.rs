//! A server with two teams and their things, and somebody of every role to ask it.
//!
//! No database server stands behind it: authorization is decided before anything is asked of one, so
//! what is allowed shows as 412 where it would need one. Background work runs until the audit log has
//! its entries, and is stopped before anybody asks: nothing changes but what requests change.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use freehold_api::{
    Applied, ApplyRequest, ListQuery, OperationQuery, TokenCreate, TokenKind, client::Client,
};
use freehold_control::{Control, Options as ControlOptions};
use freehold_model::{
    Clock, Entropy, Kind, Name, Secret, SystemClock, SystemEntropy, kinds::Role as TokenRole,
};
use freehold_server::{Limits, Options, Server, Telemetry};
use freehold_store::{MemoryStore, StoreHandle};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::cases::Case;

/// Part of every name and label that belongs to `shop` alone.
pub(crate) const CANARY: &str = "canary";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    NoToken,
    BadToken,
    Admin,
    Operator,
    Owner,
    Developer,
    Viewer,
    /// A machine that is a developer of the team.
    Machine,
    /// The owner of another team.
    OtherTeam,
    /// A token, and no team.
    NoTeam,
}

pub(crate) const ROLES: [Role; 10] = [
    Role::NoToken,
    Role::BadToken,
    Role::Admin,
    Role::Operator,
    Role::Owner,
    Role::Developer,
    Role::Viewer,
    Role::Machine,
    Role::OtherTeam,
    Role::NoTeam,
];

impl Role {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::NoToken => "no token",
            Self::BadToken => "bad token",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Owner => "owner",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
            Self::Machine => "machine",
            Self::OtherTeam => "pay",
            Self::NoTeam => "no team",
        }
    }

    /// May not know what the team has.
    pub(crate) fn is_foreign(self) -> bool {
        matches!(
            self,
            Self::NoToken | Self::BadToken | Self::OtherTeam | Self::NoTeam
        )
    }

    /// Whatever it tries, the team's things are afterwards as they were.
    pub(crate) fn changes_nothing(self) -> bool {
        self.is_foreign() || self == Self::Viewer
    }

    fn subject(self) -> &'static str {
        match self {
            Self::NoToken | Self::BadToken => unreachable!("nobody"),
            Self::Admin => "root",
            Self::Operator => "ops",
            Self::Owner => "canary-ana",
            Self::Developer => "canary-dev",
            Self::Viewer => "canary-vic",
            Self::Machine => "canary-ci",
            Self::OtherTeam => "eve",
            Self::NoTeam => "stray",
        }
    }
}

/// What the platform has.
const PLATFORM: &str = "
apiVersion: freehold.dev/v1alpha1
kind: Environment
metadata: {name: prod}
spec: {order: 2, protected: true}
---
apiVersion: freehold.dev/v1alpha1
kind: Environment
metadata: {name: spare}
spec: {order: 3}
---
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {name: shop, labels: {mark: canary}}
spec:
  members:
    - {subject: canary-ana, role: owner}
    - {subject: canary-dev, role: developer}
    - {subject: canary-vic, role: viewer}
    - {subject: canary-ci, role: developer}
    - {subject: canary-bot, role: developer}
---
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {name: pay}
spec: {members: [{subject: eve, role: owner}, {subject: pay-bot, role: developer}]}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {name: till, namespace: pay}
spec: {}
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {name: spare-class}
spec: {engine: postgres, deletionPolicy: Quarantine}
";

const CLASS: &str = "
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {name: standard}
spec: {engine: postgres, deletionPolicy: Quarantine}
";

const INSTANCE: &str = "
---
apiVersion: freehold.dev/v1alpha1
kind: Instance
metadata: {name: canary-pg}
spec:
  engine: postgres
  external: {host: 127.0.0.1, port: 1, username: admin, password: 'env:NOWHERE', tls: disable}
";

/// What the team `shop` has in an environment. `ledger` is also given to the workload of `pay`.
const SHOP: &str = "
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {name: canary-api, namespace: shop}
spec: {}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {name: canary-idle, namespace: shop}
spec: {}
---
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {name: canary-orders, namespace: shop}
spec: {class: standard}
---
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {name: ledger, namespace: shop, labels: {mark: canary}}
spec: {class: standard}
---
apiVersion: freehold.dev/v1alpha1
kind: Access
metadata: {name: canary-rw, namespace: shop}
spec: {database: canary-orders, subject: {workload: canary-api}, level: readWrite}
---
apiVersion: freehold.dev/v1alpha1
kind: Access
metadata: {name: till-reads, namespace: shop}
spec: {database: ledger, subject: {workload: till, team: pay}, level: readOnly}
";

pub(crate) struct House {
    address: SocketAddr,
    admin: Client,
    admin_token: Secret,
    /// The operation that would place and make the team's database.
    pub(crate) operation: String,
    /// The id of a token of the team's machine, and of the other team's machine.
    pub(crate) shop_token: String,
    pub(crate) pay_token: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// Who asks.
pub(crate) struct Somebody {
    /// The header line of the token.
    pub(crate) bearer: String,
    pub(crate) subject: &'static str,
    pub(crate) kind: &'static str,
    /// The id of another token of the same subject.
    pub(crate) spare_token: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) request_id: String,
    head: String,
}

impl Answer {
    /// All of it that must not depend on whether a hidden thing exists.
    pub(crate) fn comparable(&self) -> String {
        let head: Vec<&str> = self
            .head
            .lines()
            .filter(|line| !["x-request-id", "date", "content-length"].contains(&header(line)))
            .collect();
        format!("{}\n\n{}", head.join("\n"), self.body).replace(&self.request_id, "REQUEST")
    }
}

fn header(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl House {
    pub(crate) async fn open() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let folder = tempfile::tempdir().unwrap();
        let store = StoreHandle::new(MemoryStore::new(clock.clone(), entropy.clone()));
        let options = ControlOptions::new("test", folder.path().to_owned(), PathBuf::from("/none"));
        let started = Control::start_on_any_store(store, clock.clone(), entropy.clone(), options)
            .await
            .unwrap();
        let first = std::fs::read_to_string(started.bootstrap_token_file.unwrap()).unwrap();
        let control = started.control;
        let options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            limits: Limits::default(),
        };
        let telemetry = Telemetry::detached().unwrap();
        let server = Server::bind(options, control.clone(), clock, entropy, telemetry)
            .await
            .unwrap();
        let address = server.address();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(stop.clone()));
        let admin_token = Secret::new(first.trim());
        let url = format!("http://{address}");
        let admin = Client::new(&url, Some(admin_token.clone()), None).unwrap();
        let mut house = Self {
            address,
            admin,
            admin_token,
            operation: String::new(),
            shop_token: String::new(),
            pay_token: String::new(),
            stop,
            serving,
            _folder: folder,
        };
        house.furnish(&control).await;
        house
    }

    async fn furnish(&mut self, control: &Control) {
        let platform = format!("{PLATFORM}{CLASS}{INSTANCE}");
        self.apply("local", &platform, Some("platform")).await;
        let applied = self.apply("local", SHOP, Some("shops-own")).await;
        let started = applied.iter().find_map(|applied| applied.operation);
        self.operation = started.expect("a new database needs work").to_string();
        self.apply("prod", CLASS, None).await;
        self.apply("prod", SHOP, None).await;
        self.shop_token = self.token("canary-bot", TokenKind::Machine, None).await.1;
        self.pay_token = self.token("pay-bot", TokenKind::Machine, None).await.1;
        self.let_the_log_be_written(control).await;
    }

    /// Work runs until a checkpoint is signed, and has ended when this returns.
    async fn let_the_log_be_written(&self, control: &Control) {
        let shutdown = CancellationToken::new();
        let working = {
            let (control, shutdown) = (control.clone(), shutdown.clone());
            tokio::spawn(async move { control.run(shutdown).await })
        };
        let signed = async {
            while self.admin.audit_checkpoint().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), signed)
            .await
            .expect("the audit log is written within a minute");
        shutdown.cancel();
        working.await.unwrap();
    }

    async fn apply(&self, environment: &str, manifests: &str, set: Option<&str>) -> Vec<Applied> {
        let request = ApplyRequest {
            manifests: manifests.to_owned(),
            environment: name(environment),
            team: None,
            manager: None,
            force: false,
            dry_run: false,
            prune_set: set.map(name),
        };
        self.admin.apply(&request).await.unwrap().applied
    }

    async fn token(
        &self,
        subject: &str,
        kind: TokenKind,
        platform_role: Option<TokenRole>,
    ) -> (Secret, String) {
        let request = TokenCreate {
            subject: name(subject),
            kind,
            platform_role,
            days: Some(1),
        };
        let created = self.admin.token_create(&request).await.unwrap();
        (created.token, created.view.id)
    }

    /// Somebody of this role.
    pub(crate) async fn somebody(&self, role: Role) -> Somebody {
        let nobody = |bearer: String| Somebody {
            bearer,
            subject: "nobody",
            kind: "person",
            spare_token: self.pay_token.clone(),
        };
        let (kind, platform) = match role {
            Role::NoToken => return nobody(String::new()),
            Role::BadToken => {
                // A real id with a wrong secret: what is half right gets no further.
                let good = self.admin_token.expose();
                let (id, secret) = good.rsplit_once('_').unwrap();
                let wrong = "0".repeat(secret.len());
                return nobody(format!("authorization: Bearer {id}_{wrong}\r\n"));
            }
            Role::Admin => (TokenKind::Person, Some(TokenRole::Admin)),
            Role::Operator => (TokenKind::Person, Some(TokenRole::Operator)),
            Role::Machine => (TokenKind::Machine, None),
            _ => (TokenKind::Person, None),
        };
        let (token, _) = self.token(role.subject(), kind, platform).await;
        let (_, spare_token) = self.token(role.subject(), kind, platform).await;
        Somebody {
            bearer: format!("authorization: Bearer {}\r\n", token.expose()),
            subject: role.subject(),
            kind: match kind {
                TokenKind::Person => "person",
                TokenKind::Machine => "machine",
            },
            spare_token,
        }
    }

    /// All that there is but tokens' last use and what somebody made for himself, as an admin sees it.
    pub(crate) async fn everything(&self) -> String {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            if kind == Kind::Operation {
                continue;
            }
            for environment in ["local", "prod", "spare"] {
                let query = ListQuery {
                    environment: Some(name(environment)),
                    limit: Some(500),
                    ..ListQuery::default()
                };
                let page = self.admin.resource_list(kind, &query).await.unwrap();
                assert!(page.next.is_none());
                all.push(serde_json::to_value(page.items).unwrap());
            }
        }
        let operations = OperationQuery::default();
        let operations = self.admin.operation_list(&operations).await.unwrap();
        all.push(serde_json::to_value(operations.items).unwrap());
        let tokens = self.admin.token_list().await.unwrap().items;
        let of_others = tokens
            .iter()
            .filter(|token| !["eve", "stray", "canary-vic"].contains(&token.subject.as_str()))
            .map(|token| format!("{} {} {:?}", token.id, token.subject, token.revoked_at));
        all.extend(of_others.map(serde_json::Value::from));
        serde_json::to_string_pretty(&all).unwrap()
    }

    pub(crate) async fn ask(&self, bearer: &str, case: &Case) -> Answer {
        let Case {
            method,
            path,
            body,
            content_type,
            accept,
            ..
        } = case;
        let length = body.len();
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {accept}\r\n\
             content-type: {content_type}\r\ncontent-length: {length}\r\n{bearer}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut bytes, mut piece) = (Vec::new(), [0; 16_384]);
        loop {
            let read = stream.read(&mut piece).await.unwrap();
            bytes.extend_from_slice(&piece[..read]);
            // A stream of events goes on for as long as the operation does.
            let text = String::from_utf8_lossy(&bytes);
            let begun = text.contains("text/event-stream") && text.contains("\r\n\r\n");
            if read == 0 || begun && text.starts_with("HTTP/1.1 200") {
                return answer(&text);
            }
        }
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

fn answer(text: &str) -> Answer {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    let head = head.replace('\r', "").to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let id = head.lines().find(|line| header(line) == "x-request-id");
    let request_id = id.and_then(|line| line.split_once(": "));
    Answer {
        status,
        body: body.to_owned(),
        request_id: request_id.unwrap_or_default().1.to_owned(),
        head,
    }
}
