//! One step of a plan, and the difference that it repairs.

use std::collections::BTreeSet;

use freehold_model::{Secret, kinds::Difference};

use crate::mariadb::quote::Account;

/// One step. Values only; `render.rs` makes SQL of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Makes the account, locked and without a password that anybody knows.
    CreateAccount {
        login: String,
        purpose: &'static str,
        birthmark: String,
        /// The registry has a row of it: it was made before and is gone.
        again: bool,
        limits: AccountLimits,
    },
    /// The account exists but the registry does not know it yet: killed in between.
    RecordAccount {
        login: String,
    },
    AlterAccount {
        login: String,
        changes: Vec<AccountChange>,
    },
    SetPassword {
        login: String,
        hash: Secret,
    },
    CreateDatabase,
    /// The database exists but the registry does not know it yet: killed in between.
    RecordDatabase,
    /// The comment that says whose the database is was changed, or the database was made anew.
    MarkDatabase,
    Grant {
        on: On,
        to: String,
        privileges: BTreeSet<String>,
    },
    Revoke {
        on: On,
        from: Account,
        privileges: BTreeSet<String>,
        /// Sessions of this login keep what was taken until they end.
        ends: bool,
    },
    RevokeRole {
        role: String,
        from: Account,
    },
    RevokeProxy {
        account: Account,
        proxied: Account,
    },
    EndSessions {
        login: String,
        count: u32,
        why: Why,
    },
    /// Nothing that we may or can repair.
    Report {
        key: String,
        message: String,
    },
}

/// What an account carries. 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AccountLimits {
    pub(crate) connections: u32,
    pub(crate) statement_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The login is disabled.
    Disabled,
    /// It may have rights that were taken.
    StaleRights,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AccountChange {
    Lock(bool),
    Connections {
        limit: u32,
        found: u32,
    },
    /// Milliseconds; 0 is no limit.
    StatementTime {
        limit: u64,
        found: u64,
    },
    Lasting,
}

/// What a right is on. Databases are meant by name, except where a pattern was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum On {
    Server,
    /// The managed database.
    Database,
    /// Whatever a pattern of the catalog means.
    Pattern(String),
    Table {
        database: String,
        table: String,
    },
    Column {
        database: String,
        table: String,
        column: String,
    },
    Routine {
        database: String,
        routine: String,
        kind: String,
    },
}

impl Action {
    /// Whether it is work that nobody needs to hear of.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::EndSessions { count: 0, .. })
    }

    /// Whether it gives a login of ours what it needs or closes it, and touches nothing else.
    pub(crate) fn serves(&self, login: &str) -> bool {
        match self {
            Self::CreateAccount { login: of, .. }
            | Self::RecordAccount { login: of }
            | Self::AlterAccount { login: of, .. }
            | Self::SetPassword { login: of, .. }
            | Self::Grant { to: of, .. }
            | Self::EndSessions { login: of, .. } => of == login,
            _ => false,
        }
    }

    /// The difference as found, not yet repaired.
    pub(crate) fn difference(&self, database: &str) -> Difference {
        let (key, message) = self.words(database);
        Difference {
            key,
            message,
            repaired: false,
        }
    }

    fn words(&self, database: &str) -> (String, String) {
        match self {
            Self::CreateAccount { login, purpose, .. } => (
                format!("account.missing:{login}"),
                format!("The {purpose} account {login:?} does not exist."),
            ),
            Self::RecordAccount { login } => (
                format!("account.unrecorded:{login}"),
                format!("The account {login:?} exists but its making was not finished."),
            ),
            Self::AlterAccount { login, changes } => {
                let changes: Vec<String> = changes.iter().map(AccountChange::words).collect();
                (
                    format!("account.attributes:{login}"),
                    format!("The account {login:?} {}.", changes.join(" and ")),
                )
            }
            Self::SetPassword { login, .. } => (
                format!("account.password:{login}"),
                format!(
                    "The login {login:?} does not have the password that Freehold hands out, or it \
                     has expired, or there is another way in beside it."
                ),
            ),
            Self::CreateDatabase => (
                format!("database.missing:{database}"),
                format!("The database {database:?} does not exist yet."),
            ),
            Self::RecordDatabase => (
                format!("database.unrecorded:{database}"),
                format!("The database {database:?} exists but its making was not finished."),
            ),
            Self::MarkDatabase => (
                format!("database.mark:{database}"),
                format!(
                    "The database {database:?} does not bear Freehold's mark: its comment was \
                     changed, or it was dropped and made anew by hand."
                ),
            ),
            Self::Grant { on, to, privileges } => {
                let (key, place) = on.words(database);
                (
                    format!("grant.missing:{key}:{to}"),
                    format!("{to:?} lacks {} on {place}.", listed(privileges)),
                )
            }
            Self::Revoke {
                on,
                from,
                privileges,
                ..
            } => {
                let (key, place) = on.words(database);
                (
                    format!("grant.extra:{key}:{}", holder(from)),
                    format!("{} has {} on {place}.", holder(from), listed(privileges)),
                )
            }
            Self::RevokeRole { role, from } => (
                format!("member.extra:{role}:{}", holder(from)),
                format!("{} has the role {role:?}.", holder(from)),
            ),
            Self::RevokeProxy { account, proxied } => (
                format!("proxy.extra:{}:{}", holder(proxied), holder(account)),
                format!("{} may act as {}.", holder(account), holder(proxied)),
            ),
            Self::EndSessions { login, count, why } => (
                format!("sessions:{database}:{login}"),
                match why {
                    Why::Disabled => {
                        format!("The disabled login {login:?} still has {count} session(s).")
                    }
                    Why::StaleRights => format!(
                        "{count} session(s) of {login:?} may still have rights that were taken."
                    ),
                },
            ),
            Self::Report { key, message } => (key.clone(), message.clone()),
        }
    }
}

impl AccountChange {
    fn words(&self) -> String {
        match self {
            Self::Lock(true) => "is not locked".into(),
            Self::Lock(false) => "is locked".into(),
            Self::Connections { limit, found } => {
                format!("has a connection limit of {found} instead of {limit}")
            }
            Self::StatementTime { limit, found } => {
                format!("has a statement time of {found} ms instead of {limit}")
            }
            Self::Lasting => "has a password that expires".into(),
        }
    }
}

impl On {
    /// A stable key and words.
    pub(crate) fn words(&self, managed: &str) -> (String, String) {
        match self {
            Self::Server => ("*".into(), "the whole server".into()),
            Self::Database => (managed.to_owned(), format!("database {managed:?}")),
            Self::Pattern(pattern) => (
                pattern.clone(),
                format!("all databases that match {pattern:?}"),
            ),
            Self::Table { database, table } => {
                let name = format!("{database}.{table}");
                (name.clone(), format!("table {name}"))
            }
            Self::Column {
                database,
                table,
                column,
            } => (
                format!("{database}.{table}.{column}"),
                format!("column {column:?} of {database}.{table}"),
            ),
            Self::Routine {
                database, routine, ..
            } => (
                format!("{database}.{routine}()"),
                format!("routine {database}.{routine}"),
            ),
        }
    }
}

/// An account in words: logins of ours by name alone.
pub(crate) fn holder(account: &Account) -> String {
    match (account.user.as_str(), account.host.as_str()) {
        (user, "%" | "") if !user.is_empty() => user.to_owned(),
        (user, host) => format!("{user}@{host}"),
    }
}

fn listed(privileges: &BTreeSet<String>) -> String {
    let privileges: Vec<&str> = privileges.iter().map(String::as_str).collect();
    privileges.join(", ")
}
