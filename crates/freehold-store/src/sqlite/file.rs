//! The store's file: how it is opened, what is in it.

use std::{
    fs::OpenOptions,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::fault::{During, translate};
use crate::{
    CollectionName, Error, ErrorKind, Result,
    index::{Definition, Definitions},
};

/// `FHLD` in the file's header says whose file it is.
const APPLICATION_ID: i32 = 0x4648_4C44;
/// Raised when an older program could no longer keep the promises on such a file.
const FORMAT: i32 = 1;

/// Between two attempts at switching a new file to its write-ahead log.
const SWITCH_PAUSE: Duration = Duration::from_millis(5);

/// Keys and index values are BLOBs, because BLOBs compare as bytes whatever is in them. Records
/// are a table with a rowid and not WITHOUT ROWID, because their values are large. `AUTOINCREMENT`
/// keeps positions of the feed growing after it was trimmed to nothing.
const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('definitions', 0), ('trimmed', 0);
CREATE TABLE collections (name TEXT PRIMARY KEY, definition TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    key BLOB NOT NULL,
    value TEXT NOT NULL,
    rev INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    expires INTEGER,
    UNIQUE (collection, key)
);
CREATE INDEX records_by_expiry ON records (expires) WHERE expires IS NOT NULL;
CREATE TABLE entries (
    collection TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (collection, name, value, key)
) WITHOUT ROWID;
CREATE TABLE feed (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    key BLOB NOT NULL,
    rev INTEGER,
    nonce BLOB,
    at INTEGER NOT NULL
);
CREATE TABLE leases (
    name BLOB PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
";

/// Opens the file for writing; makes it and its tables when there is none.
pub(super) fn open_writer(path: &Path, busy: Duration) -> Result<Connection> {
    create(path)?;
    let fail = |source| translate(path, During::Open, &Arc::new(source));
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    tune(&connection, busy).map_err(fail)?;
    let mode = use_write_ahead_log(&connection, busy).map_err(fail)?;
    if mode != "wal" {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "the store {} cannot use a write-ahead log (journal mode {mode:?}); put it on a \
                 local file system",
                path.display()
            ),
        ));
    }
    // FULL: the log is synced at each commit, so an acknowledged write survives a power cut. NORMAL
    // would sync only at checkpoints and lose the last ones.
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(fail)?;
    prepare(&mut connection, path)?;
    keep_private(path)?;
    Ok(connection)
}

/// Asks for the write-ahead log and says what mode there is then. SQLite refuses the switch at once, and
/// does not ask its busy handler, while another process that opens the new file reads it to do the same.
fn use_write_ahead_log(connection: &Connection, patience: Duration) -> rusqlite::Result<String> {
    let started = Instant::now();
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && started.elapsed() < patience =>
            {
                std::thread::sleep(SWITCH_PAUSE);
            }
            answer => return answer,
        }
    }
}

pub(super) fn open_reader(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    // Read-write, because a reader of a write-ahead log takes part in its shared memory; writing
    // itself is switched off.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    tune(&connection, busy)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn tune(connection: &Connection, busy: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -16_384)
}

/// Records may hold secrets: the file is the owner's alone. Its -wal and -shm inherit the mode.
fn create(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(Error::new(
            ErrorKind::Config,
            format!(
                "the store {} cannot be made; check that its directory exists and that this user \
                 may write to it",
                path.display()
            ),
        )
        .because(source)),
    }
}

/// A file that somebody made or copied here may be open to others: it is shut before secrets are
/// written to it. What is not a store's file has been refused before.
#[cfg(unix)]
fn keep_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        let shut = std::fs::metadata(&file).and_then(|found| {
            if found.permissions().mode() & 0o077 == 0 {
                return Ok(());
            }
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))
        });
        match shut {
            Ok(()) => {}
            // Another process that closes the store takes its log away.
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "the store {} may be read or written by others, and that cannot be changed; \
                         make this user its owner, or put it on another file system",
                        file.display()
                    ),
                )
                .because(source));
            }
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn keep_private(_: &Path) -> Result<()> {
    Ok(())
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let fail = |source| translate(path, During::Open, &Arc::new(source));
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fail)?;
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (owner, format) = (
        pragma("application_id").map_err(fail)?,
        pragma("user_version").map_err(fail)?,
    );
    let tables: i64 = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(fail)?;
    let refuse =
        |reason: String| Error::new(ErrorKind::Config, format!("{} {reason}", path.display()));
    match (owner, format) {
        (APPLICATION_ID, FORMAT) => Ok(()),
        (0, 0) if tables == 0 => {
            transaction.execute_batch(SCHEMA).map_err(fail)?;
            transaction
                .pragma_update(None, "application_id", APPLICATION_ID)
                .and_then(|()| transaction.pragma_update(None, "user_version", FORMAT))
                .map_err(fail)?;
            transaction.commit().map_err(fail)
        }
        (APPLICATION_ID, newer) => Err(refuse(format!(
            "has format {newer}, and this program knows format {FORMAT}; use a newer program"
        ))),
        _ => Err(refuse(
            "is a SQLite file of another program; name another file for the store".to_owned(),
        )),
    }
}

pub(super) fn definitions_version(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'definitions'")?
        .query_row([], |row| row.get(0))
}

/// All definitions; call it inside a transaction, so that they belong to their version.
pub(super) fn load_definitions(connection: &Connection) -> rusqlite::Result<Result<Definitions>> {
    let version = definitions_version(connection)?;
    let mut statement = connection.prepare_cached("SELECT name, definition FROM collections")?;
    let rows: Vec<(String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let collections = rows
        .into_iter()
        .map(|(name, text)| {
            let definition = Definition::from_json(&name, &text)?;
            Ok((CollectionName::new(name)?, definition))
        })
        .collect::<Result<_>>();
    Ok(collections.map(|collections| Definitions {
        version,
        collections,
    }))
}
