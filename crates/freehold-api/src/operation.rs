use freehold_model::{
    Name, OperationId,
    kinds::{OperationEvent, OperationView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStarted {
    pub operation: OperationId,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperationQuery {
    #[serde(default)]
    pub environment: Option<Name>,
    #[serde(default)]
    pub team: Option<Name>,
    /// Only operations on this database.
    #[serde(default)]
    pub database: Option<Name>,
    /// Only those that are not finished.
    #[serde(default)]
    pub open: bool,
    #[serde(default)]
    pub limit: Option<usize>,
    #[serde(default)]
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationList {
    pub items: Vec<OperationView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Events after a sequence number, oldest first, and whether more can come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationEvents {
    pub events: Vec<OperationEvent>,
    pub operation: OperationView,
}

/// The query of `GET /v1/operations/{id}/events`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventsQuery {
    /// Only events after this sequence number. A `Last-Event-ID` header says the same for streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}
