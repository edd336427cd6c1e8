//! Reading the log: listing, proofs, export.

use freehold_model::{Name, ResourceKey};
use freehold_store::{Result, StoreHandle};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Checkpoint, Exported, Hash, VerifyingKey};

/// Reads one log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    store: StoreHandle,
}

/// Which entries to list. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub team: Option<Name>,
    pub target: Option<ResourceKey>,
    /// Entries that happened at this time or later.
    pub since: Option<Timestamp>,
    /// Entries that happened before this time.
    pub until: Option<Timestamp>,
    pub order: Order,
    /// Entries per page, 1 to 1,000; 100 when 0.
    pub limit: usize,
    /// Where the page before ended; the rest of the query must be the same.
    pub after: Option<Cursor>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// Where a page ended. Opaque; valid while entries are added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub entries: Vec<LoggedEntry>,
    /// Absent on the last page. A page may hold fewer entries than asked for and still have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// One entry with its place in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedEntry {
    /// From 0 without gaps, in the order in which the entries were committed.
    pub index: u64,
    pub leaf: Hash,
    /// The hashed text, byte for byte. Read it as [`crate::Entry`] with [`LoggedEntry::entry`].
    pub entry: Box<RawValue>,
}

/// That an entry is in the log which a checkpoint signs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InclusionProof {
    pub entry: LoggedEntry,
    pub path: Vec<Hash>,
    pub checkpoint: Checkpoint,
}

/// That the log of one checkpoint is a beginning of the log of a later one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsistencyProof {
    pub from: Checkpoint,
    pub to: Checkpoint,
    pub path: Vec<Hash>,
}

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not hold: {0}")]
pub struct ProofError(String);

impl LoggedEntry {
    pub fn entry(&self) -> serde_json::Result<crate::Entry> {
        serde_json::from_str(self.entry.get())
    }
}

impl InclusionProof {
    pub fn verify(&self, _key: &VerifyingKey) -> Result<(), ProofError> {
        unimplemented!()
    }
}

impl ConsistencyProof {
    pub fn verify(&self, _key: &VerifyingKey) -> Result<(), ProofError> {
        unimplemented!()
    }
}

impl Log {
    pub fn new(store: StoreHandle) -> Self {
        Self { store }
    }

    /// The newest signed checkpoint; none while the log is empty.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        unimplemented!()
    }

    pub async fn get(&self, _index: u64) -> Result<Option<LoggedEntry>> {
        unimplemented!()
    }

    /// One page of entries.
    pub async fn list(&self, _query: Query) -> Result<Page> {
        unimplemented!()
    }

    /// Proves one entry against the newest checkpoint; none when there is no such entry yet.
    pub async fn inclusion(&self, _index: u64) -> Result<Option<InclusionProof>> {
        unimplemented!()
    }

    /// Proves that the log has only grown since it had `from` entries; none when there is no
    /// checkpoint of that size.
    pub async fn consistency(&self, _from: u64) -> Result<Option<ConsistencyProof>> {
        unimplemented!()
    }

    /// Writes the whole log as JSON Lines that [`crate::verify`] reads, up to the checkpoint that
    /// is newest when it begins.
    pub async fn export<W>(&self, _key: &VerifyingKey, _out: &mut W) -> std::io::Result<Exported>
    where
        W: tokio::io::AsyncWrite + Unpin + Send,
    {
        let _ = &self.store;
        unimplemented!()
    }
}
