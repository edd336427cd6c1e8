use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AccessLevel, AccessTarget, DeletionPolicy, Limits};
use crate::{BundleDigest, Conditions, Name, OperationId, Resource, Uid};

/// One logical datastore owned by a team, placed on an instance.
pub type Database = Resource<DatabaseSpec, DatabaseStatus>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseSpec {
    /// The class of the environment that it is applied to. Also decides the engine.
    pub class: Name,
    /// What it is expected to need; the class's load when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<DatabaseLoad>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementHints>,
    /// Extensions to install, each allowed by the class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// Schemas to create beside `public`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// Accesses of the team's own workloads. Each becomes an Access named `DATABASE-WORKLOAD`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<InlineAccess>,
    /// The class's policy when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    #[serde(default)]
    pub manage: Manage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InlineAccess {
    pub workload: Name,
    pub level: AccessLevel,
    /// Only these schemas and tables; absent means the whole database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<AccessTarget>,
}

/// Expected need, and the unit in which instances promise capacity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseLoad {
    #[serde(default)]
    pub storage_mib: u64,
    #[serde(default)]
    pub connections: u32,
    /// Writes per second.
    #[serde(default)]
    pub throughput: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlacementHints {
    /// Databases of the same team to be near, if there is room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Name>,
    /// Databases of the same team not to share an instance with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<Name>,
    /// Only this instance. For platform engineers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Name>,
}

/// Whether differences found on the server are repaired or only reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Manage {
    #[default]
    Apply,
    Observe,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    #[serde(default)]
    pub observed_generation: u64,
    #[serde(default)]
    pub conditions: Conditions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The database's name on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub checked_at: Option<Timestamp>,
    /// What the last check found different, in words; repaired ones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Difference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// The operation that holds the database's claim now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Seconds from the accepted request to the first Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_to_usable_seconds: Option<f64>,
}

/// Where a database is and why. Nothing placed moves silently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    pub instance: Name,
    pub instance_uid: Uid,
    #[schemars(with = "String")]
    pub since: Timestamp,
    pub reason: String,
    /// What was promised on the instance for this database.
    pub load: DatabaseLoad,
}

/// One difference between what is declared and what the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Stable key of the finding, e.g. `grant.extra:public.orders:shop_main_x`.
    pub key: String,
    pub message: String,
    pub repaired: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleDigest>,
    /// The highest applied version, as in the history table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default)]
    pub applied: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Until then `freehold undelete` works. Nothing is dropped afterwards either, for now.
    #[schemars(with = "String")]
    pub until: Timestamp,
}

impl DatabaseSpec {
    /// The limits that hold for a database of `class`.
    pub fn limits<'a>(&self, class: &'a super::ClassSpec) -> &'a Limits {
        &class.limits
    }

    pub fn load(&self, class: &super::ClassSpec) -> DatabaseLoad {
        self.load.unwrap_or(class.load)
    }

    pub fn deletion_policy(&self, class: &super::ClassSpec) -> DeletionPolicy {
        self.deletion_policy.unwrap_or(class.deletion_policy)
    }
}
