//! `ignoreMigrationPatterns`: what validation overlooks, as `type:state`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::State;

/// One pattern, e.g. `repeatable:missing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IgnorePattern {
    kind: Kinds,
    state: States,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Any,
    Versioned,
    Repeatable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum States {
    Any,
    Missing,
    Pending,
    Ignored,
    Future,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pattern of migrations to ignore; write `type:state` with versioned, repeatable or * and missing, pending, ignored, future or *"
)]
pub struct InvalidIgnorePattern(pub String);

impl IgnorePattern {
    /// Flyway's default: what a newer program has applied is none of ours.
    pub const FUTURE: Self = Self {
        kind: Kinds::Any,
        state: States::Future,
    };

    pub(crate) fn matches(self, is_repeatable: bool, state: State) -> bool {
        let kind = match self.kind {
            Kinds::Any => true,
            Kinds::Versioned => !is_repeatable,
            Kinds::Repeatable => is_repeatable,
        };
        let of = match state {
            State::Missing => States::Missing,
            State::Pending => States::Pending,
            State::Ignored => States::Ignored,
            State::Future | State::FailedFuture => States::Future,
            _ => return false,
        };
        kind && (self.state == States::Any || self.state == of)
    }
}

impl FromStr for IgnorePattern {
    type Err = InvalidIgnorePattern;

    fn from_str(text: &str) -> Result<Self, InvalidIgnorePattern> {
        let invalid = || InvalidIgnorePattern(text.to_owned());
        let (kind, state) = text.trim().split_once(':').ok_or_else(invalid)?;
        Ok(Self {
            kind: match kind.to_ascii_lowercase().as_str() {
                "*" => Kinds::Any,
                "versioned" => Kinds::Versioned,
                "repeatable" => Kinds::Repeatable,
                _ => return Err(invalid()),
            },
            state: match state.to_ascii_lowercase().as_str() {
                "*" => States::Any,
                "missing" => States::Missing,
                "pending" => States::Pending,
                "ignored" => States::Ignored,
                "future" => States::Future,
                _ => return Err(invalid()),
            },
        })
    }
}

impl fmt::Display for IgnorePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kinds::Any => "*",
            Kinds::Versioned => "versioned",
            Kinds::Repeatable => "repeatable",
        };
        let state = match self.state {
            States::Any => "*",
            States::Missing => "missing",
            States::Pending => "pending",
            States::Ignored => "ignored",
            States::Future => "future",
        };
        write!(f, "{kind}:{state}")
    }
}

impl TryFrom<String> for IgnorePattern {
    type Error = InvalidIgnorePattern;

    fn try_from(text: String) -> Result<Self, InvalidIgnorePattern> {
        text.parse()
    }
}

impl From<IgnorePattern> for String {
    fn from(pattern: IgnorePattern) -> Self {
        pattern.to_string()
    }
}
