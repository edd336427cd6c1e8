//! The fault harness on a toy operation and a toy reconciler: the sound ones come out clean, and
//! each deliberate flaw is caught by the fault that is meant to catch it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use freehold_model::{InjectedFault, OperationId, SystemEntropy, Uid};
use freehold_store::{Batch, MemoryStore, PutMode, Range, Scan, SqliteStore, StoreHandle, Value};
use freehold_testing::faults::{
    self, Fault, JumpClock, Options, Report, Scenario, Snapshot, WorkError, Worker,
};
use freehold_workflow::{Claims, NewOperation, Operations, PassError, Runner, record, repeatable};
use tokio_util::sync::CancellationToken;

use crate::{
    stage::{key, quick},
    toy::{Flaw, Provision, Provisioning, Server, ServerError},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adapter {
    Memory,
    Sqlite,
}

struct World {
    /// Where the memory store's records are; the SQLite file is opened by each worker for itself.
    memory: Option<StoreHandle>,
    folder: tempfile::TempDir,
    clock: Arc<JumpClock>,
    server: Arc<Server>,
    target: Uid,
    id: Option<OperationId>,
}

impl World {
    async fn new(adapter: Adapter) -> Self {
        let clock = Arc::new(JumpClock::default());
        let memory = (adapter == Adapter::Memory)
            .then(|| StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy))));
        let world = Self {
            memory,
            folder: tempfile::tempdir().unwrap(),
            target: Uid::generate(freehold_model::Clock::now(&*clock), &SystemEntropy),
            clock,
            server: Arc::default(),
            id: None,
        };
        freehold_workflow::define(&world.store()).await.unwrap();
        world
    }

    fn store(&self) -> StoreHandle {
        let path: PathBuf = self.folder.path().join("freehold.db");
        match &self.memory {
            Some(store) => store.clone(),
            None => StoreHandle::new(
                SqliteStore::open(path, self.clock.clone(), Arc::new(SystemEntropy)).unwrap(),
            ),
        }
    }

    fn lapse(&self) {
        self.clock
            .forward(quick().lease_ttl + Duration::from_secs(1));
    }

    fn things(&self) -> Vec<String> {
        let things = self.server.things();
        let without_names = things
            .iter()
            .map(|thing| thing.split(' ').next().unwrap_or_default().to_owned());
        without_names.collect()
    }

    async fn count(&self, collection: freehold_store::CollectionName) -> usize {
        let scan = Scan::new(collection, Range::All);
        self.store().scan(scan).await.unwrap().records.len()
    }
}

struct Provisions {
    adapter: Adapter,
    flaw: Flaw,
}

impl Scenario for Provisions {
    type World = World;

    async fn build(&self) -> World {
        let mut world = World::new(self.adapter).await;
        let operations =
            Operations::new(world.store(), world.clock.clone(), Arc::new(SystemEntropy));
        let provision = Provision {
            server: world.server.clone(),
            flaw: self.flaw,
        };
        let first = Provisioning::ChooseName;
        let new = NewOperation::of(&provision, &first, key(), world.target, "a test").unwrap();
        let requested = operations.request(&new).await.unwrap();
        let submitted = operations.submit(Batch::new(), requested).await.unwrap();
        world.id = Some(submitted.id);
        world
    }

    async fn work(&self, world: &World, worker: Worker) -> Result<(), WorkError> {
        let mut config = quick();
        config.worker = worker.name;
        let runner = Runner::new(
            world.store(),
            world.clock.clone(),
            Arc::new(SystemEntropy),
            worker.gate,
            config,
        );
        let runner = runner.register(Provision {
            server: world.server.clone(),
            flaw: self.flaw,
        });
        let operations = runner.operations();
        let id = world.id.ok_or("no operation was requested")?;
        let stop = CancellationToken::new();
        let completed = async {
            let ended = operations.ended(id).await;
            stop.cancel();
            ended
        };
        let ((), ended) = tokio::join!(runner.run(stop.clone()), completed);
        ended?;
        Ok(())
    }

    async fn lapse(&self, world: &World) {
        world.lapse();
    }

    async fn observe(&self, world: &World) -> Snapshot {
        let store = world.store();
        let id = world.id.unwrap();
        let operations = Operations::new(store, world.clock.clone(), Arc::new(SystemEntropy));
        let record = operations.get(id).await.unwrap().unwrap();
        let events = operations.events(id, 0, 1000).await.unwrap();
        let gapless = events
            .iter()
            .zip(1..)
            .all(|(event, at)| event.sequence == at);
        let told = events
            .iter()
            .map(|event| event.message.clone())
            .filter(|message| !message.starts_with("injected fault"));
        Snapshot::new()
            .ordered("server", world.things())
            .ordered("history", told)
            .ordered(
                "operation",
                [
                    format!("{:?} {}", record.phase, record.message),
                    format!("gapless: {gapless}"),
                    format!("claims: {}", world.count(record::claims()).await),
                ],
            )
    }
}

fn check(adapter: Adapter, flaw: Flaw, options: &Options) -> Report {
    faults::check(&Provisions { adapter, flaw }, options)
}

#[test]
fn a_sound_operation_survives_every_fault_in_memory() {
    let report = check(Adapter::Memory, Flaw::None, &Options::from_env());
    report.assert_clean();
    let points: Vec<_> = report.points.iter().map(ToString::to_string).collect();
    assert_eq!(
        points,
        [
            "before \"step provision ChooseName\"",
            "after \"step provision ChooseName\"",
            "before \"save provision CreateRole\"",
            "after \"save provision CreateRole\"",
            "before \"step provision CreateRole\"",
            "before \"create role\"",
            "after \"create role\"",
            "after \"step provision CreateRole\"",
            "before \"save provision CreateDatabase\"",
            "after \"save provision CreateDatabase\"",
            "before \"step provision CreateDatabase\"",
            "before \"create database\"",
            "after \"create database\"",
            "after \"step provision CreateDatabase\"",
            "before \"save provision Done\"",
            "after \"save provision Done\"",
        ]
    );
    assert_eq!(
        report.cases,
        10 + 8 + 5 + 3 + 10,
        "kill, before, after, twice, sleep"
    );
}

