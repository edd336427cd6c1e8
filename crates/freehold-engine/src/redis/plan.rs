//! What must be done so that the server is as desired: pure, from what is desired and what was seen.
//!
//! There is nothing to create but accounts: a database begins with its first key. Applying a plan and
//! observing again gives the empty plan, except for what only a person can settle ([`Action::Report`]).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use freehold_model::kinds::{AccessLevel, Difference};
use jiff::Timestamp;

use super::{
    connect::AccountsKept,
    names::{self, DatabaseName},
    observe::{Observed, User},
    registry::RowState,
    rules::{Spelling, Wanted},
};
use crate::{DesiredDatabase, DesiredState, EngineError, Fault, LoginState, Result};

/// What is desired, as far as Redis can hold it.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) name: DatabaseName,
    pub(super) logins: Vec<GoalLogin>,
}

#[derive(Debug, Clone)]
pub(super) struct GoalLogin {
    pub(super) name: String,
    wanted: Wanted,
    /// From then on it is closed, whatever is wanted.
    until: Option<Timestamp>,
}

impl GoalLogin {
    /// What it should be at a time, in seconds since 1970.
    pub(super) fn wanted(&self, now: i64) -> &Wanted {
        match self.until {
            Some(until) if until.as_second() <= now => &Wanted::Closed,
            _ => &self.wanted,
        }
    }
}

impl Goal {
    /// Refuses what no server can hold, whatever its state.
    pub(super) fn new(desired: &DesiredDatabase) -> Result<Self> {
        let name = DatabaseName::new(&desired.name)?;
        let doing = format!("plan database {:?}", desired.name);
        if let Some(what) = unsupported(desired) {
            return Err(EngineError::new(Fault::Unsupported { what }, doing));
        }
        let open = desired.state == DesiredState::Open;
        let mut logins = Vec::new();
        let mut seen = BTreeSet::new();
        for access in &desired.accesses {
            for login in &access.logins {
                names::check_login(&login.name)?;
                if !seen.insert(&login.name) {
                    let detail = format!("two things would use the account {:?}", login.name);
                    return Err(EngineError::new(Fault::Invalid { detail }, doing));
                }
                logins.push(goal_login(&login.name, access.level, &login.state, open));
            }
        }
        Ok(Self { name, logins })
    }
}

fn goal_login(name: &str, level: AccessLevel, state: &LoginState, open: bool) -> GoalLogin {
    let (wanted, until) = match state {
        LoginState::Enabled {
            password,
            valid_until,
        } if open => (Wanted::open(level, password), *valid_until),
        LoginState::Enabled { .. } | LoginState::Disabled => (Wanted::Closed, None),
    };
    GoalLogin {
        name: name.to_owned(),
        wanted,
        until,
    }
}

fn unsupported(desired: &DesiredDatabase) -> Option<String> {
    let limits = &desired.limits;
    let limit = [
        ("connections", limits.connections),
        ("statementTimeoutMs", limits.statement_timeout_ms),
        ("lockTimeoutMs", limits.lock_timeout_ms),
        (
            "idleInTransactionTimeoutMs",
            limits.idle_in_transaction_timeout_ms,
        ),
        ("tempFilesMib", limits.temp_files_mib),
    ]
    .into_iter()
    .find_map(|(name, limit)| limit.map(|_| name));
    let mut targets = desired.accesses.iter().flat_map(|access| &access.on);
    if let Some(name) = limit {
        Some(format!(
            "hold the limit {name}: Redis has limits for the whole server only; use a class without it"
        ))
    } else if let Some(schema) = desired.schemas.first() {
        Some(format!("have schemas, and {schema:?} is asked for"))
    } else if let Some(extension) = desired.extensions.first() {
        Some(format!("have extensions, and {extension:?} is asked for"))
    } else if let Some(target) = targets.next() {
        let table = target.table.as_deref().unwrap_or("*");
        Some(format!(
            "limit an access to a part of the database, and one names {:?}.{table:?}: an account has \
             one prefix",
            target.schema
        ))
    } else if matches!(desired.migrator.state, LoginState::Enabled { .. }) {
        Some("run migrations: there is no schema to change".to_owned())
    } else {
        None
    }
}

/// One thing to do, or to tell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Writes the registry's row again, from its copy.
    RestoreRow,
    /// Writes the copy again, from the row.
    RestoreCopy,
    /// Says in the row that accounts are being made.
    Create,
    MakeLogin {
        login: String,
    },
    SetLogin {
        login: String,
        what: String,
    },
    EndSessions {
        login: String,
        count: u32,
    },
    /// Makes the server keep its accounts.
    Save,
    /// Nothing that we may or can repair.
    Report {
        key: String,
        message: String,
    },
}

impl Action {
    pub(super) fn is_actionable(&self) -> bool {
        !matches!(self, Self::Report { .. })
    }

