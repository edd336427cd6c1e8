//! Runs actions under the fence, in up to three transactions: the row, the accounts, saving them.
//!
//! What was planned is decided again inside the transaction, from what is found there, so that an account
//! that somebody made in between is never taken.

use freehold_model::Gate;
use redis::{Cmd, Value};

use super::{
    connect::{AccountsKept, Connection, command, refuse},
    observe::User,
    plan::{self, Action, Goal},
    registry::{self, CREATIONS, Claim, Deed, RegistryRow, RowState, Standing, Subject},
    rules::Wanted,
};
use crate::{EngineError, Fault, Result};

/// Runs the effects of one database.
pub(super) struct Applier<'a> {
    pub(super) admin: &'a mut Connection,
    pub(super) claim: &'a Claim,
    pub(super) gate: &'a Gate,
}

impl Applier<'_> {
    fn name(&self) -> &str {
        self.claim.name.as_str()
    }

    /// Writes row and copy, in the given state if any; nothing else. Raises the epoch.
    pub(super) async fn record(&mut self, state: Option<RowState>, doing: &str) -> Result<()> {
        self.gate.before(doing).await?;
        self.write(state, None, doing).await?;
        self.gate.after(doing).await?;
        Ok(())
    }

    /// Gives the database up, and makes the server keep that with its accounts.
    pub(super) async fn release(&mut self, doing: &str) -> Result<()> {
        self.gate.before(doing).await?;
        let kept = self.saving();
        let saved = self.write(Some(RowState::Released), kept, doing).await;
        saved.or_else(accept_refusal)?;
        self.gate.after(doing).await?;
        Ok(())
    }

    async fn write(
        &mut self,
        state: Option<RowState>,
        save: Option<Cmd>,
        doing: &str,
    ) -> Result<()> {
        let claim = self.claim;
        let place = self.admin.server.place.clone();
        let saves = save.is_some();
        let replies = registry::transact(self.admin, &subject(claim, doing), |found, _| {
            let standing = claim.check(found, &place)?;
            let mut row = claim.raised(&standing.row);
            row.state = state.unwrap_or(row.state);
            Ok(Deed {
                saves,
                ..deed(standing, row, save.iter().cloned().collect())
            })
        })
        .await?;
        check(&replies, doing)
    }

    /// The command by which the server keeps its accounts, if there is one.
    fn saving(&self) -> Option<Cmd> {
        match self.admin.server.accounts_kept {
            AccountsKept::InAclFile => Some(command(&["ACL", "SAVE"])),
            AccountsKept::InConfiguration => Some(command(&["CONFIG", "REWRITE"])),
            AccountsKept::Nowhere => None,
        }
    }

    /// Makes and sets accounts and ends the sessions that must not go on, all at once.
    pub(super) async fn set_accounts(&mut self, goal: &Goal, actions: &[&Action]) -> Result<()> {
        let doing = format!("set accounts of {:?}", self.name());
        let logins: Vec<&plan::GoalLogin> = goal
            .logins
            .iter()
            .filter(|login| actions.iter().any(|action| concerns(action, &login.name)))
            .collect();
        let makes = actions
            .iter()
            .any(|action| matches!(action, Action::MakeLogin { .. }));
        let claim = self.claim;
        let server = self.admin.server.clone();
        let mut look = vec![command(&["TIME"])];
        look.extend(
            logins
                .iter()
                .map(|login| command(&["ACL", "GETUSER", &login.name])),
        );
        let subject = Subject {
            look,
            watch: if makes { &[CREATIONS] } else { &[] },
            ..subject(claim, &doing)
        };
        self.gate.before(&doing).await?;
        let replies = registry::transact(self.admin, &subject, |found, seen| {
            let standing = claim.check(found, &server.place)?;
            let owner = standing.row.stamp.uid;
            let now = seconds(seen.first());
            let mut commands = Vec::new();
            for (login, reply) in logins.iter().zip(seen.iter().skip(1)) {
                let user = User::read(reply);
                if let Some(user) = &user {
                    plan::check_owner(goal.name.as_str(), &login.name, user, owner)?;
                } else {
                    commands.push(command(&["INCR", CREATIONS]));
                }
                let rules = login
                    .wanted(now)
                    .rules(&login.name, &goal.name, owner, &server);
                commands.push(command(&rules));
                if user.is_some_and(|user| plan::ends_sessions(&user, login.wanted(now))) {
                    commands.push(command(&["CLIENT", "KILL", "USER", &login.name]));
                }
            }
            let row = claim.raised(&standing.row);
            Ok(Deed {
                sets_accounts: true,
                ..deed(standing, row, commands)
            })
        })
        .await?;
        check(&replies, &doing)?;
        self.gate.after(&doing).await?;
        Ok(())
    }

    /// Closes accounts whose access nothing names any more.
    pub(super) async fn close(&mut self, logins: &[String]) -> Result<()> {
        let doing = format!("close accounts of {:?}", self.name());
        let claim = self.claim;
        let server = self.admin.server.clone();
        let subject = Subject {
            look: logins
                .iter()
                .map(|login| command(&["ACL", "GETUSER", login]))
                .collect(),
            ..subject(claim, &doing)
        };
        self.gate.before(&doing).await?;
        let replies = registry::transact(self.admin, &subject, |found, seen| {
            let standing = claim.check(found, &server.place)?;
            let owner = standing.row.stamp.uid;
            let mut commands = Vec::new();
            for (login, reply) in logins.iter().zip(seen) {
                let Some(user) = User::read(reply) else {
                    continue;
                };
                plan::check_owner(claim.name.as_str(), login, &user, owner)?;
                let rules = Wanted::Closed.rules(login, &claim.name, owner, &server);
                commands.push(command(&rules));
                commands.push(command(&["CLIENT", "KILL", "USER", login]));
            }
            let row = claim.raised(&standing.row);
            Ok(Deed {
                sets_accounts: !commands.is_empty(),
                ..deed(standing, row, commands)
            })
        })
        .await?;
        check(&replies, &doing)?;
        self.gate.after(&doing).await?;
        Ok(())
    }

    /// Makes the server keep its accounts.
    pub(super) async fn save(&mut self) -> Result<()> {
        let doing = format!("save the accounts of {:?}", self.name());
        let Some(save) = self.saving() else {
            return Ok(());
        };
        self.gate.before(&doing).await?;
        if let Err(error) = self.write(None, Some(save), &doing).await {
            if is_refusal(&error) {
                // It was noted as saved in the same transaction.
                self.unsave(&doing).await?;
            }
            return Err(error);
        }
        self.gate.after(&doing).await?;
        Ok(())
    }

    async fn unsave(&mut self, doing: &str) -> Result<()> {
        let claim = self.claim;
        let place = self.admin.server.place.clone();
        registry::transact(self.admin, &subject(claim, doing), |found, _| {
            let standing = claim.check(found, &place)?;
            let row = claim.raised(&standing.row);
            Ok(Deed {
                sets_accounts: true,
                ..deed(standing, row, Vec::new())
            })
        })
        .await
        .map(|_| ())
    }
}

