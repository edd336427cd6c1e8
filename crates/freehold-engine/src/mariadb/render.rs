//! The SQL of each action.
//!
//! Names and values reach it only through the types of `quote.rs`; privileges are the server's own
//! words, from the plan or the catalog.

use std::collections::BTreeSet;

use super::{
    native,
    plan::{AccountChange, Action, On},
    quote::{Account, Identifier, Literal, Pattern, list},
};
use crate::Result;

/// The statements of one action, separated by semicolons. Empty for what is not one message.
pub(super) fn render(database: &str, action: &Action) -> Result<String> {
    let name = Literal(database);
    Ok(match action {
        Action::RecordAccount { login } => made(&[login]),
        Action::AlterAccount { login, changes } => alter_account(login, changes)?,
        Action::SetPassword { login, hash } => format!(
            "ALTER USER {} IDENTIFIED VIA {} USING {}",
            Account::login(login)?,
            native::PLUGIN,
            Literal(hash.expose())
        ),
        Action::RecordDatabase => {
            format!("UPDATE freehold.registry SET state = 'created' WHERE name = {name}")
        }
        Action::Grant { on, to, privileges } => format!(
            "GRANT {} ON {} TO {}",
            listed(privileges, on),
            place(on, database)?,
            Account::login(to)?
        ),
        Action::Revoke {
            on,
            from,
            privileges,
            ends,
        } => {
            let before = if *ends { stale(from) } else { String::new() };
            let revoke = if *on == On::Server {
                format!(
                    "REVOKE ALL PRIVILEGES ON *.* FROM {from}; REVOKE GRANT OPTION ON *.* FROM {from}"
                )
            } else {
                let place = place(on, database)?;
                format!("REVOKE {} ON {place} FROM {from}", listed(privileges, on))
            };
            format!("{before}{revoke}")
        }
        Action::RevokeRole { role, from } => format!(
            "{}REVOKE {} FROM {from}",
            stale(from),
            Identifier::from_catalog(role)
        ),
        Action::RevokeProxy { account, proxied } => {
            format!("REVOKE PROXY ON {proxied} FROM {account}")
        }
        // These are not one statement each.
        Action::CreateAccount { .. }
        | Action::CreateDatabase
        | Action::MarkDatabase
        | Action::EndSessions { .. }
        | Action::Report { .. } => String::new(),
    })
}

/// Makes accounts: first the intents, then the accounts, then that they are there. A row of somebody
/// else makes the insertion fail, and nothing follows.
pub(super) fn create_accounts(database: &str, actions: &[&Action]) -> Result<String> {
    let name = Literal(database);
    let (mut rows, mut intents, mut creations, mut logins) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for action in actions {
        let Action::CreateAccount {
            login,
            purpose,
            birthmark,
            again,
            limits,
        } = action
        else {
            continue;
        };
        let (account, row) = (Account::login(login)?, Literal(login));
        let mark = Literal(birthmark);
        if *again {
            intents.push(format!(
                "UPDATE freehold.account SET state = 'making', birthmark = {mark}, \
                 stale_sessions = 0 WHERE name = {row} AND db = {name}"
            ));
        } else {
            rows.push(format!(
                "({row}, {name}, {}, 'making', {mark})",
                Literal(purpose)
            ));
        }
        creations.push(format!(
            "CREATE USER {account} IDENTIFIED VIA {} USING {mark} WITH{}{} \
             PASSWORD EXPIRE NEVER ACCOUNT LOCK",
            native::PLUGIN,
            connections(limits.connections),
            statement_time(limits.statement_ms)
        ));
        logins.push(login.as_str());
    }
    if !rows.is_empty() {
        intents.push(format!(
            "INSERT INTO freehold.account (name, db, purpose, state, birthmark) VALUES {}",
            rows.join(", ")
        ));
    }
    intents.extend(creations);
    intents.push(made(&logins));
    Ok(intents.join("; "))
}

