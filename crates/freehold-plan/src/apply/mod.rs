//! Server-side apply, pure: what a manifest makes of what is there.
//!
//! Each manager (the CLI, a CI job, a person) owns the fields that its last manifest stated. A
//! manifest is the whole of what its manager wants to say: a field that it states is set, a field
//! that its manager stated before and that it leaves out is removed unless somebody else owns it
//! too. Stating what another manager owns is fine as long as both say the same; otherwise it is a
//! conflict, and the message names the ways out. Lists are atomic. The rules are those of
//! Kubernetes' server-side apply, so that one manifest behaves the same through both doors.
//!
//! Left out: merging lists by key, and owning single fields of a list's items.

mod diff;
mod expand;
mod immutable;
mod leaves;
mod prune;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use freehold_model::Resource;
use serde_json::{Map, Value};

use self::leaves::Leaves;
pub use self::{
    diff::{Change, Diff, diff},
    expand::{Expansion, expand},
    immutable::{ImmutableChange, ImmutableField, check_class_change, immutable},
    prune::{ApplySet, EmptyPrune, OtherSet, Prune, prune},
};
use crate::{manifest, pointer, text::shown};

/// What applying a manifest makes of a resource, for its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Created,
    /// Nothing a reader can see changes.
    Unchanged,
    /// JSON pointers of what is added, changed or removed, sorted.
    Changed {
        paths: Vec<String>,
    },
}

/// A merge that may be saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    pub outcome: Outcome,
    /// The live resource's uid, timestamps, owner and status, with the merged spec, labels,
    /// annotations, managed fields and generation. On creation `uid` and `creation_timestamp` are
    /// still missing: the caller gives them.
    pub resource: Resource,
    /// Whether the record must be saved. True also when only the ownership of fields changed,
    /// which the outcome calls unchanged.
    pub write: bool,
}

/// A field that another manager owns and that the manifest would set to something else.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldConflict {
    /// JSON pointer.
    pub pointer: String,
    /// Who owns the field now.
    pub manager: String,
    pub theirs: Value,
    pub yours: Value,
}

/// Why a manifest is not merged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("{}", lines(.0))]
    Conflicts(Vec<FieldConflict>),
    #[error("{}", lines(.0))]
    Immutable(Vec<ImmutableChange>),
}

fn lines<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(T::to_string).collect();
    items.join("\n")
}

impl fmt::Display for FieldConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is owned by `{}`, which says {}; this manifest says {}",
            pointer::human(&self.pointer),
            shown(&self.manager),
            shown(&self.theirs.to_string()),
            shown(&self.yours.to_string()),
        )
    }
}

impl From<Refusal> for freehold_model::Error {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Conflicts(conflicts) => {
                let managers: BTreeSet<_> = conflicts.iter().map(|c| shown(&c.manager)).collect();
                let managers: Vec<_> = managers.into_iter().collect();
                Self::conflict(message).hint(format!(
                    "Leave the field out of this manifest, or agree on it with {}, or take it over \
                     with --force.",
                    managers.join(" and ")
                ))
            }
            Refusal::Immutable(_) => Self::new(freehold_model::Code::FailedPrecondition, message),
        }
    }
}

/// Merges `manifest`, applied by `manager`, into `live`. Both name the same resource; where they do
/// not, the live one's name stays.
///
/// `force` takes over fields that other managers own. It does not lift the immutability of a field.
/// The caller validates the result again, because what two managers state may be right apart and
/// wrong together, and refuses to apply onto a resource that is being deleted.
pub fn merge(
    live: Option<&Resource>,
    manifest: &Resource,
    manager: &str,
    force: bool,
) -> Result<Merged, Refusal> {
    let stated = leaves::of(manifest);
    let Some(live) = live else {
        return Ok(created(manifest, &stated, manager));
    };
    let mut owners = live.metadata.managed_fields.clone();
    let before: BTreeSet<String> = owners
        .remove(manager)
        .unwrap_or_default()
        .into_iter()
        .collect();
    let conflicts = conflicts(live, &stated, &owners);
    if !conflicts.is_empty() && !force {
        return Err(Refusal::Conflicts(conflicts));
    }
    for conflict in &conflicts {
        disown(&mut owners, &conflict.pointer);
    }

    let mut merged = live.clone();
    merged.api_version.clone_from(&manifest.api_version);
    if !merged.spec.is_object() {
        merged.spec = Value::Object(Map::new());
    }
    let owned_by_others: BTreeSet<&str> = owners.values().flatten().map(String::as_str).collect();
    let kept = |at: &str| stated.contains_key(at) || owned_by_others.contains(at);
    for dropped in before.iter().filter(|at| !kept(at)) {
        leaves::remove(&mut merged, dropped, &kept);
    }
    for (at, value) in &stated {
        leaves::set(&mut merged, at, value);
    }
    if !stated.is_empty() {
        owners.insert(manager.to_owned(), stated.into_keys().collect());
    }
    merged.metadata.managed_fields = owners;
    conclude(live, merged)
}

