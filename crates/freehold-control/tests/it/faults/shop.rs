//! The harness's world: a team with a database on a server that all worlds share, and a control
//! plane of its own.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use freehold_api::MigrateRequest;
use freehold_control::{Caller, Control, Options};
use freehold_model::{
    Gate, GateKeeper, InjectedFault, Kind, OperationId, Point, ResourceKey, SystemEntropy, When,
};
use freehold_store::{MemoryStore, SqliteStore, StoreHandle};
use freehold_testing::{faults::JumpClock, postgres::Server};
use freehold_workflow::Operations;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::plant::{condition, eventually, is_condition, key, request, within};

pub(super) const LEASE_TTL: Duration = Duration::from_secs(30);

/// How a control plane keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adapter {
    Memory,
    Sqlite,
}

pub(super) struct Shop {
    /// Five characters, so that all worlds' names are of one length.
    pub(super) team: String,
    pub(super) clock: Arc<JumpClock>,
    /// What the harness waits for; absent for the reconciler.
    pub(super) operation: Option<OperationId>,
    folder: TempDir,
    /// The memory store itself; SQLite is opened by each worker for itself.
    memory: Option<StoreHandle>,
}

/// One server for all worlds of this test process.
pub(super) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::with_settings(&[("max_connections", "200"), ("fsync", "off")]))
}

/// Lets the server be known to Freehold already: a world whose work creates the registry would pass
/// other points than all later ones. That effect is disturbed where the engine is tested.
pub(super) async fn with_registry() {
    static MADE: OnceCell<()> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        let shop = Shop::new(Adapter::Memory).await;
        shop.declare().await;
        let provision = shop.provision().await;
        shop.complete(provision).await;
    })
    .await;
}

