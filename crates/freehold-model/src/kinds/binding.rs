use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AccessLevel, Slot, Subject};
use crate::{Name, Resource};

/// Read-only view of what an access gives its workload. The secret is not in it: it is handed out
/// by its own audited request.
pub type Binding = Resource<BindingSpec, BindingStatus>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingSpec {
    pub database: Name,
    pub subject: Subject,
    pub level: AccessLevel,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingStatus {
    /// `host:port`; the folder for an engine whose databases are files.
    pub address: String,
    pub database: String,
    /// Absent for an engine without accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    pub slot: Slot,
    #[schemars(with = "String")]
    pub published_at: Timestamp,
}
