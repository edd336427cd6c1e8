//! Looking at operations, asking for them, cancelling and resuming them.

use std::{sync::Arc, time::Duration};

use freehold_model::{
    Clock, Entropy, Name, OperationId, Uid,
    kinds::{OperationEvent, OperationPhase},
};
use freehold_store::{Batch, ScanToken, StoreHandle};
use futures::Stream;
use jiff::Timestamp;

use crate::{NewOperation, OperationRecord, Requested, Submitted, WorkflowError};

/// Which operations to list. Every part that is given must match.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperationFilter {
    pub target_uid: Option<Uid>,
    pub phase: Option<OperationPhase>,
    pub verb: Option<String>,
    pub environment: Option<Name>,
    pub team: Option<Name>,
}

/// One page of a listing, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationPage {
    pub operations: Vec<OperationRecord>,
    pub next: Option<ScanToken>,
}

/// The product's view of operations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operations {
    store: StoreHandle,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Operations {
    pub fn new(store: StoreHandle, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            store,
            clock,
            entropy,
        }
    }

    /// The writes that start an operation, for the caller to merge into its own batch
    /// ([`Operations::submit`] merges, applies and explains refusals).
    pub async fn request(&self, _new: &NewOperation) -> Result<Requested, WorkflowError> {
        let _ = (&self.store, &self.clock, &self.entropy);
        unimplemented!()
    }

    /// Applies `batch` and the request together. A target that is taken gives
    /// [`WorkflowError::Held`]; other refusals come back as the store's error, with the position
    /// counted in `batch` alone where it was the caller's element. A lost reply is settled by
    /// looking: success here means committed.
    pub async fn submit(
        &self,
        _batch: Batch,
        _requested: Requested,
    ) -> Result<Submitted, WorkflowError> {
        unimplemented!()
    }

    pub async fn get(&self, _id: OperationId) -> Result<Option<OperationRecord>, WorkflowError> {
        unimplemented!()
    }

    /// The operation that holds a target now.
    pub async fn holder(&self, _target_uid: Uid) -> Result<Option<OperationId>, WorkflowError> {
        unimplemented!()
    }

    /// At most `limit` operations. A page may be short although `next` is there.
    pub async fn list(
        &self,
        _filter: &OperationFilter,
        _limit: usize,
        _after: Option<ScanToken>,
    ) -> Result<OperationPage, WorkflowError> {
        unimplemented!()
    }

    /// The history after a sequence (0: from the start), at most `limit` events.
    pub async fn events(
        &self,
        _id: OperationId,
        _after: u64,
        _limit: usize,
    ) -> Result<Vec<OperationEvent>, WorkflowError> {
        unimplemented!()
    }

    /// The history after a sequence, as it grows; ends with the operation's last event.
    pub fn watch(
        &self,
        _id: OperationId,
        _after: u64,
    ) -> impl Stream<Item = Result<OperationEvent, WorkflowError>> + Send + 'static {
        futures::stream::empty()
    }

    /// Waits until the operation has ended and gives its record.
    pub async fn ended(&self, _id: OperationId) -> Result<OperationRecord, WorkflowError> {
        unimplemented!()
    }

    /// Asks to cancel. Whether it is still possible is decided by the worker between two steps, on
    /// the state as it is then; the history tells. Asking again changes nothing.
    pub async fn cancel(
        &self,
        _id: OperationId,
        _by: &str,
    ) -> Result<OperationRecord, WorkflowError> {
        unimplemented!()
    }

    /// Runs a parked operation again from where it stands. A person may also use it to end the
    /// pause of one that retries.
    pub async fn resume(
        &self,
        _id: OperationId,
        _by: &str,
    ) -> Result<OperationRecord, WorkflowError> {
        unimplemented!()
    }

    /// Removes operations that ended before a time, with their events. Returns how many.
    pub async fn purge(&self, _ended_before: Timestamp) -> Result<u64, WorkflowError> {
        unimplemented!()
    }

    /// How often [`Operations::watch`] looks when nothing nudges it.
    pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
}
