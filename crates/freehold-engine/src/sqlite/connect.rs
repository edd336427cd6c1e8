//! The directory, its places, and how files in it are made and opened.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use freehold_model::Entropy;
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    errors::{self, At as _, During},
    names::Folder,
};
use crate::{EngineError, Fault, Result};

pub(crate) const FOLDER_MODE: u32 = 0o700;
pub(crate) const FILE_MODE: u32 = 0o600;

/// One directory of databases.
pub(crate) struct Directory {
    pub(crate) root: PathBuf,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) busy: Duration,
}

/// Where the folders of open databases are.
pub(crate) fn home_in(root: &Path) -> PathBuf {
    root.join("databases")
}

impl Directory {
    pub(crate) fn registry(&self) -> PathBuf {
        self.root.join("freehold-registry.db")
    }

    pub(crate) fn homes(&self) -> PathBuf {
        home_in(&self.root)
    }

    pub(crate) fn quarantines(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Holds only what no row calls created, so whatever is in it may be thrown away.
    pub(crate) fn makings(&self) -> PathBuf {
        self.root.join("making")
    }

    pub(crate) fn home(&self, folder: &Folder) -> PathBuf {
        self.homes().join(folder.as_str())
    }

    pub(crate) fn quarantine(&self, folder: &Folder) -> PathBuf {
        self.quarantines().join(folder.as_str())
    }

    pub(crate) fn making(&self, folder: &Folder) -> PathBuf {
        self.makings().join(folder.as_str())
    }

    /// The permissions of the directory, which must exist and be ours: somebody else's could be
    /// changed under our hands.
    pub(crate) fn check(&self) -> Result<u32> {
        let doing = "look at the directory";
        let facts = fs::metadata(&self.root).at(&self.root, doing)?;
        let shown = self.root.display();
        if !facts.is_dir() {
            let detail = format!("{shown} is not a directory");
            return Err(EngineError::new(Fault::Invalid { detail }, doing));
        }
        let (owner, us) = (facts.uid(), us());
        if owner != us {
            let missing = format!(
                "{shown} belongs to account {owner} and Freehold runs as {us}; run it as that account \
                 or name a directory of its own"
            );
            return Err(EngineError::new(Fault::Denied { missing }, doing));
        }
        Ok(facts.mode() & 0o7777)
    }

    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}

/// The account that we run as.
pub(crate) fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Which file it is, whatever its name: inode and time of birth (ns since 1970), where the file
/// system knows it. A copy has another of both. The device's number is no part of it, because it may
/// change when the machine starts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    inode: u64,
    born: Option<u128>,
}

impl Place {
    pub(crate) fn of(facts: &fs::Metadata) -> Self {
        let born = facts.created().ok();
        let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Self {
            inode: facts.ino(),
            born: born.map(|born| born.as_nanos()),
        }
    }

    /// Of a regular file, not through a link.
    pub(crate) fn at(path: &Path, doing: &str) -> Result<Self> {
        Ok(Self::of(&path.symlink_metadata().at(path, doing)?))
    }

    /// A time of birth that one of them lacks says nothing.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let born_together = match (self.born, other.born) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.inode == other.inode && born_together
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (inode, born) = text.split_once('@')?;
        Some(Self {
            inode: inode.parse().ok()?,
            born: if born.is_empty() {
                None
            } else {
                Some(born.parse().ok()?)
            },
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.inode)?;
        self.born.map_or(Ok(()), |born| write!(f, "{born}"))
    }
}

/// Makes a folder that is ours alone. It must not exist, but its parent must.
pub(crate) fn make_folder(path: &Path, doing: &str) -> Result<()> {
    DirBuilder::new()
        .mode(FOLDER_MODE)
        .create(path)
        .at(path, doing)?;
    // A parent's set-group-id bit is inherited; the account's mask may take more than it should.
    restrict(path, FOLDER_MODE, doing)
}

/// Makes one of the places of the directory when it is missing.
pub(crate) fn ensure_folder(path: &Path, doing: &str) -> Result<()> {
    match make_folder(path, doing) {
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}

pub(crate) fn restrict(path: &Path, mode: u32, doing: &str) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).at(path, doing)
}

/// What was renamed or made in a folder is there after a power cut too.
pub(crate) fn sync_folder(path: &Path, doing: &str) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .at(path, doing)
}

/// Makes an empty SQLite file with a write-ahead log and the given `application_id`. Nobody else may
/// know the path yet (see the module's description of [`super`]).
pub(crate) fn make_file(path: &Path, mark: i32, busy: Duration, doing: &str) -> Result<Connection> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .at(path, doing)?;
    restrict(path, FILE_MODE, doing)?;
    let connection = open(path, busy, doing)?;
    let fail = |error| errors::sqlite(error, path, During::Work, doing);
    connection
        .pragma_update(None, "application_id", mark)
        .map_err(fail)?;
    use_log(&connection, path, doing)?;
    Ok(connection)
}

/// Opens a file that exists. It is anybody's: nothing in it is trusted.
pub(crate) fn open(path: &Path, busy: Duration, doing: &str) -> Result<Connection> {
    let fail = |error| errors::sqlite(error, path, During::Work, doing);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(busy).map_err(fail)?;
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    ] {
        connection.set_db_config(setting, value).map_err(fail)?;
    }
    connection
        .pragma_update(None, "cell_size_check", true)
        .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
        .map_err(fail)?;
    Ok(connection)
}

/// Opens a file on a disk that cannot be written to, where a log's index cannot be made either. What
/// is in the log and not yet in the file is not seen.
pub(crate) fn open_frozen(path: &Path, doing: &str) -> Result<Connection> {
    let mut uri = String::from("file:");
    for character in path.to_string_lossy().chars() {
        match character {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            usual => uri.push(usual),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags)
        .map_err(|error| errors::sqlite(error, path, During::Work, doing))
}

/// Switches to the write-ahead log. Waits for those who use the file without one.
pub(crate) fn use_log(connection: &Connection, path: &Path, doing: &str) -> Result<()> {
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| errors::sqlite(error, path, During::Work, doing))?;
    if mode == "wal" {
        return Ok(());
    }
    let what = format!(
        "use a write-ahead log for {} (journal mode {mode:?}); put the directory on a local file \
         system",
        path.display()
    );
    Err(EngineError::new(Fault::Unsupported { what }, doing))
}

/// Closes and hears about what went wrong in it.
pub(crate) fn close(connection: Connection, path: &Path, doing: &str) -> Result<()> {
    connection
        .close()
        .map_err(|(_, error)| errors::sqlite(error, path, During::Work, doing))
}
