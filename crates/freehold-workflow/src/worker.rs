//! One worker drives one operation, from taking its target's lease to giving it back.
//!
//! The worker keeps the lease while steps follow each other and gives it back when the operation
//! waits, retries, parks or ends. So every attempt after a failure, a timeout or a panic runs under
//! a new epoch, and what the former attempt may still have in flight is fenced off.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use freehold_model::{
    Clock, Entropy, Gate, OperationId, Uid,
    kinds::OperationPhase,
    trace::{self, Role, TraceParent},
};
use freehold_store::StoreHandle;
use futures::FutureExt;
use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field};

use crate::{
    Cancel, Next, OperationRecord, Progress, RunnerConfig, StepContext, StepError, Transition,
    backoff,
    change::{Change, What},
    context::{Report, target_lease},
    erased::{ErasedOperation, NamedState},
    held::Held,
    meters,
    nudge::Nudges,
    runner::Driving,
    saver::{Saved, Saver},
};

/// What every worker of a runner shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: StoreHandle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) gate: Gate,
    pub(crate) config: RunnerConfig,
    pub(crate) nudges: Arc<Nudges>,
}

/// How the drive ended, for the runner's choice of when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    /// Nothing more to do now: it waits, is parked, has ended, or is another worker's.
    Over,
    /// Somebody else holds the target.
    Busy,
    /// Saved by a newer version; left to a newer replica.
    Unreadable,
    /// The store could not be used.
    StoreTrouble,
}

/// What a worker needs to know beyond what is shared.
pub(crate) struct Assignment {
    pub(crate) operation: Arc<dyn ErasedOperation>,
    pub(crate) id: OperationId,
    pub(crate) target_uid: Uid,
    /// Tells, by way of the runner, that somebody asked to cancel.
    pub(crate) driving: Driving,
    /// Finish the step, then stop.
    pub(crate) stopping: CancellationToken,
    /// Drop the step and stop.
    pub(crate) stop_now: CancellationToken,
}

pub(crate) async fn drive(shared: Arc<Shared>, assignment: Assignment) -> Drive {
    let lease = target_lease(assignment.target_uid);
    let held = Held::acquire(
        &shared.store,
        &lease,
        &shared.config.worker,
        shared.config.lease_ttl,
        &*shared.entropy,
    );
    let held = match held.await {
        Ok(Some(held)) => held,
        Ok(None) => return Drive::Busy,
        Err(error) => {
            tracing::warn!(operation = %assignment.id, %error, "a lease could not be taken");
            return Drive::StoreTrouble;
        }
    };
    let ended = drive_held(&shared, &assignment, &held).await;
    held.release().await;
    shared.nudges.changed();
    ended
}

async fn drive_held(shared: &Shared, assignment: &Assignment, held: &Held) -> Drive {
    // The token first: a word that comes after it sets it, one that came before is in the record.
    let cancelled = assignment.driving.cancellation(assignment.id);
    let opened = Saver::open(
        &shared.store,
        &shared.gate,
        &shared.entropy,
        held,
        assignment.id,
    );
    let saver = match opened.await {
        Ok(Some(saver)) => saver,
        Ok(None) => return Drive::Unreadable,
        Err(error) => {
            tracing::warn!(operation = %assignment.id, %error, "an operation could not be read");
            return Drive::StoreTrouble;
        }
    };
    let span = span_of(&saver.record, held.epoch());
    let mut worker = Worker {
        shared,
        assignment,
        held,
        saver,
        cancelled,
        conflicts: 0,
    };
    worker.run().instrument(span).await
}

/// The time from taking the target's lease to giving it back, in the trace of whoever asked.
fn span_of(record: &OperationRecord, epoch: u64) -> Span {
    let span = tracing::info_span!(
        "operation",
        operation = %record.id,
        verb = record.verb,
        target = %record.target,
        epoch,
        otel.name = field::Empty,
        otel.kind = field::Empty,
    );
    let asked = record.trace_parent.as_deref().and_then(TraceParent::parse);
    let name = format!("operation {}", record.verb);
    trace::begin(&span, Role::Consumer, &name, asked.as_ref());
    span
}

struct Worker<'a> {
    shared: &'a Shared,
    assignment: &'a Assignment,
    held: &'a Held,
    saver: Saver<'a>,
    /// Set when somebody asked to cancel and it is not decided yet.
    cancelled: CancellationToken,
    /// Steps run again in a row because records that they save with changed meanwhile.
    conflicts: u32,
}

