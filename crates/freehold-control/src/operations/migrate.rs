//! Running a bundle of migrations on a database, in a process of its own.
//!
//! The runner process holds the bundle and a credential that exists only while the operation runs.
//! That credential is also the fence: before a runner is started, the migrator's login is disabled
//! and its sessions are ended, and then it gets a new password, so that a runner of an earlier
//! worker, wherever it may still be, is cut off.

use freehold_engine::{ConvergeMode, DesiredState, LoginState};
use freehold_migrate::HistoryRow;
use freehold_model::{
    BundleDigest, ConditionStatus, ConditionType, Secret, Uid,
    kinds::{Database, Instance, Manage, MigrationStatus},
};
use freehold_store::{Batch, PutMode, Value, Write};
use freehold_workflow::{Cancel, Next, Operation, StepContext, StepError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    from_control, from_trouble,
    provision::placed_on,
    runner::{self, RunTrouble},
    world,
};
use crate::{
    converge::{Acting, Beginning, Converged, is_about},
    credentials::batch_of,
    records::{own_collection, store_error, uid_key},
    secrets::{Place, Sealed, generate_password},
    start::Control,
    trouble::Trouble,
    world::World,
};

pub(crate) const HISTORIES: &str = "migration_histories";

pub(crate) struct Migrate {
    pub(crate) control: Control,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub(crate) enum MigrateState {
    /// Cut off any earlier runner and choose a password.
    Prepare { bundle: BundleDigest },
    /// Let the migrator log in with it.
    Open {
        bundle: BundleDigest,
        password: Sealed,
    },
    /// Run the bundle. Another worker than the one that entered this state prepares again.
    Run {
        bundle: BundleDigest,
        password: Sealed,
        epoch: u64,
    },
    /// Shut the migrator out again, whatever the outcome.
    Close {
        bundle: BundleDigest,
        outcome: MigrateOutcome,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub(crate) enum MigrateOutcome {
    #[serde(rename_all = "camelCase")]
    Succeeded {
        applied: u32,
        version: Option<String>,
        history: Vec<HistoryRow>,
    },
    /// The message names file, line and the server's words.
    Failed {
        message: String,
        /// With the scripts that finished before.
        #[serde(default)]
        history: Vec<HistoryRow>,
    },
    Cancelled,
}

/// The history of a database as the last run left it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedHistory {
    pub(crate) bundle: BundleDigest,
    pub(crate) at: Timestamp,
    pub(crate) rows: Vec<HistoryRow>,
}

impl Operation for Migrate {
    const VERB: &'static str = "migrate";
    type State = MigrateState;

    fn state_name(&self, state: &MigrateState) -> &'static str {
        match state {
            MigrateState::Prepare { .. } => "Prepare",
            MigrateState::Open { .. } => "Open",
            MigrateState::Run { .. } => "Run",
            MigrateState::Close { .. } => "Close",
        }
    }

    async fn step(
        &self,
        step: &StepContext,
        state: MigrateState,
    ) -> Result<Next<MigrateState>, StepError> {
        let world = world(&self.control, step).await?;
        match state {
            MigrateState::Prepare { bundle } => self.prepare(step, &world, bundle).await,
            MigrateState::Open { bundle, password } => {
                self.open(step, &world, bundle, password).await
            }
            MigrateState::Run {
                bundle,
                password,
                epoch,
            } => self.run(step, &world, bundle, password, epoch).await,
            MigrateState::Close { bundle, outcome } => {
                self.close(step, &world, bundle, outcome).await
            }
        }
    }

    fn cancel(&self, state: MigrateState) -> Cancel<MigrateState> {
        match state {
            MigrateState::Prepare { bundle }
            | MigrateState::Open { bundle, .. }
            | MigrateState::Run { bundle, .. }
            | MigrateState::Close {
                bundle,
                outcome: MigrateOutcome::Cancelled,
            } => Cancel::Undo(MigrateState::Close {
                bundle,
                outcome: MigrateOutcome::Cancelled,
            }),
            MigrateState::Close { .. } => Cancel::Refuse {
                reason: "The scripts have run; only tidying up is left.".to_owned(),
            },
        }
    }

    /// A migration may take as long as it takes; it can be cancelled.
    fn step_timeout(&self, state: &MigrateState) -> Option<std::time::Duration> {
        matches!(state, MigrateState::Run { .. })
            .then_some(std::time::Duration::from_secs(7 * 24 * 3600))
    }
}

impl Migrate {
    async fn prepare(
        &self,
        step: &StepContext,
        world: &World,
        bundle: BundleDigest,
    ) -> Result<Next<MigrateState>, StepError> {
        if world.state() == DesiredState::Closed {
            return Err(StepError::failed("the database is closed"));
        }
        let also = match self.set_migrator(step, world, LoginState::Disabled).await? {
            Set::First(batch, why) => {
                return Ok(Next::go(MigrateState::Prepare { bundle }, why).also(batch));
            }
            Set::Done(set) => set.writes(&self.control, world)?,
        };
        let password = generate_password(&*self.control.entropy);
        let password = self.control.sealer.seal(&place(step), &password);
        let state = MigrateState::Open { bundle, password };
        let message = "earlier runners are cut off; a new credential is chosen";
        Ok(Next::go(state, message).also(also))
    }

