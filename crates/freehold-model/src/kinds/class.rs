use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Name, Resource};

/// An entry on the platform's menu: isolation, limits and deletion defaults. A class belongs to an
/// environment, so the same database manifest gets small limits in `dev` and large ones in `prod`.
pub type Class = Resource<ClassSpec, super::EnvironmentStatus>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassSpec {
    pub engine: Name,
    #[serde(default)]
    pub isolation: Isolation,
    /// Lowest and highest major version, both included, e.g. `"14"` and `"17"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_min: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_max: Option<String>,
    #[serde(default)]
    pub limits: Limits,
    /// What a database is assumed to need when its manifest does not say.
    #[serde(default)]
    pub load: super::DatabaseLoad,
    /// Extensions that a database of this class may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How long a quarantined database can be undeleted. 14 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_days: Option<u16>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    #[default]
    Shared,
    /// Only on an instance of dedicated tenancy.
    Dedicated,
}

/// Limits of one database. Those marked *firm* cannot be lifted by the tenant's own session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Connections to the database in all (firm).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_timeout_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_in_transaction_timeout_ms: Option<u32>,
    /// Temporary files of one session (firm).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_files_mib: Option<u32>,
}

/// What deleting a Database resource does to the data. No policy drops anything yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Freehold forgets the database; the server keeps it, with its credentials disabled.
    #[default]
    Retain,
    /// Connections are refused and ended; `freehold undelete` brings it back until its date.
    Quarantine,
}
