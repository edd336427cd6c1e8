//! The database itself: whose it is, its rights, its limits, who is connected.

use super::{
    Action, Goal, On, SessionsOf,
    rights::{self, Judge, Rights, right},
    roles,
};
use crate::{
    EngineError, Fault, LoginState, Result,
    postgres::{
        observe::{DatabaseFacts, Grant, Observed},
        registry::RowState,
    },
};

/// Compares the registry's word with what is there. A database that was made and is gone, or is
/// another one now, is for a person.
pub(super) fn check_ownership(goal: &Goal<'_>, seen: &Observed) -> Result<()> {
    let name = &goal.desired.name;
    let doing = format!("look at database {name:?}");
    let Some(row) = seen.cluster.rows.get(name) else {
        let what = format!("the registry's row of database {name:?}");
        return Err(EngineError::new(Fault::Missing { what }, doing));
    };
    let found = seen.cluster.databases.get(name);
    let fault = match (row.state, found) {
        (RowState::Created, None) => Some(Fault::Missing {
            what: format!("the database {name:?}"),
        }),
        (RowState::Created, Some(facts)) if row.database_oid != Some(facts.oid) => {
            Some(Fault::Missing {
                what: format!(
                    "the database {name:?} that Freehold made (another one has its name now)"
                ),
            })
        }
        (RowState::Reserved, Some(_)) => Some(Fault::NameTaken {
            name: name.clone(),
            owner: None,
        }),
        (RowState::Creating, Some(facts)) if facts.owner != seen.cluster.admin => {
            Some(Fault::NameTaken {
                name: name.clone(),
                owner: None,
            })
        }
        _ => None,
    };
    match fault {
        Some(fault) => Err(EngineError::new(fault, doing)),
        None => Ok(()),
    }
}

pub(super) fn database(goal: &Goal<'_>, seen: &Observed, actions: &mut Vec<Action>) {
    let state = seen
        .cluster
        .rows
        .get(&goal.desired.name)
        .map(|row| row.state);
    let born;
    let facts = match seen.cluster.databases.get(&goal.desired.name) {
        Some(facts) => facts,
        // Nothing is made only to be closed.
        None if !goal.is_open() => return,
        None => {
            actions.push(Action::CreateDatabase);
            born = newborn(&seen.cluster.admin);
            &born
        }
    };
    if state == Some(RowState::Creating) && facts.oid != 0 {
        actions.push(Action::RecordDatabase);
    }
    if facts.owner != seen.cluster.admin {
        actions.push(Action::DatabaseOwner {
            found: facts.owner.clone(),
        });
    }
    // Rights first: a database is made with a connection limit of 0, and opens when nobody can come
    // in who should not. Closing takes the rights before the limit says so.
    let tenants = |role: &str| {
        seen.cluster.registered_roles.contains_key(role)
            || goal.role_names().iter().any(|r| r == role)
    };
    let judge = Judge {
        owner: &facts.owner,
        admin: &seen.cluster.admin,
        is_tenant: &tenants,
    };
    rights::compare(&On::Database, &expected(goal), &facts.acl, &judge, actions);
    if !facts.allow_connections && goal.is_open() {
        actions.push(Action::DatabaseAllow);
    }
    let limit = match (goal.is_open(), goal.desired.limits.connections) {
        (false, _) => 0,
        (true, Some(limit)) => i32::try_from(limit).unwrap_or(i32::MAX),
        (true, None) => -1,
    };
    if facts.connection_limit != limit {
        actions.push(Action::DatabaseConnections {
            limit,
            found: facts.connection_limit,
        });
    }
    for setting in &seen.cluster.settings {
        let of_database = setting.role.is_none()
            && setting.database.as_deref() == Some(goal.desired.name.as_str());
        if of_database && roles::is_managed(&setting.name) {
            actions.push(Action::Set {
                role: None,
                in_database: true,
                name: setting.name.clone(),
                value: None,
            });
        }
    }
}

