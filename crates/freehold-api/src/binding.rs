use freehold_model::{
    Name, Secret,
    kinds::{AccessLevel, Slot},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /v1/bindings/{environment}/{team}/{name}/read`: hands out a credential; always audited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BindingRead {
    /// What it is for, in the caller's words; kept in the audit log.
    #[serde(default)]
    pub reason: String,
}

/// The only answer of the API that holds a secret of a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingSecret {
    /// The access's name; also the name of the directory it is projected to.
    pub name: Name,
    /// `postgresql`, as servicebinding.io names types.
    #[serde(rename = "type")]
    pub kind: String,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub username: String,
    #[schemars(with = "String")]
    pub password: Secret,
    /// libpq's words: `disable`, `prefer`, `verify-full`.
    pub sslmode: String,
    /// PEM authorities, when the server's are not the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<String>,
    pub level: AccessLevel,
    pub slot: Slot,
}
