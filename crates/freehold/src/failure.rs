//! How a command fails: what happened, why, what to do next, and the exit code.

use std::{error::Error as StdError, fmt, io};

use freehold_api::client;
use freehold_model::Code;

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The documented exit codes. A program started by `run` has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
    Conflict = 5,
    Unavailable = 6,
    Undetermined = 7,
    Interrupted = 130,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub exit: Exit,
    /// Empty when everything has been said already.
    pub message: String,
    pub causes: Vec<String>,
    pub hint: Option<String>,
    pub request_id: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            request_id: None,
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// The exit code is all there is left to say.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds an error and all that caused it.
    pub(crate) fn because(mut self, cause: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// An input or output error on a file, which most often is about its permissions.
    pub(crate) fn on_file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::PermissionDenied => Exit::Refused,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("{what} {}", path.display())).because(error)
    }
}

pub(crate) fn exit_of(code: Code) -> Exit {
    match code {
        Code::Invalid | Code::TooLarge | Code::Internal => Exit::Failed,
        Code::Unauthenticated | Code::Forbidden | Code::FailedPrecondition => Exit::Refused,
        Code::NotFound => Exit::NotFound,
        Code::Conflict => Exit::Conflict,
        Code::Throttled | Code::Unavailable => Exit::Unavailable,
        Code::Undetermined => Exit::Undetermined,
    }
}

pub(crate) fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Ok(()) => Exit::Done as u8,
        Err(failure) => failure.exit as u8,
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let exit = match &error {
            client::Error::Config { .. } => Exit::Usage,
            other => exit_of(other.code()),
        };
        let mut failure = Self::new(exit, error.to_string());
        failure.hint = error.hint();
        failure.request_id = error
            .request_id()
            .filter(|id| !id.is_empty())
            .map(str::to_owned);
        match StdError::source(&error) {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}

impl From<freehold_model::Error> for Failure {
    fn from(error: freehold_model::Error) -> Self {
        let mut failure = Self::new(exit_of(error.code), &error.message);
        failure.hint.clone_from(&error.hint);
        match StdError::source(&error) {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}

/// Only writing to standard output fails with a bare `io::Error` here.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // Whoever read our output has enough of it: `freehold get db | head -1`.
            return Self::silent(Exit::Done);
        }
        Self::failed("the result cannot be written").because(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
