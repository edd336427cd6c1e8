//! What SQLite and the file system mean by their errors.

use std::{io, path::Path};

use rusqlite::{ErrorCode, ffi};

use crate::{EngineError, Fault, Result, StatementError};

/// When an error came; it decides what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum During {
    /// Nothing was to be changed, or what was changed is rolled back.
    Work,
    Commit,
}

/// An error of SQLite on one of our files, outside of a script.
pub(crate) fn sqlite(
    error: rusqlite::Error,
    path: &Path,
    during: During,
    doing: &str,
) -> EngineError {
    let fault = of_library(&error, path, during).unwrap_or_else(|| Fault::Statement(words(&error)));
    EngineError::new(fault, doing).because(error)
}

/// An error of a script's statement. What the machine is to blame for is said as such; all else goes
/// to the script's author in SQLite's own words.
pub(crate) fn scripting(
    error: rusqlite::Error,
    path: &Path,
    text: &str,
    doing: &str,
) -> EngineError {
    let machine = match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => of_library(&error, path, During::Commit),
        _ => None,
    };
    let fault = machine.unwrap_or_else(|| {
        let mut words = words(&error);
        if let rusqlite::Error::SqlInputError { sql, offset, .. } = &error {
            words.position = position(text, sql, *offset);
        }
        Fault::Statement(words)
    });
    EngineError::new(fault, doing).because(error)
}

fn of_library(error: &rusqlite::Error, path: &Path, during: During) -> Option<Fault> {
    let shown = path.display();
    let code = error.sqlite_error_code()?;
    let troubled = matches!(
        code,
        ErrorCode::CannotOpen | ErrorCode::SystemIoFailure | ErrorCode::ReadOnly
    );
    // The log's index cannot be made on a full or read-only disk, and SQLite has no word for why.
    if troubled && let Some(fault) = of_disk(path) {
        return Some(fault);
    }
    Some(match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Fault::Busy {
            detail: format!("another program holds a lock on {shown}"),
        },
        ErrorCode::DiskFull => Fault::Exhausted {
            detail: format!("no space is left for {shown}; nothing was changed"),
        },
        ErrorCode::OutOfMemory => Fault::Exhausted {
            detail: "out of memory".into(),
        },
        ErrorCode::CannotOpen if path.symlink_metadata().is_err() => Fault::Missing {
            what: format!("the file {shown}"),
        },
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Fault::Denied {
            missing: format!("to open {shown} for reading and writing, and its folder"),
        },
        ErrorCode::ReadOnly => Fault::ReadOnly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Fault::Invalid {
            detail: damaged(path),
        },
        ErrorCode::OperationInterrupted => Fault::Busy {
            detail: "interrupted".into(),
        },
        ErrorCode::SystemIoFailure if during == During::Commit => Fault::Undetermined,
        ErrorCode::SystemIoFailure => Fault::Unreachable {
            detail: format!("the disk failed at {shown}"),
        },
        _ => return None,
    })
}

/// What the file system itself says: full, or read-only.
fn of_disk(path: &Path) -> Option<Fault> {
    let place = path
        .ancestors()
        .skip(1)
        .find(|place| place.is_dir())
        .unwrap_or(path);
    let facts = rustix::fs::statvfs(place).ok()?;
    if facts.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Some(Fault::ReadOnly);
    }
    (facts.f_bavail == 0).then(|| Fault::Exhausted {
        detail: format!("no space is left for {}", path.display()),
    })
}

pub(crate) fn damaged(path: &Path) -> String {
    let path = path.display();
    format!(
        "{path} is damaged or is not a SQLite file. Stop every program that uses it, keep it with the \
         -wal beside it, and restore a backup; without one, `sqlite3 {path} .recover` saves what can \
         be read"
    )
}

/// An error of the file system.
pub(crate) fn file(error: io::Error, path: &Path, doing: &str) -> EngineError {
    let shown = path.display();
    let fault = match error.kind() {
        io::ErrorKind::NotFound => Fault::Missing {
            what: shown.to_string(),
        },
        io::ErrorKind::PermissionDenied => Fault::Denied {
            missing: format!("the account Freehold runs as may not use {shown}"),
        },
        io::ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Exhausted {
            detail: format!("no space is left for {shown}"),
        },
        _ => Fault::Unreachable {
            detail: format!("{shown}: {error}"),
        },
    };
    EngineError::new(fault, doing).because(error)
}

/// For `map_err` on the file system's results.
pub(crate) trait At<T> {
    fn at(self, path: &Path, doing: &str) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path, doing: &str) -> Result<T> {
        self.map_err(|error| file(error, path, doing))
    }
}

/// SQLite's words about a statement.
fn words(error: &rusqlite::Error) -> StatementError {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(error, message) => (
            error.extended_code,
            message.clone().unwrap_or_else(|| error.to_string()),
        ),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.extended_code, msg.clone()),
        other => (ffi::SQLITE_MISUSE, other.to_string()),
    };
    // For a function, SQLite says in words what it says by its code elsewhere.
    let code = if message.starts_with("not authorized to use function") {
        ffi::SQLITE_AUTH
    } else {
        code
    };
    let hint = (code == ffi::SQLITE_AUTH).then(|| {
        "A migration may change what is in its file and nothing else: no ATTACH, no extension, no \
         pragma that reaches outside or weakens the file."
            .to_owned()
    });
    StatementError {
        sqlstate: name(code),
        message,
        detail: None,
        hint,
        position: None,
        context: None,
    }
}

/// In characters from 1. `rest` is what SQLite was given: the text from the failing statement on.
fn position(text: &str, rest: &str, offset: i32) -> Option<u32> {
    let before = text.len().checked_sub(rest.len())?;
    let at = before.checked_add(usize::try_from(offset).ok()?)?;
    let at = text.floor_char_boundary(at);
    u32::try_from(text[..at].chars().count() + 1).ok()
}

/// A result code's name, in the field that holds SQLSTATEs elsewhere. An interruption has
/// PostgreSQL's SQLSTATE, by which whoever cancelled recognises it.
fn name(code: i32) -> String {
    let name = match code {
        ffi::SQLITE_ERROR => "SQLITE_ERROR",
        ffi::SQLITE_AUTH => "SQLITE_AUTH",
        ffi::SQLITE_READONLY => "SQLITE_READONLY",
        ffi::SQLITE_INTERRUPT => "57014",
        ffi::SQLITE_TOOBIG => "SQLITE_TOOBIG",
        ffi::SQLITE_MISMATCH => "SQLITE_MISMATCH",
        ffi::SQLITE_RANGE => "SQLITE_RANGE",
        ffi::SQLITE_MISUSE => "SQLITE_MISUSE",
        ffi::SQLITE_SCHEMA => "SQLITE_SCHEMA",
        ffi::SQLITE_CONSTRAINT => "SQLITE_CONSTRAINT",
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "SQLITE_CONSTRAINT_FOREIGNKEY",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        _ => return format!("SQLITE_{code}"),
    };
    name.to_owned()
}
