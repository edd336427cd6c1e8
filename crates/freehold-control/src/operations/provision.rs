//! From an accepted manifest to a database that a program can use.

use freehold_engine::{ConvergeMode, Fault, LoginState};
use freehold_model::{
    ConditionStatus, ConditionType, Uid,
    kinds::{Database, Instance, Placement},
};
use freehold_plan::naming;
use freehold_store::{Batch, Write};
use freehold_workflow::{Cancel, Next, Operation, StepContext, StepError};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{from_control, from_trouble, placing::Placing, tell, world};
use crate::{
    converge::Acting,
    credentials::batch_of,
    records,
    start::Control,
    trouble::Trouble,
    world::{World, owner},
};

/// How long to wait before looking again for an instance with room. A database that has just been
/// asked for probably waits for an instance that has just been registered; one that has waited for
/// an hour waits for a person.
fn placing_pause(waited: SignedDuration) -> SignedDuration {
    (waited / 10).clamp(SignedDuration::from_secs(1), SignedDuration::from_secs(30))
}

pub(crate) struct Provision {
    pub(crate) control: Control,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub(crate) enum ProvisionState {
    /// Choose an instance and promise room on it.
    Place,
    /// Take the name on the server.
    Reserve { instance: Uid },
    /// Choose logins and passwords and save them.
    Credentials { instance: Uid },
    /// Make it all on the server.
    Create { instance: Uid },
    /// Undo: give the name and the room back.
    GiveUp { instance: Option<Uid> },
}

impl Operation for Provision {
    const VERB: &'static str = "provision";
    type State = ProvisionState;

    fn state_name(&self, state: &ProvisionState) -> &'static str {
        match state {
            ProvisionState::Place => "Place",
            ProvisionState::Reserve { .. } => "Reserve",
            ProvisionState::Credentials { .. } => "Credentials",
            ProvisionState::Create { .. } => "Create",
            ProvisionState::GiveUp { .. } => "GiveUp",
        }
    }

    async fn step(
        &self,
        step: &StepContext,
        state: ProvisionState,
    ) -> Result<Next<ProvisionState>, StepError> {
        let world = world(&self.control, step).await?;
        match state {
            ProvisionState::Place => self.place(step, world).await,
            ProvisionState::Reserve { instance } => self.reserve(step, &world, instance).await,
            ProvisionState::Credentials { instance } => self.credentials(world, instance),
            ProvisionState::Create { instance } => self.create(step, &world, instance).await,
            ProvisionState::GiveUp { instance } => self.give_up(step, &world, instance).await,
        }
    }

    fn cancel(&self, state: ProvisionState) -> Cancel<ProvisionState> {
        match state {
            ProvisionState::Place => Cancel::Undo(ProvisionState::GiveUp { instance: None }),
            ProvisionState::Reserve { instance } | ProvisionState::Credentials { instance } => {
                Cancel::Undo(ProvisionState::GiveUp {
                    instance: Some(instance),
                })
            }
            ProvisionState::Create { .. } => Cancel::Refuse {
                reason: "The database may exist already. Let it finish, then `freehold delete` it."
                    .to_owned(),
            },
            ProvisionState::GiveUp { .. } => Cancel::Refuse {
                reason: "It is being given up already.".to_owned(),
            },
        }
    }
}

impl Provision {
    async fn place(
        &self,
        step: &StepContext,
        world: World,
    ) -> Result<Next<ProvisionState>, StepError> {
        let control = &self.control;
        let mut database = world.database;
        if let Some(placement) = database.status.as_ref().and_then(|s| s.placement.as_ref()) {
            let instance = placement.instance_uid;
            return Ok(Next::go(
                ProvisionState::Reserve { instance },
                "placed already",
            ));
        }
        let key = database.key();
        let (environment, team) = {
            let owner = owner(&database).map_err(from_control)?;
            (owner.environment.clone(), owner.team.clone())
        };
        let placing = control
            .decide_placement(&environment, &team, &database, &world.class)
            .await
            .map_err(from_control)?;
        match placing.promise(&database).map_err(from_control)? {
            None => Ok(self.wait_for_room(step, &database, &placing).await),
            Some((instance, promise)) => {
                let status = database.status.get_or_insert_default();
                let name = naming::database_name(&environment, &team, &key.name);
                status.database_name = Some(name);
                self.promised(step, database, &placing, instance, promise)
            }
        }
    }

