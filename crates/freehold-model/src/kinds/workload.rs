use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Conditions, Resource};

/// A program that uses databases: a microservice, a job, a function.
pub type Workload = Resource<WorkloadSpec, WorkloadStatus>;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    #[serde(default)]
    pub observed_generation: u64,
    #[serde(default)]
    pub conditions: Conditions,
}