/// The server's own no, which leaves everything else as it should be.
pub(super) fn is_refusal(error: &EngineError) -> bool {
    matches!(error.fault, Fault::Statement(_) | Fault::Denied { .. })
}

/// A server that cannot save is told of by the next look at the database.
pub(super) fn accept_refusal(error: EngineError) -> Result<()> {
    if is_refusal(&error) {
        Ok(())
    } else {
        Err(error)
    }
}

fn subject<'a>(claim: &'a Claim, doing: &'a str) -> Subject<'a> {
    Subject {
        claim,
        doing,
        watch: &[],
        look: Vec::new(),
    }
}

fn deed(standing: Standing, row: RegistryRow, commands: Vec<Cmd>) -> Deed {
    Deed {
        home: standing.home,
        row,
        commands,
        sets_accounts: false,
        saves: false,
    }
}

fn concerns(action: &Action, name: &str) -> bool {
    match action {
        Action::MakeLogin { login }
        | Action::SetLogin { login, .. }
        | Action::EndSessions { login, .. } => login == name,
        _ => false,
    }
}

fn seconds(time: Option<&Value>) -> i64 {
    let first = time.and_then(|time| super::reply::texts(time).into_iter().next());
    first.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The transaction ran; a command in it that the server refused has done nothing, and the others have.
fn check(replies: &[Value], doing: &str) -> Result<(), EngineError> {
    for reply in replies {
        refuse(reply, doing)?;
    }
    Ok(())
}
