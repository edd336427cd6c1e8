//! The store in one SQLite file: the default for one machine.
//!
//! * **Writing**: one thread with one connection per open store; see [`writer`] for how 32 callers
//!   share one sync. Write-ahead log, `synchronous = FULL`: an acknowledged batch survives a power cut
//!   (as far as the disk tells the truth about its cache).
//! * **Several processes** may open one file. Nothing is assumed between transactions: every check
//!   runs inside a transaction that holds the file's write lock, and what is cached (the definitions)
//!   carries a version that the transaction compares.
//! * **Reading**: a small pool of connections. A point read runs where it is called: it takes some
//!   microseconds, less than handing it to another thread would. Scans and the feed go to the
//!   runtime's blocking threads.
//! * **Feed**: a position is a counter taken in the write transaction. There is one writer at a time,
//!   so the order of positions is the order of commits, without gaps.
//! * **Leases and expiry** run on the [`Clock`] that is handed in, read inside the transaction.
//!   Processes that share a file share a machine and so a clock. When it jumps forward, leases end
//!   early, and their holders find out at the next batch that demands them; when it jumps back, they
//!   last longer. An epoch never repeats either way.
//!
//! Left out: network file systems (the log needs shared memory), encryption of the file, checksums
//! of pages.

mod apply;
mod fault;
mod file;
mod reading;
mod upkeep;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use freehold_model::{Clock, Entropy};
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use self::{
    fault::{During, translate},
    reading::Trouble,
    writer::Writer,
};
use crate::{
    ApplyOutcome, Batch, Capabilities, ChangePosition, Changes, CollectionName, CollectionSpec,
    Durability, Error, ErrorKind, Key, Lease, LeaseName, Page, Record, Result, Scan, Store,
    batch::{self, Prepared, truncate},
    index::Definitions,
    paging::Plan,
};

/// Where the file is and how patient to be.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    pub path: PathBuf,
    /// How long to wait for another process that writes; then `Throttled`.
    pub busy_timeout: Duration,
    /// Connections that read, at most.
    pub readers: usize,
}

impl SqliteConfig {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            busy_timeout: Duration::from_secs(5),
            readers: 4,
        }
    }
}

/// See the module's description. A clone is another handle to the same connections.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
    /// As of the last transaction of this process; only a hint until a transaction confirms it.
    definitions: Arc<RwLock<Arc<Definitions>>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    capabilities: Arc<Capabilities>,
}

impl SqliteStore {
    /// Opens the store in `path`, making the file when there is none. Blocks for as long as another
    /// process holds the file's lock, at most [`SqliteConfig::busy_timeout`].
    ///
    /// Fails as `Config` when the path cannot be used or the file is another program's, as `Throttled`
    /// when it stays locked, as `Corrupt` when it is damaged.
    pub fn open(
        path: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        Self::open_with(SqliteConfig::new(path.as_ref()), clock, entropy)
    }

    pub fn open_with(
        config: SqliteConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let connection = file::open_writer(&config.path, config.busy_timeout)?;
        let loaded = file::load_definitions(&connection)
            .map_err(|source| translate(&config.path, During::Open, &Arc::new(source)))??;
        let definitions = Arc::new(RwLock::new(Arc::new(loaded)));
        let writer = Writer::start(
            connection,
            config.path.clone(),
            Arc::clone(&clock),
            Arc::clone(&definitions),
        )?;
        let readers = Arc::new(Readers::new(config));
        Ok(Self {
            writer,
            readers,
            definitions,
            clock,
            entropy,
            capabilities: Arc::new(capabilities()),
        })
    }

    fn definitions(&self) -> Arc<Definitions> {
        Arc::clone(
            &self
                .definitions
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        adapter: "sqlite",
        durability: Durability::Power,
        atomic_batches: true,
        writes_per_batch_max: batch::WRITES_PER_BATCH_MAX,
        value_bytes_max: batch::VALUE_BYTES_MAX,
        secondary_indexes: true,
        unique_indexes: true,
        linearizable_reads: true,
        change_feed: true,
        leases: true,
        change_retention: None,
        shared: true,
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SqliteStore")
            .field(&self.readers.config.path)
            .finish()
    }
}

impl Store for SqliteStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn define(&self, spec: CollectionSpec) -> Result<()> {
        self.writer
            .run(move |desk| upkeep::define(&spec, desk))
            .await
    }

    async fn drop_index(&self, collection: &CollectionName, index: &str) -> Result<()> {
        let (collection, index) = (collection.clone(), index.to_owned());
        self.writer
            .run(move |desk| upkeep::drop_index(&collection, &index, desk))
            .await
    }

    async fn get(&self, collection: &CollectionName, key: &Key) -> Result<Option<Record>> {
        let read =
            |connection: &Connection| reading::get(connection, collection, key, self.clock.now());
        match self.readers.here(read).await {
            // Busy, which in a write-ahead log happens only around its recovery: wait for it, but
            // not on a thread that other tasks need.
            Err(error) if error.kind() == ErrorKind::Throttled => {
                let (collection, key) = (collection.clone(), key.clone());
                let clock = Arc::clone(&self.clock);
                let read = move |connection: &Connection| {
                    reading::get(connection, &collection, &key, clock.now())
                };
                // In a box, so that a read that needs none of this does not carry it.
                Box::pin(self.readers.elsewhere(read)).await
            }
            result => result,
        }
    }

