//! From the driver's errors to what the caller must do.
//!
//! The same broken connection means three things: while connecting nothing has happened
//! (`Unreachable`), while reading nothing can have happened (`Unreachable`), while changing
//! something we do not know (`Undetermined`). So there is one function for each.

use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

use super::tls;
use crate::{EngineError, Fault, StatementError};

/// The connection could not be made.
pub(crate) fn connecting(error: tokio_postgres::Error, doing: &str) -> EngineError {
    let fault = match error.as_db_error() {
        Some(db) => match *db.code() {
            SqlState::INVALID_CATALOG_NAME => Fault::Missing {
                what: format!("the database ({})", db.message()),
            },
            // On connecting, this is a CONNECT right that is lacking.
            SqlState::INSUFFICIENT_PRIVILEGE => Fault::Denied {
                missing: db.message().to_owned(),
            },
            // Not the login is wrong, but where it comes from or that it is not encrypted.
            _ if db.message().contains("pg_hba.conf") => Fault::Denied {
                missing: format!(
                    "a line in the server's pg_hba.conf ({}); where it asks for TLS (`hostssl`), \
                     say `tls: verifyFull`",
                    db.message()
                ),
            },
            _ => of_server(db),
        },
        None => Fault::Unreachable {
            detail: tls::explain(&error).unwrap_or_else(|| causes(&error)),
        },
    };
    EngineError::new(fault, doing).because(error)
}

/// A query failed that changes nothing.
pub(crate) fn reading(error: tokio_postgres::Error, doing: &str) -> EngineError {
    let fault = match error.as_db_error() {
        Some(db) if ends_connection(db) => Fault::Unreachable {
            detail: db.message().to_owned(),
        },
        Some(db) => of_server(db),
        None => Fault::Unreachable {
            detail: causes(&error),
        },
    };
    EngineError::new(fault, doing).because(error)
}

/// A statement failed that may have changed something.
pub(crate) fn changing(error: tokio_postgres::Error, doing: &str) -> EngineError {
    let fault = match error.as_db_error() {
        Some(db) if ends_connection(db) => Fault::Undetermined,
        Some(db) => of_server(db),
        None => Fault::Undetermined,
    };
    EngineError::new(fault, doing).because(error)
}

/// A statement of a script failed: the server's words go to the script's author whole, whatever
/// class they are.
pub(crate) fn scripting(error: tokio_postgres::Error, doing: &str) -> EngineError {
    let fault = match error.as_db_error() {
        Some(db) if ends_connection(db) => Fault::Undetermined,
        Some(db) => Fault::Statement(statement(db)),
        None => Fault::Undetermined,
    };
    EngineError::new(fault, doing).because(error)
}

/// Whether the server closed the connection with this message, so that a commit under way may or
/// may not have happened.
fn ends_connection(db: &DbError) -> bool {
    matches!(
        db.code(),
        &SqlState::ADMIN_SHUTDOWN
            | &SqlState::CRASH_SHUTDOWN
            | &SqlState::DATABASE_DROPPED
            | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
    ) || db.code().code().starts_with("08")
        || matches!(db.severity(), "FATAL" | "PANIC")
}

/// What an error report of the server means.
fn of_server(db: &DbError) -> Fault {
    let detail = || db.message().to_owned();
    match db.code() {
        &SqlState::CANNOT_CONNECT_NOW | &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN => {
            Fault::Unreachable { detail: detail() }
        }
        &SqlState::READ_ONLY_SQL_TRANSACTION => Fault::ReadOnly,
        &SqlState::INSUFFICIENT_PRIVILEGE => Fault::Denied {
            missing: match db.detail() {
                Some(more) => format!("{} ({more})", db.message()),
                None => detail(),
            },
        },
        &SqlState::LOCK_NOT_AVAILABLE
        | &SqlState::QUERY_CANCELED
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::OBJECT_IN_USE => Fault::Busy { detail: detail() },
        &SqlState::INTERNAL_ERROR if is_concurrent_catalog_update(db) => {
            Fault::Busy { detail: detail() }
        }
        code if code.code().starts_with("28") => Fault::Unauthenticated,
        code if code.code().starts_with("53") || code == &SqlState::IO_ERROR => {
            Fault::Exhausted { detail: detail() }
        }
        code if code.code().starts_with("08") => Fault::Unreachable { detail: detail() },
        _ => Fault::Statement(statement(db)),
    }
}

/// Two ACL changes of one catalog row at once: the server has no word of its own for it.
pub(crate) fn is_concurrent_catalog_update(db: &DbError) -> bool {
    db.code() == &SqlState::INTERNAL_ERROR && db.message().starts_with("tuple concurrently")
}

pub(crate) fn statement(db: &DbError) -> StatementError {
    let named = [
        ("constraint", db.constraint()),
        ("table", db.table()),
        ("column", db.column()),
    ];
    let mut context: Vec<String> = named
        .iter()
        .filter_map(|(what, name)| name.map(|name| format!("{what} {name:?}")))
        .collect();
    context.extend(db.where_().map(str::to_owned));
    StatementError {
        sqlstate: db.code().code().to_owned(),
        message: db.message().to_owned(),
        detail: db.detail().map(str::to_owned),
        hint: db.hint().map(str::to_owned),
        position: match db.position() {
            Some(ErrorPosition::Original(position)) => Some(*position),
            Some(ErrorPosition::Internal { .. }) | None => None,
        },
        context: (!context.is_empty()).then(|| context.join(", ")),
    }
}

/// The whole chain in one line, because the driver's outer words ("error connecting to server") say
/// nothing that helps.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}
