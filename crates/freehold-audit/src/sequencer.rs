//! Moves pending entries into the log, in the order in which they were committed.
//!
//! **One at a time.** A lease picks one sequencer among all servers. Each batch demands that the
//! lease is still held under its epoch *and* that the head is the one it was computed from, so a
//! sequencer that was stopped past its lease and wakes up changes nothing.
//!
//! **Exactly once.** One atomic batch takes entries out of the pending collection, puts them into
//! the log, moves the head and keeps the signed checkpoint. An entry is pending or in the log, never
//! both or neither. After a kill, an error or a lost reply nothing needs to be repaired: everything
//! in memory is forgotten and read again.
//!
//! **In order.** The order is that of the store's change feed, which is an order in which the
//! changes could have been made one by one; clocks of servers play no part. When the feed no longer
//! reaches back (it was compacted, or the store was restored), what is pending is taken in the order
//! of its creation on the store's clock instead.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use freehold_model::Gate;
use freehold_store::{
    Batch, ChangeKind, ChangePosition, DeleteMode, Error, ErrorKind, Etag, Key, Lease, LeaseName,
    Precondition, PutMode, Range, Record, Result, Scan, StoreHandle, Value,
};
use serde_json::value::RawValue;
use tokio::{sync::Notify, time::Instant};
use tracing::{debug, warn};

use crate::{
    Checkpoint, SigningKey, collections,
    record::{CheckpointRecord, Head, LogRecord},
    tree::{self, Edge},
};

const LEASE: &str = "audit/sequencer";
/// Changes read from the feed at once; also pending records read at once.
const PAGE: usize = 1_000;
/// Pause between two batches when entries trickle in, so that they share a checkpoint.
const GATHER: Duration = Duration::from_millis(200);
/// Pending entries that the feed has not shown for so long are taken without it.
const STRAGGLER_AGE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

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
    /// Another server holds the lease, or was faster.
    NotHolder,
}

/// The one that puts entries into the log. Start one per server: the lease picks who works.
#[derive(Debug)]
pub struct Sequencer {
    store: StoreHandle,
    key: SigningKey,
    holder: String,
    options: SequencerOptions,
    nudge: Arc<Notify>,
    lease: Option<Held>,
    head: Option<Loaded>,
    /// How far the feed has been read; at least as far as the head says.
    feed: Option<ChangePosition>,
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    renewed_at: Instant,
}

/// The head as it was read or written last; nothing before the first batch.
#[derive(Debug, Clone)]
struct Loaded(Option<(Head, Etag)>);

impl Loaded {
    fn edge(&self) -> Edge {
        let head = self.0.as_ref();
        head.map_or_else(Edge::empty, |(head, _)| head.edge.clone())
    }

    fn number(&self) -> u64 {
        let head = self.0.as_ref();
        head.map_or(0, |(head, _)| head.checkpoint.number)
    }

    fn feed(&self) -> Option<ChangePosition> {
        self.0.as_ref().and_then(|(head, _)| head.feed)
    }