    async fn open(
        &self,
        step: &StepContext,
        world: &World,
        bundle: BundleDigest,
        password: Sealed,
    ) -> Result<Next<MigrateState>, StepError> {
        let opened = self
            .control
            .sealer
            .open(&place(step), &password)
            .map_err(from_control)?;
        let state = LoginState::Enabled {
            password: opened,
            valid_until: None,
        };
        let also = match self.set_migrator(step, world, state).await? {
            Set::First(batch, why) => {
                return Ok(Next::go(MigrateState::Open { bundle, password }, why).also(batch));
            }
            Set::Done(set) => set.writes(&self.control, world)?,
        };
        let state = MigrateState::Run {
            bundle,
            password,
            epoch: step.epoch,
        };
        Ok(Next::go(state, "the migrator may log in").also(also))
    }

    async fn run(
        &self,
        step: &StepContext,
        world: &World,
        bundle: BundleDigest,
        password: Sealed,
        epoch: u64,
    ) -> Result<Next<MigrateState>, StepError> {
        if epoch != step.epoch || step.attempts > 0 {
            let state = MigrateState::Prepare { bundle };
            return Ok(Next::go(
                state,
                "the runner was lost; a new one is prepared",
            ));
        }
        let password = self
            .control
            .sealer
            .open(&place(step), &password)
            .map_err(from_control)?;
        let ran = self.run_bundle(step, world, &bundle, password).await;
        let outcome = match ran {
            Ok(outcome) => outcome,
            Err(RunTrouble::Refused { message, history }) => {
                MigrateOutcome::Failed { message, history }
            }
            Err(RunTrouble::Cancelled) => MigrateOutcome::Cancelled,
            Err(RunTrouble::Lost(message)) => return Err(StepError::retry(message)),
            Err(RunTrouble::Server(trouble)) => {
                let kind = ConditionType::MigrationsApplied;
                return Err(from_trouble(&self.control, step, kind, trouble).await);
            }
        };
        let message = match &outcome {
            MigrateOutcome::Succeeded { applied, .. } => format!("{applied} scripts were applied"),
            MigrateOutcome::Failed { message, .. } => message.clone(),
            MigrateOutcome::Cancelled => "the runner was stopped".to_owned(),
        };
        Ok(Next::go(MigrateState::Close { bundle, outcome }, message))
    }

