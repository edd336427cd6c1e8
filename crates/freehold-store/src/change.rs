//! The change feed.

use serde::{Deserialize, Serialize};

use crate::{CollectionName, Etag, Key};

/// A place in the feed. Opaque to callers, ordered within one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangePosition(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Written; the etag is the one that the write gave.
    Put { etag: Etag },
    /// Deleted, or purged after it expired.
    Delete,
}

/// One committed change. The value is not carried: who needs it reads the record, and sees at least
/// this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub position: ChangePosition,
    pub collection: CollectionName,
    pub key: Key,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub changes: Vec<Change>,
    /// Give this to the next call, also when `changes` is empty.
    pub next: ChangePosition,
}
