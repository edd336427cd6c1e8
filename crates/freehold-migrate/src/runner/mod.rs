//! Runs a bundle's pending migrations over one session.
//!
//! The order of things: read the files; take Flyway's lock; read the history once; compare; refuse
//! everything that can be refused before anything runs; then one script after the other, each in a
//! transaction together with its history row where the engine can. Between two scripts the session
//! is put back to its beginnings, so that no script sees what an earlier one left in it.
//!
//! Killed at any moment, the next run continues where the history ends, or finds a row that says that
//! a script was not finished. Two runs at once: the lock lets one wait; where there is no lock, or it
//! was given up for a moment, a run that finds its rank taken looks at the history again; and were
//! all of that to fail, the history's primary key would let only one of two transactions commit.
//!
//! Not here: who may run what, and the credential's life; see the operation that starts the runner.

mod callbacks;
mod claim;
mod event;
mod execute;
mod failure;
mod history_table;
mod lock;
mod message;
mod seat;
mod status;

use std::{sync::Arc, time::Instant};

use freehold_engine::{Fault, ScriptSession, SessionCanceller};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use event::{LockHolder, Observer, PlannedScript, RunEvent};
pub use failure::{RunFailure, StatementFailure};
pub use lock::{lock_id, lock_name};
pub use status::{Status, status};

use crate::{
    Bundle, CallbackEvent, Dialect, HISTORY_TABLE, HistoryRow, Migration, Migrations, Mode,
    PlanOptions, Refusal, RefusalCode, Script, Settings, plan,
};
use execute::{Execution, Outcome};
use seat::{Between, Seat};

/// How a run goes about its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RunOptions {
    pub plan: PlanOptions,
    /// The role that scripts run as, and that owns what they make. None: the login's own. SQLite has
    /// no roles.
    pub role: Option<String>,
    /// Whom the history names. None: as Flyway has it, the role, in MySQL the login, in SQLite nobody.
    pub installed_by: Option<String>,
    /// How often to try for the lock, once a second; a project may ask for more or less.
    pub lock_attempts: u32,
    /// The value of `${flyway:environment}`.
    pub environment: Option<String>,
    /// The value of `${flyway:timestamp}`, in UTC.
    pub started_at: Option<Timestamp>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            plan: PlanOptions::default(),
            role: None,
            installed_by: None,
            // Flyway's lockRetryCount.
            lock_attempts: 50,
            environment: None,
            started_at: None,
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

