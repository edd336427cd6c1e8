//! What can go wrong when operations are asked for, looked at, cancelled or resumed.

use freehold_model::{Code, OperationId, ResourceKey};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkflowError {
    #[error("there is no operation {id}")]
    NotFound { id: OperationId },
    /// Another operation holds the target.
    #[error("{target} is being worked on by operation {holder} ({verb})")]
    Held {
        target: ResourceKey,
        holder: OperationId,
        verb: String,
    },
    /// It has ended, so it can be neither cancelled nor resumed.
    #[error("operation {id} has ended already ({phase})")]
    Ended {
        id: OperationId,
        phase: &'static str,
    },
    /// Only a parked operation can be resumed.
    #[error("operation {id} is not waiting for a person")]
    NotParked { id: OperationId },
    #[error("the store refused or could not be reached")]
    Store(#[from] freehold_store::Error),
}

impl From<WorkflowError> for freehold_model::Error {
    fn from(error: WorkflowError) -> Self {
        use freehold_store::ErrorKind;
        let (code, hint) = match &error {
            WorkflowError::NotFound { .. } => (
                Code::NotFound,
                Some("`freehold operation list` shows the ones that are kept.".to_owned()),
            ),
            WorkflowError::Held { holder, .. } => (
                Code::Conflict,
                Some(format!(
                    "Watch it with `freehold operation watch {holder}`, or cancel it, then try again."
                )),
            ),
            WorkflowError::Ended { .. } | WorkflowError::NotParked { .. } => {
                (Code::FailedPrecondition, None)
            }
            WorkflowError::Store(store) => match store.kind() {
                ErrorKind::AlreadyExists | ErrorKind::VersionMismatch => (Code::Conflict, None),
                ErrorKind::Throttled => (Code::Throttled, None),
                ErrorKind::Unavailable => (Code::Unavailable, None),
                ErrorKind::Undetermined => (Code::Undetermined, None),
                ErrorKind::TooLarge => (Code::TooLarge, None),
                _ => (Code::Internal, None),
            },
        };
        let message = match &error {
            WorkflowError::Store(store) => store.to_string(),
            other => other.to_string(),
        };
        let made = Self::new(code, message);
        match hint {
            Some(hint) => made.hint(hint),
            None => made,
        }
        .because(error)
    }
}