    fn put_mode(&self) -> PutMode {
        match &self.0 {
            None => PutMode::Create,
            Some((_, etag)) => PutMode::Match(etag.clone()),
        }
    }
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
            store,
            key,
            holder: holder.into(),
            options,
            nudge: Arc::new(Notify::new()),
            lease: None,
            head: None,
            feed: None,
            swept_at: None,
        }
    }

    /// Call `notify_one` on it after a batch with a pending entry was saved; entries of other
    /// servers are found by looking every [`SequencerOptions::interval`].
    pub fn nudge(&self) -> Arc<Notify> {
        Arc::clone(&self.nudge)
    }

    /// Sequences until `shutdown` completes. Errors are logged and retried; it never gives up.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let nudge = self.nudge();
        let mut backoff = GATHER;
        loop {
            // Stopping in the middle of a batch leaves its outcome open, as a kill would.
            let pass = tokio::select! {
                biased;
                () = &mut shutdown => break,
                pass = self.pass() => pass,
            };
            let (pause, rest) = match pass {
                Ok(Pass::Sequenced(_)) => {
                    backoff = GATHER;
                    (GATHER, self.options.interval.saturating_sub(GATHER))
                }
                Ok(Pass::NotHolder) => (self.options.lease_ttl / 2, Duration::ZERO),
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the audit log waits"
                    );
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    (backoff, Duration::ZERO)
                }
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = nudge.notified(), if !rest.is_zero() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        if let Some(held) = self.lease.take()
            && let Err(error) = self.store.lease_release(&held.lease).await
        {
            debug!(
                error = &error as &dyn std::error::Error,
                "the lease runs out by itself"
            );
        }
    }

    /// Sequences what waits now.
    pub async fn pass(&mut self) -> Result<Pass> {
        let mut sequenced = 0;
        loop {
            let result = match self.hold_lease().await {
                Ok(None) => return Ok(Pass::NotHolder),
                Ok(Some(epoch)) => self.advance(epoch).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(0) => return Ok(Pass::Sequenced(sequenced)),
                Ok(entries) => sequenced += entries,
                Err(error) => {
                    // Whatever we believed may be wrong now; read it again.
                    (self.head, self.feed, self.lease) = (None, None, None);
                    if error.is_conflict() {
                        debug!(
                            error = &error as &dyn std::error::Error,
                            "another was faster"
                        );
                        return Ok(Pass::NotHolder);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The epoch under which this sequencer holds the lease, or nothing when another one does.
    async fn hold_lease(&mut self) -> Result<Option<u64>> {
        if let Some(held) = &mut self.lease {
            if held.renewed_at.elapsed() < self.options.lease_ttl / 2 {
                return Ok(Some(held.lease.epoch));
            }
            let renewed_at = Instant::now();
            match self.store.lease_renew(&held.lease).await {
                Ok(lease) => {
                    *held = Held { lease, renewed_at };
                    return Ok(Some(held.lease.epoch));
                }
                Err(error) if error.kind() == ErrorKind::VersionMismatch => self.lease = None,
                Err(error) => return Err(error),
            }
        }
        let renewed_at = Instant::now();
        let name = LeaseName::new(LEASE)?;
        let ttl = self.options.lease_ttl;
        let lease = self.store.lease_acquire(&name, &self.holder, ttl);
        let Some(lease) = lease.await? else {
            return Ok(None);
        };
        // Another one may have moved the head since we held the lease last.
        (self.head, self.feed) = (None, None);
        let epoch = lease.epoch;
        self.lease = Some(Held { lease, renewed_at });
        Ok(Some(epoch))
    }

    /// One batch. Returns how many entries it held; none when nothing waits.
    async fn advance(&mut self, epoch: u64) -> Result<u64> {
        let head = match &self.head {
            Some(head) => head.clone(),
            None => self.load().await?,
        };
        let mut waiting = self.collect().await?;
        if waiting.is_empty() {
            waiting = self.sweep(STRAGGLER_AGE).await?;
        }
        if waiting.is_empty() {
            return Ok(0);
        }
        self.commit(epoch, &head, &waiting).await?;
        Ok(waiting.len() as u64)
    }

    async fn load(&mut self) -> Result<Loaded> {
        let record = self
            .store
            .get(&collections::head(), &collections::head_key())
            .await?;
        let loaded = Loaded(match record {
            None => None,
            Some(record) => Some((record.value.decode::<Head>()?, record.etag)),
        });
        if let Some((head, _)) = &loaded.0
            && head.key != *self.key.verifying_key()
        {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the audit log was signed by {}, but this server has another signing key; \
                     give it the key of the log, entries wait until then",
                    head.key
                ),
            ));
        }
        self.feed = loaded.feed();
        self.head = Some(loaded.clone());
        Ok(loaded)
    }

    /// The next pending entries in the order of the feed, as many as fit into one batch.
    async fn collect(&mut self) -> Result<Vec<Record>> {
        let pending = collections::pending();
        let entries_max = self.batch_max();
        loop {
            let changes = match self.store.changes(self.feed, PAGE).await {
                Ok(changes) => changes,
                Err(error) if error.kind() == ErrorKind::Compacted => {
                    warn!("the change feed was compacted before the audit log had read it");
                    let waiting = self.sweep(jiff::SignedDuration::ZERO).await?;
                    if waiting.is_empty() {
                        self.feed = None;
                        continue;
                    }
                    return Ok(waiting);
                }
                Err(error) => return Err(error),
            };
            let at_end = changes.changes.is_empty();
            let mut seen = HashSet::new();
            let mut keys = Vec::new();
            let mut reached = changes.next;
            for change in changes.changes {
                let is_entry =
                    change.collection == pending && matches!(change.kind, ChangeKind::Put { .. });
                if is_entry && seen.insert(change.key.clone()) {
                    keys.push(change.key);
                }
                if keys.len() == entries_max {
                    reached = change.position;
                    break;
                }
            }
            let waiting = self.fetch(keys).await?;
            self.feed = Some(reached);
            if at_end || !waiting.is_empty() {
                return Ok(waiting);
            }
        }
    }

    /// The records of these keys that are still pending, in the same order.
    async fn fetch(&self, keys: Vec<Key>) -> Result<Vec<Record>> {
        let pending = collections::pending();
        let mut by_key = HashMap::new();
        if keys.len() > 4 {
            let mut scan = Scan::new(pending.clone(), Range::All);
            scan.limit = PAGE;
            let records = self.store.scan(scan).await?.records;
            by_key.extend(
                records
                    .into_iter()
                    .map(|record| (record.key.clone(), record)),
            );
        }
        let mut waiting = Vec::with_capacity(keys.len());
        for key in keys {
            let record = match by_key.remove(&key) {
                Some(record) => Some(record),
                None => self.store.get(&pending, &key).await?,
            };
            waiting.extend(record);
        }
        Ok(waiting)
    }

    /// Pending entries of at least this age that the feed did not show, oldest first. In a healthy
    /// store there are none; after a restore the feed may begin behind them.
    async fn sweep(&mut self, age: jiff::SignedDuration) -> Result<Vec<Record>> {
        let forced = age.is_zero();
        if !forced
            && self
                .swept_at
                .is_some_and(|at| at.elapsed() < SWEEP_INTERVAL)
        {
            return Ok(Vec::new());
        }
        let now = self.store.now().await?;
        let mut scan = Scan::new(collections::pending(), Range::All);
        scan.limit = PAGE;
        let mut waiting = Vec::new();
        loop {
            let page = self.store.scan(scan.clone()).await?;
            let old = |record: &Record| now.duration_since(record.created_at) >= age;
            waiting.extend(page.records.into_iter().filter(old));
            if page.next.is_none() {
                break;
            }
            scan.after = page.next;
        }
        let creation = |record: &Record| (record.created_at, record.key.clone());
        waiting.sort_by_cached_key(creation);
        if waiting.len() <= self.batch_max() {
            self.swept_at = Some(Instant::now());
        }
        waiting.truncate(self.batch_max());
        Ok(waiting)
    }

    fn batch_max(&self) -> usize {
        // Two writes per entry, and the head and the checkpoint.
        let by_store = self
            .store
            .capabilities()
            .writes_per_batch_max
            .saturating_sub(2)
            / 2;
        self.options.batch_max.min(by_store).clamp(1, PAGE)
    }

    /// Puts the entries into the log, all of them or none.
    async fn commit(&mut self, epoch: u64, head: &Loaded, waiting: &[Record]) -> Result<()> {
        let mut edge = head.edge();
        let mut log = Batch::new();
        for record in waiting {
            let entry = hashed_text(&record.value)?;
            let index = edge.size();
            let leaf = tree::leaf_hash(entry.get().as_bytes());
            let nodes = edge.append(leaf);
            let value = Value::encode(&LogRecord::new(index, leaf, nodes, entry))?;
            let key = collections::numbered(index);
            let taken = DeleteMode::Match(record.etag.clone());
            log = log
                .put(&collections::log(), key, value, PutMode::Create)
                .delete(&record.collection, record.key.clone(), taken);
        }
        let signed_at = self.store.now().await?;
        let number = head.number() + 1;
        let checkpoint = Checkpoint::sign(&self.key, edge.size(), edge.root(), number, signed_at);
        let next = Head {
            key: self.key.verifying_key().clone(),
            edge: edge.clone(),
            feed: self.feed,
            checkpoint: checkpoint.clone(),
        };
        let kept = Value::encode(&CheckpointRecord { checkpoint, edge })?;
        let mut batch = Batch::new()
            .require(Precondition::LeaseHeld {
                name: LeaseName::new(LEASE)?,
                epoch,
            })
            .put(
                &collections::head(),
                collections::head_key(),
                Value::encode(&next)?,
                head.put_mode(),
            )
            .put(
                &collections::checkpoints(),
                collections::numbered(number),
                kept,
                PutMode::Create,
            );
        batch.writes.append(&mut log.writes);

        self.options
            .gate
            .before("save audit batch")
            .await
            .map_err(injected)?;
        let outcome = self.store.apply(batch).await?;
        self.options
            .gate
            .after("save audit batch")
            .await
            .map_err(injected)?;
        let etag = outcome.etags.into_iter().next().flatten();
        let etag =
            etag.ok_or_else(|| Error::corrupt("the store gave no etag for the log's head"))?;
        self.head = Some(Loaded(Some((next, etag))));
        Ok(())
    }
}

/// What is hashed: the text as it was recorded. A line break can only be space between tokens (JSON
/// has none inside texts) and would break the export's lines.
fn hashed_text(value: &Value) -> Result<Box<RawValue>> {
    let text = value.text().replace(['\n', '\r'], " ");
    RawValue::from_string(text)
        .map_err(|source| Error::corrupt("a pending audit entry is not JSON").because(source))
}

fn injected(fault: freehold_model::InjectedFault) -> Error {
    Error::new(ErrorKind::Undetermined, "stopped at a fault point").because(fault)
}
