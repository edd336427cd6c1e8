//! What the server's catalogs say, as plain values: one query per catalog, all in one message.
//!
//! The same queries serve one database (its row, its accounts and those that a caller names) and a
//! survey (everything). `mysql.global_priv` is the truth about accounts; `mysql.user` is a view of it
//! that hides second ways to log in.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{
    connect::{Connection, Row},
    plan::rights,
    quote::{Account, Literal, list},
    registry::{self, ROW_COLUMNS, RegistryRow},
};
use crate::Result;

/// The server-wide facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cluster {
    /// The admin's account.
    pub(super) admin: String,
    /// The server's clock, in microseconds since 1970.
    pub(super) now: i64,
    pub(super) rows: BTreeMap<String, RegistryRow>,
    /// By name.
    pub(super) registered: BTreeMap<String, Registered>,
    /// By name; the value is the comment.
    pub(super) databases: BTreeMap<String, String>,
    /// By user; there may be several hosts.
    pub(super) accounts: BTreeMap<String, Vec<AccountFacts>>,
    pub(super) database_grants: Vec<DatabaseGrant>,
    pub(super) table_grants: Vec<TableGrant>,
    pub(super) column_grants: Vec<ColumnGrant>,
    pub(super) routine_grants: Vec<RoutineGrant>,
    pub(super) roles: Vec<RoleGrant>,
    pub(super) proxies: Vec<ProxyGrant>,
    /// Sessions of each user.
    pub(super) sessions: BTreeMap<String, u32>,
}

