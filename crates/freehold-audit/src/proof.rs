//! Proofs about single entries and about growth, for those who do not want to read a whole export.
//!
//! Each proof carries the signed checkpoints that it is about and is checked with the log's public
//! key alone. Making one costs a handful of look-ups, however long the log is: the root of every
//! complete subtree stands in the record of the subtree's last leaf.

use freehold_store::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::{
    Checkpoint, Hash, InvalidCheckpoint, Log, LoggedEntry, VerifyingKey, collections,
    record::CheckpointRecord,
    tree::{self, Node, Span},
};

/// That an entry is in the log which a checkpoint signs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InclusionProof {
    pub entry: LoggedEntry,
    pub path: Vec<Hash>,
    pub checkpoint: Checkpoint,
}

/// That the log of one checkpoint is the beginning of the log of a later one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsistencyProof {
    pub from: Checkpoint,
    pub to: Checkpoint,
    pub path: Vec<Hash>,
}

/// Why a proof does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error("the checkpoint of size {size} is not signed by the log's key")]
    Unsigned {
        size: u64,
        #[source]
        source: InvalidCheckpoint,
    },
    #[error("entry {index} is not the text that its leaf hash was made of")]
    Changed { index: u64 },
    #[error("the path does not lead to the signed root")]
    WrongRoot,
}

impl InclusionProof {
    /// Whether exactly this text is entry `index` of the signed log.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), ProofError> {
        signed(&self.checkpoint, key)?;
        let index = self.entry.index;
        if tree::leaf_hash(self.entry.entry.get().as_bytes()) != self.entry.leaf {
            return Err(ProofError::Changed { index });
        }
        let size = self.checkpoint.size;
        let root = tree::root_from_inclusion(self.entry.leaf, index, size, &self.path);
        if root == Some(self.checkpoint.root) {
            Ok(())
        } else {
            Err(ProofError::WrongRoot)
        }
    }
}

impl ConsistencyProof {
    /// Whether nothing of the older log was changed or removed in the newer one.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), ProofError> {
        signed(&self.from, key)?;
        signed(&self.to, key)?;
        let (from, to) = (&self.from, &self.to);
        let roots = tree::roots_from_consistency(from.size, to.size, from.root, &self.path);
        if roots == Some((from.root, to.root)) {
            Ok(())
        } else {
            Err(ProofError::WrongRoot)
        }
    }
}

fn signed(checkpoint: &Checkpoint, key: &VerifyingKey) -> Result<(), ProofError> {
    checkpoint
        .verify(key)
        .map_err(|source| ProofError::Unsigned {
            size: checkpoint.size,
            source,
        })
}

impl Log {
    /// Proves one entry against the newest checkpoint; none when there is no such entry yet.
    pub async fn inclusion(&self, index: u64) -> Result<Option<InclusionProof>> {
        let Some(checkpoint) = self.checkpoint().await? else {
            return Ok(None);
        };
        if index >= checkpoint.size {
            return Ok(None);
        }
        let entry = self.get(index).await?.ok_or_else(|| missing(index))?;
        let path = self
            .hashes(tree::inclusion_spans(index, checkpoint.size))
            .await?;
        Ok(Some(InclusionProof {
            entry,
            path,
            checkpoint,
        }))
    }

    /// Proves that the log has only grown since `from` was signed; none when `from` is not a size
    /// at which this log was signed.
    pub async fn consistency(&self, from: u64) -> Result<Option<ConsistencyProof>> {
        let Some(to) = self.checkpoint().await? else {
            return Ok(None);
        };
        let Some(from) = self.checkpoint_of_size(from, to.number).await? else {
            return Ok(None);
        };
        let path = self
            .hashes(tree::consistency_spans(from.size, to.size))
            .await?;
        Ok(Some(ConsistencyProof { from, to, path }))
    }

    /// Sizes grow with numbers, so that a search by halves finds the one.
    async fn checkpoint_of_size(&self, size: u64, last: u64) -> Result<Option<Checkpoint>> {
        let (mut low, mut high) = (1, last);
        while low <= high {
            let middle = low + (high - low) / 2;
            let key = collections::numbered(middle);
            let record = self.store.get(&collections::checkpoints(), &key).await?;
            let record = record.ok_or_else(|| {
                Error::corrupt(format!("checkpoint {middle} of the audit log is missing"))
            })?;
            let found = record.value.decode::<CheckpointRecord>()?.checkpoint;
            match found.size.cmp(&size) {
                std::cmp::Ordering::Equal => return Ok(Some(found)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle - 1,
            }
        }
        Ok(None)
    }

    async fn hashes(&self, spans: Vec<Span>) -> Result<Vec<Hash>> {
        let mut hashes = Vec::with_capacity(spans.len());
        for span in spans {
            let mut peaks = Vec::new();
            for node in span.nodes() {
                peaks.push(self.node(node).await?);
            }
            hashes.extend(tree::fold_right(&peaks));
        }
        Ok(hashes)
    }

    async fn node(&self, node: Node) -> Result<Hash> {
        let record = self
            .record(node.last)
            .await?
            .ok_or_else(|| missing(node.last))?;
        let hash = match node.level {
            0 => Some(record.leaf),
            level => record.nodes.get(level as usize - 1).copied(),
        };
        hash.ok_or_else(|| {
            let message = format!("entry {} of the audit log lacks its tree hashes", node.last);
            Error::corrupt(message)
        })
    }
}

fn missing(index: u64) -> Error {
    Error::corrupt(format!("entry {index} of the audit log is missing"))
}
