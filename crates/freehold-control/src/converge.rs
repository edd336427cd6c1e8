//! Making one database's server agree with what is declared: the piece that the provision operation
//! and the databases reconciler share.

mod evidence;

use freehold_engine::{ConvergeMode, DesiredDatabase, Fence, LoginState, Survey};
use freehold_model::{
    Condition, ConditionStatus, ConditionType, Conditions, Gate, Result,
    kinds::{Access, Database, DatabaseStatus, Difference, Instance, Manage},
};
use freehold_store::{Batch, Write};
use jiff::Timestamp;

pub(crate) use self::evidence::in_quarantine;
use self::evidence::{Evidence, set_access, set_evidence};
use crate::{
    credentials::CredentialSet,
    engines::Connected,
    records,
    start::Control,
    trouble::{Trouble, explain},
    world::{World, owner},
};

/// What a convergence found and did.
#[derive(Debug)]
pub(crate) struct Converged {
    pub(crate) differences: Vec<Difference>,
    /// Everything was to be repaired, not only looked at.
    pub(crate) applied: bool,
    pub(crate) finished_at: Timestamp,
    /// By the survey, where there was one and it could tell.
    pub(crate) size_bytes: Option<u64>,
}

/// How a pass begins on a database that was as declared when it was looked at last.
pub(crate) enum Beginning {
    /// It still is: the look was the whole pass.
    Agrees(Converged),
    /// It has drifted; saved before anything is repaired.
    Drift(Batch),
    /// Nothing to say beforehand: a declaration is applied for the first time, or it is only
    /// observed, or it was said already.
    Unsaid,
}

/// Who converges, under which fence, and what is known already.
pub(crate) struct Acting<'a> {
    pub(crate) epoch: u64,
    pub(crate) actor: &'a str,
    pub(crate) gate: &'a Gate,
    pub(crate) survey: Option<&'a Survey>,
}

impl Control {
    pub(crate) fn fence(&self, epoch: u64, actor: &str) -> Fence {
        Fence {
            epoch: epoch + self.identity.epoch_offset,
            actor: actor.to_owned(),
        }
    }

    /// How the server should look for `world` now.
    pub(crate) fn desired(&self, world: &World, migrator: LoginState) -> Result<DesiredDatabase> {
        let state = world.state();
        world.desired(
            self.identity.id,
            state,
            migrator,
            &self.credentials,
            &*self.clock,
        )
    }

    /// Compares and, unless the database is only observed, repairs; then takes retired logins out
    /// of use. The credentials in `world` must have been saved.
    pub(crate) async fn converge(
        &self,
        world: &World,
        connected: &Connected,
        migrator: LoginState,
        acting: &Acting<'_>,
    ) -> Result<Converged, Trouble> {
        let mode = match world.database.spec.manage {
            Manage::Apply => ConvergeMode::Apply,
            Manage::Observe => ConvergeMode::Observe,
        };
        self.converge_in(mode, world, connected, migrator, acting)
            .await
    }

    /// The same, where the work itself says how much may be changed.
    pub(crate) async fn converge_in(
        &self,
        mode: ConvergeMode,
        world: &World,
        connected: &Connected,
        migrator: LoginState,
        acting: &Acting<'_>,
    ) -> Result<Converged, Trouble> {
        let desired = self.desired(world, migrator)?;
        let fence = self.fence(acting.epoch, acting.actor);
        let engine = &connected.engine;
        let differences = engine
            .converge(&desired, mode, acting.survey, &fence, acting.gate)
            .await?;
        let mut differences = with_begun(world, differences);
        differences.extend(oversize(world, &desired.name, acting.survey));
        let retired = &world.credentials.retired;
        if !retired.is_empty() && mode == ConvergeMode::Apply {
            let name = &desired.name;
            engine
                .disable_logins(name, &desired.stamp, retired, &fence, acting.gate)
                .await?;
        }
        Ok(Converged {
            differences,
            applied: mode == ConvergeMode::Apply,
            finished_at: self.clock.now(),
            size_bytes: size_of(&desired.name, acting.survey),
        })
    }

    /// Looks before a repair and gives what it is about to change, to be saved before anything is
    /// changed: a repair whose worker is killed stands in the log all the same.
    pub(crate) async fn begin_repair(
        &self,
        world: &World,
        connected: &Connected,
        acting: &Acting<'_>,
    ) -> Result<Beginning, Trouble> {
        self.begin_repair_beside(None, world, connected, acting)
            .await
    }

