//! Runs a bundle's pending migrations over one session.
//!
//! The order of things: read the files; take Flyway's lock; read the history once; compare; refuse
//! everything that can be refused before anything runs; then one script after the other, each in a
//! transaction together with its history row. Between two scripts the session is put back to its
//! beginnings, so that no script sees what an earlier one left in it.
//!
//! Killed at any moment, the next run continues where the history ends. Two runs at once: the lock
//! lets one wait; and were the lock lost, the history's primary key would let only one of two
//! transactions commit.
//!
//! Not here: who may run what, and the credential's life; see the operation that starts the runner.

mod event;
mod execute;
mod failure;
mod history_table;
mod lock;
mod message;

use std::{sync::Arc, time::Instant};

use freehold_engine::{ScriptSession, SessionCanceller};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use event::{LockHolder, Observer, PlannedScript, RunEvent};
pub use failure::{RunFailure, StatementFailure};
pub use history_table::HISTORY_TABLE;
pub use lock::lock_id;

use crate::{
    Bundle, HistoryRow, Migrations, Mode, PlanOptions, Refusal, RefusalCode, Script,
    StatementClass, StatusEntry, plan, quote::Identifier,
};
use execute::Execution;
use history_table::HistoryTable;

/// How a run goes about its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RunOptions {
    pub plan: PlanOptions,
    /// The role that scripts run as, and that owns what they make. None: the login's own.
    pub role: Option<String>,
    /// Whom the history names. None: the role.
    pub installed_by: Option<String>,
    /// How often to try for the lock, once a second.
    pub lock_attempts: u32,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            plan: PlanOptions::default(),
            role: None,
            installed_by: None,
            // Flyway's lockRetryCount.
            lock_attempts: 50,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    pub schema: String,
    pub history_created: bool,
    /// In the order in which they ran.
    pub applied: Vec<AppliedScript>,
    /// The whole history afterwards, for whoever keeps a copy of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedScript {
    pub file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub installed_rank: i32,
    pub elapsed_ms: u64,
    pub rows: u64,
}

/// Where a database stands against a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub schema: String,
    /// False before the first migration.
    pub history_exists: bool,
    pub entries: Vec<StatusEntry>,
    /// What `apply` would refuse.
    pub refusals: Vec<Refusal>,
}

/// Runs migrations over a session.
pub struct Migrator<'s, S> {
    session: &'s mut S,
    options: RunOptions,
    stop: Stop,
    sender: Arc<watch::Sender<bool>>,
}

/// Stops a run from elsewhere.
#[derive(Clone)]
pub struct StopHandle {
    sender: Arc<watch::Sender<bool>>,
    canceller: SessionCanceller,
}

impl StopHandle {
    /// Asks the run to stop and cancels the statement that runs now. A statement that is on its way
    /// to the server at this very moment escapes: ask again until the run has ended.
    pub async fn stop(&self) {
        self.sender.send_replace(true);
        if let Err(error) = (self.canceller.0)().await {
            tracing::debug!(%error, "the running statement could not be cancelled");
        }
    }
}

/// Whether the run was asked to stop.
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    fn check(&self, file: Option<&str>) -> Result<(), RunFailure> {
        if self.is_stopped() {
            return Err(RunFailure::Cancelled {
                file: file.map(str::to_owned),
            });
        }
        Ok(())
    }

    async fn wait(&self) {
        // The sender lives as long as the migrator.
        let _ = self.0.clone().wait_for(|stopped| *stopped).await;
    }
}

impl<'s, S: ScriptSession> Migrator<'s, S> {
    pub fn new(session: &'s mut S, options: RunOptions) -> Self {
        let (sender, receiver) = watch::channel(false);
        Self {
            session,
            options,
            stop: Stop(receiver),
            sender: Arc::new(sender),
        }
    }

    pub fn stop_handle(&self) -> StopHandle {
        StopHandle {
            sender: self.sender.clone(),
            canceller: self.session.canceller(),
        }
    }

    /// Runs what is pending.
    ///
    /// # Errors
    /// See [`RunFailure`]; each kind says what is left of the script that was running.
    pub async fn run(
        &mut self,
        bundle: &Bundle,
        observer: &mut impl Observer,
    ) -> Result<RunReport, RunFailure> {
        let migrations = Migrations::resolve(bundle).map_err(refused)?;
        let seat = Seat::take(self.session, &self.options).await?;
        observer.observe(seat.connected.clone()).await;
        let attempts = self.options.lock_attempts;
        lock::take(self.session, seat.lock_id, attempts, &self.stop, observer).await?;
        let result = self.run_locked(&seat, &migrations, observer).await;
        let is_gone = matches!(
            result,
            Err(RunFailure::ConnectionLost { .. }
                | RunFailure::Undetermined { .. }
                | RunFailure::Connect { .. })
        );
        if !is_gone {
            if result.is_err() {
                self.tell_history(&seat, observer).await;
            }
            lock::release(self.session, seat.lock_id).await;
        }
        result
    }

