//! Who the caller is, and who we are.

use freehold_api::{VersionInfo, Whoami};
use freehold_model::{Code, Error, Result};
use freehold_store::Batch;

use super::tokens::token_kind;
use crate::{
    Caller,
    authorize::Principal,
    records::store_error,
    start::Control,
    tokens::{Token, TokenId},
};

impl Control {
    /// Turns a bearer token into a caller. Team roles are read afresh, so that leaving a team takes
    /// effect at the next request.
    pub async fn authenticate(&self, bearer: &str, request_id: &str) -> Result<Caller> {
        let token: Token = self.tokens.authenticate(bearer).await?;
        let teams = self.memberships(&token.subject).await?;
        Ok(Caller {
            principal: Principal {
                subject: token.subject,
                kind: token.kind,
                platform_role: token.platform_role,
                teams,
            },
            request_id: request_id.to_owned(),
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

    /// Records that somebody tried to log in with a token that is none.
    pub async fn login_refused(&self, request_id: &str) {
        let actor = freehold_audit::Actor::anonymous();
        let mut entry = freehold_audit::Entry::new(self.clock.now(), actor, "login", None);
        entry.outcome = freehold_audit::Outcome::Refused {
            code: Code::Unauthenticated,
        };
        entry.request_id = Some(request_id.to_owned());
        let batch = Batch {
            writes: vec![self.journal.write(&entry)],
            ..Batch::new()
        };
        if let Err(error) = self.store.apply(batch).await {
            tracing::error!(%error, "a refused login could not be written to the audit log");
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
