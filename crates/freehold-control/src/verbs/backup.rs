//! `freehold admin backup` and `restore`: the store, the audit log included, as one archive.
//!
//! The archive is JSON Lines: a header, one line per record, and a closing line with the count, so
//! that a truncated archive is noticed before anything is restored. Secrets in it are sealed; the
//! key-encryption key is not in it and must be kept elsewhere.
//!
//! A backup is taken while others write. Records are read collection by collection, the audit log
//! last, so every change in the archive has its entry there or stands among the pending ones; but
//! it is not one instant. What may be half there (an operation begun during the backup) is settled
//! by the operations themselves, which look before they act.

use std::{future::Future, io};

use freehold_model::{Error, Result};
use freehold_store::{Batch, CollectionName, Key, PutMode, Range, Scan, StoreHandle, Value, Write};
use futures::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::{
    Caller,
    authorize::{Action, Context},
    identity,
    records::{self, own_collection, store_error},
    start::Control,
};

const FORMAT: &str = "freehold-backup-1";
const RECORDS_PER_BATCH: usize = 200;
const STREAM_BUFFER_BYTES: usize = 256 * 1024;

#[derive(Debug, Serialize, Deserialize)]
// Tagged from outside: a tag within would have serde copy the raw JSON of values, which it cannot.
#[serde(rename_all = "camelCase")]
enum Line {
    #[serde(rename_all = "camelCase")]
    Header {
        format: String,
        taken_at: Timestamp,
        version: String,
    },
    #[serde(rename_all = "camelCase")]
    Record {
        collection: CollectionName,
        key: Key,
        value: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    Footer {
        records: u64,
    },
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    pub records: u64,
    pub taken_at: Timestamp,
}

/// Collections in the order in which they are saved. Leases and the change feed belong to a store,
/// not to its content.
fn collections() -> Vec<CollectionName> {
    let mut names: Vec<CollectionName> = records::STORED.map(records::collection).into();
    let own = [
        "system",
        "sealing",
        "credentials",
        "tokens",
        "token_subjects",
        "token_bootstrap",
        "allocations",
        "bundles",
        "bundle_chunks",
        "migration_histories",
        "operations",
        "operation_events",
        "claims",
        "product_events",
    ];
    names.extend(own.map(own_collection));
    names.extend(freehold_audit::collections());
    names
}

impl Control {
    pub async fn backup(
        &self,
        caller: &Caller,
    ) -> Result<impl Stream<Item = Result<Vec<u8>>> + Send + 'static> {
        let allowed = Self::allow(caller, Action::Backup, None, &Context::default());
        self.recorded(caller, "admin.backup", None, allowed).await?;
        let entry = self.journal.by(caller, "admin.backup", None);
        let batch = Batch {
            writes: vec![self.journal.write(&entry)],
            ..Batch::new()
        };
        self.store.apply(batch).await.map_err(store_error)?;
        let control = self.clone();
        Ok(stream_of(move |mut out| async move {
            let taken_at = control.clock.now();
            write_archive(&control.store, taken_at, &mut out).await
        }))
    }
}

async fn write_archive(
    store: &StoreHandle,
    taken_at: Timestamp,
    out: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    put_line(
        out,
        &Line::Header {
            format: FORMAT.to_owned(),
            taken_at,
            version,
        },
    )
    .await?;
    let mut count = 0;
    for collection in collections() {
        let mut scan = Scan {
            limit: 500,
            ..Scan::new(collection.clone(), Range::All)
        };
        loop {
            let page = store.scan(scan.clone()).await.map_err(io::Error::other)?;
            for record in page.records {
                let line = Line::Record {
                    collection: collection.clone(),
                    key: record.key,
                    value: record.value,
                    expires_at: record.expires_at,
                };
                put_line(out, &line).await?;
                count += 1;
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => break,
            }
        }
    }
    put_line(out, &Line::Footer { records: count }).await?;
    out.flush().await
}

async fn put_line(out: &mut (impl AsyncWrite + Unpin), line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    out.write_all(&text).await
}

