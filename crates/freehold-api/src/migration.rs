use freehold_model::{BundleDigest, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `PUT /v1/bundles/{digest}` answers with what was stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleAccepted {
    pub digest: BundleDigest,
    pub bytes: u64,
    /// False when it was there before.
    pub new: bool,
}

/// `POST /v1/databases/{environment}/{team}/{name}/migrations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrateRequest {
    pub bundle: BundleDigest,
    #[serde(default)]
    pub reason: String,
}

/// The scripts of a bundle against the history of a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationList {
    pub database: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleDigest>,
    pub entries: Vec<MigrationEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub description: String,
    pub script: String,
    /// Flyway's words: `Pending`, `Success`, `Missing`, …
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<MigrationRow>,
}

/// What the history table says about a script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationRow {
    pub installed_rank: i32,
    pub installed_by: String,
    /// As the server prints it.
    pub installed_on: String,
    pub execution_time_ms: i32,
    pub success: bool,
}

/// The query of `GET /v1/databases/{environment}/{team}/{name}/migrations`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrationQuery {
    /// Compare with this bundle's scripts; without it, only the history is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleDigest>,
}
