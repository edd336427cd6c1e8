//! The one way from hostile text to SQL text.
//!
//! A name or a value reaches a statement only as an [`Identifier`] or a [`Literal`]; both quote when
//! they are displayed, so `format!` cannot get it wrong. What PostgreSQL would change silently is
//! refused instead: names longer than 63 bytes (the server truncates them, and two names may become
//! one) and NUL. What the server itself has quoted (routine signatures) is carried by
//! [`ServerQuoted`].

use std::fmt;

use crate::{EngineError, Fault, Result};

/// `NAMEDATALEN - 1` of every official build.
pub(crate) const IDENTIFIER_BYTES_MAX: usize = 63;

/// A name of a role, database, schema or table. Displays with its quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identifier(String);

impl Identifier {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let fault = if name.is_empty() {
            "is empty".to_owned()
        } else if name.contains('\0') {
            "contains a NUL character".to_owned()
        } else if name.len() > IDENTIFIER_BYTES_MAX {
            format!(
                "is {} bytes long; PostgreSQL keeps {IDENTIFIER_BYTES_MAX} and would cut the rest",
                name.len()
            )
        } else {
            return Ok(Self(name.to_owned()));
        };
        let shown: String = name.chars().take(80).collect();
        Err(EngineError::new(
            Fault::Invalid {
                detail: format!("the name {shown:?} {fault}"),
            },
            "check a name",
        ))
    }

    /// For names that came out of a catalog, where every name is valid.
    pub(crate) fn from_catalog(name: &str) -> Self {
        debug_assert!(!name.contains('\0'));
        Self(name.to_owned())
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A text value. Displays as a string literal that means the same whatever
/// `standard_conforming_strings` says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Literal(String);

impl Literal {
    pub(crate) fn new(text: &str) -> Result<Self> {
        if text.contains('\0') {
            return Err(EngineError::new(
                Fault::Invalid {
                    detail: "a text contains a NUL character".into(),
                },
                "check a value",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doubled = self.0.replace('\'', "''");
        if doubled.contains('\\') {
            write!(f, " E'{}'", doubled.replace('\\', "\\\\"))
        } else {
            write!(f, "'{doubled}'")
        }
    }
}

/// Text that the server quoted itself, e.g. `"public"."f"(integer)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerQuoted(pub(crate) String);

impl fmt::Display for ServerQuoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_server_would_cut_or_cannot_hold_is_refused() {
        assert!(Identifier::new("").is_err());
        assert!(Identifier::new("a\0b").is_err());
        assert!(Literal::new("a\0b").is_err());
        assert!(Identifier::new(&"a".repeat(63)).is_ok());
        assert!(Identifier::new(&"a".repeat(64)).is_err());
        assert!(Identifier::new(&"é".repeat(32)).is_err(), "64 bytes");
    }

    #[test]
    fn quotes_cannot_be_left() {
        let name = Identifier::new("a\"; DROP TABLE x; --").expect("a name");
        assert_eq!(name.to_string(), "\"a\"\"; DROP TABLE x; --\"");
        let value = Literal::new("a'\\").expect("a value");
        assert_eq!(value.to_string(), " E'a''\\\\'");
    }

    proptest! {
        #[test]
        fn a_quoted_name_reads_back(name in "[^\0]{1,15}") {
            let quoted = Identifier::new(&name).expect("short").to_string();
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert_eq!(inner.replace("\"\"", "\u{1}").matches('"').count(), 0);
            prop_assert_eq!(inner.replace("\"\"", "\""), name);
        }
    }
}
