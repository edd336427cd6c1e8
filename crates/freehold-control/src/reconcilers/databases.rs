//! Compares every placed database with what is declared, and repairs or reports.
//!
//! One round groups the databases by instance. Each instance is surveyed once (a query per catalog
//! tells about all its databases), then its databases that are due are visited, at most two at
//! once. Instances go side by side, so that a dead one delays nobody.
//!
//! A database is due when something about it was declared since it was last visited, or when the
//! drift interval has passed. Every visit is a pass: exclusive, fenced, and over as soon as an
//! operation claims the database.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use freehold_engine::{Fault, LoginState, Survey};
use freehold_model::{
    ConditionStatus, Kind, ResourceKey, Result, Uid,
    kinds::{Access, Database, Instance},
};
use freehold_store::{Batch, Range};
use freehold_workflow::{NewOperation, Pass, PassError};
use futures::{StreamExt, stream};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Rhythm, lanes::Lanes};
use crate::{
    converge::{Acting, Beginning, Converged, NOT_MADE},
    credentials::batch_of,
    engines::Connected,
    operations::{Provision, ProvisionState},
    start::Control,
    trouble::Trouble,
    world::World,
};

const ACTOR: &str = "reconcile-database";
const DATABASES_AT_ONCE: usize = 2;
/// A visit that takes longer is given up; the next round tries again.
const VISIT_LIMIT: Duration = Duration::from_secs(120);

/// What was true at the last visit: visits are repeated when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    generation: u64,
    class_generation: u64,
    closed: bool,
    accesses: Vec<(Uid, u64, bool, bool)>,
}

#[derive(Debug, Clone)]
struct Visited {
    at: Instant,
    fingerprint: Fingerprint,
    trouble: bool,
    /// The server knows later epochs than the store has given out: the store is older than it was.
    /// Each further pass would raise the epoch by one, until it overtakes the fence; so there is
    /// none before this server is started again, as it is after `freehold admin restore`.
    fenced: bool,
}

type Visits = Mutex<HashMap<Uid, Visited>>;

pub(crate) async fn run(control: &Control, shutdown: CancellationToken) {
    let visits = Arc::new(Visits::default());
    let mut rhythm = Rhythm::new(control);
    let limit = control
        .options
        .reconcile_interval
        .min(control.options.trouble_pause);
    loop {
        let began = rhythm.begin();
        if let Err(error) = round(control, &visits, &mut rhythm.lanes).await {
            tracing::warn!(%error, "a round over the databases was cut short");
        }
        if !rhythm.pause(began, limit, &shutdown).await {
            break;
        }
    }
    rhythm.lanes.stop().await;
}

/// One database that is due, with what made it so.
struct Due {
    key: ResourceKey,
    uid: Uid,
    fingerprint: Fingerprint,
}

async fn round(control: &Control, visits: &Arc<Visits>, lanes: &mut Lanes) -> Result<()> {
    let databases: Vec<Database> = control.records.all(Kind::Database, Range::All).await?;
    let accesses: Vec<Access> = control.records.all(Kind::Access, Range::All).await?;
    let classes: Vec<freehold_model::kinds::Class> =
        control.records.all(Kind::Class, Range::All).await?;
    let classes: HashMap<String, u64> = classes
        .iter()
        .map(|class| (class.key().store_key(), class.metadata.generation))
        .collect();
    let mut by_database: HashMap<String, Vec<&Access>> = HashMap::new();
    for access in &accesses {
        let key = ResourceKey {
            name: access.spec.database.clone(),
            ..access.key()
        };
        by_database.entry(key.store_key()).or_default().push(access);
    }
    let mut by_instance: HashMap<Uid, Vec<Due>> = HashMap::new();
    let mut visited = visits.lock().await;
    for database in &databases {
        let Some(uid) = database.metadata.uid else {
            continue;
        };
        let placement = database
            .status
            .as_ref()
            .and_then(|status| status.placement.as_ref());
        let of = by_database.get(&database.key().store_key());
        let fingerprint = fingerprint(control, database, of, &classes);
        let Some(placement) = placement else {
            enqueue_provision(control, database).await;
            continue;
        };
        if is_due(control, visited.get(&uid), &fingerprint) {
            let due = Due {
                key: database.key(),
                uid,
                fingerprint,
            };
            by_instance
                .entry(placement.instance_uid)
                .or_default()
                .push(due);
        }
    }
    let there: HashSet<Uid> = databases.iter().filter_map(|d| d.metadata.uid).collect();
    visited.retain(|uid, _| there.contains(uid));
    drop(visited);
    for (instance, due) in by_instance {
        if lanes.is_busy(instance) {
            continue;
        }
        let (control, visits) = (control.clone(), visits.clone());
        lanes.start(instance, async move {
            if let Err(error) = visit_instance(&control, &visits, instance, due).await {
                tracing::warn!(%instance, %error, "an instance's databases could not be visited");
            }
        });
    }
    Ok(())
}

