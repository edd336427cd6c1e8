//! A control plane with a real PostgreSQL server beside it, for one test.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use freehold_api::{
    ApplyReport, ApplyRequest, BindingRead, BindingTarget, MigrateRequest, ServerBinding,
    TokenCreate, TokenKind,
};
use freehold_control::{Caller, Control, Options};
use freehold_migrate::{Bundle, Dialect};
use freehold_model::{
    Clock, Gate, Kind, Name, OperationId, Resource, ResourceKey, Result, SystemClock,
    SystemEntropy,
    kinds::{OperationPhase, OperationView, Role},
};
use freehold_store::{SqliteStore, StoreHandle};
use freehold_testing::postgres::Server;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for something that should happen at once. Long, because machines are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Plant {
    pub(crate) control: Control,
    pub(crate) admin: Caller,
    pub(crate) store: StoreHandle,
    pub(crate) server: Server,
    pub(crate) directory: TempDir,
    shutdown: CancellationToken,
    running: Option<JoinHandle<()>>,
    setup: Setup,
}

/// What a plant can be made with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) gate: Gate,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where the store's file is; beside the plant's other files when absent.
    pub(crate) store: Option<PathBuf>,
    /// What runs migrations; the program itself when absent.
    pub(crate) runner: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            gate: Gate::open(),
            clock: Arc::new(SystemClock),
            store: None,
            runner: None,
        }
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name in a test")
}

pub(crate) fn key(kind: Kind, team: Option<&str>, text: &str) -> ResourceKey {
    let environment = match kind.scope() {
        freehold_model::Scope::Environment | freehold_model::Scope::EnvironmentAndTeam => {
            Some(name("local"))
        }
        _ => None,
    };
    ResourceKey {
        kind,
        environment,
        team: team.map(name),
        name: name(text),
    }
}

/// The platform's half: one instance, one class, one team with a workload.
pub(crate) fn platform(server: &Server, extra: &str) -> String {
    format!(
        r"
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {{name: shop}}
spec: {{members: [{{subject: ana, role: owner}}, {{subject: ci-shop, role: developer}}]}}
---
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {{name: rivals}}
spec: {{members: [{{subject: eve, role: owner}}]}}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {{name: api, namespace: shop}}
spec: {{}}
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {{name: standard}}
spec:
  engine: postgres
  limits: {{connections: 20}}
  load: {{storageMib: 10, connections: 1, throughput: 1}}
  deletionPolicy: Quarantine
---
apiVersion: freehold.dev/v1alpha1
kind: Instance
metadata: {{name: pg-1}}
spec:
  engine: postgres
  external:
    host: {host}
    port: {port}
    username: {user}
    password: 'file:{password}'
    tls: disable
{extra}
",
        host = server.host(),
        port = server.port(),
        user = server.superuser(),
        password = "PASSWORD_FILE",
    )
}

pub(crate) const ORDERS: &str = r"
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {name: orders, namespace: shop}
spec:
  class: standard
  access: [{workload: api, level: readWrite}]
";

impl Plant {
    /// A control plane on one SQLite file that runs until the plant is dropped.
    pub(crate) async fn start() -> Self {
        Self::start_on(Server::start(), Setup::default()).await
    }

