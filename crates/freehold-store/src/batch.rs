//! What every adapter does to a batch before it touches the store: limits, each key at most once,
//! index entries, nonces; and the words of a refusal, the same everywhere.
//!
//! Adapters refuse in one order, so that the same batch on the same state fails in the same way
//! everywhere: preconditions as listed, then the modes of the writes as listed, then unique indexes
//! (by write, then by index name).

use std::{collections::HashSet, time::Duration};

use freehold_model::Entropy;
use jiff::Timestamp;

use crate::{
    Batch, Capabilities, CollectionName, DeleteMode, Error, ErrorKind, Etag, Key, Lease, LeaseName,
    Precondition, PutMode, Result, Write,
    index::{Definitions, Entry, entries_of},
};

/// All values of one batch together.
const BATCH_BYTES_MAX: usize = 32 << 20;
/// Shared by the adapters of this crate.
pub(crate) const VALUE_BYTES_MAX: usize = 8 << 20;
pub(crate) const WRITES_PER_BATCH_MAX: usize = 20_000;
const HOLDER_BYTES_MAX: usize = 1024;

/// A batch that is right in itself, with all that can be known about it outside the transaction.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) batch: Batch,
    /// The version of the definitions that `entries` were made by.
    pub(crate) definitions: u64,
    /// Per write; empty for deletes.
    pub(crate) entries: Vec<Vec<Entry>>,
    /// Per write, fresh for this attempt.
    pub(crate) nonces: Vec<[u8; 16]>,
}

impl Prepared {
    pub(crate) fn new(
        batch: Batch,
        limits: &Capabilities,
        definitions: &Definitions,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        validate(&batch, limits)?;
        let mut random = vec![0; batch.writes.len() * 16];
        entropy.fill(&mut random);
        let mut prepared = Self {
            batch,
            definitions: 0,
            entries: Vec::new(),
            nonces: random.as_chunks::<16>().0.to_vec(),
        };
        prepared.extract(definitions)?;
        Ok(prepared)
    }

    /// Makes the index entries by these definitions; again when others have come since.
    pub(crate) fn extract(&mut self, definitions: &Definitions) -> Result<()> {
        let first = self.batch.preconditions.len();
        self.definitions = definitions.version;
        self.entries = self
            .batch
            .writes
            .iter()
            .enumerate()
            .map(|(at, write)| match write {
                Write::Put {
                    collection, value, ..
                } => entries_of(definitions, collection, value).map_err(|e| e.at(first + at)),
                Write::Delete { .. } => Ok(Vec::new()),
            })
            .collect::<Result<_>>()?;
        Ok(())
    }
}

fn validate(batch: &Batch, limits: &Capabilities) -> Result<()> {
    let most = limits.writes_per_batch_max;
    for (what, count) in [
        ("writes", batch.writes.len()),
        ("preconditions", batch.preconditions.len()),
    ] {
        if count > most {
            return Err(Error::too_large(format!(
                "a batch of {count} {what} ({most} at most)"
            )));
        }
    }
    let first = batch.preconditions.len();
    let mut seen = HashSet::with_capacity(batch.writes.len());
    let mut bytes = 0;
    for (at, write) in batch.writes.iter().enumerate() {
        let (collection, key) = write.target();
        if !seen.insert((collection, key)) {
            return Err(
                Error::invalid(format!("the batch writes {collection}/{key} twice")).at(first + at),
            );
        }
        if let Write::Put { value, .. } = write {
            let length = value.text().len();
            bytes += length;
            if length > limits.value_bytes_max {
                return Err(Error::too_large(format!(
                    "the value of {collection}/{key} takes {length} bytes ({} at most)",
                    limits.value_bytes_max
                ))
                .at(first + at));
            }
        }
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(Error::too_large(format!(
            "the values of one batch take {bytes} bytes together ({BATCH_BYTES_MAX} at most)"
        )));
    }
    Ok(())
}

impl Write {
    /// Which record is written.
    pub fn target(&self) -> (&CollectionName, &Key) {
        match self {
            Self::Put {
                collection, key, ..
            }
            | Self::Delete {
                collection, key, ..
            } => (collection, key),
        }
    }

