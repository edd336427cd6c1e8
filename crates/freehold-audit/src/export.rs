//! The export: the whole log as JSON Lines, made to be checked without the server.
//!
//! ```text
//! {"freehold-audit-export":1,"key":"origin+hash+base64"}
//! {"index":0,"leaf":"base64","entry":{…}}
//! {"index":1,"leaf":"base64","entry":{…}}
//! {"checkpoint":"origin\n2\n…","edge":["base64"]}
//! {"end":{"entries":2,"checkpoints":1}}
//! ```
//!
//! The text of `entry` is hashed exactly as it stands. A checkpoint follows the last entry that it
//! covers; its `edge`, which hashes to the signed root, lets a verifier go on after a damaged part.
//! Every line has exactly one spelling and nothing in it is without protection: times and counts
//! that nobody signed are left out, so there is no byte that could be changed unnoticed.

use freehold_store::{Range, Scan};
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::{Checkpoint, Hash, Log, VerifyingKey, collections, record::CheckpointRecord};

/// Entries that are read at once.
const PAGE: u64 = 500;

/// What an export held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub entries: u64,
    pub checkpoints: u64,
}

impl Log {
    /// Writes the whole log, up to the checkpoint that is newest when it begins, as JSON Lines that
    /// [`crate::verify`] reads. Holds one page in memory, however long the log is.
    pub async fn export<W>(&self, key: &VerifyingKey, out: &mut W) -> std::io::Result<Exported>
    where
        W: AsyncWrite + Unpin + Send + ?Sized,
    {
        out.write_all(header_line(key).as_bytes()).await?;
        let last = self.checkpoint().await.map_err(std::io::Error::other)?;
        let checkpoints = last.map_or(0, |last| last.number);
        let mut done = Exported {
            entries: 0,
            checkpoints: 0,
        };
        let mut scan = Scan::new(collections::checkpoints(), Range::All);
        while done.checkpoints < checkpoints {
            let page = self
                .store
                .scan(scan.clone())
                .await
                .map_err(std::io::Error::other)?;
            for record in &page.records {
                let record = record.value.decode().map_err(std::io::Error::other)?;
                self.export_part(&record, &mut done, out).await?;
                if done.checkpoints == checkpoints {
                    break;
                }
            }
            if page.next.is_none() {
                break;
            }
            scan.after = page.next;
        }
        out.write_all(end_line(done.entries, done.checkpoints).as_bytes())
            .await?;
        out.flush().await?;
        Ok(done)
    }

    /// The entries up to a checkpoint, and the checkpoint. What is missing in the store is missing
    /// in the export: finding that is the verifier's business.
    async fn export_part<W>(
        &self,
        record: &CheckpointRecord,
        done: &mut Exported,
        out: &mut W,
    ) -> std::io::Result<()>
    where
        W: AsyncWrite + Unpin + Send + ?Sized,
    {
        let size = record.checkpoint.size;
        while done.entries < size {
            let end = size.min(done.entries + PAGE);
            let entries = self
                .records(done.entries, end)
                .await
                .map_err(std::io::Error::other)?;
            let mut lines = String::new();
            for entry in entries {
                lines.push_str(&entry_line(entry.index, &entry.leaf, entry.entry.get()));
            }
            out.write_all(lines.as_bytes()).await?;
            done.entries = end;
        }
        let line = checkpoint_line(&record.checkpoint, record.edge.peaks());
        out.write_all(line.as_bytes()).await?;
        done.checkpoints += 1;
        Ok(())
    }
}

pub(crate) fn header_line(key: &VerifyingKey) -> String {
    format!(
        "{{\"freehold-audit-export\":1,\"key\":{}}}\n",
        quoted(&key.to_string())
    )
}

/// A line up to its entry.
pub(crate) fn entry_prefix(index: u64, leaf: &str) -> String {
    format!("{{\"index\":{index},\"leaf\":\"{leaf}\",\"entry\":")
}

pub(crate) fn entry_line(index: u64, leaf: &Hash, entry: &str) -> String {
    format!("{}{entry}}}\n", entry_prefix(index, &leaf.to_string()))
}

pub(crate) fn checkpoint_line(checkpoint: &Checkpoint, peaks: &[Hash]) -> String {
    let peaks = peaks
        .iter()
        .map(|peak| format!("\"{peak}\""))
        .collect::<Vec<_>>();
    let note = quoted(checkpoint.note());
    format!("{{\"checkpoint\":{note},\"edge\":[{}]}}\n", peaks.join(","))
}

pub(crate) fn end_line(entries: u64, checkpoints: u64) -> String {
    format!("{{\"end\":{{\"entries\":{entries},\"checkpoints\":{checkpoints}}}}}\n")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
