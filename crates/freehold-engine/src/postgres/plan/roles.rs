//! Roles: existence, attributes, memberships, settings, passwords.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Goal, Login, RoleChange};
use crate::{
    EngineError, Fault, LoginState, Result,
    postgres::{
        observe::{Membership, Observed, RoleFacts},
        scram,
    },
};

/// Settings that Freehold decides; others are left to whoever set them.
pub(crate) const MANAGED_SETTINGS: [&str; 6] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "temp_file_limit",
    "role",
    "session_authorization",
];

pub(super) fn groups(goal: &Goal<'_>, seen: &Observed, actions: &mut Vec<Action>) -> Result<()> {
    for (role, purpose) in goal.groups() {
        match existing(goal, seen, role)? {
            None => actions.push(Action::CreateRole {
                role: role.to_owned(),
                purpose,
                inherit: true,
            }),
            Some(facts) => {
                let mut changes = attributes(facts, true);
                if facts.login {
                    changes.push(RoleChange::Login(false));
                }
                alter(role, changes, actions);
            }
        }
    }
    Ok(())
}

/// Makes logins and closes those that are to be closed. They are opened last, by [`credentials`].
pub(super) fn logins(goal: &Goal<'_>, seen: &Observed, actions: &mut Vec<Action>) -> Result<()> {
    for login in goal.logins() {
        let inherit = !login.acts_as_group;
        match existing(goal, seen, login.name)? {
            None => actions.push(Action::CreateRole {
                role: login.name.to_owned(),
                purpose: login.purpose,
                inherit,
            }),
            Some(facts) => {
                let mut changes = attributes(facts, inherit);
                if *login.state == LoginState::Disabled && facts.login {
                    changes.push(RoleChange::Login(false));
                }
                alter(login.name, changes, actions);
            }
        }
    }
    Ok(())
}

/// Sets passwords and then opens the logins that may be open.
pub(super) fn credentials(goal: &Goal<'_>, seen: &Observed, actions: &mut Vec<Action>) {
    for login in goal.logins() {
        let LoginState::Enabled {
            password,
            valid_until,
        } = login.state
        else {
            continue;
        };
        let verifier = scram::verifier(login.name, password);
        let fingerprint = scram::fingerprint(&verifier);
        if found_verifier(seen, login.name).as_ref() != Some(&fingerprint) {
            actions.push(Action::SetPassword {
                login: login.name.to_owned(),
                verifier,
                fingerprint,
            });
        }
        let facts = seen.cluster.roles.get(login.name);
        let valid_until = valid_until.map(jiff::Timestamp::as_microsecond);
        let mut changes = Vec::new();
        if facts.and_then(|facts| facts.valid_until) != valid_until {
            changes.push(RoleChange::ValidUntil(valid_until));
        }
        if !facts.is_some_and(|facts| facts.login) {
            changes.push(RoleChange::Login(true));
        }
        alter(login.name, changes, actions);
    }
}

/// What the server has, where we may look, or else what we set last. A role that was made anew has
/// nothing of the old one.
fn found_verifier(seen: &Observed, login: &str) -> Option<String> {
    let registered = seen.cluster.registered_roles.get(login)?;
    let facts = seen.cluster.roles.get(login)?;
    if facts.oid != registered.oid {
        return None;
    }
    let ours = registered.verifier.clone();
    match &seen.cluster.verifiers {
        // Both must agree, so that the registry knows what an admin without that sight must know.
        Some(found) => ours.filter(|ours| found.get(login) == Some(&Some(ours.clone()))),
        None => ours,
    }
}

/// The role's facts, `None` when it does not exist, an error when it is not ours.
fn existing<'s>(goal: &Goal<'_>, seen: &'s Observed, role: &str) -> Result<Option<&'s RoleFacts>> {
    let Some(facts) = seen.cluster.roles.get(role) else {
        return match seen.cluster.registered_roles.get(role) {
            Some(registered) if registered.database != goal.desired.name => Err(taken(goal, role)),
            Some(_) | None => Ok(None),
        };
    };
    match seen.cluster.registered_roles.get(role) {
        Some(registered)
            if registered.database == goal.desired.name && registered.oid == facts.oid =>
        {
            Ok(Some(facts))
        }
        Some(_) | None => Err(taken(goal, role)),
    }
}