fn created(manifest: &Resource, stated: &Leaves, manager: &str) -> Merged {
    let mut resource = manifest.clone();
    resource.spec = manifest::without_nulls(&manifest.spec);
    if !resource.spec.is_object() {
        resource.spec = Value::Object(Map::new());
    }
    resource.status = None;
    let metadata = &mut resource.metadata;
    metadata
        .labels
        .retain(|key, _| !manifest::is_reserved_label(key));
    metadata
        .annotations
        .retain(|key, _| !manifest::is_reserved_label(key));
    metadata.generation = 1;
    metadata.managed_fields = BTreeMap::new();
    if !stated.is_empty() {
        let fields = stated.keys().cloned().collect();
        metadata.managed_fields.insert(manager.to_owned(), fields);
    }
    Merged {
        outcome: Outcome::Created,
        resource,
        write: true,
    }
}

/// Compares with what was there, and counts the generation.
fn conclude(live: &Resource, mut merged: Resource) -> Result<Merged, Refusal> {
    let changes = diff::changes(&leaves::of(live), &leaves::of(&merged));
    let frozen = immutable::violated(&merged, &changes);
    if !frozen.is_empty() {
        return Err(Refusal::Immutable(frozen));
    }
    if changes
        .iter()
        .any(|change| pointer::is_within(&change.pointer, "/spec"))
    {
        merged.metadata.generation = live.metadata.generation.saturating_add(1);
    } else {
        // Formatting, key order and nulls are no change.
        merged.spec.clone_from(&live.spec);
    }
    let write = merged != *live;
    let outcome = if changes.is_empty() {
        Outcome::Unchanged
    } else {
        let paths = changes.into_iter().map(|change| change.pointer).collect();
        Outcome::Changed { paths }
    };
    Ok(Merged {
        outcome,
        resource: merged,
        write,
    })
}

/// Every stated leaf that would change what another manager owns, there, above or below it.
fn conflicts(
    live: &Resource,
    stated: &Leaves,
    owners: &BTreeMap<String, Vec<String>>,
) -> Vec<FieldConflict> {
    let mut conflicts = Vec::new();
    for (at, yours) in stated {
        for (manager, fields) in owners {
            let Some(theirs) = fields
                .iter()
                .find_map(|field| clash(live, field, at, yours))
            else {
                continue;
            };
            conflicts.push(FieldConflict {
                pointer: at.clone(),
                manager: manager.clone(),
                theirs,
                yours: yours.clone(),
            });
        }
    }
    conflicts
}

/// What stands at `field`, owned by another, if stating `yours` at `at` would change it.
fn clash(live: &Resource, field: &str, at: &str, yours: &Value) -> Option<Value> {
    if field == at {
        let theirs = leaves::get(live, field)?;
        let both_mappings = theirs.is_object() && yours == &Value::Object(Map::new());
        (theirs != *yours && !both_mappings).then_some(theirs)
    } else if pointer::is_within(field, at) {
        // Theirs lies below: an empty mapping leaves it alone, anything else wipes it out.
        let wiped = !yours.is_object();
        wiped.then(|| leaves::get(live, at)).flatten()
    } else if pointer::is_within(at, field) {
        // Theirs lies above: it is replaced unless it is a mapping.
        leaves::get(live, field).filter(|theirs| !theirs.is_object())
    } else {
        None
    }
}

/// Takes a field, and what lies above and below it, from everybody.
fn disown(owners: &mut BTreeMap<String, Vec<String>>, taken: &str) {
    for fields in owners.values_mut() {
        fields
            .retain(|field| !pointer::is_within(field, taken) && !pointer::is_within(taken, field));
    }
    owners.retain(|_, fields| !fields.is_empty());
}
