//! Who the caller is, and who we are.

use freehold_api::{VersionInfo, Whoami};
use freehold_model::{Code, Error, Result};
use freehold_store::Batch;

use super::tokens::token_kind;
use crate::{
    Caller,
    authorize::Principal,
    records::store_error,
    refused_logins::{Refusal, Summary},
    start::Control,
    tokens::{Token, TokenId},
};

impl Control {
    /// Turns a bearer token into a caller. Team roles are read afresh, so that leaving a team takes
    /// effect at the next request.
    pub async fn authenticate(&self, bearer: &str, request_id: &str) -> Result<Caller> {
        match self.tokens.authenticate(bearer).await {
            Ok(token) => self.caller_of(token, request_id.to_owned()).await,
            Err(error) => {
                if error.code == Code::Unauthenticated {
                    self.login_refused(bearer, request_id).await;
                }
                Err(error)
            }
        }
    }

    /// The caller as it is now, for what lasts longer than a request: `Unauthenticated` once the
    /// token is revoked or has expired.
    pub async fn authenticate_again(&self, caller: &Caller) -> Result<Caller> {
        let id = TokenId::from(caller.token_id.as_str());
        let live = self.tokens.get(&id).await?;
        let live = live.filter(|token| token.is_live(self.clock.now()));
        let token =
            live.ok_or_else(|| Error::new(Code::Unauthenticated, "the token is not valid"))?;
        self.caller_of(token, caller.request_id.clone()).await
    }

    async fn caller_of(&self, token: Token, request_id: String) -> Result<Caller> {
        let teams = self.memberships(&token.subject).await?;
        Ok(Caller {
            principal: Principal {
                subject: token.subject,
                kind: token.kind,
                platform_role: token.platform_role,
                teams,
            },
            request_id,
            token_id: token.id.to_string(),
        })
    }

    /// What `freehold login` asks: records that the token was taken into use somewhere.
    pub async fn login(&self, caller: &Caller) -> Result<Whoami> {
        let entry = self.journal.by(caller, "login", None);
        let batch = Batch {
            writes: vec![self.journal.write(&entry)],
            ..Batch::new()
        };
        self.store.apply(batch).await.map_err(store_error)?;
        self.whoami(caller).await
    }

    /// Records that somebody came with a token that is none, or counts it when that was just
    /// recorded of others.
    async fn login_refused(&self, bearer: &str, request_id: &str) {
        let seen = Refusal {
            token: crate::tokens::id_within(bearer),
            request_id: request_id.to_owned(),
        };
        let noted = self.refused_logins.note(self.clock.now(), seen);
        if let Some(summary) = noted {
            self.record_refused_logins(summary).await;
        }
    }

    /// Records what was counted since the last entry; at intervals and at the end.
    pub(crate) async fn record_counted_refusals(&self, everything: bool) {
        if let Some(summary) = self.refused_logins.due(self.clock.now(), everything) {
            self.record_refused_logins(summary).await;
        }
    }

    async fn record_refused_logins(&self, summary: Summary) {
        let actor = freehold_audit::Actor::anonymous();
        let mut entry = freehold_audit::Entry::new(self.clock.now(), actor, "login", None);
        entry.outcome = freehold_audit::Outcome::Refused {
            code: Code::Unauthenticated,
        };
        entry.request_id = Some(summary.last.request_id.clone());
        entry.details = serde_json::json!({
            "attempts": summary.attempts,
            "since": summary.since,
            "token": summary.last.token,
        });
        let batch = Batch {
            writes: vec![self.journal.write(&entry)],
            ..Batch::new()
        };
        if let Err(error) = self.store.apply(batch).await {
            tracing::error!(%error, "refused logins could not be written to the audit log");
            self.refused_logins.give_back(summary);
        }
    }

    pub async fn whoami(&self, caller: &Caller) -> Result<Whoami> {
        let token = self
            .tokens
            .get(&TokenId::from(caller.token_id.as_str()))
            .await?;
        let token = token.ok_or_else(|| Error::new(Code::Unauthenticated, "the token is gone"))?;
        Ok(Whoami {
            subject: caller.principal.subject.clone(),
            kind: token_kind(caller.principal.kind),
            platform_role: caller.principal.platform_role,
            teams: caller.principal.teams.clone(),
            expires_at: token.expires_at.unwrap_or(jiff::Timestamp::MAX),
            server: self.version(),
        })
    }

    pub fn version(&self) -> VersionInfo {
        VersionInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            control_plane: self.identity.id.to_string(),
        }
    }

    /// Whether the store answers and takes writes.
    pub async fn ready(&self) -> Result<()> {
        self.store.now().await.map_err(store_error)?;
        let name = freehold_store::LeaseName::new(format!("ready/{}", self.options.name))
            .map_err(store_error)?;
        let ttl = std::time::Duration::from_secs(1);
        let lease = self
            .store
            .lease_acquire(&name, &self.options.name, ttl)
            .await;
        lease.map(|_| ()).map_err(store_error)
    }

    /// The JSON Schema of a kind's manifests.
    pub fn schema(kind: freehold_model::Kind) -> serde_json::Value {
        freehold_plan::schema::of(kind).clone()
    }
}
