//! Why a run ended without having done everything, and what to do next.

use std::fmt;

use freehold_engine::{EngineError, Fault, StatementError};
use serde::{Deserialize, Serialize};

use super::event::LockHolder;
use crate::{BundleError, Refusal};

/// How a run failed. Every kind says what is left of the script that was running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum RunFailure {
    /// Nothing ran: these things stand against it.
    Refused { refusals: Vec<Refusal> },
    /// A statement failed. What ran before the script stays.
    Statement(Box<StatementFailure>),
    /// Somebody else held the lock all the time. Nothing ran.
    Locked { holders: Vec<LockHolder> },
    /// It was stopped. The script that was running was rolled back, unless it ran outside a transaction.
    Cancelled { file: Option<String> },
    /// The server could not be reached, or refused the login. Nothing ran.
    Connect { message: String, retryable: bool },
    /// The connection broke before the script's commit was sent: nothing of it was kept.
    ConnectionLost { file: String, message: String },
    /// The connection broke while the commit was under way, or in a script outside a transaction.
    /// Nobody knows whether it happened; the next run reads it from the history, where a script outside
    /// a transaction stands as failed until it has ended.
    Undetermined { file: String, message: String },
    /// The server answered something to one of the runner's own statements that stops it.
    Server { doing: String, message: String },
    /// The bundle or the input of a runner process is wrong. Nothing ran.
    Input { message: String },
}

/// A statement that the server refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatementFailure {
    pub file: String,
    /// None when the trouble is not in the script's text: its commit or its history row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The last line it may be, where only a range is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_last: Option<u32>,
    /// The text around the trouble, at most one line.
    pub excerpt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The server's words.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether the whole script was rolled back.
    pub rolled_back: bool,
    /// What to do next.
    pub advice: String,
}

impl RunFailure {
    /// Whether running again later, with nothing changed, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::ConnectionLost { .. } | Self::Undetermined { .. } => true,
            Self::Connect { retryable, .. } => *retryable,
            Self::Statement(failure) => {
                failure.rolled_back
                    && matches!(
                        failure.sqlstate.as_deref(),
                        Some("40P01" | "40001" | "55P03" | "57014" | "53300" | "53200")
                    )
            }
            Self::Refused { .. }
            | Self::Cancelled { .. }
            | Self::Server { .. }
            | Self::Input { .. } => false,
        }
    }

    /// Whether the session is gone.
    pub(crate) fn is_disconnection(&self) -> bool {
        matches!(
            self,
            Self::ConnectionLost { .. } | Self::Undetermined { .. } | Self::Connect { .. }
        )
    }

    pub(crate) fn connect(error: &EngineError) -> Self {
        Self::Connect {
            retryable: error.is_retryable(),
            message: chain(error),
        }
    }

    /// One of the runner's own statements failed, outside any script.
    pub(crate) fn server(doing: &str, error: &EngineError) -> Self {
        match error.fault {
            Fault::Unreachable { .. } | Fault::Undetermined => Self::Connect {
                retryable: true,
                message: format!("{doing}: {}", chain(error)),
            },
            _ => Self::Server {
                doing: doing.to_owned(),
                message: chain(error),
            },
        }
    }
}

impl From<BundleError> for RunFailure {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Refused(refusals) => Self::Refused { refusals },
            other => Self::Input {
                message: chain(&other),
            },
        }
    }
}

/// The error and everything below it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The server's words out of an engine's error, as far as it has them.
pub(crate) fn server_words(error: &EngineError) -> StatementError {
    match &error.fault {
        Fault::Statement(statement) => statement.clone(),
        fault => StatementError {
            sqlstate: String::new(),
            message: fault.to_string(),
            detail: None,
            hint: None,
            position: None,
            context: None,
        },
    }
}

/// Whether the server says that somebody asked it to stop.
pub(crate) fn is_cancellation(error: &StatementError) -> bool {
    matches!(error.sqlstate.as_str(), "57014" | "70100")
        || error.message.eq_ignore_ascii_case("interrupted")
}

