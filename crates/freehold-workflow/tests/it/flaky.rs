//! A store whose network is bad on command.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use freehold_store::{
    ApplyOutcome, Batch, Capabilities, ChangePosition, Changes, CollectionName, CollectionSpec,
    Error, ErrorKind, Key, Lease, LeaseName, Page, Record, Result, Scan, Store, StoreHandle,
};
use jiff::Timestamp;

#[derive(Debug, Default)]
pub(crate) struct Weather {
    pub(crate) offline: AtomicBool,
    /// So many of the next batches are applied, but the reply is lost.
    pub(crate) replies_lost: AtomicU32,
    /// So many of the next batches are lost on the way, and nobody knows.
    pub(crate) requests_lost: AtomicU32,
    /// So many of the next batches are applied, but the call never returns.
    pub(crate) replies_stuck: AtomicU32,
}

impl Weather {
    fn check(&self) -> Result<()> {
        if self.offline.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "offline for the test"));
        }
        Ok(())
    }

    fn take(counter: &AtomicU32) -> bool {
        counter
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}

#[derive(Debug)]
pub(crate) struct Flaky {
    pub(crate) inner: StoreHandle,
    pub(crate) weather: Arc<Weather>,
}

impl Store for Flaky {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn define(&self, spec: CollectionSpec) -> Result<()> {
        self.weather.check()?;
        self.inner.define(spec).await
    }

    async fn drop_index(&self, collection: &CollectionName, index: &str) -> Result<()> {
        self.weather.check()?;
        self.inner.drop_index(collection, index).await
    }

    async fn get(&self, collection: &CollectionName, key: &Key) -> Result<Option<Record>> {
        self.weather.check()?;
        self.inner.get(collection, key).await
    }

    async fn apply(&self, batch: Batch) -> Result<ApplyOutcome> {
        self.weather.check()?;
        let unknown = || Error::new(ErrorKind::Undetermined, "lost for the test");
        if Weather::take(&self.weather.requests_lost) {
            return Err(unknown());
        }
        let outcome = self.inner.apply(batch).await?;
        if Weather::take(&self.weather.replies_lost) {
            return Err(unknown());
        }
        if Weather::take(&self.weather.replies_stuck) {
            std::future::pending::<()>().await;
        }
        Ok(outcome)
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.weather.check()?;
        self.inner.scan(scan).await
    }

    async fn changes(&self, after: Option<ChangePosition>, limit: usize) -> Result<Changes> {
        self.weather.check()?;
        self.inner.changes(after, limit).await
    }

    async fn lease_acquire(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>> {
        self.weather.check()?;
        self.inner.lease_acquire(name, holder, ttl).await
    }

    async fn lease_renew(&self, lease: &Lease) -> Result<Lease> {
        self.weather.check()?;
        self.inner.lease_renew(lease).await
    }

    async fn lease_release(&self, lease: &Lease) -> Result<()> {
        self.weather.check()?;
        self.inner.lease_release(lease).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.weather.check()?;
        self.inner.now().await
    }

    async fn purge(&self, keep_changes: Duration) -> Result<u64> {
        self.inner.purge(keep_changes).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
