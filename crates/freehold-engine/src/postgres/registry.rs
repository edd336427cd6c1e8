//! Who owns what on this server, kept on the server itself.
//!
//! A schema `freehold` holds one row per database (its stamp, the server's identity when it was
//! taken, the highest epoch seen) and one per role. It lives in the admin database; where the admin
//! may not create a schema there (a managed service's `postgres`), in a database `freehold` that is
//! made for it.
//!
//! **The fence.** [`hold`] is a statement that locks a database's row, compares stamp, identity and
//! epoch, and raises the epoch; it fails, and with it the transaction that it opens, when any of
//! them is wrong. It is sent in one message with the effect that it guards. What cannot run in a
//! transaction runs while the row's session lock is held, and every worker takes that lock first,
//! so that `CREATE DATABASE` of a worker that has fallen behind is waited for, never overtaken.
//!
//! **Effects inside a database** happen on another connection. The registry row stays locked while
//! they run, so in ordinary life a successor waits. If the holding session dies, the lock is gone
//! but the inner session may live on: therefore whoever takes the row's lock first ends every acting
//! Freehold session inside that database ([`end_predecessors`]), and whoever acts inside checks the fence
//! *after* its inner session exists. Either the check comes first, then the successor finds and ends
//! the session, or the epoch was raised first, then the check fails. A lock inside the database
//! would be simpler, but a tenant could hold it.

use aws_lc_rs::digest;
use freehold_model::ServerIdentity;
use serde::Deserialize;
use tokio_postgres::types::Type;

use super::{
    connect::Connection,
    quote::{Identifier, Literal},
};
use crate::{EngineError, Fault, Fence, Result, Stamp};

/// Where the registry goes when the admin database is not ours to change.
pub(crate) const OWN_DATABASE: &str = "freehold";

/// Serialises the creation of the registry among all control planes.
const CREATION_LOCK: i64 = i64::from_be_bytes(*b"freehold");

const TABLES: &str = "
CREATE SCHEMA IF NOT EXISTS freehold;
CREATE TABLE IF NOT EXISTS freehold.registry (
    name text PRIMARY KEY,
    control_plane uuid NOT NULL,
    environment text NOT NULL,
    team text NOT NULL,
    database text NOT NULL,
    uid uuid NOT NULL,
    server text NOT NULL,
    epoch bigint NOT NULL,
    actor text NOT NULL,
    state text NOT NULL CHECK (state IN ('reserved', 'creating', 'created', 'released')),
    database_oid oid,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE TABLE IF NOT EXISTS freehold.role (
    name text PRIMARY KEY,
    database text NOT NULL REFERENCES freehold.registry (name),
    purpose text NOT NULL,
    role_oid oid NOT NULL,
    verifier text,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE TABLE IF NOT EXISTS freehold.server (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
);
INSERT INTO freehold.server DEFAULT VALUES ON CONFLICT DO NOTHING;
";

/// How far a database has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RowState {
    /// The name is taken, nothing exists under it.
    Reserved,
    /// `CREATE DATABASE` is about to run or has run.
    Creating,
    Created,
    /// Given up by Freehold; the data stays.
    Released,
}

/// One row of the registry.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct RegistryRow {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) stamp: Stamp,
    pub(crate) server: ServerIdentity,
    pub(crate) epoch: u64,
    /// Who had that epoch. An epoch belongs to one worker: when another one comes with the same, one
    /// of them took it from an old copy of the store.
    pub(crate) actor: String,
    pub(crate) state: RowState,
    pub(crate) database_oid: Option<u32>,
}

/// The columns of a row as JSON, for a table alias `r`.
pub(crate) const ROW_JSON: &str = "json_build_object('name', r.name, \
    'control_plane', r.control_plane, 'environment', r.environment, 'team', r.team, \
    'database', r.database, 'uid', r.uid, 'server', r.server, 'epoch', r.epoch, \
    'actor', r.actor, 'state', r.state, 'database_oid', r.database_oid::bigint)";

