//! One pinned connection of one login, for migration scripts.
//!
//! A statement travels by the simple protocol, as `psql` sends it: no statement is refused for being
//! unpreparable, and error positions are those of the text. The session is the login's own: nothing
//! is set that a program connecting as it would not have, and no statement has a time limit but the
//! script's. A server that has vanished is noticed by TCP keepalives within about a minute.

use std::{
    fmt::Write as _,
    io::Cursor,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{SinkExt, TryStreamExt};
use tokio::time::timeout;
use tokio_postgres::{SimpleQueryMessage, error::DbError};

use super::{
    connect::{self, Connection, Timeouts},
    errors,
    quote::Literal,
    tls,
};
use crate::{
    ConnectTarget, CopySource, EngineError, Executed, Fault, Interrupted, Result, ScriptSession,
    SessionCanceller,
};

const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
const COPY_CHUNK_BYTES: usize = 64 * 1024;
/// A script that raises a notice per row must not fill our memory.
const NOTICES_MAX: usize = 1000;

/// A session for scripts on PostgreSQL.
pub struct PostgresSession {
    connection: Connection,
    target: ConnectTarget,
    notices: Arc<Mutex<Vec<String>>>,
    /// Makes the words of each probe and the name of each prepared statement its own.
    serial: u64,
}

impl PostgresSession {
    /// Logs in.
    pub async fn connect(target: &ConnectTarget) -> Result<Self> {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let sink = notices.clone();
        let connection = connect::open(
            target,
            &Timeouts::default(),
            Some(Box::new(move |notice: &DbError| {
                let mut kept = sink.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < NOTICES_MAX {
                    kept.push(format!("{}: {}", notice.severity(), notice.message()));
                }
            })),
        )
        .await?;
        Ok(Self {
            connection,
            target: target.clone(),
            notices,
            serial: 0,
        })
    }

    fn next_name(&mut self, prefix: &str) -> String {
        self.serial += 1;
        format!("{prefix}_{}", self.serial)
    }

    /// Runs text by the simple protocol and counts what was completed.
    async fn run(&self, statements: &str) -> Result<Executed, Interrupted> {
        let client = self.connection.client();
        let mut completed = 0;
        let mut executed = Executed::default();
        let interrupted = |completed, error| Interrupted {
            completed: Some(completed),
            error: errors::scripting(error, "run a statement"),
        };
        let stream = client.simple_query_raw(statements).await;
        let mut stream = pin!(stream.map_err(|error| interrupted(0, error))?);
        loop {
            match stream.try_next().await {
                Ok(Some(SimpleQueryMessage::CommandComplete(rows))) => {
                    completed += 1;
                    executed.rows += rows;
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(executed),
                Err(error) => return Err(interrupted(completed, error)),
            }
        }
    }

    async fn rows(&self, statement: &str) -> Result<Vec<Vec<Option<String>>>> {
        let answer = self.connection.client().simple_query(statement).await;
        let messages = answer.map_err(|error| errors::scripting(error, "run a query"))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|at| row.get(at).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }
}

impl ScriptSession for PostgresSession {
    fn canceller(&self) -> SessionCanceller {
        let token = self.connection.client().cancel_token();
        let mode = self.target.tls.clone();
        SessionCanceller(Arc::new(move || {
            let (token, mode) = (token.clone(), mode.clone());
            Box::pin(async move {
                let doing = "cancel the running statement";
                let connector = tls::connector(&mode)?;
                match timeout(CANCEL_TIMEOUT, token.cancel_query(connector)).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(errors::connecting(error, doing)),
                    Err(_) => Err(EngineError::new(
                        Fault::Unreachable {
                            detail: format!("no answer within {} s", CANCEL_TIMEOUT.as_secs()),
                        },
                        doing,
                    )),
                }
            })
        }))
    }

    async fn execute(&mut self, statement: &str) -> Result<Executed> {
        self.run(statement)
            .await
            .map_err(|interrupted| interrupted.error)
    }

    async fn execute_batch(&mut self, statements: &str) -> Result<Executed, Interrupted> {
        self.run(statements).await
    }

    async fn copy_in(&mut self, statement: &str, data: CopySource<'_>) -> Result<Executed> {
        let failed = |error| errors::scripting(error, "copy data in");
        let client = self.connection.client();
        let sink = client.copy_in::<str, Cursor<Vec<u8>>>(statement).await;
        let mut sink = pin!(sink.map_err(failed)?);
        for chunk in data.0.as_bytes().chunks(COPY_CHUNK_BYTES) {
            if sink.send(Cursor::new(chunk.to_vec())).await.is_err() {
                // The server has stopped listening; why, it says at the end.
                break;
            }
        }
        let rows = sink.finish().await.map_err(failed)?;
        Ok(Executed { rows })
    }

    async fn query(
        &mut self,
        statement: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Vec<Option<String>>>> {
        if parameters.is_empty() {
            return self.rows(statement).await;
        }
        // The server infers the parameters' types and takes and gives all values as text, which the
        // driver's own prepared statements do not.
        let name = self.next_name("freehold_query");
        let prefix = format!("PREPARE {name} AS ");
        let mut values = String::new();
        for parameter in parameters {
            let separator = if values.is_empty() { "" } else { ", " };
            let written = match parameter {
                Some(text) => write!(values, "{separator}{}", Literal::new(text)?),
                None => write!(values, "{separator}NULL"),
            };
            written.map_err(|error| {
                let detail = error.to_string();
                EngineError::new(Fault::Invalid { detail }, "write the parameters")
            })?;
        }
        let prepared = self.rows(&format!("{prefix}{statement}")).await;
        prepared.map_err(|error| shifted(error, prefix.chars().count()))?;
        let rows = self.rows(&format!("EXECUTE {name}({values})")).await;
        // In a failed transaction this fails too; then `reset` forgets the statement.
        let _ = self.rows(&format!("DEALLOCATE {name}")).await;
        rows
    }

    async fn in_transaction(&mut self) -> Result<bool> {
        // A setting that is local to its transaction outlives the statement only inside a block.
        let words = self.next_name("probe");
        let probe = format!(
            "SELECT pg_catalog.set_config('freehold.in_transaction', {}, true)",
            Literal::new(&words)?
        );
        let asked = match self.rows(&probe).await {
            Ok(_) => {
                self.rows("SELECT pg_catalog.current_setting('freehold.in_transaction', true)")
                    .await
            }
            Err(error) => Err(error),
        };
        match asked {
            Ok(rows) => Ok(rows.first().and_then(|row| row.first()) == Some(&Some(words))),
            // Only a failed transaction refuses to be asked.
            Err(error) if is_aborted(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn reset(&mut self) -> Result<()> {
        if self.in_transaction().await? {
            self.execute("ROLLBACK").await?;
        }
        // Not `DISCARD ALL`: that would also drop advisory locks, which the runner of a migration
        // may hold on this session. `RESET ROLE` last: it goes back to the role of the login.
        for statement in [
            "SET SESSION AUTHORIZATION DEFAULT",
            "RESET ALL",
            "RESET ROLE",
            "CLOSE ALL",
            "DEALLOCATE ALL",
            "UNLISTEN *",
            "DISCARD TEMP",
            "DISCARD SEQUENCES",
            "DISCARD PLANS",
        ] {
            self.execute(statement).await?;
        }
        Ok(())
    }
}

fn is_aborted(error: &EngineError) -> bool {
    matches!(&error.fault, Fault::Statement(statement) if statement.sqlstate == "25P02")
}

/// Moves an error's position back by the text that we put before the statement.
fn shifted(mut error: EngineError, characters: usize) -> EngineError {
    if let Fault::Statement(statement) = &mut error.fault {
        let by = u32::try_from(characters).unwrap_or(u32::MAX);
        statement.position = statement
            .position
            .and_then(|position| position.checked_sub(by));
    }
    error
}
