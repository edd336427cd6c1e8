//! What a piece of durable work looks like to the one who writes it.
//!
//! An operation is a state machine whose state is a serde enum, one variant per phase, carrying
//! exactly what that phase needs. The runner calls [`Operation::step`] with the saved state, saves
//! what comes back in one atomic batch, and calls again. A worker may be killed between any two
//! instructions, and a step may run twice; so a step looks before it acts, and what it will need to
//! recognise its own work (names, ids, passwords) was saved by an earlier step.
//!
//! Undo is more variants of the same enum. After the point of no return only forward variants
//! exist, and [`Operation::cancel`] refuses.

use std::{error::Error as StdError, fmt::Debug, future::Future, time::Duration};

use freehold_model::InjectedFault;
use freehold_store::Batch;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::StepContext;

pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// One kind of durable work. See `docs/operations.md` for the recipe.
pub trait Operation: Send + Sync + 'static {
    /// The verb as people see it: `provision`. It is stored with every operation, so it never
    /// changes once released.
    const VERB: &'static str;

    /// A serde enum, one variant per phase. What was saved by a former release must still load;
    /// [`crate::saved::check`] proves it.
    type State: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;

    /// The variant's name, for events, metrics and fault points: `CreateRoles`.
    fn state_name(&self, state: &Self::State) -> &'static str;

    /// One idempotent step from `state`. It may be dropped at any await (lease lost, timeout,
    /// shutdown) and may be run again after it succeeded.
    fn step(
        &self,
        step: &StepContext,
        state: Self::State,
    ) -> impl Future<Output = Result<Next<Self::State>, StepError>> + Send;

    /// What a cancellation makes of the state: refuse (the point of no return is passed) or go on
    /// from an undo state.
    fn cancel(&self, state: Self::State) -> Cancel<Self::State>;

    /// How long one step from this state may take before it is dropped and tried again;
    /// `None` takes [`crate::RunnerConfig::step_timeout`].
    fn step_timeout(&self, _state: &Self::State) -> Option<Duration> {
        None
    }
}

/// What a step gives back: where to go, a line for people, and the records to save with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Next<S> {
    pub to: Transition<S>,
    /// One line of the operation's history: what was done.
    pub message: String,
    /// The caller's own records (resource status, audit entries, an allocation), saved in the same
    /// atomic batch as state and event, with their preconditions. A conflict among them runs the
    /// step again, so that it reads afresh.
    pub also: Batch,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Transition<S> {
    /// On to the next state at once.
    Go(S),
    /// On from `state`, not before `until` (on the store's clock; see [`StepContext::now`]).
    Wait { state: S, until: Timestamp },
    /// The end: succeeded, or cancelled when a cancellation led here.
    Done(serde_json::Value),
    /// The end: failed, with records to save. [`StepError::Failed`] is the same without records.
    Fail { hint: Option<String> },
    /// Parked in `state` until a person resumes or cancels it.
    Park { state: S, hint: String },
}

impl<S> Next<S> {
    pub fn go(state: S, message: impl Into<String>) -> Self {
        Self::new(Transition::Go(state), message)
    }

    pub fn wait(state: S, until: Timestamp, message: impl Into<String>) -> Self {
        Self::new(Transition::Wait { state, until }, message)
    }

    pub fn done(output: serde_json::Value, message: impl Into<String>) -> Self {
        Self::new(Transition::Done(output), message)
    }

    /// Ends the operation as failed and saves what [`Next::also`] adds.
    pub fn fail(message: impl Into<String>) -> Self {
        Self::new(Transition::Fail { hint: None }, message)
    }

    /// Parks the operation until a person resumes it, and saves what [`Next::also`] adds.
    pub fn park(state: S, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        Self::new(Transition::Park { state, hint }, message)
    }

    /// Adds records to the batch that saves the transition. May be called more than once.
    #[must_use]
    pub fn also(mut self, batch: Batch) -> Self {
        self.also.preconditions.extend(batch.preconditions);
        self.also.writes.extend(batch.writes);
        self
    }

    fn new(to: Transition<S>, message: impl Into<String>) -> Self {
        Self {
            to,
            message: message.into(),
            also: Batch::new(),
        }
    }
}

/// What a cancellation makes of a state.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancel<S> {
    /// It is too late, and this is why, in a sentence for the person who asked.
    Refuse { reason: String },
    /// Go on from this state; when it is done the operation counts as cancelled.
    Undo(S),
}

/// Why a step did not get to a next state. Nothing is saved but attempts and message, so the state
/// is what it was.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It may work later: tried again with growing pauses, for as long as it takes.
    #[error("{message}")]
    Retry {
        message: String,
        #[source]
        cause: Option<Cause>,
    },
    /// A person must decide; parked until resumed or cancelled. `hint` says what to do.
    #[error("{message}")]
    NeedsAttention {
        message: String,
        hint: String,
        #[source]
        cause: Option<Cause>,
    },
    /// It cannot work. Ends the operation.
    #[error("{message}")]
    Failed {
        message: String,
        #[source]
        cause: Option<Cause>,
    },
    /// Somebody else has taken over (a fence refused us, the lease is gone): everything is dropped
    /// without a trace.
    #[error("another worker has taken over")]
    Lost,
}

impl StepError {
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Retry {
            message: message.into(),
            cause: None,
        }
    }

    pub fn needs_attention(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::NeedsAttention {
            message: message.into(),
            hint: hint.into(),
            cause: None,
        }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            cause: None,
        }
    }

    /// Keeps the error that led here, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Cause>) -> Self {
        match &mut self {
            Self::Retry { cause, .. }
            | Self::NeedsAttention { cause, .. }
            | Self::Failed { cause, .. } => *cause = Some(source.into()),
            Self::Lost => {}
        }
        self
    }
}

/// An injected fault is what a network error would be.
impl From<InjectedFault> for StepError {
    fn from(fault: InjectedFault) -> Self {
        Self::retry(fault.to_string()).because(fault)
    }
}

/// Store trouble inside a step. A refused lease means that somebody else has taken over; what can
/// heal is tried again; what cannot needs a person.
impl From<freehold_store::Error> for StepError {
    fn from(error: freehold_store::Error) -> Self {
        use freehold_store::Retry;
        let message = format!("the store: {error}");
        match error.retry() {
            Retry::Later | Retry::AfterReading => Self::retry(message),
            Retry::No => Self::needs_attention(
                message,
                "Look at the server's log; resume the operation when the store is right again.",
            ),
        }
        .because(error)
    }
}
