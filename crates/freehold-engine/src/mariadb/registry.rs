//! Who owns what on this server, kept on the server itself, and who may act.
//!
//! A database `freehold` holds one row per database (its stamp, the server's identity when it was
//! taken, the highest epoch seen), one per account, and one for the server. Nobody but the admin has
//! rights on it.
//!
//! **The server's identity** is `@@server_uid`, which MariaDB derives from the machine and the port
//! and keeps over restarts; older minor versions lack it, and then the registry's random id stands in
//! together with host name, port and `server_id`. Thus a clone or a restored copy that runs elsewhere
//! calls itself another server and nothing is changed on it until a person says so. The price: a
//! server that moves to another machine (a replica that takes over, a container with a new network
//! address) is another server too. The way out is to say so where the stamps are:
//! `UPDATE freehold.registry SET server = '<the new identity>'`.
//!
//! **The fence.** DDL and grants of MariaDB commit by themselves, so an effect cannot share a
//! transaction with its check. Instead *every effect on a database runs on the one session that holds
//! that database's named lock* (`GET_LOCK`), and whoever takes the lock then reads the row, compares
//! stamp, identity and epoch, and raises the epoch, before anything else. From this follows:
//!
//! * A worker that stands still (stopped, swapped out, cut off) keeps its session and the lock in it.
//!   A successor with a newer epoch sees in the row that the holder is outdated, ends the holder's
//!   session (`IS_USED_LOCK` names it) and waits for the lock.
//! * The server gives the lock back when the ended session's thread is through: after a statement
//!   that it was in the middle of, and with no possibility of a next one. So what the old worker had
//!   sent has happened *before* the successor looks, or it never happens; when the old worker wakes,
//!   its connection is gone, and a new one meets the raised epoch.
//! * If the lock's session dies for another reason, its effects die with it, because they are on it.
//!
//! What the lock cannot do: it belongs to one server process. Through a proxy that shares sessions, or
//! on a Galera cluster where each node has locks of its own, it guards nothing; `inspect` refuses the
//! latter. Lock names are visible to no tenant but could be guessed, and then held by anybody; so they
//! are made with a secret of the registry.

use aws_lc_rs::hmac;
use freehold_model::ServerIdentity;

use super::{
    connect::{Connection, Row},
    errors,
    native::upper_hex,
    quote::Literal,
};
use crate::{EngineError, Fault, Fence, Result, Stamp};

/// The database that holds the registry. No tenant may have this name.
pub(super) const DATABASE: &str = "freehold";

/// Everything is made if it is missing, so two at once both succeed.
const TABLES: &str = "
CREATE DATABASE IF NOT EXISTS freehold CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS freehold.registry (
    name varchar(64) NOT NULL PRIMARY KEY,
    control_plane char(36) NOT NULL,
    environment varchar(255) NOT NULL,
    team varchar(255) NOT NULL,
    db varchar(255) NOT NULL,
    uid char(36) NOT NULL,
    server varchar(255) NOT NULL,
    epoch bigint unsigned NOT NULL,
    actor varchar(255) NOT NULL,
    state enum('reserved', 'creating', 'created', 'released') NOT NULL,
    created_at timestamp NOT NULL DEFAULT current_timestamp(),
    updated_at timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS freehold.account (
    name varchar(128) NOT NULL PRIMARY KEY,
    db varchar(64) NOT NULL,
    purpose varchar(32) NOT NULL,
    state enum('making', 'made') NOT NULL,
    birthmark char(41) NOT NULL,
    stale_sessions bool NOT NULL DEFAULT false,
    updated_at timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
    KEY (db)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS freehold.server (
    one tinyint NOT NULL PRIMARY KEY,
    id char(36) NOT NULL,
    lock_secret char(64) NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
INSERT IGNORE INTO freehold.server (one, id, lock_secret)
    VALUES (1, UUID(), HEX(RANDOM_BYTES(32)));
";

/// What the registry says about itself and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) identity: ServerIdentity,
    lock_secret: String,
}

/// How far a database has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowState {
    /// The name is taken, nothing exists under it.
    Reserved,
    /// `CREATE DATABASE` is about to run or has run.
    Creating,
    Created,
    /// Given up by Freehold; the data stays.
    Released,
}

/// One row of the registry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RegistryRow {
    pub(super) name: String,
    pub(super) stamp: Stamp,
    pub(super) server: ServerIdentity,
    pub(super) epoch: u64,
    /// Who had that epoch. An epoch belongs to one worker: when another one comes with the same, one
    /// of them took it from an old copy of the store.
    pub(super) actor: String,
    pub(super) state: RowState,
}