fn taken(goal: &Goal<'_>, role: &str) -> EngineError {
    EngineError::new(
        Fault::NameTaken {
            name: role.to_owned(),
            owner: None,
        },
        format!("make the roles of database {:?}", goal.desired.name),
    )
}

fn attributes(facts: &RoleFacts, inherit: bool) -> Vec<RoleChange> {
    let mut changes: Vec<RoleChange> = facts
        .powers
        .iter()
        .cloned()
        .map(RoleChange::Without)
        .collect();
    if facts.inherit != inherit {
        changes.push(RoleChange::Inherit(inherit));
    }
    if facts.connection_limit != -1 {
        changes.push(RoleChange::Connections);
    }
    changes
}

fn alter(role: &str, changes: Vec<RoleChange>, actions: &mut Vec<Action>) {
    if !changes.is_empty() {
        actions.push(Action::AlterRole {
            role: role.to_owned(),
            changes,
        });
    }
}

/// How somebody should be a member.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Manner {
    inherit: bool,
    set: bool,
}

pub(super) fn memberships(goal: &Goal<'_>, seen: &Observed, actions: &mut Vec<Action>) {
    let admin = seen.cluster.admin.as_str();
    let ours: BTreeSet<String> = goal.role_names().into_iter().collect();
    let expected = expected_memberships(goal, seen);
    let mut found: BTreeMap<(&str, &str), Vec<&Membership>> = BTreeMap::new();
    for membership in &seen.cluster.memberships {
        found
            .entry((&membership.role, &membership.member))
            .or_default()
            .push(membership);
    }
    for ((role, member), grants) in &found {
        let wanted = expected.get(&((*role).to_owned(), (*member).to_owned()));
        let too_much = match wanted {
            // An administrator may be a member as it likes: it could make itself one at any time.
            _ if *member == admin || grants.iter().all(|grant| grant.keeper) => false,
            Some(manner) => grants.iter().any(|grant| exceeds(grant, *manner)),
            None => {
                ours.contains(*member) || ours.contains(*role) && !is_unnamed(goal, seen, member)
            }
        };
        if too_much {
            actions.extend(grants.iter().map(|grant| Action::RevokeMembership {
                role: (*role).to_owned(),
                member: (*member).to_owned(),
                by: grant.by.clone(),
            }));
        }
        if let Some(manner) = wanted
            && (too_much || !suffices(grants, *manner))
        {
            actions.push(grant(role, member, *manner));
        }
    }
    for ((role, member), manner) in &expected {
        if !found.contains_key(&(role.as_str(), member.as_str())) {
            actions.push(grant(role, member, *manner));
        }
    }
}

fn expected_memberships(goal: &Goal<'_>, seen: &Observed) -> BTreeMap<(String, String), Manner> {
    let mut expected = BTreeMap::new();
    for login in goal.logins() {
        let manner = Manner {
            inherit: !login.acts_as_group,
            set: login.acts_as_group,
        };
        expected.insert((login.group.to_owned(), login.name.to_owned()), manner);
    }
    // Making a role as of 16 makes its creator a member: with the session's
    // `createrole_self_grant`, in the manner that we need.
    let self_granted = seen.version.major >= 16;
    if !seen.superuser {
        for role in goal.role_names() {
            if self_granted && !seen.cluster.roles.contains_key(&role) {
                continue;
            }
            let manner = Manner {
                inherit: true,
                set: true,
            };
            expected.insert((role, seen.cluster.admin.clone()), manner);
        }
    }
    expected
}

/// A login that the registry knows for this database and that is not named now: somebody else
/// (`disable_logins`) decides about it.
fn is_unnamed(goal: &Goal<'_>, seen: &Observed, member: &str) -> bool {
    seen.cluster
        .registered_roles
        .get(member)
        .is_some_and(|registered| registered.database == goal.desired.name)
}

