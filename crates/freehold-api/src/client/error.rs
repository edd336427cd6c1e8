//! What can go wrong between a caller and the server, told apart by what the caller must do.

use std::time::Duration;

use freehold_model::Code;

use crate::Failure;

pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Freehold answered, and the answer is no.
    #[error("{}", failure.message)]
    Refused {
        failure: Failure,
        /// When to try again, if the server said so.
        retry_after: Option<Duration>,
    },
    /// No connection could be made; nothing was sent.
    #[error("nothing answers at {address}")]
    Unreachable {
        address: String,
        #[source]
        source: Source,
    },
    /// The connection broke after the request was sent.
    #[error("the connection to {address} broke before the answer was complete")]
    Interrupted {
        address: String,
        /// Whether the request could have changed something.
        changing: bool,
        #[source]
        source: Source,
    },
    /// What answered is not a Freehold server of a version we understand.
    #[error(
        "what answers at {address} is not a Freehold server that this program understands: {what}"
    )]
    Garbled {
        address: String,
        what: String,
        #[source]
        source: Option<Source>,
    },
    /// This program is set up wrongly; no request was made.
    #[error("{message}")]
    Config {
        message: String,
        #[source]
        source: Option<Source>,
    },
}

impl Error {
    /// The same codes that the server uses, so that callers decide in one place.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { failure, .. } => failure.code,
            Self::Unreachable { .. } => Code::Unavailable,
            Self::Interrupted { changing, .. } => {
                if *changing {
                    Code::Undetermined
                } else {
                    Code::Unavailable
                }
            }
            Self::Garbled { .. } => Code::Internal,
            Self::Config { .. } => Code::Invalid,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { failure, .. } => failure.hint.clone(),
            Self::Unreachable { address, .. } => Some(format!(
                "Is `freehold serve` running? If the server is elsewhere, say where with --server \
                 or FREEHOLD_SERVER instead of {address}."
            )),
            Self::Interrupted { changing: true, .. } => Some(
                "It may or may not have happened: look with `freehold get` before trying again."
                    .to_owned(),
            ),
            Self::Interrupted { .. } => Some("Try again.".to_owned()),
            Self::Garbled { .. } => Some(
                "Check the address, and a proxy in between; `freehold doctor` compares versions."
                    .to_owned(),
            ),
            Self::Config { .. } => None,
        }
    }

    /// The id under which the server's logs know the request.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused { failure, .. } => Some(&failure.request_id),
            _ => None,
        }
    }

    /// Whether a read may succeed a moment later. A refused connection is not: waiting for a server
    /// that is not there helps nobody.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Refused { failure, .. } => {
                matches!(failure.code, Code::Throttled | Code::Unavailable)
            }
            Self::Interrupted { .. } => true,
            Self::Unreachable { .. } | Self::Garbled { .. } | Self::Config { .. } => false,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