    /// Nothing fits: say why and look again, at growing intervals.
    async fn wait_for_room(
        &self,
        step: &StepContext,
        database: &Database,
        placing: &Placing,
    ) -> Next<ProvisionState> {
        let message = placing.decision.summary();
        let (kind, no) = (ConditionType::Placed, ConditionStatus::False);
        tell(&self.control, step, kind, no, "NoCandidate", &message).await;
        let asked = database.metadata.creation_timestamp.unwrap_or(step.now);
        let until = step.now + placing_pause(step.now.duration_since(asked));
        Next::wait(ProvisionState::Place, until, message)
    }

    /// The choice, the promise of room and the database's status, saved together.
    fn promised(
        &self,
        step: &StepContext,
        mut database: Database,
        placing: &Placing,
        instance: &Instance,
        promise: Write,
    ) -> Result<Next<ProvisionState>, StepError> {
        let control = &self.control;
        let summary = placing.decision.summary();
        let now = control.clock.now();
        let generation = database.metadata.generation;
        let Some(instance_uid) = instance.metadata.uid else {
            return Err(StepError::retry("the chosen instance has no uid"));
        };
        let status = database.status.get_or_insert_default();
        status.placement = Some(Placement {
            instance: instance.metadata.name.clone(),
            instance_uid,
            since: now,
            reason: summary.clone(),
            load: placing.request.load,
        });
        let conditions = &mut status.conditions;
        let (kind, yes) = (ConditionType::Placed, ConditionStatus::True);
        conditions.set(kind, yes, "Placed", summary.clone(), now, generation);
        let (kind, no) = (ConditionType::Ready, ConditionStatus::False);
        let message = "The database is being made.";
        conditions.set(kind, no, "Provisioning", message, now, generation);
        let mut entry = control.journal.internal("database.place", &database.key());
        entry.operation = Some(step.id);
        entry.details = serde_json::json!({ "instance": instance.metadata.name, "why": summary });
        let unchanged = records::unchanged(instance);
        let also = Batch {
            // The instance must not have been deleted between the decision and the promise. Its
            // status may have moved on: then the step runs again on the newer one.
            preconditions: vec![unchanged.map_err(from_control)?],
            writes: vec![
                promise,
                records::put(&database).map_err(from_control)?,
                control.journal.write(&entry),
            ],
        };
        let state = ProvisionState::Reserve {
            instance: instance_uid,
        };
        let message = format!("placed on {}: {summary}", instance.metadata.name);
        Ok(Next::go(state, message).also(also))
    }

    async fn reserve(
        &self,
        step: &StepContext,
        world: &World,
        instance: Uid,
    ) -> Result<Next<ProvisionState>, StepError> {
        let reserved = self.reserve_on_server(step, world).await;
        if let Err(trouble) = reserved {
            let kind = ConditionType::Provisioned;
            return Err(from_trouble(&self.control, step, kind, trouble).await);
        }
        let state = ProvisionState::Credentials { instance };
        Ok(Next::go(
            state,
            "the name on the server is taken for this database",
        ))
    }

    async fn reserve_on_server(&self, step: &StepContext, world: &World) -> Result<(), Trouble> {
        let control = &self.control;
        let instance = placed_on(control, world).await?;
        let connected = control.engines.connect(&instance).await?;
        let name = world.server_name()?;
        let stamp = world.stamp(control.identity.id)?;
        let fence = control.fence(step.epoch, &step.id.to_string());
        let reserved = connected
            .engine
            .reserve(name, &stamp, &fence, &step.gate)
            .await;
        if let Err(error) = reserved {
            let trouble = Trouble::Engine(error);
            control.engines.note(&instance, &trouble).await;
            return Err(trouble);
        }
        Ok(())
    }

    fn credentials(
        &self,
        mut world: World,
        instance: Uid,
    ) -> Result<Next<ProvisionState>, StepError> {
        let write = self
            .control
            .credentials
            .complete(&mut world)
            .map_err(from_control)?;
        let next = Next::go(
            ProvisionState::Create { instance },
            "credentials are chosen and sealed",
        );
        Ok(match write {
            Some(write) => next.also(batch_of([write])),
            None => next,
        })
    }