    pub(crate) async fn start_on(server: Server, setup: Setup) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(
            directory.path().join("pg-password"),
            server.superuser_password(),
        )
        .expect("a file in a temporary directory");
        let store = setup.open_store(directory.path());
        let (control, admin) = open(&store, directory.path().to_owned(), "one", &setup).await;
        let shutdown = CancellationToken::new();
        let running = Some(spawn(&control, &shutdown));
        Self {
            control,
            admin,
            store,
            server,
            directory,
            shutdown,
            running,
            setup,
        }
    }

    /// Ends the control plane, does something to its files, and starts it again.
    pub(crate) async fn restart_after(self, between: impl FnOnce(&Path)) -> Self {
        let (server, directory, setup) = self.halt().await;
        between(directory.path());
        let store = setup.open_store(directory.path());
        let (control, admin) = open(&store, directory.path().to_owned(), "one", &setup).await;
        let shutdown = CancellationToken::new();
        let running = Some(spawn(&control, &shutdown));
        Self {
            control,
            admin,
            store,
            server,
            directory,
            shutdown,
            running,
            setup,
        }
    }

    /// Ends the control plane and closes its store.
    async fn halt(mut self) -> (Server, TempDir, Setup) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.await.expect("control stops without a panic");
        }
        // What is done to its files must not meet a connection that is still closing.
        self.store.close().await;
        let Self {
            server,
            directory,
            setup,
            ..
        } = self;
        (server, directory, setup)
    }

    /// Another server of the same control plane, running beside the first.
    pub(crate) async fn second(&self, called: &str) -> Control {
        let directory = self.directory.path().to_owned();
        let setup = Setup {
            gate: Gate::open(),
            ..self.setup.clone()
        };
        let (control, _) = open(&self.store, directory, called, &setup).await;
        spawn(&control, &self.shutdown);
        control
    }

    /// The platform's half with the instance at another address than the server's own.
    pub(crate) fn platform_at(&self, port: u16, extra: &str) -> String {
        let own = format!("port: {}", self.server.port());
        self.platform(extra).replace(&own, &format!("port: {port}"))
    }

    /// Waits for an operation to reach a phase of rest.
    pub(crate) async fn ended(&self, id: OperationId) -> OperationView {
        let mut last = None;
        let waiting = async {
            loop {
                let mut news = self.control.news();
                let found = self.control.operation_get(&self.admin, id).await;
                let found = found.expect("an operation that was requested");
                if found.spec.phase.is_final() || found.spec.phase == OperationPhase::NeedsAttention
                {
                    return found;
                }
                last = Some(found);
                let _ = tokio::time::timeout(Duration::from_millis(500), news.changed()).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("the operation never ended; last seen: {last:#?}"),
        }
    }

    /// Uploads scripts and asks for their migration.
    pub(crate) async fn migrate(
        &self,
        database: &ResourceKey,
        scripts: &[(&str, &str)],
    ) -> OperationId {
        self.migrate_in(Dialect::Postgresql, database, scripts)
            .await
    }

    pub(crate) async fn migrate_in(
        &self,
        dialect: Dialect,
        database: &ResourceKey,
        scripts: &[(&str, &str)],
    ) -> OperationId {
        let files = scripts.iter().map(|(path, text)| (*path, *text));
        let bundle = Bundle::from_files_for(dialect, files).expect("a bundle");
        let digest = bundle.digest().clone();
        self.control
            .bundle_put(&self.admin, &digest, bundle.to_archive())
            .await
            .expect("accepted");
        let asked = MigrateRequest {
            bundle: digest,
            reason: "a test".to_owned(),
        };
        let started = self.control.migration_submit(&self.admin, database, asked);
        started.await.expect("accepted").operation
    }

    /// A usable database and its workload's credential.
    pub(crate) async fn provisioned(&self, manifest: &str) -> ServerBinding {
        self.apply(&self.platform("")).await;
        self.apply(manifest).await;
        self.ready(&key(Kind::Database, Some("shop"), "orders"))
            .await;
        self.ready(&key(Kind::Access, Some("shop"), "orders-api"))
            .await;
        self.binding("shop", "orders-api").await
    }

    pub(crate) fn platform(&self, extra: &str) -> String {
        let path = self.directory.path().join("pg-password");
        platform(&self.server, extra).replace("PASSWORD_FILE", &path.to_string_lossy())
    }

    pub(crate) async fn apply(&self, manifests: &str) -> ApplyReport {
        self.try_apply(&self.admin, manifests)
            .await
            .expect("an accepted manifest")
    }

    pub(crate) async fn try_apply(&self, caller: &Caller, manifests: &str) -> Result<ApplyReport> {
        self.control.apply(caller, request(manifests)).await
    }

    pub(crate) async fn get(&self, key: &ResourceKey) -> Resource {
        self.control
            .resource_get(&self.admin, key)
            .await
            .expect("a resource that is there")
    }

    /// Waits until a resource satisfies a condition of the test.
    pub(crate) async fn until(
        &self,
        key: &ResourceKey,
        what: &str,
        is: impl Fn(&Resource) -> bool,
    ) -> Resource {
        let mut last = None;
        let waiting = async {
            loop {
                let mut news = self.control.news();
                last = self.control.resource_get(&self.admin, key).await.ok();
                if let Some(found) = last.as_ref().filter(|found| is(found)) {
                    return found.clone();
                }
                let _ = tokio::time::timeout(Duration::from_millis(500), news.changed()).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("{key} never was {what}; last seen: {last:#?}"),
        }
    }

    pub(crate) async fn ready(&self, key: &ResourceKey) -> Resource {
        self.until(key, "Ready", |resource| {
            is_condition(resource, "Ready", "True")
        })
        .await
    }

    /// A caller with a role in no platform, only what the teams say.
    pub(crate) async fn caller(
        &self,
        subject: &str,
        kind: TokenKind,
        role: Option<Role>,
    ) -> Caller {
        let request = TokenCreate {
            subject: name(subject),
            kind,
            platform_role: role,
            days: None,
        };
        let created = self
            .control
            .token_create(&self.admin, request)
            .await
            .expect("a token");
        let token = created.token.expose().to_owned();
        self.control
            .authenticate(&token, "test-request")
            .await
            .expect("a caller")
    }

    pub(crate) async fn binding(&self, team: &str, access: &str) -> ServerBinding {
        let target = self.target(team, access).await;
        target.server().expect("an engine with accounts").clone()
    }

    pub(crate) async fn target(&self, team: &str, access: &str) -> BindingTarget {
        let key = key(Kind::Binding, Some(team), access);
        let reason = BindingRead {
            reason: "a test".to_owned(),
        };
        let secret = self.control.binding_read(&self.admin, &key, reason).await;
        secret.expect("a credential").target
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.await.expect("control stops without a panic");
        }
    }
}