/// An account that Freehold has made or is making.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Registered {
    pub(super) database: String,
    pub(super) made: bool,
    pub(super) migrator: bool,
    pub(super) birthmark: String,
    /// A right was taken from it that its open sessions may still have.
    pub(super) stale_sessions: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct AccountFacts {
    pub(super) account: Account,
    pub(super) plugin: String,
    pub(super) auth: String,
    /// There is a second way to log in (`IDENTIFIED VIA … OR …`).
    pub(super) other_ways: bool,
    /// Somebody wants it changed before anything else (`PASSWORD EXPIRE`).
    pub(super) expired: bool,
    pub(super) locked: bool,
    /// Rights on the whole server, as bits.
    pub(super) global: u64,
    pub(super) connections: u32,
    pub(super) statement_ms: u64,
    /// The password never has to be changed.
    pub(super) lasting: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct DatabaseGrant {
    pub(super) to: Account,
    pub(super) pattern: String,
    pub(super) privileges: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct TableGrant {
    pub(super) to: Account,
    pub(super) database: String,
    pub(super) table: String,
    pub(super) privileges: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ColumnGrant {
    pub(super) to: Account,
    pub(super) database: String,
    pub(super) table: String,
    pub(super) column: String,
    pub(super) privileges: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct RoutineGrant {
    pub(super) to: Account,
    pub(super) database: String,
    pub(super) routine: String,
    /// `PROCEDURE`, `FUNCTION`, …
    pub(super) kind: String,
    pub(super) privileges: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct RoleGrant {
    pub(super) role: String,
    pub(super) to: Account,
}

/// `account` may act as `proxied`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ProxyGrant {
    pub(super) account: Account,
    pub(super) proxied: Account,
}

/// Which part of the server is looked at.
pub(super) enum Scope<'a> {
    Everything,
    Of {
        database: &'a str,
        /// Beside those that the registry knows.
        logins: &'a [String],
    },
}

/// Reads the server-wide facts.
pub(super) async fn cluster(connection: &mut Connection, scope: &Scope<'_>) -> Result<Cluster> {
    let doing = "read the server's catalogs";
    // A missing registry has a name of its own.
    registry::home(connection).await?;
    let noting = |error| {
        if registry::is_missing(&error) {
            registry::missing(doing)
        } else {
            error
        }
    };
    let sets = match scope {
        Scope::Everything => {
            let queries = format!("{}; {}", known("", ""), catalogs("", "", ""));
            connection.read(&queries, doing).await.map_err(noting)?
        }
        Scope::Of { database, logins } => {
            let named = list(logins.iter().map(String::as_str));
            let name = Literal(database);
            let first = known(
                &format!("WHERE name = {name}"),
                &format!("WHERE db = {name} OR name IN ({named})"),
            );
            let queries = format!("{first}; {}", of_users(database, &named));
            let mut sets = connection.read(&queries, doing).await.map_err(noting)?;
            // Logins that the registry knows and nobody names any more are looked at as well.
            let registered = sets.get(1).into_iter().flatten();
            let mut users: BTreeSet<&str> = registered
                .filter_map(|row| row.first()?.as_deref())
                .collect();
            if users
                .iter()
                .any(|user| !logins.iter().any(|login| login == user))
            {
                users.extend(logins.iter().map(String::as_str));
                let more = of_users(database, &list(users));
                let more = connection.read(&more, doing).await?;
                sets.truncate(2);
                sets.extend(more);
            }
            sets
        }
    };
    Ok(assemble(&sets))
}

/// The catalogs as far as they concern a database and some users, a list of literals.
fn of_users(database: &str, users: &str) -> String {
    let name = Literal(database);
    catalogs(
        &format!("WHERE SCHEMA_NAME = {name}"),
        &format!("WHERE User IN ({users})"),
        // The session has no escape character of its own.
        &format!(" OR {name} LIKE Db ESCAPE _utf8mb4 X'5C'"),
    )
}

fn known(rows: &str, accounts: &str) -> String {
    format!(
        "SELECT {ROW_COLUMNS} FROM freehold.registry {rows}; \
         SELECT name, db, state = 'made', birthmark, stale_sessions, purpose = 'migrator' FROM freehold.account {accounts}"
    )
}

/// `of_user` limits by user (or is empty), `or_database` adds what concerns the database.
fn catalogs(schemata: &str, of_user: &str, or_database: &str) -> String {
    let flags: Vec<&str> = rights::DATABASE.iter().map(|(column, _)| *column).collect();
    let exact = if or_database.is_empty() {
        String::new()
    } else {
        // Tables, columns and routines are granted on names, not on patterns.
        or_database.replace(" LIKE Db ESCAPE _utf8mb4 X'5C'", " = Db")
    };
    let of_role = match of_user {
        "" => String::new(),
        of_user => format!("{of_user} OR {}", of_user.replace("WHERE User", "Role")),
    };
    let of_proxied = match of_user {
        "" => String::new(),
        of_user => format!(
            "{of_user} OR {}",
            of_user.replace("WHERE User", "Proxied_user")
        ),
    };
    let tables = format!("{of_user}{exact}");
    format!(
        "SELECT CURRENT_USER(), CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS INT); \
         SELECT SCHEMA_NAME, SCHEMA_COMMENT FROM information_schema.SCHEMATA {schemata}; \
         SELECT User, Host, Priv FROM mysql.global_priv {of_user}; \
         SELECT User, Host, Db, CONCAT({}) FROM mysql.db {of_user}{or_database}; \
         SELECT User, Host, Db, Table_name, Table_priv FROM mysql.tables_priv {tables}; \
         SELECT User, Host, Db, Table_name, Column_name, Column_priv FROM mysql.columns_priv {tables}; \
         SELECT User, Host, Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv {tables}; \
         SELECT User, Host, Role FROM mysql.roles_mapping {of_role}; \
         SELECT User, Host, Proxied_user, Proxied_host FROM mysql.proxies_priv {of_proxied}; \
         SELECT USER, COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND NOT IN ('Connect', 'Daemon') GROUP BY USER",
        flags.join(", ")
    )
}

fn assemble(sets: &[Vec<Row>]) -> Cluster {
    let set = |at: usize| sets.get(at).map(Vec::as_slice).unwrap_or_default();
    let mut cluster = Cluster::default();
    for row in set(0) {
        match RegistryRow::read(row) {
            Ok(row) => {
                cluster.rows.insert(row.name.clone(), row);
            }
            Err(error) => tracing::warn!(%error, "a row of the registry is passed over"),
        }
    }
    for row in set(1) {
        let registered = Registered {
            database: text(row, 1),
            made: flag(row, 2),
            birthmark: text(row, 3),
            stale_sessions: flag(row, 4),
            migrator: flag(row, 5),
        };
        cluster.registered.insert(text(row, 0), registered);
    }
    if let Some(row) = set(2).first() {
        let admin = text(row, 0);
        admin
            .rsplit_once('@')
            .map_or(admin.as_str(), |(user, _)| user)
            .clone_into(&mut cluster.admin);
        cluster.now = text(row, 1).parse().unwrap_or(0);
    }
    let databases = set(3).iter().map(|row| (text(row, 0), text(row, 1)));
    cluster.databases.extend(databases);
    for row in set(4) {
        let facts = account(row);
        let user = facts.account.user.clone();
        cluster.accounts.entry(user).or_default().push(facts);
    }
    grants(&mut cluster, sets);
    for row in set(11) {
        let count = text(row, 1).parse().unwrap_or(0);
        cluster.sessions.insert(text(row, 0), count);
    }
    cluster
}

fn grants(cluster: &mut Cluster, sets: &[Vec<Row>]) {
    let set = |at: usize| sets.get(at).map(Vec::as_slice).unwrap_or_default();
    let to = |row: &Row| Account::from_catalog(&text(row, 0), &text(row, 1));
    cluster.database_grants = set(5)
        .iter()
        .map(|row| DatabaseGrant {
            to: to(row),
            pattern: text(row, 2),
            privileges: rights::of_flags(&text(row, 3)),
        })
        .collect();
    cluster.table_grants = set(6)
        .iter()
        .map(|row| TableGrant {
            to: to(row),
            database: text(row, 2),
            table: text(row, 3),
            privileges: rights::of_set(&text(row, 4)),
        })
        .collect();
    cluster.column_grants = set(7)
        .iter()
        .map(|row| ColumnGrant {
            to: to(row),
            database: text(row, 2),
            table: text(row, 3),
            column: text(row, 4),
            privileges: rights::of_set(&text(row, 5)),
        })
        .collect();
    cluster.routine_grants = set(8)
        .iter()
        .map(|row| RoutineGrant {
            to: to(row),
            database: text(row, 2),
            routine: text(row, 3),
            kind: text(row, 4),
            privileges: rights::of_set(&text(row, 5)),
        })
        .collect();
    cluster.roles = set(9)
        .iter()
        .map(|row| RoleGrant {
            to: to(row),
            role: text(row, 2),
        })
        .collect();
    cluster.proxies = set(10)
        .iter()
        .map(|row| ProxyGrant {
            account: to(row),
            proxied: Account::from_catalog(&text(row, 2), &text(row, 3)),
        })
        .collect();
}

fn text(row: &Row, at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

fn flag(row: &Row, at: usize) -> bool {
    row.get(at).cloned().flatten().as_deref() == Some("1")
}

/// The JSON of an account, as the server writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Priv {
    access: u64,
    plugin: String,
    authentication_string: String,
    auth_or: Vec<serde_json::Map<String, serde_json::Value>>,
    account_locked: bool,
    max_user_connections: i64,
    max_statement_time: f64,
    password_lifetime: Option<i64>,
    password_last_changed: Option<i64>,
}

fn account(row: &Row) -> AccountFacts {
    let json = text(row, 2);
    // What cannot be read differs from everything that is desired.
    let told: Priv = serde_json::from_str(&json).unwrap_or_else(|error| {
        tracing::warn!(%error, "an account's description is not understood");
        Priv {
            access: u64::MAX,
            ..Priv::default()
        }
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time in seconds, far from both ends"
    )]
    let statement_ms = (told.max_statement_time.max(0.0) * 1000.0).round() as u64;
    AccountFacts {
        account: Account::from_catalog(&text(row, 0), &text(row, 1)),
        plugin: told.plugin,
        auth: told.authentication_string,
        // One entry is empty: it stands for the first way.
        other_ways: told.auth_or.iter().any(|way| !way.is_empty()),
        expired: told.password_last_changed == Some(0),
        locked: told.account_locked,
        global: told.access,
        connections: u32::try_from(told.max_user_connections).unwrap_or(0),
        statement_ms,
        lasting: told.password_lifetime == Some(0),
    }
}

impl Cluster {
    /// The account of one of our logins.
    pub(super) fn login(&self, name: &str) -> Option<&AccountFacts> {
        self.accounts
            .get(name)?
            .iter()
            .find(|facts| facts.account.host == "%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(json: &str) -> AccountFacts {
        account(&vec![
            Some("app".into()),
            Some("%".into()),
            Some(json.into()),
        ])
    }

    #[test]
    fn an_account_is_read() {
        let seen = facts(
            r#"{"access":0,"version_id":101119,"plugin":"mysql_native_password",
            "authentication_string":"*94","max_user_connections":5,"max_statement_time":2.500000,
            "account_locked":true,"password_lifetime":0,"auth_or":[{}]}"#,
        );
        assert!(seen.locked && seen.lasting && !seen.other_ways);
        assert_eq!(
            (seen.connections, seen.statement_ms, seen.global),
            (5, 2500, 0)
        );
        let hidden = facts(r#"{"auth_or":[{},{"plugin":"unix_socket"}]}"#);
        assert!(hidden.other_ways);
        assert_eq!(facts("not json").global, u64::MAX);
    }
}
