//! Flyway's lock, so that neither a second Freehold nor a Flyway runs beside us.
//!
//! PostgreSQL: the same advisory lock id as Flyway's, taken for the session. Flyway takes it for a
//! transaction by default; both kinds exclude each other. Held by the session, it leaves no
//! transaction open, for which `CREATE INDEX CONCURRENTLY` would wait forever.
//!
//! MySQL and MariaDB: the same named lock as Flyway's. It is one server's, so in a cluster that writes
//! on every node it would prove nothing, and there, as in SQLite, the history itself is the lock:
//! each script first makes sure that its rank is still free, and the primary key lets only one of
//! two that thought so go on.
//!
//! Every lock ends with the connection: nothing is left behind when the runner is killed.

use std::time::Duration;

use freehold_engine::{EngineError, Fault, ScriptSession};

use super::{
    Stop,
    event::{LockHolder, Observer, RunEvent},
    failure::RunFailure,
    history_table::is_true,
};
use crate::{
    Dialect,
    dialect::{mysql_server, postgresql_server},
};

/// The word "Flyway" in ASCII as a number, to which the table's hash is added.
const FLYWAY: i64 = 77_431_708_279_161;
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The advisory lock of a schema's history table in PostgreSQL.
pub fn lock_id(schema: &str, table: &str) -> i64 {
    FLYWAY + i64::from(hash(Dialect::Postgresql, schema, table))
}

/// The named lock of a database's history table in MySQL and MariaDB.
pub fn lock_name(database: &str, table: &str) -> String {
    format!("Flyway-{}", hash(Dialect::Mysql, database, table))
}

fn hash(dialect: Dialect, schema: &str, table: &str) -> i32 {
    let (schema, table) = (dialect.identifier(schema), dialect.identifier(table));
    java_hash(&format!("{schema}.{table}"))
}

/// Java's `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// What keeps a second run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lock {
    Advisory(i64),
    Named(String),
    /// Nothing that could be taken; each script looks whether its rank is free.
    History,
}

/// A lock's four questions, in SQL.
struct Questions {
    try_take: String,
    is_ours: String,
    holders: String,
    release: String,
}

impl Lock {
    fn questions(&self) -> Option<Questions> {
        match self {
            Self::Advisory(id) => Some(Questions {
                try_take: postgresql_server::try_lock(*id),
                is_ours: postgresql_server::is_locked_by_us(*id),
                holders: postgresql_server::lock_holders(*id),
                release: postgresql_server::unlock(*id),
            }),
            Self::Named(name) => Some(Questions {
                try_take: mysql_server::try_lock(name),
                is_ours: mysql_server::is_locked_by_us(name),
                holders: mysql_server::lock_holders(name),
                release: mysql_server::unlock(name),
            }),
            Self::History => None,
        }
    }
}

/// Takes the lock, or says who has it.
pub(super) async fn take<S: ScriptSession>(
    session: &mut S,
    lock: &Lock,
    attempts: u32,
    stop: &Stop,
    observer: &mut impl Observer,
) -> Result<(), RunFailure> {
    let Some(questions) = lock.questions() else {
        return stop.check(None);
    };
    let mut holders = Vec::new();
    for attempt in 1..=attempts.max(1) {
        if ask(session, &questions.try_take, "take the migration lock").await? {
            return Ok(());
        }
        stop.check(None)?;
        holders = self::holders(session, &questions.holders).await?;
        observer
            .observe(RunEvent::WaitingForLock {
                attempt,
                attempts,
                holders: holders.clone(),
            })
            .await;
        tokio::select! {
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
            () = stop.wait() => return Err(RunFailure::Cancelled { file: None }),
        }
    }
    Err(RunFailure::Locked { holders })
}

/// Runs statements that begin with taking SQLite's write lock, as soon as no other program has it.
/// Gives the last `Busy` when it was never free, or when the run was stopped.
pub(super) async fn when_free<S: ScriptSession>(
    session: &mut S,
    statements: &str,
    attempts: u32,
    stop: &Stop,
    observer: &mut impl Observer,
) -> Result<(), EngineError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let error = match session.execute_batch(statements).await {
            Ok(_) => return Ok(()),
            Err(interrupted) => interrupted.error,
        };
        let is_busy = matches!(error.fault, Fault::Busy { .. });
        if !is_busy || attempt >= attempts || stop.is_stopped() {
            return Err(error);
        }
        observer
            .observe(RunEvent::WaitingForLock {
                attempt,
                attempts,
                holders: Vec::new(),
            })
            .await;
        tokio::select! {
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
            () = stop.wait() => {}
        }
    }
}

/// Whether this session still holds the lock: a script can give up all locks of its session.
pub(super) async fn is_held<S: ScriptSession>(
    session: &mut S,
    lock: &Lock,
) -> Result<bool, RunFailure> {
    match lock.questions() {
        Some(questions) => ask(session, &questions.is_ours, "look at the migration lock").await,
        None => Ok(true),
    }
}

pub(super) async fn release<S: ScriptSession>(session: &mut S, lock: &Lock) {
    if let Some(questions) = lock.questions() {
        // It ends with the session in any case.
        let _ = session.query(&questions.release, &[]).await;
    }
}

async fn ask<S: ScriptSession>(
    session: &mut S,
    question: &str,
    doing: &str,
) -> Result<bool, RunFailure> {
    session
        .query(question, &[])
        .await
        .map(|rows| is_true(&rows))
        .map_err(|error| RunFailure::server(doing, &error))
}

async fn holders<S: ScriptSession>(
    session: &mut S,
    question: &str,
) -> Result<Vec<LockHolder>, RunFailure> {
    let rows = session
        .query(question, &[])
        .await
        .map_err(|error| RunFailure::server("see who holds the migration lock", &error))?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let mut fields = row.into_iter().map(Option::unwrap_or_default);
            Some(LockHolder {
                pid: fields.next()?.parse().ok()?,
                application: fields.next()?,
                user: fields.next()?,
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_flyways() {
        assert_eq!(
            java_hash("\"public\".\"flyway_schema_history\""),
            2_125_624_436
        );
        assert_eq!(
            lock_id("public", "flyway_schema_history"),
            77_433_833_903_597
        );
        assert_eq!(
            lock_name("mydb", "flyway_schema_history"),
            "Flyway-278632207"
        );
        assert_eq!(java_hash(""), 0);
    }
}
