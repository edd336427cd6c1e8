//! The SQL of each action.
//!
//! Names and values reach it only through the types of `quote.rs`; privileges are the server's own
//! words, from the plan or the catalog.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    native,
    plan::{AccountChange, Action, On},
    quote::{Account, Identifier, Literal, Pattern},
};
use crate::Result;

/// The statements of one action, separated by semicolons. Empty for what is not one message.
pub(super) fn render(database: &str, action: &Action) -> Result<String> {
    let name = Literal(database);
    Ok(match action {
        Action::CreateAccount {
            login,
            purpose,
            birthmark,
            again,
        } => {
            let (account, row) = (Account::login(login)?, Literal(login));
            let (purpose, birthmark) = (Literal(purpose), Literal(birthmark));
            // First the intent, then the account, then that it is there. A row of somebody else
            // makes the insertion fail, and nothing follows.
            let intent = if *again {
                format!(
                    "UPDATE freehold.account SET state = 'making', birthmark = {birthmark}, \
                     stale_sessions = 0 WHERE name = {row} AND db = {name}"
                )
            } else {
                format!(
                    "INSERT INTO freehold.account (name, db, purpose, state, birthmark) \
                     VALUES ({row}, {name}, {purpose}, 'making', {birthmark})"
                )
            };
            format!(
                "{intent}; CREATE USER {account} IDENTIFIED VIA {} USING {birthmark} \
                 PASSWORD EXPIRE NEVER ACCOUNT LOCK; {}",
                native::PLUGIN,
                record_account(login)
            )
        }
        Action::RecordAccount { login } => record_account(login),
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
        // `apply.rs` does these in several steps.
        Action::CreateDatabase
        | Action::MarkDatabase
        | Action::EndSessions { .. }
        | Action::Report { .. } => String::new(),
    })
}

fn record_account(login: &str) -> String {
    format!(
        "UPDATE freehold.account SET state = 'made' WHERE name = {}",
        Literal(login)
    )
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
        let written = match change {
            AccountChange::Connections { limit, .. } => {
                write!(with, " MAX_USER_CONNECTIONS {limit}")
            }
            AccountChange::StatementTime { limit, .. } => {
                let (seconds, rest) = (limit / 1000, limit % 1000);
                write!(with, " MAX_STATEMENT_TIME {seconds}.{rest:03}")
            }
            AccountChange::Lock(true) => write!(after, " ACCOUNT LOCK"),
            AccountChange::Lock(false) => write!(after, " ACCOUNT UNLOCK"),
            AccountChange::Lasting => write!(after, " PASSWORD EXPIRE NEVER"),
        };
        written.expect("writing to a String cannot fail");
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
