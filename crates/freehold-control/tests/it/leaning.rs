//! Deleting something while somebody else is just declaring what refers to it: whoever is first wins,
//! and nothing is left that refers to nothing.
//!
//! No server is needed: two control planes share a store in memory, and one of them is halted just
//! before it saves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use freehold_control::{Caller, Control, Options};
use freehold_model::{Code, Kind, Name, Resource, ResourceKey, SystemEntropy};
use freehold_store::{
    ApplyOutcome, Batch, Capabilities, ChangePosition, Changes, CollectionName, CollectionSpec,
    Key, Lease, LeaseName, MemoryStore, Page, Record, Result, Scan, Store, StoreHandle, Write,
};
use freehold_testing::faults::JumpClock;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::plant::{ORDERS, PATIENCE, eventually, key, name, request};

const HEAD: &str = "apiVersion: freehold.dev/v1alpha1\nkind:";

/// Where a control plane is halted: before its n-th batch that writes into a collection.
struct Halt {
    collection: CollectionName,
    left: AtomicUsize,
    arrived: Notify,
    go_on: Notify,
}

struct Halting {
    inner: StoreHandle,
    halt: Arc<Halt>,
}

impl Store for Halting {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn define(&self, spec: CollectionSpec) -> Result<()> {
        self.inner.define(spec).await
    }

    async fn drop_index(&self, collection: &CollectionName, index: &str) -> Result<()> {
        self.inner.drop_index(collection, index).await
    }

    async fn get(&self, collection: &CollectionName, key: &Key) -> Result<Option<Record>> {
        self.inner.get(collection, key).await
    }

    async fn apply(&self, batch: Batch) -> Result<ApplyOutcome> {
        let halt = &self.halt;
        let touches = batch.writes.iter().any(|write| match write {
            Write::Put { collection, .. } | Write::Delete { collection, .. } => {
                *collection == halt.collection
            }
        });
        if touches && halt.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            halt.arrived.notify_one();
            halt.go_on.notified().await;
        }
        self.inner.apply(batch).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.inner.scan(scan).await
    }

    async fn changes(&self, after: Option<ChangePosition>, limit: usize) -> Result<Changes> {
        self.inner.changes(after, limit).await
    }

    async fn lease_acquire(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>> {
        self.inner.lease_acquire(name, holder, ttl).await
    }

    async fn lease_renew(&self, lease: &Lease) -> Result<Lease> {
        self.inner.lease_renew(lease).await
    }

    async fn lease_release(&self, lease: &Lease) -> Result<()> {
        self.inner.lease_release(lease).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }

    async fn purge(&self, keep_changes: Duration) -> Result<u64> {
        self.inner.purge(keep_changes).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct House {
    control: Control,
    admin: Caller,
    clock: Arc<JumpClock>,
    store: StoreHandle,
    directory: TempDir,
}

const PLATFORM: &str = "
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {name: shop}
spec: {}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {name: api, namespace: shop}
spec: {}
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {name: standard}
spec: {engine: postgres}
";

const CLASS: &str = "
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {name: standard}
spec: {engine: postgres}
";

impl House {
    async fn build() -> Self {
        let clock = Arc::new(JumpClock::default());
        let store = StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy)));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let control = open(&store, &clock, &directory).await;
        let token = directory.path().join("bootstrap-token");
        let token = std::fs::read_to_string(token).expect("a token");
        let admin = control.authenticate(token.trim(), "test").await;
        let admin = admin.expect("the admin");
        let house = Self {
            control,
            admin,
            clock,
            store,
            directory,
        };
        house.apply(PLATFORM).await.expect("accepted");
        house
    }

    /// Another control plane on the same store, which halts before its n-th batch into a collection.
    async fn halting(&self, kind: Kind, nth: usize) -> (Control, Arc<Halt>) {
        let halt = Arc::new(Halt {
            collection: CollectionName::new(kind.plural()).expect("a collection"),
            left: AtomicUsize::new(nth),
            arrived: Notify::new(),
            go_on: Notify::new(),
        });
        let halting = Halting {
            inner: self.store.clone(),
            halt: halt.clone(),
        };
        let control = open(&StoreHandle::new(halting), &self.clock, &self.directory).await;
        (control, halt)
    }

    async fn apply(&self, manifests: &str) -> freehold_model::Result<()> {
        let applied = self.control.apply(&self.admin, request(manifests)).await;
        applied.map(drop)
    }

    async fn delete(&self, key: &ResourceKey) -> freehold_model::Result<()> {
        let deleted = self.control.resource_delete(&self.admin, key).await;
        deleted.map(drop)
    }

    async fn find(&self, key: &ResourceKey) -> Option<Resource> {
        match self.control.resource_get(&self.admin, key).await {
            Ok(found) => Some(found),
            Err(error) => {
                assert_eq!(error.code, Code::NotFound, "{error:?}");
                None
            }
        }
    }

    /// A deletion that waits before its n-th batch.
    async fn deleting(&self, key: &ResourceKey, nth: usize) -> Halted {
        let (control, halt) = self.halting(key.kind, nth).await;
        let (admin, key) = (self.admin.clone(), key.clone());
        let work = tokio::spawn(async move {
            let deleted = control.resource_delete(&admin, &key).await;
            deleted.map(drop)
        });
        Halted::at(work, halt).await
    }

    /// An apply that waits before its first batch into a collection.
    async fn applying(&self, asked: freehold_api::ApplyRequest, kind: Kind, nth: usize) -> Halted {
        let (control, halt) = self.halting(kind, nth).await;
        let admin = self.admin.clone();
        let work = tokio::spawn(async move { control.apply(&admin, asked).await.map(drop) });
        Halted::at(work, halt).await
    }
}

