//! What a store can do, as data.

use std::time::Duration;

/// What survives which accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Gone with the process.
    None,
    /// An acknowledged write survives a killed process.
    Process,
    /// An acknowledged write survives a power cut.
    Power,
}

/// Limits are numbers, not promises in prose. A composition whose needs are not met is refused when
/// it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The adapter's name: `memory`, `sqlite`, `postgres`.
    pub adapter: &'static str,
    pub durability: Durability,
    /// Batches are all-or-nothing across collections and keys.
    pub atomic_batches: bool,
    pub writes_per_batch_max: usize,
    pub value_bytes_max: usize,
    pub secondary_indexes: bool,
    pub unique_indexes: bool,
    /// A read sees every write that was acknowledged before it began.
    pub linearizable_reads: bool,
    pub change_feed: bool,
    pub leases: bool,
    /// How long the change feed reaches back at least.
    pub change_retention: Option<Duration>,
    /// Several processes may use the same store at once.
    pub shared: bool,
}

impl Capabilities {
    /// What the control plane needs from the store that keeps its state. Names what is missing.
    pub fn missing_for_control_plane(&self) -> Vec<&'static str> {
        [
            (self.durability >= Durability::Process, "durable writes"),
            (self.atomic_batches, "atomic batches across collections"),
            (self.secondary_indexes, "secondary indexes"),
            (self.unique_indexes, "unique indexes"),
            (self.linearizable_reads, "linearizable reads"),
            (self.change_feed, "a change feed"),
            (self.leases, "leases"),
        ]
        .into_iter()
        .filter_map(|(present, what)| (!present).then_some(what))
        .collect()
    }
}
