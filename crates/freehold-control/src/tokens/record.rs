//! The records that tokens are kept in.

use freehold_model::Name;
use freehold_store::{CollectionName, Key};
use serde::{Deserialize, Serialize};

use super::{Token, TokenId, text::SecretHash};
use crate::authorize::SubjectKind;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenRecord {
    #[serde(flatten)]
    pub(super) token: Token,
    pub(super) hash: SecretHash,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SubjectRecord {
    pub(super) kind: SubjectKind,
}

/// Which token was the first; there is one such record at most.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BootstrapRecord {
    pub(super) token: TokenId,
}

/// Key: the token's id.
pub(super) fn tokens() -> CollectionName {
    name("tokens")
}

/// Key: the subject.
pub(super) fn subjects() -> CollectionName {
    name("token_subjects")
}

pub(super) fn bootstrap() -> CollectionName {
    name("token_bootstrap")
}

pub(super) fn bootstrap_key() -> Key {
    key("first")
}

pub(super) fn key_of_token(id: &TokenId) -> Key {
    key(id.as_str())
}

pub(super) fn key_of_subject(subject: &Name) -> Key {
    key(subject.as_str())
}

fn name(text: &str) -> CollectionName {
    CollectionName::new(text).expect("a literal collection name")
}

fn key(text: &str) -> Key {
    Key::new(text).expect("ids and names are short and not empty")
}