    async fn apply(&self, batch: Batch) -> Result<ApplyOutcome> {
        let mut prepared = Prepared::new(
            batch,
            &self.capabilities,
            &self.definitions(),
            &*self.entropy,
        )?;
        self.writer
            .run(move |desk| apply::apply(&mut prepared, desk))
            .await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let clock = Arc::clone(&self.clock);
        let mut known = self.definitions();
        self.readers
            .elsewhere(move |connection| {
                if !scan.range.is_indexed() {
                    return reading::scan(connection, &Plan::new(&scan, &known)?, clock.now());
                }
                // Definitions and rows from one snapshot: the index is what it is said to be.
                let snapshot = connection.unchecked_transaction()?;
                if file::definitions_version(&snapshot)? != known.version {
                    known = Arc::new(file::load_definitions(&snapshot)??);
                }
                reading::scan(&snapshot, &Plan::new(&scan, &known)?, clock.now())
            })
            .await
    }

    async fn changes(&self, after: Option<ChangePosition>, limit: usize) -> Result<Changes> {
        self.readers
            .elsewhere(move |connection| reading::changes(connection, after, limit))
            .await
    }

    async fn lease_acquire(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>> {
        let (name, holder) = (name.clone(), holder.to_owned());
        self.writer
            .run(move |desk| upkeep::lease_acquire(&name, &holder, ttl, desk))
            .await
    }

    async fn lease_renew(&self, lease: &Lease) -> Result<Lease> {
        let lease = lease.clone();
        self.writer
            .run(move |desk| upkeep::lease_renew(&lease, desk))
            .await
    }

    async fn lease_release(&self, lease: &Lease) -> Result<()> {
        let lease = lease.clone();
        self.writer
            .run(move |desk| upkeep::lease_release(&lease, desk))
            .await
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(truncate(self.clock.now()))
    }

    async fn purge(&self, keep_changes: Duration) -> Result<u64> {
        let mut removed = 0;
        loop {
            let chunk = self
                .writer
                .run(|desk| upkeep::purge_expired(None, desk))
                .await?;
            removed += chunk;
            if chunk < upkeep::PURGE_CHUNK {
                break;
            }
        }
        let trim = || {
            self.writer
                .run(move |desk| upkeep::trim_feed(keep_changes, desk))
        };
        while trim().await? == upkeep::PURGE_CHUNK {}
        Ok(removed)
    }

    async fn close(&self) {
        // The readers first: whoever closes last folds the log into the file, and that is a task for
        // the writer's thread.
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Connections that read. A connection that met an error is not used again.
struct Readers {
    config: SqliteConfig,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    fn new(config: SqliteConfig) -> Self {
        let permits = Arc::new(Semaphore::new(config.readers.max(1)));
        Self {
            config,
            idle: Mutex::default(),
            permits,
        }
    }

    /// Whoever has a permit, or waits for one already, goes on; nobody after that gets one.
    async fn close(&self) {
        let all = u32::try_from(self.config.readers.max(1)).unwrap_or(u32::MAX);
        if let Ok(_all) = self.permits.acquire_many(all).await {
            self.permits.close();
        }
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a short read on the calling thread. It does not wait for locks.
    async fn here<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Trouble> + Send,
    ) -> Result<T> {
        let _permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            // All are busy, or the store is closed.
            Err(_) => self.permits.acquire().await.map_err(closed)?,
        };
        self.run(Duration::ZERO, read)
    }

    /// Runs a longer read on a blocking thread.
    async fn elsewhere<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let readers = Arc::clone(self);
        // The permit comes back with the result. Given back here, it wakes the next reader on this
        // thread; and should this caller go away, the read keeps it until it has ended.
        let (result, _permit) = tokio::task::spawn_blocking(move || {
            (readers.run(readers.config.busy_timeout, read), permit)
        })
        .await
        .map_err(|source| {
            Error::new(ErrorKind::Unavailable, "a read was broken off").because(source)
        })?;
        result
    }

    fn run<T>(
        &self,
        patience: Duration,
        read: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T> {
        self.attempt(patience, read)
            .map_err(|trouble| match trouble {
                Trouble::Content(error) => error,
                Trouble::Database(source) => {
                    translate(&self.config.path, During::Read, &Arc::new(source))
                }
            })
    }

    fn attempt<T>(
        &self,
        patience: Duration,
        read: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        // Not in the match, which would keep the lock.
        let idle = self.idle().pop();
        let connection = match idle {
            // At rest, a connection waits for no lock.
            Some(connection) if patience.is_zero() => connection,
            Some(connection) => connection.busy_timeout(patience).map(|()| connection)?,
            None => file::open_reader(&self.config.path, patience)?,
        };
        let result = read(&connection);
        if !matches!(result, Err(Trouble::Database(_))) {
            if !patience.is_zero() {
                connection.busy_timeout(Duration::ZERO)?;
            }
            self.idle().push(connection);
        }
        result
    }
}

fn closed(source: tokio::sync::AcquireError) -> Error {
    Error::new(ErrorKind::Unavailable, writer::CLOSED).because(source)
}
