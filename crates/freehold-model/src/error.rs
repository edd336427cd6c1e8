//! The one error that crosses from the product's verbs to its users.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of trouble it is; decides the HTTP status and the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request itself is wrong and will stay wrong.
    Invalid,
    Unauthenticated,
    /// Known caller, not allowed. Used only where the thing's existence is no secret to the caller.
    Forbidden,
    NotFound,
    /// Somebody else owns this, changed it first, or is working on it.
    Conflict,
    /// The request is right but the state of the world forbids it now.
    FailedPrecondition,
    TooLarge,
    /// We are shedding load; try again later.
    Throttled,
    /// A part we need cannot be reached; nothing was changed.
    Unavailable,
    /// We do not know whether it happened.
    Undetermined,
    Internal,
}

/// What happened, what to do next, and the cause for the log.
///
/// `message` and `hint` may be shown to the caller. The cause is for the server's log only and is
/// reachable through [`std::error::Error::source`].
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            cause: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// An error whose details help only the people who run Freehold.
    pub fn internal(
        what: &str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(Code::Internal, format!("{what} failed inside Freehold"))
            .hint("The server's log has the cause under this request id.")
            .because(cause)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self.code {
            Code::Throttled | Code::Unavailable | Code::Undetermined => true,
            Code::Invalid
            | Code::Unauthenticated
            | Code::Forbidden
            | Code::NotFound
            | Code::Conflict
            | Code::FailedPrecondition
            | Code::TooLarge
            | Code::Internal => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
