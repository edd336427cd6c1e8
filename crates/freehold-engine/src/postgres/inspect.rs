//! What a server says about itself, and what its admin login lacks.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{PostgresEngine, connect::Connection, quote::Identifier, registry::LOOKING_MARK};
use crate::{EngineError, Fault, InstanceFacts, Result};

/// Settings that matter for isolation, recovery and capacity.
const SETTINGS: &str = "'archive_mode', 'autovacuum', 'data_checksums', \
    'default_transaction_read_only', 'fsync', 'full_page_writes', 'idle_in_transaction_session_timeout', \
    'log_statement', 'max_connections', 'max_prepared_transactions', 'max_worker_processes', \
    'password_encryption', 'reserved_connections', 'server_encoding', 'shared_buffers', \
    'shared_preload_libraries', 'ssl', 'superuser_reserved_connections', 'temp_file_limit', 'TimeZone', \
    'wal_level'";

#[derive(Deserialize)]
struct Told {
    databases: u32,
    connections: u32,
    connections_max: u32,
    read_only: bool,
    settings: BTreeMap<String, String>,
    extensions: Vec<String>,
    admin: Admin,
}

#[derive(Deserialize)]
struct Admin {
    name: String,
    superuser: bool,
    create_role: bool,
    create_database: bool,
    inherit: bool,
    may_read_stats: bool,
}

pub(super) async fn inspect(engine: &PostgresEngine) -> Result<InstanceFacts> {
    let permit = engine.pool.permit(1).await?;
    let admin = match engine.registry(permit).await {
        Ok(admin) => admin,
        Err(error) if matches!(error.fault, Fault::Missing { .. }) => {
            let permit = engine.pool.permit(1).await?;
            engine
                .pool
                .admin(permit, &engine.pool.target.database)
                .await?
        }
        Err(error) => return Err(error),
    };
    let told: Told = admin.read_json(&query(), &[], "inspect the server").await?;
    let size_bytes = size(&admin).await?;
    let identity = admin.identity().await?.cloned();
    let (version, admin_version) = (admin.version.text.clone(), admin.version.major);
    admin.keep();
    let facts = InstanceFacts {
        version,
        version_major: admin_version,
        identity,
        databases: told.databases,
        size_bytes,
        connections: told.connections,
        connections_max: Some(told.connections_max),
        read_only: told.read_only,
        missing_rights: missing_rights(engine, &told.admin, admin_version).await?,
        settings: told.settings,
        extensions_available: told.extensions,
    };
    let supported = 14..=18;
    if !supported.contains(&facts.version_major) {
        return Err(EngineError::new(
            Fault::Unsupported {
                what: format!(
                    "administer PostgreSQL {}: versions {} to {} are supported",
                    facts.version,
                    supported.start(),
                    supported.end()
                ),
            },
            "inspect the server",
        ));
    }
    Ok(facts)
}

fn query() -> String {
    format!(
        "SELECT json_build_object( \
         'databases', (SELECT count(*) FROM pg_database WHERE NOT datistemplate), \
         'connections', (SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL), \
         'connections_max', current_setting('max_connections')::int, \
         'read_only', pg_is_in_recovery() \
            OR (SELECT reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only'), \
         'settings', (SELECT json_object_agg(name, current_setting(name)) FROM pg_settings \
            WHERE name IN ({SETTINGS})), \
         'extensions', (SELECT coalesce(json_agg(name ORDER BY name), '[]') \
            FROM pg_available_extensions), \
         'admin', (SELECT json_build_object('name', rolname, 'superuser', rolsuper, \
            'create_role', rolcreaterole, 'create_database', rolcreatedb, 'inherit', rolinherit, \
            'may_read_stats', pg_has_role('pg_read_all_stats', 'USAGE')) \
            FROM pg_roles WHERE rolname = current_user))::text"
    )
}

/// Of all databases that the admin may measure. A database that is dropped while it is being measured
/// is an error to some versions, and none of a server that works.
async fn size(admin: &Connection) -> Result<u64> {
    const ATTEMPTS: usize = 3;
    let mut measured = measure(admin).await;
    for _ in 1..ATTEMPTS {
        if !matches!(&measured, Err(error) if matches!(error.fault, Fault::Statement(_))) {
            break;
        }
        measured = measure(admin).await;
    }
    measured
}

async fn measure(admin: &Connection) -> Result<u64> {
    let query = "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database \
        WHERE has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')";
    let rows = admin.read(query, &[], "measure the databases").await?;
    let size: i64 = rows.first().map_or(0, |row| row.get(0));
    Ok(u64::try_from(size).unwrap_or(0))
}

async fn missing_rights(engine: &PostgresEngine, admin: &Admin, major: u32) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    if admin.superuser {
        return Ok(missing);
    }
    let name = Identifier::from_catalog(&admin.name);
    if !admin.create_role {
        missing.push(format!("to make logins: ALTER ROLE {name} CREATEROLE"));
    }
    if !admin.create_database {
        missing.push(format!("to make databases: ALTER ROLE {name} CREATEDB"));
    }
    if !admin.inherit {
        missing.push(format!(
            "to end the sessions of the logins that it makes: ALTER ROLE {name} INHERIT"
        ));
    }
    if !admin.may_read_stats {
        tracing::debug!("sizes of databases that the admin may not enter are not counted");
    }
    if major < 15 && !template_is_settled(engine).await? {
        missing.push(format!(
            "to take the schema public of new databases from everybody (before PostgreSQL 15 it \
             belongs to the superuser): once in the database template1, ALTER SCHEMA public OWNER TO {name}"
        ));
    }
    Ok(missing)
}

/// Whether databases made from `template1` have a schema public that the admin may give away.
async fn template_is_settled(engine: &PostgresEngine) -> Result<bool> {
    let permit = engine.pool.permit(1).await?;
    let template = engine
        .pool
        .inside(permit, "template1", LOOKING_MARK)
        .await?;
    let rows = template
        .read(
            "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public'",
            &[],
            "look at the schema public of template1",
        )
        .await?;
    Ok(rows.first().is_none_or(|row| row.get(0)))
}
