//! Looks at every server: starts local ones, notes version, identity, size, and whether it answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use freehold_engine::InstanceFacts;
use freehold_model::{
    ConditionStatus, ConditionType, Kind, Result, ServerIdentity, Uid,
    kinds::{Instance, InstanceStatus},
};
use freehold_store::Range;
use jiff::Timestamp;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Rhythm, lanes::Lanes};
use crate::{
    engines::Connected,
    start::Control,
    trouble::{Trouble, explain},
};

/// A look that takes longer counts as not having seen the server.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// When each instance was looked at last by this server, and at which generation.
type Looked = Mutex<HashMap<Uid, (Instant, u64)>>;

pub(crate) async fn run(control: &Control, shutdown: CancellationToken) {
    let looked = Looked::default();
    let mut rhythm = Rhythm::new(control);
    let limit = control.options.reconcile_interval;
    loop {
        let began = rhythm.begin();
        if let Err(error) = round(control, &looked, &mut rhythm.lanes).await {
            tracing::warn!(%error, "a round over the instances was cut short");
        }
        if !rhythm.pause(began, limit, &shutdown).await {
            break;
        }
    }
    rhythm.lanes.stop().await;
}

async fn round(control: &Control, looked: &Looked, lanes: &mut Lanes) -> Result<()> {
    // A local server is made for an instance that is saved: listed in this order, a new one is never
    // taken for one whose instance is gone.
    let local_servers = control.engines.local_servers();
    let instances: Vec<Instance> = control.records.all(Kind::Instance, Range::All).await?;
    let instances: Arc<[Instance]> = instances.into();
    for uid in local_servers {
        if !instances.iter().any(|it| it.metadata.uid == Some(uid)) {
            control.engines.stop_local(uid).await;
        }
    }
    for instance in &*instances {
        let Some(uid) = instance.metadata.uid else {
            continue;
        };
        if lanes.is_busy(uid) || !due(control, looked, instance).await {
            continue;
        }
        let (control, instance) = (control.clone(), instance.clone());
        let all = instances.clone();
        let span = super::pass("look at instance", &instance);
        let look = async move {
            if let Err(error) = look(&control, &instance, &all).await {
                let name = &instance.metadata.name;
                tracing::warn!(instance = %name, %error, "an instance's status could not be saved");
            }
        };
        lanes.start(uid, look.instrument(span));
    }
    Ok(())
}

async fn due(control: &Control, looked: &Looked, instance: &Instance) -> bool {
    let Some(uid) = instance.metadata.uid else {
        return false;
    };
    let generation = instance.metadata.generation;
    let mut looked = looked.lock().await;
    let fresh = looked.get(&uid).is_some_and(|(at, seen)| {
        *seen == generation && at.elapsed() < control.options.reconcile_interval
    });
    if !fresh {
        looked.insert(uid, (Instant::now(), generation));
    }
    !fresh
}

async fn look(control: &Control, instance: &Instance, all: &[Instance]) -> Result<()> {
    let seen = tokio::time::timeout(LOOK_LIMIT, inspect(control, instance)).await;
    let seen = seen.unwrap_or_else(|_| {
        let detail = format!("no answer within {} s", LOOK_LIMIT.as_secs());
        let fault = freehold_engine::Fault::Unreachable { detail };
        Err(Trouble::Engine(freehold_engine::EngineError::new(
            fault,
            "inspect the server",
        )))
    });
    match (&seen, instance.metadata.uid) {
        (Err(trouble), _) => control.engines.note(instance, trouble).await,
        // Connections to another server must not outlive its answering at this address.
        (Ok((facts, _)), Some(uid)) if is_another(instance, facts) => {
            control.engines.forget(uid).await;
        }
        (Ok(_), _) => {}
    }
    let now = control.clock.now();
    let refresh = control.options.drift_interval;
    control
        .records
        .update::<_, _>(&instance.key(), |live: &mut Instance, _| {
            if live.metadata.uid != instance.metadata.uid {
                return false;
            }
            let before = live.status.clone();
            tell(live, &seen, all, now);
            worth_saving(before.as_ref(), live.status.as_ref(), refresh)
        })
        .await
        .map(|_| ())
}

/// Whether another server answers than the one that was registered.
fn is_another(instance: &Instance, facts: &InstanceFacts) -> bool {
    let status = instance.status.as_ref();
    let known = status.and_then(|status| status.server_identity.as_ref());
    known.is_some_and(|known| facts.identity.as_ref() != Some(known))
}

async fn inspect(
    control: &Control,
    instance: &Instance,
) -> Result<(InstanceFacts, Connected), Trouble> {
    let connected = control.engines.connect(instance).await?;
    let facts = connected.engine.inspect().await?;
    Ok((facts, connected))
}