/// Whether the registry's tables exist in the connected database.
pub(crate) async fn exists(connection: &Connection) -> Result<bool> {
    // By the catalog, not by `to_regclass`, which fails without USAGE on the schema.
    let rows = connection
        .read(
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'freehold' AND c.relname = 'server'",
            &[],
            "look for the registry",
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Creates the registry; two at once both succeed.
pub(crate) async fn create(connection: &Connection) -> Result<()> {
    let doing = "create the registry (schema freehold)";
    let statements =
        format!("BEGIN; SELECT pg_advisory_xact_lock({CREATION_LOCK}); {TABLES} COMMIT");
    let result = connection.change(&statements, doing).await;
    if result.is_err() {
        connection.roll_back().await;
    }
    result
}

/// The server's identity: its system identifier, or, where a managed service does not tell it, the
/// random id that the registry was born with. The latter cannot tell a restored copy from its
/// original; the address is all that is left for that.
pub(crate) async fn identity(connection: &Connection) -> Result<Option<ServerIdentity>> {
    let doing = "read the server's identity";
    let asked = connection
        .read(
            "SELECT system_identifier::text FROM pg_control_system()",
            &[],
            doing,
        )
        .await;
    match asked {
        Ok(rows) => {
            let id: Option<String> = rows.first().map(|row| row.get(0));
            Ok(id.map(ServerIdentity))
        }
        Err(error) if matches!(error.fault, Fault::Denied { .. } | Fault::Statement(_)) => {
            if !exists(connection).await? {
                return Ok(None);
            }
            let query = "SELECT 'registry:' || id FROM freehold.server";
            let rows = connection.read(query, &[], doing).await?;
            Ok(rows.first().map(|row| ServerIdentity(row.get(0))))
        }
        Err(error) => Err(error),
    }
}

/// Key of the session lock of one database's row. It is an advisory lock of the registry's database.
pub(crate) fn lock_key(database: &str) -> i64 {
    let hash = digest::digest(
        &digest::SHA256,
        format!("freehold registry\0{database}").as_bytes(),
    );
    let mut key = [0_u8; 8];
    key.copy_from_slice(&hash.as_ref()[..8]);
    i64::from_be_bytes(key)
}

/// Everything that must be true of a row before its owner may act.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) stamp: Stamp,
    pub(crate) server: ServerIdentity,
    pub(crate) fence: Fence,
}

impl Claim {
    pub(crate) async fn row(&self, connection: &Connection) -> Result<Option<RegistryRow>> {
        row(connection, &self.name).await
    }

    /// The row, and whether there is a database of its name, in one look.
    pub(crate) async fn row_and_database(
        &self,
        connection: &Connection,
    ) -> Result<(Option<RegistryRow>, bool)> {
        let query = format!(
            "SELECT json_build_array((SELECT {ROW_JSON} FROM freehold.registry r WHERE r.name = $1), \
             EXISTS (SELECT FROM pg_database WHERE datname = $1))::text"
        );
        let parameters = [(&self.name as _, Type::TEXT)];
        connection
            .read_json(&query, &parameters, "read the registry")
            .await
    }

    /// Compares a row with what it must be.
    pub(crate) fn check(&self, row: Option<&RegistryRow>) -> Result<()> {
        let fault = match row {
            None => Some(Fault::Missing {
                what: format!("the registry's row of database {:?}", self.name),
            }),
            Some(row) if row.stamp != self.stamp => Some(Fault::NameTaken {
                name: self.name.clone(),
                owner: Some(Box::new(row.stamp.clone())),
            }),
            Some(row) if row.server != self.server => Some(Fault::ServerMismatch {
                expected: row.server.clone(),
                found: self.server.clone(),
            }),
            Some(row) if self.is_overtaken_by(row) => Some(Fault::Fenced {
                ours: self.fence.epoch,
                found: row.epoch,
            }),
            Some(row) if row.state == RowState::Released => Some(Fault::Missing {
                what: format!(
                    "the reservation of database {:?} (it was released)",
                    self.name
                ),
            }),
            Some(_) => None,
        };
        match fault {
            None => Ok(()),
            Some(fault) => Err(EngineError::new(fault, "check the fence")),
        }
    }

    fn is_overtaken_by(&self, row: &RegistryRow) -> bool {
        let (ours, theirs) = (self.fence.epoch, row.epoch);
        theirs > ours || (theirs == ours && row.actor != self.fence.actor)
    }

    /// A statement that locks the row and fails (division by zero) unless it is as [`Claim::check`]
    /// wants it; it raises the epoch.
    pub(crate) fn hold(&self) -> Result<String> {
        let name = Literal::new(&self.name)?;
        let server = Literal::new(&self.server.0)?;
        let actor = Literal::new(&self.fence.actor)?;
        let stamp = &self.stamp;
        let epoch = epoch(&self.fence)?;
        Ok(format!(
            "WITH held AS (UPDATE freehold.registry SET epoch = {epoch}, actor = {actor}, \
             updated_at = now() WHERE name = {name} AND control_plane = '{}' AND uid = '{}' \
             AND server = {server} AND (epoch < {epoch} OR (epoch = {epoch} AND actor = {actor})) \
             AND state <> 'released' RETURNING 1) \
             SELECT 1 / count(*) FROM held",
            stamp.control_plane, stamp.uid
        ))
    }

    /// Why a [`hold`](Self::hold) failed, or the error itself when it was not the fence.
    pub(crate) async fn explain(&self, connection: &Connection, error: EngineError) -> EngineError {
        let by_fence = matches!(&error.fault, Fault::Statement(s) if s.sqlstate == "22012");
        if !by_fence {
            return error;
        }
        match self.row(connection).await {
            Ok(row) => match self.check(row.as_ref()) {
                Err(mut reason) => {
                    reason.doing.clone_from(&error.doing);
                    reason
                }
                Ok(()) => error,
            },
            Err(unreadable) => unreadable,
        }
    }
}

pub(crate) fn epoch(fence: &Fence) -> Result<i64> {
    i64::try_from(fence.epoch).map_err(|_| {
        let detail = format!("epoch {} is beyond what a server can keep", fence.epoch);
        EngineError::new(Fault::Invalid { detail }, "check the fence")
    })
}

pub(crate) async fn row(connection: &Connection, name: &str) -> Result<Option<RegistryRow>> {
    let query = format!(
        "SELECT coalesce((SELECT {ROW_JSON} FROM freehold.registry r WHERE r.name = $1)::text, 'null')"
    );
    connection
        .read_json(&query, &[(&name, Type::TEXT)], "read the registry")
        .await
}

/// Takes the session lock of a claim's row. It is given back by [`unlock`] or with the session.
///
/// A worker that stands still keeps its session and the lock in it. When the row says that our epoch
/// is newer, the holder has been replaced by us, and its session is ended.
pub(crate) async fn lock(connection: &Connection, claim: &Claim) -> Result<()> {
    const ATTEMPTS: u32 = 4;
    let usual = connection.timeouts().lock.as_millis();
    let key = lock_key(&claim.name);
    let doing = format!("lock the registry's row of {:?}", claim.name);
    // Waits by itself in small portions, so that we can look who holds it.
    let waiting = format!(
        "SET lock_timeout = 1500; SELECT pg_advisory_lock({key}); SET lock_timeout = {usual}"
    );
    for attempt in 1.. {
        let busy = match connection.change(&waiting, &doing).await {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.fault, Fault::Busy { .. }) => error,
            Err(error) => return Err(error),
        };
        match claim.row(connection).await? {
            Some(row) => {
                let ours_is_newer = row.stamp == claim.stamp
                    && row.server == claim.server
                    && row.epoch < claim.fence.epoch;
                if ours_is_newer {
                    end_holder(connection, key, ANY_HOLDER, &doing).await?;
                }
            }
            // Nothing is written yet that epochs could be compared by; but who takes a name never
            // pauses while holding the lock.
            None => end_holder(connection, key, STANDING_STILL, &doing).await?,
        }
        if attempt >= ATTEMPTS {
            let usual = format!("SET lock_timeout = {usual}");
            connection.change(&usual, &doing).await?;
            return Err(busy);
        }
    }
    Ok(())
}

