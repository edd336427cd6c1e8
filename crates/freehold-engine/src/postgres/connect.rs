//! Connections to one server: at most two at a time, each with a bound on everything.
//!
//! A connection is opened when it is first needed. Two permits exist per server; whoever talks to
//! the server holds one, whoever changes something inside a database holds both (one connection
//! keeps the fence in the registry while the other acts), taken together so that two workers cannot
//! wait for each other. A connection to the registry's database is kept idle for the next one;
//! connections into tenants' databases are closed at once.
//!
//! Nothing waits for ever: connecting, every statement and every lock have a limit on the server,
//! and each await has one on our side too, because a half-open connection answers nothing.
//!
//! Every session is set up against what a tenant may have planted: unqualified names find only
//! `pg_catalog`, and a role set for the database is left.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use freehold_model::ServerIdentity;
use futures::future::BoxFuture;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Row,
    config::SslMode,
    types::{ToSql, Type},
};

use super::{errors, registry, tls};
use crate::{ConnectTarget, EngineError, Fault, Result, Tls};

/// Connections to one server at one moment, idle ones included.
pub(crate) const CONNECTIONS_MAX: u32 = 2;

/// How long the engine waits for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a statement, kept by the server.
    pub statement: Duration,
    /// For a lock, kept by the server.
    pub lock: Duration,
    /// `CREATE DATABASE` copies files and may wait for a checkpoint.
    pub create_database: Duration,
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
            create_database: Duration::from_secs(180),
            grace: Duration::from_secs(5),
            turn: Duration::from_secs(120),
        }
    }
}

/// One session with the server.
pub(crate) struct Connection {
    client: Client,
    pub(crate) version: Version,
    pub(crate) superuser: bool,
    timeouts: Timeouts,
    identity: tokio::sync::OnceCell<Option<ServerIdentity>>,
    /// Dropping it tells the task that moves the bytes to end.
    _alive: oneshot::Sender<()>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u32,
    /// E.g. `15.20`.
    pub(crate) text: String,
}

pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

type NoticeSink = Box<dyn Fn(&tokio_postgres::error::DbError) + Send + Sync>;

/// Opens a session and nothing more: no settings of ours.
pub(crate) async fn open(
    target: &ConnectTarget,
    timeouts: &Timeouts,
    notices: Option<NoticeSink>,
) -> Result<Connection> {
    let grace = timeouts.grace;
    let doing = format!(
        "connect to {}:{} as {:?}",
        target.host, target.port, target.username
    );
    let connector = tls::connector(&target.tls)?;
    let config = config(target);
    let connecting = timeout(target.connect_timeout, config.connect(connector)).await;
    let (client, mut connection) = connecting
        .map_err(|_| unreachable_after(target.connect_timeout, &doing))?
        .map_err(|error| errors::connecting(error, &doing))?;
    let version = version(connection.parameter("server_version").unwrap_or_default());
    let superuser = connection.parameter("is_superuser") == Some("on");
    let (alive, mut dropped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut moving = std::pin::pin!(std::future::poll_fn(move |cx| loop {
            match std::task::ready!(connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    if let Some(sink) = &notices {
                        sink(&notice);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "a server connection ended");
                    return std::task::Poll::Ready(());
                }
                None => return std::task::Poll::Ready(()),
            }
        }));
        tokio::select! {
            () = &mut moving => {}
            _ = &mut dropped => {
                // A live server answers the farewell at once; a dead one must not keep the task.
                let _ = timeout(grace, moving).await;
            }
        }
    });
    Ok(Connection {
        client,
        version,
        superuser,
        timeouts: timeouts.clone(),
        identity: tokio::sync::OnceCell::new(),
        _alive: alive,
    })
}

fn config(target: &ConnectTarget) -> Config {
    let mut config = Config::new();
    config
        .host(&target.host)
        .port(target.port)
        .user(&target.username)
        .dbname(&target.database)
        .application_name(&target.application_name)
        .connect_timeout(target.connect_timeout)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(30))
        .ssl_mode(match target.tls {
            Tls::Disable => SslMode::Disable,
            Tls::Prefer => SslMode::Prefer,
            Tls::VerifyFull { .. } => SslMode::Require,
        });
    if let Some(password) = &target.password {
        config.password(password.expose());
    }
    config
}

fn version(text: &str) -> Version {
    let text = text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    Version {
        major: digits.parse().unwrap_or(0),
        text,
    }
}

