//! What SQLite's errors mean to a caller of the store.

use std::{path::Path, sync::Arc};

use rusqlite::ErrorCode;

use crate::{Error, ErrorKind};

/// The moment at which an error came; it decides what is known about the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum During {
    Open,
    Read,
    /// Inside a transaction that has been or will be rolled back.
    Write,
    /// The commit itself.
    Commit,
}

/// The error is shared, because one failed commit is the answer to every batch in it.
pub(super) fn translate(path: &Path, during: During, source: &Arc<rusqlite::Error>) -> Error {
    let path = path.display();
    let (kind, message) = match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Throttled,
            format!(
                "another process holds the write lock of the store {path}; nothing was changed, \
                 try again"
            ),
        ),
        Some(ErrorCode::DiskFull) => (
            ErrorKind::Unavailable,
            format!("no space is left for the store {path}; nothing was changed; make room"),
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (ErrorKind::Corrupt, damaged(&path))
        }
        Some(ErrorCode::TooBig) => (
            ErrorKind::TooLarge,
            "the record is larger than SQLite can keep".to_owned(),
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) if during == During::Open => (
            ErrorKind::Config,
            format!(
                "the store {path} cannot be opened; check that its directory exists and that this \
                 user may write to it"
            ),
        ),
        Some(ErrorCode::ReadOnly) => (
            if during == During::Open {
                ErrorKind::Config
            } else {
                ErrorKind::Unavailable
            },
            format!("the store {path} is read-only; nothing was changed"),
        ),
        Some(ErrorCode::SystemIoFailure) if during == During::Commit => (
            ErrorKind::Undetermined,
            format!(
                "the disk failed while a change to the store {path} was being committed; read \
                 before trying again, and check the disk"
            ),
        ),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::NoLargeFileSupport,
        ) => (
            ErrorKind::Unavailable,
            format!("the store {path} cannot be used right now; nothing was changed"),
        ),
        // No such table or column, a constraint that our own checks exclude, a column of another
        // type: the file does not hold what this program put there.
        _ => (
            ErrorKind::Corrupt,
            format!(
                "the content of the store is not as expected: {}",
                damaged(&path)
            ),
        ),
    };
    Error::new(kind, message).because(Arc::clone(source))
}

fn damaged(path: &std::path::Display<'_>) -> String {
    format!(
        "the store file {path} is damaged. Stop every process that uses it, keep the file and its \
         -wal beside it, and restore a backup; without one, `sqlite3 {path} .recover` saves what can \
         be read"
    )
}
