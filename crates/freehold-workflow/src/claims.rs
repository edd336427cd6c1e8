//! A reconciler's exclusive pass over a target.
//!
//! A pass takes the same lease as an operation's worker, so the two never act on one target at
//! once and their epochs fence each other in the servers. What a pass saves demands in addition that
//! no operation has claimed the target meanwhile: an operation is requested without asking the pass,
//! waits for the lease, and the pass finds out when it saves.

use std::{sync::Arc, time::Duration};

use freehold_model::{Entropy, Gate, Uid};
use freehold_store::{ApplyOutcome, Batch, Error, ErrorKind, Precondition, StoreHandle, Write};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{context::target_lease, held::Held, record, saver::claim_absent};

/// Hands out passes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Claims {
    store: StoreHandle,
    entropy: Arc<dyn Entropy>,
    gate: Gate,
    lease_ttl: Duration,
    /// Targets that dropped passes are giving back.
    returning: TaskTracker,
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
            returning: TaskTracker::new(),
        }
    }

    /// Waits until the targets of all dropped passes are given back, so that whoever comes next need not
    /// wait for their leases to lapse. To be called at the end, when no more passes are taken.
    pub async fn returned(&self) {
        self.returning.close();
        self.returning.wait().await;
    }

    /// The right to observe and repair a target; `None` when an operation holds it or somebody else
    /// is at work. `actor` names the reconciler: `reconcile-database`.
    pub async fn pass(&self, target_uid: Uid, actor: &str) -> Result<Option<Pass>, Error> {
        // Looking first keeps a busy target's lease free for its operation.
        if self.is_claimed(target_uid).await? {
            return Ok(None);
        }
        let lease = target_lease(target_uid);
        let held = Held::acquire(&self.store, &lease, actor, self.lease_ttl, &*self.entropy);
        let Some(held) = held.await? else {
            return Ok(None);
        };
        match self.is_claimed(target_uid).await {
            Ok(false) => Ok(Some(Pass {
                target_uid,
                actor: actor.to_owned(),
                gate: self.gate.clone(),
                store: self.store.clone(),
                held: Some(held),
                returning: self.returning.clone(),
            })),
            Ok(true) => {
                held.release().await;
                Ok(None)
            }
            Err(error) => {
                held.release().await;
                Err(error)
            }
        }
    }

    async fn is_claimed(&self, target_uid: Uid) -> Result<bool, Error> {
        let key = record::claim_key(target_uid);
        Ok(self.store.get(&record::claims(), &key).await?.is_some())
    }
}

/// Why a pass could not save.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// An operation has claimed the target, or the lease is gone. Drop everything.
    #[error("the target is not this pass's any more")]
    Lost,
    /// An element of the batch was refused, or the store is in trouble. `Undetermined` means that
    /// it may have been saved: the next pass looks. Positions are counted in the given batch.
    #[error("what a pass found out could not be saved")]
    Store(#[from] Error),
}

/// Held while a reconciler works on a target; renews itself.
#[derive(Debug)]
pub struct Pass {
    target_uid: Uid,
    actor: String,
    gate: Gate,
    store: StoreHandle,
    /// Absent once it is given back.
    held: Option<Held>,
    returning: TaskTracker,
}

impl Pass {
    pub fn target_uid(&self) -> Uid {
        self.target_uid
    }

    /// The fence's epoch, for every effect inside a server.
    pub fn epoch(&self) -> u64 {
        self.held().epoch()
    }

    /// For the fault points around effects.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Cancelled when the lease is lost.
    pub fn lost(&self) -> &CancellationToken {
        self.held().lost()
    }

    /// What every batch of this pass must demand: the lease is held and no operation has claimed
    /// the target. A batch that itself creates the claim (the pass enqueues an operation) demands
    /// the lease only; [`Pass::save`] knows that.
    pub fn preconditions(&self) -> Vec<Precondition> {
        vec![self.held().precondition(), claim_absent(self.target_uid)]
    }

    /// Applies a batch under the pass's preconditions, between the fault points `save <actor>`.
    pub async fn save(&self, batch: Batch) -> Result<ApplyOutcome, PassError> {
        let point = format!("save {}", self.actor);
        let unreached =
            |fault| Error::new(ErrorKind::Unavailable, "the store was not reached").because(fault);
        self.gate.before(point.as_str()).await.map_err(unreached)?;
        let mut preconditions = self.preconditions();
        if writes_claim(&batch, self.target_uid) {
            // Creating it is itself the proof that it was absent.
            preconditions.truncate(1);
        }
        let added = preconditions.len();
        preconditions.extend(batch.preconditions);
        let saved = self.store.apply(Batch {
            preconditions,
            writes: batch.writes,
        });
        let outcome = saved.await.map_err(|error| refused(error, added))?;
        let unheard = |fault| {
            Error::new(ErrorKind::Undetermined, "the store's reply was lost").because(fault)
        };
        self.gate.after(point).await.map_err(unheard)?;
        Ok(outcome)
    }

    /// Gives the target back.
    pub async fn finish(mut self) {
        if let Some(held) = self.held.take() {
            held.release().await;
        }
    }

    fn held(&self) -> &Held {
        self.held
            .as_ref()
            .expect("held until the pass is consumed or dropped")
    }
}

/// A pass that is dropped (an early return, a panic) gives the target back in the background. Where
/// no runtime is left to do it, the lease lapses.
impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(held) = self.held.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            self.returning.spawn_on(held.release(), &runtime);
        }
    }
}

fn writes_claim(batch: &Batch, target_uid: Uid) -> bool {
    let (claims, claim) = (record::claims(), record::claim_key(target_uid));
    batch.writes.iter().any(|write| match write {
        Write::Put {
            collection, key, ..
        }
        | Write::Delete {
            collection, key, ..
        } => *collection == claims && *key == claim,
    })
}

/// A refusal of one of the pass's own preconditions means that the target is lost; any other
/// position is given as the caller counts.
fn refused(error: Error, added: usize) -> PassError {
    match error.position() {
        Some(at) if error.is_conflict() && at < added => PassError::Lost,
        Some(at) if at >= added => PassError::Store(error.at(at - added)),
        _ => PassError::Store(error),
    }
}
