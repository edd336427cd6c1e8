//! The runner: finds operations that are due and drives each with one worker.
//!
//! It asks an index for what is due, verb by verb, so that a verb which only newer replicas know is
//! never even seen here. Each operation found gets a task of its own, up to a limit; a stuck one
//! occupies its slot and nothing else. Who may work on a target is decided by the lease, not by the
//! runner: any number of runners may share a store. An operation whose target is taken is left for a
//! while, with growing pauses, and tried again: that is how a dead worker's operation is picked up.
//!
//! All tasks belong to the future of [`Runner::run`]. Dropping it ends them at their next await, and
//! nothing is released: to the store it looks like a kill.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use freehold_model::{Clock, Entropy, Gate, OperationId};
use freehold_store::{IndexValue, Range, Scan, ScanToken, StoreHandle};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Operation, OperationRecord, Operations,
    erased::{ErasedOperation, Typed},
    feed, meters,
    nudge::Nudges,
    record,
    worker::{self, Assignment, Drive, Shared},
};

/// How a runner behaves. [`RunnerConfig::default`] suits a server.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerConfig {
    /// Names this process in leases and logs.
    pub worker: String,
    /// Operations driven at once. A driven operation costs a task and its step's memory, so this
    /// can be generous: steps that hang on dead servers should not use it up.
    pub concurrency: usize,
    /// How long a worker that went silent keeps its target.
    pub lease_ttl: Duration,
    /// How often due operations are looked for when nothing nudges.
    pub poll_interval: Duration,
    /// How often the store's change feed is read.
    pub feed_interval: Duration,
    /// How long one step may take, unless its operation says otherwise.
    pub step_timeout: Duration,
    /// The pause after the first failed attempt; it doubles from there.
    pub retry_first: Duration,
    /// The longest pause between attempts.
    pub retry_max: Duration,
    /// Panics in one state before the operation is parked.
    pub panics_max: u32,
    /// How long running steps may take to finish when the runner is told to stop.
    pub shutdown_grace: Duration,
    /// At most one progress event per operation in this time.
    pub progress_interval: Duration,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            worker: "worker".to_owned(),
            concurrency: 256,
            lease_ttl: Duration::from_secs(30),
            poll_interval: Duration::from_secs(2),
            feed_interval: Duration::from_millis(250),
            step_timeout: Duration::from_secs(15 * 60),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(5 * 60),
            panics_max: 3,
            shutdown_grace: Duration::from_secs(20),
            progress_interval: Duration::from_secs(2),
        }
    }
}

/// Runs operations until it is told to stop.
pub struct Runner {
    shared: Arc<Shared>,
    known: BTreeMap<&'static str, Arc<dyn ErasedOperation>>,
    operations: Operations,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("verbs", &self.known.keys())
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Runner {
    pub fn new(
        store: StoreHandle,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        gate: Gate,
        config: RunnerConfig,
    ) -> Self {
        let nudges = Arc::new(Nudges::new());
        let operations = Operations::nudging(
            store.clone(),
            Arc::clone(&clock),
            Arc::clone(&entropy),
            Arc::clone(&nudges),
        );
        Self {
            operations,
            known: BTreeMap::new(),
            shared: Arc::new(Shared {
                store,
                clock,
                entropy,
                gate,
                config,
                nudges,
            }),
        }
    }

    /// Adds a kind of operation. Two of one verb are a programming error and panic.
    #[must_use]
    pub fn register<O: Operation>(mut self, operation: O) -> Self {
        let before = self.known.insert(O::VERB, Arc::new(Typed(operation)));
        assert!(
            before.is_none(),
            "two operations are called {:?}: verbs are stored and must be unique",
            O::VERB
        );
        self
    }

    /// The queries, connected to this runner: what is requested through them starts at once.
    pub fn operations(&self) -> Operations {
        self.operations.clone()
    }

    /// Looks for due operations now.
    pub fn nudge(&self) {
        self.shared.nudges.due.notify_one();
    }

    /// Runs until `shutdown`, then lets running steps finish for a while, saves what they gave and
    /// releases the leases. Dropping the future instead is what a kill would be: leases stay until
    /// they lapse. One runner runs once.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut crew = Crew {
            runner: self,
            workers: JoinSet::new(),
            driving: Driving::default(),
            taken: HashMap::new(),
            turn: 0,
            stopping: CancellationToken::new(),
            stop_now: CancellationToken::new(),
        };
        if !crew.define_collections(&shutdown).await {
            return;
        }
        let driving = crew.driving.clone();
        tokio::select! {
            () = crew.work(&shutdown) => {}
            () = feed::follow(&self.shared, &driving) => {}
        }
        crew.stop().await;
    }
}