const ANY_HOLDER: &str = "true";
const STANDING_STILL: &str = "a.state = 'idle' AND a.state_change < now() - interval '3 s'";

/// Ends the session that holds a row's lock.
async fn end_holder(connection: &Connection, key: i64, which: &str, doing: &str) -> Result<()> {
    tracing::warn!(
        doing,
        "ending the session of a worker that has been replaced"
    );
    let query = format!(
        "SELECT pg_terminate_backend(l.pid, 2000) FROM pg_locks l \
        JOIN pg_stat_activity a ON a.pid = l.pid WHERE {which} AND l.locktype = 'advisory' AND l.granted AND l.pid <> pg_backend_pid() AND l.objsubid = 1 \
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) \
        AND ((l.classid::bigint << 32) | l.objid::bigint) = $1"
    );
    connection
        .read(&query, &[(&key, Type::INT8)], doing)
        .await?;
    Ok(())
}

pub(crate) async fn unlock(connection: &Connection, database: &str) -> Result<()> {
    let key = lock_key(database);
    connection
        .change(
            &format!("SELECT pg_advisory_unlock({key})"),
            &format!("unlock the registry's row of {database:?}"),
        )
        .await
}

/// The application name of a session that only looks inside a tenant's database.
pub(crate) const LOOKING_MARK: &str = "freehold/look";

