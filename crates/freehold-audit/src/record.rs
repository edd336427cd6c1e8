//! The records that the log is kept in.

use freehold_model::ResourceKey;
use freehold_store::ChangePosition;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Checkpoint, Hash, LoggedEntry, VerifyingKey, tree::Edge};

/// One entry in the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogRecord {
    pub(crate) index: u64,
    /// The negated index, and the negated microseconds of when it happened: indexes that end in
    /// them give the newest first.
    pub(crate) order: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<i64>,
    /// The target's key as one text, to be searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    pub(crate) leaf: Hash,
    /// Roots of the subtrees of 2, 4, 8, … leaves that this leaf completes. They never change, so
    /// a proof is a few look-ups.
    pub(crate) nodes: Vec<Hash>,
    /// The hashed text.
    pub(crate) entry: Box<RawValue>,
}

/// What can be searched for in an entry. Whatever was put into the pending collection is logged,
/// also if it is none of ours: then it just cannot be searched for.
#[derive(Default, Deserialize)]
struct Searchable {
    #[serde(default)]
    at: Option<Timestamp>,
    #[serde(default)]
    target: Option<ResourceKey>,
}

impl LogRecord {
    pub(crate) fn new(index: u64, leaf: Hash, nodes: Vec<Hash>, entry: Box<RawValue>) -> Self {
        let searchable: Searchable = serde_json::from_str(entry.get()).unwrap_or_default();
        Self {
            index,
            order: -position(index),
            time: searchable.at.map(negated_micros),
            target: searchable.target.as_ref().map(target_text),
            leaf,
            nodes,
            entry,
        }
    }

    pub(crate) fn into_logged(self) -> LoggedEntry {
        LoggedEntry {
            index: self.index,
            leaf: self.leaf,
            entry: self.entry,
        }
    }
}

/// An index as the store orders it.
pub(crate) fn position(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

pub(crate) fn negated_micros(at: Timestamp) -> i64 {
    -at.as_microsecond()
}

/// Kind and store key: unlike the form for messages it cannot be ambiguous.
pub(crate) fn target_text(key: &ResourceKey) -> String {
    format!("{}/{}", key.kind.plural(), key.store_key())
}

/// One signed checkpoint, with the tree's right edge at that size.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) edge: Edge,
}

/// How far the log is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The only key that may go on with this log.
    pub(crate) key: VerifyingKey,
    pub(crate) edge: Edge,
    /// Entries up to here in the change feed are in the log.
    pub(crate) feed: Option<ChangePosition>,
    pub(crate) checkpoint: Checkpoint,
}
