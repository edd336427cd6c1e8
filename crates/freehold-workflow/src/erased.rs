//! Operations of different types behind one pointer: states travel as JSON.

use std::{future::Future, pin::Pin, time::Duration};

use serde_json::Value as Json;

use crate::{Cancel, Next, Operation, StepContext, StepError, Transition};

/// A state as JSON with its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedState {
    pub(crate) json: Json,
    pub(crate) name: String,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The object-safe twin of [`Operation`].
pub(crate) trait ErasedOperation: Send + Sync + 'static {
    fn verb(&self) -> &'static str;

    /// Whether this version can read the state, and how long a step from it may take.
    fn read(&self, state: &Json) -> Result<Option<Duration>, serde_json::Error>;

    fn step<'a>(
        &'a self,
        context: &'a StepContext,
        state: &'a Json,
    ) -> Boxed<'a, Result<Next<NamedState>, StepError>>;

    fn cancel(&self, state: &Json) -> Result<Cancel<NamedState>, serde_json::Error>;
}

pub(crate) struct Typed<O>(pub(crate) O);

impl<O: Operation> Typed<O> {
    fn decode(state: &Json) -> Result<O::State, serde_json::Error> {
        serde::Deserialize::deserialize(state)
    }

    fn encode(&self, state: &O::State) -> Result<NamedState, serde_json::Error> {
        Ok(NamedState {
            json: serde_json::to_value(state)?,
            name: self.0.state_name(state).to_owned(),
        })
    }

    fn encode_next(&self, next: Next<O::State>) -> Result<Next<NamedState>, serde_json::Error> {
        let to = match next.to {
            Transition::Go(state) => Transition::Go(self.encode(&state)?),
            Transition::Wait { state, until } => Transition::Wait {
                state: self.encode(&state)?,
                until,
            },
            Transition::Park { state, hint } => Transition::Park {
                state: self.encode(&state)?,
                hint,
            },
            Transition::Done(output) => Transition::Done(output),
            Transition::Fail { hint } => Transition::Fail { hint },
        };
        let Next { message, also, .. } = next;
        Ok(Next { to, message, also })
    }
}

impl<O: Operation> ErasedOperation for Typed<O> {
    fn verb(&self) -> &'static str {
        O::VERB
    }

    fn read(&self, state: &Json) -> Result<Option<Duration>, serde_json::Error> {
        Self::decode(state).map(|state| self.0.step_timeout(&state))
    }

    fn step<'a>(
        &'a self,
        context: &'a StepContext,
        state: &'a Json,
    ) -> Boxed<'a, Result<Next<NamedState>, StepError>> {
        Box::pin(async move {
            let unusable = |what: &str, source: serde_json::Error| {
                StepError::needs_attention(
                    format!("a state of {} cannot be {what} as JSON", O::VERB),
                    "This is a fault in Freehold: report it with the server's log.",
                )
                .because(source)
            };
            let state = Self::decode(state).map_err(|source| unusable("read", source))?;
            let next = self.0.step(context, state).await?;
            self.encode_next(next)
                .map_err(|source| unusable("written", source))
        })
    }

    fn cancel(&self, state: &Json) -> Result<Cancel<NamedState>, serde_json::Error> {
        Ok(match self.0.cancel(Self::decode(state)?) {
            Cancel::Refuse { reason } => Cancel::Refuse { reason },
            Cancel::Undo(state) => Cancel::Undo(self.encode(&state)?),
        })
    }
}