fn unreachable_after(limit: Duration, doing: &str) -> EngineError {
    let detail = format!("no answer within {} s", limit.as_secs_f32());
    EngineError::new(Fault::Unreachable { detail }, doing)
}

impl Connection {
    /// Settings that protect us from the server's load and from what a tenant left in the database.
    async fn set_up(&self, inside_tenant: bool) -> Result<()> {
        let statement = self.timeouts.statement.as_millis();
        let lock = self.timeouts.lock.as_millis();
        let mut settings = format!(
            "SET ROLE NONE; SET search_path = pg_catalog, pg_temp; \
             SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
             SET idle_in_transaction_session_timeout = 60000; \
             SET client_min_messages = warning; SET jit = off; SET standard_conforming_strings = on"
        );
        if inside_tenant {
            // What a tenant decides for its own database does not bind its keeper; what the server
            // decides is met in the registry first.
            settings.push_str("; SET default_transaction_read_only = off");
        }
        if self.version.major >= 16 && !self.superuser {
            // A role that we make can be acted as and ended by us: 16 and later give only ADMIN.
            settings.push_str("; SET createrole_self_grant = 'set, inherit'");
        }
        self.bounded(
            self.timeouts.statement,
            self.client.batch_execute(&settings),
        )
        .await
        .map_err(|late| late.reading("set up the session"))
    }

