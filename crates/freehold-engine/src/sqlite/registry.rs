//! Who owns what in this directory, kept in the directory itself.
//!
//! One SQLite file with one row per database: its stamp, the directory's identity when it was taken,
//! the highest epoch seen and who had it, how far the database has come, and which file it is.
//!
//! **The fence** is [`fenced`]: it takes the registry's write lock, compares, raises the epoch, runs
//! the effect and commits. A worker of an older epoch gets the lock too, finds the newer epoch, and
//! changes nothing. What the effect did to files stays when the commit fails: every effect is made so
//! that the next look recognises it.
//!
//! **Making it** is one rename: the file is built under another name, while a lock on the directory
//! keeps others from doing the same, so that nobody ever meets half a registry.
//!
//! Its two places can be set to NULL by a person: `server.place` says "this copy is the one now",
//! `database.place` says "the file that is there now is the one". The next change notes the new place.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use freehold_model::{ControlPlaneId, Name, ServerIdentity, Uid};
use rusqlite::{Connection, OptionalExtension as _, Row, config::DbConfig, types::Type};

use super::{
    connect::{self, Directory, FOLDER_MODE, Place},
    errors::{self, At as _, During},
};
use crate::{EngineError, Fault, Fence, Result, Stamp};

/// `FHRG` in the file's header.
const APPLICATION_ID: i32 = 0x4648_5247;
/// Raised when an older program could no longer keep the promises on such a file.
const FORMAT: i32 = 1;

const TABLES: &str = "
BEGIN;
CREATE TABLE server (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    place TEXT
) STRICT;
CREATE TABLE database (
    name TEXT PRIMARY KEY,
    control_plane TEXT NOT NULL,
    environment TEXT NOT NULL,
    team TEXT NOT NULL,
    database TEXT NOT NULL,
    uid TEXT NOT NULL,
    server TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    actor TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'creating', 'created')),
    released INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1)),
    place TEXT,
    mark INTEGER,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) STRICT;
PRAGMA user_version = 1;
";

/// How far a database has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowState {
    /// The name is taken, nothing exists under it.
    Reserved,
    /// Its file has been made and is known, but may not be in place yet.
    Creating,
    Created,
}

/// One row of the registry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RegistryRow {
    pub(crate) name: String,
    pub(crate) stamp: Stamp,
    pub(crate) server: ServerIdentity,
    pub(crate) epoch: u64,
    pub(crate) actor: String,
    pub(crate) state: RowState,
    pub(crate) released: bool,
    pub(crate) place: Option<Place>,
    /// The `application_id` that its file was given.
    pub(crate) mark: Option<i32>,
}

/// The registry's word about the directory.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    id: String,
    place: Option<Place>,
    /// Where the registry's file is now.
    found: Place,
}

impl Server {
    /// The identity that the stamps were made with.
    pub(crate) fn stamped(&self) -> ServerIdentity {
        ServerIdentity(self.id.clone())
    }

    /// The identity of the directory as it is now. That of a copy is another.
    pub(crate) fn identity(&self) -> ServerIdentity {
        match &self.place {
            Some(place) if !place.is(&self.found) => {
                ServerIdentity(format!("{}-copy-{}", self.id, self.found))
            }
            _ => self.stamped(),
        }
    }

    /// Refuses a copy.
    pub(crate) fn check(&self, doing: &str) -> Result<()> {
        let (expected, found) = (self.stamped(), self.identity());
        if expected == found {
            return Ok(());
        }
        // The fault has no room for a way out.
        let doing = format!(
            "{doing} (this directory is a copy; if it is to replace the original, which must be gone, \
             say so with `sqlite3 freehold-registry.db \"UPDATE server SET place = NULL; UPDATE \
             database SET place = NULL\"` in it)"
        );
        Err(EngineError::new(
            Fault::ServerMismatch { expected, found },
            doing,
        ))
    }
}

/// An open registry.
pub(crate) struct Registry {
    pub(crate) connection: Connection,
    path: PathBuf,
}

