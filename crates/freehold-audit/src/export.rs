//! The export: one JSON document per line.

use serde::Serialize;

/// What an export held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub entries: u64,
    pub checkpoints: u64,
}
