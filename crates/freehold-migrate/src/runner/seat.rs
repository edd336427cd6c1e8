//! Where a run takes place: the schema, as whom, under which lock, and what a script finds there.

use std::collections::BTreeMap;

use freehold_engine::ScriptSession;

use super::{
    RunOptions, event::RunEvent, failure::RunFailure, history_table::HistoryTable, lock,
    lock::Lock, refused, run_own,
};
use crate::{
    Dialect, HISTORY_TABLE, Refusal, RefusalCode, Script, Settings, StatementClass,
    dialect::{mysql_server, postgresql_server, sqlite_server, temporary_name},
    script::placeholder::Values,
};

/// What a run knows of its place in the server.
pub(super) struct Seat {
    pub(super) dialect: Dialect,
    pub(super) schema: String,
    pub(super) table: HistoryTable,
    pub(super) lock: Lock,
    pub(super) installed_by: String,
    pub(super) server_version: String,
    pub(super) connected: RunEvent,
    /// The statement that takes the role that scripts run as, where the engine has one.
    role: Option<String>,
    /// What a fresh session is told.
    preparation: Vec<String>,
}

/// How the session becomes, for the next script, as if it were new.
pub(super) enum Between {
    Nothing,
    /// With these statements.
    Statements(Vec<String>),
    /// By the session's own reset, which may cost it a named lock. MariaDB's cannot find temporary
    /// tables; these drop them.
    Reset {
        drops: Vec<String>,
    },
}

impl Seat {
    pub(super) async fn take<S: ScriptSession>(
        session: &mut S,
        dialect: Dialect,
        options: &RunOptions,
    ) -> Result<Self, RunFailure> {
        let role = options
            .role
            .as_ref()
            .map(|role| format!("SET ROLE {}", dialect.identifier(role)));
        let (role, mut preparation, facts) = match dialect {
            Dialect::Postgresql => {
                let role = role.unwrap_or_else(|| "RESET ROLE".to_owned());
                let strings = postgresql_server::STRING_RULES.to_owned();
                (Some(role), vec![strings], postgresql_server::FACTS)
            }
            // A new session of the driver speaks UTF-8; a reset one speaks what the server likes.
            Dialect::Mysql => (
                role,
                vec!["SET NAMES utf8mb4".to_owned()],
                mysql_server::FACTS,
            ),
            Dialect::Sqlite => (None, Vec::new(), sqlite_server::FACTS),
        };
        if let Some(role) = &role {
            run_own(session, role, "take the role that scripts run as").await?;
        }
        prepare(session, &preparation).await?;
        let facts = query(session, facts).await?;
        let mut facts = facts.into_iter().flatten();
        let mut fact = || facts.next().flatten();
        let (schema, user, database, server_version) = (fact(), fact(), fact(), fact());
        let user = user.unwrap_or_default();
        let schema = schema.ok_or_else(|| refused(vec![no_schema(dialect, &user)]))?;
        if let Some(modes) = fact().and_then(|modes| mysql_server::plain_modes(&modes)) {
            prepare(session, std::slice::from_ref(&modes)).await?;
            preparation.push(modes);
        }
        let server_version = server_version.unwrap_or_default();
        Ok(Self {
            dialect,
            table: HistoryTable::of(dialect, &schema),
            lock: choose_lock(session, dialect, &schema).await?,
            installed_by: options.installed_by.clone().unwrap_or_else(|| user.clone()),
            connected: RunEvent::Connected {
                server_version: server_version.clone(),
                database: database.unwrap_or_default(),
                schema: schema.clone(),
                user,
            },
            server_version,
            schema,
            role,
            preparation,
        })
    }

