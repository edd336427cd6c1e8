//! What a step is given to work with.

use std::{fmt::Debug, future::Future, sync::Arc};

use freehold_model::{Clock, Entropy, Gate, InjectedFault, OperationId, ResourceKey, Uid};
use freehold_store::{LeaseName, Precondition};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Everything a step may know about the operation it belongs to.
#[derive(Debug, Clone)]
pub struct StepContext {
    /// Every external effect carries it.
    pub id: OperationId,
    pub verb: &'static str,
    pub target: ResourceKey,
    pub target_uid: Uid,
    /// The epoch of the lease on the target. Each effect inside a server checks and locks it in the
    /// server's registry row: a lower epoch than the one there means [`crate::StepError::Lost`].
    pub epoch: u64,
    pub requested_by: String,
    /// Passed before and after every external effect; see [`StepContext::effect`].
    pub gate: Gate,
    /// How often this state was tried before; 0 the first time.
    pub attempts: u32,
    /// The time on the store's clock when this step began. Waits are computed from it, because
    /// they are compared with the store's clock.
    pub now: Timestamp,
    /// This machine's clock, for what is shown and measured here.
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Set when somebody asked to cancel. A long step may stop early and return any state: the
    /// runner then asks [`crate::Operation::cancel`] about that state.
    pub cancelled: CancellationToken,
    /// Set when this process wants to stop. A long step that can checkpoint should do so now.
    pub stopping: CancellationToken,
    /// Set when the lease is lost. The step's future is dropped by then; what it has spawned
    /// elsewhere should stop.
    pub lost: CancellationToken,
    pub progress: Progress,
}

impl StepContext {
    /// A context outside any runner, for unit tests of single steps.
    pub fn detached(
        id: OperationId,
        verb: &'static str,
        target: ResourceKey,
        target_uid: Uid,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            id,
            verb,
            target,
            target_uid,
            epoch: 1,
            requested_by: "test".to_owned(),
            gate: Gate::open(),
            attempts: 0,
            now: clock.now(),
            clock,
            entropy,
            cancelled: CancellationToken::new(),
            stopping: CancellationToken::new(),
            lost: CancellationToken::new(),
            progress: Progress::new(),
        }
    }

    /// The lease that fences this operation's target.
    pub fn lease(&self) -> LeaseName {
        target_lease(self.target_uid)
    }

    /// What a batch that a step applies by itself must demand. (Better: hand records over with
    /// [`crate::Next::also`].)
    pub fn fence(&self) -> Precondition {
        Precondition::LeaseHeld {
            name: self.lease(),
            epoch: self.epoch,
        }
    }

    /// Does something to the outside world between its two fault points. `what` is stable from run
    /// to run: `create role shop_main_owner`.
    pub async fn effect<T, E>(
        &self,
        what: impl Into<String>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E>
    where
        E: From<InjectedFault>,
    {
        let what = what.into();
        self.gate.before(what.as_str()).await?;
        let done = work.await?;
        self.gate.after(what).await?;
        Ok(done)
    }
}

/// The lease on a target, whoever works on it.
pub(crate) fn target_lease(target_uid: Uid) -> LeaseName {
    LeaseName::new(format!("target/{target_uid}")).expect("a uid is short and not empty")
}

/// How far a step has come. Reports are cheap and may come often; at most one in
/// [`crate::RunnerConfig::progress_interval`] becomes an event.
#[derive(Debug, Clone)]
pub struct Progress(Arc<watch::Sender<Option<Report>>>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) message: String,
    pub(crate) counted: Option<(u64, u64)>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// `done` of `total`, in the step's own unit, with a line for people.
    pub fn report(&self, done: u64, total: u64, message: impl Into<String>) {
        self.send(message.into(), Some((done, total)));
    }

    /// A line for people when nothing can be counted.
    pub fn say(&self, message: impl Into<String>) {
        self.send(message.into(), None);
    }

    fn send(&self, message: String, counted: Option<(u64, u64)>) {
        self.0.send_replace(Some(Report { message, counted }));
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Report>> {
        self.0.subscribe()
    }
}

/// Runs a whole piece of idempotent work between the fault points `step <name>`, and again when a
/// fault closes the point after it: the fault harness proves with it that a second run changes
/// nothing. The runner does the same around every step; this is for reconcilers' passes.
pub async fn repeatable<T, E>(
    gate: &Gate,
    name: &str,
    mut work: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E>
where
    E: From<InjectedFault>,
{
    let point = format!("step {name}");
    gate.before(point.as_str()).await?;
    loop {
        let done = work().await?;
        if gate.after(point.as_str()).await.is_ok() {
            return Ok(done);
        }
    }
}
