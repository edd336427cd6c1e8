//! A run in a process of its own, which holds the bundle and one credential and nothing else.
//!
//! The parent writes one JSON line ([`RunnerInput`], the password included: never in arguments, never
//! in the environment) and then the bundle's bytes to standard input, and keeps it open. The runner
//! answers with one JSON line per [`RunEvent`] on standard output; the last is `finished` or `failed`.
//! When standard input closes, the parent is dead or wants the runner to stop: the running statement
//! is cancelled, the transaction rolled back, and the process ends.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use freehold_engine::{
    ConnectTarget, ScriptSession, Tls, mariadb::MariadbSession, postgres::PostgresSession,
    sqlite::SqliteSession,
};
use freehold_model::{BundleDigest, Secret};
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};
use zeroize::Zeroizing;

use crate::{
    Bundle, Dialect, Limits, Migrator, Observer, RunEvent, RunFailure, RunOptions, RunReport,
    StopHandle,
};

/// The first line on the runner's standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerInput {
    /// The operation this run belongs to; shown by the server as `freehold/op/<id>`.
    pub operation: String,
    pub bundle: BundleSource,
    /// The bundle must be this one.
    pub digest: BundleDigest,
    pub target: RunnerTarget,
    #[serde(default)]
    pub options: RunOptions,
}

/// Where the bundle is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum BundleSource {
    /// So many bytes follow the line on standard input.
    Inline {
        length: u64,
    },
    Path {
        path: PathBuf,
    },
}

/// Which engine, and where its database is. The engine's word stands outside: a tag inside would have
/// the password copied while it is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunnerTarget {
    Postgresql(ServerTarget),
    /// MySQL too.
    Mariadb(ServerTarget),
    Sqlite(FileTarget),
}

/// [`ConnectTarget`] as it crosses the pipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerTarget {
    pub host: String,
    pub port: u16,
    pub username: String,
    #[serde(default)]
    pub password: Option<Secret>,
    pub database: String,
    pub tls: RunnerTls,
    pub connect_timeout_ms: u64,
}

/// A database that is a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileTarget {
    pub path: PathBuf,
}

/// [`Tls`] as it crosses the pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RunnerTls {
    Disable,
    Prefer,
    VerifyFull {
        #[serde(default)]
        ca_pem: Option<String>,
    },
}

impl RunnerTarget {
    /// A PostgreSQL server.
    pub fn from_target(target: &ConnectTarget) -> Self {
        Self::Postgresql(ServerTarget::of(target))
    }

    /// A MariaDB or MySQL server.
    pub fn mariadb(target: &ConnectTarget) -> Self {
        Self::Mariadb(ServerTarget::of(target))
    }

    /// An SQLite file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::Sqlite(FileTarget { path: path.into() })
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgresql(_) => Dialect::Postgresql,
            Self::Mariadb(_) => Dialect::Mysql,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }
}

impl ServerTarget {
    fn of(target: &ConnectTarget) -> Self {
        Self {
            host: target.host.clone(),
            port: target.port,
            username: target.username.clone(),
            password: target.password.clone(),
            database: target.database.clone(),
            tls: match &target.tls {
                Tls::Disable => RunnerTls::Disable,
                Tls::Prefer => RunnerTls::Prefer,
                Tls::VerifyFull { ca_pem } => RunnerTls::VerifyFull {
                    ca_pem: ca_pem.clone(),
                },
            },
            connect_timeout_ms: u64::try_from(target.connect_timeout.as_millis())
                .unwrap_or(u64::MAX),
        }
    }