async fn open(store: &StoreHandle, clock: &Arc<JumpClock>, directory: &TempDir) -> Control {
    let nowhere = directory.path().join("no-runner");
    let options = Options::new("leaning", directory.path().to_owned(), nowhere);
    let entropy = Arc::new(SystemEntropy);
    let started = Control::start_on_any_store(store.clone(), clock.clone(), entropy, options);
    started.await.expect("a control plane").control
}

/// Work that stands still in the middle.
struct Halted {
    work: JoinHandle<freehold_model::Result<()>>,
    halt: Arc<Halt>,
}

impl Halted {
    async fn at(work: JoinHandle<freehold_model::Result<()>>, halt: Arc<Halt>) -> Self {
        let arrived = tokio::time::timeout(PATIENCE, halt.arrived.notified()).await;
        arrived.expect("it comes to where it is halted");
        Self { work, halt }
    }

    async fn go_on(self) -> freehold_model::Result<()> {
        self.halt.go_on.notify_one();
        self.work.await.expect("no panic")
    }

    /// As a killed server does: never heard of again.
    async fn kill(self) {
        self.work.abort();
        let _ = self.work.await;
    }
}

fn without_access() -> String {
    ORDERS.replace("[{workload: api, level: readWrite}]", "[]")
}

/// What is deleted, what is declared at the same time, and who that is.
fn rivals() -> Vec<(ResourceKey, String, ResourceKey)> {
    let orders = key(Kind::Database, Some("shop"), "orders");
    let staging = key(Kind::Environment, None, "staging");
    let batch = ResourceKey {
        environment: Some(name("staging")),
        ..key(Kind::Class, None, "batch")
    };
    vec![
        (
            key(Kind::Class, None, "standard"),
            without_access(),
            orders.clone(),
        ),
        (
            key(Kind::Workload, Some("shop"), "api"),
            ORDERS.to_owned(),
            orders,
        ),
        (
            key(Kind::Team, None, "rivals"),
            format!("{HEAD} Workload\nmetadata: {{name: spy, namespace: rivals}}\nspec: {{}}\n"),
            key(Kind::Workload, Some("rivals"), "spy"),
        ),
        (
            staging,
            format!(
                "{HEAD} Class\nmetadata: {{name: batch, environment: staging}}\nspec: {{engine: postgres}}\n"
            ),
            batch,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_under_what_is_just_being_declared() {
    for number in 0..rivals().len() {
        for nth in [1, 2] {
            let house = House::build().await;
            let more = format!(
                "{HEAD} Team\nmetadata: {{name: rivals}}\nspec: {{}}\n---\n\
                 {HEAD} Environment\nmetadata: {{name: staging}}\nspec: {{}}\n"
            );
            house.apply(&more).await.expect("accepted");
            let (gone, manifest, rival) = rivals().swap_remove(number);
            let deletion = house.deleting(&gone, nth).await;
            let mut asked = request(&manifest);
            if let Some(environment) = &rival.environment {
                asked.environment = environment.clone();
            }
            let declared = house.control.apply(&house.admin, asked).await;
            let deleted = deletion.go_on().await;
            // Before the mark the declaration wins, after it the deletion does.
            let why = format!("{gone} before batch {nth}: {declared:?}, {deleted:?}");
            assert_eq!(declared.is_ok(), nth == 1, "{why}");
            assert_eq!(deleted.is_ok(), nth == 2, "{why}");
            if let Err(error) = deleted {
                assert_eq!(error.code, Code::FailedPrecondition, "{why}");
            }
            let left = house.find(&gone).await;
            assert_eq!(left.is_some(), house.find(&rival).await.is_some(), "{why}");
            let going = left.and_then(|left| left.metadata.deletion_timestamp);
            assert_eq!(going, None, "a refused deletion leaves no mark: {why}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_class_in_the_same_manifests_is_there_with_its_database() {
    let house = House::build().await;
    let manifests = format!("{CLASS}---{}", without_access());
    let apply = house.applying(request(&manifests), Kind::Database, 1).await;
    let class = key(Kind::Class, None, "standard");
    house.delete(&class).await.expect("nobody uses it yet");
    apply.go_on().await.expect("the class is in the manifests");
    let orders = key(Kind::Database, Some("shop"), "orders");
    assert!(house.find(&orders).await.is_some());
    assert!(house.find(&class).await.is_some(), "made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_access_is_given_on_a_database_that_is_going() {
    let house = House::build().await;
    house.apply(&without_access()).await.expect("accepted");
    let access = format!(
        "{HEAD} Access\nmetadata: {{name: late, namespace: shop}}\n\
         spec: {{database: orders, subject: {{workload: api}}, level: readOnly}}\n"
    );
    let apply = house.applying(request(&access), Kind::Access, 1).await;
    let orders = key(Kind::Database, Some("shop"), "orders");
    let mut found = house.find(&orders).await.expect("declared");
    found.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH);
    overwrite(&house.store, &found).await;
    let refused = apply.go_on().await.expect_err("the database is going");
    assert_eq!(refused.code, Code::Invalid, "{refused:?}");
    let late = key(Kind::Access, Some("shop"), "late");
    assert!(house.find(&late).await.is_none());
}

/// Writes a resource as an operation of the database would.
async fn overwrite(store: &StoreHandle, resource: &Resource) {
    let mut value = serde_json::to_value(resource).expect("JSON");
    let metadata = value["metadata"].as_object_mut().expect("an object");
    metadata.remove("resourceVersion");
    let batch = Batch::new().put(
        &CollectionName::new(resource.kind.plural()).expect("a collection"),
        Key::new(resource.key().store_key()).expect("a key"),
        freehold_store::Value::encode(&value).expect("JSON"),
        freehold_store::PutMode::Upsert,
    );
    store.apply(batch).await.expect("saved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_cut_short_is_completed_by_the_next_or_taken_back() {
    let house = House::build().await;
    let class = key(Kind::Class, None, "standard");
    house.deleting(&class, 2).await.kill().await;
    let marked = house.find(&class).await.expect("still there");
    assert!(marked.metadata.deletion_timestamp.is_some(), "marked");
    let refused = house.apply(&without_access()).await;
    refused.expect_err("nobody may lean on what is going");
    house.delete(&class).await.expect("completed");
    assert!(house.find(&class).await.is_none());

    house.apply(CLASS).await.expect("accepted");
    house.deleting(&class, 2).await.kill().await;
    let shutdown = CancellationToken::new();
    house.clock.forward(Duration::from_secs(120));
    let running = tokio::spawn({
        let (control, shutdown) = (house.control.clone(), shutdown.clone());
        async move { control.run(shutdown).await }
    });
    eventually("the mark is taken back", || async {
        let found = house.find(&class).await.expect("not removed");
        found.metadata.deletion_timestamp.is_none()
    })
    .await;
    shutdown.cancel();
    running.await.expect("no panic");
    house.apply(&without_access()).await.expect("usable again");
}

fn pruning(manifests: &str) -> freehold_api::ApplyRequest {
    freehold_api::ApplyRequest {
        prune_set: Some(Name::new("menu").expect("a name")),
        ..request(manifests)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pruned_under_what_is_just_being_declared() {
    let other = CLASS.replace("name: standard", "name: other");
    let class = key(Kind::Class, None, "standard");
    for nth in [1, 2] {
        let house = House::build().await;
        let both = pruning(&format!("{CLASS}---{other}"));
        let applied = house.control.apply(&house.admin, both).await;
        applied.expect("accepted");
        let prune = house.applying(pruning(&other), Kind::Class, nth).await;
        let declared = house.apply(&without_access()).await;
        let pruned = prune.go_on().await;
        let why = format!("before batch {nth}: {declared:?}, {pruned:?}");
        assert_eq!(declared.is_ok(), nth == 1, "{why}");
        assert_eq!(pruned.is_ok(), nth == 2, "{why}");
        let left = house.find(&class).await;
        assert_eq!(left.is_some(), declared.is_ok(), "{why}");
        let going = left.and_then(|left| left.metadata.deletion_timestamp);
        assert_eq!(going, None, "{why}");
    }
    let house = House::build().await;
    let both = pruning(&format!("{CLASS}---{other}"));
    let applied = house.control.apply(&house.admin, both).await;
    applied.expect("accepted");
    let manifests = pruning(&format!("{other}---{}", without_access()));
    let refused = house.control.apply(&house.admin, manifests).await;
    let refused = refused.expect_err("the same manifests need what would be pruned");
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused:?}");
    assert!(house.find(&class).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_the_servers_to_give_and_never_comes_back() {
    let house = House::build().await;
    let team = key(Kind::Team, None, "movers");
    let wished = "01920000-0000-7000-8000-000000000001";
    let manifest = |about: &str| {
        format!(
            "{HEAD} Team\nmetadata: {{name: movers, uid: {wished}, annotations: {{about: {about}}}}}\nspec: {{}}\n"
        )
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        house.apply(&manifest("one")).await.expect("accepted");
        let made = house.find(&team).await.expect("made").metadata.uid;
        let made = made.expect("an identity");
        assert_ne!(made.to_string(), wished, "a manifest does not choose it");
        house.apply(&manifest("two")).await.expect("accepted");
        let changed = house.find(&team).await.expect("still there");
        assert_eq!(changed.metadata.uid, Some(made), "it survives a change");
        assert!(!seen.contains(&made), "it never comes back");
        seen.push(made);
        house.delete(&team).await.expect("nobody uses it");
    }
}
