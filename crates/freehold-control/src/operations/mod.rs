//! One-shot work on databases. Each file is one [`freehold_workflow::Operation`] whose states read
//! from top to bottom as the story of the work.

mod close;
mod migrate;
pub(crate) mod placing;
mod provision;
mod reopen;
mod runner;

use freehold_engine::Fault;
use freehold_model::{Code, ConditionStatus, ConditionType, Error, Result, kinds::Database};
use freehold_store::{CollectionSpec, StoreHandle};
use freehold_workflow::{Runner, StepContext, StepError};

pub(crate) use close::{Close, CloseState};
pub(crate) use migrate::{HISTORIES, Migrate, MigrateState, RecordedHistory};
pub(crate) use provision::{Provision, ProvisionState};
pub(crate) use reopen::{Reopen, ReopenState};

use crate::{
    records::{own_collection, store_error},
    start::Control,
    trouble::{self, Trouble},
    world::World,
};

/// Collections that belong to operations.
pub(crate) async fn define(store: &StoreHandle) -> Result<()> {
    for name in [
        placing::ALLOCATIONS,
        migrate::HISTORIES,
        crate::verbs::bundles::BUNDLES,
    ] {
        let spec = CollectionSpec {
            name: own_collection(name),
            indexes: vec![],
        };
        store.define(spec).await.map_err(store_error)?;
    }
    let chunks = own_collection(crate::verbs::bundles::CHUNKS);
    store
        .define(CollectionSpec {
            name: chunks,
            indexes: vec![],
        })
        .await
        .map_err(store_error)
}

pub(crate) fn register(runner: Runner, control: &Control) -> Runner {
    runner
        .register(Provision {
            control: control.clone(),
        })
        .register(Migrate {
            control: control.clone(),
        })
        .register(Close {
            control: control.clone(),
        })
        .register(Reopen {
            control: control.clone(),
        })
}

/// Reads the operation's database with its surroundings, and makes sure that it is the very one that
/// the operation was requested for.
async fn world(control: &Control, step: &StepContext) -> Result<World, StepError> {
    let read = World::read(&control.records, &control.credentials, &step.target).await;
    let world = read.map_err(from_control)?;
    match world {
        Some(world) if world.database.metadata.uid == Some(step.target_uid) => Ok(world),
        _ => Err(StepError::failed(format!(
            "{} is not there any more",
            step.target
        ))),
    }
}

/// What a control error means to an operation.
fn from_control(error: Error) -> StepError {
    if error.is_retryable() || error.code == Code::Conflict {
        return StepError::retry(error.message.clone()).because(error);
    }
    let hint = error.hint.clone().unwrap_or_else(|| {
        "Correct it and run `freehold operation resume` on this operation.".to_owned()
    });
    StepError::needs_attention(error.message.clone(), hint).because(error)
}

/// What a server's trouble means to an operation; the database's condition tells it too.
async fn from_trouble(
    control: &Control,
    step: &StepContext,
    kind: ConditionType,
    trouble: Trouble,
) -> StepError {
    let (status, reason, message) = trouble::explain(&trouble);
    tell(control, step, kind, status, reason, &message).await;
    match trouble {
        Trouble::Control(error) => from_control(error),
        Trouble::Engine(error) if matches!(error.fault, Fault::Fenced { .. }) => {
            if still_ours(control, step).await {
                let hint = trouble::next_step(&error.fault);
                StepError::needs_attention(error.to_string(), hint).because(error)
            } else {
                StepError::Lost
            }
        }
        Trouble::Engine(error) if error.is_retryable() => {
            StepError::retry(error.to_string()).because(error)
        }
        Trouble::Engine(error) => {
            let hint = trouble::next_step(&error.fault);
            StepError::needs_attention(error.to_string(), hint).because(error)
        }
    }
}

/// Whether the store still grants us the target. When it does and a server has seen a higher epoch,
/// the store is older than the server.
async fn still_ours(control: &Control, step: &StepContext) -> bool {
    let batch = freehold_store::Batch::new().require(step.fence());
    control.store.apply(batch).await.is_ok()
}

/// Sets `kind` and `Ready` of the database while the operation is in trouble. A courtesy to whoever
/// watches: failing to say it changes nothing.
async fn tell(
    control: &Control,
    step: &StepContext,
    kind: ConditionType,
    status: ConditionStatus,
    reason: &str,
    message: &str,
) {
    let now = control.clock.now();
    let fence = step.fence();
    let told = control
        .records
        .update::<_, _>(&step.target, |database: &mut Database, batch| {
            if database.metadata.uid != Some(step.target_uid) {
                return false;
            }
            batch.preconditions.push(fence.clone());
            let generation = database.metadata.generation;
            let before = database.status.clone();
            let conditions = &mut database.status.get_or_insert_default().conditions;
            for kind in [kind, ConditionType::Ready] {
                conditions.set(kind, status, reason, message, now, generation);
            }
            database.status != before
        })
        .await;
    if let Err(error) = told {
        tracing::debug!(target = %step.target, %error, "a condition could not be told");
    }
}
