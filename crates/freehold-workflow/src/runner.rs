//! The runner: finds operations that are due and drives each with one worker.

use std::{sync::Arc, time::Duration};

use freehold_model::{Clock, Entropy, Gate};
use freehold_store::StoreHandle;
use tokio_util::sync::CancellationToken;

use crate::{Operation, Operations};

/// How a runner behaves. [`RunnerConfig::default`] suits a server.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerConfig {
    /// Names this process in leases and logs.
    pub worker: String,
    /// Operations driven at once.
    pub concurrency: usize,
    /// How long a worker that went silent keeps its target.
    pub lease_ttl: Duration,
    /// How often due operations are looked for when nothing nudges.
    pub poll_interval: Duration,
    /// How often the store's change feed is read.
    pub feed_interval: Duration,
    /// How long one step may take, unless its operation says otherwise.
    pub step_timeout: Duration,
    /// The pause after the first failed attempt; it doubles from there.
    pub retry_first: Duration,
    /// The longest pause between attempts.
    pub retry_max: Duration,
    /// Panics in one state before the operation is parked.
    pub panics_max: u32,
    /// How long running steps may take to finish when the runner is told to stop.
    pub shutdown_grace: Duration,
    /// At most one progress event per operation in this time.
    pub progress_interval: Duration,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            worker: "worker".to_owned(),
            concurrency: 64,
            lease_ttl: Duration::from_secs(30),
            poll_interval: Duration::from_secs(2),
            feed_interval: Duration::from_millis(250),
            step_timeout: Duration::from_secs(15 * 60),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(5 * 60),
            panics_max: 3,
            shutdown_grace: Duration::from_secs(20),
            progress_interval: Duration::from_secs(2),
        }
    }
}

/// Runs operations until it is told to stop.
#[derive(Debug)]
pub struct Runner {
    operations: Operations,
}

impl Runner {
    pub fn new(
        store: StoreHandle,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        _gate: Gate,
        _config: RunnerConfig,
    ) -> Self {
        Self {
            operations: Operations::new(store, clock, entropy),
        }
    }

    /// Adds a kind of operation. Two of one verb are a programming error and panic.
    #[must_use]
    pub fn register<O: Operation>(self, _operation: O) -> Self {
        self
    }

    /// The queries, connected to this runner: what is requested through them starts at once.
    pub fn operations(&self) -> Operations {
        self.operations.clone()
    }

    /// Looks for due operations now.
    pub fn nudge(&self) {}

    /// Runs until `shutdown`, then lets running steps finish for a while, saves what they gave and
    /// releases the leases. Dropping the future instead is what a kill would be: leases stay until
    /// they lapse.
    pub async fn run(&self, _shutdown: CancellationToken) {
        unimplemented!()
    }
}