    fn into_target(self, operation: &str) -> ConnectTarget {
        ConnectTarget {
            host: self.host,
            port: self.port,
            username: self.username,
            password: self.password,
            database: self.database,
            tls: match self.tls {
                RunnerTls::Disable => Tls::Disable,
                RunnerTls::Prefer => Tls::Prefer,
                RunnerTls::VerifyFull { ca_pem } => Tls::VerifyFull { ca_pem },
            },
            application_name: format!("freehold/op/{operation}"),
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
        }
    }
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerExit {
    /// Everything pending was run.
    Finished = 0,
    /// A statement failed.
    Failed = 1,
    /// Nothing ran: files or history forbid it.
    Refused = 2,
    /// Nothing ran: the input is wrong.
    BadInput = 3,
    /// The server cannot be reached, or the connection broke and nothing of the script was kept.
    Unreachable = 4,
    /// Whether the last script was committed is not known; the next run finds out.
    Undetermined = 5,
    /// Another migration holds the lock.
    Locked = 6,
    /// Standard input was closed.
    Cancelled = 7,
}

impl From<&RunFailure> for RunnerExit {
    fn from(failure: &RunFailure) -> Self {
        match failure {
            RunFailure::Refused { .. } => Self::Refused,
            RunFailure::Statement(_) | RunFailure::Server { .. } => Self::Failed,
            RunFailure::Locked { .. } => Self::Locked,
            RunFailure::Cancelled { .. } => Self::Cancelled,
            RunFailure::Connect { .. } | RunFailure::ConnectionLost { .. } => Self::Unreachable,
            RunFailure::Undetermined { .. } => Self::Undetermined,
            RunFailure::Input { .. } => Self::BadInput,
        }
    }
}

impl From<RunnerExit> for ExitCode {
    fn from(exit: RunnerExit) -> Self {
        Self::from(exit as u8)
    }
}

/// An input line longer than this is none.
const INPUT_BYTES_MAX: u64 = 1 << 20;
const STOP_INTERVAL: Duration = Duration::from_millis(100);
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long the last word may take; nobody may be reading any more.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the binary's hidden `runner` command calls.
///
/// Afterwards a read of standard input is still under way: shut the runtime down with
/// `shutdown_background`, or the process stays until its parent closes the pipe.
pub async fn runner_main(
    stdin: impl AsyncRead + Send + Unpin,
    stdout: impl AsyncWrite + Send + Unpin,
) -> ExitCode {
    runner(stdin, stdout).await.into()
}

/// As [`runner_main`], with an exit that can be looked at.
pub async fn runner(
    stdin: impl AsyncRead + Send + Unpin,
    stdout: impl AsyncWrite + Send + Unpin,
) -> RunnerExit {
    let mut stdin = BufReader::new(stdin);
    let mut lines = Lines { stdout };
    let (exit, last) = match attend(&mut stdin, &mut lines).await {
        Ok(report) => (RunnerExit::Finished, RunEvent::Finished { report }),
        Err(failure) => (RunnerExit::from(&failure), RunEvent::Failed { failure }),
    };
    let _ = tokio::time::timeout(FAREWELL, lines.observe(last)).await;
    exit
}

async fn attend(
    stdin: &mut (impl AsyncBufRead + Send + Unpin),
    lines: &mut impl Observer,
) -> Result<RunReport, RunFailure> {
    let input = read_input(stdin).await?;
    let bundle = read_bundle(stdin, &input).await?;
    let dialect = input.target.dialect();
    let operation = &input.operation;
    let options = input.options;
    match input.target {
        RunnerTarget::Postgresql(target) => {
            let target = target.into_target(operation);
            let connecting = PostgresSession::connect(&target);
            let mut session = connect(connecting, stdin).await?;
            drop(target);
            run_until_closed(dialect, &mut session, options, &bundle, stdin, lines).await
        }
        RunnerTarget::Mariadb(target) => {
            let target = target.into_target(operation);
            let connecting = MariadbSession::connect(&target);
            let mut session = connect(connecting, stdin).await?;
            drop(target);
            run_until_closed(dialect, &mut session, options, &bundle, stdin, lines).await
        }
        RunnerTarget::Sqlite(target) => {
            let opening = SqliteSession::open(&target.path);
            let mut session = connect(opening, stdin).await?;
            run_until_closed(dialect, &mut session, options, &bundle, stdin, lines).await
        }
    }
}

/// Waits for a connection, as long as the parent wants one.
async fn connect<S>(
    connecting: impl Future<Output = freehold_engine::Result<S>>,
    stdin: &mut (impl AsyncBufRead + Send + Unpin),
) -> Result<S, RunFailure> {
    tokio::select! {
        session = connecting => session.map_err(|error| RunFailure::connect(&error)),
        () = closed(stdin) => Err(RunFailure::Cancelled { file: None }),
    }
}

async fn run_until_closed<S: ScriptSession>(
    dialect: Dialect,
    session: &mut S,
    options: RunOptions,
    bundle: &Bundle,
    stdin: &mut (impl AsyncBufRead + Send + Unpin),
    lines: &mut impl Observer,
) -> Result<RunReport, RunFailure> {
    let mut migrator = Migrator::new(dialect, session, options);
    let handle = migrator.stop_handle();
    let run = migrator.run(bundle, lines);
    tokio::pin!(run);
    tokio::select! {
        // A run that has ended has ended, whatever the parent wants meanwhile.
        biased;
        result = &mut run => return result,
        () = closed(stdin) => {}
    }
    tokio::select! {
        biased;
        result = run => result,
        // Dropping the run drops the connection, and with it the transaction.
        () = stop_repeatedly(&handle) => Err(RunFailure::Cancelled { file: None }),
    }
}

/// One request to cancel may come while no statement runs, and then cancels nothing.
/// A run that still goes on after [`STOP_GRACE`] waits for a server or a reader that is no more.
async fn stop_repeatedly(handle: &StopHandle) {
    let stopping = async {
        loop {
            handle.stop().await;
            tokio::time::sleep(STOP_INTERVAL).await;
        }
    };
    let _: Result<std::convert::Infallible, _> = tokio::time::timeout(STOP_GRACE, stopping).await;
}

/// Waits until nobody can write to standard input any more. What is written is not for us.
async fn closed(stdin: &mut (impl AsyncBufRead + Send + Unpin)) {
    loop {
        match stdin.fill_buf().await {
            Ok(bytes) if !bytes.is_empty() => {
                let length = bytes.len();
                stdin.consume(length);
            }
            _ => return,
        }
    }
}

async fn read_input(
    stdin: &mut (impl AsyncBufRead + Send + Unpin),
) -> Result<RunnerInput, RunFailure> {
    // The line holds the password: it is wiped when it is no longer needed.
    let mut line = Zeroizing::new(Vec::with_capacity(64 << 10));
    stdin
        .take(INPUT_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await
        .map_err(|error| input(format!("cannot read the runner's input: {error}")))?;
    // serde_json's message would quote no values, but a position is all that may be told.
    serde_json::from_slice(&line).map_err(|error| {
        input(format!(
            "the runner's input is not valid at column {} ({:?} error)",
            error.column(),
            error.classify()
        ))
    })
}

async fn read_bundle(
    stdin: &mut (impl AsyncBufRead + Send + Unpin),
    from: &RunnerInput,
) -> Result<Bundle, RunFailure> {
    let max = Limits::default().archive_bytes;
    let archive = match &from.bundle {
        BundleSource::Inline { length } if *length > max => {
            return Err(input(format!(
                "the bundle has {length} bytes, {max} are allowed"
            )));
        }
        BundleSource::Inline { length } => {
            let mut archive = Vec::new();
            stdin
                .take(*length)
                .read_to_end(&mut archive)
                .await
                .map_err(|error| input(format!("cannot read the bundle: {error}")))?;
            if archive.len() as u64 != *length {
                return Err(RunFailure::Cancelled { file: None });
            }
            archive
        }
        BundleSource::Path { path } => tokio::fs::read(path).await.map_err(|error| {
            input(format!(
                "cannot read the bundle {}: {error}",
                path.display()
            ))
        })?,
    };
    Ok(Bundle::open_expecting(&archive, &from.digest)?)
}

fn input(message: String) -> RunFailure {
    RunFailure::Input { message }
}

/// Writes events as JSON lines.
struct Lines<W> {
    stdout: W,
}

impl<W: AsyncWrite + Send + Unpin> Observer for Lines<W> {
    async fn observe(&mut self, event: RunEvent) {
        let mut line = serde_json::to_vec(&event).expect("an event has a JSON form");
        line.push(b'\n');
        // With nobody to listen any more, standard input closes too, and that ends the run.
        if self.stdout.write_all(&line).await.is_ok() {
            let _ = self.stdout.flush().await;
        }
    }
}
