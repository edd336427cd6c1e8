//! Bearer tokens: made, listed, revoked.

use freehold_api::{TokenCreate, TokenCreated, TokenKind, TokenList, TokenView};
use freehold_model::{
    Error, Kind, Name, Result,
    kinds::{Role, Team},
};
use freehold_store::Range;
use jiff::SignedDuration;

use crate::{
    Caller,
    authorize::{Action, Context, SubjectKind, TokenContext},
    start::Control,
    tokens::{Token, TokenId, TokenRequest},
};

const DAYS_DEFAULT: u16 = 90;
const DAYS_MAX: u16 = 365;

impl Control {
    pub async fn token_create(
        &self,
        caller: &Caller,
        request: TokenCreate,
    ) -> Result<TokenCreated> {
        match self.create_token(caller, request).await {
            Ok(created) => Ok(created),
            Err(error) => Err(self
                .journal
                .refused(caller, "token.create", None, error)
                .await),
        }
    }

    async fn create_token(&self, caller: &Caller, request: TokenCreate) -> Result<TokenCreated> {
        let kind = subject_kind(request.kind);
        let context = self
            .token_context(&request.subject, kind, request.platform_role)
            .await?;
        Self::allow(caller, Action::CreateToken, None, &context)?;
        if !matches!(
            request.platform_role,
            None | Some(Role::Admin | Role::Operator)
        ) {
            return Err(
                Error::invalid("a token's platform role is admin or operator")
                    .hint("Roles within a team come from the team's members."),
            );
        }
        let days = request.days.unwrap_or(DAYS_DEFAULT);
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(Error::invalid(format!(
                "a token lasts 1 to {DAYS_MAX} days, not {days}"
            )));
        }
        let expires_at = self.clock.now() + SignedDuration::from_hours(24 * i64::from(days));
        let request = TokenRequest {
            subject: request.subject,
            kind,
            platform_role: request.platform_role,
            expires_at: Some(expires_at),
            description: String::new(),
            created_by: caller.subject().to_owned(),
        };
        let entry = |token: &Token| {
            let mut entry = self.journal.by(caller, "token.create", None);
            entry.details = serde_json::json!({ "token": token });
            vec![self.journal.write(&entry)]
        };
        let (token, secret) = self.tokens.create(request, entry).await?;
        Ok(TokenCreated {
            token: secret,
            view: view(&token),
        })
    }

    /// The tokens that the caller may look after: one's own, those of one's teams' machines; for an
    /// admin all.
    pub async fn token_list(&self, caller: &Caller) -> Result<TokenList> {
        Self::allow(caller, Action::ListTokens, None, &Context::default())?;
        let teams: Vec<Team> = self.records.all(Kind::Team, Range::All).await?;
        let tokens = self.tokens.list().await?;
        let may_see = |token: &&Token| {
            let context = Context {
                token: Some(TokenContext {
                    subject: token.subject.clone(),
                    kind: token.kind,
                    platform_role: token.platform_role,
                    teams: roles_of(&token.subject, &teams).into_keys().collect(),
                }),
                ..Context::default()
            };
            Self::allow(caller, Action::ListTokens, None, &context).is_ok()
        };
        Ok(TokenList {
            items: tokens.iter().filter(may_see).map(view).collect(),
        })
    }

    pub async fn token_revoke(&self, caller: &Caller, id: &str) -> Result<TokenView> {
        match self.revoke_token(caller, id).await {
            Ok(view) => Ok(view),
            Err(error) => Err(self
                .journal
                .refused(caller, "token.revoke", None, error)
                .await),
        }
    }

    async fn revoke_token(&self, caller: &Caller, id: &str) -> Result<TokenView> {
        let id = TokenId::from(id);
        let found = self.tokens.get(&id).await?;
        // Those who may not revoke it get the same answer as for an id that nobody has.
        let Some(token) = found else {
            return Err(Error::not_found("there is no such thing"));
        };
        let context = self
            .token_context(&token.subject, token.kind, token.platform_role)
            .await?;
        Self::allow(caller, Action::RevokeToken, None, &context)?;
        let entry = |token: &Token| {
            let mut entry = self.journal.by(caller, "token.revoke", None);
            entry.details = serde_json::json!({ "token": token });
            vec![self.journal.write(&entry)]
        };
        let token = self.tokens.revoke(&id, entry).await?;
        Ok(view(&token))
    }

    async fn token_context(
        &self,
        subject: &Name,
        kind: SubjectKind,
        platform_role: Option<Role>,
    ) -> Result<Context> {
        let teams = self.memberships(subject).await?.into_keys().collect();
        let subject = subject.clone();
        let token = Some(TokenContext {
            subject,
            kind,
            platform_role,
            teams,
        });
        Ok(Context {
            token,
            ..Context::default()
        })
    }

    /// The teams a subject belongs to, with its role in each.
    pub(crate) async fn memberships(
        &self,
        subject: &Name,
    ) -> Result<std::collections::BTreeMap<Name, Role>> {
        let teams: Vec<Team> = self.records.all(Kind::Team, Range::All).await?;
        Ok(roles_of(subject, &teams))
    }
}

fn roles_of(subject: &Name, teams: &[Team]) -> std::collections::BTreeMap<Name, Role> {
    let role_in = |team: &Team| {
        let member = team.spec.members.iter().find(|m| m.subject == *subject)?;
        Some((team.metadata.name.clone(), member.role))
    };
    teams.iter().filter_map(role_in).collect()
}

pub(super) fn token_kind(kind: SubjectKind) -> TokenKind {
    match kind {
        SubjectKind::Person => TokenKind::Person,
        SubjectKind::Machine => TokenKind::Machine,
    }
}

fn subject_kind(kind: TokenKind) -> SubjectKind {
    match kind {
        TokenKind::Person => SubjectKind::Person,
        TokenKind::Machine => SubjectKind::Machine,
    }
}

fn view(token: &Token) -> TokenView {
    TokenView {
        id: token.id.to_string(),
        subject: token.subject.clone(),
        kind: token_kind(token.kind),
        platform_role: token.platform_role,
        created_by: token.created_by.clone(),
        created_at: token.created_at,
        expires_at: token.expires_at.unwrap_or(jiff::Timestamp::MAX),
        last_used_at: token.last_used_at,
        revoked_at: token.revoked_at,
    }
}
