//! What a store keeps.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::Error as _,
};
use serde_json::value::RawValue;

use crate::{Error, Result};

/// The name of a collection: 1 to 48 of `a-z`, `0-9` and `_`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CollectionName(Arc<str>);

impl CollectionName {
    pub const LENGTH_MAX: usize = 48;

    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let right = (1..=Self::LENGTH_MAX).contains(&text.len())
            && text.as_bytes()[0].is_ascii_lowercase()
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if right {
            Ok(Self(text.into()))
        } else {
            Err(Error::invalid(format!("{text:?} is not a collection name")))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CollectionName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<CollectionName> for String {
    fn from(name: CollectionName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record's key: any non-empty UTF-8 text up to 1,024 bytes. Keys are ordered by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    pub const BYTES_MAX: usize = 1024;

    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() {
            return Err(Error::invalid("a key is empty"));
        }
        if text.len() > Self::BYTES_MAX {
            return Err(Error::too_large(format!(
                "a key of {} bytes (1024 at most)",
                text.len()
            )));
        }
        Ok(Self(text))
    }

    /// A key as the store gave it back.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn stored(bytes: &[u8]) -> Result<Self> {
        std::str::from_utf8(bytes)
            .map_err(|source| Error::corrupt("a stored key is not UTF-8").because(source))
            .and_then(Self::new)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A JSON text, kept as it was written.
///
/// What goes into a store is proven to be JSON. What comes out of one is not proven again: reading it
/// would cost as much as fetching it, and whoever uses it parses it anyway. So a text that somebody
/// damaged in the store is found where it is used, by [`Value::decode`], by a filter, or by
/// serialising the value, and each of them fails rather than take it for something else.
#[derive(Debug, Clone, PartialEq)]
pub struct Value(Box<str>);

impl Value {
    /// Fails when `text` is not JSON.
    pub fn from_text(text: String) -> Result<Self> {
        RawValue::from_string(text)
            .map(|raw| Self(raw.into()))
            .map_err(|source| Error::invalid("a value is not JSON").because(source))
    }

    /// A text as the store gave it back.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_string(value)
            .map(|text| Self(text.into()))
            .map_err(|source| Error::invalid("a value cannot be written as JSON").because(source))
    }

    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|source| {
            Error::corrupt("a stored value does not have the expected shape").because(source)
        })
    }

    /// The text as it was written; as it stands in the store, should somebody have damaged it.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Written into other JSON as it is, not as a string.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0)
            .map_err(|source| S::Error::custom(format!("a stored value is not JSON: {source}")))?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.into()))
    }
}

/// `rev.nonce`: the revision counts the writes since the record was created (1, 2, 3, …), the nonce
/// is 16 fresh random bytes in hexadecimal for every attempt to write.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Etag {
    rev: u64,
    nonce: [u8; 16],
}

impl Etag {
    pub fn new(rev: u64, nonce: [u8; 16]) -> Self {
        Self { rev, nonce }
    }

    pub fn rev(&self) -> u64 {
        self.rev
    }

    pub fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.rev, hex::encode(self.nonce))
    }
}

impl TryFrom<String> for Etag {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        let parse = || {
            let (rev, nonce) = text.split_once('.')?;
            let mut bytes = [0u8; 16];
            hex::decode_to_slice(nonce, &mut bytes).ok()?;
            Some(Self {
                rev: rev.parse().ok()?,
                nonce: bytes,
            })
        };
        parse().ok_or_else(|| Error::invalid(format!("{text:?} is not an etag")))
    }
}

impl From<Etag> for String {
    fn from(etag: Etag) -> Self {
        etag.to_string()
    }
}

/// A time as the store gave it back; microseconds.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn stored_time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros)
        .map_err(|source| Error::corrupt("a stored time is out of range").because(source))
}

/// One versioned record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub collection: CollectionName,
    pub key: Key,
    pub value: Value,
    pub etag: Etag,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}
