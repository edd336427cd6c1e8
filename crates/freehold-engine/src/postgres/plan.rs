//! What must be done so that the server is as desired: pure, from what is desired and what was seen.
//!
//! [`plan`] compares and returns [`Action`]s in the order in which they must run: roles, their
//! memberships and settings, the database and its rights, passwords, then logins; what takes a right
//! away comes with the ending of sessions that used it. The inside of the database is planned once
//! it has been seen ([`inside`]). Applying a plan and observing again gives the empty plan, except
//! for what only a person can settle ([`Action::Report`]).
//!
//! Each action knows the difference that it repairs, with a stable key.

pub(crate) mod action;
mod database;
mod inside;
mod rights;
mod roles;
#[cfg(test)]
mod tests;

use freehold_model::kinds::{AccessLevel, AccessTarget};

pub(crate) use action::{Action, On, RoleChange, SessionsOf};

pub(crate) use database::newborn;

use super::{inside::Inside, names, observe::Observed};
use crate::{DesiredAccess, DesiredDatabase, DesiredState, EngineError, Fault, LoginState, Result};

/// What is desired, with the roles that follow from it.
pub(crate) struct Goal<'a> {
    pub(crate) desired: &'a DesiredDatabase,
    pub(crate) owner: String,
    pub(crate) reader: String,
    pub(crate) writer: String,
    pub(crate) accesses: Vec<Access<'a>>,
}

/// One access and the role that carries its rights.
pub(crate) struct Access<'a> {
    pub(crate) desired: &'a DesiredAccess,
    pub(crate) group: String,
}

/// A login with everything it should have.
pub(crate) struct Login<'a> {
    pub(crate) name: &'a str,
    pub(crate) state: &'a LoginState,
    pub(crate) purpose: &'static str,
    /// The role whose rights it has.
    pub(crate) group: &'a str,
    /// It acts as its group instead of inheriting from it, so what it makes belongs to the group.
    pub(crate) acts_as_group: bool,
    /// Timeouts are for programs; a migration may take its time.
    pub(crate) timeouts: bool,
}

impl<'a> Goal<'a> {
    /// Refuses what can never be right, whatever the server's state.
    pub(crate) fn new(desired: &'a DesiredDatabase) -> Result<Self> {
        let (owner, reader, writer) = (
            names::owner(&desired.name),
            names::reader(&desired.name),
            names::writer(&desired.name),
        );
        let accesses = desired
            .accesses
            .iter()
            .map(|access| {
                let group = match (access.on.is_empty(), access.level) {
                    (true, AccessLevel::ReadOnly) => reader.clone(),
                    (true, AccessLevel::ReadWrite) => writer.clone(),
                    (true, AccessLevel::Owner) => owner.clone(),
                    (false, _) => names::access(&desired.name, access.uid),
                };
                Access {
                    desired: access,
                    group,
                }
            })
            .collect();
        let goal = Self {
            desired,
            owner,
            reader,
            writer,
            accesses,
        };
        goal.check()?;
        Ok(goal)
    }

    fn check(&self) -> Result<()> {
        let invalid = |detail: String| {
            Err(EngineError::new(
                Fault::Invalid { detail },
                format!("plan database {:?}", self.desired.name),
            ))
        };
        let mut seen = std::collections::BTreeSet::new();
        for role in self.role_names() {
            super::quote::Identifier::new(&role)?;
            if !seen.insert(role.clone()) {
                return invalid(format!("two things would use the role {role:?}"));
            }
        }
        for name in self.desired.schemas.iter().chain(&self.desired.extensions) {
            super::quote::Identifier::new(name)?;
        }
        for access in &self.accesses {
            if access.desired.level == AccessLevel::Owner && !access.desired.on.is_empty() {
                return invalid(
                    "an access of level owner is for the whole database; name schemas or tables only \
                     for readOnly and readWrite"
                        .into(),
                );
            }
        }
        for target in self.targets() {
            super::quote::Identifier::new(&target.schema)?;
            if let Some(table) = &target.table {
                super::quote::Identifier::new(table)?;
            }
        }
        super::quote::Identifier::new(&self.desired.name).map(|_| ())
    }

    /// The roles without login: owner, reader, writer, and one for each limited access.
    pub(crate) fn groups(&self) -> Vec<(&str, &'static str)> {
        let mut groups = vec![
            (self.owner.as_str(), "owner"),
            (self.reader.as_str(), "reader"),
            (self.writer.as_str(), "writer"),
        ];
        groups.extend(
            self.limited()
                .map(|access| (access.group.as_str(), "access")),
        );
        groups
    }

    /// Accesses that name schemas or tables.
    pub(crate) fn limited(&self) -> impl Iterator<Item = &Access<'a>> {
        self.accesses
            .iter()
            .filter(|access| !access.desired.on.is_empty())
    }

    pub(crate) fn logins(&self) -> Vec<Login<'_>> {
        let mut logins: Vec<Login<'_>> = self
            .accesses
            .iter()
            .flat_map(|access| {
                access.desired.logins.iter().map(|login| Login {
                    name: &login.name,
                    state: &login.state,
                    purpose: "login",
                    group: &access.group,
                    acts_as_group: access.desired.level == AccessLevel::Owner,
                    timeouts: true,
                })
            })
            .collect();
        logins.push(Login {
            name: &self.desired.migrator.login,
            state: &self.desired.migrator.state,
            purpose: "migrator",
            group: &self.owner,
            acts_as_group: true,
            timeouts: false,
        });
        logins
    }

    pub(crate) fn role_names(&self) -> Vec<String> {
        let groups = self.groups();
        let logins = self.logins();
        groups
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .chain(logins.iter().map(|login| login.name.to_owned()))
            .collect()
    }

    pub(crate) fn targets(&self) -> Vec<&AccessTarget> {
        self.limited()
            .flat_map(|access| &access.desired.on)
            .collect()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.desired.state == DesiredState::Open
    }
}

/// What is to be done inside a database that nobody but its admin has entered yet.
pub(crate) fn furnish(goal: &Goal<'_>, seen: &Observed, within: &Inside) -> Vec<Action> {
    let mut actions = Vec::new();
    inside::inside(goal, seen, within, &mut actions);
    actions
}

/// The actions that lead from what was seen to what is desired.
///
/// # Errors
/// `NameTaken` when a role or the database exists and is not ours, `Missing` when what was made is
/// gone.
pub(crate) fn plan(goal: &Goal<'_>, seen: &Observed) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    database::check_ownership(goal, seen)?;
    roles::groups(goal, seen, &mut actions)?;
    roles::logins(goal, seen, &mut actions)?;
    roles::memberships(goal, seen, &mut actions);
    roles::settings(goal, seen, &mut actions);
    database::database(goal, seen, &mut actions);
    roles::credentials(goal, seen, &mut actions);
    database::sessions(goal, seen, &mut actions);
    if let Some(within) = &seen.inside
        && goal.is_open()
    {
        inside::inside(goal, seen, within, &mut actions);
    }
    Ok(actions)
}
