//! Versions as Flyway compares them.
//!
//! A version is a list of whole numbers of any length, separated by dots or underscores. Trailing
//! zero parts and leading zeros do not count in comparisons (`2.0` equals `2`, `001` equals `1`), but
//! the text keeps them, because the history table stores the text of the file.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The width of the history table's `version` column.
pub(crate) const VERSION_LENGTH_MAX: usize = 50;

/// A version number, e.g. `1`, `2.10`, `20260131120000`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    text: String,
    /// Digits of each part without leading zeros (zero is the empty text), no trailing zero parts:
    /// longer means greater, and equal lengths compare as text.
    parts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a version: {reason}")]
pub struct InvalidVersion {
    pub text: String,
    pub reason: &'static str,
}

impl Version {
    /// Flyway's version of a baseline that nobody has given another one.
    pub(crate) fn one() -> Self {
        Self {
            text: "1".to_owned(),
            parts: vec!["1".to_owned()],
        }
    }

    /// The text as the history table holds it: the file's, with `_` turned into `.`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parts as numbers' digits, `0` for a zero part, at least one.
    pub(crate) fn first_part(&self) -> &str {
        self.parts
            .first()
            .map_or("0", |part| if part.is_empty() { "0" } else { part })
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let invalid = |reason| InvalidVersion {
            text: text.to_owned(),
            reason,
        };
        let dotted = text.replace('_', ".");
        if dotted.is_empty() {
            return Err(invalid("it is empty"));
        }
        if dotted.len() > VERSION_LENGTH_MAX {
            return Err(invalid(
                "it is longer than the 50 characters that the history table holds",
            ));
        }
        let mut parts = Vec::new();
        for part in dotted.split('.') {
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(invalid(
                    "only whole numbers separated by single dots or underscores may stand there",
                ));
            }
            parts.push(part.trim_start_matches('0').to_owned());
        }
        while parts.last().is_some_and(String::is_empty) {
            parts.pop();
        }
        Ok(Self {
            text: dotted,
            parts,
        })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        for (left, right) in self.parts.iter().zip(&other.parts) {
            let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
            if order.is_ne() {
                return order;
            }
        }
        self.parts.len().cmp(&other.parts.len())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.hash(state);
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;
    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn versions_compare_part_by_part_as_numbers() {
        assert!(version("1.1") < version("1.2"));
        assert!(version("1.2") < version("1.10"));
        assert!(version("9") < version("10"));
        assert!(version("1") < version("1.0.1"));
        assert!(
            version("99999999999999999999999999999998")
                < version("99999999999999999999999999999999")
        );
        assert!(version("20260131120000") < version("20260131120001"));
    }

    #[test]
    fn equal_numbers_are_equal_versions_however_written() {
        assert_eq!(version("1_1"), version("1.1"));
        assert_eq!(version("2.0"), version("2"));
        assert_eq!(version("2.0.0"), version("2"));
        assert_eq!(version("001"), version("1"));
        assert_eq!(version("0"), version("0.0"));
        assert_ne!(version("1.0.1"), version("1.1"));
    }

    #[test]
    fn the_text_keeps_zeros_and_turns_underscores_into_dots() {
        assert_eq!(version("001_0").as_str(), "001.0");
    }

    #[test]
    fn anything_else_is_no_version() {
        for text in [
            "", ".", "1.", ".1", "1..2", "a", "1a", "1.x", "-1", "+1", " 1", "1 ", "١",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        assert!("1".repeat(50).parse::<Version>().is_ok());
        assert!("1".repeat(51).parse::<Version>().is_err());
    }

    proptest! {
        #[test]
        fn comparison_agrees_with_numbers(
            left in prop::collection::vec(0u64..200, 1..5),
            right in prop::collection::vec(0u64..200, 1..5),
        ) {
            let text = |parts: &[u64]| parts.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
            let padded = |parts: &[u64]| { let mut padded = parts.to_vec(); padded.resize(5, 0); padded };
            prop_assert_eq!(version(&text(&left)).cmp(&version(&text(&right))), padded(&left).cmp(&padded(&right)));
        }
    }
}
