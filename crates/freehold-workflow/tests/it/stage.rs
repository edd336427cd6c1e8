//! What the tests stand on: a store, a clock that can be moved, and an operation whose steps are
//! written in the test.

use std::{pin::Pin, sync::Arc, time::Duration};

use freehold_model::{Entropy, Gate, Kind, Name, OperationId, ResourceKey, SystemEntropy, Uid};
use freehold_store::{Batch, MemoryStore, StoreHandle};
use freehold_testing::faults::JumpClock;
use freehold_workflow::{
    Cancel, Claims, NewOperation, Next, Operation, OperationRecord, Operations, Runner,
    RunnerConfig, StepContext, StepError,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Stage {
    pub(crate) store: StoreHandle,
    pub(crate) clock: Arc<JumpClock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) operations: Operations,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(JumpClock::default());
        let store = StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy)));
        Self::on(store, clock).await
    }

    pub(crate) async fn on(store: StoreHandle, clock: Arc<JumpClock>) -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        freehold_workflow::define(&store).await.unwrap();
        Self {
            operations: Operations::new(store.clone(), clock.clone(), entropy.clone()),
            store,
            clock,
            entropy,
        }
    }

    pub(crate) fn runner(&self, config: RunnerConfig) -> Runner {
        Runner::new(
            self.store.clone(),
            self.clock.clone(),
            self.entropy.clone(),
            Gate::open(),
            config,
        )
    }

    /// A running runner that knows the scripted operation.
    pub(crate) fn start(&self, config: RunnerConfig, script: Script) -> Running {
        Running::start(self.runner(config).register(Scripted(script)))
    }

    pub(crate) fn claims(&self, lease_ttl: Duration) -> Claims {
        Claims::new(
            self.store.clone(),
            self.entropy.clone(),
            Gate::open(),
            lease_ttl,
        )
    }

    pub(crate) fn uid(&self) -> Uid {
        Uid::generate(freehold_model::Clock::now(&*self.clock), &*self.entropy)
    }

    pub(crate) async fn request(&self, target: Uid, first: Phase) -> OperationId {
        let requested = self.operations.request(&new(target, &first)).await.unwrap();
        let submitted = self.operations.submit(Batch::new(), requested).await;
        submitted.unwrap().id
    }

    /// Waits for the end, with the test's patience.
    pub(crate) async fn ended(&self, id: OperationId) -> OperationRecord {
        within(self.operations.ended(id)).await.unwrap()
    }

    /// Waits until the record is as wanted.
    pub(crate) async fn until(
        &self,
        id: OperationId,
        wanted: impl Fn(&OperationRecord) -> bool,
    ) -> OperationRecord {
        within(async {
            loop {
                let record = self.operations.get(id).await.unwrap().unwrap();
                if wanted(&record) {
                    return record;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// The whole history; fails unless its sequence is gapless from 1.
    pub(crate) async fn history(&self, id: OperationId) -> Vec<String> {
        let events = self.operations.events(id, 0, 1000).await.unwrap();
        for (event, sequence) in events.iter().zip(1..) {
            assert_eq!(event.sequence, sequence, "a gap in {events:?}");
        }
        events.into_iter().map(|event| event.message).collect()
    }
}

/// No test waits longer for anything.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("it did not happen in time")
}

pub(crate) fn new(target: Uid, first: &Phase) -> NewOperation {
    let known = Scripted(script(|_, _| async { Err(StepError::Lost) }));
    NewOperation::of(&known, first, key(), target, "a test").unwrap()
}

pub(crate) fn key() -> ResourceKey {
    ResourceKey {
        kind: Kind::Database,
        environment: Some(Name::new("dev").unwrap()),
        team: Some(Name::new("shop").unwrap()),
        name: Name::new("orders").unwrap(),
    }
}

/// Quick, except that leases are long: tests that need them to lapse move the clock.
pub(crate) fn quick() -> RunnerConfig {
    RunnerConfig {
        worker: "test".to_owned(),
        lease_ttl: Duration::from_secs(30),
        poll_interval: Duration::from_millis(10),
        feed_interval: Duration::from_millis(5),
        retry_first: Duration::from_millis(1),
        retry_max: Duration::from_millis(20),
        progress_interval: Duration::from_millis(1),
        ..RunnerConfig::default()
    }
}

pub(crate) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(runner: Runner) -> Self {
        let stop = CancellationToken::new();
        let token = stop.clone();
        Self {
            task: tokio::spawn(async move { runner.run(token).await }),
            stop,
        }
    }

    /// Stops as a server does.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.unwrap();
    }

    /// Stops as kill -9 does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The state of the scripted operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase")]
pub(crate) enum Phase {
    First,
    Second { note: String },
    Undo,
}

pub(crate) fn second(note: &str) -> Phase {
    Phase::Second {
        note: note.to_owned(),
    }
}

type Stepped = Pin<Box<dyn Future<Output = Result<Next<Phase>, StepError>> + Send>>;
pub(crate) type Script = Arc<dyn Fn(StepContext, Phase) -> Stepped + Send + Sync>;

pub(crate) fn script<F>(step: impl Fn(StepContext, Phase) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = Result<Next<Phase>, StepError>> + Send + 'static,
{
    Arc::new(move |context, state| Box::pin(step(context, state)))
}

/// An operation whose steps are written in the test. Cancelled in `First` it goes to `Undo`; later
/// it is too late.
pub(crate) struct Scripted(pub(crate) Script);

impl Operation for Scripted {
    const VERB: &'static str = "scripted";
    type State = Phase;

    fn state_name(&self, state: &Phase) -> &'static str {
        match state {
            Phase::First => "First",
            Phase::Second { .. } => "Second",
            Phase::Undo => "Undo",
        }
    }

    async fn step(&self, step: &StepContext, state: Phase) -> Result<Next<Phase>, StepError> {
        (self.0)(step.clone(), state).await
    }

    fn cancel(&self, state: Phase) -> Cancel<Phase> {
        match state {
            Phase::First => Cancel::Undo(Phase::Undo),
            Phase::Second { .. } | Phase::Undo => Cancel::Refuse {
                reason: "the point of no return is passed".to_owned(),
            },
        }
    }
}

pub(crate) fn done() -> Result<Next<Phase>, StepError> {
    Ok(Next::done(serde_json::json!({ "made": true }), "done"))
}
