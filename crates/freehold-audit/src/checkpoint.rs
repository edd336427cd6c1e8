//! The signed head of the log, as a C2SP checkpoint in a signed note:
//!
//! ```text
//! freehold.dev/audit/0190…                      origin
//! 42                                            size
//! sFx3…=                                        root hash, base64
//! freehold 7 2026-03-01T12:00:00Z               our extension: number and time
//!
//! — freehold.dev/audit/0190… Zm9v…              signature
//! ```
//!
//! The extension line is signed with the rest. Its number makes a checkpoint that was left out of an
//! export visible; its time says when at the latest the entries below it existed.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Hash, SigningKey, VerifyingKey};

const EXTENSION: &str = "freehold";

/// A parsed checkpoint. That it parsed says nothing about its signature: see [`Checkpoint::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checkpoint {
    pub origin: String,
    /// Entries that it covers.
    pub size: u64,
    pub root: Hash,
    /// Counts the checkpoints of this log from 1.
    pub number: u64,
    pub signed_at: Timestamp,
    /// The whole signed note.
    note: String,
}

/// Why a text is not a checkpoint, or not one of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCheckpoint(String);

impl Checkpoint {
    pub(crate) fn sign(
        key: &SigningKey,
        size: u64,
        root: Hash,
        number: u64,
        signed_at: Timestamp,
    ) -> Self {
        let origin = key.origin();
        let text = format!("{origin}\n{size}\n{root}\n{EXTENSION} {number} {signed_at}\n");
        let mut signature = key.verifying_key().id().to_vec();
        signature.extend_from_slice(&key.sign(&text));
        let note = format!("{text}\n— {origin} {}\n", STANDARD.encode(signature));
        Self {
            origin: origin.to_owned(),
            size,
            root,
            number,
            signed_at,
            note,
        }
    }

    /// The signed note: what an auditor keeps.
    pub fn note(&self) -> &str {
        &self.note
    }

    pub fn parse(note: &str) -> Result<Self, InvalidCheckpoint> {
        parse(note).ok_or_else(|| {
            InvalidCheckpoint("this is not a checkpoint of a Freehold audit log".to_owned())
        })
    }

    /// Whether this key signed it for this key's log.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), InvalidCheckpoint> {
        if self.origin != key.origin() {
            return Err(InvalidCheckpoint(format!(
                "it is of the log {:?}, not of {:?}",
                self.origin,
                key.origin()
            )));
        }
        let (text, signatures) = split(&self.note).ok_or_else(|| {
            InvalidCheckpoint("its text and its signature cannot be told apart".to_owned())
        })?;
        let signed = signatures
            .lines()
            .filter_map(|line| signature_by(line, key))
            .any(|signature| key.verifies(text, &signature));
        if signed {
            Ok(())
        } else {
            Err(InvalidCheckpoint(
                "it has no valid signature of the log's key".to_owned(),
            ))
        }
    }
}

/// The signed text (with its final newline) and the signature lines.
fn split(note: &str) -> Option<(&str, &str)> {
    let at = note.find("\n\n")?;
    Some((&note[..=at], &note[at + 2..]))
}

fn signature_by(line: &str, key: &VerifyingKey) -> Option<Vec<u8>> {
    let (name, signature) = line.strip_prefix("— ")?.rsplit_once(' ')?;
    let signature = STANDARD.decode(signature).ok()?;
    let (id, signature) = signature.split_at_checked(4)?;
    (name == key.origin() && id == key.id()).then(|| signature.to_vec())
}

fn parse(note: &str) -> Option<Checkpoint> {
    let (text, signatures) = split(note)?;
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return None;
    }
    let mut lines = text.lines();
    let origin = lines.next()?.to_owned();
    let size_text = lines.next()?;
    let size: u64 = size_text.parse().ok()?;
    let root = Hash::from_base64(lines.next()?.as_bytes())?;
    let mut extension = lines.next()?.split(' ');
    let known = extension.next()? == EXTENSION;
    let number = extension.next()?.parse().ok()?;
    let signed_at = extension.next()?.parse().ok()?;
    let complete = extension.next().is_none() && lines.next().is_none();
    (known && complete && size.to_string() == size_text).then(|| Checkpoint {
        origin,
        size,
        root,
        number,
        signed_at,
        note: note.to_owned(),
    })
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.note)
    }
}

impl TryFrom<String> for Checkpoint {
    type Error = InvalidCheckpoint;
    fn try_from(note: String) -> Result<Self, InvalidCheckpoint> {
        Self::parse(&note)
    }
}

impl From<Checkpoint> for String {
    fn from(checkpoint: Checkpoint) -> Self {
        checkpoint.note
    }
}