/// What to do about an error of the server, in a script's author's words.
pub(crate) fn advice_for(error: &StatementError, at_psql_variable: bool) -> &'static str {
    match error.sqlstate.as_str() {
        "42601" if at_psql_variable => {
            "psql variables (:name) are not replaced here; write the value out."
        }
        "42601" => "Correct the statement; the server could not read it at the place shown.",
        "42P01" | "42703" | "42883" | "42704" | "3F000" | "42S02" | "42S22" | "42S12" => {
            "Look for a misspelt name, or for a migration that should have made it and runs later."
        }
        "42P07" | "42710" | "42701" | "42723" | "42P06" => {
            "Something of that name exists already, perhaps made by hand. Remove or rename it, or make the statement say IF NOT EXISTS."
        }
        "23505" | "23503" | "23502" | "23514" | "23P01" | "23000" => {
            "The data that is there breaks the rule. Clean it up in the script before this statement."
        }
        "42501" => {
            "The migration runs with the rights of the database's owner; what needs more belongs to the platform team."
        }
        "55P03" => "Another session holds a lock on the object. Run again in a quieter moment.",
        "40P01" | "40001" => "It collided with another session. Run again.",
        "57014" | "70100" => {
            "It ran longer than the server allows, or was cancelled. Run again, or split it."
        }
        "53100" => "The server's disk is full. Ask the platform team, then run again.",
        "25001" | "25006" => {
            "The statement does not fit the transaction it runs in. Put it into a script of its own and say executeInTransaction=false in the script's .sql.conf."
        }
        "2D000" => {
            "The procedure commits or rolls back by itself. Say executeInTransaction=false in the script's .sql.conf."
        }
        "22P04" => {
            "The data below COPY … FROM STDIN does not fit the table; the detail names its line."
        }
        "42S01" | "42S21" | "42S11" => {
            "Something of that name exists already, perhaps made by hand or by an earlier attempt. Remove or rename it, or make the statement say IF NOT EXISTS."
        }
        _ => advice_for_words(&error.message),
    }
}

/// SQLite has no states, and MySQL one for many things.
fn advice_for_words(message: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&[
        "no such table",
        "no such column",
        "no such index",
        "no such trigger",
    ]) {
        "Look for a misspelt name, or for a migration that should have made it and runs later."
    } else if says(&["already exists", "duplicate column name"]) {
        "Something of that name exists already, perhaps made by hand. Remove or rename it, or make the statement say IF NOT EXISTS."
    } else if says(&["constraint failed"]) {
        "The data that is there breaks the rule. Clean it up in the script before this statement."
    } else if says(&[
        "syntax error",
        "error in your SQL syntax",
        "incomplete input",
    ]) {
        "Correct the statement; the server could not read it at the place shown."
    } else if says(&[
        "command denied",
        "Access denied",
        "not authorized",
        "prohibited",
    ]) {
        "The migration runs with the rights of the database's owner; what needs more belongs to the platform team."
    } else if says(&["Lock wait timeout", "is locked"]) {
        "Another session holds a lock on the object. Run again in a quieter moment."
    } else {
        "Correct the script."
    }
}

impl fmt::Display for StatementFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            match (self.column, self.line_last) {
                (_, Some(last)) => write!(f, "-{last}")?,
                (Some(column), None) => write!(f, ":{column}")?,
                (None, None) => {}
            }
        }
        write!(f, ": {}", self.message)?;
        if let Some(sqlstate) = &self.sqlstate {
            write!(f, " ({sqlstate})")?;
        }
        write!(f, "\n  {}", self.excerpt)?;
        for (label, text) in [
            ("detail", &self.detail),
            ("hint", &self.hint),
            ("at", &self.context),
        ] {
            if let Some(text) = text {
                write!(f, "\n  {label}: {text}")?;
            }
        }
        write!(f, "\n{}", self.advice)
    }
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { refusals } => {
                f.write_str("nothing ran")?;
                refusals
                    .iter()
                    .try_for_each(|refusal| write!(f, "\n{refusal}"))
            }
            Self::Statement(failure) => failure.fmt(f),
            Self::Locked { holders } if holders.is_empty() => f.write_str(
                "nothing ran: another program holds the lock; wait until it ends, then run again",
            ),
            Self::Locked { holders } => {
                f.write_str("nothing ran: another migration holds the lock")?;
                for holder in holders {
                    write!(
                        f,
                        " (server process {}, application {:?}, login {:?})",
                        holder.pid, holder.application, holder.user
                    )?;
                }
                f.write_str("; wait until it ends, then run again")
            }
            Self::Cancelled { file: None } => f.write_str("stopped before the first script"),
            Self::Cancelled { file: Some(file) } => write!(f, "stopped in {file}"),
            Self::Connect { message, .. } | Self::Input { message } => f.write_str(message),
            Self::ConnectionLost { file, message } => write!(
                f,
                "the connection broke in {file}, and nothing of it was kept ({message}); run again"
            ),
            Self::Undetermined { file, message } => write!(
                f,
                "the connection broke while {file} was being committed ({message}); run again, the history knows whether it happened"
            ),
            Self::Server { doing, message } => write!(f, "cannot {doing}: {message}"),
        }
    }
}

impl std::error::Error for RunFailure {}
