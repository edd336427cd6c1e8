//! A store that loses requests and replies.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use freehold_store::{
    ApplyOutcome, Batch, Capabilities, ChangePosition, Changes, CollectionName, CollectionSpec,
    Error, ErrorKind, Key, Lease, LeaseName, Page, Record, Result, Scan, Store, StoreHandle,
};
use jiff::Timestamp;

/// What happens to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Applied,
    /// It never arrives.
    RequestLost,
    /// It is applied, but nobody is told.
    ReplyLost,
    /// It arrives only after the next batch: a server was slow.
    Late,
}

/// Applies batches by fate; everything else goes through.
#[derive(Clone)]
pub struct FlakyStore {
    inner: StoreHandle,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    late: Arc<Mutex<Vec<Batch>>>,
    /// How often the feed says that it no longer reaches back.
    pub compacted: Arc<Mutex<u32>>,
}

impl FlakyStore {
    pub fn new(inner: StoreHandle) -> Self {
        Self {
            inner,
            fates: Arc::default(),
            late: Arc::default(),
            compacted: Arc::default(),
        }
    }

    fn take_compaction(&self) -> bool {
        let mut left = self.compacted.lock().unwrap();
        let taken = *left > 0;
        *left = left.saturating_sub(1);
        taken
    }

    pub fn plan(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(fates);
    }
}

fn undetermined() -> Error {
    Error::new(ErrorKind::Undetermined, "the connection broke")
}

impl Store for FlakyStore {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, batch: Batch) -> Result<ApplyOutcome> {
        let fate = self
            .fates
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Fate::Applied);
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let outcome = match fate {
            Fate::Applied => self.inner.apply(batch).await,
            Fate::RequestLost => Err(undetermined()),
            Fate::ReplyLost => self.inner.apply(batch).await.and(Err(undetermined())),
            Fate::Late => {
                self.late.lock().unwrap().push(batch);
                Err(undetermined())
            }
        };
        for batch in late {
            // Whether it still fits is for the store to say.
            drop(self.inner.apply(batch).await);
        }
        outcome
    }

    async fn changes(&self, after: Option<ChangePosition>, limit: usize) -> Result<Changes> {
        if after.is_some() && self.take_compaction() {
            return Err(Error::new(ErrorKind::Compacted, "too old"));
        }
        self.inner.changes(after, limit).await
    }

    async fn define(&self, spec: CollectionSpec) -> Result<()> {
        self.inner.define(spec).await
    }

    async fn drop_index(&self, collection: &CollectionName, index: &str) -> Result<()> {
        self.inner.drop_index(collection, index).await
    }

    async fn get(&self, collection: &CollectionName, key: &Key) -> Result<Option<Record>> {
        self.inner.get(collection, key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.inner.scan(scan).await
    }

    async fn lease_acquire(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>> {
        self.inner.lease_acquire(name, holder, ttl).await
    }

    async fn lease_renew(&self, lease: &Lease) -> Result<Lease> {
        self.inner.lease_renew(lease).await
    }

    async fn lease_release(&self, lease: &Lease) -> Result<()> {
        self.inner.lease_release(lease).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }

    async fn purge(&self, keep_changes: Duration) -> Result<u64> {
        self.inner.purge(keep_changes).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
