//! The SQL of each action.
//!
//! Names and values reach it only as [`Identifier`] and [`Literal`]; privileges and attributes are
//! the server's own words, from the plan or the catalog.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    connect::Connection,
    inside::ObjectKind,
    observe::Grantee,
    plan::{Action, On, RoleChange},
    quote::{Identifier, Literal, ServerQuoted},
};
use crate::{EngineError, Fault, Result};

/// Objects named in one statement: bounds the statement's length, not the number of objects.
const OBJECTS_PER_STATEMENT: usize = 500;

/// Appends the statements of one action, each with its semicolon.
#[expect(clippy::too_many_lines, reason = "one statement for each action")]
pub(super) fn render(
    database_name: &str,
    owner_role: &str,
    action: &Action,
    server: &Connection,
    sql: &mut String,
) -> Result<()> {
    let database = Identifier::new(database_name)?;
    let written = match action {
        Action::CreateRole {
            role,
            purpose,
            inherit,
        } => {
            let (name, role) = (Identifier::new(role)?, Literal::new(role)?);
            let (row, purpose) = (Literal::new(database_name)?, Literal::new(purpose)?);
            let inherit = if *inherit { "INHERIT" } else { "NOINHERIT" };
            write!(
                sql,
                "CREATE ROLE {name} NOLOGIN {inherit}; \
                 INSERT INTO freehold.role (name, database, purpose, role_oid) \
                 SELECT {role}, {row}, {purpose}, oid FROM pg_roles WHERE rolname = {role} \
                 ON CONFLICT (name) DO UPDATE SET role_oid = excluded.role_oid, \
                 purpose = excluded.purpose, verifier = NULL, updated_at = now(); "
            )
        }
        Action::AlterRole { role, changes } => {
            let role = Identifier::new(role)?;
            let mut options = String::new();
            for change in changes {
                change.render(&mut options)?;
            }
            write!(sql, "ALTER ROLE {role}{options}; ")
        }
        Action::SetPassword {
            login,
            verifier,
            fingerprint,
        } => {
            let (name, login) = (Identifier::new(login)?, Literal::new(login)?);
            let (verifier, fingerprint) =
                (Literal::new(verifier.expose())?, Literal::new(fingerprint)?);
            write!(
                sql,
                "ALTER ROLE {name} PASSWORD {verifier}; \
                 UPDATE freehold.role SET verifier = {fingerprint}, updated_at = now() \
                 WHERE name = {login}; "
            )
        }
        Action::GrantMembership {
            role,
            member,
            inherit,
            set,
        } => {
            let (role, member) = (Identifier::new(role)?, Identifier::new(member)?);
            let options = if server.version.major >= 16 {
                format!(" WITH INHERIT {inherit}, SET {set}")
            } else {
                String::new()
            };
            write!(sql, "GRANT {role} TO {member}{options}; ")
        }
        Action::RevokeMembership { role, member, by } => {
            let (role, member) = (Identifier::new(role)?, Identifier::new(member)?);
            let by = if server.version.major >= 16 {
                format!(" GRANTED BY {}", Identifier::new(by)?)
            } else {
                String::new()
            };
            write!(sql, "REVOKE {role} FROM {member}{by} CASCADE; ")
        }
        Action::Set {
            role,
            in_database,
            name,
            value,
        } => {
            let whose = match (role, in_database) {
                (Some(role), false) => format!("ROLE {}", Identifier::new(role)?),
                (Some(role), true) => {
                    format!("ROLE {} IN DATABASE {database}", Identifier::new(role)?)
                }
                (None, _) => format!("DATABASE {database}"),
            };
            let name = Identifier::new(name)?;
            match value {
                Some(value) => write!(sql, "ALTER {whose} SET {name} = {}; ", Literal::new(value)?),
                None => write!(sql, "ALTER {whose} RESET {name}; "),
            }
        }
        Action::RecordDatabase => {
            sql.push_str(&record_database(&Literal::new(database_name)?));
            Ok(())
        }
        Action::DatabaseOwner { .. } => {
            write!(sql, "ALTER DATABASE {database} OWNER TO CURRENT_USER; ")
        }
        Action::DatabaseConnections { limit, .. } => {
            write!(sql, "ALTER DATABASE {database} CONNECTION LIMIT {limit}; ")
        }
        Action::DatabaseAllow => write!(sql, "ALTER DATABASE {database} ALLOW_CONNECTIONS true; "),
        Action::Grant { on, to, privileges } => {
            for (verb, place) in on.render(database_name)? {
                let privileges = listed(privileges, on)?;
                write!(
                    sql,
                    "{verb}GRANT {privileges} ON {place} TO {}; ",
                    grantee(to)?
                )
                .map_err(unwritable)?;
            }
            Ok(())
        }
        Action::Revoke {
            on,
            from,
            privileges,
            option_only,
        } => {
            let option = if *option_only {
                "GRANT OPTION FOR "
            } else {
                ""
            };
            for (verb, place) in on.render(database_name)? {
                let privileges = listed(privileges, on)?;
                let from = grantee(from)?;
                write!(
                    sql,
                    "{verb}REVOKE {option}{privileges} ON {place} FROM {from} CASCADE; "
                )
                .map_err(unwritable)?;
            }
            Ok(())
        }
        Action::CreateSchema { schema } => {
            write!(sql, "CREATE SCHEMA {}; ", Identifier::new(schema)?)
        }
        Action::SchemaOwner { schema, .. } => {
            let (schema, owner) = (Identifier::new(schema)?, Identifier::new(owner_role)?);
            write!(sql, "ALTER SCHEMA {schema} OWNER TO {owner}; ")
        }
        Action::CreateExtension { extension } => {
            let extension = Identifier::new(extension)?;
            write!(
                sql,
                "CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA public; "
            )
        }
        Action::Reassign { login, .. } => {
            let (login, owner) = (Identifier::new(login)?, Identifier::new(owner_role)?);
            write!(sql, "REASSIGN OWNED BY {login} TO {owner}; ")
        }
        Action::CreateDatabase | Action::EndSessions { .. } | Action::Report { .. } => Ok(()),
    };
    written.map_err(unwritable)
}