    /// A courtesy to whoever keeps a copy of the history: failing to tell it changes nothing.
    async fn tell_history(&mut self, seat: &Seat, observer: &mut impl Observer) {
        if let Ok(Some(rows)) = seat.table.read(self.session).await {
            observer.observe(RunEvent::History { rows }).await;
        }
    }

    async fn run_locked(
        &mut self,
        seat: &Seat,
        migrations: &Migrations<'_>,
        observer: &mut impl Observer,
    ) -> Result<RunReport, RunFailure> {
        let (mut rows, exists) = self.history(seat).await?;
        let plan = plan(migrations, &mut rows, &self.options.plan);
        if !plan.refusals.is_empty() {
            return Err(refused(plan.refusals));
        }
        let scripts = load(&plan.pending)?;
        let mut report = RunReport {
            schema: seat.schema.clone(),
            history_created: !exists,
            applied: Vec::with_capacity(scripts.len()),
            history: Vec::new(),
        };
        if !exists {
            let table = seat.table.create(self.session).await?;
            observer.observe(RunEvent::HistoryCreated { table }).await;
        }
        let applied = plan
            .status
            .iter()
            .filter(|entry| entry.installed_rank.is_some())
            .count();
        observer.observe(planned(applied, &scripts)).await;
        let mut before: Option<&Script<'_>> = None;
        for (index, script) in scripts.iter().enumerate() {
            self.stop.check(None)?;
            let reset = before.map_or_else(Vec::new, |before| seat.reset(before));
            before = Some(script);
            let file = script.path.to_owned();
            let started = RunEvent::ScriptStarted {
                file,
                number: index + 1,
                of: scripts.len(),
            };
            observer.observe(started).await;
            // The lock keeps others from adding ranks.
            let rank = plan.last_rank + 1 + i32::try_from(index).unwrap_or(i32::MAX);
            let applied = self
                .run_script(seat, script, &reset, rank, observer)
                .await?;
            observer.observe(applied.finished()).await;
            report.applied.push(applied);
        }
        report.history = seat.table.read(self.session).await?.unwrap_or_default();
        Ok(report)
    }

    async fn run_script(
        &mut self,
        seat: &Seat,
        script: &Script<'_>,
        reset: &[String],
        rank: i32,
        observer: &mut impl Observer,
    ) -> Result<AppliedScript, RunFailure> {
        let started = Instant::now();
        let execution = Execution {
            session: self.session,
            seat,
            stop: &self.stop,
            observer,
            script,
            reset,
            rank,
            rows: 0,
            notices: 0,
        };
        let rows = execution.run().await?;
        Ok(AppliedScript {
            file: script.path.to_owned(),
            version: script.name.version().map(ToString::to_string),
            installed_rank: rank,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            rows,
        })
    }

    /// The history's rows, and whether its table is there. Without it the schema must be empty.
    async fn history(&mut self, seat: &Seat) -> Result<(Vec<HistoryRow>, bool), RunFailure> {
        if let Some(rows) = seat.table.read(self.session).await? {
            return Ok((rows, true));
        }
        if seat.table.schema_is_empty(self.session).await? {
            return Ok((Vec::new(), false));
        }
        Err(refused(vec![non_empty(&seat.schema)]))
    }
}

/// Compares a database with a bundle. Takes no lock and changes nothing.
///
/// # Errors
/// Files that are no migrations, or a server that does not answer.
pub async fn status<S: ScriptSession>(
    session: &mut S,
    bundle: &Bundle,
    options: &RunOptions,
) -> Result<Status, RunFailure> {
    let migrations = Migrations::resolve(bundle).map_err(refused)?;
    let seat = Seat::take(session, options).await?;
    let rows = seat.table.read(session).await?;
    let history_exists = rows.is_some();
    let mut refusals = Vec::new();
    if !history_exists && !seat.table.schema_is_empty(session).await? {
        refusals.push(non_empty(&seat.schema));
    }
    let mut rows = rows.unwrap_or_default();
    let plan = plan(&migrations, &mut rows, &options.plan);
    refusals.extend(plan.refusals);
    if let Err(RunFailure::Refused { refusals: more }) = load(&plan.pending) {
        refusals.extend(more);
    }
    Ok(Status {
        schema: seat.schema,
        history_exists,
        entries: plan.status,
        refusals,
    })
}

fn non_empty(schema: &str) -> Refusal {
    Refusal::new(
        RefusalCode::NonEmptySchemaWithoutSchemaHistoryTable,
        format!(
            "the schema {schema:?} holds objects already, and no migration history ({HISTORY_TABLE})"
        ),
        "Baselines are not supported yet. Start from an empty schema, or let Flyway baseline this one first; Freehold continues its history.",
    )
}