fn made(logins: &[&str]) -> String {
    format!(
        "UPDATE freehold.account SET state = 'made' WHERE name IN ({})",
        list(logins.iter().copied())
    )
}

fn connections(limit: u32) -> String {
    format!(" MAX_USER_CONNECTIONS {limit}")
}

fn statement_time(ms: u64) -> String {
    format!(" MAX_STATEMENT_TIME {}.{:03}", ms / 1000, ms % 1000)
}

/// Says before a right is taken that open sessions may still have it, so that whoever comes after a
/// crash ends them.
fn stale(account: &Account) -> String {
    format!(
        "UPDATE freehold.account SET stale_sessions = 1 WHERE name = {}; ",
        Literal(&account.user)
    )
}

fn alter_account(login: &str, changes: &[AccountChange]) -> Result<String> {
    let mut with = String::new();
    let mut after = String::new();
    for change in changes {
        match change {
            AccountChange::Connections { limit, .. } => with.push_str(&connections(*limit)),
            AccountChange::StatementTime { limit, .. } => with.push_str(&statement_time(*limit)),
            AccountChange::Lock(true) => after.push_str(" ACCOUNT LOCK"),
            AccountChange::Lock(false) => after.push_str(" ACCOUNT UNLOCK"),
            AccountChange::Lasting => after.push_str(" PASSWORD EXPIRE NEVER"),
        }
    }
    let with = if with.is_empty() {
        with
    } else {
        format!(" WITH{with}")
    };
    Ok(format!(
        "ALTER USER {}{with}{after}",
        Account::login(login)?
    ))
}

/// What stands after `ON`.
fn place(on: &On, database: &str) -> Result<String> {
    let table = |database: &str, table: &str| {
        let database = Identifier::from_catalog(database);
        format!("{database}.{}", Identifier::from_catalog(table))
    };
    Ok(match on {
        On::Server => "*.*".into(),
        On::Database => format!("{}.*", Pattern::of(database)?),
        On::Pattern(pattern) => format!("{}.*", Pattern::from_catalog(pattern)),
        On::Table { database, table: t }
        | On::Column {
            database, table: t, ..
        } => format!("TABLE {}", table(database, t)),
        On::Routine {
            database,
            routine,
            kind,
        } => {
            let kind = match kind.as_str() {
                "FUNCTION" => "FUNCTION",
                "PACKAGE" => "PACKAGE",
                "PACKAGE BODY" => "PACKAGE BODY",
                _ => "PROCEDURE",
            };
            format!("{kind} {}", table(database, routine))
        }
    })
}

fn listed(privileges: &BTreeSet<String>, on: &On) -> String {
    let column = match on {
        On::Column { column, .. } => format!(" ({})", Identifier::from_catalog(column)),
        _ => String::new(),
    };
    let privileges: Vec<String> = privileges
        .iter()
        .map(|privilege| format!("{privilege}{column}"))
        .collect();
    privileges.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mariadb::plan::rights;

    #[test]
    fn hostile_names_stay_names() {
        let action = Action::Grant {
            on: On::Database,
            to: "a`b".into(),
            privileges: rights::of_set("Select"),
        };
        let sql = render("te_am`x", &action).expect("valid");
        assert_eq!(sql, "GRANT SELECT ON `te\\_am``x`.* TO `a``b`@`%`");
    }

    #[test]
    fn limits_are_written_exactly() {
        let changes = [
            AccountChange::StatementTime {
                limit: 1005,
                found: 0,
            },
            AccountChange::Lock(true),
            AccountChange::Connections { limit: 9, found: 0 },
        ];
        assert_eq!(
            alter_account("app", &changes).expect("valid"),
            "ALTER USER `app`@`%` WITH MAX_STATEMENT_TIME 1.005 MAX_USER_CONNECTIONS 9 ACCOUNT LOCK"
        );
    }
}
