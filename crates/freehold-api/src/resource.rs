use freehold_model::{Kind, Name, OperationId, Resource, ResourceKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /v1/apply`: one or many manifests as the user wrote them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyRequest {
    /// YAML or JSON text, one or many documents, 5 MB at most.
    pub manifests: String,
    /// The environment of the command's context.
    pub environment: Name,
    /// The team for manifests that name no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    /// Who owns the fields: `cli` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// Take over fields that another manager owns.
    #[serde(default)]
    pub force: bool,
    /// Decide everything, change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// The name of the set that these manifests make up: what was applied under it before and is
    /// not among them any more is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune_set: Option<Name>,
}

/// All of it was accepted together, or nothing was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyReport {
    pub dry_run: bool,
    pub applied: Vec<Applied>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    pub key: ResourceKey,
    pub outcome: ApplyOutcome,
    /// JSON pointers of what changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// A unified diff of the YAML forms, for `freehold diff` and dry runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
    /// Where it would be or is being placed, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Explanation>,
    /// The operation that carries it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ApplyOutcome {
    Created,
    Changed,
    Unchanged,
    Pruned,
}

/// `GET /v1/explain/…`: the ranked candidates and the reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The instance that was or would be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Name>,
    /// True when the database is placed already: what follows is how it would be decided now.
    #[serde(default)]
    pub placed: bool,
    pub candidates: Vec<Candidate>,
    /// When nothing fits: the shortest way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub instance: Name,
    pub fits: bool,
    pub score: i64,
    pub reasons: Vec<String>,
}

/// `GET /v1/resources/{kind}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListQuery {
    /// Needed for kinds that belong to an environment.
    #[serde(default)]
    pub environment: Option<Name>,
    /// Only this team; all that the caller may see when absent.
    #[serde(default)]
    pub team: Option<Name>,
    /// `key=value` pairs, comma-separated; all must match.
    #[serde(default)]
    pub labels: Option<String>,
    /// 1 to 500; 100 when absent.
    #[serde(default)]
    pub limit: Option<usize>,
    /// The `next` of the page before.
    #[serde(default)]
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceList {
    pub kind: Kind,
    pub items: Vec<Resource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a deletion does with the data, in words, and the operation that does it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteReport {
    pub key: ResourceKey,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
}

/// The query that completes the path of one resource to its [`ResourceKey`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceScope {
    /// Needed for kinds that belong to an environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    /// Needed for kinds that belong to a team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
}

impl ResourceScope {
    pub fn of(key: &ResourceKey) -> Self {
        Self {
            environment: key.environment.clone(),
            team: key.team.clone(),
        }
    }
}
