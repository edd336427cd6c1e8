//! Rights: what each login should have and nothing else, and what others have on our database.
//!
//! Three traps of MariaDB are met here. A grant on a database is a pattern, in which `_` and `%` are
//! wildcards: ours are escaped, and whatever matches our database's name is found, however it is
//! written. Of several patterns that match, the server takes one, so a wider one beside ours may
//! hide ours. And a right on a database that is taken stays with the sessions that are open: they
//! are ended.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Goal, action::On, rights};
use crate::{
    Result,
    mariadb::{
        inside::Inside,
        observe::Cluster,
        quote::{self, Account, Pattern},
    },
};

/// What each login should have.
#[derive(Default)]
struct Expected {
    /// By login: on the whole database.
    database: BTreeMap<String, rights::Privileges>,
    /// By login and table.
    tables: BTreeMap<(String, String), rights::Privileges>,
}

/// Takes what is too much and what open sessions keep until they end.
pub(super) fn revokes(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) -> Result<()> {
    whole_server(goal, seen, actions);
    database_revokes(goal, seen, actions)?;
    roles(goal, seen, actions);
    Ok(())
}

/// Everything else: what takes effect at once, and what is lacking.
pub(super) fn rest(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) -> Result<()> {
    let expected = expected(goal);
    tables(goal, seen, &expected, actions);
    columns_and_routines(goal, seen, actions);
    proxies(goal, seen, actions);
    database_grants(goal, seen, &expected, actions)
}

/// What can only be seen inside: tables that are granted once they exist, and foreign programs.
pub(super) fn inside(goal: &Goal<'_>, seen: &Cluster, within: &Inside, actions: &mut Vec<Action>) {
    let name = &goal.desired.name;
    let mut pending = BTreeSet::new();
    for ((login, table), wanted) in expected(goal).tables {
        if !within.tables.contains(&table) {
            pending.insert(table);
            continue;
        }
        let found = seen
            .table_grants
            .iter()
            .find(|grant| {
                is_login(&grant.to, &login) && grant.database == *name && grant.table == table
            })
            .map(|grant| grant.privileges.clone())
            .unwrap_or_default();
        let on = On::Table {
            database: name.clone(),
            table,
        };
        add(on, &login, &wanted, &found, actions);
    }
    actions.extend(pending.into_iter().map(|table| Action::Report {
        key: format!("target.pending:{table}"),
        message: format!(
            "The table {table:?} does not exist yet; its access is granted once it does."
        ),
    }));
    actions.extend(within.programs.iter().map(|program| Action::Report {
        key: format!("definer.foreign:{}:{}", program.kind, program.name),
        message: format!(
            "The {} {:?} runs in the name of {:?}, which is not the account of this database's \
             migrations; it stops working when that account loses a right. Make it again in a \
             migration.",
            program.kind, program.name, program.definer
        ),
    }));
}

fn expected(goal: &Goal<'_>) -> Expected {
    let mut expected = Expected::default();
    for access in &goal.desired.accesses {
        for login in &access.logins {
            match goal.tables_of(access) {
                None => {
                    let privileges = rights::on_database(access.level);
                    expected.database.insert(login.name.clone(), privileges);
                }
                Some(tables) => {
                    for table in tables {
                        expected.tables.insert(
                            (login.name.clone(), table.to_owned()),
                            rights::on_table(access.level),
                        );
                    }
                }
            }
        }
    }
    let migrator = goal.desired.migrator.login.clone();
    let privileges = rights::of_migrator(goal.is_open());
    expected.database.insert(migrator, privileges);
    expected
}

/// Rights on everything are nothing that a login of ours has.
fn whole_server(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) {
    for login in goal.logins() {
        if let Some(facts) = seen.login(login.name).filter(|facts| facts.global != 0) {
            actions.push(Action::Revoke {
                on: On::Server,
                from: facts.account.clone(),
                privileges: [format!("global rights ({:#x})", facts.global)].into(),
                ends: true,
            });
        }
    }
}

fn database_revokes(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) -> Result<()> {
    let ours = Pattern::of(&goal.desired.name)?;
    let (expected, none) = (expected(goal), rights::Privileges::new());
    for grant in &seen.database_grants {
        let exact = grant.pattern == ours.as_str();
        let on = if exact {
            On::Database
        } else {
            On::Pattern(grant.pattern.clone())
        };
        let (extra, ends) = match goal.login_of(&grant.to) {
            Some(login) => {
                let wanted = expected.database.get(login).filter(|_| exact);
                let extra = grant.privileges.difference(wanted.unwrap_or(&none));
                (extra.cloned().collect(), true)
            }
            None if !quote::matches(&grant.pattern, &goal.desired.name)
                || goal.is_tolerated(&grant.to, seen) =>
            {
                continue;
            }
            // Written for this database alone, with or without the escapes.
            None if exact || grant.pattern == goal.desired.name => {
                (grant.privileges.clone(), false)
            }
            None => {
                actions.push(wider(goal, &grant.to, &grant.pattern, &grant.privileges));
                continue;
            }
        };
        if !extra.is_empty() {
            actions.push(Action::Revoke {
                on,
                from: grant.to.clone(),
                privileges: extra,
                ends,
            });
        }
    }
    Ok(())
}