    /// The same for an operation whose own business a login is: how that one is found is no drift.
    pub(crate) async fn begin_repair_beside(
        &self,
        login: Option<&str>,
        world: &World,
        connected: &Connected,
        acting: &Acting<'_>,
    ) -> Result<Beginning, Trouble> {
        let status = world.database.status.as_ref();
        let provisioned =
            status.is_some_and(|status| status.conditions.is_true(ConditionType::Provisioned));
        let begun = status.is_some_and(|status| is_begun(&status.conditions));
        let apply = world.database.spec.manage == Manage::Apply;
        if !apply || !provisioned || begun || !is_settled(world) {
            return Ok(Beginning::Unsaid);
        }
        let desired = self.desired(world, LoginState::Disabled)?;
        let fence = self.fence(acting.epoch, acting.actor);
        let (mode, engine) = (ConvergeMode::Observe, &connected.engine);
        let mut found = engine
            .converge(&desired, mode, acting.survey, &fence, acting.gate)
            .await?;
        found.retain(|found| login.is_none_or(|login| !is_about(found, login)));
        found.extend(oversize(world, &desired.name, acting.survey));
        if found.is_empty() && world.credentials.retired.is_empty() {
            return Ok(Beginning::Agrees(Converged {
                differences: Vec::new(),
                applied: true,
                finished_at: self.clock.now(),
                size_bytes: size_of(&desired.name, acting.survey),
            }));
        }
        let known = status.map_or(&[][..], |status| &status.drift);
        // What is known and could not be repaired is tried again without a word.
        if found.iter().all(|found| {
            known
                .iter()
                .any(|known| !known.repaired && known.key == found.key)
        }) {
            return Ok(Beginning::Unsaid);
        }
        let mut database = world.database.clone();
        let (now, generation) = (self.clock.now(), database.metadata.generation);
        let status = database.status.get_or_insert_default();
        let message = found.iter().map(|d| d.message.as_str());
        let message = message.collect::<Vec<_>>().join("; ");
        let (kind, yes) = (ConditionType::Drifted, ConditionStatus::True);
        let conditions = &mut status.conditions;
        conditions.set(kind, yes, REPAIRING, message, now, generation);
        status.drift = found;
        Ok(Beginning::Drift(Batch {
            writes: vec![records::put(&database)?],
            ..Batch::new()
        }))
    }

    /// The records that tell the outcome: database and access statuses, published credentials,
    /// accesses whose deletion is done. `world` is as it was read for the convergence.
    pub(crate) fn outcome_writes(
        &self,
        world: &World,
        instance: &Instance,
        outcome: &Result<Converged, Trouble>,
    ) -> Result<Batch> {
        self.outcome_writes_with(world, instance, outcome, |_| ())
    }

    /// The same, with what else the caller has to say of the database.
    pub(crate) fn outcome_writes_with(
        &self,
        world: &World,
        instance: &Instance,
        outcome: &Result<Converged, Trouble>,
        also: impl FnOnce(&mut Database),
    ) -> Result<Batch> {
        let mut batch = Batch::new();
        let now = self.clock.now();
        let applied = outcome.as_ref().is_ok_and(|converged| converged.applied);
        let held = world.credentials.accesses.values();
        let evidence = Evidence::new(
            outcome.as_ref().map_or(&[][..], |c| &c.differences),
            held,
            &world.credentials.migrator_login,
        );
        let mut credentials = world.credentials.clone();
        if applied && credentials.publish(now, |held| evidence.against_login(held).is_empty()) {
            let uid = owner(&world.database)?.uid;
            batch
                .writes
                .push(self.credentials.write(uid, &credentials)?);
        }
        for access in &world.accesses {
            if applied && access.metadata.deletion_timestamp.is_some() {
                batch.writes.push(records::remove(access)?);
            } else if let Some(write) = access_write(access, &credentials, outcome, &evidence, now)?
            {
                batch.writes.push(write);
            }
        }
        let mut database = world.database.clone();
        set_database_status(&mut database, world, instance, outcome, now);
        if outcome.is_ok() {
            set_evidence(&mut database, world, &credentials, &evidence, now);
        }
        also(&mut database);
        if worth_saving(&world.database, &database, self.options.drift_interval) {
            let first = became_usable(&world.database, &database);
            if let Some(seconds) = first {
                let key = database.key();
                let event = crate::journal::ProductEvent::RequestToUsable {
                    database: key,
                    seconds,
                };
                batch.writes.push(self.journal.product_event(&event));
            }
            batch.writes.push(records::put(&database)?);
        }
        for entry in self.repair_entries(world, outcome) {
            batch.writes.push(entry);
        }
        Ok(batch)
    }

