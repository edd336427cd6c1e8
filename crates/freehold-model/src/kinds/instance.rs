use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Conditions, Name, Resource, ServerIdentity};

/// One server or cluster that databases are placed on.
pub type Instance = Resource<InstanceSpec, InstanceStatus>;

/// Exactly one of `external` and `local` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceSpec {
    /// The engine's name: `postgres`, `mariadb`, `sqlite` or `redis`.
    pub engine: Name,
    /// A server that the company already runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// A private server that Freehold makes and runs from installed binaries; for `sqlite` a folder of
    /// files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    #[serde(default)]
    pub tenancy: Tenancy,
    /// Teams whose databases may be placed here; empty means every team.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_teams: Vec<Name>,
    /// Classes that the instance serves; empty means every class of its engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Name>,
    #[serde(default)]
    pub capacity: Capacity,
    /// No new placements; what is there stays.
    #[serde(default)]
    pub cordon: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct External {
    pub host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The admin login. On a managed service it needs CREATEROLE and CREATEDB, not superuser.
    pub username: String,
    /// Where the admin password is; absent when the server trusts the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretReference>,
    /// PostgreSQL: the database that the admin connection opens and where the registry lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_database: Option<String>,
    #[serde(default)]
    pub tls: TlsMode,
    /// PEM certificates of the authorities to trust; absent means the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
    /// Where workloads connect when that is not the admin address, e.g. a pooler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<WorkloadEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadEndpoint {
    pub host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TlsMode {
    /// Plain text. Only for loopback and private networks.
    Disable,
    /// TLS when the server offers it, certificate not checked. For a first look only.
    Prefer,
    /// TLS with the certificate and the host name checked.
    #[default]
    VerifyFull,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Local {
    /// Major version; absent means the newest installed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Port on loopback; absent means a free one, kept from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A secret is referenced, never written: `env:NAME`, `file:/path` or `exec:command args`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretReference(
    #[schemars(regex(pattern = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+|exec:.+)$"))] pub String,
);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Tenancy {
    #[default]
    Shared,
    /// All databases on it belong to one team: the first that is placed.
    Dedicated,
}

/// What may be promised in all. Absent means unlimited in that dimension.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_mib: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Writes per second that the instance is trusted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<u32>,
    /// Share of storage, connections and throughput kept free, in percent. 20 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headroom_percent: Option<u8>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    #[serde(default)]
    pub observed_generation: u64,
    #[serde(default)]
    pub conditions: Conditions,
    /// E.g. `15.20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_identity: Option<ServerIdentity>,
    /// The address workloads use, `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When the server was last seen; what follows is as of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub observed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    /// Settings that matter for isolation and recovery, as the server reports them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Extensions that can be created in a database here; absent until the server was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions_available: Option<BTreeSet<String>>,
}
