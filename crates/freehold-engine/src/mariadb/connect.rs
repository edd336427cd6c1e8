//! Connections to one server: at most two at a time, each with a bound on everything.
//!
//! A connection is opened when it is first needed; two permits exist per server. All work on one
//! database happens on one connection, the one that holds the fence (see `registry.rs`), so two
//! databases can be worked on at once. A connection whose state is known is kept for the next one.
//!
//! Nothing waits for ever: connecting, every statement and every lock have a limit on the server,
//! and each await has one on our side too, because a half-open connection answers nothing.
//!
//! The session pins what an administrator may have set for the whole server: `sql_mode`, character
//! set, time zone, autocommit, whether constraints are checked.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mysql_async::{Conn, DriverError, Error, OptsBuilder, Value, prelude::Queryable};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{errors, registry::Home, tls};
use crate::{ConnectTarget, EngineError, Fault, Result, Tls};

/// Connections to one server at one moment, idle ones included.
pub(super) const CONNECTIONS_MAX: u32 = 2;

/// For so long a connection that was given back is taken to be alive without asking.
const FRESH: Duration = Duration::from_millis(200);

/// How long the engine waits for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a statement, kept by the server.
    pub statement: Duration,
    /// For a lock, kept by the server. In whole seconds.
    pub lock: Duration,
    /// What we allow beyond the server's own limit before we call the connection dead.
    pub grace: Duration,
    /// How long work waits for its turn on one server.
    pub turn: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            statement: Duration::from_secs(30),
            lock: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            turn: Duration::from_secs(120),
        }
    }
}

/// A row as the text protocol gives it.
pub(super) type Row = Vec<Option<String>>;

/// One session with the server.
pub(super) struct Connection {
    conn: Conn,
    pub(super) version: Version,
    /// The registry's own row, once it was read on this connection: another server means another
    /// connection.
    pub(super) home: Option<Home>,
    timeouts: Timeouts,
    /// When it was given back.
    kept_at: Instant,
    /// An answer is outstanding or the session is in a state that nobody knows.
    spoiled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
    /// E.g. `10.11.19`.
    pub(super) text: String,
    pub(super) mariadb: bool,
}

impl Version {
    /// Reads `10.11.19-MariaDB-0+deb12u1` and `9.7.4`.
    pub(super) fn parse(text: &str) -> Self {
        // Old servers put a number before their own, for the sake of older replicas.
        let own = text.strip_prefix("5.5.5-").unwrap_or(text);
        let number = own.split('-').next().unwrap_or_default();
        let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
        Self {
            major: parts.next().unwrap_or(0),
            minor: parts.next().unwrap_or(0),
            text: number.to_owned(),
            mariadb: text.to_lowercase().contains("mariadb"),
        }
    }
}

/// How large a statement may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packets {
    /// Ours are small: the server is not asked, which saves a round trip.
    Small,
    /// As large as the server takes.
    AsServer,
}

/// Opens a session and nothing more: no settings of ours.
pub(super) async fn open(target: &ConnectTarget, packets: Packets) -> Result<Conn> {
    let doing = format!(
        "connect to {}:{} as {:?}",
        target.host, target.port, target.username
    );
    match dial(target, &target.tls, packets, &doing).await? {
        Err(Error::Driver(DriverError::NoClientSslFlagFromServer))
            if matches!(target.tls, Tls::Prefer) =>
        {
            dial(target, &Tls::Disable, packets, &doing).await?
        }
        dialled => dialled,
    }
    .map_err(|error| errors::connecting(error, &doing))
}

