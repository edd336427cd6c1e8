//! What must be done so that the server is as desired: pure, from what is desired and what was seen.
//!
//! [`plan`] compares and returns [`Action`]s in the order in which they must run: accounts (made
//! locked, and those that are to be closed closed at once, with their sessions), the database, rights
//! that are too many, with the sessions that still have them, rights that are lacking, passwords, then
//! logins are opened. What a tenant's session could hold up by locking its tables comes after that
//! session was ended. Applying a plan and observing again gives the empty plan, except for what only a
//! person can settle ([`Action::Report`]).
//!
//! Each action knows the difference that it repairs, with a stable key.

mod accounts;
pub(super) mod action;
mod grants;
pub(super) mod rights;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use freehold_model::kinds::AccessLevel;

pub(super) use action::{AccountChange, Action, On, Why};

use super::{
    inside::Inside,
    observe::Cluster,
    quote::{Account, Identifier, Pattern},
    registry::{self, RowState},
};
use crate::{DesiredAccess, DesiredDatabase, DesiredState, EngineError, Fault, LoginState, Result};

/// Names that the server has for itself.
const RESERVED: [&str; 5] = [
    "mysql",
    "information_schema",
    "performance_schema",
    "sys",
    registry::DATABASE,
];

/// What is desired, once it is known that it can be.
pub(super) struct Goal<'a> {
    pub(super) desired: &'a DesiredDatabase,
}

/// A login with everything it should have.
pub(super) struct Login<'a> {
    pub(super) name: &'a str,
    pub(super) state: &'a LoginState,
    pub(super) purpose: &'static str,
    /// Limits are for programs; a migration may take its time.
    pub(super) limited: bool,
}

/// Refuses a name that cannot be a managed database's.
pub(super) fn check_name(name: &str) -> Result<()> {
    Pattern::of(name)?;
    if RESERVED.contains(&name.to_lowercase().as_str()) {
        let detail = format!("the name {name:?} is the server's own or the registry's");
        return Err(EngineError::new(Fault::Invalid { detail }, "check a name"));
    }
    Ok(())
}

impl<'a> Goal<'a> {
    /// Refuses what can never be right, whatever the server's state.
    pub(super) fn new(desired: &'a DesiredDatabase) -> Result<Self> {
        let goal = Self { desired };
        goal.check()?;
        Ok(goal)
    }