/// Restores an archive into an empty store. The archive is read to its end before the first record
/// is written. The control plane's epochs are raised, which tells the servers that this store counts
/// from now on.
pub async fn restore(
    store: &StoreHandle,
    archive: impl AsyncRead + Unpin + Send,
) -> Result<RestoreReport> {
    refuse_unless_empty(store).await?;
    // The log is put in order at the end, which reads it by its indexes.
    freehold_audit::define(store).await.map_err(store_error)?;
    let mut lines = BufReader::new(archive);
    let mut text = String::new();
    let mut writes: Vec<Write> = Vec::new();
    let mut taken_at = None;
    let mut ended = None;
    while (&mut lines)
        .take(u64::MAX)
        .read_line(&mut text)
        .await
        .map_err(unreadable)?
        > 0
    {
        let line: Line = serde_json::from_str(&text).map_err(unreadable)?;
        text.clear();
        match line {
            Line::Header {
                format,
                taken_at: at,
                ..
            } if format == FORMAT => taken_at = Some(at),
            Line::Header { format, .. } => {
                return Err(
                    Error::invalid(format!("the archive has the format {format:?}"))
                        .hint(format!("This version of Freehold reads {FORMAT}.")),
                );
            }
            Line::Record {
                collection,
                key,
                value,
                expires_at,
            } => {
                let system = collection == identity::system_collection();
                let value = if system {
                    identity::with_raised_epochs(&value)?
                } else {
                    value
                };
                let mode = PutMode::Create;
                writes.push(Write::Put {
                    collection,
                    key,
                    value,
                    mode,
                    expires_at,
                });
            }
            Line::Footer { records } => ended = Some(records),
        }
    }
    let (Some(taken_at), Some(records)) = (taken_at, ended) else {
        return Err(truncated());
    };
    if records != writes.len() as u64 {
        return Err(truncated());
    }
    for part in writes.chunks(RECORDS_PER_BATCH) {
        let batch = Batch {
            writes: part.to_vec(),
            ..Batch::new()
        };
        store.apply(batch).await.map_err(store_error)?;
    }
    freehold_audit::settle(store).await.map_err(store_error)?;
    Ok(RestoreReport { records, taken_at })
}

async fn refuse_unless_empty(store: &StoreHandle) -> Result<()> {
    for collection in collections() {
        // Collections that a start makes may be missing in a new store: defining is idempotent.
        let spec = freehold_store::CollectionSpec {
            name: collection.clone(),
            indexes: vec![],
        };
        store.define(spec).await.map_err(store_error)?;
        let scan = Scan {
            limit: 1,
            ..Scan::new(collection.clone(), Range::All)
        };
        let page = store.scan(scan).await.map_err(store_error)?;
        if !page.records.is_empty() {
            return Err(Error::conflict(format!(
                "the store is not empty: {collection} has records"
            ))
            .hint("Restore into a new store, then point the server at it."));
        }
    }
    Ok(())
}

fn unreadable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::invalid("the archive cannot be read")
        .hint("Nothing was changed.")
        .because(source)
}

fn truncated() -> Error {
    Error::invalid("the archive is not complete: its closing line is missing or counts otherwise")
        .hint("Nothing was changed. Take another copy of the backup.")
}

/// Runs a writer and gives what it writes as a stream of pieces. An error ends the stream with it,
/// so that a reader can tell an incomplete answer.
pub(crate) fn stream_of<F>(
    write: impl FnOnce(tokio::io::DuplexStream) -> F,
) -> impl Stream<Item = Result<Vec<u8>>> + Send + 'static
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(STREAM_BUFFER_BYTES);
    let writer = tokio::spawn(write(near));
    futures::stream::unfold((far, Some(writer)), |(mut far, writer)| async move {
        let mut piece = vec![0; 64 * 1024];
        match far.read(&mut piece).await {
            Ok(0) => match writer?.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    let error = Error::internal("writing an archive", error);
                    Some((Err(error), (far, None)))
                }
                Err(error) => {
                    let error = Error::internal("writing an archive", error);
                    Some((Err(error), (far, None)))
                }
            },
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(piece), (far, writer)))
            }
            Err(error) => {
                let error = Error::internal("writing an archive", error);
                Some((Err(error), (far, None)))
            }
        }
    })
}
