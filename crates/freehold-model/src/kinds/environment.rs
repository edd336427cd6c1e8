use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Conditions, Resource};

/// An ordered stage: `dev` → `staging` → `prod`.
pub type Environment = Resource<EnvironmentSpec, EnvironmentStatus>;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentSpec {
    /// Position in the promotion order; smaller comes earlier.
    #[serde(default)]
    pub order: u32,
    /// In a protected environment a person does not get a workload's credential.
    #[serde(default)]
    pub protected: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    #[serde(default)]
    pub observed_generation: u64,
    #[serde(default)]
    pub conditions: Conditions,
}
