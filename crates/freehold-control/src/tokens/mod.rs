//! Bearer tokens: `fh_<id>_<secret>`.
//!
//! The id finds the record and may be shown; the secret is 256 random bits of which the store keeps
//! only the SHA-256. A slow hash as for passwords would add nothing: nobody can try 2^256 secrets
//! however fast the hash is, and this one is computed for every request.
//!
//! A subject is a person or a machine from its first token on. Otherwise whoever may make tokens for
//! machines could act as a person of the same name.
//!
//! Teams are not in the token: membership is read from the Team resources at each request, so that
//! leaving a team takes effect at once.
//!
//! It leaves out single sign-on; a token is then what a login gives.

mod bootstrap;
mod record;
mod text;

use std::sync::Arc;

use freehold_model::{Clock, Code, Entropy, Error, Name, Result, Secret, kinds::Role};
use freehold_store::{
    Batch, CollectionSpec, Precondition, PutMode, Range, Scan, StoreHandle, Value, Write,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::authorize::SubjectKind;
use record::{SubjectRecord, TokenRecord};
pub use text::TokenId;
pub(crate) use text::id_within;

/// How old `last_used_at` grows before it is written anew: reading must not become writing.
const LAST_USED_COARSENESS: SignedDuration = SignedDuration::from_mins(10);
/// Tries against other writers before we give up.
const TRIES: usize = 5;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    pub subject: Name,
    pub kind: SubjectKind,
    /// `Admin`, `Operator` or none.
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
    store: StoreHandle,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Tokens {
    pub fn new(store: StoreHandle, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            store,
            clock,
            entropy,
        }
    }

    /// Makes sure that the collections exist. Call it once at start.
    pub async fn define(&self) -> Result<()> {
        for name in [record::tokens(), record::subjects(), record::bootstrap()] {
            let indexes = Vec::new();
            let defined = self.store.define(CollectionSpec { name, indexes }).await;
            defined.map_err(|error| failed("preparing the tokens", error))?;
        }
        Ok(())
    }

    /// Creates a token. `with` gives what is saved in the same batch, e.g. the audit entry; it is
    /// built from the token, whose id is known only here. The secret is never seen again.
    ///
    /// `Conflict` when the subject is of the other kind.
    pub async fn create(
        &self,
        request: TokenRequest,
        with: impl FnOnce(&Token) -> Vec<Write>,
    ) -> Result<(Token, Secret)> {
        let (record, secret) = self.mint(request)?;
        let with = with(&record.token);
        self.save_new(&record, with).await?;
        Ok((record.token, secret))
    }

    fn mint(&self, request: TokenRequest) -> Result<(TokenRecord, Secret)> {
        let now = self.clock.now();
        if !matches!(
            request.platform_role,
            None | Some(Role::Admin | Role::Operator)
        ) {
            return Err(
                Error::invalid("only admin and operator are roles of a token")
                    .hint("Roles within a team are given by the team's manifest, under members."),
            );
        }
        if request.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::invalid("the token would have expired already"));
        }
        let (id, secret) = text::generate(self.entropy.as_ref());
        let token = Token {
            id,
            subject: request.subject,
            kind: request.kind,
            platform_role: request.platform_role,
            description: request.description,
            created_by: request.created_by,
            created_at: now,
            expires_at: request.expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        let bearer = text::bearer(&token.id, &secret);
        let hash = text::hash(&secret);
        Ok((TokenRecord { token, hash }, bearer))
    }

    async fn save_new(&self, record: &TokenRecord, with: Vec<Write>) -> Result<()> {
        let wrap = |error| failed("creating the token", error);
        let key = record::key_of_token(&record.token.id);
        let value = Value::encode(record).map_err(wrap)?;
        let mut last = None;
        for _ in 0..TRIES {
            let mut batch = self.subject_batch(&record.token).await?.put(
                &record::tokens(),
                key.clone(),
                value.clone(),
                PutMode::Create,
            );
            batch.writes.extend(with.iter().cloned());
            match self.store.apply(batch).await {
                Ok(_) => return Ok(()),
                // The id is ours alone: if it is there, that was this batch.
                Err(error) => {
                    if self
                        .store
                        .get(&record::tokens(), &key)
                        .await
                        .map_err(wrap)?
                        .is_some()
                    {
                        return Ok(());
                    }
                    if !error.is_conflict() {
                        return Err(wrap(error));
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.map_or_else(|| Error::conflict("the token was not created"), wrap))
    }

    /// A batch that holds the subject to one kind.
    async fn subject_batch(&self, token: &Token) -> Result<Batch> {
        let wrap = |error| failed("reading the token's subject", error);
        let (collection, key) = (record::subjects(), record::key_of_subject(&token.subject));
        let kind = token.kind;
        let Some(found) = self.store.get(&collection, &key).await.map_err(wrap)? else {
            let value = Value::encode(&SubjectRecord { kind }).map_err(wrap)?;
            return Ok(Batch::new().put(&collection, key, value, PutMode::Create));
        };
        let known: SubjectRecord = found.value.decode().map_err(wrap)?;
        if known.kind != kind {
            let is = match known.kind {
                SubjectKind::Person => "a person",
                SubjectKind::Machine => "a machine",
            };
            let message = format!("{} is {is} already", token.subject);
            return Err(Error::conflict(message)
                .hint("A subject stays what its first token made it; take another name."));
        }
        let etag = found.etag;
        Ok(Batch::new().require(Precondition::Unchanged {
            collection,
            key,
            etag,
        }))
    }

    /// Who holds this token. `Unauthenticated` for anything that is not a live token, without
    /// saying which it was.
    pub async fn authenticate(&self, bearer: &str) -> Result<Token> {
        let refused = || {
            Error::new(Code::Unauthenticated, "the token is not valid")
                .hint("It may have expired or been revoked: get a new one, then freehold login.")
        };
        let (id, secret) = text::parse(bearer).ok_or_else(refused)?;
        let wrap = |error| failed("checking the token", error);
        let key = record::key_of_token(&id);
        let found = self
            .store
            .get(&record::tokens(), &key)
            .await
            .map_err(wrap)?;
        let found = found.ok_or_else(refused)?;
        let record: TokenRecord = found.value.decode().map_err(wrap)?;
        let now = self.clock.now();
        if !record.hash.matches(&secret) || !record.token.is_live(now) {
            return Err(refused());
        }
        let used = record.token.last_used_at;
        if used.is_none_or(|at| now.duration_since(at) >= LAST_USED_COARSENESS) {
            self.touch(record.clone(), found.etag, now).await;
        }
        Ok(record.token)
    }

    /// Notes the use. Losing it to another writer, or to a store that cannot write now, refuses
    /// nobody.
    async fn touch(&self, mut record: TokenRecord, etag: freehold_store::Etag, now: Timestamp) {
        record.token.last_used_at = Some(now);
        let key = record::key_of_token(&record.token.id);
        let Ok(value) = Value::encode(&record) else {
            return;
        };
        let batch = Batch::new().put(&record::tokens(), key, value, PutMode::Match(etag));
        if let Err(error) = self.store.apply(batch).await {
            tracing::debug!(
                token = %record.token.id,
                error = &error as &dyn std::error::Error,
                "the use of a token was not noted"
            );
        }
    }

    pub async fn get(&self, id: &TokenId) -> Result<Option<Token>> {
        let wrap = |error| failed("reading the token", error);
        let key = record::key_of_token(id);
        let found = self
            .store
            .get(&record::tokens(), &key)
            .await
            .map_err(wrap)?;
        let record = found.map(|found| found.value.decode::<TokenRecord>());
        Ok(record.transpose().map_err(wrap)?.map(|record| record.token))
    }

    /// All tokens, revoked ones included, newest first.
    pub async fn list(&self) -> Result<Vec<Token>> {
        let wrap = |error| failed("listing the tokens", error);
        let mut tokens = Vec::new();
        let mut scan = Scan::new(record::tokens(), Range::All);
        scan.limit = 1_000;
        loop {
            let page = self.store.scan(scan.clone()).await.map_err(wrap)?;
            for found in &page.records {
                tokens.push(found.value.decode::<TokenRecord>().map_err(wrap)?.token);
            }
            if page.next.is_none() {
                break;
            }
            scan.after = page.next;
        }
        tokens.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(tokens)
    }

    /// Ends a token at once; `NotFound` when there is none. Revoking twice changes nothing, and
    /// saves nothing of `with`.
    pub async fn revoke(
        &self,
        id: &TokenId,
        with: impl FnOnce(&Token) -> Vec<Write>,
    ) -> Result<Token> {
        let wrap = |error| failed("revoking the token", error);
        let key = record::key_of_token(id);
        let mut with = Some(with);
        let mut writes = Vec::new();
        let mut last = None;
        for _ in 0..TRIES {
            let found = self
                .store
                .get(&record::tokens(), &key)
                .await
                .map_err(wrap)?;
            let found = found.ok_or_else(|| Error::not_found(format!("there is no token {id}")))?;
            let mut record: TokenRecord = found.value.decode().map_err(wrap)?;
            if record.token.revoked_at.is_some() {
                return Ok(record.token);
            }
            record.token.revoked_at = Some(self.clock.now());
            if let Some(with) = with.take() {
                writes = with(&record.token);
            }
            let value = Value::encode(&record).map_err(wrap)?;
            let mode = PutMode::Match(found.etag);
            let mut batch = Batch::new().put(&record::tokens(), key.clone(), value, mode);
            batch.writes.extend(writes.iter().cloned());
            match self.store.apply(batch).await {
                Ok(_) => return Ok(record.token),
                Err(error) if error.is_conflict() => last = Some(error),
                Err(error) => return Err(wrap(error)),
            }
        }
        Err(last.map_or_else(|| Error::conflict("the token was not revoked"), wrap))
    }
}

impl Token {
    /// Neither revoked nor expired.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }
}

fn failed(what: &str, error: freehold_store::Error) -> Error {
    use freehold_store::ErrorKind;
    let code = match error.kind() {
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Throttled => Code::Throttled,
        ErrorKind::Undetermined => Code::Undetermined,
        ErrorKind::AlreadyExists | ErrorKind::VersionMismatch => Code::Conflict,
        _ => return Error::internal(what, error),
    };
    Error::new(
        code,
        format!("{what} did not succeed: the store did not answer as expected"),
    )
    .hint("Try again in a moment.")
    .because(error)
}

#[cfg(test)]
mod tests;
