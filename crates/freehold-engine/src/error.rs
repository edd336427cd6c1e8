//! Errors of a database server, sorted by what the caller must do.

use std::fmt;

use freehold_model::{InjectedFault, ServerIdentity};

use crate::Stamp;

pub type Result<T, E = EngineError> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub struct EngineError {
    pub fault: Fault,
    /// What we were doing, in words: `create role "shop_main_owner"`.
    pub doing: String,
    source: Option<Source>,
}

/// What is wrong. Decides between retry, attention and refusal.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// No connection: refused, timed out, name unknown, TLS failure, server starting up.
    Unreachable { detail: String },
    /// The server knows us not: wrong admin password or no such login.
    Unauthenticated,
    /// The admin login lacks a right. `missing` says which and how to give it.
    Denied { missing: String },
    /// The server refuses writes: a standby, or read-only by its own decision.
    ReadOnly,
    /// Disk full, out of memory, too many connections.
    Exhausted { detail: String },
    /// A lock or statement timeout, a deadlock, a concurrent catalog update: the same call may succeed.
    Busy { detail: String },
    /// The name exists on the server and is not ours. `owner` is its stamp, where it has one.
    NameTaken {
        name: String,
        owner: Option<Box<Stamp>>,
    },
    /// A newer worker has been here: our epoch is stale. Nothing was changed.
    Fenced { ours: u64, found: u64 },
    /// The stamps were made on another server: this one is a clone or a restored copy.
    ServerMismatch {
        expected: ServerIdentity,
        found: ServerIdentity,
    },
    /// What should be there is gone: database dropped by hand, registry missing.
    Missing { what: String },
    /// The server refused a statement for a reason of its own.
    Statement(StatementError),
    /// The engine cannot do that.
    Unsupported { what: String },
    /// The request is wrong, whatever the server's state.
    Invalid { detail: String },
    /// The connection broke while the answer was awaited: it may have happened.
    Undetermined,
    /// A test closed a gate here.
    Injected,
}

/// The server's own words about a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementError {
    /// E.g. `42P01`.
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Position in the statement text, in characters from 1.
    pub position: Option<u32>,
    /// Constraint, table, column or routine the server names, in its words.
    pub context: Option<String>,
}

impl EngineError {
    pub fn new(fault: Fault, doing: impl Into<String>) -> Self {
        Self {
            fault,
            doing: doing.into(),
            source: None,
        }
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match &self.fault {
            Fault::Unreachable { .. }
            | Fault::Exhausted { .. }
            | Fault::Busy { .. }
            | Fault::Undetermined
            | Fault::ReadOnly
            | Fault::Injected => true,
            Fault::Unauthenticated
            | Fault::Denied { .. }
            | Fault::NameTaken { .. }
            | Fault::Fenced { .. }
            | Fault::ServerMismatch { .. }
            | Fault::Missing { .. }
            | Fault::Statement(_)
            | Fault::Unsupported { .. }
            | Fault::Invalid { .. } => false,
        }
    }

    /// A stable CamelCase word for a condition's reason.
    pub fn reason(&self) -> &'static str {
        match &self.fault {
            Fault::Unreachable { .. } => "Unreachable",
            Fault::Unauthenticated => "AdminLoginRefused",
            Fault::Denied { .. } => "AdminLacksRight",
            Fault::ReadOnly => "ServerReadOnly",
            Fault::Exhausted { .. } => "ServerExhausted",
            Fault::Busy { .. } => "ServerBusy",
            Fault::NameTaken { .. } => "NameTaken",
            Fault::Fenced { .. } => "Fenced",
            Fault::ServerMismatch { .. } => "ServerMismatch",
            Fault::Missing { .. } => "Missing",
            Fault::Statement(_) => "StatementRefused",
            Fault::Unsupported { .. } => "Unsupported",
            Fault::Invalid { .. } => "Invalid",
            Fault::Undetermined => "Undetermined",
            Fault::Injected => "InjectedFault",
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { detail } => write!(f, "the server cannot be reached ({detail})"),
            Self::Unauthenticated => f.write_str("the server refused the login or its password"),
            Self::Denied { missing } => write!(f, "the admin login may not do that: {missing}"),
            Self::ReadOnly => f.write_str("the server is read-only"),
            Self::Exhausted { detail } => write!(f, "the server is out of resources ({detail})"),
            Self::Busy { detail } => write!(f, "the server is busy ({detail})"),
            Self::NameTaken { name, owner: None } => {
                write!(
                    f,
                    "{name:?} exists on the server and Freehold did not make it"
                )
            }
            Self::NameTaken {
                name,
                owner: Some(stamp),
            } => {
                write!(f, "{name:?} exists on the server and belongs to {stamp}")
            }
            Self::Fenced { ours, found } => {
                write!(
                    f,
                    "another worker has taken over (epoch {found}, ours is {ours})"
                )
            }
            Self::ServerMismatch { expected, found } => write!(
                f,
                "this is not the server it was: its identity is {found}, the stamps say {expected}"
            ),
            Self::Missing { what } => write!(f, "{what} is not there any more"),
            Self::Statement(error) => write!(f, "{} ({})", error.message, error.sqlstate),
            Self::Unsupported { what } => write!(f, "this engine cannot {what}"),
            Self::Invalid { detail } => f.write_str(detail),
            Self::Undetermined => f.write_str(
                "the connection broke while waiting for the answer; it may have happened",
            ),
            Self::Injected => f.write_str("a test made this fail"),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<InjectedFault> for EngineError {
    fn from(fault: InjectedFault) -> Self {
        Self::new(Fault::Injected, fault.what.clone()).because(fault)
    }
}