impl Shop {
    pub(super) async fn new(adapter: Adapter) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let clock = Arc::new(JumpClock::default());
        let memory = (adapter == Adapter::Memory)
            .then(|| StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy))));
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(
            folder.path().join("pg-password"),
            server().superuser_password(),
        )
        .expect("a file in a temporary directory");
        Self {
            team: format!("t{number:04}"),
            clock,
            operation: None,
            folder,
            memory,
        }
    }

    pub(super) fn store(&self) -> StoreHandle {
        let path: PathBuf = self.folder.path().join("state.db");
        match &self.memory {
            Some(store) => store.clone(),
            None => StoreHandle::new(
                SqliteStore::open(path, self.clock.clone(), Arc::new(SystemEntropy))
                    .expect("a store"),
            ),
        }
    }

    pub(super) fn operations(&self) -> Operations {
        Operations::new(self.store(), self.clock.clone(), Arc::new(SystemEntropy))
    }

    /// A server of this control plane, which nobody runs yet.
    pub(super) async fn control(&self, called: &str, gate: Gate) -> Control {
        let runner = freehold_testing::binary::freehold();
        let data_dir = crate::plant::data_dir(self.folder.path());
        let mut options = Options::new(called, data_dir, runner);
        options.gate = gate;
        options.lease_ttl = LEASE_TTL;
        options.retry_first = Duration::from_millis(20);
        options.trouble_pause = Duration::from_millis(50);
        options.reconcile_interval = Duration::from_millis(100);
        options.drift_interval = Duration::from_secs(3600);
        let entropy = Arc::new(SystemEntropy);
        Control::start_on_any_store(self.store(), self.clock.clone(), entropy, options)
            .await
            .expect("a control plane")
            .control
    }

    pub(super) async fn admin(&self, control: &Control) -> Caller {
        let token = std::fs::read_to_string(self.folder.path().join("data/bootstrap-token"));
        control
            .authenticate(token.expect("its token").trim(), "test")
            .await
            .expect("the admin")
    }

    /// The database's name on the server.
    pub(super) fn database(&self) -> String {
        format!("{}_orders", self.team)
    }

    pub(super) fn orders(&self) -> ResourceKey {
        key(Kind::Database, Some(&self.team), "orders")
    }

    /// What belongs to this world alone, made equal in all worlds.
    pub(super) fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.team, "TEAM");
        let mut plain = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("_x") {
            let (before, tag) = rest.split_at(at);
            plain.push_str(before);
            let is_tag = tag.len() > 12
                && tag.is_char_boundary(12)
                && tag[2..11].bytes().all(|b| b.is_ascii_alphanumeric())
                && tag.as_bytes()[11] == b'_';
            let length = if is_tag { 11 } else { 2 };
            plain.push_str(if is_tag { "_TAG" } else { "_x" });
            rest = &tag[length..];
        }
        plain.push_str(rest);
        match plain.find("_access_") {
            None => plain,
            Some(_) => without_hashes(&plain),
        }
    }

    /// A gate whose points are called the same in every world.
    pub(super) fn plain_gate(&self, gate: Gate) -> Gate {
        let names = Self {
            team: self.team.clone(),
            clock: self.clock.clone(),
            operation: None,
            folder: tempfile::tempdir().expect("a temporary directory"),
            memory: None,
        };
        Gate::kept_by(Arc::new(Plain { names, gate }))
    }

    /// Registers the server and the team's workload.
    pub(super) async fn declare(&self) {
        let control = self.control("builder", Gate::open()).await;
        let admin = self.admin(&control).await;
        let path = self.folder.path().join("pg-password");
        let manifests = PLATFORM
            .replace("TEAM", &self.team)
            .replace("HOST", server().host())
            .replace("PORT", &server().port().to_string())
            .replace("SUPERUSER", server().superuser())
            .replace("PASSWORD_FILE", &path.to_string_lossy());
        control
            .apply(&admin, request(&manifests))
            .await
            .expect("accepted");
        let instance = key(Kind::Instance, None, "pg-1");
        self.reconcile_until(&control, || async {
            let found = control.resource_get(&admin, &instance).await;
            found.is_ok_and(|found| is_condition(&found, "Ready", "True"))
        })
        .await;
    }

    /// Asks for the database.
    pub(super) async fn provision(&self) -> OperationId {
        let report = self.apply(DATABASE).await;
        let mut operations = report.applied.iter().filter_map(|a| a.operation);
        operations.next_back().expect("an operation")
    }

    pub(super) async fn apply(&self, manifests: &str) -> freehold_api::ApplyReport {
        let control = self.control("builder", Gate::open()).await;
        let admin = self.admin(&control).await;
        let manifests = manifests.replace("TEAM", &self.team);
        control
            .apply(&admin, request(&manifests))
            .await
            .expect("accepted")
    }

    /// Runs an operation to its end, undisturbed.
    pub(super) async fn complete(&self, operation: OperationId) {
        let control = self.control("builder", Gate::open()).await;
        let stop = CancellationToken::new();
        let ended = async {
            let ended = self.operations().ended(operation).await;
            stop.cancel();
            ended.expect("an end")
        };
        let ((), ended) = tokio::join!(control.run_operations(stop.clone()), ended);
        assert!(ended.phase.is_final(), "{ended:?}");
    }

    async fn reconcile_until<F: Future<Output = bool>>(
        &self,
        control: &Control,
        is: impl FnMut() -> F,
    ) {
        let stop = CancellationToken::new();
        let reached = async {
            eventually("what a reconciler brings about", is).await;
            stop.cancel();
        };
        tokio::join!(control.run_reconcilers(stop.clone()), reached);
    }

    /// Stops a provisioning right after it took its name, and cancels it there.
    pub(super) async fn reserve_and_cancel(&self, operation: OperationId) {
        let stop = CancellationToken::new();
        let gate = Gate::kept_by(Arc::new(StopAt {
            what: "save provision Credentials",
            stop: stop.clone(),
        }));
        let control = self.control("builder", gate).await;
        let stopped = async {
            stop.cancelled().await;
        };
        tokio::select! {
            () = control.run_operations(CancellationToken::new()) => {}
            () = stopped => {}
        }
        let admin = self.admin(&control).await;
        control
            .operation_cancel(&admin, operation)
            .await
            .expect("accepted");
        // The stopped worker is gone without giving its lease back.
        self.clock.forward(LEASE_TTL + Duration::from_secs(1));
    }

    pub(super) async fn migrate(&self) -> OperationId {
        let control = self.control("builder", Gate::open()).await;
        let admin = self.admin(&control).await;
        let bundle = freehold_migrate::Bundle::from_files(SCRIPTS.map(|(path, text)| (path, text)))
            .expect("a bundle");
        let digest = bundle.digest().clone();
        control
            .bundle_put(&admin, &digest, bundle.to_archive())
            .await
            .expect("accepted");
        let asked = MigrateRequest {
            bundle: digest,
            reason: "a test".to_owned(),
        };
        let started = control
            .migration_submit(&admin, &self.orders(), asked)
            .await;
        started.expect("accepted").operation
    }

    pub(super) async fn delete(&self, policy: &str) -> OperationId {
        let manifest = DATABASE.replace(
            "class: standard",
            &format!("class: standard\n  deletionPolicy: {policy}"),
        );
        self.apply(&manifest).await;
        let control = self.control("builder", Gate::open()).await;
        let admin = self.admin(&control).await;
        let report = control.resource_delete(&admin, &self.orders()).await;
        report.expect("accepted").operation.expect("an operation")
    }

    pub(super) async fn undelete(&self) -> OperationId {
        let control = self.control("builder", Gate::open()).await;
        let admin = self.admin(&control).await;
        let started = control.database_undelete(&admin, &self.orders()).await;
        started.expect("accepted").operation
    }

    /// Changes the server by hand.
    pub(super) async fn drift(&self) {
        let name = self.database();
        for sql in [
            "GRANT CONNECT, TEMPORARY ON DATABASE \"NAME\" TO PUBLIC",
            "ALTER DATABASE \"NAME\" CONNECTION LIMIT 3",
            "ALTER ROLE \"NAME_migrator\" LOGIN",
        ] {
            server().psql("postgres", &sql.replace("NAME", &name));
        }
        server().psql(&name, "GRANT CREATE ON SCHEMA stock TO PUBLIC");
    }

    /// Changes what is declared: one access comes, one goes.
    pub(super) async fn change(&self) {
        let fewer = DATABASE.replace("access: [{workload: api, level: readWrite}]", "access: []");
        self.apply(&format!("{fewer}---\n{MORE}")).await;
    }

    /// Waits until the reconciler has repaired what [`Shop::drift`] did.
    pub(super) async fn repaired(&self) {
        let control = self.control("watcher", Gate::open()).await;
        let admin = self.admin(&control).await;
        within(Duration::from_secs(80), "repaired", || async {
            let database = control.resource_get(&admin, &self.orders()).await;
            database.is_ok_and(|database| {
                is_condition(&database, "Ready", "True")
                    && condition(&database, "Drifted").is_some_and(|c| c["reason"] == "Repaired")
            })
        })
        .await;
    }

    /// Waits until the reconciler has brought about what [`Shop::change`] declared.
    pub(super) async fn changed(&self) {
        let control = self.control("watcher", Gate::open()).await;
        let admin = self.admin(&control).await;
        let gone = key(Kind::Access, Some(&self.team), "orders-api");
        let new = key(Kind::Access, Some(&self.team), "extra");
        within(Duration::from_secs(80), "changed", || async {
            let database = control.resource_get(&admin, &self.orders()).await;
            let extra = control.resource_get(&admin, &new).await;
            database.is_ok_and(|database| is_condition(&database, "Ready", "True"))
                && control.resource_get(&admin, &gone).await.is_err()
                && extra.is_ok_and(|access| is_condition(&access, "Ready", "True"))
        })
        .await;
    }
}