fn fingerprint(
    control: &Control,
    database: &Database,
    accesses: Option<&Vec<&Access>>,
    classes: &HashMap<String, u64>,
) -> Fingerprint {
    let now = control.clock.now();
    let class = ResourceKey {
        kind: Kind::Class,
        team: None,
        name: database.spec.class.clone(),
        ..database.key()
    };
    let mut accesses: Vec<_> = accesses
        .into_iter()
        .flatten()
        .filter_map(|access| {
            let going = access.metadata.deletion_timestamp.is_some();
            let expired = access.spec.expires_at.is_some_and(|end| end <= now);
            Some((
                access.metadata.uid?,
                access.metadata.generation,
                going,
                expired,
            ))
        })
        .collect();
    accesses.sort();
    let quarantined = database
        .status
        .as_ref()
        .is_some_and(|status| status.quarantine.is_some());
    Fingerprint {
        generation: database.metadata.generation,
        class_generation: classes.get(&class.store_key()).copied().unwrap_or_default(),
        closed: quarantined || database.metadata.deletion_timestamp.is_some(),
        accesses,
    }
}

fn is_due(control: &Control, visited: Option<&Visited>, fingerprint: &Fingerprint) -> bool {
    let Some(visited) = visited else { return true };
    if visited.fenced {
        return false;
    }
    let rest = if visited.trouble {
        control.options.trouble_pause
    } else {
        control.options.drift_interval
    };
    visited.fingerprint != *fingerprint || visited.at.elapsed() >= rest
}

/// A database that is not placed and that no operation holds gets its operation: its first one was
/// cancelled, or failed and the manifest has been changed since.
async fn enqueue_provision(control: &Control, database: &Database) {
    let metadata = &database.metadata;
    let observed = database
        .status
        .as_ref()
        .map_or(0, |status| status.observed_generation);
    let (Some(uid), true) = (metadata.uid, observed < metadata.generation) else {
        return;
    };
    let cancelled = database.status.as_ref().is_some_and(|status| {
        let ready = status.conditions.get(freehold_model::ConditionType::Ready);
        ready.is_some_and(|c| {
            c.reason == "Cancelled" && c.observed_generation == metadata.generation
        })
    });
    if cancelled || metadata.deletion_timestamp.is_some() {
        return;
    }
    match control.operations.holder(uid).await {
        Ok(None) => {}
        Ok(Some(_)) | Err(_) => return,
    }
    let operation = Provision {
        control: control.clone(),
    };
    let first = ProvisionState::Place;
    let new = NewOperation::of(&operation, &first, database.key(), uid, "freehold");
    let asked = async {
        control
            .operations
            .submit(Batch::new(), control.operations.request(&new?).await?)
            .await
    };
    if let Err(error) = asked.await {
        tracing::debug!(database = %database.key(), %error, "no operation was started");
    }
}

async fn visit_instance(
    control: &Control,
    visits: &Visits,
    instance: Uid,
    due: Vec<Due>,
) -> Result<()> {
    let found: Option<Instance> = control.records.by_uid(Kind::Instance, instance).await?;
    let Some(instance) = found else { return Ok(()) };
    let span = super::pass("visit databases", &instance);
    let visits = visit_databases(control, visits, &instance, due);
    visits.instrument(span).await;
    Ok(())
}

async fn visit_databases(control: &Control, visits: &Visits, instance: &Instance, due: Vec<Due>) {
    let surveyed = survey(control, instance).await;
    if let Err(trouble) = &surveyed {
        control.engines.note(instance, trouble).await;
    }
    let surveyed = &surveyed;
    stream::iter(due)
        .for_each_concurrent(DATABASES_AT_ONCE, |due| async move {
            let span = super::part("visit database", &due.key);
            let visit = visit(control, instance, surveyed, &due).instrument(span);
            let mut fenced = false;
            let trouble = match tokio::time::timeout(VISIT_LIMIT, visit).await {
                Ok(Ok(Visit::Done { trouble })) => trouble,
                Ok(Ok(Visit::Fenced)) => {
                    fenced = true;
                    true
                }
                // Somebody else is at work on it: it is looked at again in the next round.
                Ok(Ok(Visit::Busy)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(database = %due.key, %error, "a database could not be visited");
                    true
                }
                Err(_) => true,
            };
            let visited = Visited {
                at: Instant::now(),
                fingerprint: due.fingerprint,
                trouble,
                fenced,
            };
            visits.lock().await.insert(due.uid, visited);
        })
        .await;
}

async fn survey(control: &Control, instance: &Instance) -> Result<(Connected, Survey), Trouble> {
    let connected = control.engines.connect(instance).await?;
    let survey = connected.engine.survey().await?;
    Ok((connected, survey))
}

enum Visit {
    Busy,
    Done {
        trouble: bool,
    },
    /// Refused by the server's fence while the store still grants us the target.
    Fenced,
}