    /// Each repair of drift is a change that nobody asked for by hand, so it stands in the log.
    fn repair_entries(&self, world: &World, outcome: &Result<Converged, Trouble>) -> Vec<Write> {
        let Ok(converged) = outcome else {
            return Vec::new();
        };
        let was_ready = world
            .database
            .status
            .as_ref()
            .is_some_and(|status| status.conditions.is_true(ConditionType::Provisioned));
        let settled = was_ready && is_settled(world);
        let repaired: Vec<&Difference> = converged
            .differences
            .iter()
            .filter(|d| d.repaired)
            .collect();
        if repaired.is_empty() || !settled {
            return Vec::new();
        }
        let mut entry = self.journal.internal("drift.repair", &world.database.key());
        entry.details = serde_json::json!({ "differences": repaired });
        vec![self.journal.write(&entry)]
    }
}

/// What the database takes on the server.
fn size_of(name: &str, survey: Option<&Survey>) -> Option<u64> {
    let mut surveyed = survey?.databases.iter();
    surveyed.find(|found| found.name == name)?.size_bytes
}

/// Nothing keeps a database from growing beyond what it was promised, so it is told. The message names no
/// size: it would be another one with every look.
fn oversize(world: &World, name: &str, survey: Option<&Survey>) -> Option<Difference> {
    let placement = world.database.status.as_ref()?.placement.as_ref()?;
    let promised = placement.load.storage_mib;
    let size = size_of(name, survey)?;
    let beyond = promised > 0 && size > promised.saturating_mul(1024 * 1024);
    beyond.then(|| Difference {
        key: format!("database.size:{name}"),
        message: format!(
            "The database takes more than the {promised} MiB that it was promised (`load.storageMib`)."
        ),
        repaired: false,
    })
}

/// The reason of `Provisioned` and `Ready` of a database that a server does not have yet.
pub(crate) const NOT_MADE: &str = "NotMade";

/// The reason of `Drifted` from before the first effect of a repair until its outcome is saved.
const REPAIRING: &str = "Repairing";

fn is_begun(conditions: &Conditions) -> bool {
    conditions
        .get(ConditionType::Drifted)
        .is_some_and(|condition| condition.reason == REPAIRING)
}

/// Whether a difference is a login's own, or what it holds.
pub(crate) fn is_about(found: &Difference, login: &str) -> bool {
    found.key.split(':').skip(1).any(|part| part == login)
}

/// Adds what a repair had begun with and what is not different any more: it was repaired, perhaps
/// by a worker that was not heard of again.
fn with_begun(world: &World, mut differences: Vec<Difference>) -> Vec<Difference> {
    let status = world.database.status.as_ref();
    let Some(status) = status.filter(|status| is_begun(&status.conditions)) else {
        return differences;
    };
    for begun in &status.drift {
        if !differences.iter().any(|found| found.key == begun.key) {
            differences.push(Difference {
                repaired: true,
                ..begun.clone()
            });
        }
    }
    differences
}

/// Whether everything declared had been brought to the server before: a difference found now is
/// drift and not the first application of a change.
fn is_settled(world: &World) -> bool {
    let database = &world.database;
    let observed = database
        .status
        .as_ref()
        .map_or(0, |status| status.observed_generation);
    observed == database.metadata.generation
        && world.accesses.iter().all(|access| {
            let observed = access
                .status
                .as_ref()
                .map_or(0, |status| status.observed_generation);
            observed == access.metadata.generation && access.metadata.deletion_timestamp.is_none()
        })
}

