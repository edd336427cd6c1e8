//! Moves pending entries into the log.

use std::{sync::Arc, time::Duration};

use freehold_model::Gate;
use freehold_store::{Result, StoreHandle};
use tokio::sync::Notify;

use crate::SigningKey;

#[derive(Debug, Clone)]
pub struct SequencerOptions {
    /// Entries per batch at most; the store's own limit holds too.
    pub batch_max: usize,
    /// How long a dead sequencer's lease stands in the way of the next one.
    pub lease_ttl: Duration,
    /// How often to look when nobody nudges.
    pub interval: Duration,
    pub gate: Gate,
}

impl Default for SequencerOptions {
    fn default() -> Self {
        Self {
            batch_max: 500,
            lease_ttl: Duration::from_secs(5),
            interval: Duration::from_millis(500),
            gate: Gate::open(),
        }
    }
}

/// What one pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// This many entries were put into the log; none means that none waited.
    Sequenced(u64),
    /// Another server holds the lease.
    NotHolder,
}

/// The one that puts entries into the log. Start one per server: the lease picks who works.
#[derive(Debug)]
pub struct Sequencer {
    _store: StoreHandle,
    _key: SigningKey,
    _holder: String,
    _options: SequencerOptions,
    nudge: Arc<Notify>,
}

impl Sequencer {
    /// `holder` names this process among the servers, e.g. host and process id.
    pub fn new(
        store: StoreHandle,
        key: SigningKey,
        holder: impl Into<String>,
        options: SequencerOptions,
    ) -> Self {
        Self {
            _store: store,
            _key: key,
            _holder: holder.into(),
            _options: options,
            nudge: Arc::new(Notify::new()),
        }
    }

    /// Call `notify_one` on it after a batch with a pending entry was saved; entries of other
    /// servers are found by looking every [`SequencerOptions::interval`].
    pub fn nudge(&self) -> Arc<Notify> {
        Arc::clone(&self.nudge)
    }

    /// Sequences until `shutdown` completes. Errors are logged and retried; it never gives up.
    pub async fn run(self, _shutdown: impl Future<Output = ()>) {
        unimplemented!()
    }

    /// Sequences what waits now.
    pub async fn pass(&mut self) -> Result<Pass> {
        unimplemented!()
    }
}
