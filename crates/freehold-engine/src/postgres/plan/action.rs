//! One step of a plan, and the difference that it repairs.

use std::collections::BTreeSet;

use freehold_model::{Secret, kinds::Difference};

use crate::postgres::{inside::ObjectKind, observe::Grantee};

/// One step. Values only; `apply.rs` makes SQL of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    CreateRole {
        role: String,
        purpose: &'static str,
        inherit: bool,
    },
    AlterRole {
        role: String,
        changes: Vec<RoleChange>,
    },
    SetPassword {
        login: String,
        verifier: Secret,
        fingerprint: String,
    },
    GrantMembership {
        role: String,
        member: String,
        inherit: bool,
        set: bool,
    },
    RevokeMembership {
        role: String,
        member: String,
        by: String,
    },
    /// `value: None` removes the setting.
    Set {
        role: Option<String>,
        /// Only in the managed database.
        in_database: bool,
        name: String,
        value: Option<String>,
    },
    CreateDatabase,
    /// The database exists but the registry does not know it yet: killed in between.
    RecordDatabase,
    DatabaseOwner {
        found: String,
    },
    DatabaseConnections {
        limit: i32,
        found: i32,
    },
    DatabaseAllow,
    EndSessions {
        of: SessionsOf,
        count: u32,
    },
    Grant {
        on: On,
        to: Grantee,
        privileges: BTreeSet<String>,
    },
    Revoke {
        on: On,
        from: Grantee,
        privileges: BTreeSet<String>,
        /// Only the right to pass it on is too much.
        option_only: bool,
    },
    CreateSchema {
        schema: String,
    },
    SchemaOwner {
        schema: String,
        found: String,
    },
    CreateExtension {
        extension: String,
    },
    /// Gives what a login of ours owns to the owner role.
    Reassign {
        login: String,
        objects: usize,
    },
    /// Nothing that we may or can repair.
    Report {
        key: String,
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RoleChange {
    Login(bool),
    Inherit(bool),
    /// Takes away an attribute such as `SUPERUSER`.
    Without(String),
    Connections,
    /// Microseconds since 1970; `None` for ever.
    ValidUntil(Option<i64>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SessionsOf {
    /// Everywhere on the server.
    Login(String),
    /// Of one role in the managed database.
    Role(String),
    /// All but superusers' and ours, in the managed database.
    Everybody,
}

/// What a right is on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum On {
    Database,
    Schema(String),
    Objects {
        schema: String,
        kind: ObjectKind,
        names: Vec<String>,
    },
    Column {
        schema: String,
        table: String,
        column: String,
    },
    /// What `role` will make, in one schema or in all.
    Defaults {
        role: String,
        schema: Option<String>,
        kind: char,
    },
}

impl Action {
    /// Its statement holds a verifier.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::SetPassword { .. })
    }

    /// Whether it gives a login of ours what it needs or closes it, and touches nothing else.
    pub(crate) fn serves(&self, login: &str) -> bool {
        match self {
            Self::CreateRole { role: of, .. }
            | Self::AlterRole { role: of, .. }
            | Self::SetPassword { login: of, .. }
            | Self::GrantMembership { member: of, .. }
            | Self::Set { role: Some(of), .. }
            | Self::Reassign { login: of, .. }
            | Self::EndSessions {
                of: SessionsOf::Login(of),
                ..
            }
            | Self::Grant {
                on: On::Database,
                to: Some(of),
                ..
            } => of == login,
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

    #[expect(clippy::too_many_lines, reason = "one line or two for each action")]
    fn words(&self, database: &str) -> (String, String) {
        match self {
            Self::CreateRole { role, purpose, .. } => (
                format!("role.missing:{role}"),
                format!("The {purpose} role {role:?} does not exist."),
            ),
            Self::AlterRole { role, changes } => {
                let changes: Vec<String> = changes.iter().map(RoleChange::words).collect();
                (
                    format!("role.attributes:{role}"),
                    format!("The role {role:?} {}.", changes.join(" and ")),
                )
            }
            Self::SetPassword { login, .. } => (
                format!("role.password:{login}"),
                format!("The login {login:?} does not have the password that Freehold hands out."),
            ),
            Self::GrantMembership { role, member, .. } => (
                format!("member.missing:{role}:{member}"),
                format!("{member:?} is not a member of {role:?} in the way it should be."),
            ),
            Self::RevokeMembership { role, member, by } => (
                format!("member.extra:{role}:{member}"),
                format!("{member:?} is a member of {role:?}, granted by {by:?}."),
            ),
            Self::Set {
                role,
                in_database,
                name,
                value,
            } => {
                let place = match (role, in_database) {
                    (Some(role), false) => format!("role {role:?}"),
                    (Some(role), true) => format!("role {role:?} in database {database:?}"),
                    (None, _) => format!("database {database:?}"),
                };
                let should = match value {
                    Some(value) => format!("should be {value:?}"),
                    None => "should not be set".to_owned(),
                };
                (
                    format!("setting:{}:{name}", role.as_deref().unwrap_or(database)),
                    format!("The setting {name} of {place} {should}."),
                )
            }
            Self::CreateDatabase => (
                format!("database.missing:{database}"),
                format!("The database {database:?} does not exist yet."),
            ),
            Self::RecordDatabase => (
                format!("database.unrecorded:{database}"),
                format!("The database {database:?} exists but its making was not finished."),
            ),
            Self::DatabaseOwner { found } => (
                format!("database.owner:{database}"),
                format!("The database {database:?} belongs to {found:?}."),
            ),
            Self::DatabaseConnections { limit, found } => (
                format!("database.connections:{database}"),
                format!("The connection limit of {database:?} is {found}, it should be {limit}."),
            ),
            Self::DatabaseAllow => (
                format!("database.connections_refused:{database}"),
                format!("The database {database:?} refuses all connections."),
            ),
            Self::EndSessions { of, count } => {
                let (whose, words) = match of {
                    SessionsOf::Login(login) => {
                        (login.as_str(), format!("The disabled login {login:?}"))
                    }
                    SessionsOf::Role(role) => (role.as_str(), format!("The role {role:?}")),
                    SessionsOf::Everybody => ("*", "The closed database".to_owned()),
                };
                (
                    format!("sessions:{database}:{whose}"),
                    format!("{words} still has {count} session(s) in or around {database:?}."),
                )
            }
            Self::Grant { on, to, privileges } => {
                let (key, place) = on.words(database);
                let to = grantee(to);
                (
                    format!("{}.missing:{key}:{to}", on.family()),
                    format!("{to} lacks {} on {place}.", list(privileges)),
                )
            }
            Self::Revoke {
                on,
                from,
                privileges,
                option_only,
            } => {
                let (key, place) = on.words(database);
                let from = grantee(from);
                let what = list(privileges);
                let message = if *option_only {
                    format!("{from} may pass on {what} on {place}.")
                } else {
                    format!("{from} has {what} on {place}.")
                };
                (format!("{}.extra:{key}:{from}", on.family()), message)
            }
            Self::CreateSchema { schema } => (
                format!("schema.missing:{schema}"),
                format!("The schema {schema:?} does not exist."),
            ),
            Self::SchemaOwner { schema, found } => (
                format!("schema.owner:{schema}"),
                format!("The schema {schema:?} belongs to {found:?}."),
            ),
            Self::CreateExtension { extension } => (
                format!("extension.missing:{extension}"),
                format!("The extension {extension:?} is not installed."),
            ),
            Self::Reassign { login, objects } => (
                format!("owner.login:{login}"),
                format!(
                    "The login {login:?} owns {objects} object(s) that belong to the owner role."
                ),
            ),
            Self::Report { key, message } => (key.clone(), message.clone()),
        }
    }
}

impl RoleChange {
    fn words(&self) -> String {
        match self {
            Self::Login(true) => "cannot log in".into(),
            Self::Login(false) => "can log in".into(),
            Self::Inherit(true) => "does not inherit".into(),
            Self::Inherit(false) => "inherits".into(),
            Self::Without(power) => format!("has {power}"),
            Self::Connections => "has a connection limit of its own".into(),
            Self::ValidUntil(_) => "has another expiry".into(),
        }
    }
}

impl On {
    fn family(&self) -> &'static str {
        match self {
            Self::Defaults { .. } => "default",
            _ => "grant",
        }
    }

    /// A stable key and words.
    fn words(&self, database: &str) -> (String, String) {
        match self {
            Self::Database => (database.to_owned(), format!("database {database:?}")),
            Self::Schema(schema) => (schema.clone(), format!("schema {schema:?}")),
            Self::Objects {
                schema,
                kind,
                names,
            } => {
                let kind = match kind {
                    ObjectKind::Table => "table",
                    ObjectKind::Sequence => "sequence",
                    ObjectKind::Routine => "routine",
                };
                match names.as_slice() {
                    [name] => (
                        format!("{schema}.{name}"),
                        format!("{kind} {schema}.{name}"),
                    ),
                    names => {
                        let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
                        let more = if names.len() > 3 { ", …" } else { "" };
                        (
                            format!("{schema}.*{kind}"),
                            format!(
                                "{} {kind}s of schema {schema:?} ({}{more})",
                                names.len(),
                                shown.join(", ")
                            ),
                        )
                    }
                }
            }
            Self::Column {
                schema,
                table,
                column,
            } => (
                format!("{schema}.{table}.{column}"),
                format!("column {column:?} of {schema}.{table}"),
            ),
            Self::Defaults { role, schema, kind } => {
                let what = match kind {
                    'r' => "tables",
                    'S' => "sequences",
                    'f' => "routines",
                    'n' => "schemas",
                    'T' => "types",
                    _ => "large objects",
                };
                let place = schema.as_deref().unwrap_or("*");
                (
                    format!("{role}:{place}:{what}"),
                    format!("{what} that {role:?} will make in schema {place}"),
                )
            }
        }
    }
}

fn grantee(grantee: &Grantee) -> &str {
    grantee.as_deref().unwrap_or("PUBLIC")
}

fn list(privileges: &BTreeSet<String>) -> String {
    let privileges: Vec<&str> = privileges.iter().map(String::as_str).collect();
    privileges.join(", ")
}
