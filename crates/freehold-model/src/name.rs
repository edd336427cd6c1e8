//! Names that people write: resource names, teams, environments.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, starting with a letter and not ending with `-`.
///
/// The narrow alphabet is what makes the mapping to server-side names injective: `_` can join two
/// names because no name contains it, and no two names look alike to a person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name: {reason}")]
pub struct InvalidName {
    pub text: String,
    pub reason: &'static str,
}

impl Name {
    pub const LENGTH_MAX: usize = 63;

    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        match fault(&text) {
            None => Ok(Self(text)),
            Some(reason) => {
                let text = text.chars().take(80).collect();
                Err(InvalidName { text, reason })
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fault(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Some("it is empty");
    };
    if bytes.len() > Name::LENGTH_MAX {
        return Some("it is longer than 63 characters");
    }
    if !bytes
        .iter()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    {
        return Some("only lower-case letters a-z, digits and '-' are allowed");
    }
    if !first.is_ascii_lowercase() {
        return Some("it must start with a letter");
    }
    (*last == b'-').then_some("it must not end with '-'")
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A DNS label: lower-case letters, digits and '-', starting with a letter.",
            "maxLength": 63,
            "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_texts_are_not_names() {
        let too_long = "a".repeat(64);
        for text in [
            "",
            "-a",
            "a-",
            "9a",
            "A",
            "a_b",
            "a%b",
            "a\"b",
            "a'b",
            "a b",
            "a\0b",
            "a.b",
            "a/b",
            "аbc",
            "a\u{200b}b",
            "ﬁ",
            too_long.as_str(),
        ] {
            assert!(Name::new(text).is_err(), "{text:?} passed");
        }
        for text in ["a", "a9", "orders-v2", "select", &"a".repeat(63)] {
            assert!(Name::new(text).is_ok(), "{text:?} was refused");
        }
    }

    #[test]
    fn a_name_cannot_be_deserialised_around_its_rules() {
        assert!(serde_json::from_str::<Name>("\"x'; drop\"").is_err());
    }
}