/// A database as `CREATE DATABASE` leaves it.
pub(crate) fn newborn(admin: &str) -> DatabaseFacts {
    let granted = |to: Option<&str>, privilege: &str| Grant {
        to: to.map(str::to_owned),
        by: admin.to_owned(),
        privilege: privilege.to_owned(),
        grantable: false,
    };
    DatabaseFacts {
        oid: 0,
        owner: admin.to_owned(),
        connection_limit: 0,
        allow_connections: true,
        acl: vec![
            granted(None, "CONNECT"),
            granted(None, "TEMPORARY"),
            granted(Some(admin), "CREATE"),
            granted(Some(admin), "CONNECT"),
            granted(Some(admin), "TEMPORARY"),
        ],
    }
}

/// The rights on a database. The admin owns it, so no tenant can drop it, rename it or lift its
/// limits; the owner role may create schemas in it.
pub(crate) fn expected(goal: &Goal<'_>) -> Rights {
    let mut rights = Rights::new();
    if !goal.is_open() {
        return rights;
    }
    right(
        &mut rights,
        &goal.owner,
        &["CONNECT", "CREATE", "TEMPORARY"],
    );
    right(&mut rights, &goal.reader, &["CONNECT"]);
    right(&mut rights, &goal.writer, &["CONNECT", "TEMPORARY"]);
    for access in goal.limited() {
        let privileges: &[&str] = match access.desired.level {
            freehold_model::kinds::AccessLevel::ReadOnly => &["CONNECT"],
            _ => &["CONNECT", "TEMPORARY"],
        };
        right(&mut rights, &access.group, privileges);
    }
    for login in goal.logins() {
        // A login that does not inherit needs the right to come in itself.
        if login.acts_as_group {
            right(&mut rights, login.name, &["CONNECT"]);
        }
    }
    rights
}

/// Sessions that should not be: of disabled logins anywhere, of anybody in a closed database, of
/// roles that have no right to be in an open one.
pub(super) fn sessions(goal: &Goal<'_>, seen: &Observed, actions: &mut Vec<Action>) {
    let logins = goal.logins();
    for login in &logins {
        let count = seen
            .cluster
            .sessions
            .iter()
            .filter(|sessions| sessions.role == login.name)
            .map(|sessions| sessions.count)
            .sum();
        let closing = *login.state == LoginState::Disabled;
        if closing && count > 0 {
            actions.push(Action::EndSessions {
                of: SessionsOf::Login(login.name.to_owned()),
                count,
            });
        }
    }
    let Some(facts) = seen.cluster.databases.get(&goal.desired.name) else {
        return;
    };
    let within = seen.cluster.sessions.iter().filter(|sessions| {
        sessions.database == goal.desired.name
            && !sessions.superuser
            && sessions.role != seen.cluster.admin
    });
    if !goal.is_open() {
        let count = within.map(|sessions| sessions.count).sum();
        if count > 0 {
            actions.push(Action::EndSessions {
                of: SessionsOf::Everybody,
                count,
            });
        }
        return;
    }
    // Whoever may come in through PUBLIC or a role that is not ours is dealt with there first.
    let ours = goal.role_names();
    let others_admitted = facts.acl.iter().any(|grant| match &grant.to {
        None => true,
        Some(to) => *to != facts.owner && *to != seen.cluster.admin && !ours.contains(to),
    });
    if others_admitted {
        return;
    }
    for sessions in within {
        let known = seen.cluster.registered_roles.contains_key(&sessions.role)
            || ours.contains(&sessions.role);
        let keeper = seen
            .cluster
            .memberships
            .iter()
            .any(|membership| membership.member == sessions.role && membership.keeper);
        if !known && !keeper {
            actions.push(Action::EndSessions {
                of: SessionsOf::Role(sessions.role.clone()),
                count: sessions.count,
            });
        }
    }
}
