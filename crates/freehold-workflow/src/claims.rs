//! A reconciler's exclusive pass over a target.
//!
//! A pass takes the same lease as an operation's worker, so the two never act on one target at
//! once and their epochs fence each other in the servers. What a pass saves demands in addition that
//! no operation has claimed the target meanwhile.

use std::{sync::Arc, time::Duration};

use freehold_model::{Entropy, Gate, Uid};
use freehold_store::{ApplyOutcome, Batch, Precondition, StoreHandle};
use tokio_util::sync::CancellationToken;

/// Hands out passes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Claims {
    store: StoreHandle,
    entropy: Arc<dyn Entropy>,
    gate: Gate,
    lease_ttl: Duration,
}

impl Claims {
    pub fn new(
        store: StoreHandle,
        entropy: Arc<dyn Entropy>,
        gate: Gate,
        lease_ttl: Duration,
    ) -> Self {
        Self {
            store,
            entropy,
            gate,
            lease_ttl,
        }
    }

    /// The right to observe and repair a target; `None` when an operation holds it or somebody else
    /// is at work. `actor` names the reconciler: `reconcile-database`.
    pub async fn pass(
        &self,
        _target_uid: Uid,
        _actor: &str,
    ) -> Result<Option<Pass>, freehold_store::Error> {
        let _ = (&self.store, &self.entropy, &self.gate, &self.lease_ttl);
        unimplemented!()
    }
}

/// Why a pass could not save.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// An operation has claimed the target, or the lease is gone. Drop everything.
    #[error("the target is not this pass's any more")]
    Lost,
    /// An element of the batch was refused, or the store is in trouble. `Undetermined` means that
    /// it may have been saved: the next pass looks.
    #[error("what a pass found out could not be saved")]
    Store(#[from] freehold_store::Error),
}

/// Held while a reconciler works on a target; renews itself.
#[derive(Debug)]
pub struct Pass {
    target_uid: Uid,
    epoch: u64,
    gate: Gate,
    lost: CancellationToken,
}

impl Pass {
    pub fn target_uid(&self) -> Uid {
        self.target_uid
    }

    /// The fence's epoch, for every effect inside a server.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// For the fault points around effects.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Cancelled when the lease is lost.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// What every batch of this pass must demand: the lease is held and no operation has claimed
    /// the target. A batch that itself creates the claim (the pass enqueues an operation) demands
    /// the lease only; [`Pass::save`] knows that.
    pub fn preconditions(&self) -> Vec<Precondition> {
        unimplemented!()
    }

    /// Applies a batch under the pass's preconditions, between the fault points `save <actor>`.
    pub async fn save(&self, _batch: Batch) -> Result<ApplyOutcome, PassError> {
        unimplemented!()
    }

    /// Gives the target back. Dropping the pass does the same in the background.
    pub async fn finish(self) {}
}
