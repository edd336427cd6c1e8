//! The shared handle: one boxed twin of [`Store`], written once.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    ApplyOutcome, Batch, Capabilities, ChangePosition, Changes, CollectionName, CollectionSpec,
    Key, Lease, LeaseName, Page, Record, Result, Scan, Store,
};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The object-safe twin of [`Store`], implemented for every store by one blanket impl.
pub trait DynStore: Send + Sync + 'static {
    fn capabilities(&self) -> &Capabilities;
    fn define(&self, spec: CollectionSpec) -> Boxed<'_, ()>;
    fn drop_index<'a>(&'a self, collection: &'a CollectionName, index: &'a str) -> Boxed<'a, ()>;
    fn get<'a>(&'a self, collection: &'a CollectionName, key: &'a Key)
    -> Boxed<'a, Option<Record>>;
    fn apply(&self, batch: Batch) -> Boxed<'_, ApplyOutcome>;
    fn scan(&self, scan: Scan) -> Boxed<'_, Page>;
    fn changes(&self, after: Option<ChangePosition>, limit: usize) -> Boxed<'_, Changes>;
    fn lease_acquire<'a>(
        &'a self,
        name: &'a LeaseName,
        holder: &'a str,
        ttl: Duration,
    ) -> Boxed<'a, Option<Lease>>;
    fn lease_renew<'a>(&'a self, lease: &'a Lease) -> Boxed<'a, Lease>;
    fn lease_release<'a>(&'a self, lease: &'a Lease) -> Boxed<'a, ()>;
    fn now(&self) -> Boxed<'_, Timestamp>;
    fn purge(&self, keep_changes: Duration) -> Boxed<'_, u64>;
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl<S: Store> DynStore for S {
    fn capabilities(&self) -> &Capabilities {
        Store::capabilities(self)
    }
    fn define(&self, spec: CollectionSpec) -> Boxed<'_, ()> {
        Box::pin(Store::define(self, spec))
    }
    fn drop_index<'a>(&'a self, collection: &'a CollectionName, index: &'a str) -> Boxed<'a, ()> {
        Box::pin(Store::drop_index(self, collection, index))
    }
    fn get<'a>(
        &'a self,
        collection: &'a CollectionName,
        key: &'a Key,
    ) -> Boxed<'a, Option<Record>> {
        Box::pin(Store::get(self, collection, key))
    }
    fn apply(&self, batch: Batch) -> Boxed<'_, ApplyOutcome> {
        Box::pin(Store::apply(self, batch))
    }
    fn scan(&self, scan: Scan) -> Boxed<'_, Page> {
        Box::pin(Store::scan(self, scan))
    }
    fn changes(&self, after: Option<ChangePosition>, limit: usize) -> Boxed<'_, Changes> {
        Box::pin(Store::changes(self, after, limit))
    }
    fn lease_acquire<'a>(
        &'a self,
        name: &'a LeaseName,
        holder: &'a str,
        ttl: Duration,
    ) -> Boxed<'a, Option<Lease>> {
        Box::pin(Store::lease_acquire(self, name, holder, ttl))
    }
    fn lease_renew<'a>(&'a self, lease: &'a Lease) -> Boxed<'a, Lease> {
        Box::pin(Store::lease_renew(self, lease))
    }
    fn lease_release<'a>(&'a self, lease: &'a Lease) -> Boxed<'a, ()> {
        Box::pin(Store::lease_release(self, lease))
    }
    fn now(&self) -> Boxed<'_, Timestamp> {
        Box::pin(Store::now(self))
    }
    fn purge(&self, keep_changes: Duration) -> Boxed<'_, u64> {
        Box::pin(Store::purge(self, keep_changes))
    }
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Store::close(self))
    }
}

/// A store that can be cloned and shared between tasks. Its methods are those of [`DynStore`].
#[derive(Clone)]
pub struct StoreHandle(Arc<dyn DynStore>);

impl StoreHandle {
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }
}

impl std::ops::Deref for StoreHandle {
    type Target = dyn DynStore;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StoreHandle")
            .field(&self.0.capabilities().adapter)
            .finish()
    }
}