/// The columns that [`RegistryRow::read`] takes.
pub(super) const ROW_COLUMNS: &str =
    "name, control_plane, environment, team, db, uid, server, epoch, actor, state";

impl RegistryRow {
    pub(super) fn read(row: &Row) -> Result<Self> {
        let unreadable = |what: &str| {
            let detail = format!("the registry's row cannot be read: {what}");
            EngineError::new(Fault::Invalid { detail }, "read the registry")
        };
        let text = |at: usize| {
            row.get(at)
                .and_then(Option::as_deref)
                .ok_or_else(|| unreadable("a column is missing"))
        };
        fn parsed<T: std::str::FromStr>(
            text: &str,
            what: &'static str,
        ) -> std::result::Result<T, &'static str> {
            text.parse().map_err(|_| what)
        }
        let state = match text(9)? {
            "reserved" => RowState::Reserved,
            "creating" => RowState::Creating,
            "created" => RowState::Created,
            "released" => RowState::Released,
            _ => return Err(unreadable("state")),
        };
        Ok(Self {
            name: text(0)?.to_owned(),
            stamp: Stamp {
                control_plane: parsed(text(1)?, "control_plane").map_err(unreadable)?,
                environment: parsed(text(2)?, "environment").map_err(unreadable)?,
                team: parsed(text(3)?, "team").map_err(unreadable)?,
                database: parsed(text(4)?, "db").map_err(unreadable)?,
                uid: parsed(text(5)?, "uid").map_err(unreadable)?,
            },
            server: ServerIdentity(text(6)?.to_owned()),
            epoch: parsed(text(7)?, "epoch").map_err(unreadable)?,
            actor: text(8)?.to_owned(),
            state,
        })
    }
}

/// Creates the registry.
pub(super) async fn create(connection: &mut Connection) -> Result<()> {
    let doing = "create the registry (database freehold)";
    connection.change(TABLES, doing).await
}

/// An error that says that the registry is not there.
pub(super) fn missing(doing: &str) -> EngineError {
    let what = "the registry (database freehold)".to_owned();
    EngineError::new(Fault::Missing { what }, doing)
}

/// Whether an error says that a table of the registry is not there.
pub(super) fn is_missing(error: &EngineError) -> bool {
    // Unknown database, unknown table.
    matches!(errors::code(error), Some(1049 | 1146))
}

/// The server's identity and the registry's secret; read once on each connection.
pub(super) async fn home(connection: &mut Connection) -> Result<&Home> {
    let doing = "look for the registry";
    if connection.home.is_none() {
        let asked = connection
            .read(
                &format!("SELECT id, lock_secret FROM freehold.server; {VARIABLES}; {PROCESS}"),
                doing,
            )
            .await
            .map_err(|error| {
                if is_missing(&error) {
                    missing(doing)
                } else {
                    error
                }
            })?;
        let [rows, variables, _] = asked.as_slice() else {
            return Err(missing(doing));
        };
        let Some([Some(id), Some(lock_secret)]) = rows.first().map(Vec::as_slice) else {
            return Err(missing(doing));
        };
        connection.home = Some(Home {
            identity: identity(variables, Some(id)).unwrap_or_else(|| ServerIdentity(id.clone())),
            lock_secret: lock_secret.clone(),
        });
    }
    connection.home.as_ref().ok_or_else(|| missing(doing))
}

/// Fails for an admin without PROCESS: it would see no sessions but its own and take a login for
/// closed that is not.
const PROCESS: &str =
    "SELECT COUNT(*) FROM (SELECT 1 FROM information_schema.INNODB_TRX LIMIT 1) t";

/// What [`identity`] is made of.
pub(super) const VARIABLES: &str = "SELECT VARIABLE_NAME, VARIABLE_VALUE \
    FROM information_schema.GLOBAL_VARIABLES \
    WHERE VARIABLE_NAME IN ('SERVER_UID', 'HOSTNAME', 'PORT', 'SERVER_ID')";