/// The application name by which Freehold's acting sessions inside a tenant's database are told from
/// all others of the admin's login.
pub(crate) const INSIDE_MARK: &str = "freehold/inside";

/// Ends every session that an earlier holder of the row may still have inside the database, and
/// returns when they are gone. Sessions of ours carry the mark and the admin's login.
pub(crate) async fn end_predecessors(connection: &Connection, database: &str) -> Result<()> {
    let database = Literal::new(database)?;
    let mark = Literal::new(INSIDE_MARK)?;
    let doing = "end the sessions of an earlier worker";
    let query = format!(
        "SELECT count(*) FILTER (WHERE NOT pg_terminate_backend(pid, 2000)) FROM pg_stat_activity \
         WHERE datname = {database} AND usename = current_user AND application_name = {mark}"
    );
    let rows = connection.read(&query, &[], doing).await?;
    let left: i64 = rows.first().map_or(0, |row| row.get(0));
    if left == 0 {
        return Ok(());
    }
    let detail = format!("{left} of them still live");
    Err(EngineError::new(Fault::Busy { detail }, doing))
}

/// How often the right of everybody to the registry's database is taken away before giving up.
const REVOKE_ATTEMPTS: u64 = 8;

/// Makes the database that holds the registry where the admin database is not ours to change.
pub(crate) async fn create_own_database(connection: &Connection) -> Result<()> {
    let doing = "create the database freehold for the registry";
    let name = Identifier::new(OWN_DATABASE)?;
    let created = connection
        .change_within(
            connection.timeouts().create_database,
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
            doing,
        )
        .await;
    match created {
        Ok(()) => {}
        // Another control plane was first.
        Err(error) if matches!(&error.fault, Fault::Statement(s) if matches!(s.sqlstate.as_str(), "42P04" | "23505")) =>
            {}
        Err(error) => return Err(error),
    }
    // Two control planes that come at once change the same catalog row, and PostgreSQL refuses the
    // slower one ("tuple concurrently updated") instead of letting it wait.
    let revoke = format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC");
    for attempt in 1..REVOKE_ATTEMPTS {
        match connection.change(&revoke, doing).await {
            Err(error) if matches!(error.fault, Fault::Busy { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(20 * attempt)).await;
            }
            done => return done,
        }
    }
    connection.change(&revoke, doing).await
}

/// Whether there is a database that was made for the registry.
pub(crate) async fn own_database_exists(connection: &Connection) -> Result<bool> {
    let rows = connection
        .read(
            "SELECT 1 FROM pg_database WHERE datname = $1",
            &[(&OWN_DATABASE, Type::TEXT)],
            "look for the registry's database",
        )
        .await?;
    Ok(!rows.is_empty())
}