fn database_grants(
    goal: &Goal<'_>,
    seen: &Cluster,
    expected: &Expected,
    actions: &mut Vec<Action>,
) -> Result<()> {
    let ours = Pattern::of(&goal.desired.name)?;
    let none = rights::Privileges::new();
    for (login, wanted) in &expected.database {
        let found = seen
            .database_grants
            .iter()
            .find(|grant| is_login(&grant.to, login) && grant.pattern == ours.as_str())
            .map_or(&none, |grant| &grant.privileges);
        add(On::Database, login, wanted, found, actions);
    }
    Ok(())
}

fn wider(goal: &Goal<'_>, to: &Account, pattern: &str, privileges: &rights::Privileges) -> Action {
    let name = &goal.desired.name;
    let words: Vec<&str> = privileges.iter().map(String::as_str).collect();
    Action::Report {
        key: format!("grant.wider:{pattern}:{}", super::action::holder(to)),
        message: format!(
            "{to} has {} on all databases that match {pattern:?}, {name:?} among them. Freehold does \
             not take it away, because it may be meant for others too. By hand: REVOKE ALL PRIVILEGES \
             ON {}.* FROM {to}",
            words.join(", "),
            Pattern::from_catalog(pattern)
        ),
    }
}

fn add(
    on: On,
    login: &str,
    wanted: &rights::Privileges,
    found: &rights::Privileges,
    actions: &mut Vec<Action>,
) {
    let missing: rights::Privileges = wanted.difference(found).cloned().collect();
    if !missing.is_empty() {
        actions.push(Action::Grant {
            on,
            to: login.to_owned(),
            privileges: missing,
        });
    }
}

/// Rights on tables take effect at once, so nobody's session ends.
fn tables(goal: &Goal<'_>, seen: &Cluster, expected: &Expected, actions: &mut Vec<Action>) {
    let none = rights::Privileges::new();
    for grant in &seen.table_grants {
        let wanted = match goal.login_of(&grant.to) {
            Some(login) if grant.database == goal.desired.name => {
                let key = (login.to_owned(), grant.table.clone());
                expected.tables.get(&key).unwrap_or(&none)
            }
            Some(_) => &none,
            None if grant.database == goal.desired.name && !goal.is_tolerated(&grant.to, seen) => {
                &none
            }
            None => continue,
        };
        let extra: rights::Privileges = grant.privileges.difference(wanted).cloned().collect();
        if !extra.is_empty() {
            actions.push(Action::Revoke {
                on: On::Table {
                    database: grant.database.clone(),
                    table: grant.table.clone(),
                },
                from: grant.to.clone(),
                privileges: extra,
                ends: false,
            });
        }
    }
}

fn columns_and_routines(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) {
    let concerns = |to: &Account, database: &str| {
        goal.login_of(to).is_some() || database == goal.desired.name && !goal.is_tolerated(to, seen)
    };
    for grant in &seen.column_grants {
        if !grant.privileges.is_empty() && concerns(&grant.to, &grant.database) {
            actions.push(Action::Revoke {
                on: On::Column {
                    database: grant.database.clone(),
                    table: grant.table.clone(),
                    column: grant.column.clone(),
                },
                from: grant.to.clone(),
                privileges: grant.privileges.clone(),
                ends: false,
            });
        }
    }
    for grant in &seen.routine_grants {
        // Who makes a routine gets the rights on it by itself (`automatic_sp_privileges`).
        let made_it = is_login(&grant.to, &goal.desired.migrator.login)
            && grant.database == goal.desired.name;
        if !made_it && !grant.privileges.is_empty() && concerns(&grant.to, &grant.database) {
            actions.push(Action::Revoke {
                on: On::Routine {
                    database: grant.database.clone(),
                    routine: grant.routine.clone(),
                    kind: grant.kind.clone(),
                },
                from: grant.to.clone(),
                privileges: grant.privileges.clone(),
                ends: false,
            });
        }
    }
}

/// Roles are a way around direct grants.
fn roles(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) {
    for grant in &seen.roles {
        if goal.login_of(&grant.to).is_some() {
            actions.push(Action::RevokeRole {
                role: grant.role.clone(),
                from: grant.to.clone(),
            });
        }
    }
}

/// So are proxies.
fn proxies(goal: &Goal<'_>, seen: &Cluster, actions: &mut Vec<Action>) {
    for grant in &seen.proxies {
        let concerned = [&grant.account, &grant.proxied];
        if concerned
            .into_iter()
            .any(|account| goal.login_of(account).is_some())
        {
            actions.push(Action::RevokeProxy {
                account: grant.account.clone(),
                proxied: grant.proxied.clone(),
            });
        }
    }
}

fn is_login(account: &Account, login: &str) -> bool {
    account.user == login && account.host == "%"
}
