//! A decision as text.

use super::Decision;

/// One line of the table that `freehold explain` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub instance: String,
    /// `chosen`, `fits` or `no`.
    pub verdict: &'static str,
    pub score: String,
    pub why: String,
}

pub fn rows(decision: &Decision) -> Vec<Row> {
    let _ = decision;
    unimplemented!()
}

/// The whole explanation as aligned plain text.
pub fn explain(decision: &Decision) -> String {
    let _ = decision;
    unimplemented!()
}
