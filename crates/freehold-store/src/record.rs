//! What a store keeps.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Error, Result};

/// The name of a collection: 1 to 48 of `a-z`, `0-9` and `_`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CollectionName(String);

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
            Ok(Self(text))
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
        name.0
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Value(Box<RawValue>);

impl Value {
    /// Fails when `text` is not JSON.
    pub fn from_text(text: String) -> Result<Self> {
        RawValue::from_string(text)
            .map(Self)
            .map_err(|source| Error::invalid("a value is not JSON").because(source))
    }

    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::value::to_raw_value(value)
            .map(Self)
            .map_err(|source| Error::invalid("a value cannot be written as JSON").because(source))
    }

    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.0.get()).map_err(|source| {
            Error::corrupt("a stored value does not have the expected shape").because(source)
        })
    }

    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
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
