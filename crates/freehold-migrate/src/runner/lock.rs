//! Flyway's lock, so that neither a second Freehold nor a Flyway runs beside us.
//!
//! The same advisory lock id as Flyway's, taken for the session. Flyway takes it for a transaction by
//! default; both kinds exclude each other. Held by the session, it leaves no transaction open, for
//! which `CREATE INDEX CONCURRENTLY` would wait forever. It ends with the connection: nothing is left
//! behind when the runner is killed.

use std::time::Duration;

use freehold_engine::ScriptSession;

use super::{
    Stop,
    event::{LockHolder, Observer, RunEvent},
    failure::RunFailure,
};
use crate::quote::Identifier;

/// The word "Flyway" in ASCII as a number, to which the table's hash is added.
const FLYWAY: i64 = 77_431_708_279_161;
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The advisory lock of a schema's history table.
pub fn lock_id(schema: &str, table: &str) -> i64 {
    let quoted = format!("{}.{}", Identifier(schema), Identifier(table));
    FLYWAY + i64::from(java_hash(&quoted))
}

/// Java's `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// Takes the lock, or says who has it.
pub(super) async fn take<S: ScriptSession>(
    session: &mut S,
    id: i64,
    attempts: u32,
    stop: &Stop,
    observer: &mut impl Observer,
) -> Result<(), RunFailure> {
    let mut holders = Vec::new();
    for attempt in 1..=attempts.max(1) {
        if try_take(session, id).await? {
            return Ok(());
        }
        stop.check(None)?;
        holders = self::holders(session, id).await?;
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

async fn try_take<S: ScriptSession>(session: &mut S, id: i64) -> Result<bool, RunFailure> {
    let sql = format!("SELECT pg_catalog.pg_try_advisory_lock({id})::text");
    let rows = session
        .query(&sql, &[])
        .await
        .map_err(|error| RunFailure::server("take the migration lock", &error))?;
    Ok(is_true(&rows))
}

/// Whether this session still holds the lock: a script can give up all locks of its session.
pub(super) async fn is_held<S: ScriptSession>(
    session: &mut S,
    id: i64,
) -> Result<bool, RunFailure> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE {} AND l.pid = pg_catalog.pg_backend_pid())::text",
        matches(id)
    );
    let rows = session
        .query(&sql, &[])
        .await
        .map_err(|error| RunFailure::server("look at the migration lock", &error))?;
    Ok(is_true(&rows))
}

pub(super) async fn release<S: ScriptSession>(session: &mut S, id: i64) {
    let sql = format!("SELECT pg_catalog.pg_advisory_unlock({id})::text");
    // It ends with the session in any case.
    let _ = session.query(&sql, &[]).await;
}

async fn holders<S: ScriptSession>(
    session: &mut S,
    id: i64,
) -> Result<Vec<LockHolder>, RunFailure> {
    let sql = format!(
        "SELECT l.pid::text, COALESCE(a.application_name, ''), COALESCE(a.usename::text, '') \
         FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         WHERE {} ORDER BY l.pid",
        matches(id)
    );
    let rows = session
        .query(&sql, &[])
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

/// The server shows a 64-bit lock in two halves.
fn matches(id: i64) -> String {
    let bits = id.cast_unsigned();
    format!(
        "l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted \
         AND l.classid = {}::oid AND l.objid = {}::oid \
         AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        bits >> 32,
        bits & 0xffff_ffff
    )
}

fn is_true(rows: &[Vec<Option<String>>]) -> bool {
    rows.first()
        .and_then(|row| row.first())
        .and_then(Option::as_deref)
        .is_some_and(|text| matches!(text, "true" | "t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_flyways() {
        assert_eq!(
            java_hash("\"public\".\"flyway_schema_history\""),
            2_125_624_436
        );
        assert_eq!(
            lock_id("public", "flyway_schema_history"),
            77_433_833_903_597
        );
        assert_eq!(java_hash(""), 0);
    }
}