    async fn run_bundle(
        &self,
        step: &StepContext,
        world: &World,
        bundle: &BundleDigest,
        password: Secret,
    ) -> Result<MigrateOutcome, RunTrouble> {
        let control = &self.control;
        let instance = placed_on(control, world).await.map_err(Trouble::Control)?;
        let connected = control.engines.connect(&instance).await?;
        let bytes = control
            .bundle_bytes(bundle)
            .await
            .map_err(Trouble::Control)?;
        let name = world.server_name().map_err(Trouble::Control)?;
        let login = &world.credentials.migrator_login;
        let target = connected.reach.runner(name, login, password)?;
        step.gate
            .before("run migrations")
            .await
            .map_err(|fault| lost(&fault))?;
        let outcome = runner::run(control, step, target, bundle, bytes).await?;
        step.gate
            .after("run migrations")
            .await
            .map_err(|fault| lost(&fault))?;
        Ok(outcome)
    }

    async fn close(
        &self,
        step: &StepContext,
        world: &World,
        bundle: BundleDigest,
        outcome: MigrateOutcome,
    ) -> Result<Next<MigrateState>, StepError> {
        let set = match self.set_migrator(step, world, LoginState::Disabled).await? {
            Set::First(batch, why) => {
                return Ok(Next::go(MigrateState::Close { bundle, outcome }, why).also(batch));
            }
            Set::Done(set) => set,
        };
        let also = self
            .records(step, world, &bundle, &outcome, &set)
            .map_err(from_control)?;
        Ok(match outcome {
            MigrateOutcome::Succeeded {
                applied, version, ..
            } => {
                let output = serde_json::json!({ "applied": applied, "version": version });
                let at = version.unwrap_or_else(|| "no version".to_owned());
                Next::done(
                    output,
                    format!("{applied} scripts applied; the database is at {at}"),
                )
            }
            MigrateOutcome::Failed { message, .. } => Next::fail(message),
            MigrateOutcome::Cancelled => {
                let message = "cancelled; scripts that had finished stay applied";
                Next::done(serde_json::Value::Null, message)
            }
        }
        .also(also))
    }

    /// What remains of the run: history, status and audit entry.
    fn records(
        &self,
        step: &StepContext,
        world: &World,
        bundle: &BundleDigest,
        outcome: &MigrateOutcome,
        set: &MigratorSet,
    ) -> freehold_model::Result<Batch> {
        let control = &self.control;
        let now = control.clock.now();
        let mut batch =
            control.outcome_writes_with(world, &set.instance, &set.converged, |database| {
                note_status(database, bundle, outcome, now);
            })?;
        let mut entry = control.journal.internal("database.migrate", &step.target);
        entry.operation = Some(step.id);
        entry.reason = format!("requested by {}", step.requested_by);
        entry.details = serde_json::json!({ "bundle": bundle });
        entry.outcome = match outcome {
            MigrateOutcome::Succeeded { .. } => freehold_audit::Outcome::Succeeded,
            MigrateOutcome::Failed { .. } | MigrateOutcome::Cancelled => {
                let code = freehold_model::Code::FailedPrecondition;
                freehold_audit::Outcome::Failed { code }
            }
        };
        batch.writes.push(control.journal.write(&entry));
        let history = match outcome {
            MigrateOutcome::Succeeded { history, .. } | MigrateOutcome::Failed { history, .. } => {
                history.as_slice()
            }
            MigrateOutcome::Cancelled => &[],
        };
        if !history.is_empty() {
            let rows = history.to_vec();
            let history = RecordedHistory {
                bundle: bundle.clone(),
                at: now,
                rows,
            };
            batch.writes.push(history_write(step.target_uid, &history)?);
        }
        Ok(batch)
    }

    /// Opens or shuts the migrator's door. The rest of the database converges with it, so that
    /// tables a script has made get their grants; of a database that is only observed, nothing else
    /// is touched. What is repaired on the way is drift as any other: it is told before and after.
    async fn set_migrator(
        &self,
        step: &StepContext,
        world: &World,
        migrator: LoginState,
    ) -> Result<Set, StepError> {
        let mut completed = world.clone();
        let missing = self.control.credentials.complete(&mut completed);
        if let Some(write) = missing.map_err(from_control)? {
            let why = "accesses have changed meanwhile";
            return Ok(Set::First(batch_of([write]), why));
        }
        match self.set_on_server(step, world, migrator).await {
            Ok(set) => Ok(set),
            Err(trouble) => {
                let kind = ConditionType::MigrationsApplied;
                Err(from_trouble(&self.control, step, kind, trouble).await)
            }
        }
    }