    /// Whether the mode allows the write, given the etag of the live record.
    pub(crate) fn permitted(&self, current: Option<&Etag>) -> Result<()> {
        let (collection, key) = self.target();
        match self {
            Self::Put { mode, .. } => match (mode, current) {
                (PutMode::Upsert, _) | (PutMode::Create, None) => Ok(()),
                (PutMode::Create, Some(_)) => Err(already_exists(collection, key)),
                (PutMode::Match(wanted), Some(found)) if wanted == found => Ok(()),
                (PutMode::Match(_), _) => Err(changed(collection, key, current)),
            },
            Self::Delete { mode, .. } => match (mode, current) {
                (DeleteMode::Any, _) | (DeleteMode::MustExist, Some(_)) => Ok(()),
                (DeleteMode::Match(wanted), Some(found)) if wanted == found => Ok(()),
                (DeleteMode::MustExist | DeleteMode::Match(_), _) => {
                    Err(changed(collection, key, current))
                }
            },
        }
    }
}

/// `Precondition::Unchanged` and `Absent`, given the etag of the live record.
pub(crate) fn holds(precondition: &Precondition, current: Option<&Etag>) -> Result<()> {
    match precondition {
        Precondition::Unchanged {
            collection,
            key,
            etag,
        } => match current {
            Some(found) if found == etag => Ok(()),
            _ => Err(changed(collection, key, current)),
        },
        Precondition::Absent { collection, key } => match current {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::VersionMismatch,
                format!("record {collection}/{key} exists, and the batch demands that it does not"),
            )),
        },
        Precondition::LeaseHeld { .. } => Ok(()),
    }
}

pub(crate) fn already_exists(collection: &CollectionName, key: &Key) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("record {collection}/{key} exists already"),
    )
}

pub(crate) fn changed(collection: &CollectionName, key: &Key, current: Option<&Etag>) -> Error {
    let message = match current {
        None => format!("record {collection}/{key} is not there (any more)"),
        Some(etag) => format!("record {collection}/{key} has changed; its etag is now {etag}"),
    };
    Error::new(ErrorKind::VersionMismatch, message)
}

pub(crate) fn unique_taken(collection: &CollectionName, index: &str, owner: &str) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!(
            "unique index {index:?} of collection {collection} has this value already, in record \
             {owner:?}"
        ),
    )
}

pub(crate) fn lease_lost(name: &LeaseName, epoch: u64) -> Error {
    Error::new(
        ErrorKind::VersionMismatch,
        format!(
            "lease {:?} is not held under epoch {epoch} any more",
            name.as_str()
        ),
    )
}

/// The end of a lease that begins now.
pub(crate) fn lease_end(now: Timestamp, holder: &str, ttl: Duration) -> Result<Timestamp> {
    if holder.is_empty() || holder.len() > HOLDER_BYTES_MAX || holder.contains('\0') {
        return Err(Error::invalid(format!(
            "a lease holder is 1 to {HOLDER_BYTES_MAX} bytes of text without NUL"
        )));
    }
    // Stores keep microseconds; a shorter lease would end before it begins.
    if ttl < Duration::from_millis(1) {
        return Err(Error::invalid("a lease lasts at least one millisecond"));
    }
    now.checked_add(ttl)
        .map(truncate)
        .map_err(|source| Error::invalid("a lease that long has no end").because(source))
}

/// Renewing needs the same checks as acquiring.
pub(crate) fn renewed(lease: &Lease, now: Timestamp) -> Result<Lease> {
    Ok(Lease {
        until: lease_end(now, &lease.holder, lease.ttl)?,
        ..lease.clone()
    })
}

/// Stores keep whole microseconds.
pub(crate) fn truncate(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// The feed has nothing before `kept` any more.
pub(crate) fn compacted(after: u64, trimmed: u64) -> Error {
    Error::new(
        ErrorKind::Compacted,
        format!(
            "the change feed reaches back to position {trimmed} and not to {after}; read the \
             records anew, then follow the feed from there"
        ),
    )
}

/// A position that this feed has not reached: the reader knows another or a later store.
pub(crate) fn ahead(after: u64, last: u64) -> Error {
    Error::new(
        ErrorKind::Compacted,
        format!(
            "the change feed ends at position {last} and has never reached {after}: this is another \
             store, or an older state of it; read the records anew, then follow the feed from there"
        ),
    )
}