fn access_write(
    access: &Access,
    credentials: &CredentialSet,
    outcome: &Result<Converged, Trouble>,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Result<Option<Write>> {
    let mut changed = access.clone();
    let generation = access.metadata.generation;
    let status = changed.status.get_or_insert_default();
    let held = access
        .metadata
        .uid
        .and_then(|uid| credentials.accesses.get(&uid));
    if let Some(held) = held {
        status.login = Some(held.login(held.active).to_owned());
        status.active_slot = Some(held.active);
    }
    let conditions = &mut status.conditions;
    let expired = access.spec.expires_at.is_some_and(|end| end <= now);
    match outcome {
        Ok(_) => {
            status.observed_generation = generation;
            if expired {
                let message = "The access has run out; its logins are disabled.";
                for kind in [ConditionType::Ready, ConditionType::CredentialsPublished] {
                    conditions.set(
                        kind,
                        ConditionStatus::False,
                        "Expired",
                        message,
                        now,
                        generation,
                    );
                }
            } else {
                set_access(access, held, conditions, evidence, now);
            }
        }
        Err(trouble) => {
            let (status, reason, message) = explain(trouble);
            conditions.set(
                ConditionType::AccessSynced,
                status,
                reason,
                message.clone(),
                now,
                generation,
            );
            conditions.set(
                ConditionType::Ready,
                status,
                reason,
                message,
                now,
                generation,
            );
        }
    }
    if access.status == changed.status {
        return Ok(None);
    }
    records::put(&changed).map(Some)
}

fn set_database_status(
    database: &mut Database,
    world: &World,
    instance: &Instance,
    outcome: &Result<Converged, Trouble>,
    now: Timestamp,
) {
    let generation = database.metadata.generation;
    let created = database.metadata.creation_timestamp;
    let closed = world.state() == freehold_engine::DesiredState::Closed;
    let settled = is_settled(world);
    let status = database.status.get_or_insert_default();
    match outcome {
        Ok(converged) => {
            status.observed_generation = generation;
            status.checked_at = Some(converged.finished_at);
            status.size_bytes = converged.size_bytes.or(status.size_bytes);
            // What a first application or a change of the declaration brings about is no drift.
            status.drift = converged
                .differences
                .iter()
                .filter(|difference| settled || !difference.repaired)
                .cloned()
                .collect();
            let open = status.drift.iter().filter(|d| !d.repaired).count();
            set_drift(
                &mut status.conditions,
                &status.drift,
                settled,
                open,
                now,
                generation,
            );
            let conditions = &mut status.conditions;
            let set = |conditions: &mut Conditions, kind, reason: &str| {
                conditions.set(kind, ConditionStatus::True, reason, "", now, generation);
            };
            if closed {
                // A look at what is closed keeps the word that closing it gave.
                let (reason, message) = match &status.quarantine {
                    Some(quarantine) => ("Quarantined", in_quarantine(quarantine)),
                    None => {
                        let message =
                            "Connections are refused. `freehold undelete` opens it again.";
                        ("Closed", message.to_owned())
                    }
                };
                let (kind, no) = (ConditionType::Ready, ConditionStatus::False);
                conditions.set(kind, no, reason, message, now, generation);
            } else {
                set(conditions, ConditionType::Ready, "Usable");
                if status.request_to_usable_seconds.is_none() {
                    status.request_to_usable_seconds = created.map(|at| seconds_between(at, now));
                }
            }
        }
        Err(trouble) => {
            let (word, reason, message) = explain(trouble);
            let was = status.conditions.is_true(ConditionType::Provisioned);
            let message = format!("On instance {}: {message}", instance.metadata.name);
            if !was {
                let kind = ConditionType::Provisioned;
                status
                    .conditions
                    .set(kind, word, reason, message.clone(), now, generation);
            }
            let kind = ConditionType::Ready;
            status
                .conditions
                .set(kind, word, reason, message, now, generation);
        }
    }
}

fn set_drift(
    conditions: &mut Conditions,
    drift: &[Difference],
    settled: bool,
    open: usize,
    now: Timestamp,
    generation: u64,
) {
    let kind = ConditionType::Drifted;
    let list = || {
        drift
            .iter()
            .map(|d| d.message.as_str())
            .collect::<Vec<_>>()
            .join("; ")
    };
    if open > 0 {
        conditions.set(
            kind,
            ConditionStatus::True,
            "DifferencesFound",
            list(),
            now,
            generation,
        );
    } else if !drift.is_empty() && settled {
        let message = format!("Found and repaired: {}", list());
        conditions.set(
            kind,
            ConditionStatus::False,
            "Repaired",
            message,
            now,
            generation,
        );
    } else {
        let quiet = conditions
            .get(kind)
            .is_some_and(|c: &Condition| c.reason == "Repaired");
        if !quiet {
            conditions.set(
                kind,
                ConditionStatus::False,
                "InAgreement",
                "",
                now,
                generation,
            );
        }
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// A status is saved when it says something new, or when its last check was saved long ago: ten
/// thousand databases in agreement cost few writes.
fn worth_saving(before: &Database, after: &Database, interval: std::time::Duration) -> bool {
    let strip = |database: &Database| {
        let mut status: DatabaseStatus = database.status.clone().unwrap_or_default();
        status.checked_at = None;
        // It moves all the time: it is saved when something else changed, or now and then.
        status.size_bytes = None;
        status
    };
    if strip(before) != strip(after) {
        return true;
    }
    let at = |database: &Database| {
        database
            .status
            .as_ref()
            .and_then(|status| status.checked_at)
    };
    match (at(before), at(after)) {
        (Some(before), Some(after)) => {
            seconds_between(before, after) >= interval.as_secs_f64() / 2.0
        }
        (before, after) => before != after,
    }
}

/// Seconds from request to use, when this is the moment.
fn became_usable(before: &Database, after: &Database) -> Option<f64> {
    let of = |database: &Database| {
        database
            .status
            .as_ref()
            .and_then(|status| status.request_to_usable_seconds)
    };
    if of(before).is_none() {
        of(after)
    } else {
        None
    }
}