fn refused(refusals: Vec<Refusal>) -> RunFailure {
    RunFailure::Refused { refusals }
}

/// Cuts every pending script before the first one runs.
fn load<'a>(pending: &[&crate::Migration<'a>]) -> Result<Vec<Script<'a>>, RunFailure> {
    let mut scripts = Vec::with_capacity(pending.len());
    let mut refusals = Vec::new();
    for migration in pending {
        match migration.script() {
            Ok(script) => scripts.push(script),
            Err(more) => refusals.extend(more),
        }
    }
    if refusals.is_empty() {
        Ok(scripts)
    } else {
        Err(refused(refusals))
    }
}

fn planned(applied: usize, scripts: &[Script<'_>]) -> RunEvent {
    RunEvent::Planned {
        applied,
        pending: scripts
            .iter()
            .map(|script| PlannedScript {
                file: script.path.to_owned(),
                version: script.name.version().map(ToString::to_string),
                description: script.name.description.clone(),
                statements: script.statements.len(),
                bytes: script.text.len() as u64,
                in_transaction: script.mode != Mode::Bare,
            })
            .collect(),
        warnings: scripts
            .iter()
            .flat_map(|script| script.warnings.clone())
            .collect(),
    }
}

impl AppliedScript {
    fn finished(&self) -> RunEvent {
        RunEvent::ScriptFinished {
            file: self.file.clone(),
            installed_rank: self.installed_rank,
            elapsed_ms: self.elapsed_ms,
            rows: self.rows,
        }
    }
}

/// What a run knows of its place in the server.
pub(crate) struct Seat {
    schema: String,
    table: HistoryTable,
    lock_id: i64,
    installed_by: String,
    /// The statement that takes the role that scripts run as.
    role: String,
    connected: RunEvent,
}

impl Seat {
    async fn take<S: ScriptSession>(
        session: &mut S,
        options: &RunOptions,
    ) -> Result<Self, RunFailure> {
        let role = match &options.role {
            Some(role) => format!("SET ROLE {}", Identifier(role)),
            None => "RESET ROLE".to_owned(),
        };
        run_own(session, &role, "take the role that scripts run as").await?;
        // The splitter reads strings by the standard's rules; the server must do the same.
        let strings = "SET standard_conforming_strings = on";
        run_own(session, strings, "prepare the session").await?;
        let facts = session
            .query(
                "SELECT pg_catalog.current_schema()::text, current_user::text,                  pg_catalog.current_database()::text, pg_catalog.current_setting('server_version')",
                &[],
            )
            .await
            .map_err(|error| RunFailure::server("look around in the database", &error))?;
        let mut facts = facts.into_iter().flatten();
        let mut fact = || facts.next().flatten();
        let (schema, user, database, server_version) = (fact(), fact(), fact(), fact());
        let user = user.unwrap_or_default();
        let Some(schema) = schema else {
            return Err(refused(vec![Refusal::new(
                RefusalCode::SchemaDoesNotExist,
                format!("no schema of the search path exists, or {user:?} may not use it"),
                "Create the schema and grant USAGE and CREATE on it, or correct the role's search_path.",
            )]));
        };
        Ok(Self {
            table: HistoryTable::of(&schema),
            lock_id: lock_id(&schema, HISTORY_TABLE),
            installed_by: options.installed_by.clone().unwrap_or_else(|| user.clone()),
            role,
            connected: RunEvent::Connected {
                server_version: server_version.unwrap_or_default(),
                database: database.unwrap_or_default(),
                schema: schema.clone(),
                user,
            },
            schema,
        })
    }

    async fn take_role<S: ScriptSession>(&self, session: &mut S) -> Result<(), RunFailure> {
        let sql = format!(
            "RESET SESSION AUTHORIZATION;
{}",
            self.role
        );
        run_own(session, &sql, "take the role that scripts run as").await
    }

    /// Puts the session back to its beginnings. `DISCARD ALL` would give up the migration lock.
    fn reset(&self, after: &Script<'_>) -> Vec<String> {
        let mut statements: Vec<String> = ["RESET SESSION AUTHORIZATION", "RESET ALL", &self.role]
            .into_iter()
            .chain([
                "SET standard_conforming_strings = on",
                "CLOSE ALL",
                "UNLISTEN *",
                "DISCARD TEMP",
                "DISCARD SEQUENCES",
            ])
            .map(str::to_owned)
            .collect();
        let prepared = |statement: &crate::Statement| statement.class == StatementClass::Prepare;
        if after.statements.iter().any(prepared) {
            statements.push("DEALLOCATE ALL".to_owned());
        }
        statements
    }
}

async fn run_own<S: ScriptSession>(
    session: &mut S,
    sql: &str,
    doing: &str,
) -> Result<(), RunFailure> {
    session
        .execute_batch(sql)
        .await
        .map(drop)
        .map_err(|interrupted| RunFailure::server(doing, &interrupted.error))
}