    pub(crate) async fn read(
        &self,
        query: &str,
        parameters: &[Parameter<'_>],
        doing: &str,
    ) -> Result<Vec<Row>> {
        self.bounded(
            self.timeouts.statement,
            self.client.query_typed(query, parameters),
        )
        .await
        .map_err(|late| late.reading(doing))
    }

    /// Reads one value of JSON text that the query built.
    pub(crate) async fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        query: &str,
        parameters: &[Parameter<'_>],
        doing: &str,
    ) -> Result<T> {
        let rows = self.read(query, parameters, doing).await?;
        let text: Option<&str> = rows.first().and_then(|row| row.try_get(0).ok());
        let unreadable =
            |cause: String| EngineError::new(Fault::Invalid { detail: cause }, doing.to_owned());
        let text = text.ok_or_else(|| unreadable("the server's answer is empty".into()))?;
        serde_json::from_str(text)
            .map_err(|error| unreadable(format!("the server's answer is not understood: {error}")))
    }

    /// Runs statements that change something, in one message.
    pub(crate) async fn change(&self, statements: &str, doing: &str) -> Result<()> {
        self.change_within(self.timeouts.statement, statements, doing)
            .await
    }

    pub(crate) async fn change_within(
        &self,
        limit: Duration,
        statements: &str,
        doing: &str,
    ) -> Result<()> {
        self.bounded(limit, self.client.batch_execute(statements))
            .await
            .map_err(|late| late.changing(doing))
    }

    /// The identity of the server behind this connection; asked once, because another server means
    /// another connection. Absent when only a registry could tell and there is none.
    pub(crate) async fn identity(&self) -> Result<Option<&ServerIdentity>> {
        let identity = self.identity.get_or_try_init(|| registry::identity(self));
        Ok(identity.await?.as_ref())
    }

    /// Gives up a failed transaction; whether that works does not matter, a broken session is not
    /// used again.
    pub(crate) async fn roll_back(&self) {
        let _ = self
            .bounded(self.timeouts.grace, self.client.batch_execute("ROLLBACK"))
            .await;
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Late> {
        let limit = limit + self.timeouts.grace;
        match timeout(limit, work).await {
            Ok(result) => result.map_err(Late::Failed),
            Err(_) => Err(Late::Silent(limit)),
        }
    }
}

/// Why a statement has no result.
enum Late {
    Failed(tokio_postgres::Error),
    Silent(Duration),
}

impl Late {
    fn reading(self, doing: &str) -> EngineError {
        match self {
            Self::Failed(error) => errors::reading(error, doing),
            Self::Silent(limit) => unreachable_after(limit, doing),
        }
    }

    fn changing(self, doing: &str) -> EngineError {
        match self {
            Self::Failed(error) => errors::changing(error, doing),
            Self::Silent(_) => EngineError::new(Fault::Undetermined, doing),
        }
    }
}

/// All connections of one engine to its server.
pub(crate) struct Pool {
    pub(crate) target: ConnectTarget,
    timeouts: Timeouts,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    database: String,
}

/// The right to hold one connection.
pub(crate) struct Permit(OwnedSemaphorePermit);

impl Permit {
    /// Splits the right to two connections.
    pub(crate) fn halves(mut self) -> (Self, Self) {
        let half = self.0.split(1).expect("the permit was taken for two");
        (self, Self(half))
    }
}

/// A connection in use. Dropped, it is closed: only a connection whose state is known goes back.
pub(crate) struct Lease {
    connection: Connection,
    database: String,
    pool: Arc<Pool>,
    permit: Permit,
}

impl std::ops::Deref for Lease {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Lease {
    /// Closes the connection and gives back the right to hold one.
    pub(crate) fn close(self) -> Permit {
        self.permit
    }

    /// Keeps the connection for the next one who needs it.
    pub(crate) fn keep(self) {
        let Self {
            connection,
            database,
            pool,
            permit,
        } = self;
        if !connection.is_closed() {
            pool.idle().push(Idle {
                connection,
                database,
            });
        }
        drop(permit);
    }
}

impl Pool {
    pub(crate) fn new(target: ConnectTarget, timeouts: Timeouts) -> Arc<Self> {
        Arc::new(Self {
            target,
            timeouts,
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Waits for the right to `connections` connections, together.
    pub(crate) async fn permit(&self, connections: u32) -> Result<Permit> {
        let waiting = self.permits.clone().acquire_many_owned(connections);
        match timeout(self.timeouts.turn, waiting).await {
            Ok(Ok(permit)) => Ok(Permit(permit)),
            Ok(Err(_)) | Err(_) => Err(EngineError::new(
                Fault::Busy {
                    detail: format!(
                        "other work has held both admin connections for {} s",
                        self.timeouts.turn.as_secs()
                    ),
                },
                "wait for an admin connection",
            )),
        }
    }

    /// A connection to the database that holds the registry (or is asked for it).
    pub(crate) async fn admin(self: &Arc<Self>, permit: Permit, database: &str) -> Result<Lease> {
        while let Some(connection) = self.take_idle(database) {
            // A server that was restarted has closed it, and says so only when it is spoken to.
            let doing = "look whether an idle connection is alive";
            if connection.read("SELECT 1", &[], doing).await.is_ok() {
                return Ok(self.lease(connection, database, permit));
            }
        }
        self.open(permit, database, None).await
    }

    /// A short connection into a tenant's database. `mark` tells it from others in
    /// `pg_stat_activity`, so that a successor can end it.
    pub(crate) async fn inside(
        self: &Arc<Self>,
        permit: Permit,
        database: &str,
        mark: &str,
    ) -> Result<Lease> {
        self.open(permit, database, Some(mark)).await
    }

    async fn open(
        self: &Arc<Self>,
        permit: Permit,
        database: &str,
        inside_mark: Option<&str>,
    ) -> Result<Lease> {
        self.make_room();
        let mut target = self.target.clone();
        database.clone_into(&mut target.database);
        if let Some(mark) = inside_mark {
            mark.clone_into(&mut target.application_name);
        }
        let connection = open(&target, &self.timeouts, None).await?;
        connection.set_up(inside_mark.is_some()).await?;
        Ok(self.lease(connection, database, permit))
    }

    fn lease(self: &Arc<Self>, connection: Connection, database: &str, permit: Permit) -> Lease {
        Lease {
            connection,
            database: database.to_owned(),
            pool: self.clone(),
            permit,
        }
    }

    fn take_idle(&self, database: &str) -> Option<Connection> {
        let mut idle = self.idle();
        let at = idle.iter().rposition(|kept| kept.database == database)?;
        Some(idle.swap_remove(at).connection)
    }

    /// Closes idle connections until one more may be opened: those in use are what the missing
    /// permits stand for.
    fn make_room(&self) {
        let free = self.permits.available_permits();
        self.idle().truncate(free);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a call again when another ACL change of the same row came first.
pub(crate) async fn retrying<'a, T>(
    mut call: impl FnMut() -> BoxFuture<'a, Result<T>>,
) -> Result<T> {
    const ATTEMPTS: u64 = 30;
    let mut attempt = 1;
    loop {
        match call().await {
            Err(error) if attempt < ATTEMPTS && is_transient(&error) => {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis((attempt * 2).min(25))).await;
            }
            result => return result,
        }
    }
}

fn is_transient(error: &EngineError) -> bool {
    let source = std::error::Error::source(error);
    let driver = source.and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    driver
        .and_then(tokio_postgres::Error::as_db_error)
        .is_some_and(|db| {
            errors::is_concurrent_catalog_update(db)
                || matches!(db.code().code(), "40P01" | "40001")
        })
}
