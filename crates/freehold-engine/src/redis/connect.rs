//! Connections to one server: at most two at a time, each with a bound on everything.
//!
//! A connection is opened when it is first needed; two permits exist per server. What is watched is
//! watched by one connection, so everything that is done to one database in one call happens on one. A
//! connection whose state is known is kept for the next one.
//!
//! Nothing waits for ever: the server has no time limit for a command, so every await has one on our
//! side.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisError, Value, aio::MultiplexedConnection,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{errors, reply, rules::Spelling, tls};
use crate::{ConnectTarget, EngineError, Fault, Result, Tls};

/// Connections to one server at one moment, idle ones included.
pub(super) const CONNECTIONS_MAX: u32 = 2;

/// The oldest that knows rights to read and to write apart (`%R~`) and selectors.
const OLDEST: u32 = 7;

/// How long the engine waits for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For the answer to one message.
    pub answer: Duration,
    /// For the look whether somebody has keys under a name that is to be taken.
    pub search: Duration,
    /// How long work waits for its turn on one server.
    pub turn: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            search: Duration::from_secs(60),
            turn: Duration::from_secs(120),
        }
    }
}

/// What a server says of itself and keeps while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerFacts {
    pub(super) version: Version,
    /// The account that we are.
    pub(super) admin: String,
    /// Where it keeps its files, and its port: a copy has another one of these, on the same machine.
    pub(super) place: String,
    pub(super) accounts_kept: AccountsKept,
    /// All commands that it knows, `client|kill` among them.
    pub(super) commands: BTreeSet<String>,
}

/// How accounts outlive the server's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountsKept {
    /// `ACL SAVE`.
    InAclFile,
    /// `CONFIG REWRITE`.
    InConfiguration,
    /// It was started with neither.
    Nowhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u32,
    /// E.g. `7.0.15`, or `valkey 8.0.1`.
    pub(super) text: String,
}

/// One session with the server.
pub(super) struct Connection {
    session: MultiplexedConnection,
    pub(super) server: ServerFacts,
    /// How this server writes our rules, once it was asked.
    pub(super) spelling: Option<Spelling>,
    timeouts: Timeouts,
    /// An answer is outstanding or something is watched.
    spoiled: bool,
}

/// Commands as they are written: each word an argument of its own, so that none can become two.
pub(super) fn command<W: AsRef<str>>(words: &[W]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word.as_ref());
    }
    command
}

async fn dial(target: &ConnectTarget, timeouts: &Timeouts) -> Result<MultiplexedConnection> {
    let doing = format!(
        "connect to {}:{} as {:?}",
        target.host, target.port, target.username
    );
    let invalid = |error: RedisError| {
        let detail = error.to_string();
        EngineError::new(Fault::Invalid { detail }, &doing)
    };
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = &target.password {
        login = login
            .set_username(&target.username)
            .set_password(password.expose());
    }
    let info = ConnectionAddr::Tcp(target.host.clone(), target.port)
        .into_connection_info()
        .map_err(invalid)?
        .set_redis_settings(login);
    let client = tls::client(target, &info).await?;
    match open(&client, target, timeouts).await {
        Ok(session) => Ok(session),
        Err(Some(error)) if !error.is_timeout() => Err(errors::connecting(error, &doing)),
        Err(_) if !matches!(target.tls, Tls::Disable) && tls::speaks_plain(target).await => {
            let detail = tls::PLAIN.to_owned();
            Err(EngineError::new(Fault::Unreachable { detail }, &doing))
        }
        Err(_) => Err(unreachable_after(target.connect_timeout, &doing)),
    }
}

/// `None`: not in time.
async fn open(
    client: &Client,
    target: &ConnectTarget,
    timeouts: &Timeouts,
) -> Result<MultiplexedConnection, Option<RedisError>> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(target.connect_timeout))
        .set_response_timeout(Some(timeouts.answer));
    let opening = client.get_multiplexed_async_connection_with_config(&config);
    match timeout(target.connect_timeout, opening).await {
        Ok(opened) => opened.map_err(Some),
        Err(_) => Err(None),
    }
}

pub(super) fn unreachable_after(limit: Duration, doing: &str) -> EngineError {
    let detail = format!("no answer within {} s", limit.as_secs_f32());
    EngineError::new(Fault::Unreachable { detail }, doing)
}

impl Connection {
    async fn open(target: &ConnectTarget, timeouts: &Timeouts) -> Result<Self> {
        let session = dial(target, timeouts).await?;
        let mut connection = Self {
            session,
            server: ServerFacts {
                version: Version {
                    major: 0,
                    text: String::new(),
                },
                admin: String::new(),
                place: String::new(),
                accounts_kept: AccountsKept::Nowhere,
                commands: BTreeSet::new(),
            },
            spelling: None,
            timeouts: timeouts.clone(),
            spoiled: false,
        };
        connection.server = connection.meet(&target.application_name).await?;
        Ok(connection)
    }

