//! Deleting what a set of manifests no longer names.
//!
//! In the manner of kubectl's ApplySet: a set has a name, membership is written on the members, and
//! only members are ever deleted. A resource that was made by hand, by another set, or in another
//! environment is out of reach, whatever the manifest says.
//!
//! Kinds that are the same in every environment (a Workload) can be members of one set per
//! environment; they are deleted when the last of these lets go.

use std::{cmp::Reverse, collections::BTreeSet};

use freehold_model::{Kind, Name, Resource, ResourceKey};

use crate::manifest::RESERVED_LABEL_DOMAIN;

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
        format!("{}{}", label_prefix(), self.environment)
    }

    pub fn contains(&self, resource: &Resource) -> bool {
        let set = resource.metadata.labels.get(&self.label());
        set.is_some_and(|set| set == self.name.as_str())
    }

    /// Makes a merged resource a member before it is saved; true when it was not one already. An
    /// error names the other set that it belongs to in this environment.
    pub fn enrol(&self, resource: &mut Resource) -> Result<bool, OtherSet> {
        let label = self.label();
        match resource.metadata.labels.get(&label) {
            Some(set) if set == self.name.as_str() => Ok(false),
            Some(other) => Err(OtherSet {
                key: resource.key(),
                set: other.clone(),
            }),
            None => {
                let name = self.name.to_string();
                resource.metadata.labels.insert(label, name);
                Ok(true)
            }
        }
    }

    /// Takes a resource out of the set; true when it was a member.
    pub fn release(&self, resource: &mut Resource) -> bool {
        let member = self.contains(resource);
        if member {
            resource.metadata.labels.remove(&self.label());
        }
        member
    }
}

fn label_prefix() -> String {
    format!("apply-set.{RESERVED_LABEL_DOMAIN}/")
}

/// Refused: the resource is in another set of the same environment, which would delete it once it
/// no longer names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} belongs to apply set `{set}`: take it out of one of the two manifests")]
pub struct OtherSet {
    pub key: ResourceKey,
    pub set: String,
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
#[error(
    "apply set `{set}` would lose all of its {members} members, because no manifest was given: \
     delete them by name if that is meant"
)]
pub struct EmptyPrune {
    pub set: Name,
    pub members: usize,
}

/// Compares the members of a set with what is applied now. Resources that are no members are passed
/// over, so that a caller who looked too widely does no harm.
pub fn prune(
    set: &ApplySet,
    members: &[Resource],
    applied: &[ResourceKey],
) -> Result<Prune, EmptyPrune> {
    let members: Vec<&Resource> = members.iter().filter(|it| set.contains(it)).collect();
    if applied.is_empty() && !members.is_empty() {
        return Err(EmptyPrune {
            set: set.name.clone(),
            members: members.len(),
        });
    }
    let named: BTreeSet<&ResourceKey> = applied.iter().collect();
    let mut prune = Prune::default();
    for member in members {
        let key = member.key();
        if !named.contains(&key) {
            prune.decide(set, member, key);
        }
    }
    let order = |key: &ResourceKey| {
        let position = Kind::ALL.iter().position(|kind| *kind == key.kind);
        (Reverse(position), key.clone())
    };
    prune.delete.sort_by_cached_key(order);
    prune.release.sort_by_cached_key(order);
    prune.keep.sort_by_cached_key(|(key, _)| order(key));
    Ok(prune)
}

impl Prune {
    fn decide(&mut self, set: &ApplySet, member: &Resource, key: ResourceKey) {
        let metadata = &member.metadata;
        let elsewhere = key
            .environment
            .as_ref()
            .is_some_and(|it| *it != set.environment);
        let mut sets = metadata
            .labels
            .keys()
            .filter(|label| label.starts_with(&label_prefix()));
        if elsewhere {
            // Its label does not fit its place: somebody wrote into the store by hand.
            let message = "it lies in another environment than the set".to_owned();
            self.keep.push((key, message));
        } else if matches!(key.kind, Kind::Environment | Kind::Team) {
            let message = format!("{}s are never pruned: delete it by name", key.kind);
            self.keep.push((key, message));
        } else if metadata.owner_reference.is_some() || key.kind.is_view() {
            let message = "it follows the resource that made it".to_owned();
            self.keep.push((key, message));
        } else if metadata.deletion_timestamp.is_some() {
            self.keep
                .push((key, "it is being deleted already".to_owned()));
        } else if sets.any(|label| *label != set.label()) {
            self.release.push(key);
        } else {
            self.delete.push(key);
        }
    }
}