async fn visit(
    control: &Control,
    instance: &Instance,
    surveyed: &Result<(Connected, Survey), Trouble>,
    due: &Due,
) -> Result<Visit> {
    let pass = control
        .claims
        .pass(due.uid, ACTOR)
        .await
        .map_err(crate::records::store_error)?;
    let Some(pass) = pass else {
        return Ok(Visit::Busy);
    };
    let done = visit_under(control, instance, surveyed, due, &pass).await;
    pass.finish().await;
    done
}

async fn visit_under(
    control: &Control,
    instance: &Instance,
    surveyed: &Result<(Connected, Survey), Trouble>,
    due: &Due,
    pass: &Pass,
) -> Result<Visit> {
    let read = World::read(&control.records, &control.credentials, &due.key).await?;
    let Some(mut world) = read.filter(|world| world.database.metadata.uid == Some(due.uid)) else {
        return Ok(Visit::Done { trouble: false });
    };
    let on = world
        .database
        .status
        .as_ref()
        .and_then(|s| s.placement.as_ref());
    let provisioned = world.database.status.as_ref().is_some_and(|status| {
        let made = status
            .conditions
            .get(freehold_model::ConditionType::Provisioned);
        made.is_some_and(|made| made.status == ConditionStatus::True || made.reason == NOT_MADE)
    });
    if on.map(|p| p.instance_uid) != instance.metadata.uid || !provisioned {
        return Ok(Visit::Done { trouble: false });
    }
    if let Some(write) = control.credentials.complete(&mut world)? {
        // Saved before it is used; read back so that the etag is the new one.
        if !saved(pass, batch_of([write])).await? {
            return Ok(Visit::Busy);
        }
        world.credentials = control.credentials.read(due.uid).await?;
    }
    let outcome = match surveyed {
        Ok((connected, survey)) => {
            // Unique to this pass: a server refuses the same epoch from somebody else, who can only
            // have it from an old copy of the store.
            let nonce = Uid::generate(control.clock.now(), &*control.entropy);
            let actor = format!("{ACTOR}/{nonce}");
            let acting = Acting {
                epoch: pass.epoch(),
                actor: &actor,
                gate: pass.gate(),
                survey: Some(survey),
            };
            match control.begin_repair(&world, connected, &acting).await {
                Ok(Beginning::Agrees(converged)) => {
                    return told(control, pass, &world, instance, Ok(converged)).await;
                }
                Ok(Beginning::Drift(begun)) => {
                    if !saved(pass, begun).await? {
                        return Ok(Visit::Busy);
                    }
                    let read = World::read(&control.records, &control.credentials, &due.key);
                    let Some(begun) = read.await? else {
                        return Ok(Visit::Busy);
                    };
                    world = begun;
                }
                Ok(Beginning::Unsaid) => {}
                Err(trouble) => return told(control, pass, &world, instance, Err(trouble)).await,
            }
            control
                .converge(&world, connected, LoginState::Disabled, &acting)
                .await
        }
        Err(trouble) => Err(again(trouble)),
    };
    told(control, pass, &world, instance, outcome).await
}

/// Saves what came of a visit.
async fn told(
    control: &Control,
    pass: &Pass,
    world: &World,
    instance: &Instance,
    outcome: Result<Converged, Trouble>,
) -> Result<Visit> {
    if let Err(trouble) = &outcome {
        control.engines.note(instance, trouble).await;
    }
    let trouble = outcome.is_err();
    let fenced = matches!(&outcome, Err(Trouble::Engine(error)) if matches!(error.fault, Fault::Fenced { .. }));
    let batch = control.outcome_writes(world, instance, &outcome)?;
    if !batch.writes.is_empty() && !saved(pass, batch).await? {
        return Ok(Visit::Busy);
    }
    // A save that is empty still demands the lease.
    if fenced && saved(pass, Batch::new()).await? {
        return Ok(Visit::Fenced);
    }
    Ok(Visit::Done { trouble })
}

/// False when the target is not this pass's any more, or somebody changed what was read: the next
/// round looks again.
async fn saved(pass: &Pass, batch: Batch) -> Result<bool> {
    match pass.save(batch).await {
        Ok(_) => Ok(true),
        Err(PassError::Lost) => Ok(false),
        Err(PassError::Store(error)) if error.is_conflict() => Ok(false),
        Err(PassError::Store(error)) => Err(crate::records::store_error(error)),
    }
}

/// The survey's trouble is the trouble of each database on the instance.
fn again(trouble: &Trouble) -> Trouble {
    match trouble {
        Trouble::Engine(error) => Trouble::Engine(freehold_engine::EngineError::new(
            error.fault.clone(),
            error.doing.clone(),
        )),
        Trouble::Control(error) => {
            let again = freehold_model::Error::new(error.code, error.message.clone());
            Trouble::Control(match &error.hint {
                Some(hint) => again.hint(hint.clone()),
                None => again,
            })
        }
    }
}
