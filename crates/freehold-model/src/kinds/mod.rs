//! The resource kinds: one file each, spec first, then status.

mod access;
mod binding;
mod class;
mod database;
mod engine;
mod environment;
mod instance;
mod operation;
mod team;
mod workload;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access::{Access, AccessLevel, AccessSpec, AccessStatus, AccessTarget, Slot, Subject};
pub use binding::{Binding, BindingSpec, BindingStatus};
pub use class::{Class, ClassSpec, DeletionPolicy, Isolation, Limits};
pub use database::{
    Database, DatabaseLoad, DatabaseSpec, DatabaseStatus, Difference, InlineAccess, Manage,
    MigrationStatus, Placement, PlacementHints, Quarantine,
};
pub use engine::{ENGINES, EngineProfile};
pub use environment::{Environment, EnvironmentSpec, EnvironmentStatus};
pub use instance::{
    Capacity, External, Instance, InstanceSpec, InstanceStatus, Local, SecretReference, Tenancy,
    TlsMode, WorkloadEndpoint,
};
pub use operation::{OperationEvent, OperationPhase, OperationView, OperationViewSpec};
pub use team::{Member, Role, Team, TeamSpec, TeamStatus};
pub use workload::{Workload, WorkloadSpec, WorkloadStatus};

use crate::Scope;

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Kind {
    Environment,
    Team,
    Workload,
    Instance,
    Class,
    Database,
    Access,
    /// Read-only view of one access's credentials and address.
    Binding,
    /// Read-only view of one durable piece of work.
    Operation,
}

impl Kind {
    /// In the order in which a set of manifests is applied: what others refer to comes first.
    pub const ALL: [Self; 9] = [
        Self::Environment,
        Self::Team,
        Self::Workload,
        Self::Instance,
        Self::Class,
        Self::Database,
        Self::Access,
        Self::Binding,
        Self::Operation,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "Environment",
            Self::Team => "Team",
            Self::Workload => "Workload",
            Self::Instance => "Instance",
            Self::Class => "Class",
            Self::Database => "Database",
            Self::Access => "Access",
            Self::Binding => "Binding",
            Self::Operation => "Operation",
        }
    }

    /// Lower-case plural, as in URLs, collections and `freehold get databases`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Environment => "environments",
            Self::Team => "teams",
            Self::Workload => "workloads",
            Self::Instance => "instances",
            Self::Class => "classes",
            Self::Database => "databases",
            Self::Access => "accesses",
            Self::Binding => "bindings",
            Self::Operation => "operations",
        }
    }

    pub fn scope(self) -> Scope {
        match self {
            Self::Environment | Self::Team => Scope::Global,
            Self::Instance | Self::Class => Scope::Environment,
            Self::Workload => Scope::Team,
            Self::Database | Self::Access | Self::Binding | Self::Operation => {
                Scope::EnvironmentAndTeam
            }
        }
    }

    /// Views cannot be applied: Freehold makes them.
    pub fn is_view(self) -> bool {
        matches!(self, Self::Binding | Self::Operation)
    }

    /// Finds a kind by what a person may call it: singular, plural or short name, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| {
            text == kind.as_str().to_ascii_lowercase()
                || text == kind.plural()
                || kind.short_names().contains(&text.as_str())
        })
    }

    pub fn short_names(self) -> &'static [&'static str] {
        match self {
            Self::Environment => &["env", "envs"],
            Self::Workload => &["wl"],
            Self::Instance => &["inst"],
            Self::Database => &["db", "dbs"],
            Self::Operation => &["op", "ops"],
            Self::Team | Self::Class | Self::Access | Self::Binding => &[],
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
