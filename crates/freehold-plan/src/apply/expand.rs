//! The accesses that a database's manifest names inline.

use freehold_model::{Resource, ResourceKey, Uid, kinds::Database};

use crate::manifest::Violation;

/// What a database's `spec.access` asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Expansion {
    /// Access resources in the database's namespace and environment, each with an owner reference
    /// to the database. They have no uid yet unless they exist.
    pub accesses: Vec<Resource>,
    /// Accesses that this database made before and no longer names: to be deleted.
    pub obsolete: Vec<ResourceKey>,
}

/// Makes the accesses of `database`, whose uid is `uid`. `existing` are the accesses of its
/// environment and team, or at least those with the names in question and those it owns.
pub fn expand(
    database: &Database,
    uid: Uid,
    existing: &[Resource],
) -> Result<Expansion, Vec<Violation>> {
    let _ = (database, uid, existing);
    unimplemented!()
}
