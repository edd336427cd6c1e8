//! A toy provisioning on a toy server, whole and with deliberate flaws.
//!
//! The server is as dumb as real ones: creating twice makes two, and only its registry's epoch tells
//! a stale caller from a present one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use freehold_model::{InjectedFault, Uid};
use freehold_workflow::{Cancel, Next, Operation, StepContext, StepError};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default)]
pub(crate) struct Server(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    epochs: HashMap<Uid, u64>,
    /// What there is, doubles included.
    things: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("epoch {0} is over")]
    Fenced(u64),
    #[error(transparent)]
    Injected(#[from] InjectedFault),
}

impl From<ServerError> for StepError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Fenced(_) => Self::Lost,
            ServerError::Injected(fault) => fault.into(),
        }
    }
}

impl Server {
    /// One transaction: the epoch is checked and the thing made, or neither.
    pub(crate) async fn create(
        &self,
        fence: Option<(Uid, u64)>,
        thing: String,
    ) -> Result<(), ServerError> {
        let mut inside = self.0.lock().unwrap();
        if let Some((target, epoch)) = fence {
            let known = inside.epochs.entry(target).or_default();
            if epoch < *known {
                return Err(ServerError::Fenced(epoch));
            }
            *known = epoch;
        }
        inside.things.push(thing);
        Ok(())
    }

    pub(crate) async fn remove(&self, thing: &str) {
        self.0.lock().unwrap().things.retain(|there| there != thing);
    }

    pub(crate) fn has(&self, thing: &str) -> bool {
        self.0
            .lock()
            .unwrap()
            .things
            .iter()
            .any(|there| there == thing)
    }

    pub(crate) fn things(&self) -> Vec<String> {
        self.0.lock().unwrap().things.clone()
    }

    pub(crate) fn raise_fence(&self, target: Uid, epoch: u64) {
        self.0.lock().unwrap().epochs.insert(target, epoch);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Creates without looking whether it did so before.
    ActsBlindly,
    /// Chooses a random name and uses it in one step, so that it cannot recognise its own work.
    NamesLate,
    /// Does not hand its epoch to the server.
    IgnoresFence,
}

pub(crate) struct Provision {
    pub(crate) server: Arc<Server>,
    pub(crate) flaw: Flaw,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase")]
pub(crate) enum Provisioning {
    ChooseName,
    CreateRole { name: String },
    CreateDatabase { name: String },
    RemoveRole { name: String },
}

impl Operation for Provision {
    const VERB: &'static str = "provision";
    type State = Provisioning;

    fn state_name(&self, state: &Provisioning) -> &'static str {
        match state {
            Provisioning::ChooseName => "ChooseName",
            Provisioning::CreateRole { .. } => "CreateRole",
            Provisioning::CreateDatabase { .. } => "CreateDatabase",
            Provisioning::RemoveRole { .. } => "RemoveRole",
        }
    }

    async fn step(
        &self,
        step: &StepContext,
        state: Provisioning,
    ) -> Result<Next<Provisioning>, StepError> {
        match state {
            Provisioning::ChooseName => {
                let name = self.choose(step);
                Ok(Next::go(Provisioning::CreateRole { name }, "name chosen"))
            }
            Provisioning::CreateRole { name } => {
                let name = match self.flaw {
                    Flaw::NamesLate => self.choose(step),
                    _ => name,
                };
                self.make(step, "role", format!("role {name}")).await?;
                Ok(Next::go(
                    Provisioning::CreateDatabase { name },
                    "role created",
                ))
            }
            Provisioning::CreateDatabase { name } => {
                self.make(step, "database", format!("database {name}"))
                    .await?;
                Ok(Next::done(
                    serde_json::json!({ "name": name }),
                    "provisioned",
                ))
            }
            Provisioning::RemoveRole { name } => {
                self.server.remove(&format!("role {name}")).await;
                Ok(Next::done(serde_json::Value::Null, "role removed"))
            }
        }
    }

    fn cancel(&self, state: Provisioning) -> Cancel<Provisioning> {
        match state {
            Provisioning::ChooseName => Cancel::Undo(Provisioning::RemoveRole {
                name: String::new(),
            }),
            Provisioning::CreateRole { name } => Cancel::Undo(Provisioning::RemoveRole { name }),
            Provisioning::CreateDatabase { .. } | Provisioning::RemoveRole { .. } => {
                Cancel::Refuse {
                    reason: "the database is being made".to_owned(),
                }
            }
        }
    }
}

impl Provision {
    fn choose(&self, step: &StepContext) -> String {
        let mut random = [0u8; 4];
        step.entropy.fill(&mut random);
        format!("{:08x}", u32::from_be_bytes(random))
    }

    /// Looks, then acts.
    async fn make(&self, step: &StepContext, kind: &str, thing: String) -> Result<(), StepError> {
        if self.flaw != Flaw::ActsBlindly && self.server.has(&thing) {
            return Ok(());
        }
        let fence = (self.flaw != Flaw::IgnoresFence).then_some((step.target_uid, step.epoch));
        step.effect(format!("create {kind}"), self.server.create(fence, thing))
            .await?;
        Ok(())
    }
}