/// `None` when only a registry could tell and there is none.
pub(super) fn identity(variables: &[Row], registry: Option<&str>) -> Option<ServerIdentity> {
    let value = |name: &str| {
        variables.iter().find_map(|row| match row.as_slice() {
            [Some(found), Some(value)] if found == name && !value.is_empty() => {
                Some(value.as_str())
            }
            _ => None,
        })
    };
    if let Some(uid) = value("SERVER_UID") {
        return Some(ServerIdentity(uid.to_owned()));
    }
    let facts: Vec<&str> = ["HOSTNAME", "PORT", "SERVER_ID"]
        .into_iter()
        .map(|name| value(name).unwrap_or("?"))
        .collect();
    registry.map(|id| ServerIdentity(format!("registry:{id}@{}", facts.join("/"))))
}

/// Everything that must be true of a row before its owner may act.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) stamp: Stamp,
    pub(super) server: ServerIdentity,
    pub(super) fence: Fence,
}

impl Claim {
    pub(super) async fn of(
        connection: &mut Connection,
        name: &str,
        stamp: &Stamp,
        fence: &Fence,
    ) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            stamp: stamp.clone(),
            server: home(connection).await?.identity.clone(),
            fence: fence.clone(),
        })
    }

    pub(super) async fn row(&self, connection: &mut Connection) -> Result<Option<RegistryRow>> {
        let query = self.row_query();
        let rows = connection.read_rows(&query, "read the registry").await?;
        rows.first().map(RegistryRow::read).transpose()
    }

    fn row_query(&self) -> String {
        let name = Literal(&self.name);
        format!("SELECT {ROW_COLUMNS} FROM freehold.registry WHERE name = {name}")
    }

    /// Compares a row with what it must be.
    pub(super) fn check(&self, row: Option<&RegistryRow>) -> Result<()> {
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
            Some(row) if self.is_overtaken_by(row) => Some(self.fenced(row)),
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

    fn fenced(&self, row: &RegistryRow) -> Fault {
        Fault::Fenced {
            ours: self.fence.epoch,
            found: row.epoch,
        }
    }

    fn is_overtaken_by(&self, row: &RegistryRow) -> bool {
        let (ours, theirs) = (self.fence.epoch, row.epoch);
        theirs > ours || (theirs == ours && row.actor != self.fence.actor)
    }

    /// The condition under which a row is ours to change, for the `WHERE` of an update.
    fn condition(&self) -> String {
        let Fence { epoch, actor } = &self.fence;
        let actor = Literal(actor);
        format!(
            "name = {} AND control_plane = '{}' AND uid = '{}' AND server = {} \
             AND (epoch < {epoch} OR (epoch = {epoch} AND actor = {actor}))",
            Literal(&self.name),
            self.stamp.control_plane,
            self.stamp.uid,
            Literal(&self.server.0),
        )
    }

    /// Writes our epoch into the row, and what else is given (`, state = 'released'`). The lock is
    /// held and the row was checked, so nothing but a hand on the registry can make it fail.
    pub(super) async fn raise(
        &self,
        connection: &mut Connection,
        more: &str,
        doing: &str,
    ) -> Result<()> {
        let Fence { epoch, actor } = &self.fence;
        let statement = format!(
            "UPDATE freehold.registry SET epoch = {epoch}, actor = {}{more} WHERE {}",
            Literal(actor),
            self.condition()
        );
        connection.change(&statement, doing).await?;
        if connection.affected() == 1 {
            return Ok(());
        }
        let row = self.row(connection).await?;
        self.check(row.as_ref())?;
        let detail = "the registry's row changed while its lock was held".to_owned();
        Err(EngineError::new(Fault::Busy { detail }, doing))
    }
}

/// The name of a database's lock. At most 64 characters.
fn lock_name(home: &Home, database: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, home.lock_secret.as_bytes());
    let tag = hmac::sign(&key, database.as_bytes());
    format!("freehold:{}", upper_hex(&tag.as_ref()[..20]))
}

/// Who of those that hold a lock may be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Any,
    /// One that has been doing nothing for some seconds while it held the lock.
    StandingStill,
    None,
}

