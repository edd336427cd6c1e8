//! A lease that is held and renewed in the background.
//!
//! The store's clock decides who holds a lease. A holder that cannot reach the store stops by itself
//! when, by its own monotonic clock, the lease may have run out: it counts from before it asked, so
//! it errs on the early side. A holder that was stopped (SIGSTOP, a paused machine) may still err on
//! the late side; against that stand the fences, in the store ([`Precondition::LeaseHeld`]) and in
//! the servers (the epoch).

use std::time::Duration;

use freehold_model::Entropy;
use freehold_store::{ErrorKind, Lease, LeaseName, Precondition, Result, StoreHandle};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// A lease in our hands. Dropping it stops renewing but does not release: that is what a kill does.
#[derive(Debug)]
pub(crate) struct Held {
    store: StoreHandle,
    lease: Lease,
    lost: CancellationToken,
    renewer: OwnedTask,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct OwnedTask(JoinHandle<()>);

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Held {
    /// `None` when somebody else holds it. The holder's name is fresh for every acquisition: two
    /// workers of one process exclude each other like strangers do.
    pub(crate) async fn acquire(
        store: &StoreHandle,
        name: &LeaseName,
        worker: &str,
        ttl: Duration,
        entropy: &dyn Entropy,
    ) -> Result<Option<Self>> {
        let holder = format!("{worker}/{}", nonce(entropy));
        let mut asked = Instant::now();
        let mut granted = store.lease_acquire(name, &holder, ttl).await;
        if granted
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::Undetermined)
        {
            // We may hold it without knowing. Asking again under the same name settles it.
            asked = Instant::now();
            granted = store.lease_acquire(name, &holder, ttl).await;
        }
        Ok(granted?.map(|lease| Self::keep(store.clone(), lease, asked)))
    }

    fn keep(store: StoreHandle, lease: Lease, asked: Instant) -> Self {
        let lost = CancellationToken::new();
        let renewer = tokio::spawn(renew(store.clone(), lease.clone(), asked, lost.clone()));
        Self {
            store,
            lease,
            lost,
            renewer: OwnedTask(renewer),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.lease.epoch
    }

    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    pub(crate) fn precondition(&self) -> Precondition {
        Precondition::LeaseHeld {
            name: self.lease.name.clone(),
            epoch: self.lease.epoch,
        }
    }

    /// Asks the store whether the lease is still ours.
    pub(crate) async fn confirm(&self) -> Result<bool> {
        match self.store.lease_renew(&self.lease).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::VersionMismatch => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the lease back. When the store cannot be reached it lapses by itself.
    pub(crate) async fn release(self) {
        let Self {
            store,
            lease,
            renewer,
            ..
        } = self;
        drop(renewer);
        if let Err(error) = store.lease_release(&lease).await {
            tracing::debug!(lease = lease.name.as_str(), %error, "a lease was not released; it will lapse");
        }
    }
}

async fn renew(store: StoreHandle, lease: Lease, asked: Instant, lost: CancellationToken) {
    let mut deadline = asked + lease.ttl;
    let mut pause = lease.ttl / 3;
    loop {
        tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
        let asked = Instant::now();
        if asked >= deadline {
            break;
        }
        match tokio::time::timeout_at(deadline, store.lease_renew(&lease)).await {
            Ok(Ok(_)) => {
                deadline = asked + lease.ttl;
                pause = lease.ttl / 3;
            }
            Ok(Err(error)) if error.kind() == ErrorKind::VersionMismatch => break,
            Ok(Err(error)) => {
                tracing::debug!(lease = lease.name.as_str(), %error, "a lease could not be renewed yet");
                pause = lease.ttl / 20;
            }
            Err(_elapsed) => break,
        }
    }
    metrics::counter!("freehold_workflow_leases_lost_total").increment(1);
    lost.cancel();
}

/// 16 random bytes in hexadecimal.
pub(crate) fn nonce(entropy: &dyn Entropy) -> String {
    let mut bytes = [0u8; 16];
    entropy.fill(&mut bytes);
    hex::encode(bytes)
}
