//! Server-side apply, pure: what a manifest makes of what is there.

mod diff;
mod expand;
mod immutable;
mod prune;

use std::fmt;

use freehold_model::Resource;
use serde_json::Value;

pub use diff::{Change, Diff, diff};
pub use expand::{Expansion, expand};
pub use immutable::{ImmutableChange, ImmutableField, check_class_change, immutable};
pub use prune::{ApplySet, EmptyPrune, Prune, prune};

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
    items
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

impl fmt::Display for FieldConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pointer)
    }
}

impl From<Refusal> for freehold_model::Error {
    fn from(refusal: Refusal) -> Self {
        Self::conflict(refusal.to_string())
    }
}

/// Merges `manifest`, applied by `manager`, into `live`. Both name the same resource.
///
/// `force` takes over fields that other managers own. It does not lift the immutability of a field.
pub fn merge(
    live: Option<&Resource>,
    manifest: &Resource,
    manager: &str,
    force: bool,
) -> Result<Merged, Refusal> {
    let _ = (live, manifest, manager, force);
    unimplemented!()
}