    /// Bookkeeping, and no difference from what is desired.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Save)
    }

    /// The difference as found, not yet repaired.
    pub(super) fn difference(&self, database: &str) -> Difference {
        let (key, message) = match self {
            Self::RestoreRow => (
                format!("registry.lost:{database}"),
                format!(
                    "The registry's row of the database {database:?} is gone, or older than its copy among \
                     the accounts: by FLUSHALL, eviction, a restart without data, or an old dump. The \
                     keys of the database may be lost or old as well."
                ),
            ),
            Self::RestoreCopy => (
                format!("registry.copy:{database}"),
                format!(
                    "The copy of the registry's row of {database:?} among the accounts was lost or \
                     changed: the server was restarted without its accounts, or another one took its \
                     place."
                ),
            ),
            Self::Create => (
                format!("database.missing:{database}"),
                format!("The database {database:?} does not exist yet."),
            ),
            Self::MakeLogin { login } => (
                format!("login.missing:{login}"),
                format!("The account {login:?} does not exist."),
            ),
            Self::SetLogin { login, what } => (
                format!("login.differs:{login}"),
                format!("The account {login:?} is not as it should be: {what}."),
            ),
            Self::EndSessions { login, count } => (
                format!("session.extra:{login}"),
                format!("{count} connection(s) of {login:?} are open, and it may have none."),
            ),
            Self::Save => (
                format!("accounts.unsaved:{database}"),
                format!("The accounts of the database {database:?} are not saved yet."),
            ),
            Self::Report { key, message } => (key.clone(), message.clone()),
        };
        Difference {
            key,
            message,
            repaired: false,
        }
    }
}

/// The actions that lead from what was seen to what is desired.
///
/// # Errors
/// `NameTaken` when an account exists that is not this database's.
pub(super) fn plan(goal: &Goal, seen: &Observed) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    let standing = &seen.standing;
    let name = goal.name.as_str();
    if standing.row_lost {
        actions.push(Action::RestoreRow);
    } else if standing.copy_lost {
        actions.push(Action::RestoreCopy);
    }
    if standing.row.state == RowState::Reserved {
        actions.push(Action::Create);
    }
    for login in &goal.logins {
        login_actions(goal, login, seen, &mut actions)?;
    }
    if standing.row.unsaved && seen.accounts_kept != AccountsKept::Nowhere {
        actions.push(Action::Save);
    }
    if seen.accounts_kept == AccountsKept::Nowhere {
        actions.push(Action::Report {
            key: format!("accounts.volatile:{name}"),
            message: "The server was started with neither an ACL file nor a configuration file, so it \
                forgets all accounts when it ends; they are made again with the next look after that. \
                Start it with `aclfile`."
                .to_owned(),
        });
    }
    for (account, rule) in &seen.strangers {
        actions.push(Action::Report {
            key: format!("access.foreign:{account}:{name}"),
            message: format!(
                "The account {account:?}, which Freehold did not make, may reach keys of the database \
                 {name:?} by its rule {rule:?}."
            ),
        });
    }
    Ok(actions)
}

fn login_actions(
    goal: &Goal,
    login: &GoalLogin,
    seen: &Observed,
    actions: &mut Vec<Action>,
) -> Result<()> {
    let wanted = login.wanted(seen.now);
    let Some(user) = seen.users.get(&login.name) else {
        actions.push(Action::MakeLogin {
            login: login.name.clone(),
        });
        return Ok(());
    };
    check_owner(
        goal.name.as_str(),
        &login.name,
        user,
        seen.standing.row.stamp.uid,
    )?;
    let what = differing(user, wanted, &goal.name, &seen.spelling);
    if !what.is_empty() {
        actions.push(Action::SetLogin {
            login: login.name.clone(),
            what: what.join(", "),
        });
    }
    let count = seen.sessions.get(&login.name).copied().unwrap_or(0);
    if *wanted == Wanted::Closed && count > 0 {
        actions.push(Action::EndSessions {
            login: login.name.clone(),
            count,
        });
    }
    Ok(())
}

/// Refuses an account that is not this database's.
pub(super) fn check_owner(
    database: &str,
    login: &str,
    user: &User,
    owner: freehold_model::Uid,
) -> Result<()> {
    if user.is_owned_by(owner) {
        return Ok(());
    }
    Err(EngineError::new(
        Fault::NameTaken {
            name: login.to_owned(),
            owner: None,
        },
        format!("look at the accounts of {database:?}"),
    ))
}

/// In which ways an account is not as it should be, in words.
pub(super) fn differing(
    user: &User,
    wanted: &Wanted,
    database: &DatabaseName,
    spelling: &Spelling,
) -> Vec<&'static str> {
    let mut what = Vec::new();
    let (enabled, passwords, commands) = match wanted {
        Wanted::Open { level, hash } => (true, BTreeSet::from([hash.clone()]), spelling.of(*level)),
        Wanted::Closed => (false, BTreeSet::new(), "-@all"),
    };
    let mut note = |differs: bool, words: &'static str| {
        if differs {
            what.push(words);
        }
    };
    note(user.enabled && !enabled, "it may log in");
    note(!user.enabled && enabled, "it may not log in");
    note(user.open_to_all, "it takes any password");
    note(user.passwords != passwords, "its passwords are others");
    note(user.commands != commands, "its commands are others");
    let keys: Vec<String> = wanted.keys(database).into_iter().collect();
    note(user.keys != keys, "its keys are others");
    let channels: Vec<String> = wanted.channels(database).into_iter().collect();
    note(user.channels != channels, "its channels are others");
    let marks = user.owners().count();
    let plain = user.selectors.iter().all(|selector| {
        selector.commands == "-@all" && selector.channels.is_empty() && selector.keys.len() == 1
    });
    note(
        marks != 1 || user.selectors.len() != 1 || !plain,
        "it has further rights",
    );
    what
}

/// Whether setting an account must end the sessions that it has: they came in by what it was.
pub(super) fn ends_sessions(user: &User, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Closed => true,
        Wanted::Open { hash, .. } => {
            user.open_to_all
                || (user.enabled && !user.passwords.contains(hash))
                || user.passwords.len() > 1
        }
    }
}