impl Setup {
    fn open_store(&self, directory: &Path) -> StoreHandle {
        let path = self.store.clone();
        let path = path.unwrap_or_else(|| directory.join("state.db"));
        let entropy = Arc::new(SystemEntropy);
        let store = SqliteStore::open(&path, self.clock.clone(), entropy);
        StoreHandle::new(store.expect("a store"))
    }
}

pub(crate) fn request(manifests: &str) -> ApplyRequest {
    ApplyRequest {
        manifests: manifests.to_owned(),
        environment: name("local"),
        team: None,
        manager: None,
        force: false,
        dry_run: false,
        prune_set: None,
    }
}

/// Where the control plane keeps its own files, apart from those that manifests name.
pub(crate) fn data_dir(directory: &Path) -> PathBuf {
    let data_dir = directory.join("data");
    std::fs::create_dir_all(&data_dir).expect("a folder in a temporary directory");
    data_dir
}

async fn open(
    store: &StoreHandle,
    directory: PathBuf,
    called: &str,
    setup: &Setup,
) -> (Control, Caller) {
    let runner = setup.runner.clone();
    let runner = runner.unwrap_or_else(freehold_testing::binary::freehold);
    let data_dir = data_dir(&directory);
    let mut options = Options::new(called, data_dir.clone(), runner);
    options.gate = setup.gate.clone();
    options.reconcile_interval = Duration::from_secs(1);
    options.drift_interval = Duration::from_secs(2);
    options.trouble_pause = Duration::from_secs(1);
    let entropy = Arc::new(SystemEntropy);
    let started = Control::start(store.clone(), setup.clock.clone(), entropy, options)
        .await
        .expect("a control plane");
    let token = std::fs::read_to_string(data_dir.join("bootstrap-token")).expect("its token");
    let admin = started
        .control
        .authenticate(token.trim(), "test")
        .await
        .expect("the admin");
    (started.control, admin)
}

fn spawn(control: &Control, shutdown: &CancellationToken) -> JoinHandle<()> {
    let (control, shutdown) = (control.clone(), shutdown.clone());
    tokio::spawn(async move { control.run(shutdown).await })
}

pub(crate) fn is_condition(resource: &Resource, kind: &str, status: &str) -> bool {
    condition(resource, kind).is_some_and(|condition| condition["status"] == status)
}

pub(crate) fn condition<'a>(resource: &'a Resource, kind: &str) -> Option<&'a serde_json::Value> {
    let conditions = resource.status.as_ref()?.get("conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Connects as a binding says and runs one statement; the server's refusal is the error.
pub(crate) async fn sql(
    binding: &ServerBinding,
    statement: &str,
) -> Result<Vec<Option<String>>, String> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&binding.host)
        .port(binding.port)
        .user(&binding.username)
        .password(binding.password.expose())
        .dbname(&binding.database)
        .connect_timeout(Duration::from_secs(10));
    let (client, connection) = config
        .connect(tokio_postgres::NoTls)
        .await
        .map_err(|error| words(&error))?;
    let connection = tokio::spawn(connection);
    let answer = client
        .simple_query(statement)
        .await
        .map_err(|error| words(&error));
    drop(client);
    let _ = connection.await;
    Ok(answer?
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        })
        .collect())
}

fn words(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| format!("{error:?}"), |e| e.message().to_owned())
}

/// Waits for something that another task brings about.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, is: impl FnMut() -> F) {
    within(PATIENCE, what, is).await;
}

/// The same for what takes long even on a quiet machine.
pub(crate) async fn within<F: Future<Output = bool>>(
    patience: Duration,
    what: &str,
    mut is: impl FnMut() -> F,
) {
    let waiting = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(patience, waiting).await.is_ok(),
        "never: {what}"
    );
}
