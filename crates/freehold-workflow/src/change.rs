//! What a save makes of an operation's record: a pure function, so that the same change can be
//! applied again to a record that somebody else (a person who cancels) has touched meanwhile.

use std::time::Duration;

use freehold_model::kinds::{OperationEvent, OperationPhase};
use freehold_store::Batch;
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::{OperationRecord, erased::NamedState, record::AT_ONCE};

/// One save by a worker: what has come about, a line for people, records to save with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) what: What,
    pub(crate) message: String,
    pub(crate) also: Batch,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Go(NamedState),
    Wait {
        state: NamedState,
        until: Timestamp,
    },
    Park {
        state: Option<NamedState>,
        hint: String,
    },
    Done(Json),
    Fail {
        hint: Option<String>,
    },
    /// An attempt failed; the next one is due after the pause.
    Retry {
        pause: Duration,
        panicked: bool,
    },
    CancelRefused,
    CancelAccepted(NamedState),
    Progress(Option<(u64, u64)>),
}

impl Change {
    pub(crate) fn new(what: What, message: impl Into<String>) -> Self {
        Self {
            what,
            message: message.into(),
            also: Batch::new(),
        }
    }

    /// The fault points around this save. Progress has none: how often it is saved depends on time.
    pub(crate) fn point(&self, record: &OperationRecord) -> Option<String> {
        let verb = &record.verb;
        let here = &record.state_name;
        let named = |state: &Option<NamedState>| match state {
            Some(state) => state.name.clone(),
            None => here.clone(),
        };
        Some(match &self.what {
            What::Go(state) | What::Wait { state, .. } => format!("save {verb} {}", state.name),
            What::CancelAccepted(state) => format!("save {verb} {} cancelled", state.name),
            What::Done(_) => format!("save {verb} Done"),
            What::Fail { .. } => format!("save {verb} Failed"),
            What::Park { state, .. } => format!("save {verb} {} parked", named(state)),
            What::Retry { .. } => format!("save {verb} {here} retry"),
            What::CancelRefused => format!("save {verb} {here} cancel refused"),
            What::Progress(_) => return None,
        })
    }
}

/// The record and the event after a change. No event when it would only repeat the last one: an
/// operation that retries for a week must not fill the store with its complaints.
pub(crate) fn applied(
    record: &OperationRecord,
    change: &Change,
    now: Timestamp,
    save: &str,
) -> (OperationRecord, Option<OperationEvent>) {
    let mut new = record.clone();
    new.updated_at = now;
    save.clone_into(&mut new.save);
    let mut progress = None;
    let mut told = true;
    match &change.what {
        What::Go(state) => advance(&mut new, state),
        What::Wait { state, until } => {
            advance(&mut new, state);
            new.phase = OperationPhase::Waiting;
            new.due_at_ms = Some(until.as_millisecond());
        }
        What::CancelAccepted(state) => {
            advance(&mut new, state);
            if let Some(cancellation) = &mut new.cancellation {
                cancellation.accepted = true;
            }
        }
        What::Park { state, hint } => {
            if let Some(state) = state {
                advance(&mut new, state);
            }
            new.phase = OperationPhase::NeedsAttention;
            new.due_at_ms = None;
            new.hint = Some(hint.clone());
        }
        What::Done(output) => {
            let cancelled = new.cancellation.as_ref().is_some_and(|c| c.accepted);
            new.output = Some(output.clone());
            end(
                &mut new,
                if cancelled {
                    OperationPhase::Cancelled
                } else {
                    OperationPhase::Succeeded
                },
                now,
            );
            new.hint = None;
        }
        What::Fail { hint } => {
            end(&mut new, OperationPhase::Failed, now);
            new.hint.clone_from(hint);
        }
        What::Retry { pause, panicked } => {
            new.phase = OperationPhase::Waiting;
            new.attempts = new.attempts.saturating_add(1);
            new.panics += u32::from(*panicked);
            new.due_at_ms = Some(later(now, *pause).as_millisecond());
            told = new.attempts.is_power_of_two() || change.message != record.message;
        }
        What::CancelRefused => {
            if let Some(before) = new.cancellation.take().and_then(|c| c.before) {
                (new.phase, new.due_at_ms) = (before.phase, before.due_at_ms);
            }
        }
        What::Progress(counted) => {
            progress = *counted;
            // Progress is no save of a state: the record stays the one that the step began from.
            new.save.clone_from(&record.save);
        }
    }
    match &change.what {
        // Why it waits or is parked stands as it was.
        What::CancelRefused => {}
        What::Progress(_) => new.message.clone_from(&change.message),
        _ => {
            new.message.clone_from(&change.message);
            new.interrupt();
        }
    }
    let event = told.then(|| {
        new.sequence += 1;
        OperationEvent {
            sequence: new.sequence,
            at: now,
            state: new.state_name.clone(),
            message: change.message.clone(),
            progress,
        }
    });
    (new, event)
}

/// On to a state, to be run at once.
fn advance(record: &mut OperationRecord, state: &NamedState) {
    record.state = state.json.clone();
    record.state_name.clone_from(&state.name);
    record.phase = OperationPhase::Running;
    record.due_at_ms = Some(AT_ONCE);
    record.attempts = 0;
    record.panics = 0;
    record.hint = None;
}

fn end(record: &mut OperationRecord, phase: OperationPhase, now: Timestamp) {
    record.phase = phase;
    record.due_at_ms = None;
    record.finished_at = Some(now);
    record.finished_at_ms = Some(now.as_millisecond());
}

/// A time that never overflows.
pub(crate) fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