fn tell(
    instance: &mut Instance,
    seen: &Result<(InstanceFacts, Connected), Trouble>,
    all: &[Instance],
    now: Timestamp,
) {
    let generation = instance.metadata.generation;
    let before = instance
        .status
        .as_ref()
        .and_then(|status| status.server_identity.clone());
    let (word, reason, message) = match seen {
        Ok((facts, _)) => {
            let identity = facts.identity.as_ref();
            let elder = identity.and_then(|identity| elder_twin(instance, identity, all));
            judge(facts, before.as_ref(), elder)
        }
        Err(trouble) => explain(trouble),
    };
    let status = instance.status.get_or_insert_default();
    status.observed_generation = generation;
    if let (Ok((facts, connected)), ConditionStatus::True) = (seen, word) {
        note_facts(status, facts, connected, now);
    }
    for kind in [ConditionType::Reachable, ConditionType::Ready] {
        status
            .conditions
            .set(kind, word, reason, message.clone(), now, generation);
    }
}

/// The instance of the same environment that was registered before this one and is the same server by
/// its identity: another address of it, or a physical copy. The younger one is not used, because its
/// room would be counted twice and nobody can tell whose databases its copies are.
///
/// Instances of different environments may share a server: their databases carry the environment in
/// name and stamp.
fn elder_twin<'a>(
    instance: &Instance,
    identity: &ServerIdentity,
    all: &'a [Instance],
) -> Option<&'a Instance> {
    all.iter().find(|other| {
        other.metadata.environment == instance.metadata.environment
            && other.metadata.uid < instance.metadata.uid
            && other.metadata.deletion_timestamp.is_none()
            && other
                .status
                .as_ref()
                .is_some_and(|status| status.server_identity.as_ref() == Some(identity))
    })
}

/// Whether what was seen can be worked with.
fn judge(
    facts: &InstanceFacts,
    known: Option<&ServerIdentity>,
    elder: Option<&Instance>,
) -> (ConditionStatus, &'static str, String) {
    if let Some(known) = known.filter(|known| facts.identity.as_ref() != Some(known)) {
        let now = facts.identity.as_ref();
        let now = now.map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let message = format!(
            "The server's identity is {now}; it was {known}. It looks like another server or a \
             restored copy. Point the instance at the original, or register this server as a new \
             instance."
        );
        return (ConditionStatus::False, "ServerMismatch", message);
    }
    if let Some(elder) = elder {
        let message = format!(
            "The server has the identity of instance {}: it is the same server at another address, \
             or a physical copy of it. Nothing is placed here. Delete one of the two instances, or \
             load a dump of the data into a newly initialised server and register that.",
            elder.metadata.name
        );
        return (ConditionStatus::False, "SameServer", message);
    }
    if facts.read_only {
        let message = "The server takes no writes. Point the instance at the primary.".to_owned();
        return (ConditionStatus::False, "ServerReadOnly", message);
    }
    if !facts.missing_rights.is_empty() {
        let missing = facts.missing_rights.join("; ");
        let message = format!("The admin login lacks rights: {missing}.");
        return (ConditionStatus::False, "AdminLacksRight", message);
    }
    (ConditionStatus::True, "Answering", String::new())
}

fn note_facts(
    status: &mut InstanceStatus,
    facts: &InstanceFacts,
    connected: &Connected,
    now: Timestamp,
) {
    status.version = Some(facts.version.clone());
    status.server_identity.clone_from(&facts.identity);
    status.address = Some(connected.reach.address());
    status.observed_at = Some(now);
    status.databases = Some(facts.databases);
    status.size_bytes = Some(facts.size_bytes);
    status.connections = Some(facts.connections);
    status.connections_max = facts.connections_max;
    status.settings.clone_from(&facts.settings);
    status.extensions_available = Some(facts.extensions_available.iter().cloned().collect());
}

/// Sizes move all the time: they are saved when something else changed, or now and then.
fn worth_saving(
    before: Option<&InstanceStatus>,
    after: Option<&InstanceStatus>,
    refresh: Duration,
) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return true;
    };
    let strip = |status: &InstanceStatus| InstanceStatus {
        observed_at: None,
        size_bytes: None,
        connections: None,
        databases: None,
        ..status.clone()
    };
    if strip(before) != strip(after) {
        return true;
    }
    match (before.observed_at, after.observed_at) {
        (Some(before), Some(after)) => {
            after.duration_since(before).as_secs_f64() >= refresh.as_secs_f64() / 4.0
        }
        (before, after) => before != after,
    }
}
