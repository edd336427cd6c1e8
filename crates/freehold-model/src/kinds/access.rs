use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Conditions, Name, Resource};

/// Who may do what on a database, until when. It lives in the namespace of the team that owns the
/// database, which is how the owner's consent to another team's workload is expressed.
pub type Access = Resource<AccessSpec, AccessStatus>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessSpec {
    pub database: Name,
    pub subject: Subject,
    pub level: AccessLevel,
    /// Only these schemas and tables; absent means the whole database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<AccessTarget>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Who is given access. For now a workload; people and teams come with short-lived roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    pub workload: Name,
    /// The workload's team; the access's own team when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum AccessLevel {
    ReadOnly,
    ReadWrite,
    /// Reads, writes and defines objects.
    Owner,
}

/// One schema, or one table of it. Names are the server's own and may be any text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessTarget {
    /// Left out for an engine without schemas.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
}

/// Each access has two logins, so that rotation never breaks a connected program.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessStatus {
    #[serde(default)]
    pub observed_generation: u64,
    #[serde(default)]
    pub conditions: Conditions,
    /// The login whose credentials the binding hands out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_slot: Option<Slot>,
}
