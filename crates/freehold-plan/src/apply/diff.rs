//! What a merge changes, as text for people and as a list for programs.

use freehold_model::Resource;
use serde_json::Value;

/// One changed leaf. `before` is absent when it is added, `after` when it is removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub pointer: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// A unified diff of the YAML forms; empty when nothing differs.
    pub text: String,
    /// Sorted by pointer.
    pub changes: Vec<Change>,
}

/// Compares what people may write: labels, annotations and spec. Either side may be absent.
pub fn diff(live: Option<&Resource>, merged: Option<&Resource>) -> Diff {
    let _ = (live, merged);
    unimplemented!()
}
