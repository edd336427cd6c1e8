//! Asking for an operation: the first state, the first event and the claim, in the asker's batch.
//!
//! The change of a resource and the operation that follows from it are accepted together or not at
//! all. So a request is not a call but a few writes that the asker merges into its own batch.

use freehold_model::{OperationId, ResourceKey, Uid};
use freehold_store::{ApplyOutcome, Batch};

use crate::{Operation, WorkflowError};

/// What is to be done, to what, for whom.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOperation {
    pub verb: &'static str,
    pub target: ResourceKey,
    pub target_uid: Uid,
    pub requested_by: String,
    /// The first state as JSON, and its name.
    pub state: serde_json::Value,
    pub state_name: String,
    /// The first line of the history.
    pub message: String,
}

impl NewOperation {
    /// A request for `operation` from its first state.
    pub fn of<O: Operation>(
        operation: &O,
        first: &O::State,
        target: ResourceKey,
        target_uid: Uid,
        requested_by: impl Into<String>,
    ) -> Result<Self, WorkflowError> {
        let requested_by = requested_by.into();
        Ok(Self {
            verb: O::VERB,
            message: format!("{} requested by {requested_by}", O::VERB),
            target,
            target_uid,
            requested_by,
            state: serde_json::to_value(first).map_err(|source| {
                freehold_store::Error::invalid("a first state cannot be written as JSON")
                    .because(source)
            })?,
            state_name: operation.state_name(first).to_owned(),
        })
    }
}

/// A request ready to be merged: made by [`crate::Operations::request`].
#[derive(Debug, Clone, PartialEq)]
pub struct Requested {
    pub id: OperationId,
    pub target: ResourceKey,
    pub target_uid: Uid,
    /// Operation record, first event, claim; all in Create mode.
    pub batch: Batch,
}

/// What [`crate::Operations::submit`] gives back.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub id: OperationId,
    /// The etags of the asker's own writes, in its order, then of the request's. Absent when the
    /// reply was lost and a later look proved that the batch had been committed.
    pub outcome: Option<ApplyOutcome>,
}