/// Takes the hash out of the names of roles that carry one limited access.
fn without_hashes(text: &str) -> String {
    let mut parts = text.split("_access_");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str("_access_HASH");
        plain.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    plain
}

/// Hands points on under names that are the same in every world.
struct Plain {
    names: Shop,
    gate: Gate,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain")
    }
}

type Reached<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + 'a>>;

impl GateKeeper for Plain {
    fn reach(&self, point: Point) -> Reached<'_> {
        Box::pin(async move {
            let what = self.names.plain(&point.what);
            match point.when {
                When::Before => self.gate.before(what).await,
                When::After => self.gate.after(what).await,
            }
        })
    }
}

/// Says when a point has been passed and lets nobody go on from there.
#[derive(Debug)]
struct StopAt {
    what: &'static str,
    stop: CancellationToken,
}

impl GateKeeper for StopAt {
    fn reach(&self, point: Point) -> Reached<'_> {
        Box::pin(async move {
            if point.what == self.what && point.when == When::After {
                self.stop.cancel();
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }
}

const PLATFORM: &str = "
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {name: TEAM}
spec: {members: [{subject: ana, role: owner}]}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {name: api, namespace: TEAM}
spec: {}
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {name: standard}
spec:
  engine: postgres
  limits: {connections: 20, statementTimeoutMs: 60000}
  deletionPolicy: Quarantine
---
apiVersion: freehold.dev/v1alpha1
kind: Instance
metadata: {name: pg-1}
spec:
  engine: postgres
  external:
    host: HOST
    port: PORT
    username: SUPERUSER
    password: 'file:PASSWORD_FILE'
    tls: disable
";

const DATABASE: &str = "
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {name: orders, namespace: TEAM}
spec:
  class: standard
  schemas: [stock]
  access: [{workload: api, level: readWrite}]
---
apiVersion: freehold.dev/v1alpha1
kind: Access
metadata: {name: part, namespace: TEAM}
spec: {database: orders, subject: {workload: api}, level: readOnly, targets: [{schema: stock}]}
";

const MORE: &str = "
apiVersion: freehold.dev/v1alpha1
kind: Access
metadata: {name: extra, namespace: TEAM}
spec: {database: orders, subject: {workload: api}, level: readOnly}
";

const SCRIPTS: [(&str, &str); 3] = [
    (
        "V1__items.sql",
        "CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL);",
    ),
    (
        "V2__rows.sql",
        "INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 100) n;",
    ),
    (
        "R__view.sql",
        "CREATE OR REPLACE VIEW cheap AS SELECT * FROM items WHERE id < 10;",
    ),
];
