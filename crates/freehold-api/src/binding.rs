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
    pub level: AccessLevel,
    #[serde(flatten)]
    pub target: BindingTarget,
}

/// How a program reaches its database. The tags are servicebinding.io's types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum BindingTarget {
    Postgresql(ServerBinding),
    /// MariaDB, which speaks this protocol.
    Mysql(ServerBinding),
    Sqlite(FileBinding),
    /// Redis and Valkey: `database` is what keys and channels begin with, before a colon.
    Redis(ServerBinding),
}

/// A database on a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerBinding {
    /// A name, an IPv4 or IPv6 address without brackets, or the folder of a Unix socket.
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
    pub slot: Slot,
}

/// A database in a file, on the machine of the server that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileBinding {
    /// Absolute.
    pub path: String,
    /// The program should open it for reading only; nothing but its good will enforces that.
    pub read_only: bool,
}

impl BindingTarget {
    /// Absent for an engine without accounts.
    pub fn server(&self) -> Option<&ServerBinding> {
        match self {
            Self::Postgresql(server) | Self::Mysql(server) | Self::Redis(server) => Some(server),
            Self::Sqlite(_) => None,
        }
    }

    /// PEM authorities that the program has to trust.
    pub fn certificates(&self) -> Option<&str> {
        self.server()?.certificates.as_deref()
    }
}
