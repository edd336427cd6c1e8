//! SQLite 3: files on the machine that Freehold runs on. The embedded default.
//!
//! **What an instance is.** A directory that belongs to the account Freehold runs as, and to nobody
//! else (0700):
//!
//! ```text
//! freehold-registry.db           who owns what, and the fence
//! databases/shop/shop.db         a database: one file, in a folder of its own for its -wal and -shm
//! quarantine/shop/shop.db        the same, closed
//! making/shop/shop.db            one that is being made
//! ```
//!
//! [`SqliteEngine`] administers it; [`SqliteSession`] runs scripts on one file, under an authorizer.
//! A request reads down the files: `connect` (the directory, opening files), `registry` (who owns
//! what, and the fence), `observe` (what is there, as values), `plan` (what to do, pure), `apply`
//! (doing it). `names` takes the place of quoting: no name of a database becomes SQL text, but it
//! becomes a path.
//!
//! **No accounts are pretended.** Whoever may open the file may do everything with it. Desired logins
//! and the migrator are therefore ignored, and what could only be had by an account is refused: an
//! access to single schemas or tables, a limit (SQLite keeps none in the file; `max_page_count` and
//! timeouts are each program's own), schemas, extensions. The level `readOnly` is accepted, because a
//! binding can open the file with `mode=ro`; it keeps a program from mistakes, not from malice.
//! Programs run under the account that owns the files; access by a group is not offered.
//!
//! **The fence.** Every effect, on files too, runs while it holds the registry's write lock
//! (`BEGIN IMMEDIATE`), in which the stamp, the identity and the epoch were compared and the epoch
//! raised. The lock dies with its process, so there is nobody to end. It is never held while a gate is
//! passed or anything is awaited.
//!
//! **Identity.** The registry carries a random id and the place of its own file (inode and time of
//! birth). A copied directory has other inodes, so it is told from its original and refused
//! (`ServerMismatch`) until a person says otherwise; a copy of the whole disk is not told. Each
//! database's file is known by its place as well, so that a file put in its stead is never taken for
//! it, and carries a random `application_id`, so that content written over it in place is noticed.
//! That id is in the file's header: `VACUUM` keeps it and no schema shows it.
//!
//! **Closing** moves the folder, in one rename, to where no program looks. The data stays with its
//! log. SQLite has no sessions that could be ended: a program that has the file open goes on using
//! it until it closes it, and no capability claims otherwise.
//!
//! **Never** is a database's file opened but through SQLite: closing any other descriptor of it would
//! drop the locks that this process holds on it (POSIX), also those of a running migration.
//!
//! Left out: network file systems (the log needs shared memory), encryption, dropping.

mod apply;
mod authorizer;
mod connect;
mod converge;
mod errors;
mod inspect;
mod names;
mod observe;
mod plan;
mod registry;
mod reserve;
mod session;
mod survey;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use freehold_model::{Entropy, Gate, kinds::Difference};
use tokio::sync::Semaphore;

pub use self::session::SqliteSession;

use self::connect::Directory;
use crate::{
    Capabilities, ConvergeMode, DesiredDatabase, Engine, EngineError, Fault, Fence, InstanceFacts,
    Result, Stamp, Survey,
};

const CAPABILITIES: Capabilities = Capabilities {
    engine: "sqlite",
    logins: false,
    transactional_ddl: true,
    schemas: false,
    extensions: false,
    table_grants: false,
    migrations: true,
    identifier_bytes_max: names::NAME_BYTES_MAX,
    firm_limits: &[],
};

/// Blocking calls at once, as an engine on a server holds two connections.
const CALLS_AT_ONCE: usize = 2;

/// How long another process's lock is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One directory of SQLite databases.
pub struct SqliteEngine {
    directory: Arc<Directory>,
    calls: Arc<Semaphore>,
}

impl SqliteEngine {
    /// Touches nothing yet. `directory` may be missing: the first reservation makes it, when its
    /// parent exists. `entropy` gives the identities of the directory and of the files.
    pub fn new(directory: impl Into<PathBuf>, entropy: Arc<dyn Entropy>) -> Self {
        Self::with_busy_timeout(directory, entropy, BUSY_TIMEOUT)
    }

    /// With another patience than 5 s for locks that others hold; then the fault is `Busy`.
    pub fn with_busy_timeout(
        directory: impl Into<PathBuf>,
        entropy: Arc<dyn Entropy>,
        busy: Duration,
    ) -> Self {
        Self {
            directory: Arc::new(Directory {
                root: directory.into(),
                entropy,
                busy,
            }),
            calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
        }
    }

    /// Where programs find the file of an open database, whether or not it exists.
    ///
    /// # Errors
    /// `Invalid` for a name that no database can have.
    pub fn file_of(directory: &Path, name: &str) -> Result<PathBuf> {
        let folder = names::Folder::new(name)?;
        Ok(connect::home_in(directory)
            .join(folder.as_str())
            .join(folder.file()))
    }

    /// Runs what blocks off the runtime's threads. It runs to its end even when nobody waits for it
    /// any more: what it changes, it changes under the fence.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce(&Directory) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = |source: Box<dyn std::error::Error + Send + Sync>| {
            EngineError::new(Fault::Undetermined, doing).because(source)
        };
        let permit = self.calls.clone().acquire_owned().await;
        let permit = permit.map_err(|error| closed(error.into()))?;
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&directory)
        })
        .await
        .map_err(|error| closed(error.into()))?
    }
}

impl Engine for SqliteEngine {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn inspect(&self) -> Result<InstanceFacts> {
        self.blocking("inspect the directory", inspect::inspect)
            .await
    }

    async fn survey(&self) -> Result<Survey> {
        self.blocking("survey the directory", survey::survey).await
    }

    async fn reserve(&self, name: &str, stamp: &Stamp, fence: &Fence, gate: &Gate) -> Result<()> {
        reserve::reserve(self, name, stamp, fence, gate).await
    }

    /// The survey is not used: a look costs one row, some `lstat`s and one short connection, and all
    /// of them are fresh.
    async fn converge(
        &self,
        desired: &DesiredDatabase,
        mode: ConvergeMode,
        _survey: Option<&Survey>,
        fence: &Fence,
        gate: &Gate,
    ) -> Result<Vec<Difference>> {
        converge::converge(self, desired, mode, fence, gate).await
    }

    /// There are none; the call is fenced all the same.
    async fn disable_logins(
        &self,
        name: &str,
        stamp: &Stamp,
        _logins: &[String],
        fence: &Fence,
        gate: &Gate,
    ) -> Result<()> {
        reserve::take_over(self, name, stamp, fence, gate).await
    }

    async fn release(&self, name: &str, stamp: &Stamp, fence: &Fence, gate: &Gate) -> Result<()> {
        reserve::release(self, name, stamp, fence, gate).await
    }
}