fn exceeds(found: &Membership, wanted: Manner) -> bool {
    let more = |found: Option<bool>, wanted: bool| found == Some(true) && !wanted;
    found.admin || more(found.inherit, wanted.inherit) || more(found.set, wanted.set)
}

fn suffices(found: &[&Membership], wanted: Manner) -> bool {
    // Before 16 a member has both; whether it inherits is the member's own attribute.
    let has = |option: fn(&Membership) -> Option<bool>| {
        found.iter().any(|grant| option(grant).unwrap_or(true))
    };
    (!wanted.inherit || has(|grant| grant.inherit)) && (!wanted.set || has(|grant| grant.set))
}

fn grant(role: &str, member: &str, manner: Manner) -> Action {
    Action::GrantMembership {
        role: role.to_owned(),
        member: member.to_owned(),
        inherit: manner.inherit,
        set: manner.set,
    }
}

/// Settings of logins. What a tenant set for itself among the managed ones is put back.
pub(super) fn settings(goal: &Goal<'_>, seen: &Observed, actions: &mut Vec<Action>) {
    for login in goal.logins() {
        let mut wanted = wanted_settings(goal, &login);
        for setting in &seen.cluster.settings {
            if setting.role.as_deref() != Some(login.name) || !is_managed(&setting.name) {
                continue;
            }
            let in_database = match setting.database.as_deref() {
                None => false,
                Some(database) if database == goal.desired.name => true,
                Some(_) => continue,
            };
            let right = !in_database && wanted.get(setting.name.as_str()) == Some(&setting.value);
            if right {
                wanted.remove(setting.name.as_str());
            } else if in_database || !wanted.contains_key(setting.name.as_str()) {
                actions.push(Action::Set {
                    role: Some(login.name.to_owned()),
                    in_database,
                    name: setting.name.clone(),
                    value: None,
                });
            }
        }
        actions.extend(wanted.into_iter().map(|(name, value)| {
            if name == TEMP_FILES && !seen.cluster.may_limit_temp_files {
                return unlimited_temp_files(seen, login.name);
            }
            Action::Set {
                role: Some(login.name.to_owned()),
                in_database: false,
                name: name.to_owned(),
                value: Some(value),
            }
        }));
    }
}

const TEMP_FILES: &str = "temp_file_limit";

fn unlimited_temp_files(seen: &Observed, login: &str) -> Action {
    let way_out = if seen.version.major >= 15 {
        "a superuser can allow it: GRANT SET ON PARAMETER temp_file_limit TO the admin"
    } else {
        "before PostgreSQL 15 only a superuser may"
    };
    Action::Report {
        key: format!("setting:{login}:{TEMP_FILES}"),
        message: format!(
            "The temporary files of {login:?} are not limited, because the admin may not set {TEMP_FILES}: {way_out}."
        ),
    }
}

pub(super) fn is_managed(setting: &str) -> bool {
    MANAGED_SETTINGS.contains(&setting)
}

fn wanted_settings(goal: &Goal<'_>, login: &Login<'_>) -> BTreeMap<&'static str, String> {
    let limits = &goal.desired.limits;
    let mut wanted = BTreeMap::new();
    if login.timeouts {
        let timeouts = [
            ("statement_timeout", limits.statement_timeout_ms),
            ("lock_timeout", limits.lock_timeout_ms),
            (
                "idle_in_transaction_session_timeout",
                limits.idle_in_transaction_timeout_ms,
            ),
        ];
        for (name, milliseconds) in timeouts {
            if let Some(milliseconds) = milliseconds {
                wanted.insert(name, milliseconds.to_string());
            }
        }
    }
    if let Some(mebibytes) = limits.temp_files_mib {
        wanted.insert(TEMP_FILES, (u64::from(mebibytes) * 1024).to_string());
    }
    if login.acts_as_group {
        wanted.insert("role", login.group.to_owned());
    }
    wanted
}
