use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OperationId, Resource, ResourceKey};

/// Read-only view of one durable piece of work.
pub type OperationView = Resource<OperationViewSpec, serde_json::Value>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationViewSpec {
    pub id: OperationId,
    /// E.g. `provision`, `migrate`, `quarantine`, `undelete`.
    pub verb: String,
    pub target: ResourceKey,
    pub phase: OperationPhase,
    /// The name of the saved state it is in, e.g. `CreateDatabase`.
    pub state: String,
    pub requested_by: String,
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub finished_at: Option<Timestamp>,
    /// How often the present state has been tried.
    #[serde(default)]
    pub attempts: u32,
    /// Why it waits or failed, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
    /// Ready to be taken by a worker, or being worked on.
    Running,
    /// Waiting for a time or for the world to change.
    Waiting,
    /// Stopped until a person decides.
    NeedsAttention,
    Succeeded,
    Failed,
    Cancelled,
}

impl OperationPhase {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// One line of an operation's history, as shown by `freehold operation watch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationEvent {
    /// Position within the operation, from 1 without gaps; resume a stream after it.
    pub sequence: u64,
    #[schemars(with = "String")]
    pub at: Timestamp,
    pub state: String,
    pub message: String,
    /// Done and total of the present step, where it can be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<(u64, u64)>,
}
