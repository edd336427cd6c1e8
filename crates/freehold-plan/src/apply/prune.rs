//! Deleting what a set of manifests no longer names.

use freehold_model::{Name, Resource, ResourceKey};

/// A named set of manifests, applied to one environment. Membership is a label on each member,
/// `apply-set.freehold.dev/ENVIRONMENT: NAME`, that only Freehold writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplySet {
    pub name: Name,
    pub environment: Name,
}

impl ApplySet {
    /// The label's key: find members by it, with [`ApplySet::name`] as the value.
    pub fn label(&self) -> String {
        unimplemented!()
    }

    pub fn contains(&self, resource: &Resource) -> bool {
        let _ = resource;
        unimplemented!()
    }

    /// Makes a merged resource a member before it is saved; true when it was not one already. An
    /// error names the other set that it belongs to in this environment.
    pub fn enrol(&self, resource: &mut Resource) -> Result<bool, Name> {
        let _ = resource;
        unimplemented!()
    }
}

/// What to do with members that are no longer named, in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prune {
    /// To delete: those that refer to others first.
    pub delete: Vec<ResourceKey>,
    /// Only to leave the set (their label is removed): another environment's set still names them.
    pub release: Vec<ResourceKey>,
    /// Members that are never pruned, each with the reason.
    pub keep: Vec<(ResourceKey, String)>,
}

/// Refused: the new set is empty, which would delete every member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("apply set {set} would lose all of its {members} members, because no manifest was given")]
pub struct EmptyPrune {
    pub set: Name,
    pub members: usize,
}

/// Compares the members of a set with what is applied now.
pub fn prune(
    set: &ApplySet,
    members: &[Resource],
    applied: &[ResourceKey],
) -> Result<Prune, EmptyPrune> {
    let _ = (set, members, applied);
    unimplemented!()
}