    async fn create(
        &self,
        step: &StepContext,
        world: &World,
        instance: Uid,
    ) -> Result<Next<ProvisionState>, StepError> {
        let control = &self.control;
        let mut fresh = world.clone();
        let incomplete = control
            .credentials
            .complete(&mut fresh)
            .map_err(from_control)?;
        if incomplete.is_some() {
            // Accesses were added meanwhile: their credentials are saved before they are used.
            let state = ProvisionState::Credentials { instance };
            return Ok(Next::go(state, "accesses have changed meanwhile"));
        }
        let server = placed_on(control, world).await.map_err(from_control)?;
        let outcome = self.converge(step, world, &server).await;
        match outcome {
            Ok(_) => {
                let mut also = control
                    .outcome_writes(world, &server, &outcome)
                    .map_err(from_control)?;
                let mut entry = control.journal.internal("database.provision", &step.target);
                entry.operation = Some(step.id);
                entry.outcome = freehold_audit::Outcome::Succeeded;
                also.writes.push(control.journal.write(&entry));
                let output = serde_json::json!({
                    "instance": server.metadata.name,
                    "databaseName": world.server_name().ok(),
                });
                Ok(Next::done(output, "the database is usable").also(also))
            }
            Err(trouble) => {
                control.engines.note(&server, &trouble).await;
                Err(from_trouble(control, step, ConditionType::Provisioned, trouble).await)
            }
        }
    }

    async fn converge(
        &self,
        step: &StepContext,
        world: &World,
        server: &Instance,
    ) -> Result<crate::converge::Converged, Trouble> {
        let connected = self.control.engines.connect(server).await?;
        let actor = step.id.to_string();
        let acting = Acting {
            epoch: step.epoch,
            actor: &actor,
            gate: &step.gate,
            survey: None,
        };
        // Also where the database is only observed from then on: it was asked for.
        let mode = ConvergeMode::Apply;
        self.control
            .converge_in(mode, world, &connected, LoginState::Disabled, &acting)
            .await
    }

    async fn give_up(
        &self,
        step: &StepContext,
        world: &World,
        instance: Option<Uid>,
    ) -> Result<Next<ProvisionState>, StepError> {
        let control = &self.control;
        let mut also = Batch::new();
        if let Some(instance) = instance {
            let server = placed_on(control, world).await.map_err(from_control)?;
            let given = async {
                let connected = control.engines.connect(&server).await?;
                let stamp = world.stamp(control.identity.id)?;
                let fence = control.fence(step.epoch, &step.id.to_string());
                let name = world.server_name()?;
                connected
                    .engine
                    .release(name, &stamp, &fence, &step.gate)
                    .await?;
                Ok::<_, Trouble>(())
            };
            match given.await {
                Ok(()) => {}
                // Nothing there is ours: the name was never taken, or it is another's.
                Err(Trouble::Engine(error))
                    if matches!(error.fault, Fault::Missing { .. } | Fault::NameTaken { .. }) => {}
                Err(trouble) => {
                    let kind = ConditionType::Provisioned;
                    return Err(from_trouble(control, step, kind, trouble).await);
                }
            }
            also.writes.extend(
                control
                    .release_promise(instance, step.target_uid)
                    .await
                    .map_err(from_control)?,
            );
        }
        let mut database: Database = world.database.clone();
        let generation = database.metadata.generation;
        let status = database.status.get_or_insert_default();
        status.placement = None;
        status.database_name = None;
        let message = "Provisioning was cancelled. Delete the resource, or apply it again changed.";
        let now = control.clock.now();
        for kind in [
            ConditionType::Placed,
            ConditionType::Provisioned,
            ConditionType::Ready,
        ] {
            let no = ConditionStatus::False;
            let conditions = &mut status.conditions;
            conditions.set(kind, no, "Cancelled", message, now, generation);
        }
        also.writes
            .push(records::put(&database).map_err(from_control)?);
        Ok(Next::done(serde_json::Value::Null, "given up").also(also))
    }
}

/// The instance that the database was placed on.
pub(super) async fn placed_on(
    control: &Control,
    world: &World,
) -> freehold_model::Result<Instance> {
    world.instance(&control.records).await?.ok_or_else(|| {
        freehold_model::Error::internal("finding a database's instance", "it is not placed")
    })
}
