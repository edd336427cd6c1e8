//! Runs actions on the session that holds the fence.
//!
//! Consecutive actions with the same effect (`grant on "shop"`) travel as one message and pass the
//! gate once. Nothing here can be rolled back, so each effect leaves a state from which the next look
//! finds the way: intents are written before what they announce.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use freehold_model::{Gate, kinds::Difference};
use tokio::time::Instant;

use super::{
    connect::Connection,
    errors,
    plan::{AccountChange, Action, On, mark},
    quote::{Identifier, Literal},
    registry::{self, Claim},
    render::{create_accounts, render},
};
use crate::{DesiredDatabase, EngineError, Fault, Result};

struct Effect<'a> {
    /// A stable name; empty where there is nothing to do.
    what: String,
    actions: Vec<&'a Action>,
}

/// What applying a plan came to.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// In the order of the plan; those that the admin was not allowed to repair say so.
    pub(super) differences: Vec<Difference>,
    /// Keys of the latter.
    pub(super) refused: BTreeSet<String>,
}

/// Runs the effects of one database, whose lock the connection holds.
pub(super) struct Applier<'a> {
    pub(super) admin: &'a mut Connection,
    pub(super) claim: &'a Claim,
    pub(super) gate: &'a Gate,
}

impl Applier<'_> {
    /// Runs a plan. What the admin may not do is noted and the rest goes on; what is essential stops
    /// it. `desired` is needed to make the database, and absent where that is not planned.
    pub(super) async fn run(
        &mut self,
        actions: &[Action],
        desired: Option<&DesiredDatabase>,
    ) -> Result<Applied> {
        let mut applied = Applied::default();
        for effect in effects(&self.claim.name, actions) {
            let refusal = match self.effect(&effect, desired).await {
                Ok(()) => None,
                Err(error) if effect.may_be_refused() && is_refusal(&error) => Some(error),
                Err(error) => return Err(error),
            };
            for action in effect.actions.iter().filter(|action| !action.is_silent()) {
                let mut difference = action.difference(&self.claim.name);
                difference.repaired = !effect.what.is_empty() && refusal.is_none();
                if let Some(refusal) = &refusal {
                    let _ = write!(difference.message, " Not repaired: {}.", refusal.fault);
                    applied.refused.insert(difference.key.clone());
                }
                applied.differences.push(difference);
            }
        }
        Ok(applied)
    }

    async fn effect(
        &mut self,
        effect: &Effect<'_>,
        desired: Option<&DesiredDatabase>,
    ) -> Result<()> {
        if effect.what.is_empty() {
            return Ok(());
        }
        self.gate.before(&effect.what).await?;
        let mut message = Vec::new();
        if matches!(effect.actions.first(), Some(Action::CreateAccount { .. })) {
            message.push(create_accounts(&self.claim.name, &effect.actions)?);
        }
        for action in &effect.actions {
            match (action, desired) {
                (Action::CreateDatabase, Some(desired)) => self.create_database(desired).await?,
                (Action::MarkDatabase, Some(desired)) => self.mark_database(desired).await?,
                (Action::EndSessions { login, .. }, _) => self.end_sessions(login).await?,
                (Action::CreateAccount { .. }, _) => {}
                _ => message.push(render(&self.claim.name, action)?),
            }
        }
        if !message.is_empty() {
            self.change(&message.join("; "), &effect.what).await?;
        }
        self.gate.after(&effect.what).await?;
        Ok(())
    }

    async fn change(&mut self, statements: &str, doing: &str) -> Result<()> {
        let changed = self.admin.change(statements, doing).await;
        changed.map_err(|mut error| {
            match errors::code(&error) {
                // The row of the account is somebody else's since a moment ago.
                Some(1062) => {
                    let detail = "another database took this login's name at the same time".into();
                    error.fault = Fault::Busy { detail };
                }
                // A server that insists on seeing clear texts.
                Some(1819) => {
                    let missing = "the server refuses password hashes (strict_password_validation \
                        with a password validation plugin); Freehold never sends a clear text: SET \
                        GLOBAL strict_password_validation = OFF"
                        .into();
                    error.fault = Fault::Denied { missing };
                }
                _ => {}
            }
            error
        })
    }

    /// Says that it will be made, makes it, and says that it was: killed anywhere, the registry and
    /// the comment on the database tell whether it is ours.
    async fn create_database(&mut self, desired: &DesiredDatabase) -> Result<()> {
        let name = Identifier::new(&desired.name)?;
        let doing = format!("create database {name}");
        let (mark, row) = (mark(desired), Literal(&desired.name));
        let create = format!(
            "UPDATE freehold.registry SET state = 'creating' WHERE name = {row}; \
             CREATE DATABASE {name} CHARACTER SET utf8mb4 COMMENT {}; \
             UPDATE freehold.registry SET state = 'created' WHERE name = {row}",
            Literal(&mark),
        );
        self.admin.change(&create, &doing).await
    }

    async fn mark_database(&mut self, desired: &DesiredDatabase) -> Result<()> {
        let name = Identifier::new(&desired.name)?;
        let mark = mark(desired);
        let statement = format!("ALTER DATABASE {name} COMMENT {}", Literal(&mark));
        self.admin
            .change(&statement, &format!("mark database {name}"))
            .await
    }

    /// Ends sessions, looks again, and again until none is left.
    async fn end_sessions(&mut self, login: &str) -> Result<()> {
        let doing = format!("end sessions of {login:?}");
        let row = Literal(login);
        // Events run under their definer's name and are no sessions: they are `Connect`.
        let query = format!(
            "SELECT ID, COMMAND FROM information_schema.PROCESSLIST \
             WHERE USER = BINARY {row} AND COMMAND NOT IN ('Connect', 'Daemon')"
        );
        let timeouts = self.admin.timeouts();
        let deadline = Instant::now() + timeouts.lock + timeouts.grace;
        let mut pause = Duration::from_millis(2);
        loop {
            let sessions = self.admin.read_rows(&query, &doing).await?;
            if sessions.is_empty() {
                let done =
                    format!("UPDATE freehold.account SET stale_sessions = 0 WHERE name = {row}");
                return self.admin.change(&done, &doing).await;
            }
            if Instant::now() > deadline {
                let detail = format!(
                    "{} session(s) do not end, or new ones keep coming",
                    sessions.len()
                );
                return Err(EngineError::new(Fault::Busy { detail }, doing));
            }
            for session in &sessions {
                let [Some(id), Some(command)] = session.as_slice() else {
                    continue;
                };
                if command != "Killed" {
                    let ended = registry::kill(self.admin, id, &doing).await;
                    ended.map_err(without_right)?;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

/// Ending other people's sessions is a right of its own.
fn without_right(mut error: EngineError) -> EngineError {
    if let Fault::Denied { missing } = &mut error.fault {
        missing.push_str("; to end sessions, the admin needs CONNECTION ADMIN (or SUPER)");
    }
    error
}

/// What a refusal may be of: a right that the admin lacks, a grant or an object that is gone in the
/// meantime.
fn is_refusal(error: &EngineError) -> bool {
    matches!(error.fault, Fault::Denied { .. })
        || matches!(
            errors::code(error),
            Some(1133 | 1141 | 1146 | 1147 | 1269 | 1305 | 1403 | 1959 | 1961)
        )
}

impl Effect<'_> {
    /// Without these the database is not usable or not closed; failing them is an error, not a
    /// difference.
    fn may_be_refused(&self) -> bool {
        !self.actions.iter().any(|action| match action {
            Action::CreateAccount { .. }
            | Action::RecordAccount { .. }
            | Action::CreateDatabase
            | Action::RecordDatabase
            | Action::SetPassword { .. }
            | Action::EndSessions { .. } => true,
            Action::AlterAccount { changes, .. } => changes
                .iter()
                .any(|change| matches!(change, AccountChange::Lock(_))),
            _ => false,
        })
    }
}

fn effects<'a>(database: &str, actions: &'a [Action]) -> Vec<Effect<'a>> {
    let mut effects: Vec<Effect<'a>> = Vec::new();
    for action in actions {
        let what = effect_of(database, action);
        match effects.last_mut() {
            Some(last) if last.what == what => last.actions.push(action),
            _ => effects.push(Effect {
                what,
                actions: vec![action],
            }),
        }
    }
    effects
}

/// The stable name of the effect that an action is part of.
fn effect_of(database: &str, action: &Action) -> String {
    match action {
        Action::CreateAccount { .. } => format!("create accounts of {database:?}"),
        Action::RecordAccount { login } => format!("record account {login:?}"),
        Action::AlterAccount { login, .. } => format!("alter account {login:?}"),
        Action::SetPassword { login, .. } => format!("set password of {login:?}"),
        Action::CreateDatabase => format!("create database {database:?}"),
        Action::RecordDatabase => format!("record database {database:?}"),
        Action::MarkDatabase => format!("mark database {database:?}"),
        Action::Grant { on, to, .. } => format!("grant on {:?} to {to:?}", on.words(database).0),
        Action::Revoke { on, from, .. } => {
            let place = match on {
                On::Server => "everything".to_owned(),
                on => format!("{:?}", on.words(database).0),
            };
            format!("revoke on {place} from {from}")
        }
        Action::RevokeRole { role, from } => format!("revoke role {role:?} from {from}"),
        Action::RevokeProxy { account, proxied } => {
            format!("revoke proxy {proxied} from {account}")
        }
        Action::EndSessions { login, .. } => format!("end sessions of {login:?}"),
        Action::Report { .. } => String::new(),
    }
}
