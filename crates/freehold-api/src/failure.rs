use freehold_model::Code;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The one error body: `{"error": {code, message, hint, request_id}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailureBody {
    pub error: Failure,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    pub code: Code,
    /// What happened and where.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Give it to whoever runs Freehold: the server's log and the audit log know it.
    pub request_id: String,
}