/// What this process drives now, shared with the follower of the feed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Driving(Arc<Mutex<HashMap<OperationId, CancellationToken>>>);

impl Driving {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OperationId, CancellationToken>> {
        // Each use is one insert, removal or look: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_driving(&self, id: OperationId) -> bool {
        self.lock().contains_key(&id)
    }

    pub(crate) fn ids(&self) -> Vec<OperationId> {
        self.lock().keys().copied().collect()
    }

    /// Lists the operation as driven and gives a fresh token for the next word to cancel it.
    pub(crate) fn cancellation(&self, id: OperationId) -> CancellationToken {
        let fresh = CancellationToken::new();
        self.lock().insert(id, fresh.clone());
        fresh
    }

    pub(crate) fn cancel(&self, id: OperationId) {
        if let Some(token) = self.lock().get(&id) {
            token.cancel();
        }
    }
}

/// An operation whose target somebody else had, or which we could not use for another reason.
#[derive(Debug)]
struct Taken {
    again_at: Instant,
    pause: Duration,
}

/// One run of a runner.
struct Crew<'a> {
    runner: &'a Runner,
    workers: JoinSet<(OperationId, Drive)>,
    driving: Driving,
    taken: HashMap<OperationId, Taken>,
    /// Which verb is looked at first; moves on, so that no verb starves the others.
    turn: usize,
    stopping: CancellationToken,
    stop_now: CancellationToken,
}