impl Registry {
    /// # Errors
    /// `Missing` when there is none, `Invalid` when it is damaged or another program's.
    pub(crate) fn open(directory: &Directory) -> Result<Self> {
        let doing = "open the registry";
        directory.check()?;
        let path = directory.registry();
        let facts = path.symlink_metadata();
        if facts.is_err() {
            let what = format!("the registry {}", path.display());
            return Err(EngineError::new(Fault::Missing { what }, doing));
        }
        let refuse = |detail| Err(EngineError::new(Fault::Invalid { detail }, doing));
        if !facts.at(&path, doing)?.is_file() {
            return refuse(format!("{} is not a file", path.display()));
        }
        let connection = connect::open(&path, directory.busy, doing)?;
        let registry = Self { connection, path };
        // Every call opens it anew; writing the whole log back at each close would cost more than all
        // the rest. A commit does it once the log has grown.
        registry.read(doing, |connection| {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        })?;
        let (owner, format) = registry.read(doing, |connection| {
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
            Ok::<(i32, i32), _>((pragma("application_id")?, pragma("user_version")?))
        })?;
        match (owner, format) {
            (APPLICATION_ID, FORMAT) => Ok(registry),
            (APPLICATION_ID, newer) => refuse(format!(
                "the registry {} has format {newer} and this program knows {FORMAT}; use a newer program",
                registry.path.display()
            )),
            _ => refuse(format!(
                "{} is not a registry of Freehold's; restore it from a backup of the directory",
                registry.path.display()
            )),
        }
    }

    /// For a read-only disk: good for the identity, which has been in the file since it was made.
    pub(crate) fn open_frozen(directory: &Directory) -> Result<Self> {
        let path = directory.registry();
        let connection = connect::open_frozen(&path, "open the registry")?;
        Ok(Self { connection, path })
    }

    pub(crate) fn read<T>(
        &self,
        doing: &str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        read(&self.connection)
            .map_err(|error| errors::sqlite(error, &self.path, During::Work, doing))
    }

    pub(crate) fn server(&self) -> Result<Server> {
        let doing = "read the directory's identity";
        let (id, place): (String, Option<String>) = self.read(doing, |connection| {
            connection.query_row("SELECT id, place FROM server", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
        })?;
        Ok(Server {
            id,
            place: place.and_then(|place| Place::parse(&place)),
            found: Place::at(&self.path, doing)?,
        })
    }

    pub(crate) fn row(&self, name: &str) -> Result<Option<RegistryRow>> {
        self.read("read the registry", |connection| {
            connection
                .query_row(
                    &format!("SELECT {COLUMNS} FROM database WHERE name = ?1"),
                    [name],
                    from_row,
                )
                .optional()
        })
    }

    pub(crate) fn rows(&self) -> Result<Vec<RegistryRow>> {
        self.read("read the registry", |connection| {
            connection
                .prepare(&format!("SELECT {COLUMNS} FROM database ORDER BY name"))?
                .query_map([], from_row)?
                .collect()
        })
    }

    /// Runs `work` while holding the write lock, and commits what it wrote.
    pub(crate) fn change<T>(
        &mut self,
        doing: &str,
        work: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let fail = |path: &Path, during, error| errors::sqlite(error, path, during, doing);
        self.connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(|error| fail(&self.path, During::Work, error))?;
        let done = self.server().and_then(|server| {
            server.check(doing)?;
            self.settle(&server, doing)?;
            work(self)
        });
        let during = if done.is_ok() {
            During::Commit
        } else {
            During::Work
        };
        let ended = match &done {
            Ok(_) => self.connection.execute_batch("COMMIT"),
            // Some errors have ended the transaction already.
            Err(_) if self.connection.is_autocommit() => Ok(()),
            Err(_) => self.connection.execute_batch("ROLLBACK"),
        };
        let done = done?;
        ended.map_err(|error| fail(&self.path, during, error))?;
        Ok(done)
    }

    /// A person has said that this directory is the one: notes where it is.
    fn settle(&self, server: &Server, doing: &str) -> Result<()> {
        if server.place.is_some() {
            return Ok(());
        }
        let place = server.found.to_string();
        self.read(doing, |connection| {
            connection.execute("UPDATE server SET place = ?1", [place])
        })?;
        Ok(())
    }
}

const COLUMNS: &str = "name, control_plane, environment, team, database, uid, server, epoch, \
    actor, state, released, place, mark";

fn from_row(row: &Row<'_>) -> rusqlite::Result<RegistryRow> {
    let state: String = row.get(9)?;
    let place: Option<String> = row.get(11)?;
    Ok(RegistryRow {
        name: row.get(0)?,
        stamp: Stamp {
            control_plane: parsed::<ControlPlaneId>(row, 1)?,
            environment: parsed::<Name>(row, 2)?,
            team: parsed::<Name>(row, 3)?,
            database: parsed::<Name>(row, 4)?,
            uid: parsed::<Uid>(row, 5)?,
        },
        server: ServerIdentity(row.get(6)?),
        epoch: row.get(7)?,
        actor: row.get(8)?,
        state: match state.as_str() {
            "reserved" => RowState::Reserved,
            "creating" => RowState::Creating,
            _ => RowState::Created,
        },
        released: row.get(10)?,
        place: place.and_then(|place| Place::parse(&place)),
        mark: row.get(12)?,
    })
}

fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// Everything that must be true of a row before its owner may act.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) stamp: Stamp,
    pub(crate) fence: Fence,
}