    /// What placeholders stand for here.
    pub(super) fn values<'s>(&self, settings: &'s Settings, options: &RunOptions) -> Values<'s> {
        let mut own = BTreeMap::from([
            ("flyway:defaultschema", self.schema.clone()),
            ("flyway:table", HISTORY_TABLE.to_owned()),
        ]);
        if let RunEvent::Connected { database, user, .. } = &self.connected {
            own.insert("flyway:database", database.clone());
            own.insert("flyway:user", user.clone());
        }
        if let Some(environment) = &options.environment {
            own.insert("flyway:environment", environment.clone());
        }
        if let Some(started_at) = options.started_at {
            let written = started_at.strftime("%Y-%m-%d %H:%M:%S").to_string();
            own.insert("flyway:timestamp", written);
        }
        Values::of_database(settings, own)
    }

    /// What gives the script's role back: it may have changed it in ways that its text does not show.
    pub(super) fn restoring(&self) -> Vec<&str> {
        let reset = (self.dialect == Dialect::Postgresql).then_some("RESET SESSION AUTHORIZATION");
        reset.into_iter().chain(self.role.as_deref()).collect()
    }

    pub(super) async fn take_role<S: ScriptSession>(
        &self,
        session: &mut S,
    ) -> Result<(), RunFailure> {
        let restoring = self.restoring();
        if restoring.is_empty() {
            return Ok(());
        }
        let sql = restoring.join(";\n");
        run_own(session, &sql, "take the role that scripts run as").await
    }

    /// What must happen to the session after a script.
    pub(super) fn between(&self, before: &Script<'_>) -> Between {
        if self.dialect != Dialect::Postgresql {
            return if before.leaves_traces() {
                Between::Reset {
                    drops: self.drops(before),
                }
            } else {
                Between::Nothing
            };
        }
        let prepared = |statement: &crate::Statement| statement.class == StatementClass::Prepare;
        let has_prepared = before.statements.iter().any(prepared);
        let role = self.role.as_deref().unwrap_or_default();
        Between::Statements(postgresql_server::reset(role, has_prepared))
    }

    fn drops(&self, before: &Script<'_>) -> Vec<String> {
        if self.dialect != Dialect::Mysql {
            return Vec::new();
        }
        let temporary = before
            .statements
            .iter()
            .filter(|statement| statement.class == StatementClass::Temporary);
        temporary
            .filter_map(|statement| temporary_name(before.text, statement.start, statement.end))
            .map(|name| format!("DROP TEMPORARY TABLE IF EXISTS {name}"))
            .collect()
    }

    /// Makes the session as good as new. It may have lost the lock.
    pub(super) async fn reset<S: ScriptSession>(
        &self,
        session: &mut S,
        drops: &[String],
    ) -> Result<(), RunFailure> {
        session
            .reset()
            .await
            .map_err(|error| RunFailure::server("reset the session between two scripts", &error))?;
        if let Some(role) = &self.role {
            run_own(session, role, "take the role that scripts run as").await?;
        }
        prepare(session, &self.preparation).await?;
        prepare(session, drops).await?;
        // What the server says to that is of no interest to the script's author.
        session.take_notices();
        Ok(())
    }
}

async fn prepare<S: ScriptSession>(
    session: &mut S,
    statements: &[String],
) -> Result<(), RunFailure> {
    for statement in statements {
        run_own(session, statement, "prepare the session").await?;
    }
    Ok(())
}

async fn query<S: ScriptSession>(
    session: &mut S,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, RunFailure> {
    session
        .query(sql, &[])
        .await
        .map_err(|error| RunFailure::server("look around in the database", &error))
}

fn no_schema(dialect: Dialect, user: &str) -> Refusal {
    match dialect {
        Dialect::Postgresql => Refusal::new(
            RefusalCode::SchemaDoesNotExist,
            format!("no schema of the search path exists, or {user:?} may not use it"),
            "Create the schema and grant USAGE and CREATE on it, or correct the role's search_path.",
        ),
        Dialect::Mysql | Dialect::Sqlite => Refusal::new(
            RefusalCode::SchemaDoesNotExist,
            "the connection is in no database",
            "Connect to the database that shall be migrated.",
        ),
    }
}

async fn choose_lock<S: ScriptSession>(
    session: &mut S,
    dialect: Dialect,
    schema: &str,
) -> Result<Lock, RunFailure> {
    Ok(match dialect {
        Dialect::Postgresql => Lock::Advisory(lock::lock_id(schema, HISTORY_TABLE)),
        Dialect::Sqlite => Lock::History,
        Dialect::Mysql => {
            let settings = query(session, mysql_server::CLUSTER).await?;
            let is_cluster = settings.iter().any(|setting| {
                let value = setting.get(1).cloned().flatten().unwrap_or_default();
                matches!(
                    value.to_ascii_uppercase().as_str(),
                    "ON" | "1" | "ENFORCING" | "MASTER"
                )
            });
            if is_cluster {
                Lock::History
            } else {
                Lock::Named(lock::lock_name(schema, HISTORY_TABLE))
            }
        }
    })
}
