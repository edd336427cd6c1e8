//! What went wrong while working on a server, and how it is told: status, reason, next step.

use freehold_engine::{EngineError, Fault};
use freehold_model::{ConditionStatus, Error};

/// Why there was no convergence.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server, seen as an engine error.
    Engine(EngineError),
    /// Our own state, or the store.
    Control(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Control(error)
    }
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// Status word, stable reason and sentence for what went wrong. A server that cannot be seen makes
/// things unknown, not false.
pub(crate) fn explain(trouble: &Trouble) -> (ConditionStatus, &'static str, String) {
    match trouble {
        Trouble::Engine(error) => {
            let status = match error.fault {
                Fault::Unreachable { .. } | Fault::Undetermined | Fault::Exhausted { .. } => {
                    ConditionStatus::Unknown
                }
                _ => ConditionStatus::False,
            };
            (
                status,
                error.reason(),
                format!("{error}. {}", next_step(&error.fault)),
            )
        }
        Trouble::Control(error) => {
            let hint = error.hint.clone().unwrap_or_default();
            (
                ConditionStatus::Unknown,
                "ControlPlaneTrouble",
                format!("{error}. {hint}"),
            )
        }
    }
}

/// What a person can do about a server's fault.
pub(crate) fn next_step(fault: &Fault) -> String {
    match fault {
        Fault::Unreachable { .. } => {
            "Freehold keeps trying; check the instance's address and that the server is up.".into()
        }
        Fault::Unauthenticated => {
            "Correct the admin user name or the secret that the instance refers to.".into()
        }
        Fault::Denied { missing } => format!("Give the admin login what it lacks: {missing}."),
        Fault::ReadOnly => "Point the instance at the primary, or end the read-only mode.".into(),
        Fault::Exhausted { .. } => "Free the resource on the server; Freehold keeps trying.".into(),
        Fault::Busy { .. } | Fault::Undetermined | Fault::Injected => {
            "Freehold tries again by itself.".into()
        }
        Fault::NameTaken { .. } => {
            "Nothing was touched. Rename the database resource, or have the other one moved away by \
             whoever owns it."
                .into()
        }
        Fault::Fenced { .. } => {
            "The server has seen a newer state of this control plane than the store holds. If the \
             store was restored from a backup by copying files, restore it with `freehold admin \
             restore` instead, which says so to Freehold."
                .into()
        }
        Fault::ServerMismatch { .. } => {
            "It looks like a clone or a restored copy. Point the instance at the original, or \
             register this server as a new instance."
                .into()
        }
        Fault::Missing { .. } => {
            "It was removed behind Freehold's back. Restore it on the server, or delete the \
             resource. Freehold does not make an empty one in its place."
                .into()
        }
        Fault::Statement(_) | Fault::Unsupported { .. } | Fault::Invalid { .. } => {
            "Change the manifest or the server accordingly and apply again.".into()
        }
    }
}
