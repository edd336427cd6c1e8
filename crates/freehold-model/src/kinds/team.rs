use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Conditions, Name, Resource};

/// The owner of resources and the multi-tenancy boundary.
pub type Team = Resource<TeamSpec, TeamStatus>;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeamSpec {
    #[serde(default)]
    pub display_name: String,
    /// People and machines (tokens) that belong to the team.
    #[serde(default)]
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// The subject of a token, e.g. `ana` or `ci-shop`.
    pub subject: Name,
    pub role: Role,
}

/// What a token holder may do. The last two are platform-wide, the others hold within a team.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Reads the team's resources.
    Viewer,
    /// Changes the team's databases and workloads and runs programs with their credentials.
    Developer,
    /// Also grants access to other teams and manages members.
    Owner,
    /// Runs the servers: instances, classes, environments. Sees no data and no secret.
    Operator,
    /// Everything.
    Admin,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TeamStatus {
    #[serde(default)]
    pub observed_generation: u64,
    #[serde(default)]
    pub conditions: Conditions,
}
