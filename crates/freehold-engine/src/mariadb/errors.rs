//! From the driver's errors to what the caller must do.
//!
//! The same broken connection means three things: while connecting nothing has happened
//! (`Unreachable`), while reading nothing can have happened (`Unreachable`), while changing
//! something we do not know (`Undetermined`). So there is one function for each.

use mysql_async::{DriverError, Error, ServerError};

use super::tls;
use crate::{EngineError, Fault, StatementError};

/// The connection could not be made.
pub(super) fn connecting(error: Error, doing: &str) -> EngineError {
    let fault = match &error {
        Error::Server(server) => match server.code {
            // No such database.
            1049 => Fault::Missing {
                what: format!("the database ({})", server.message),
            },
            // No right on that database.
            1044 => Fault::Denied {
                missing: server.message.clone(),
            },
            // Wrong password, no such account, plugin refused, account locked, host not allowed,
            // password expired. Also an unencrypted connection to a server with
            // `require_secure_transport`, which says no more than this.
            1045 | 1130 | 1698 | 1820 | 1862 | 4151 => Fault::Unauthenticated,
            _ => of_server(server),
        },
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => Fault::Unsupported {
            what: format!("log in with the authentication plugin {name:?}"),
        },
        other => Fault::Unreachable {
            detail: tls::explain(other).unwrap_or_else(|| causes(other)),
        },
    };
    EngineError::new(fault, doing).because(error)
}

/// A query failed that changes nothing.
pub(super) fn reading(error: Error, doing: &str) -> EngineError {
    let fault = match &error {
        Error::Server(server) if ends_connection(server) => Fault::Unreachable {
            detail: server.message.clone(),
        },
        Error::Server(server) => of_server(server),
        other => Fault::Unreachable {
            detail: causes(other),
        },
    };
    EngineError::new(fault, doing).because(error)
}

/// A statement failed that may have changed something.
pub(super) fn changing(error: Error, doing: &str) -> EngineError {
    let fault = match &error {
        Error::Server(server) if ends_connection(server) => Fault::Undetermined,
        Error::Server(server) => of_server(server),
        _ => Fault::Undetermined,
    };
    EngineError::new(fault, doing).because(error)
}

/// A statement of a script failed: the server's words go to the script's author whole, whatever
/// class they are.
pub(super) fn scripting(error: Error, doing: &str) -> EngineError {
    let fault = match &error {
        Error::Server(server) if ends_connection(server) => Fault::Undetermined,
        Error::Server(server) => Fault::Statement(statement(server)),
        _ => Fault::Undetermined,
    };
    EngineError::new(fault, doing).because(error)
}

/// Whether the server closes the connection with this message: shutdown, killed, a broken network.
pub(super) fn ends_connection(error: &ServerError) -> bool {
    matches!(
        error.code,
        1053 | 1077 | 1079 | 1080 | 1152..=1161 | 1184 | 1927 | 2006 | 2013
    )
}

/// What an error report of the server means.
fn of_server(error: &ServerError) -> Fault {
    let detail = || error.message.clone();
    match error.code {
        1053 | 1077 | 1079 | 1080 => Fault::Unreachable { detail: detail() },
        // Of a database, a table, a column, a routine, a global right, somebody's session, a grant
        // that we do not have ourselves.
        1044 | 1045 | 1095 | 1142 | 1143 | 1227 | 1370 | 1410 | 1698 => {
            Fault::Denied { missing: detail() }
        }
        1290 | 1792 | 1836 if is_read_only(&error.message) => Fault::ReadOnly,
        // Lock wait, deadlock, statement time, interrupted.
        1205 | 1213 | 1317 | 1969 | 3024 => Fault::Busy { detail: detail() },
        // Disk full, memory, connections, table full, resource limits.
        1021 | 1037 | 1038 | 1040 | 1041 | 1114 | 1203 | 1226 | 1135 => {
            Fault::Exhausted { detail: detail() }
        }
        1030 if error.message.contains("28") => Fault::Exhausted { detail: detail() },
        _ => Fault::Statement(statement(error)),
    }
}

fn is_read_only(message: &str) -> bool {
    let message = message.to_lowercase().replace(['-', '_'], " ");
    message.contains("read only")
}

fn statement(error: &ServerError) -> StatementError {
    StatementError {
        sqlstate: error.state.clone(),
        message: error.message.clone(),
        detail: None,
        hint: None,
        position: None,
        context: Some(format!("MariaDB error {}", error.code)),
    }
}

/// The server's own number of an error, when it is one of the server's.
pub(super) fn code(error: &EngineError) -> Option<u16> {
    let source = std::error::Error::source(error)?;
    match source.downcast_ref::<Error>()? {
        Error::Server(server) => Some(server.code),
        _ => None,
    }
}

/// The whole chain in one line.
fn causes(error: &dyn std::error::Error) -> String {
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