impl Crew<'_> {
    fn shared(&self) -> &Arc<Shared> {
        &self.runner.shared
    }

    /// Keeps trying: a server may start before its store does. False when told to stop.
    async fn define_collections(&self, shutdown: &CancellationToken) -> bool {
        loop {
            let error = tokio::select! {
                () = shutdown.cancelled() => return false,
                defined = record::define(&self.shared().store) => match defined {
                    Ok(()) => return true,
                    Err(error) => error,
                },
            };
            tracing::error!(%error, "the collections of operations cannot be defined; trying again");
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(self.shared().config.poll_interval) => {}
            }
        }
    }

    async fn work(&mut self, shutdown: &CancellationToken) {
        let nudges = Arc::clone(&self.shared().nudges);
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(ended) = self.workers.join_next_with_id() => {
                    self.settle(ended);
                    nudges.due.notify_one();
                    continue;
                }
                () = nudges.due.notified() => {}
                () = tokio::time::sleep_until(look_at) => {}
            }
            let looked = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                looked = self.look() => looked,
            };
            let poll = self.shared().config.poll_interval;
            let pause = match looked {
                Ok(next_due) => next_due.unwrap_or(poll).min(poll),
                Err(error) => {
                    tracing::warn!(%error, "due operations cannot be looked for");
                    poll
                }
            };
            look_at = Instant::now() + pause.max(Duration::from_millis(1));
        }
    }

    /// Starts a worker for everything due, up to the limit. Gives the time until something else is.
    async fn look(&mut self) -> freehold_store::Result<Option<Duration>> {
        let now_ms = self.shared().store.now().await?.as_millisecond();
        let runner = self.runner;
        let kinds: Vec<_> = runner.known.values().collect();
        self.turn = self.turn.wrapping_add(1);
        let mut soonest: Option<Duration> = None;
        for at in 0..kinds.len() {
            let kind = kinds[(at + self.turn) % kinds.len()];
            if let Some(wait) = self.look_for(kind, now_ms).await? {
                soonest = Some(soonest.map_or(wait, |other| other.min(wait)));
            }
        }
        let now = Instant::now();
        self.taken
            .retain(|_, taken| taken.again_at + Duration::from_secs(60) > now);
        let retry = self.taken.values().map(|taken| taken.again_at);
        let retry = retry.min().map(|at| at.saturating_duration_since(now));
        Ok([soonest, retry].into_iter().flatten().min())
    }

    async fn look_for(
        &mut self,
        kind: &Arc<dyn ErasedOperation>,
        now_ms: i64,
    ) -> freehold_store::Result<Option<Duration>> {
        let mut after: Option<ScanToken> = None;
        let mut waiting = 0;
        let soonest = 'pages: loop {
            let mut scan = Scan::new(
                record::operations(),
                Range::IndexPrefix {
                    index: record::INDEX_DUE.to_owned(),
                    values: vec![IndexValue::from(kind.verb())],
                },
            );
            scan.after = after.take();
            let page = self.shared().store.scan(scan).await?;
            for found in &page.records {
                // One record that cannot be read must not hide the others.
                let Ok(record) = found.value.decode::<OperationRecord>() else {
                    tracing::error!(key = %found.key, "an operation's record cannot be read");
                    continue;
                };
                let due_in_ms = record.due_at_ms.unwrap_or(i64::MAX).saturating_sub(now_ms);
                if due_in_ms > 0 {
                    break 'pages Some(Duration::from_millis(due_in_ms.unsigned_abs()));
                }
                waiting += usize::from(!self.start(kind, &record));
            }
            match page.next {
                Some(next) if self.workers.len() < self.shared().config.concurrency => {
                    after = Some(next);
                }
                _ => break None,
            }
        };
        meters::queue(kind.verb(), waiting);
        meters::driving(self.workers.len());
        Ok(soonest)
    }

    /// Starts a worker unless there is one, the target was taken a moment ago, or all are busy.
    fn start(&mut self, kind: &Arc<dyn ErasedOperation>, record: &OperationRecord) -> bool {
        let id = record.id;
        let resting = self
            .taken
            .get(&id)
            .is_some_and(|taken| taken.again_at > Instant::now());
        if self.driving.is_driving(id) {
            return true;
        }
        if resting || self.workers.len() >= self.shared().config.concurrency {
            return false;
        }
        self.driving.cancellation(id);
        let assignment = Assignment {
            operation: Arc::clone(kind),
            id,
            target_uid: record.target_uid,
            driving: self.driving.clone(),
            stopping: self.stopping.clone(),
            stop_now: self.stop_now.clone(),
        };
        let shared = Arc::clone(self.shared());
        let listed = Listed {
            driving: self.driving.clone(),
            id,
        };
        self.workers.spawn(async move {
            let ended = worker::drive(shared, assignment).await;
            drop(listed);
            (id, ended)
        });
        true
    }

    fn settle(
        &mut self,
        ended: Result<(tokio::task::Id, (OperationId, Drive)), tokio::task::JoinError>,
    ) {
        let (id, drive) = match ended {
            Ok((_, ended)) => ended,
            Err(error) => {
                // Steps are caught where they run; this is the runner's own fault. The lease of
                // that operation lapses, and it is tried again.
                tracing::error!(%error, "a worker panicked outside its step");
                return;
            }
        };
        let (first, max) = match drive {
            Drive::Over => {
                self.taken.remove(&id);
                return;
            }
            // A reconciler's pass is short, a dead worker's lease is not: start small.
            Drive::Busy => (
                Duration::from_millis(50),
                self.shared().config.lease_ttl / 4,
            ),
            Drive::StoreTrouble => (Duration::from_millis(200), Duration::from_secs(5)),
            Drive::Unreadable => (Duration::from_secs(5), Duration::from_secs(30)),
        };
        let pause = match self.taken.get(&id) {
            Some(taken) => (taken.pause * 2).min(max.max(first)),
            None => first,
        };
        let again_at = Instant::now() + pause;
        self.taken.insert(id, Taken { again_at, pause });
    }

    /// Lets steps finish, then drops those that do not, and gives every lease back.
    async fn stop(&mut self) {
        self.stopping.cancel();
        let config = &self.runner.shared.config;
        if self.all_ended(config.shutdown_grace).await {
            return;
        }
        tracing::warn!(
            steps = self.workers.len(),
            "steps did not finish in time and are dropped"
        );
        self.stop_now.cancel();
        if !self.all_ended(Duration::from_secs(5)).await {
            tracing::warn!("some leases were not given back and will lapse");
        }
    }

    async fn all_ended(&mut self, within: Duration) -> bool {
        let all = async { while self.workers.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

/// Takes an operation off the list of driven ones, also when its worker panics.
struct Listed {
    driving: Driving,
    id: OperationId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.driving.lock().remove(&self.id);
    }
}