async fn dial(
    target: &ConnectTarget,
    tls: &Tls,
    packets: Packets,
    doing: &str,
) -> Result<std::result::Result<Conn, Error>> {
    let database = Some(&target.database).filter(|database| !database.is_empty());
    let password = target.password.as_ref();
    let options = OptsBuilder::default()
        .ip_or_hostname(target.host.clone())
        .tcp_port(target.port)
        .user(Some(target.username.clone()))
        .pass(password.map(|password| password.expose().to_owned()))
        .db_name(database.cloned())
        .ssl_opts(tls::options(tls)?)
        .prefer_socket(false)
        .stmt_cache_size(0)
        // An update says how many rows it found, not how many it changed.
        .client_found_rows(true)
        .max_allowed_packet((packets == Packets::Small).then_some(16 * 1024 * 1024))
        .wait_timeout(Some(28_800))
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .connect_attribute("program_name", target.application_name.clone());
    timeout(target.connect_timeout, Conn::new(options))
        .await
        .map_err(|_| unreachable_after(target.connect_timeout, doing))
}

pub(super) fn unreachable_after(limit: Duration, doing: &str) -> EngineError {
    let detail = format!("no answer within {} s", limit.as_secs_f32());
    EngineError::new(Fault::Unreachable { detail }, doing)
}

/// Runs one message, which may hold several statements, and returns the rows of each that has some
/// columns.
pub(super) async fn rows(conn: &mut Conn, sql: &str) -> Result<Vec<Vec<Row>>, Error> {
    let mut result = conn.query_iter(sql).await?;
    let mut sets = Vec::new();
    while let Some(columns) = result.columns() {
        let rows: Vec<mysql_async::Row> = result.collect().await?;
        if !columns.is_empty() {
            sets.push(rows.into_iter().map(text).collect());
        }
    }
    // The error of a later statement waits to be taken: without this the next query would get it.
    result.drop_result().await?;
    Ok(sets)
}

fn text(row: mysql_async::Row) -> Row {
    let values = row.unwrap().into_iter();
    values
        .map(|value| match value {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(
                String::from_utf8(bytes)
                    .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
            ),
            other => Some(other.as_sql(true)),
        })
        .collect()
}

impl Connection {
    async fn open(target: &ConnectTarget, timeouts: &Timeouts) -> Result<Self> {
        let conn = open(target, Packets::Small).await?;
        let mut connection = Self {
            conn,
            version: Version::parse(""),
            home: None,
            timeouts: timeouts.clone(),
            kept_at: Instant::now(),
            spoiled: false,
        };
        let doing = "set up the session";
        let asked = connection.read("SELECT @@version", doing).await?;
        let version = asked.into_iter().flatten().flatten().flatten().next();
        connection.version = Version::parse(&version.unwrap_or_default());
        if !connection.version.mariadb {
            let what = format!(
                "administer MySQL {}: its accounts, its catalogs and its DDL differ from MariaDB's, \
                 and no test of ours has met it",
                connection.version.text
            );
            return Err(EngineError::new(Fault::Unsupported { what }, doing));
        }
        connection.set_up().await?;
        Ok(connection)
    }

