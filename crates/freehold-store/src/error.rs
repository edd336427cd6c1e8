//! Errors that tell apart what a caller must treat differently.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong. A transport failure is never reported as a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `Create` met an existing record, or a unique index already has the value.
    AlreadyExists,
    /// An expected etag, absence or lease does not hold (any more).
    VersionMismatch,
    /// This store cannot do that; see its capabilities.
    Unsupported,
    TooLarge,
    /// The request is wrong in itself.
    Invalid,
    Throttled,
    /// The store cannot be reached or cannot write; nothing was changed.
    Unavailable,
    /// We do not know whether it was committed.
    Undetermined,
    /// What is stored cannot be read.
    Corrupt,
    /// The store is set up wrongly.
    Config,
    /// The change feed no longer reaches back to the given position.
    Compacted,
}

/// Whether and how to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call will fail again.
    No,
    /// The same call may succeed a little later.
    Later,
    /// Read first: the call may have happened, or the world has changed.
    AfterReading,
}

#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// Position in the batch of the write or check that failed, where there was one.
    at: Option<usize>,
    source: Option<Source>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            at: None,
            source: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        self.at = Some(position);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Which element of the batch was refused: preconditions first, then writes, counted together.
    pub fn position(&self) -> Option<usize> {
        self.at
    }

    /// True for the two kinds that mean "somebody was faster".
    pub fn is_conflict(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::AlreadyExists | ErrorKind::VersionMismatch
        )
    }

    pub fn retry(&self) -> Retry {
        match self.kind {
            ErrorKind::Throttled | ErrorKind::Unavailable => Retry::Later,
            ErrorKind::AlreadyExists
            | ErrorKind::VersionMismatch
            | ErrorKind::Undetermined
            | ErrorKind::Compacted => Retry::AfterReading,
            ErrorKind::Unsupported
            | ErrorKind::TooLarge
            | ErrorKind::Invalid
            | ErrorKind::Corrupt
            | ErrorKind::Config => Retry::No,
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
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}
