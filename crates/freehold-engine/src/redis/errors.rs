//! From the driver's errors to what the caller must do.
//!
//! The same broken connection means three things: while connecting nothing has happened
//! (`Unreachable`), while reading nothing can have happened (`Unreachable`), while changing
//! something we do not know (`Undetermined`). So there is one function for each.

use redis::{ErrorKind, RedisError, ServerError};

use super::tls;
use crate::{EngineError, Fault, StatementError};

/// The connection could not be made.
pub(super) fn connecting(error: RedisError, doing: &str) -> EngineError {
    let fault = match error.code() {
        Some(code) => match of_server(code, error.detail().unwrap_or_default()) {
            Fault::Statement(words) => Fault::Unreachable {
                detail: words.message,
            },
            fault => fault,
        },
        None if error.kind() == ErrorKind::AuthenticationFailed => Fault::Unauthenticated,
        None => Fault::Unreachable {
            detail: tls::explain(&error).unwrap_or_else(|| error.to_string()),
        },
    };
    EngineError::new(fault, doing).because(error)
}

/// The connection broke under commands that change nothing.
pub(super) fn reading(error: RedisError, doing: &str) -> EngineError {
    let detail = error.to_string();
    EngineError::new(Fault::Unreachable { detail }, doing).because(error)
}

/// The connection broke under commands that change something.
pub(super) fn changing(error: RedisError, doing: &str) -> EngineError {
    EngineError::new(Fault::Undetermined, doing).because(error)
}

/// The server refused a command.
pub(super) fn refused(error: &ServerError, doing: &str) -> EngineError {
    let fault = of_server(error.code(), error.details().unwrap_or_default());
    EngineError::new(fault, doing)
}

fn of_server(code: &str, words: &str) -> Fault {
    let detail = format!("{code} {words}");
    match code {
        "NOPERM" => Fault::Denied { missing: detail },
        "NOAUTH" | "WRONGPASS" => Fault::Unauthenticated,
        "READONLY" => Fault::ReadOnly,
        // A script or a function of somebody runs and runs.
        "BUSY" | "TRYAGAIN" | "INPROG" => Fault::Busy { detail },
        "OOM" => Fault::Exhausted {
            detail: format!(
                "{detail}; until there is room, e.g. by CONFIG SET maxmemory, no account can be set either"
            ),
        },
        // A disk that takes no snapshot, replicas that are asked for and not there, and the last
        // connection.
        "MISCONF" | "NOREPLICAS" => Fault::Exhausted { detail },
        "ERR" if words.contains("max number of clients") => Fault::Exhausted { detail },
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "DENIED" => Fault::Unreachable { detail },
        "MOVED" | "ASK" | "CROSSSLOT" => Fault::Unsupported {
            what: format!("administer a Redis cluster ({detail})"),
        },
        "ERR" if is_without_accounts(words) => Fault::Unsupported {
            what: format!(
                "administer this server: it lets nobody set accounts ({words}); Redis 7 or Valkey is \
                 needed, with the ACL commands open to the admin"
            ),
        },
        _ => Fault::Statement(StatementError {
            sqlstate: code.to_owned(),
            message: words.to_owned(),
            detail: None,
            hint: None,
            position: None,
            context: None,
        }),
    }
}

/// Managed services take the commands away or rename them.
fn is_without_accounts(words: &str) -> bool {
    let words = words.to_lowercase();
    words.contains("unknown command") && (words.contains("acl") || words.contains("config"))
}