    /// Everything that another setting of the server could change under our hands.
    async fn set_up(&mut self) -> Result<()> {
        let lock = self.timeouts.lock.as_secs().max(1);
        let settings = format!(
            "SET NAMES utf8mb4; SET SESSION \
             sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES', \
             autocommit = 1, time_zone = '+00:00', foreign_key_checks = 1, unique_checks = 1, \
             sql_safe_updates = 0, sql_auto_is_null = 0, sql_select_limit = DEFAULT, \
             max_statement_time = {}, lock_wait_timeout = {lock}, innodb_lock_wait_timeout = {lock}, \
             tx_isolation = 'READ-COMMITTED', wait_timeout = 120",
            self.timeouts.statement.as_secs_f64(),
        );
        self.read(&settings, "set up the session").await?;
        Ok(())
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Runs queries that change nothing, in one message; one list of rows for each.
    pub(super) async fn read(&mut self, sql: &str, doing: &str) -> Result<Vec<Vec<Row>>> {
        match self.bounded(sql).await {
            Some(result) => result.map_err(|error| errors::reading(error, doing)),
            None => Err(unreachable_after(self.limit(), doing)),
        }
    }

    /// One query's rows.
    pub(super) async fn read_rows(&mut self, sql: &str, doing: &str) -> Result<Vec<Row>> {
        let mut sets = self.read(sql, doing).await?;
        Ok(if sets.is_empty() {
            Vec::new()
        } else {
            sets.swap_remove(0)
        })
    }

    /// Runs statements that change something, in one message. They stop at the first that fails.
    pub(super) async fn change(&mut self, sql: &str, doing: &str) -> Result<()> {
        match self.bounded(sql).await {
            Some(result) => result
                .map(|_| ())
                .map_err(|error| errors::changing(error, doing)),
            None => Err(EngineError::new(Fault::Undetermined, doing)),
        }
    }

    /// Rows that the last statement found.
    pub(super) fn affected(&self) -> u64 {
        self.conn.affected_rows()
    }

    fn limit(&self) -> Duration {
        self.timeouts.statement + self.timeouts.grace
    }

    /// `None`: no answer in time. Whoever drops the future leaves the session spoiled.
    async fn bounded(&mut self, sql: &str) -> Option<Result<Vec<Vec<Row>>, Error>> {
        let limit = self.limit();
        self.spoiled = true;
        let result = timeout(limit, rows(&mut self.conn, sql)).await.ok()?;
        self.spoiled = match &result {
            Ok(_) => false,
            Err(Error::Server(server)) => errors::ends_connection(server),
            Err(_) => true,
        };
        Some(result)
    }
}

/// All connections of one engine to its server.
pub(super) struct Pool {
    pub(super) target: ConnectTarget,
    timeouts: Timeouts,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

/// The right to hold one connection.
pub(super) struct Permit(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// A connection in use. Dropped, it is closed: only a connection whose state is known goes back.
pub(super) struct Lease {
    connection: Connection,
    pool: Arc<Pool>,
    permit: Permit,
}

impl std::ops::Deref for Lease {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl std::ops::DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Lease {
    /// Keeps the connection for the next one who needs it.
    pub(super) fn keep(self) {
        let Self {
            mut connection,
            pool,
            permit,
        } = self;
        if !connection.spoiled {
            connection.kept_at = Instant::now();
            pool.idle().push(connection);
        }
        drop(permit);
    }
}

impl Pool {
    pub(super) fn new(target: ConnectTarget, timeouts: Timeouts) -> Arc<Self> {
        Arc::new(Self {
            target,
            timeouts,
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// A connection, when it is its turn.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease> {
        let waiting = self.permits.clone().acquire_owned();
        let permit = match timeout(self.timeouts.turn, waiting).await {
            Ok(Ok(permit)) => Permit(permit),
            Ok(Err(_)) | Err(_) => {
                let detail = format!(
                    "other work has held both admin connections for {} s",
                    self.timeouts.turn.as_secs()
                );
                let doing = "wait for an admin connection";
                return Err(EngineError::new(Fault::Busy { detail }, doing));
            }
        };
        loop {
            let idle = self.idle().pop();
            let Some(mut connection) = idle else { break };
            // A server that was restarted has closed it, and says so only when it is spoken to.
            let doing = "look whether an idle connection is alive";
            let fresh = connection.kept_at.elapsed() < FRESH;
            if fresh || connection.read("DO 1", doing).await.is_ok() {
                return Ok(self.hand_out(connection, permit));
            }
        }
        let connection = Connection::open(&self.target, &self.timeouts).await?;
        Ok(self.hand_out(connection, permit))
    }

    fn hand_out(self: &Arc<Self>, connection: Connection, permit: Permit) -> Lease {
        Lease {
            connection,
            pool: self.clone(),
            permit,
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let ours = Version::parse("10.11.19-MariaDB-0+deb12u1");
        assert_eq!((ours.major, ours.minor, ours.mariadb), (10, 11, true));
        assert_eq!(ours.text, "10.11.19");
        assert_eq!(Version::parse("5.5.5-10.6.2-MariaDB").minor, 6);
        let other = Version::parse("9.7.4");
        assert_eq!((other.major, other.mariadb), (9, false));
    }
}