/// What became of one run of a step's future.
enum Ran {
    Finished(Result<Next<NamedState>, StepError>),
    Panicked(String),
    TimedOut(Duration),
    /// The lease is lost, or the process stops: nothing is saved.
    Dropped,
}

impl Worker<'_> {
    async fn run(&mut self) -> Drive {
        loop {
            if self.assignment.stopping.is_cancelled() {
                return Drive::Over;
            }
            let now = match self.saver.tick().await {
                Ok(now) => now,
                Err(error) => return self.trouble(&error),
            };
            if !is_due(&self.saver.record, now) {
                return Drive::Over;
            }
            if let Err(ended) = self.hear_of_cancellation().await {
                return ended;
            }
            let change = match self.decide(now).await {
                Ok(change) => change,
                Err(ended) => return ended,
            };
            if let Err(ended) = self.save(change).await {
                return ended;
            }
        }
    }

    /// A word to cancel may be older than the record here, or be decided already. Decided, it must
    /// not stop the steps that follow, so they get a fresh token; asking the store after that misses
    /// no later word.
    async fn hear_of_cancellation(&mut self) -> Result<(), Drive> {
        if !self.cancelled.is_cancelled() || self.saver.record.is_cancellation_open() {
            return Ok(());
        }
        let Assignment { driving, id, .. } = self.assignment;
        self.cancelled = driving.cancellation(*id);
        match self.saver.refresh().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Drive::Over),
            Err(error) => Err(self.trouble(&error)),
        }
    }

    fn trouble(&self, error: &freehold_store::Error) -> Drive {
        tracing::warn!(operation = %self.assignment.id, %error, "the store cannot be used");
        Drive::StoreTrouble
    }

    /// The next change: what a cancellation or a step makes of the state.
    async fn decide(&mut self, now: Timestamp) -> Result<Change, Drive> {
        let record = &self.saver.record;
        let timeout = match self.assignment.operation.read(&record.state) {
            Ok(timeout) => timeout.unwrap_or(self.shared.config.step_timeout),
            Err(error) => return self.unreadable(now, &error),
        };
        let asked = record.cancellation.as_ref().filter(|c| !c.accepted);
        if let Some(by) = asked.map(|c| c.by.clone()) {
            return match self.assignment.operation.cancel(&record.state) {
                Ok(Cancel::Undo(state)) => Ok(Change::new(
                    What::CancelAccepted(state),
                    format!("cancelled by {by}"),
                )),
                Ok(Cancel::Refuse { reason }) => Ok(Change::new(
                    What::CancelRefused,
                    format!("not cancelled: {reason}"),
                )),
                Err(error) => self.unreadable(now, &error),
            };
        }
        self.step(timeout).await
    }

    /// A state that this version cannot read belongs to a newer replica. When none has taken it for
    /// a while, it is parked where a person sees it.
    fn unreadable(&self, now: Timestamp, error: &serde_json::Error) -> Result<Change, Drive> {
        const LEFT_ALONE: Duration = Duration::from_secs(120);
        let record = &self.saver.record;
        tracing::warn!(operation = %record.id, state = record.state_name, %error,
            "a saved state cannot be read by this version");
        metrics::counter!("freehold_workflow_unreadable_total", "verb" => record.verb.clone())
            .increment(1);
        let due = Timestamp::from_millisecond(record.due_at_ms.unwrap_or_default());
        let untouched_since = due.unwrap_or(now).max(record.updated_at);
        if now.duration_since(untouched_since)
            < jiff::SignedDuration::try_from(LEFT_ALONE).unwrap_or_default()
        {
            return Err(Drive::Unreadable);
        }
        Ok(Change::new(
            What::Park {
                state: None,
                hint: "Run the version of Freehold that wrote it, or a newer one, then resume it."
                    .to_owned(),
            },
            format!(
                "the saved state {} cannot be read by this version",
                record.state_name
            ),
        ))
    }

    /// Runs the step from the present state and says what to save.
    async fn step(&mut self, timeout: Duration) -> Result<Change, Drive> {
        let record = &self.saver.record;
        let (verb, state) = (self.assignment.operation.verb(), record.state_name.clone());
        let point = format!("step {verb} {state}");
        let began = Instant::now();
        let span = tracing::info_span!(
            "step",
            state,
            attempt = record.attempts + 1,
            outcome = field::Empty,
            otel.name = field::Empty,
            otel.kind = field::Empty,
        );
        trace::begin(&span, Role::Internal, &point, None);
        let ran = match self.shared.gate.before(point.as_str()).await {
            Ok(()) => {
                let step = self.run_step(timeout, &point);
                step.instrument(span.clone()).await
            }
            Err(fault) => Ran::Finished(Err(fault.into())),
        };
        span.record("outcome", outcome_label(&ran));
        meters::step(verb, &state, outcome_label(&ran), began.elapsed());
        match ran {
            Ran::Finished(Ok(next)) => Ok(change_of(next)),
            Ran::Finished(Err(error)) => self.change_of_error(error).await,
            Ran::Panicked(message) => Ok(self.change_of_panic(&state, &message)),
            Ran::TimedOut(after) => {
                Ok(self.retry(format!("{state} did not finish within {after:?}"), false))
            }
            Ran::Dropped => Err(Drive::Over),
        }
    }

    /// The step's future beside what may end it early. A fault right after a successful step means
    /// that its result is lost: it runs again.
    async fn run_step(&mut self, timeout: Duration, point: &str) -> Ran {
        let context = self.context();
        let mut reports = context.progress.watch();
        let state = self.saver.record.state.clone();
        let operation = Arc::clone(&self.assignment.operation);
        let (lost, stop_now) = (self.held.lost().clone(), self.assignment.stop_now.clone());
        loop {
            let step = async { operation.step(&context, &state).await };
            let ran = tokio::select! {
                biased;
                () = lost.cancelled() => Ran::Dropped,
                () = stop_now.cancelled() => Ran::Dropped,
                result = AssertUnwindSafe(step).catch_unwind() => match result {
                    Ok(result) => Ran::Finished(result),
                    Err(panic) => Ran::Panicked(panic_message(&*panic)),
                },
                () = tokio::time::sleep(timeout) => Ran::TimedOut(timeout),
                () = self.save_progress(&mut reports) => Ran::Dropped,
            };
            let finished = matches!(&ran, Ran::Finished(Ok(_)));
            if !finished || self.shared.gate.after(point).await.is_ok() {
                return ran;
            }
        }
    }

    fn context(&self) -> StepContext {
        let record = &self.saver.record;
        StepContext {
            id: record.id,
            verb: self.assignment.operation.verb(),
            target: record.target.clone(),
            target_uid: record.target_uid,
            epoch: self.held.epoch(),
            requested_by: record.requested_by.clone(),
            gate: self.shared.gate.clone(),
            attempts: record.attempts,
            now: self.saver.now(),
            clock: Arc::clone(&self.shared.clock),
            entropy: Arc::clone(&self.shared.entropy),
            cancelled: self.cancelled.clone(),
            stopping: self.assignment.stopping.clone(),
            lost: self.held.lost().clone(),
            progress: Progress::new(),
        }
    }

    /// Saves the newest report, again and again, until it is dropped with the step's end. Returns
    /// only when the operation is not ours any more.
    async fn save_progress(&mut self, reports: &mut watch::Receiver<Option<Report>>) {
        loop {
            if reports.changed().await.is_err() {
                return std::future::pending().await;
            }
            let Some(report) = reports.borrow_and_update().clone() else {
                continue;
            };
            let change = Change::new(What::Progress(report.counted), report.message);
            match self.saver.save(&change).await {
                Saved::Yes => self.shared.nudges.changed(),
                Saved::Lost => return,
                Saved::Conflict(error) | Saved::Refused(error) => {
                    tracing::warn!(operation = %self.assignment.id, %error, "progress was not saved");
                }
            }
            tokio::time::sleep(self.shared.config.progress_interval).await;
        }
    }

    async fn change_of_error(&mut self, error: StepError) -> Result<Change, Drive> {
        log_step_error(&self.saver.record, &error);
        Ok(match error {
            StepError::Retry { message, .. } => self.retry(message, false),
            StepError::NeedsAttention { message, hint, .. } => {
                Change::new(What::Park { state: None, hint }, message)
            }
            StepError::Failed { message, .. } => Change::new(What::Fail { hint: None }, message),
            StepError::Lost => match self.held.confirm().await {
                Ok(false) => return Err(Drive::Over),
                Err(error) => return Err(self.trouble(&error)),
                // A server knows a later epoch than the store has given out. Trying again would
                // raise ours step by step until it passes the fence, which is not ours to pass.
                Ok(true) => Change::new(
                    What::Park {
                        state: None,
                        hint:
                            "Has an older copy of the store been restored? Find out which control \
                               plane acts on the server, then resume."
                                .to_owned(),
                    },
                    format!(
                        "the fence on {} refused epoch {}, although the lease on it is ours",
                        self.saver.record.target,
                        self.held.epoch()
                    ),
                ),
            },
        })
    }

    fn change_of_panic(&self, state: &str, message: &str) -> Change {
        let record = &self.saver.record;
        let message = format!("{state} panicked: {message}");
        tracing::error!(operation = %record.id, state, "{message}");
        if record.panics + 1 < self.shared.config.panics_max {
            return self.retry(message, true);
        }
        Change::new(
            What::Park {
                state: None,
                hint: "This is a fault in Freehold: report it with the server's log. Resuming tries again."
                    .to_owned(),
            },
            message,
        )
    }

    fn retry(&self, message: String, panicked: bool) -> Change {
        let record = &self.saver.record;
        meters::retry(self.assignment.operation.verb(), &record.state_name);
        let config = &self.shared.config;
        let pause = backoff::pause(
            record.attempts.saturating_add(1),
            config.retry_first,
            config.retry_max,
            &*self.shared.entropy,
        );
        Change::new(What::Retry { pause, panicked }, message)
    }

    /// Saves a change and settles what the save itself brought up. An error ends the drive.
    async fn save(&mut self, change: Change) -> Result<(), Drive> {
        const CONFLICTS_MAX: u32 = 5;
        let change = match self.saver.save(&change).await {
            Saved::Yes => {
                self.conflicts = 0;
                return self.saved(&change);
            }
            Saved::Lost => return Err(Drive::Over),
            Saved::Conflict(error) if self.conflicts < CONFLICTS_MAX => {
                self.conflicts += 1;
                tracing::debug!(operation = %self.assignment.id, %error, "records changed under a step; it runs again");
                return Ok(());
            }
            Saved::Conflict(error) => {
                self.conflicts = 0;
                self.retry(
                    format!("records that belong to this step keep changing: {error}"),
                    false,
                )
            }
            Saved::Refused(error) => {
                tracing::error!(operation = %self.assignment.id, %error, "the store refuses what a step saves");
                Change::new(
                    What::Park {
                        state: None,
                        hint: "This is a fault in Freehold: report it with the server's log."
                            .to_owned(),
                    },
                    format!("the store refuses what the step saves: {error}"),
                )
            }
        };
        match self.saver.save(&change).await {
            Saved::Yes => self.saved(&change),
            Saved::Lost => Err(Drive::Over),
            Saved::Conflict(error) | Saved::Refused(error) => Err(self.trouble(&error)),
        }
    }

    /// A failed attempt ends the drive even when the next one is due at once: the lease goes back,
    /// so that the next attempt has a new epoch.
    fn saved(&self, change: &Change) -> Result<(), Drive> {
        self.shared.nudges.changed();
        meters::saved(&self.saver.record);
        match change.what {
            What::Retry { .. } => Err(Drive::Over),
            _ => Ok(()),
        }
    }
}