impl Claim {
    /// Compares a row with what it must be.
    pub(crate) fn check<'r>(
        &self,
        server: &Server,
        row: Option<&'r RegistryRow>,
    ) -> Result<&'r RegistryRow> {
        let name = &self.name;
        let missing = |what| Fault::Missing { what };
        let fault = match row {
            None => missing(format!("the registry's row of database {name:?}")),
            Some(row) if row.stamp != self.stamp => Fault::NameTaken {
                name: name.clone(),
                owner: Some(Box::new(row.stamp.clone())),
            },
            Some(row) if row.server != server.identity() => Fault::ServerMismatch {
                expected: row.server.clone(),
                found: server.identity(),
            },
            Some(row) if self.is_overtaken_by(row) => Fault::Fenced {
                ours: self.fence.epoch,
                found: row.epoch,
            },
            Some(row) if row.released => missing(format!(
                "the reservation of database {name:?} (it was released)"
            )),
            Some(row) => return Ok(row),
        };
        Err(EngineError::new(fault, "check the fence"))
    }

    fn is_overtaken_by(&self, row: &RegistryRow) -> bool {
        let (ours, theirs) = (self.fence.epoch, row.epoch);
        theirs > ours || (theirs == ours && row.actor != self.fence.actor)
    }

    /// Writes the fence's epoch into the row, when it is not there yet.
    pub(crate) fn raise(&self, registry: &Registry, row: &RegistryRow) -> Result<()> {
        if row.epoch == self.fence.epoch && row.actor == self.fence.actor {
            return Ok(());
        }
        let epoch = epoch(&self.fence)?;
        registry.read("raise the epoch", |connection| {
            connection.execute(
                "UPDATE database SET epoch = ?2, actor = ?3, \
                 updated_at = strftime('%Y-%m-%dT%H:%M:%fZ') WHERE name = ?1",
                (&self.name, epoch, &self.fence.actor),
            )
        })?;
        Ok(())
    }
}

pub(crate) fn epoch(fence: &Fence) -> Result<i64> {
    i64::try_from(fence.epoch).map_err(|_| {
        let detail = format!("epoch {} is beyond what SQLite can keep", fence.epoch);
        EngineError::new(Fault::Invalid { detail }, "check the fence")
    })
}

/// Runs an effect while nobody with another claim can act.
pub(crate) fn fenced<T>(
    directory: &Directory,
    claim: &Claim,
    doing: &str,
    effect: impl FnOnce(&Registry, &RegistryRow) -> Result<T>,
) -> Result<T> {
    Registry::open(directory)?.change(doing, |registry| {
        let row = registry.row(&claim.name)?;
        let row = claim.check(&registry.server()?, row.as_ref())?;
        claim.raise(registry, row)?;
        effect(registry, row)
    })
}