/// Takes the lock of a claim's row, and reads the row under it. It is given back by [`unlock`] or with
/// the session.
pub(super) async fn lock(
    connection: &mut Connection,
    claim: &Claim,
) -> Result<Option<RegistryRow>> {
    const ATTEMPTS: u32 = 4;
    let name = lock_name(home(connection).await?, &claim.name);
    let doing = format!("lock the registry's row of {:?}", claim.name);
    // The row is read after the lock was given, in the same message.
    let asking = format!("SELECT GET_LOCK('{name}', 1.5); {}", claim.row_query());
    for attempt in 1..=ATTEMPTS {
        let sets = connection.read(&asking, &doing).await?;
        let [got, rows] = sets.as_slice() else {
            return Err(missing(&doing));
        };
        let row = rows.first().map(RegistryRow::read).transpose()?;
        if got.first().and_then(|row| row.first()) == Some(&Some("1".to_owned())) {
            return Ok(row);
        }
        let which = match &row {
            Some(row) if row.stamp != claim.stamp || row.server != claim.server => Holder::None,
            Some(row) if claim.is_overtaken_by(row) => {
                return Err(EngineError::new(claim.fenced(row), doing));
            }
            Some(row) if row.epoch < claim.fence.epoch => Holder::Any,
            // Our own earlier session, or a name that nothing is written about yet: who takes a name
            // never pauses while holding the lock.
            Some(_) | None => Holder::StandingStill,
        };
        if attempt < ATTEMPTS {
            end_holder(connection, &name, which, &doing).await?;
        }
    }
    let detail = "somebody else is working on this database".to_owned();
    Err(EngineError::new(Fault::Busy { detail }, doing))
}

/// Ends the session that holds a lock, when it is one of the admin's own.
async fn end_holder(
    connection: &mut Connection,
    lock: &str,
    which: Holder,
    doing: &str,
) -> Result<()> {
    let idle = match which {
        Holder::None => return Ok(()),
        Holder::Any => "",
        Holder::StandingStill => " AND COMMAND = 'Sleep' AND TIME_MS > 3000",
    };
    let query = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK('{lock}') \
         AND USER = (SELECT USER FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()) \
         AND ID <> CONNECTION_ID(){idle}"
    );
    for row in connection.read_rows(&query, doing).await? {
        let Some(Some(id)) = row.first() else {
            continue;
        };
        tracing::warn!(
            doing,
            id,
            "ending the session of a worker that has been replaced"
        );
        kill(connection, id, doing).await?;
    }
    Ok(())
}

/// Ends a session; one that is gone already is no error.
pub(super) async fn kill(connection: &mut Connection, id: &str, doing: &str) -> Result<()> {
    if !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    match connection.change(&format!("KILL {id}"), doing).await {
        Err(error) if errors::code(&error) == Some(1094) => Ok(()),
        other => other,
    }
}

/// Takes the lock, compares the row, and writes our epoch into it.
pub(super) async fn take_over(connection: &mut Connection, claim: &Claim) -> Result<RegistryRow> {
    let row = lock(connection, claim).await?;
    claim.check(row.as_ref())?;
    let row = row.ok_or_else(|| missing("read the registry"))?;
    if row.epoch < claim.fence.epoch {
        claim.raise(connection, "", "raise the epoch").await?;
    }
    Ok(row)
}

pub(super) async fn unlock(connection: &mut Connection, claim: &Claim) -> Result<()> {
    let name = lock_name(home(connection).await?, &claim.name);
    let statement = format!("DO RELEASE_LOCK('{name}')");
    let doing = format!("unlock the registry's row of {:?}", claim.name);
    connection.change(&statement, &doing).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_an_id_of_its_own_is_told_by_its_registry_and_its_place() {
        let told = |facts: &[(&str, &str)]| -> Vec<Row> {
            let rows = facts.iter();
            rows.map(|(name, value)| vec![Some((*name).to_owned()), Some((*value).to_owned())])
                .collect()
        };
        let facts = told(&[("HOSTNAME", "db1"), ("PORT", "3306"), ("SERVER_ID", "7")]);
        let here = identity(&facts, Some("id"));
        assert_eq!(here, Some(ServerIdentity("registry:id@db1/3306/7".into())));
        assert_eq!(identity(&facts, None), None);
        let moved = told(&[("HOSTNAME", "db2"), ("PORT", "3306"), ("SERVER_ID", "7")]);
        assert_ne!(identity(&moved, Some("id")), here);
        let newer = told(&[("HOSTNAME", "db1"), ("SERVER_UID", "abc=")]);
        assert_eq!(identity(&newer, None), Some(ServerIdentity("abc=".into())));
    }
}