/// Runs migrations over a session.
pub struct Migrator<'s, S> {
    session: &'s mut S,
    dialect: Dialect,
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
    /// `dialect` is what the session's server speaks.
    pub fn new(dialect: Dialect, session: &'s mut S, options: RunOptions) -> Self {
        let (sender, receiver) = watch::channel(false);
        Self {
            session,
            dialect,
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
        check_engine(self.dialect, bundle)?;
        let settings = bundle.settings();
        self.options.plan = self.options.plan.within(settings);
        if let Some(attempts) = settings.lock_retry_count {
            self.options.lock_attempts = attempts;
        }
        let installed_by = settings.installed_by.clone();
        self.options.installed_by = self.options.installed_by.take().or(installed_by);
        let seat = Seat::take(self.session, self.dialect, &self.options).await?;
        let values = seat.values(settings, &self.options);
        let migrations = Migrations::resolve_with(bundle, &values).map_err(refused)?;
        observer.observe(seat.connected.clone()).await;
        self.take_lock(&seat, observer).await?;
        let mut report = RunReport {
            schema: seat.schema.clone(),
            ..RunReport::default()
        };
        let result = loop {
            match self
                .run_locked(&seat, settings, &migrations, &mut report, observer)
                .await
            {
                Ok(Pass::Overtaken) => {}
                Ok(Pass::Finished) => break Ok(report),
                Err(failure) => break Err(failure),
            }
        };
        let is_gone = matches!(&result, Err(failure) if failure.is_disconnection());
        if !is_gone {
            if result.is_err() {
                let after = CallbackEvent::AfterMigrateError;
                self.call_after_failure(&seat, &migrations, after, observer)
                    .await;
                self.tell_history(&seat, observer).await;
            }
            lock::release(self.session, &seat.lock).await;
        }
        result
    }

    async fn take_lock(
        &mut self,
        seat: &Seat,
        observer: &mut impl Observer,
    ) -> Result<(), RunFailure> {
        let attempts = self.options.lock_attempts;
        lock::take(self.session, &seat.lock, attempts, &self.stop, observer).await
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
        settings: &Settings,
        migrations: &Migrations<'_>,
        report: &mut RunReport,
        observer: &mut impl Observer,
    ) -> Result<Pass, RunFailure> {
        let (mut rows, exists) = self.history(seat, settings, report, observer).await?;
        self.call(seat, migrations, CallbackEvent::BeforeValidate, observer)
            .await?;
        let plan = plan(migrations, &mut rows, &self.options.plan);
        if !plan.refusals.is_empty() {
            let after = CallbackEvent::AfterValidateError;
            self.call_after_failure(seat, migrations, after, observer)
                .await;
            return Err(refused(plan.refusals));
        }
        let scripts = load(&plan.pending)?;
        let around = Around::of(migrations)?;
        self.call(seat, migrations, CallbackEvent::AfterValidate, observer)
            .await?;
        if !exists {
            self.make_history(seat, report, observer).await?;
        }
        let applied = plan
            .status
            .iter()
            .filter(|entry| entry.installed_rank.is_some())
            .count();
        observer.observe(planned(applied, &scripts)).await;
        self.call(seat, migrations, CallbackEvent::BeforeMigrate, observer)
            .await?;
        let mut before: Option<&Script<'_>> = None;
        for (index, script) in scripts.iter().enumerate() {
            self.stop.check(None)?;
            let is_turn = script.is_repeatable() && before.is_none_or(|b| !b.is_repeatable());
            if is_turn {
                self.turn_to_repeatables(seat, migrations, before.is_some(), observer)
                    .await?;
            }
            // The lock keeps others from adding ranks.
            let rank = plan.last_rank + 1 + i32::try_from(index).unwrap_or(i32::MAX);
            let Some(reset) = self.freshen(seat, before, rank, observer).await? else {
                return Ok(Pass::Overtaken);
            };
            before = Some(script);
            let started = RunEvent::ScriptStarted {
                file: script.path.to_owned(),
                number: index + 1,
                of: scripts.len(),
            };
            observer.observe(started).await;
            let turn = Turn {
                script,
                around: &around,
                reset: &reset,
                rank,
                is_first: report.applied.is_empty(),
            };
            let Some(applied) = self.run_script(seat, migrations, turn, observer).await? else {
                return Ok(Pass::Overtaken);
            };
            observer.observe(applied.finished()).await;
            report.applied.push(applied);
        }
        if before.is_some_and(|last| !last.is_repeatable()) {
            self.call(seat, migrations, CallbackEvent::AfterVersioned, observer)
                .await?;
        }
        if !report.applied.is_empty() {
            let event = CallbackEvent::AfterMigrateApplied;
            self.call(seat, migrations, event, observer).await?;
        }
        self.call(seat, migrations, CallbackEvent::AfterMigrate, observer)
            .await?;
        report.history = seat.table.read(self.session).await?.unwrap_or_default();
        Ok(Pass::Finished)
    }

    async fn turn_to_repeatables(
        &mut self,
        seat: &Seat,
        migrations: &Migrations<'_>,
        ran_versioned: bool,
        observer: &mut impl Observer,
    ) -> Result<(), RunFailure> {
        if ran_versioned {
            self.call(seat, migrations, CallbackEvent::AfterVersioned, observer)
                .await?;
        }
        self.call(seat, migrations, CallbackEvent::BeforeRepeatables, observer)
            .await
    }

    async fn make_history(
        &mut self,
        seat: &Seat,
        report: &mut RunReport,
        observer: &mut impl Observer,
    ) -> Result<(), RunFailure> {
        let sql = seat.table.creation(&seat.server_version);
        let attempts = self.options.lock_attempts;
        let made = lock::when_free(self.session, &sql, attempts, &self.stop, observer).await;
        let Err(error) = made else {
            report.history_created = true;
            let table = seat.table.qualified();
            observer.observe(RunEvent::HistoryCreated { table }).await;
            return Ok(());
        };
        let _ = self.session.execute("ROLLBACK").await;
        self.stop.check(None)?;
        if matches!(error.fault, Fault::Busy { .. }) {
            return Err(RunFailure::Locked {
                holders: Vec::new(),
            });
        }
        Err(RunFailure::server(
            "make the migration history table",
            &error,
        ))
    }

    /// Makes the session as good as new after a script, or gives the statements that do so. None:
    /// somebody else has migrated in the meantime.
    async fn freshen(
        &mut self,
        seat: &Seat,
        before: Option<&Script<'_>>,
        rank: i32,
        observer: &mut impl Observer,
    ) -> Result<Option<Vec<String>>, RunFailure> {
        match before.map_or(Between::Nothing, |before| seat.between(before)) {
            Between::Nothing => Ok(Some(Vec::new())),
            Between::Statements(statements) => Ok(Some(statements)),
            Between::Reset { drops } => {
                seat.reset(self.session, &drops).await?;
                if lock::is_held(self.session, &seat.lock).await? {
                    return Ok(Some(Vec::new()));
                }
                self.take_lock(seat, observer).await?;
                let is_next = seat.table.is_next(self.session, rank).await?;
                Ok(is_next.then(Vec::new))
            }
        }
    }

    /// None: somebody else has migrated in the meantime, and the script did not run.
    async fn run_script(
        &mut self,
        seat: &Seat,
        migrations: &Migrations<'_>,
        turn: Turn<'_>,
        observer: &mut impl Observer,
    ) -> Result<Option<AppliedScript>, RunFailure> {
        let started = Instant::now();
        let Turn { script, rank, .. } = turn;
        let execution = Execution::of(self.session, seat, &self.stop, observer, turn);
        let outcome = Box::pin(execution.run(self.options.lock_attempts)).await;
        let rows = match outcome {
            Ok(Outcome::Done { rows }) => rows,
            Ok(Outcome::Overtaken) => return Ok(None),
            Err(failure) => {
                let after = CallbackEvent::AfterEachMigrateError;
                if !failure.is_disconnection() {
                    self.call_after_failure(seat, migrations, after, observer)
                        .await;
                }
                return Err(failure);
            }
        };
        Ok(Some(AppliedScript {
            file: script.path.to_owned(),
            version: script.name.version().map(ToString::to_string),
            installed_rank: rank,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            rows,
        }))
    }

    /// The history's rows, and whether its table is there. Without it the schema must be empty, unless
    /// the project takes what is there for its baseline.
    async fn history(
        &mut self,
        seat: &Seat,
        settings: &Settings,
        report: &mut RunReport,
        observer: &mut impl Observer,
    ) -> Result<(Vec<HistoryRow>, bool), RunFailure> {
        let found = seat.table.read(self.session).await?;
        if let Some(rows) = found.as_ref().filter(|rows| !rows.is_empty()) {
            return Ok((rows.clone(), true));
        }
        // A run that was killed between the table and its baseline left an empty table.
        if found.is_some() && !settings.baseline_on_migrate {
            return Ok((Vec::new(), true));
        }
        if seat.table.schema_is_empty(self.session).await? {
            return Ok((Vec::new(), found.is_some()));
        }
        // Somebody may have made it between the two looks, where no lock keeps them out.
        if let Some(rows) = seat.table.read(self.session).await?
            && (found.is_none() || !rows.is_empty())
        {
            return Ok((rows, true));
        }
        if !settings.baseline_on_migrate {
            return Err(refused(vec![non_empty(&seat.schema)]));
        }
        if found.is_none() {
            self.make_history(seat, report, observer).await?;
        }
        let row = seat.table.insert_baseline(
            1,
            settings.baseline_version.as_str(),
            &settings.baseline_description,
            &seat.installed_by,
        );
        run_own(self.session, &row, "record the baseline").await?;
        let rows = seat.table.read(self.session).await?;
        Ok((rows.unwrap_or_default(), true))
    }
}

