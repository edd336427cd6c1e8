//! Reading single fields out of a JSON text without turning the whole text into a tree.
//!
//! Index entries and filters need a few fields of each value. Walking [`RawValue`]s keeps numbers as
//! they were written (an integer above 2^64 or `1e400` elsewhere in the text is not our concern) and
//! skips what no pointer names. Where a member occurs twice, the last one counts, as in serde_json.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{Error, Result};

/// A parsed RFC 6901 JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let refuse = || {
            Error::invalid(format!(
                "{text:?} is not a JSON pointer (write it like \"/owner/name\")"
            ))
        };
        let path = text.strip_prefix('/').ok_or_else(refuse)?;
        path.split('/')
            .map(|token| unescape(token).ok_or_else(refuse))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The JSON text of the field, or nothing when there is none.
    fn find<'a>(&self, document: &Document<'a>) -> Result<Option<&'a str>> {
        let Some((first, rest)) = self.0.split_first() else {
            return Ok(Some(document.text));
        };
        let mut at = match &document.members {
            Some(members) => member(members, first),
            None => child(document.text, first)?,
        };
        for token in rest {
            let Some(raw) = at else { return Ok(None) };
            at = child(raw.get(), token)?;
        }
        Ok(at.map(RawValue::get))
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut out = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

/// A JSON text whose outermost members have been found once, for several pointers.
pub(crate) struct Document<'a> {
    text: &'a str,
    /// Absent when the text is not an object.
    members: Option<Vec<(Cow<'a, str>, &'a RawValue)>>,
}

impl<'a> Document<'a> {
    /// Fails when the text is not JSON.
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let members = if text.trim_start().starts_with('{') {
            Some(members(text)?)
        } else {
            serde_json::from_str::<&RawValue>(text).map_err(unreadable)?;
            None
        };
        Ok(Self { text, members })
    }

    pub(crate) fn find(&self, pointer: &Pointer) -> Result<Option<&'a str>> {
        pointer.find(self)
    }
}

fn child<'a>(text: &'a str, token: &str) -> Result<Option<&'a RawValue>> {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => Ok(member(&members(text)?, token)),
        Some(b'[') => {
            // RFC 6901: digits without leading zeros; anything else names no element.
            let canonical = token == "0" || !token.starts_with('0');
            let index = token
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| token.parse::<usize>().ok())
                .flatten()
                .filter(|_| canonical);
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(unreadable)?;
            Ok(index.and_then(|index| elements.get(index).copied()))
        }
        _ => Ok(None),
    }
}

fn member<'a>(members: &[(Cow<'a, str>, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    members
        .iter()
        .rev()
        .find_map(|(key, value)| (key == name).then_some(*value))
}

/// The members of an object, as they are written.
pub(crate) fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>> {
    serde_json::from_str::<Members<'_>>(text)
        .map(|members| members.0)
        .map_err(unreadable)
}

fn unreadable(source: serde_json::Error) -> Error {
    Error::invalid("a value's members cannot be read, which its collection's indexes need")
        .because(source)
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) =
                    map.next_entry::<Name<'de>, &'de RawValue>()?
                {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, pointer: &str) -> Option<String> {
        Document::parse(text)
            .unwrap()
            .find(&Pointer::parse(pointer).unwrap())
            .unwrap()
            .map(str::to_owned)
    }

    #[test]
    fn pointers_reach_members_elements_and_escaped_names() {
        let text = r#"{"a":{"b/c":[10,{"d~":"x"}]},"n":18446744073709551617,"":1,"\u0061b":2}"#;
        assert_eq!(find(text, "/a/b~1c/0").as_deref(), Some("10"));
        assert_eq!(find(text, "/a/b~1c/1/d~0").as_deref(), Some("\"x\""));
        assert_eq!(find(text, "/n").as_deref(), Some("18446744073709551617"));
        assert_eq!(find(text, "/").as_deref(), Some("1"));
        assert_eq!(find(text, "/ab").as_deref(), Some("2"));
        assert_eq!(find(text, "").as_deref(), Some(text));
        for absent in ["/a/b~1c/00", "/a/b~1c/2", "/a/b~1c/-", "/n/x", "/zz/y"] {
            assert_eq!(find(text, absent), None, "{absent}");
        }
    }

    #[test]
    fn the_last_of_two_equal_members_counts() {
        assert_eq!(find(r#"{"a":1,"a":2}"#, "/a").as_deref(), Some("2"));
    }

    #[test]
    fn a_number_that_fits_nowhere_does_not_stop_other_fields() {
        assert_eq!(
            find(r#"{"huge":1e999999,"a":2}"#, "/a").as_deref(),
            Some("2")
        );
    }

    #[test]
    fn what_is_not_a_pointer_is_refused() {
        for text in ["a", "a/b", "/~", "/~2", "#/a"] {
            assert!(Pointer::parse(text).is_err(), "{text:?} passed");
        }
    }
}
