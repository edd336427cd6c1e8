//! Bringing a quarantined database back.

use freehold_engine::LoginState;
use freehold_model::ConditionType;
use freehold_store::Batch;
use freehold_workflow::{Cancel, Next, Operation, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::{from_control, from_trouble, provision::placed_on, world};
use crate::{converge::Acting, records, start::Control, trouble::Trouble};

pub(crate) struct Reopen {
    pub(crate) control: Control,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub(crate) enum ReopenState {
    /// End the hold in our records: from here on the database is meant to be open.
    EndQuarantine,
    /// Make the server agree.
    Open,
}

impl Operation for Reopen {
    const VERB: &'static str = "undelete";
    type State = ReopenState;

    fn state_name(&self, state: &ReopenState) -> &'static str {
        match state {
            ReopenState::EndQuarantine => "EndQuarantine",
            ReopenState::Open => "Open",
        }
    }

    async fn step(
        &self,
        step: &StepContext,
        state: ReopenState,
    ) -> Result<Next<ReopenState>, StepError> {
        let control = &self.control;
        let world = world(control, step).await?;
        if state == ReopenState::EndQuarantine {
            let mut database = world.database;
            database.metadata.deletion_timestamp = None;
            database.status.get_or_insert_default().quarantine = None;
            let write = records::put(&database).map_err(from_control)?;
            let also = Batch {
                writes: vec![write],
                ..Batch::new()
            };
            return Ok(Next::go(ReopenState::Open, "the quarantine is ended").also(also));
        }
        let instance = placed_on(control, &world).await.map_err(from_control)?;
        let opened = async {
            let connected = control.engines.connect(&instance).await?;
            let actor = step.id.to_string();
            let acting = Acting {
                epoch: step.epoch,
                actor: &actor,
                gate: &step.gate,
                survey: None,
            };
            let mut world = world.clone();
            world.database.spec.manage = freehold_model::kinds::Manage::Apply;
            control
                .converge(&world, &connected, LoginState::Disabled, &acting)
                .await
        };
        let outcome: Result<_, Trouble> = opened.await;
        if let Err(trouble) = outcome {
            control.engines.note(&instance, &trouble).await;
            return Err(from_trouble(control, step, ConditionType::Ready, trouble).await);
        }
        let mut also = control
            .outcome_writes(&world, &instance, &outcome)
            .map_err(from_control)?;
        let mut entry = control.journal.internal("database.reopen", &step.target);
        entry.operation = Some(step.id);
        entry.outcome = freehold_audit::Outcome::Succeeded;
        also.writes.push(control.journal.write(&entry));
        Ok(Next::done(serde_json::Value::Null, "the database is open again").also(also))
    }

    fn cancel(&self, _: ReopenState) -> Cancel<ReopenState> {
        Cancel::Refuse {
            reason: "Let it finish; then `freehold delete` closes it again.".to_owned(),
        }
    }
}
