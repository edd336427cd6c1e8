//! What is there, as plain values: a database's file in its three possible places, by `lstat`, and
//! what the file says of itself, through SQLite.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rusqlite::config::DbConfig;

use super::{
    connect::{self, Directory, Place},
    errors::{self, At as _, During},
    names::Folder,
    registry::{Claim, Registry, RegistryRow},
};
use crate::{EngineError, Fault, Result};

/// Everything that a plan is made from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observed {
    pub(crate) row: RegistryRow,
    /// Permissions of the directory and of the registry's file.
    pub(crate) directory_mode: u32,
    pub(crate) registry_mode: u32,
    pub(crate) home: Spot,
    pub(crate) quarantine: Spot,
    pub(crate) making: Spot,
    /// Of the file at home, when it was worth a look.
    pub(crate) inside: Option<Inside>,
}

/// What is at one of the places.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Spot {
    Empty,
    /// Something that is not a database's folder, in words.
    Other(String),
    File(Found),
}

/// A database's folder with its file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) place: Place,
    /// The folder, the file, the log, its index: those that exist, with permissions and account.
    pub(crate) parts: Vec<Part>,
    pub(crate) size_bytes: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) should: u32,
    /// Of an account that is not ours.
    pub(crate) stranger: Option<u32>,
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Inside {
    Read { journal_mode: String, mark: i32 },
    Damaged(String),
}

impl Spot {
    pub(crate) fn holds(&self, place: Option<&Place>) -> Option<&Found> {
        match (self, place) {
            (Self::File(found), Some(place)) if found.place.is(place) => Some(found),
            _ => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::Empty
    }

    pub(crate) fn words(&self) -> String {
        match self {
            Self::Empty => "nothing".into(),
            Self::Other(what) => what.clone(),
            Self::File(_) => "another file".into(),
        }
    }
}

/// Looks at one folder.
pub(crate) fn spot(path: &Path, folder: &Folder) -> Result<Spot> {
    let doing = "look at a database's folder";
    let facts = match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Spot::Empty),
        facts => facts.at(path, doing)?,
    };
    if !facts.is_dir() {
        return Ok(Spot::Other("something that is not a folder".into()));
    }
    let us = connect::us();
    let part = |path: PathBuf, facts: &fs::Metadata, should| Part {
        path,
        mode: facts.mode() & 0o7777,
        should,
        stranger: (facts.uid() != us).then_some(facts.uid()),
    };
    let mut found: Option<Place> = None;
    let mut size_bytes = 0;
    let mut parts = vec![part(path.to_owned(), &facts, connect::FOLDER_MODE)];
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let file = path.join(format!("{}{suffix}", folder.file()));
        let facts = match file.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            facts => facts.at(&file, doing)?,
        };
        if !facts.is_file() {
            let what = format!("a folder whose {} is not a file", file.display());
            return Ok(Spot::Other(what));
        }
        if suffix.is_empty() {
            found = Some(Place::of(&facts));
        }
        size_bytes += facts.len();
        parts.push(part(file, &facts, connect::FILE_MODE));
    }
    Ok(match found {
        None => Spot::Other(format!("a folder without {}", folder.file())),
        Some(place) => Spot::File(Found {
            place,
            parts,
            size_bytes,
        }),
    })
}

/// Looks without changing anything. Refuses who is not the owner, or not any more.
pub(crate) fn look(
    directory: &Directory,
    folder: &Folder,
    claim: &Claim,
    open: bool,
) -> Result<Observed> {
    let registry = Registry::open(directory)?;
    let server = registry.server()?;
    server.check("look at the directory's identity")?;
    let row = registry.row(&claim.name)?;
    let row = claim.check(&server, row.as_ref())?.clone();
    let registry_mode = directory.registry().symlink_metadata();
    let registry_mode = registry_mode.at(&directory.registry(), "look at the registry")?;
    let mut seen = Observed {
        directory_mode: directory.check()?,
        registry_mode: registry_mode.mode() & 0o7777,
        home: spot(&directory.home(folder), folder)?,
        quarantine: spot(&directory.quarantine(folder), folder)?,
        making: spot(&directory.making(folder), folder)?,
        inside: None,
        row,
    };
    let ours = seen.home.holds(seen.row.place.as_ref()).is_some();
    if ours && open {
        let file = directory.home(folder).join(folder.file());
        seen.inside = Some(inside(directory, &file)?);
    }
    Ok(seen)
}

/// Reads the file's header through SQLite.
fn inside(directory: &Directory, file: &Path) -> Result<Inside> {
    let doing = "look into the database's file";
    let connection = match connect::open(file, directory.busy, doing) {
        Ok(connection) => connection,
        Err(error) => return damaged(error),
    };
    let fail = |error| errors::sqlite(error, file, During::Work, doing);
    // Who only looks leaves the log to those who wrote it.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(fail)?;
    let read = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .and_then(|mark: i32| {
            let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            Ok((mark, mode))
        });
    match read {
        Ok((mark, journal_mode)) => Ok(Inside::Read { journal_mode, mark }),
        Err(error) => damaged(fail(error)),
    }
}

fn damaged(error: EngineError) -> Result<Inside> {
    match error.fault {
        Fault::Invalid { detail } => Ok(Inside::Damaged(detail)),
        _ => Err(error),
    }
}