    async fn set_on_server(
        &self,
        step: &StepContext,
        world: &World,
        migrator: LoginState,
    ) -> Result<Set, Trouble> {
        let control = &self.control;
        let instance = placed_on(control, world).await?;
        let connected = control.engines.connect(&instance).await?;
        let actor = step.id.to_string();
        let acting = Acting {
            epoch: step.epoch,
            actor: &actor,
            gate: &step.gate,
            survey: None,
        };
        let login = &world.credentials.migrator_login;
        let set = async {
            let begun = control
                .begin_repair_beside(Some(login), world, &connected, &acting)
                .await?;
            if let Beginning::Drift(batch) = begun {
                return Ok(Set::First(batch, "drift was found; it is repaired first"));
            }
            let mode = match world.database.spec.manage {
                Manage::Apply => ConvergeMode::Apply,
                Manage::Observe => ConvergeMode::Migrator,
            };
            let mut converged = control
                .converge_in(mode, world, &connected, migrator, &acting)
                .await?;
            converged
                .differences
                .retain(|found| !found.repaired || !is_about(found, login));
            Ok(Set::Done(Box::new(MigratorSet {
                instance: instance.clone(),
                converged: Ok(converged),
            })))
        };
        let done = set.await;
        if let Err(trouble) = &done {
            control.engines.note(&instance, trouble).await;
        }
        done
    }
}

/// What came of opening or shutting the migrator's door.
enum Set {
    /// Something must be saved before anything is changed; then the step runs again.
    First(Batch, &'static str),
    Done(Box<MigratorSet>),
}

/// How the database was found when its migrator's door was set.
struct MigratorSet {
    instance: Instance,
    /// Always a success; in the form in which outcomes are told.
    converged: Result<Converged, Trouble>,
}

impl MigratorSet {
    fn writes(&self, control: &Control, world: &World) -> Result<Batch, StepError> {
        control
            .outcome_writes(world, &self.instance, &self.converged)
            .map_err(from_control)
    }
}

fn place(step: &StepContext) -> Place {
    Place::new("operations", &step.id.to_string(), "migrator")
}

fn lost(fault: &freehold_model::InjectedFault) -> RunTrouble {
    RunTrouble::Lost(fault.to_string())
}

fn history_write(database: Uid, history: &RecordedHistory) -> freehold_model::Result<Write> {
    Ok(Write::Put {
        collection: own_collection(HISTORIES),
        key: uid_key(database),
        value: Value::encode(history).map_err(store_error)?,
        mode: PutMode::Upsert,
        expires_at: None,
    })
}

fn note_status(
    database: &mut Database,
    bundle: &BundleDigest,
    outcome: &MigrateOutcome,
    now: Timestamp,
) {
    let generation = database.metadata.generation;
    let status = database.status.get_or_insert_default();
    let kind = ConditionType::MigrationsApplied;
    let conditions = &mut status.conditions;
    match outcome {
        MigrateOutcome::Succeeded {
            applied, version, ..
        } => {
            conditions.set(kind, ConditionStatus::True, "Applied", "", now, generation);
            status.migration = Some(MigrationStatus {
                bundle: Some(bundle.clone()),
                version: version.clone(),
                applied: *applied,
                finished_at: Some(now),
            });
        }
        MigrateOutcome::Failed { message, .. } => {
            let no = ConditionStatus::False;
            conditions.set(kind, no, "ScriptFailed", message.clone(), now, generation);
        }
        MigrateOutcome::Cancelled => {
            let message = "The last run was cancelled.";
            let unknown = ConditionStatus::Unknown;
            conditions.set(kind, unknown, "Cancelled", message, now, generation);
        }
    }
}
