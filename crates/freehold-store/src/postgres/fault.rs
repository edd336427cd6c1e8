//! What PostgreSQL's errors mean to a caller of the store.

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use rustls::CertificateError;
use tokio_postgres::{
    Error as PgError,
    error::{DbError, Severity, SqlState},
};

use crate::{Error, ErrorKind};

/// Whether a lost answer leaves something unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Connecting or reading.
    None,
    /// Something may have been committed.
    Write,
}

pub(super) fn translate(effect: Effect, source: PgError) -> Error {
    let (kind, message) = match source.as_db_error() {
        Some(refusal) if ends_session(refusal) => lost(effect),
        Some(refusal) => (kind_of(refusal.code()), explain(refusal)),
        None if effect == Effect::Write => lost(effect),
        None if let Some(refusal) = tls_refusal(&source) => (ErrorKind::Config, refusal),
        // Without an answer from the server: the network, or TLS, or a login that cannot be tried.
        None if is_setup(&source) => (
            ErrorKind::Config,
            "the store's PostgreSQL server cannot be used as configured; check TLS, login and \
             password"
                .to_owned(),
        ),
        None => lost(effect),
    };
    Error::new(kind, message).because(source)
}

pub(super) fn pool(source: PoolError) -> Error {
    match source {
        PoolError::Backend(source) | PoolError::PostCreateHook(HookError::Backend(source)) => {
            translate(Effect::None, source)
        }
        PoolError::Timeout(TimeoutType::Wait) => Error::new(
            ErrorKind::Throttled,
            "no connection to the store's PostgreSQL server became free in time; nothing was \
             changed",
        )
        .because(source),
        PoolError::Timeout(_)
        | PoolError::Closed
        | PoolError::NoRuntimeSpecified
        | PoolError::PostCreateHook(_) => Error::new(
            ErrorKind::Unavailable,
            "a connection to the store's PostgreSQL server cannot be set up; nothing was \
                 changed",
        )
        .because(source),
    }
}

/// The server did not answer in time. What it was asked to do it may still do.
pub(super) fn timed_out(effect: Effect) -> Error {
    let (kind, message) = lost(effect);
    Error::new(kind, format!("{message} (no answer in time)"))
}

fn lost(effect: Effect) -> (ErrorKind, String) {
    match effect {
        Effect::Write => (
            ErrorKind::Undetermined,
            "the connection to the store's PostgreSQL server was lost while it worked on a change; \
             read before trying again"
                .to_owned(),
        ),
        Effect::None => (
            ErrorKind::Unavailable,
            "the store's PostgreSQL server cannot be reached; nothing was changed".to_owned(),
        ),
    }
}

/// A session that the server ends may have committed just before; its answer is lost with it. A
/// server that panics, as it does when its log cannot grow, does so in the middle of a commit as
/// likely as not. What is fatal before a session has begun (login, database, too many connections)
/// left nothing behind.
fn ends_session(refusal: &DbError) -> bool {
    let code = refusal.code().code();
    let before = ["28", "3D", "53"]
        .iter()
        .any(|class| code.starts_with(class));
    match refusal.parsed_severity() {
        Some(Severity::Panic) => true,
        Some(Severity::Fatal) if !before => true,
        _ => code.starts_with("08"),
    }
}

/// What is wrong with the server's certificate, and what to do. Trying again does not help, so it is
/// told apart from a server that cannot be reached.
fn tls_refusal(source: &PgError) -> Option<String> {
    // An `io::Error` gives what it wraps by `get_ref`, not as its source.
    let cause = std::error::Error::source(source)?.downcast_ref::<std::io::Error>()?;
    let refusal = cause.get_ref()?.downcast_ref::<rustls::Error>()?;
    let next = match refusal {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "name the PEM file of the authority that signed it"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "use a host that stands in its subject alternative names"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew it",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "look at this machine's clock"
            }
            _ => "give the server one that is right",
        },
        _ => "look into the server's log, and at its TLS settings",
    };
    Some(format!(
        "the store's PostgreSQL server cannot be trusted with its certificate ({refusal}); {next}"
    ))
}

fn is_setup(source: &PgError) -> bool {
    // The driver tells these apart only in words.
    let text = source.to_string();
    ["TLS", "authentication", "password", "configuration"]
        .iter()
        .any(|word| text.contains(word))
        && !source.is_closed()
        && std::error::Error::source(source)
            .is_none_or(|cause| cause.downcast_ref::<std::io::Error>().is_none())
}

/// Two transactions in each other's way: both are rolled back or one is, and it may run again.
pub(super) fn is_rerunnable(source: &PgError) -> bool {
    matches!(
        source.code(),
        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED)
    )
}

fn kind_of(code: &SqlState) -> ErrorKind {
    match code.code() {
        // Full, out of memory or read-only: nothing was written, and somebody must do something.
        "53100" | "25006" | "57014" => ErrorKind::Unavailable,
        // Damaged pages, and what our own locks and checks exclude.
        "XX001" | "XX002" | "23505" | "21000" => ErrorKind::Corrupt,
        code if code.starts_with("40") || code.starts_with("53") || code == "55P03" => {
            ErrorKind::Throttled
        }
        code if code.starts_with("54") => ErrorKind::TooLarge,
        // No such schema, table or function; no right to it; no such database; no such login;
        // another isolation level.
        code if ["42", "3F", "3D", "28", "25"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            ErrorKind::Config
        }
        _ => ErrorKind::Unavailable,
    }
}

fn explain(refusal: &DbError) -> String {
    let what_next = match kind_of(refusal.code()) {
        _ if *refusal.code() == SqlState::DISK_FULL => {
            "nothing was changed; make room on the server's disk"
        }
        _ if *refusal.code() == SqlState::READ_ONLY_SQL_TRANSACTION => {
            "nothing was changed; name the server that takes writes"
        }
        ErrorKind::Config => {
            "check that the schema is a Freehold store's and that the login may use all of it"
        }
        ErrorKind::Corrupt => {
            "the store's tables are damaged; stop all processes that use it and restore a backup"
        }
        ErrorKind::Throttled => "nothing was changed; try again",
        _ => "nothing was changed",
    };
    format!(
        "the store's PostgreSQL server refused: {} ({}); {what_next}",
        refusal.message(),
        refusal.code().code()
    )
}