    /// Refuses what is no server for us.
    async fn meet(&mut self, name: &str) -> Result<ServerFacts> {
        let doing = "look at the server";
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { '-' })
            .collect();
        let asked = [
            command(&["INFO", "server"]),
            command(&["CLIENT", "SETNAME", &name]),
            command(&["ACL", "WHOAMI"]),
            command(&["CONFIG", "GET", "dir"]),
            command(&["CONFIG", "GET", "aclfile"]),
            command(&["COMMAND", "LIST"]),
        ];
        let replies = self.send(&asked, doing).await?;
        let [info, _, admin, dir, aclfile, commands] = replies.as_slice() else {
            return Err(unreadable(doing));
        };
        let info = reply::info(refuse(info, doing)?);
        let version = check_version(&info, doing)?;
        let config = |value, name: &str| -> Result<String> {
            let found = reply::hash(refuse(value, doing)?).unwrap_or_default();
            Ok(found.get(name).cloned().unwrap_or_default())
        };
        let port = info.get("tcp_port").map_or("?", String::as_str);
        let file = config(aclfile, "aclfile")?;
        let configured = info.get("config_file").is_some_and(|file| !file.is_empty());
        Ok(ServerFacts {
            version,
            admin: reply::text(refuse(admin, doing)?).unwrap_or_default(),
            place: format!("{}:{port}", config(dir, "dir")?),
            accounts_kept: match (file.is_empty(), configured) {
                (false, _) => AccountsKept::InAclFile,
                (true, true) => AccountsKept::InConfiguration,
                (true, false) => AccountsKept::Nowhere,
            },
            commands: reply::texts(refuse(commands, doing)?).into_iter().collect(),
        })
    }

    /// Sends commands in one message and returns a reply for each; refusals are among them.
    pub(super) async fn send(&mut self, commands: &[Cmd], doing: &str) -> Result<Vec<Value>> {
        match self.bounded(commands).await {
            Some(result) => result.map_err(|error| errors::reading(error, doing)),
            None => Err(unreachable_after(self.timeouts.answer, doing)),
        }
    }

    /// Commands that change nothing; the first refusal is the error.
    pub(super) async fn read(&mut self, commands: &[Cmd], doing: &str) -> Result<Vec<Value>> {
        let replies = self.send(commands, doing).await?;
        for reply in &replies {
            refuse(reply, doing)?;
        }
        Ok(replies)
    }

    /// Commands that may change something; refusals are among the replies.
    pub(super) async fn change(&mut self, commands: &[Cmd], doing: &str) -> Result<Vec<Value>> {
        match self.bounded(commands).await {
            Some(result) => result.map_err(|error| errors::changing(error, doing)),
            None => Err(EngineError::new(Fault::Undetermined, doing)),
        }
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// `None`: no answer in time. Whoever drops the future leaves the session spoiled.
    async fn bounded(&mut self, commands: &[Cmd]) -> Option<Result<Vec<Value>, RedisError>> {
        let mut message = Pipeline::with_capacity(commands.len());
        for command in commands {
            message.add_command(command.clone());
        }
        self.spoiled = true;
        let sending = self
            .session
            .send_packed_commands(&message, 0, commands.len());
        let result = timeout(self.timeouts.answer, sending).await.ok()?;
        self.spoiled = result.is_err();
        match result {
            Err(error) if error.is_timeout() => None,
            result => Some(result),
        }
    }
}

/// A refusal becomes an error.
pub(super) fn refuse<'a>(reply: &'a Value, doing: &str) -> Result<&'a Value> {
    match reply {
        Value::ServerError(error) => Err(errors::refused(error, doing)),
        reply => Ok(reply),
    }
}

pub(super) fn unreadable(doing: &str) -> EngineError {
    let detail = "the server's answer is not what it should be".to_owned();
    EngineError::new(Fault::Unreachable { detail }, doing)
}

fn check_version(
    info: &std::collections::BTreeMap<String, String>,
    doing: &str,
) -> Result<Version> {
    let get = |name: &str| info.get(name).map(String::as_str);
    let compatible = get("redis_version").unwrap_or_default();
    let number = compatible.split('.').next().unwrap_or_default();
    let text = match get("valkey_version") {
        Some(own) => format!("valkey {own}"),
        None => compatible.to_owned(),
    };
    let version = Version {
        major: number.parse().unwrap_or(0),
        text,
    };
    let unsupported = |what: String| Err(EngineError::new(Fault::Unsupported { what }, doing));
    if version.major < OLDEST {
        return unsupported(format!(
            "administer Redis {}: {OLDEST}.0 and later are supported, and Valkey",
            version.text
        ));
    }
    match get("redis_mode").or(get("server_mode")) {
        Some("standalone") | None => Ok(version),
        Some(mode) => unsupported(format!(
            "administer a server that runs as {mode}: each node would have accounts and a registry of \
             its own"
        )),
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
            connection,
            pool,
            permit,
        } = self;
        if !connection.spoiled {
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
            if connection.read(&[command(&["PING"])], doing).await.is_ok() {
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
