//! The interface itself.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Capabilities, ChangePosition, Changes, CollectionName, Etag, Key, Lease, LeaseName, Page,
    Record, Result, Scan, Value,
};

/// What every adapter does. Users hold a [`crate::StoreHandle`].
///
/// No method has a default body: a layer that forgets one does not compile. Dropping a future of
/// [`Store::apply`] may leave its outcome undetermined, nothing worse.
pub trait Store: Send + Sync + 'static {
    fn capabilities(&self) -> &Capabilities;

    /// Makes sure that a collection with at least these indexes exists. An index that is new is
    /// built from the records that are there, in the same atomic step. Indexes of the stored
    /// definition that are not named here stay and are maintained by everyone: another version of
    /// the program may need them. Fails as `Config` when an index of the same name and version has
    /// other fields.
    fn define(&self, spec: CollectionSpec) -> impl Future<Output = Result<()>> + Send;

    /// Removes an index from the definition, for good.
    fn drop_index(
        &self,
        collection: &CollectionName,
        index: &str,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The record, or nothing when it is absent or has expired. Sees all acknowledged writes.
    fn get(
        &self,
        collection: &CollectionName,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Record>>> + Send;

    /// All of the batch, or nothing of it. Fails with the position of the element that was refused.
    fn apply(&self, batch: Batch) -> impl Future<Output = Result<ApplyOutcome>> + Send;

    fn scan(&self, scan: Scan) -> impl Future<Output = Result<Page>> + Send;

    /// What was committed after a position (`None`: from the oldest that is kept), at most `limit`
    /// changes. Empty when there is nothing new. `Compacted` when `after` is older than what is kept.
    fn changes(
        &self,
        after: Option<ChangePosition>,
        limit: usize,
    ) -> impl Future<Output = Result<Changes>> + Send;

    /// Grants the lease if nobody holds it; `None` when somebody does. A holder that asks again for
    /// what it holds gets it with a new epoch.
    fn lease_acquire(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<Option<Lease>>> + Send;

    /// Extends a lease that is still held; `VersionMismatch` when it was lost.
    fn lease_renew(&self, lease: &Lease) -> impl Future<Output = Result<Lease>> + Send;

    /// Gives a lease back. No error when it was lost already.
    fn lease_release(&self, lease: &Lease) -> impl Future<Output = Result<()>> + Send;

    /// The time on the store's clock, which is what leases and expiry run on.
    fn now(&self) -> impl Future<Output = Result<Timestamp>> + Send;

    /// Removes expired records and changes older than `keep_changes`. Returns how many records went.
    fn purge(&self, keep_changes: Duration) -> impl Future<Output = Result<u64>> + Send;

    /// Waits for the calls that are under way, then gives back what the store holds: files,
    /// connections, threads. Afterwards its files may be copied, renamed or removed. Calls that come
    /// later, on any clone, fail as `Unavailable`; closing again does nothing. Dropping the last
    /// handle gives everything back too, but waits for nothing. A store in memory holds nothing and
    /// stays open.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// The definition of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSpec {
    pub name: CollectionName,
    pub indexes: Vec<IndexSpec>,
}

/// An index over top-level or nested fields, given as RFC 6901 JSON pointers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSpec {
    /// Same rules as a collection name.
    pub name: String,
    pub fields: Vec<String>,
    pub unique: bool,
    /// Raise it to change `fields` or `unique`; the index is then rebuilt. A lower version than the
    /// stored one leaves the stored one in place.
    pub version: u32,
}

/// Writes and what must hold for them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    pub preconditions: Vec<Precondition>,
    /// Each key at most once.
    pub writes: Vec<Write>,
}

/// Something that must be true of what the batch does not write.
#[derive(Debug, Clone, PartialEq)]
pub enum Precondition {
    Unchanged {
        collection: CollectionName,
        key: Key,
        etag: Etag,
    },
    Absent {
        collection: CollectionName,
        key: Key,
    },
    /// The lease is held under this epoch and has not run out on the store's clock.
    LeaseHeld { name: LeaseName, epoch: u64 },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Put {
        collection: CollectionName,
        key: Key,
        value: Value,
        mode: PutMode,
        expires_at: Option<Timestamp>,
    },
    Delete {
        collection: CollectionName,
        key: Key,
        mode: DeleteMode,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    Upsert,
    /// `AlreadyExists` when the record is there (and has not expired).
    Create,
    /// `VersionMismatch` when the record is absent or has another etag.
    Match(Etag),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteMode {
    /// Whether or not it is there.
    Any,
    /// `VersionMismatch` when it is absent.
    MustExist,
    /// `VersionMismatch` when it is absent or has another etag.
    Match(Etag),
}

/// The etags that the batch gave, one per write; `None` for deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyOutcome {
    pub etags: Vec<Option<Etag>>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn require(mut self, precondition: Precondition) -> Self {
        self.preconditions.push(precondition);
        self
    }

    #[must_use]
    pub fn put(
        mut self,
        collection: &CollectionName,
        key: Key,
        value: Value,
        mode: PutMode,
    ) -> Self {
        let collection = collection.clone();
        self.writes.push(Write::Put {
            collection,
            key,
            value,
            mode,
            expires_at: None,
        });
        self
    }

    #[must_use]
    pub fn delete(mut self, collection: &CollectionName, key: Key, mode: DeleteMode) -> Self {
        self.writes.push(Write::Delete {
            collection: collection.clone(),
            key,
            mode,
        });
        self
    }
}
