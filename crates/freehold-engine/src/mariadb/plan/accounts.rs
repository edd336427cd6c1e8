//! Accounts: existence, attributes, passwords, sessions.

use freehold_model::kinds::Limits;

use super::{
    Action, Goal, Login, Why,
    action::{AccountChange, AccountLimits},
};
use crate::{
    EngineError, Fault, LoginState, Result,
    mariadb::{
        native,
        observe::{AccountFacts, Cluster},
    },
};

/// Makes accounts, closes those that are to be closed, and puts limits right. Accounts are opened
/// last, by [`credentials`].
pub(super) fn accounts(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) -> Result<()> {
    for login in goal.logins() {
        let Some(facts) = existing(goal, seen, &login)? else {
            actions.push(Action::CreateAccount {
                login: login.name.to_owned(),
                purpose: login.purpose,
                birthmark: native::birthmark(goal.desired.stamp.uid, login.name),
                again: seen.registered.contains_key(login.name),
                limits: limits(goal, &login),
            });
            continue;
        };
        if !seen
            .registered
            .get(login.name)
            .is_some_and(|known| known.made)
        {
            actions.push(Action::RecordAccount {
                login: login.name.to_owned(),
            });
        }
        let mut changes = limit_changes(limits(goal, &login), facts);
        if !facts.lasting {
            changes.push(AccountChange::Lasting);
        }
        if !goal.may_enter(&login, seen) && !facts.locked {
            changes.push(AccountChange::Lock(true));
        }
        alter(login.name, changes, actions);
        shadows(goal, seen, &login, actions);
    }
    Ok(())
}

/// Sets passwords and then opens the logins that may be open.
pub(super) fn credentials(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) {
    for login in goal.logins() {
        let LoginState::Enabled { password, .. } = login.state else {
            continue;
        };
        let hash = native::hash(password);
        let facts = seen.login(login.name);
        let right = facts.is_some_and(|facts| {
            facts.plugin == native::PLUGIN
                && facts.auth == hash.expose()
                && !facts.other_ways
                && !facts.expired
        });
        if !right {
            actions.push(Action::SetPassword {
                login: login.name.to_owned(),
                hash,
            });
        }
        let locked = facts.is_none_or(|facts| facts.locked);
        if locked && goal.may_enter(&login, seen) {
            alter(login.name, vec![AccountChange::Lock(false)], actions);
        }
    }
}

/// Ends sessions of logins that may have none.
pub(super) fn disabled_sessions(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) {
    for login in goal.logins() {
        let count = seen.sessions.get(login.name).copied().unwrap_or(0);
        if count > 0 && !goal.may_enter(&login, seen) {
            actions.push(Action::EndSessions {
                login: login.name.to_owned(),
                count,
                why: Why::Disabled,
            });
        }
    }
}

/// Ends sessions that may still have what was taken from their login, now or before a crash.
pub(super) fn stale_sessions(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) {
    for login in goal.logins() {
        let stale = seen
            .registered
            .get(login.name)
            .is_some_and(|known| known.stale_sessions);
        let taken = actions.iter().any(|action| {
            matches!(action, Action::Revoke { from, ends: true, .. }
                | Action::RevokeRole { from, .. } if from.user == login.name)
        });
        if stale || taken {
            actions.push(Action::EndSessions {
                login: login.name.to_owned(),
                count: seen.sessions.get(login.name).copied().unwrap_or(0),
                why: Why::StaleRights,
            });
        }
    }
}

/// The account's facts, `None` when it does not exist, an error when it is not ours.
fn existing<'s>(
    goal: &Goal<'_>,
    seen: &'s Cluster,
    login: &Login<'_>,
) -> Result<Option<&'s AccountFacts>> {
    let facts = seen.login(login.name);
    let known = seen.registered.get(login.name);
    match (facts, known) {
        (_, Some(known)) if known.database != goal.desired.name => Err(taken(goal, login.name)),
        (Some(facts), Some(known)) if known.made || facts.auth == known.birthmark => {
            Ok(Some(facts))
        }
        (Some(_), _) => Err(taken(goal, login.name)),
        // Another host, or a role: a login of ours beside it would be mistaken for it.
        (None, None) if seen.accounts.contains_key(login.name) => Err(taken(goal, login.name)),
        (None, _) => Ok(None),
    }
}

fn taken(goal: &Goal<'_>, login: &str) -> EngineError {
    EngineError::new(
        Fault::NameTaken {
            name: login.to_owned(),
            owner: None,
        },
        format!("make the accounts of database {:?}", goal.desired.name),
    )
}

/// Accounts of the same name for some host: the server prefers them to ours.
fn shadows(goal: &Goal<'_>, seen: &Cluster, login: &Login<'_>, actions: &mut Vec<Action>) {
    let same_name = seen.accounts.get(login.name).into_iter().flatten();
    for facts in same_name.filter(|facts| facts.account.host != "%") {
        actions.push(Action::Report {
            key: format!("account.shadow:{}@{}", login.name, facts.account.host),
            message: format!(
                "There is another account {} that the server prefers to {:?} of database {:?} for \
                 connections from there; Freehold did not make it and leaves it alone. Drop it: \
                 DROP USER {}",
                facts.account, login.name, goal.desired.name, facts.account
            ),
        });
    }
}

/// Limits are for programs; a migration may take its time.
fn limits(goal: &Goal<'_>, login: &Login<'_>) -> AccountLimits {
    let Limits {
        connections,
        statement_timeout_ms,
        ..
    } = &goal.desired.limits;
    if login.limited {
        AccountLimits {
            connections: connections.unwrap_or(0),
            statement_ms: statement_timeout_ms.map_or(0, u64::from),
        }
    } else {
        AccountLimits::default()
    }
}

fn limit_changes(wanted: AccountLimits, found: &AccountFacts) -> Vec<AccountChange> {
    let mut changes = Vec::new();
    if found.connections != wanted.connections {
        changes.push(AccountChange::Connections {
            limit: wanted.connections,
            found: found.connections,
        });
    }
    if found.statement_ms != wanted.statement_ms {
        changes.push(AccountChange::StatementTime {
            limit: wanted.statement_ms,
            found: found.statement_ms,
        });
    }
    changes
}

fn alter(login: &str, changes: Vec<AccountChange>, actions: &mut Vec<Action>) {
    if !changes.is_empty() {
        actions.push(Action::AlterAccount {
            login: login.to_owned(),
            changes,
        });
    }
}
