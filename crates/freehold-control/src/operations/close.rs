//! Deleting a database: it is closed, and then either kept in quarantine or forgotten. No data is
//! ever dropped here.

use freehold_engine::{Fault, LoginState};
use freehold_model::{
    ConditionStatus, ConditionType,
    kinds::{DeletionPolicy, Quarantine},
};
use freehold_store::Batch;
use freehold_workflow::{Cancel, Next, Operation, StepContext, StepError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{from_control, from_trouble, provision::placed_on, world};
use crate::{
    converge::{Acting, in_quarantine},
    credentials::Credentials,
    records,
    start::Control,
    trouble::Trouble,
    world::World,
};

pub(crate) struct Close {
    pub(crate) control: Control,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub(crate) enum CloseState {
    /// Take the right to connect away, end the sessions, look again.
    CloseConnections {
        policy: DeletionPolicy,
        since: Timestamp,
        until: Timestamp,
    },
    /// Quarantine: say until when it can be brought back.
    Quarantine { since: Timestamp, until: Timestamp },
    /// Retain: give the name up on the server.
    Release,
    /// Retain: forget the database, its accesses and credentials.
    Forget,
}

impl Operation for Close {
    const VERB: &'static str = "delete";
    type State = CloseState;

    fn state_name(&self, state: &CloseState) -> &'static str {
        match state {
            CloseState::CloseConnections { .. } => "CloseConnections",
            CloseState::Quarantine { .. } => "Quarantine",
            CloseState::Release => "Release",
            CloseState::Forget => "Forget",
        }
    }

    async fn step(
        &self,
        step: &StepContext,
        state: CloseState,
    ) -> Result<Next<CloseState>, StepError> {
        let world = world(&self.control, step).await?;
        match state {
            CloseState::CloseConnections {
                policy,
                since,
                until,
            } => self.close(step, &world, policy, since, until).await,
            CloseState::Quarantine { since, until } => self.quarantine(step, world, since, until),
            CloseState::Release => self.release(step, &world).await,
            CloseState::Forget => self.forget(step, &world).await,
        }
    }

    fn cancel(&self, _: CloseState) -> Cancel<CloseState> {
        Cancel::Refuse {
            reason:
                "Connections may have been ended already. When it is done, `freehold undelete` \
                     brings a quarantined database back."
                    .to_owned(),
        }
    }
}

impl Close {
    async fn close(
        &self,
        step: &StepContext,
        world: &World,
        policy: DeletionPolicy,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Next<CloseState>, StepError> {
        let placed = world
            .database
            .status
            .as_ref()
            .is_some_and(|s| s.placement.is_some());
        if !placed {
            return Ok(Next::go(CloseState::Forget, "it was never placed"));
        }
        match self.close_on_server(step, world).await {
            Ok(()) => {}
            // Deleting the resource is the way out when the database was dropped by hand: there is
            // nothing to quarantine, only logins that must not stay open.
            Err(trouble) if is_missing(&trouble) => {
                if let Err(trouble) = self.disable_logins(step, world).await
                    && !is_missing(&trouble)
                {
                    let kind = ConditionType::Ready;
                    return Err(from_trouble(&self.control, step, kind, trouble).await);
                }
                let message = "the database is not there any more; its logins are disabled";
                return Ok(Next::go(CloseState::Release, message));
            }
            Err(trouble) => {
                let kind = ConditionType::Ready;
                return Err(from_trouble(&self.control, step, kind, trouble).await);
            }
        }
        let message = "connections are refused and ended";
        Ok(match policy {
            DeletionPolicy::Quarantine => {
                Next::go(CloseState::Quarantine { since, until }, message)
            }
            DeletionPolicy::Retain => Next::go(CloseState::Release, message),
        })
    }

    async fn close_on_server(&self, step: &StepContext, world: &World) -> Result<(), Trouble> {
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
        // A deletion is meant even where drift is only observed.
        let mut world = world.clone();
        world.database.spec.manage = freehold_model::kinds::Manage::Apply;
        let closed = control
            .converge(&world, &connected, LoginState::Disabled, &acting)
            .await;
        if let Err(trouble) = &closed {
            control.engines.note(&instance, trouble).await;
        }
        closed.map(|_| ())
    }

    /// Every login that Freehold made for the database.
    async fn disable_logins(&self, step: &StepContext, world: &World) -> Result<(), Trouble> {
        let control = &self.control;
        let instance = placed_on(control, world).await?;
        let connected = control.engines.connect(&instance).await?;
        let held = &world.credentials;
        let mut logins = held.retired.clone();
        for access in held.accesses.values() {
            logins.extend([access.login_a.clone(), access.login_b.clone()]);
        }
        logins.push(held.migrator_login.clone());
        let (name, stamp) = (world.server_name()?, world.stamp(control.identity.id)?);
        let fence = control.fence(step.epoch, &step.id.to_string());
        let engine = &connected.engine;
        engine
            .disable_logins(name, &stamp, &logins, &fence, &step.gate)
            .await?;
        Ok(())
    }

    fn quarantine(
        &self,
        step: &StepContext,
        world: World,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Next<CloseState>, StepError> {
        let control = &self.control;
        let mut database = world.database;
        let generation = database.metadata.generation;
        let status = database.status.get_or_insert_default();
        let quarantine = Quarantine { since, until };
        let message = in_quarantine(&quarantine);
        status.quarantine = Some(quarantine);
        let (kind, no) = (ConditionType::Ready, ConditionStatus::False);
        let now = control.clock.now();
        status
            .conditions
            .set(kind, no, "Quarantined", message.clone(), now, generation);
        let mut entry = control
            .journal
            .internal("database.quarantine", &step.target);
        entry.operation = Some(step.id);
        entry.outcome = freehold_audit::Outcome::Succeeded;
        let also = Batch {
            writes: vec![
                records::put(&database).map_err(from_control)?,
                control.journal.write(&entry),
            ],
            ..Batch::new()
        };
        Ok(Next::done(serde_json::json!({ "until": until }), message).also(also))
    }

    async fn release(
        &self,
        step: &StepContext,
        world: &World,
    ) -> Result<Next<CloseState>, StepError> {
        let control = &self.control;
        let released = async {
            let instance = placed_on(control, world).await?;
            let connected = control.engines.connect(&instance).await?;
            let stamp = world.stamp(control.identity.id)?;
            let fence = control.fence(step.epoch, &step.id.to_string());
            let name = world.server_name()?;
            connected
                .engine
                .release(name, &stamp, &fence, &step.gate)
                .await?;
            Ok::<_, Trouble>(())
        };
        match released.await {
            Err(trouble) if is_missing(&trouble) => Ok(Next::go(
                CloseState::Forget,
                "there is nothing left to give up",
            )),
            Ok(()) => Ok(Next::go(
                CloseState::Forget,
                "the name is given up; the data stays",
            )),
            Err(trouble) => Err(from_trouble(control, step, ConditionType::Ready, trouble).await),
        }
    }

    async fn forget(
        &self,
        step: &StepContext,
        world: &World,
    ) -> Result<Next<CloseState>, StepError> {
        let control = &self.control;
        let mut also = Batch::new();
        for access in &world.accesses {
            also.writes
                .push(records::remove(access).map_err(from_control)?);
        }
        also.writes.push(Credentials::forget(step.target_uid));
        let placement = world
            .database
            .status
            .as_ref()
            .and_then(|s| s.placement.as_ref());
        if let Some(placement) = placement {
            let write = control
                .release_promise(placement.instance_uid, step.target_uid)
                .await;
            also.writes.extend(write.map_err(from_control)?);
        }
        also.writes
            .push(records::remove(&world.database).map_err(from_control)?);
        let mut entry = control.journal.internal("database.forget", &step.target);
        entry.operation = Some(step.id);
        entry.outcome = freehold_audit::Outcome::Succeeded;
        let kept = world.server_name().unwrap_or_default();
        entry.details =
            serde_json::json!({ "databaseName": kept, "instance": placement.map(|p| &p.instance) });
        also.writes.push(control.journal.write(&entry));
        let message = format!("forgotten; the server keeps {kept:?} with its data");
        Ok(Next::done(serde_json::Value::Null, message).also(also))
    }
}

fn is_missing(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Engine(error) if matches!(error.fault, Fault::Missing { .. }))
}
