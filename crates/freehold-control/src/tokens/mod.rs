//! Bearer tokens: `fh_<id>_<secret>`.

use std::{path::Path, sync::Arc};

use freehold_model::{Clock, Entropy, Name, Result, Secret, kinds::Role};
use freehold_store::{StoreHandle, Write};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::authorize::SubjectKind;

/// The public half of a token, as it stands in lists and in the audit log: 16 of `a-z2-7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub(crate) String);

impl std::fmt::Display for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    pub subject: Name,
    pub kind: SubjectKind,
    pub platform_role: Option<Role>,
    pub expires_at: Option<Timestamp>,
    /// What it is for, in the words of who made it.
    pub description: String,
    pub created_by: String,
}

/// A token as it is shown: everything but its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    pub id: TokenId,
    pub subject: Name,
    pub kind: SubjectKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_role: Option<Role>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub created_by: String,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// To within ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// The tokens of one control plane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokens {
    _store: StoreHandle,
    _clock: Arc<dyn Clock>,
    _entropy: Arc<dyn Entropy>,
}

impl Tokens {
    pub fn new(store: StoreHandle, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            _store: store,
            _clock: clock,
            _entropy: entropy,
        }
    }

    /// Makes sure that the collections exist. Call it once at start.
    pub async fn define(&self) -> Result<()> {
        unimplemented!()
    }

    /// Creates a token. `with` is saved in the same batch, e.g. the audit entry; it is built from
    /// the token, whose id is known only here.
    pub async fn create(
        &self,
        _request: TokenRequest,
        _with: impl FnOnce(&Token) -> Vec<Write>,
    ) -> Result<(Token, Secret)> {
        unimplemented!()
    }

    /// Who holds this token. `Unauthenticated` for anything that is not a live token, without
    /// saying which it was.
    pub async fn authenticate(&self, _bearer: &str) -> Result<Token> {
        unimplemented!()
    }

    pub async fn get(&self, _id: &TokenId) -> Result<Option<Token>> {
        unimplemented!()
    }

    /// All tokens, revoked ones included, newest first.
    pub async fn list(&self) -> Result<Vec<Token>> {
        unimplemented!()
    }

    /// Ends a token at once; `NotFound` when there is none. Revoking twice changes nothing.
    pub async fn revoke(
        &self,
        _id: &TokenId,
        _with: impl FnOnce(&Token) -> Vec<Write>,
    ) -> Result<Token> {
        unimplemented!()
    }

    /// Creates the first admin token and writes it to `path` (0600), exactly once per store. Gives
    /// the token when this call made it.
    pub async fn bootstrap(
        &self,
        _path: &Path,
        _with: impl FnOnce(&Token) -> Vec<Write>,
    ) -> Result<Option<Token>> {
        unimplemented!()
    }
}