#[test]
fn a_sound_operation_survives_every_fault_on_sqlite() {
    check(Adapter::Sqlite, Flaw::None, &Options::from_env()).assert_clean();
}

fn caught_by(flaw: Flaw) -> Vec<Fault> {
    let report = check(Adapter::Memory, flaw, &Options::default());
    assert_eq!(report.undisturbed, None, "the flaw shows without any fault");
    assert_eq!(report.cases_run, report.cases);
    let mut faults: Vec<_> = report.divergences.iter().map(|found| found.fault).collect();
    faults.dedup();
    faults
}

#[test]
fn acting_without_looking_is_caught() {
    assert_eq!(
        caught_by(Flaw::ActsBlindly),
        [Fault::Kill, Fault::FailAfter, Fault::RunTwice, Fault::Sleep]
    );
}

#[test]
fn a_name_that_was_not_saved_before_its_use_is_caught() {
    assert_eq!(
        caught_by(Flaw::NamesLate),
        [Fault::Kill, Fault::FailAfter, Fault::RunTwice, Fault::Sleep]
    );
}

#[test]
fn a_worker_without_a_fence_is_caught_only_by_waking_up_late() {
    assert_eq!(caught_by(Flaw::IgnoresFence), [Fault::Sleep]);
}

#[test]
fn a_report_says_where_what_and_how_to_run_it_alone() {
    let mut options = Options::default().only_faults(&[Fault::Kill]);
    options.only = Some("after \"create role\"".to_owned());
    let report = check(Adapter::Memory, Flaw::ActsBlindly, &options);
    let text = report.to_string();
    assert_eq!(report.cases, 1);
    assert!(text.contains("16 points, 1 of 1 cases run in"), "{text}");
    assert!(
        text.contains(
            "Kill after \"create role\"\n  the world differs from the undisturbed one:\n    \
             server:\n      + role\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("FREEHOLD_FAULTS_ONLY='Kill after \"create role\"'"),
        "{text}"
    );
}

/// A reconciler that wants one thing on the server and writes down that it saw it.
struct Reconciles {
    flaw: Flaw,
}

impl Reconciles {
    async fn reconcile(&self, world: &World, worker: &Worker) -> Result<(), ReconcileError> {
        let store = world.store();
        let claims = Claims::new(
            store.clone(),
            Arc::new(SystemEntropy),
            worker.gate.clone(),
            quick().lease_ttl,
        );
        let seen = freehold_store::CollectionName::new("seen").unwrap();
        let name = freehold_store::Key::new("thing").unwrap();
        loop {
            if store.get(&seen, &name).await?.is_some() {
                return Ok(());
            }
            let Some(pass) = claims.pass(world.target, "reconcile-thing").await? else {
                tokio::task::yield_now().await;
                continue;
            };
            let passed = repeatable(pass.gate(), "reconcile-thing", async || {
                if self.flaw == Flaw::ActsBlindly || !world.server.has("thing") {
                    let fence = (self.flaw != Flaw::IgnoresFence)
                        .then_some((pass.target_uid(), pass.epoch()));
                    pass.gate().before("create thing").await?;
                    world.server.create(fence, "thing".to_owned()).await?;
                    pass.gate().after("create thing").await?;
                }
                let batch =
                    Batch::new().put(&seen, name.clone(), Value::encode("seen")?, PutMode::Upsert);
                pass.save(batch).await?;
                Ok::<_, ReconcileError>(())
            });
            // A pass that failed is followed by the next one, as in the periodic loop.
            let _ = passed.await;
            pass.finish().await;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Injected(#[from] InjectedFault),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Store(#[from] freehold_store::Error),
}

impl Scenario for Reconciles {
    type World = World;

    async fn build(&self) -> World {
        let world = World::new(Adapter::Memory).await;
        let spec = freehold_store::CollectionSpec {
            name: freehold_store::CollectionName::new("seen").unwrap(),
            indexes: vec![],
        };
        world.store().define(spec).await.unwrap();
        world
    }

    async fn work(&self, world: &World, worker: Worker) -> Result<(), WorkError> {
        Ok(self.reconcile(world, &worker).await?)
    }

    async fn lapse(&self, world: &World) {
        world.lapse();
    }

    async fn observe(&self, world: &World) -> Snapshot {
        let seen = freehold_store::CollectionName::new("seen").unwrap();
        Snapshot::new()
            .ordered("server", world.things())
            .ordered("seen", [world.count(seen).await])
    }
}

#[test]
fn a_sound_reconciler_survives_every_fault() {
    let report = faults::check(&Reconciles { flaw: Flaw::None }, &Options::from_env());
    report.assert_clean();
    assert_eq!(report.cases, 4 + 3 + 2 + 1 + 4);
}

#[test]
fn a_reconciler_without_a_fence_is_caught() {
    let scenario = Reconciles {
        flaw: Flaw::IgnoresFence,
    };
    let report = faults::check(&scenario, &Options::default());
    let found: Vec<_> = report.divergences.iter().map(|d| d.to_string()).collect();
    assert_eq!(found.len(), 1, "{report}");
    assert!(
        found[0].starts_with("Sleep before \"create thing\""),
        "{report}"
    );
}