    fn check(&self) -> Result<()> {
        let doing = format!("plan database {:?}", self.desired.name);
        let invalid =
            |detail: String| Err(EngineError::new(Fault::Invalid { detail }, doing.clone()));
        let unsupported = |what: &str| {
            let what = what.to_owned();
            Err(EngineError::new(Fault::Unsupported { what }, doing.clone()))
        };
        check_name(&self.desired.name)?;
        if !self.desired.schemas.is_empty() {
            return unsupported("make schemas inside a database");
        }
        if !self.desired.extensions.is_empty() {
            return unsupported("install extensions in a database");
        }
        let limits = &self.desired.limits;
        for (limit, set) in [
            ("lockTimeoutMs", limits.lock_timeout_ms.is_some()),
            (
                "idleInTransactionTimeoutMs",
                limits.idle_in_transaction_timeout_ms.is_some(),
            ),
            ("tempFilesMib", limits.temp_files_mib.is_some()),
        ] {
            if set {
                return unsupported(&format!(
                    "set the limit {limit} for an account; leave it out of the class"
                ));
            }
        }
        let mut seen = BTreeSet::new();
        for login in self.logins() {
            Account::login(login.name)?;
            if !seen.insert(login.name) {
                return invalid(format!("two things would use the account {:?}", login.name));
            }
        }
        for access in &self.desired.accesses {
            if access.level == AccessLevel::Owner && !access.on.is_empty() {
                return invalid(
                    "an access of level owner is for the whole database; name tables only for \
                     readOnly and readWrite"
                        .into(),
                );
            }
            for target in &access.on {
                // In MariaDB a schema is a database: its name as declared or as on the server.
                let declared = self.desired.stamp.database.as_str();
                let named = ["", declared, &self.desired.name];
                if !named.contains(&target.schema.as_str()) {
                    return invalid(format!(
                        "there is no schema {:?}: a MariaDB database has no schemas inside; give the \
                         database's own name ({declared:?}) and the table",
                        target.schema
                    ));
                }
                if let Some(table) = &target.table {
                    Identifier::new(table)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn logins(&self) -> Vec<Login<'_>> {
        let slots = self.desired.accesses.iter().flat_map(|access| {
            access.logins.iter().map(|login| Login {
                name: &login.name,
                state: &login.state,
                purpose: "login",
                limited: true,
            })
        });
        let migrator = Login {
            name: &self.desired.migrator.login,
            state: &self.desired.migrator.state,
            purpose: "migrator",
            limited: false,
        };
        slots.chain([migrator]).collect()
    }

    pub(super) fn login_names(&self) -> Vec<String> {
        let logins = self.logins();
        logins.iter().map(|login| login.name.to_owned()).collect()
    }

    /// The login of ours that an account is.
    fn login_of(&self, account: &Account) -> Option<&str> {
        let logins = self
            .desired
            .accesses
            .iter()
            .flat_map(|access| &access.logins);
        let names =
            logins
                .map(|login| login.name.as_str())
                .chain([self.desired.migrator.login.as_str()]);
        (account.host == "%")
            .then(|| names.into_iter().find(|name| *name == account.user))
            .flatten()
    }

    /// Accounts whose rights on our database are not ours to judge here: the admin's, and logins of
    /// this database that are not named now (`disable_logins` decides about them).
    fn is_tolerated(&self, account: &Account, seen: &Cluster) -> bool {
        let unnamed = account.host == "%"
            && seen
                .registered
                .get(&account.user)
                .is_some_and(|known| known.database == self.desired.name);
        unnamed || account.user == seen.admin
    }

    /// The tables that an access is for; `None` is all of them.
    fn tables_of<'b>(&self, access: &'b DesiredAccess) -> Option<Vec<&'b str>> {
        if access.on.is_empty() || access.on.iter().any(|target| target.table.is_none()) {
            return None;
        }
        let tables = access
            .on
            .iter()
            .filter_map(|target| target.table.as_deref());
        Some(tables.collect())
    }

    /// All tables that are named by some access.
    pub(super) fn tables(&self) -> Vec<&str> {
        let named = self.desired.accesses.iter();
        let tables: BTreeSet<&str> = named
            .filter_map(|access| self.tables_of(access))
            .flatten()
            .collect();
        tables.into_iter().collect()
    }

    pub(super) fn is_open(&self) -> bool {
        self.desired.state == DesiredState::Open
    }

    /// Whether a login may be used now. The server knows no hour at which an account ends, so the
    /// first look after it closes the login.
    fn may_enter(&self, login: &Login<'_>, seen: &Cluster) -> bool {
        let valid = match login.state {
            LoginState::Disabled => false,
            LoginState::Enabled { valid_until, .. } => {
                valid_until.is_none_or(|until| until.as_microsecond() > seen.now)
            }
        };
        valid && self.is_open()
    }
}

/// The comment of a database of ours.
pub(super) fn mark(desired: &DesiredDatabase) -> String {
    format!("freehold:{}", desired.stamp.uid)
}

/// The actions that lead from what was seen to what is desired. `within` is absent when the database
/// does not exist yet.
///
/// # Errors
/// `NameTaken` when an account or the database exists and is not ours, `Missing` when what was made is
/// gone.
pub(super) fn plan(
    goal: &Goal<'_>,
    seen: &Cluster,
    within: Option<&Inside>,
) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    let on_database = database_action(goal, seen)?;
    accounts::accounts(goal, seen, &mut actions)?;
    // Before anything that a session could hold up by the locks that it has.
    accounts::disabled_sessions(goal, seen, &mut actions);
    let (mark, made): (Vec<Action>, Vec<Action>) = on_database
        .into_iter()
        .partition(|action| *action == Action::MarkDatabase);
    actions.extend(made);
    grants::revokes(goal, seen, &mut actions)?;
    accounts::stale_sessions(goal, seen, &mut actions);
    grants::rest(goal, seen, &mut actions)?;
    if let Some(within) = within {
        grants::inside(goal, seen, within, &mut actions);
    }
    accounts::credentials(goal, seen, &mut actions);
    actions.extend(mark);
    Ok(actions)
}

/// What is to be done about the database itself.
fn database_action(goal: &Goal<'_>, seen: &Cluster) -> Result<Option<Action>> {
    let name = &goal.desired.name;
    let comment = seen.databases.get(name);
    let bears_mark = comment.is_some_and(|comment| *comment == mark(goal.desired));
    let state = seen.rows.get(name).map(|row| row.state);
    let fault = match (state, comment) {
        (Some(RowState::Reserved | RowState::Creating), None) => {
            return Ok(Some(Action::CreateDatabase));
        }
        (Some(RowState::Creating), Some(_)) if bears_mark => {
            return Ok(Some(Action::RecordDatabase));
        }
        (Some(RowState::Created), Some(_)) => {
            return Ok((!bears_mark).then_some(Action::MarkDatabase));
        }
        // Made by somebody else after the name was taken.
        (Some(RowState::Reserved | RowState::Creating), Some(_)) => Fault::NameTaken {
            name: name.clone(),
            owner: None,
        },
        _ => Fault::Missing {
            what: format!("the database {name:?}"),
        },
    };
    Err(EngineError::new(
        fault,
        format!("look for database {name:?}"),
    ))
}
