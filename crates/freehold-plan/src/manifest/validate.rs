//! What a resource must satisfy beyond being JSON.

use freehold_model::{
    Kind, Metadata, Resource,
    kinds::{
        Access, Class, ClassSpec, Database, DatabaseSpec, Environment, Instance, Team, Workload,
    },
};

/// A resource whose every rule has been checked.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "short-lived and never kept in numbers"
)]
pub enum Typed {
    Environment(Environment),
    Team(Team),
    Workload(Workload),
    Instance(Instance),
    Class(Class),
    Database(Database),
    Access(Access),
}

impl Typed {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Environment(_) => Kind::Environment,
            Self::Team(_) => Kind::Team,
            Self::Workload(_) => Kind::Workload,
            Self::Instance(_) => Kind::Instance,
            Self::Class(_) => Kind::Class,
            Self::Database(_) => Kind::Database,
            Self::Access(_) => Kind::Access,
        }
    }

    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Environment(it) => &it.metadata,
            Self::Team(it) => &it.metadata,
            Self::Workload(it) => &it.metadata,
            Self::Instance(it) => &it.metadata,
            Self::Class(it) => &it.metadata,
            Self::Database(it) => &it.metadata,
            Self::Access(it) => &it.metadata,
        }
    }
}

/// One rule that a resource breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the resource, e.g. `/spec/access/0/level`.
    pub pointer: String,
    /// Stable word for the kind of fault, e.g. `unknownField`.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Checks every rule and returns all violations at once, in the order of the fields.
pub fn validate(resource: &Resource) -> Result<Typed, Vec<Violation>> {
    let _ = resource;
    unimplemented!()
}

/// The rules that need the class: that the extensions asked for are allowed by it.
pub fn validate_with_class(database: &DatabaseSpec, class: &ClassSpec) -> Vec<Violation> {
    let _ = (database, class);
    unimplemented!()
}
