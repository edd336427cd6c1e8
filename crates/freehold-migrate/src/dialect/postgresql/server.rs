//! What the runner says to PostgreSQL.

use crate::dialect::{Dialect, HISTORY_TABLE};

const PG: Dialect = Dialect::Postgresql;

/// Schema, user, database, version.
pub(crate) const FACTS: &str = "SELECT pg_catalog.current_schema()::text, current_user::text, \
    pg_catalog.current_database()::text, pg_catalog.current_setting('server_version')";

/// The splitter reads strings by the standard's rules; the server must do the same.
pub(crate) const STRING_RULES: &str = "SET standard_conforming_strings = on";

/// How long the script's transaction has run, in milliseconds, by the server's clock: the
/// transaction began with the script.
pub(crate) const ELAPSED_MS: &str = "LEAST(EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()) * 1000, 2147483647)::int";

/// Puts the session back to its beginnings. `DISCARD ALL` would give up the migration lock.
pub(crate) fn reset(role: &str, has_prepared: bool) -> Vec<String> {
    let mut statements = vec!["RESET SESSION AUTHORIZATION", "RESET ALL", role];
    statements.extend([
        STRING_RULES,
        "CLOSE ALL",
        "UNLISTEN *",
        "DISCARD TEMP",
        "DISCARD SEQUENCES",
    ]);
    if has_prepared {
        statements.push("DEALLOCATE ALL");
    }
    statements.into_iter().map(str::to_owned).collect()
}

pub(crate) fn history_exists(schema: &str) -> String {
    let table = PG.literal(&PG.history_table(schema));
    format!("SELECT (pg_catalog.to_regclass({table}) IS NOT NULL)::text")
}

/// Whether the schema holds anything that an extension did not put there.
pub(crate) fn schema_is_empty(schema: &str) -> String {
    let schema = PG.literal(schema);
    let own =
        "NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e')";
    format!(
        "SELECT (NOT EXISTS ( \
         SELECT FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace \
         WHERE n.nspname = {schema} AND o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {own} \
         UNION ALL \
         SELECT FROM pg_catalog.pg_type o JOIN pg_catalog.pg_namespace n ON n.oid = o.typnamespace \
         WHERE n.nspname = {schema} AND o.typcategory NOT IN ('A', 'C') AND {own} \
         UNION ALL \
         SELECT FROM pg_catalog.pg_proc o JOIN pg_catalog.pg_namespace n ON n.oid = o.pronamespace \
         WHERE n.nspname = {schema} AND {own}))::text"
    )
}

/// The table exactly as Flyway makes it, names of key and index included.
pub(crate) fn create_history(schema: &str) -> String {
    let table = PG.history_table(schema);
    format!(
        "BEGIN;\n\
         CREATE TABLE {table} (\n\
         \"installed_rank\" INT NOT NULL,\n\
         \"version\" VARCHAR(50),\n\
         \"description\" VARCHAR(200) NOT NULL,\n\
         \"type\" VARCHAR(20) NOT NULL,\n\
         \"script\" VARCHAR(1000) NOT NULL,\n\
         \"checksum\" INTEGER,\n\
         \"installed_by\" VARCHAR(100) NOT NULL,\n\
         \"installed_on\" TIMESTAMP NOT NULL DEFAULT now(),\n\
         \"execution_time\" INTEGER NOT NULL,\n\
         \"success\" BOOLEAN NOT NULL\n\
         );\n\
         ALTER TABLE {table} ADD CONSTRAINT {key} PRIMARY KEY (\"installed_rank\");\n\
         CREATE INDEX {index} ON {table} (\"success\");\n\
         COMMIT",
        key = PG.identifier(&format!("{HISTORY_TABLE}_pk")),
        index = PG.identifier(&format!("{HISTORY_TABLE}_s_idx")),
    )
}

pub(crate) fn try_lock(id: i64) -> String {
    format!("SELECT pg_catalog.pg_try_advisory_lock({id})::text")
}

pub(crate) fn unlock(id: i64) -> String {
    format!("SELECT pg_catalog.pg_advisory_unlock({id})::text")
}

pub(crate) fn is_locked_by_us(id: i64) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE {} AND l.pid = pg_catalog.pg_backend_pid())::text",
        is_lock(id)
    )
}

/// Process, application and login of each session that holds the lock.
pub(crate) fn lock_holders(id: i64) -> String {
    format!(
        "SELECT l.pid::text, COALESCE(a.application_name, ''), COALESCE(a.usename::text, '') \
         FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         WHERE {} ORDER BY l.pid",
        is_lock(id)
    )
}

/// The server shows a 64-bit lock in two halves.
fn is_lock(id: i64) -> String {
    let bits = id.cast_unsigned();
    format!(
        "l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted \
         AND l.classid = {}::oid AND l.objid = {}::oid \
         AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        bits >> 32,
        bits & 0xffff_ffff
    )
}