fn is_due(record: &OperationRecord, now: Timestamp) -> bool {
    let runnable = matches!(
        record.phase,
        OperationPhase::Running | OperationPhase::Waiting
    );
    runnable
        && record
            .due_at_ms
            .is_some_and(|due| due <= now.as_millisecond())
}

fn change_of(next: Next<NamedState>) -> Change {
    let what = match next.to {
        Transition::Go(state) => What::Go(state),
        Transition::Wait { state, until } => What::Wait { state, until },
        Transition::Park { state, hint } => What::Park {
            state: Some(state),
            hint,
        },
        Transition::Done(output) => What::Done(output),
        Transition::Fail { hint } => What::Fail { hint },
    };
    Change {
        what,
        message: next.message,
        also: next.also,
    }
}

fn outcome_label(ran: &Ran) -> &'static str {
    match ran {
        Ran::Finished(Ok(_)) => "ok",
        Ran::Finished(Err(StepError::Retry { .. })) => "retry",
        Ran::Finished(Err(StepError::NeedsAttention { .. })) => "needs_attention",
        Ran::Finished(Err(StepError::Failed { .. })) => "failed",
        Ran::Finished(Err(StepError::Lost)) => "lost",
        Ran::Panicked(_) => "panic",
        Ran::TimedOut(_) => "timeout",
        Ran::Dropped => "dropped",
    }
}

fn log_step_error(record: &OperationRecord, error: &StepError) {
    use std::error::Error as _;
    let mut causes = String::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        causes.push_str(": ");
        causes.push_str(&inner.to_string());
        cause = inner.source();
    }
    tracing::warn!(operation = %record.id, verb = record.verb, target = %record.target,
        state = record.state_name, attempts = record.attempts, "{error}{causes}");
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