/// One script when it is its turn.
#[derive(Clone, Copy)]
struct Turn<'r> {
    script: &'r Script<'r>,
    /// What runs before and after each script.
    around: &'r Around<'r>,
    /// What puts the session back to what a new one has, before the script.
    reset: &'r [String],
    rank: i32,
    /// Whether this run has applied nothing yet.
    is_first: bool,
}

/// The callbacks around each script.
#[derive(Default)]
struct Around<'m> {
    before: Vec<Script<'m>>,
    after: Vec<Script<'m>>,
}

impl<'m> Around<'m> {
    fn of(migrations: &'m Migrations<'_>) -> Result<Self, RunFailure> {
        Ok(Self {
            before: load(&callbacks::of(migrations, CallbackEvent::BeforeEachMigrate))?,
            after: load(&callbacks::of(migrations, CallbackEvent::AfterEachMigrate))?,
        })
    }

    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// How one look at the history, and what followed from it, ended.
enum Pass {
    Finished,
    /// Somebody else has migrated since: look again.
    Overtaken,
}

fn check_engine(dialect: Dialect, bundle: &Bundle) -> Result<(), RunFailure> {
    if bundle.dialect() == dialect {
        return Ok(());
    }
    Err(refused(vec![Refusal::new(
        RefusalCode::OtherEngine,
        format!(
            "the bundle was packed for {}, and the database speaks {dialect}",
            bundle.dialect()
        ),
        "Pack the folder again for the database's engine; check that its scripts are meant for it.",
    )]))
}

fn non_empty(schema: &str) -> Refusal {
    Refusal::new(
        RefusalCode::NonEmptySchemaWithoutSchemaHistoryTable,
        format!(
            "the schema {schema:?} holds objects already, and no migration history ({HISTORY_TABLE})"
        ),
        "If it is what the scripts up to some version would make, say so in the folder's flyway.toml: baselineOnMigrate = true, baselineVersion = \"…\". Else start from an empty schema.",
    )
}

fn refused(refusals: Vec<Refusal>) -> RunFailure {
    RunFailure::Refused { refusals }
}

/// Cuts every pending script before the first one runs.
fn load<'m>(pending: &[&'m Migration<'_>]) -> Result<Vec<Script<'m>>, RunFailure> {
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
