//! What is recorded: who did what to which thing, and how it ended.

use freehold_model::{Code, Entropy, Name, OperationId, ResourceKey, Uid};
use freehold_store::{Key, PutMode, Value, Write};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::collections;

/// Longest `details`, in bytes of JSON. What is larger is replaced by its size: an audit entry must
/// never be the reason why a change cannot be saved.
const DETAILS_BYTES_MAX: usize = 32 * 1024;
/// Longest `reason`, in characters.
const REASON_CHARS_MAX: usize = 2_000;
/// Longest subject, action and request id, in characters.
const WORD_CHARS_MAX: usize = 200;

/// One record of the log. It never holds a secret, not even a sealed one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it happened, on the clock of the server that saw it.
    pub at: Timestamp,
    pub actor: Actor,
    /// What was done, `noun.verb` in lower case: `database.apply`, `binding.read`, `login`.
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ResourceKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    /// The team whose thing it concerns; decides who may read the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    pub outcome: Outcome,
    /// Why, in the words of who did it or of the rule that refused it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The request that caused it, as it stands in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// What else a reader needs, e.g. the fields that changed. At most 32 KiB.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

impl Entry {
    /// An accepted action of `actor`. With a target, environment and team are the target's.
    pub fn new(at: Timestamp, actor: Actor, action: &str, target: Option<ResourceKey>) -> Self {
        Self {
            at,
            actor,
            action: action.to_owned(),
            environment: target.as_ref().and_then(|key| key.environment.clone()),
            team: target.as_ref().and_then(|key| key.team.clone()),
            target,
            outcome: Outcome::Accepted,
            reason: String::new(),
            request_id: None,
            operation: None,
            details: serde_json::Value::Null,
        }
    }
}

/// Who did it and how we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// The subject of the token, e.g. `ana`; for what Freehold does by itself `freehold`; for a
    /// caller who could not be told `anonymous`.
    pub subject: String,
    pub authentication: Authentication,
}

/// How the actor was authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "method")]
pub enum Authentication {
    /// By a bearer token; the id is its public half.
    #[serde(rename_all = "camelCase")]
    Token { token_id: String },
    /// Freehold itself: a reconciler or an operation.
    Internal,
    /// By access to the machine: `freehold admin` on the store.
    Local,
    /// Not at all: a refused login.
    None,
}

impl Actor {
    pub fn token(subject: &Name, token_id: impl Into<String>) -> Self {
        Self {
            subject: subject.to_string(),
            authentication: Authentication::Token {
                token_id: token_id.into(),
            },
        }
    }

    /// Freehold itself.
    pub fn freehold() -> Self {
        Self {
            subject: "freehold".to_owned(),
            authentication: Authentication::Internal,
        }
    }

    pub fn anonymous() -> Self {
        Self {
            subject: "anonymous".to_owned(),
            authentication: Authentication::None,
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "result")]
pub enum Outcome {
    /// The request was accepted, and what it asked for is in the same batch as this entry.
    Accepted,
    Refused {
        code: Code,
    },
    /// A piece of work came to its end.
    Succeeded,
    Failed {
        code: Code,
    },
}

/// Identity of one entry, given by whoever records it. It is part of the hashed text, so two equal
/// events are two leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryId(Uid);

impl EntryId {
    pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
        Self(Uid::generate(now, entropy))
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What is kept and hashed: the id, then the entry.
#[derive(Serialize)]
struct Identified<'a> {
    id: EntryId,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// The write that records an entry: put it into the batch of the change that it tells of.
///
/// The id is fresh for each batch that is *built*, and the same when that very batch is sent again.
/// A batch whose outcome is undetermined is repeated only after reading, because the entry of one
/// that did commit may have left the pending collection already.
pub fn pending(entry: &Entry, id: EntryId) -> Write {
    let identified = Identified {
        id,
        entry: &bounded(entry),
    };
    Write::Put {
        collection: collections::pending(),
        key: Key::new(id.to_string()).expect("a UUID is a key"),
        value: Value::encode(&identified).expect("an entry has only text keys"),
        mode: PutMode::Create,
        expires_at: None,
    }
}

/// The entry cut to size, when it needs to be. Some of it is what a stranger sent.
fn bounded(entry: &Entry) -> Entry {
    let details_bytes = serde_json::to_string(&entry.details).map_or(0, |text| text.len());
    let mut cut = entry.clone();
    if details_bytes > DETAILS_BYTES_MAX {
        cut.details = serde_json::json!({ "leftOut": "too large", "bytes": details_bytes });
    }
    shorten(&mut cut.reason, REASON_CHARS_MAX);
    shorten(&mut cut.actor.subject, WORD_CHARS_MAX);
    shorten(&mut cut.action, WORD_CHARS_MAX);
    if let Some(request_id) = &mut cut.request_id {
        shorten(request_id, WORD_CHARS_MAX);
    }
    cut
}

fn shorten(text: &mut String, chars_max: usize) {
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
        text.push('…');
    }
}