/// Makes the directory and its registry; two at once both succeed.
pub(crate) fn create(directory: &Directory) -> Result<()> {
    let doing = "create the registry";
    let root = &directory.root;
    if root.symlink_metadata().is_err() {
        connect::ensure_folder(root, doing).map_err(|error| missing_parent(error, root))?;
    }
    directory.check()?;
    let _lock = lock(directory, doing)?;
    let registry = directory.registry();
    if registry.symlink_metadata().is_ok() {
        return Ok(());
    }
    check_vacant(root, doing)?;
    connect::restrict(root, FOLDER_MODE, doing)?;
    for place in [
        directory.homes(),
        directory.quarantines(),
        directory.makings(),
    ] {
        connect::ensure_folder(&place, doing)?;
    }
    let unfinished = unfinished(root);
    let built = build(directory, &unfinished, doing);
    if built.is_err() {
        remove_unfinished(&unfinished);
    }
    built?;
    fs::rename(&unfinished, &registry).at(&registry, doing)?;
    connect::sync_folder(root, doing)
}

fn unfinished(root: &Path) -> PathBuf {
    root.join("freehold-registry.unfinished")
}

fn remove_unfinished(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = fs::remove_file(PathBuf::from(name));
    }
}

fn build(directory: &Directory, path: &Path, doing: &str) -> Result<()> {
    remove_unfinished(path);
    let connection = connect::make_file(path, APPLICATION_ID, directory.busy, doing)?;
    let mut id = String::from("sqlite-");
    for byte in directory.random::<16>() {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    let place = Place::at(path, doing)?.to_string();
    connection
        .execute_batch(TABLES)
        .and_then(|()| {
            connection.execute(
                "INSERT INTO server (one, id, place) VALUES (1, ?1, ?2)",
                (id, place),
            )
        })
        .and_then(|_| connection.execute_batch("COMMIT"))
        .map_err(|error| errors::sqlite(error, path, During::Work, doing))?;
    connect::close(connection, path, doing)
}

/// A parent that is not there is more likely a disk that is not mounted than a wish.
fn missing_parent(mut error: EngineError, root: &Path) -> EngineError {
    if let Fault::Missing { what } = &mut error.fault {
        *what = format!(
            "the folder that {} should be made in (is its disk mounted?)",
            root.display()
        );
    }
    error
}

/// A directory with content of somebody else is not ours to close to others; one with databases and
/// without a registry has lost it.
fn check_vacant(root: &Path, doing: &str) -> Result<()> {
    for entry in fs::read_dir(root).at(root, doing)? {
        let entry = entry.at(root, doing)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let leftover = name.starts_with("freehold-registry.unfinished");
        let own = ["databases", "quarantine", "making"].contains(&&*name);
        let emptied =
            own && fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none());
        if leftover || emptied {
            continue;
        }
        let shown = root.display();
        let detail = if own {
            format!(
                "{shown} holds databases, but its registry freehold-registry.db is gone; restore it \
                 from a backup of the directory"
            )
        } else {
            format!(
                "{shown} is not empty ({name:?} is there); name an empty directory or a new one"
            )
        };
        return Err(EngineError::new(Fault::Invalid { detail }, doing));
    }
    Ok(())
}

/// Keeps other makers of the registry out, until the file that it returns is closed. It is a lock on
/// the directory, never on a file that SQLite locks.
fn lock(directory: &Directory, doing: &str) -> Result<File> {
    const PAUSE: Duration = Duration::from_millis(10);
    let root = &directory.root;
    let file = File::open(root).at(root, doing)?;
    let began = Instant::now();
    loop {
        let flag = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        match rustix::fs::flock(&file, flag) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < directory.busy => {
                std::thread::sleep(PAUSE);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let detail = format!("another process is making {}", root.display());
                return Err(EngineError::new(Fault::Busy { detail }, doing));
            }
            Err(error) => return Err(errors::file(error.into(), root, doing)),
        }
    }
}