fn unwritable(error: std::fmt::Error) -> EngineError {
    let detail = error.to_string();
    EngineError::new(Fault::Invalid { detail }, "write a statement")
}

impl RoleChange {
    fn render(&self, sql: &mut String) -> Result<()> {
        let written = match self {
            Self::Login(true) => write!(sql, " LOGIN"),
            Self::Login(false) => write!(sql, " NOLOGIN"),
            Self::Inherit(true) => write!(sql, " INHERIT"),
            Self::Inherit(false) => write!(sql, " NOINHERIT"),
            Self::Without(power) => write!(sql, " NO{power}"),
            Self::Connections => write!(sql, " CONNECTION LIMIT -1"),
            Self::ValidUntil(None) => write!(sql, " VALID UNTIL 'infinity'"),
            Self::ValidUntil(Some(microseconds)) => {
                let until = jiff::Timestamp::from_microsecond(*microseconds).map_err(|error| {
                    let detail = error.to_string();
                    EngineError::new(Fault::Invalid { detail }, "write an expiry")
                })?;
                write!(sql, " VALID UNTIL {}", Literal::new(&until.to_string())?)
            }
        };
        written.map_err(unwritable)
    }
}

impl On {
    /// What stands before `GRANT` and after `ON`, once per statement.
    fn render(&self, database: &str) -> Result<Vec<(String, String)>> {
        let one = |on: String| Ok(vec![(String::new(), on)]);
        match self {
            Self::Database => one(format!("DATABASE {}", Identifier::new(database)?)),
            Self::Schema(schema) => one(format!("SCHEMA {}", Identifier::new(schema)?)),
            Self::Column { schema, table, .. } => {
                let (schema, table) = (Identifier::new(schema)?, Identifier::new(table)?);
                one(format!("TABLE {schema}.{table}"))
            }
            Self::Objects {
                schema,
                kind,
                names,
            } => objects(schema, *kind, names),
            Self::Defaults { role, schema, kind } => {
                let mut before = format!(
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {}",
                    Identifier::new(role)?
                );
                if let Some(schema) = schema {
                    let _ = write!(before, " IN SCHEMA {}", Identifier::new(schema)?);
                }
                before.push(' ');
                let on = match kind {
                    'r' => "TABLES",
                    'S' => "SEQUENCES",
                    'f' => "ROUTINES",
                    'T' => "TYPES",
                    'n' => "SCHEMAS",
                    _ => "LARGE OBJECTS",
                };
                Ok(vec![(before, on.to_owned())])
            }
        }
    }
}

fn objects(schema: &str, kind: ObjectKind, names: &[String]) -> Result<Vec<(String, String)>> {
    let schema = Identifier::new(schema)?;
    let what = match kind {
        ObjectKind::Table => "TABLE",
        ObjectKind::Sequence => "SEQUENCE",
        ObjectKind::Routine => "ROUTINE",
    };
    names
        .chunks(OBJECTS_PER_STATEMENT)
        .map(|names| {
            let mut listed = Vec::with_capacity(names.len());
            for name in names {
                listed.push(match kind {
                    ObjectKind::Routine => format!("{schema}.{}", ServerQuoted(name.clone())),
                    ObjectKind::Table | ObjectKind::Sequence => {
                        format!("{schema}.{}", Identifier::new(name)?)
                    }
                });
            }
            Ok((String::new(), format!("{what} {}", listed.join(", "))))
        })
        .collect()
}

/// Privileges come from the catalog or from the plan: both are the server's own words.
fn listed(privileges: &BTreeSet<String>, on: &On) -> Result<String> {
    let column = match on {
        On::Column { column, .. } => format!(" ({})", Identifier::new(column)?),
        _ => String::new(),
    };
    let privileges: Vec<String> = privileges
        .iter()
        .map(|privilege| format!("{privilege}{column}"))
        .collect();
    Ok(privileges.join(", "))
}

fn grantee(grantee: &Grantee) -> Result<String> {
    match grantee {
        None => Ok("PUBLIC".into()),
        Some(role) => Ok(Identifier::new(role)?.to_string()),
    }
}

/// Says that the database exists now, under the fence.
pub(super) fn record_database(row: &Literal) -> String {
    format!(
        "UPDATE freehold.registry SET state = 'created', database_oid = \
         (SELECT oid FROM pg_database WHERE datname = {row}) WHERE name = {row};"
    )
}
