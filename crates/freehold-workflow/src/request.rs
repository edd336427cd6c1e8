//! Asking for an operation: the first state, the first event and the claim, in the asker's batch.
//!
//! The change of a resource and the operation that follows from it are accepted together or not at
//! all. So a request is not a call but a few writes that the asker merges into its own batch.

use freehold_model::{
    OperationId, ResourceKey, Uid,
    kinds::{OperationEvent, OperationPhase},
    trace,
};
use freehold_store::{
    ApplyOutcome, Batch, CollectionName, Error, ErrorKind, Key, PutMode, Value, Write,
};

use crate::{
    Claim, EventRecord, Operation, OperationRecord, Operations, WorkflowError, backoff::Patience,
    held::nonce, record,
};

/// What is to be done, to what, for whom.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOperation {
    pub verb: &'static str,
    pub target: ResourceKey,
    pub target_uid: Uid,
    pub requested_by: String,
    /// The first state as JSON, and its name.
    pub state: serde_json::Value,
    pub state_name: String,
    /// The first line of the history.
    pub message: String,
}

impl NewOperation {
    /// A request for `operation` from its first state.
    pub fn of<O: Operation>(
        operation: &O,
        first: &O::State,
        target: ResourceKey,
        target_uid: Uid,
        requested_by: impl Into<String>,
    ) -> Result<Self, WorkflowError> {
        let requested_by = requested_by.into();
        Ok(Self {
            verb: O::VERB,
            message: format!("{} requested by {requested_by}", O::VERB),
            target,
            target_uid,
            requested_by,
            state: serde_json::to_value(first).map_err(|source| {
                Error::invalid("a first state cannot be written as JSON").because(source)
            })?,
            state_name: operation.state_name(first).to_owned(),
        })
    }
}

/// A request ready to be merged: made by [`Operations::request`].
#[derive(Debug, Clone, PartialEq)]
pub struct Requested {
    pub id: OperationId,
    pub target: ResourceKey,
    pub target_uid: Uid,
    /// Operation record, first event, claim; all in Create mode.
    pub batch: Batch,
}

/// What [`Operations::submit`] gives back.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub id: OperationId,
    /// The etags of the asker's own writes, in its order, then of the request's. Absent when the
    /// reply was lost and a later look proved that the batch had been committed.
    pub outcome: Option<ApplyOutcome>,
}

impl Requested {
    /// The caller's batch with the request's writes after its own.
    #[must_use]
    pub fn merged_into(&self, mut batch: Batch) -> Batch {
        batch.writes.extend(self.batch.writes.iter().cloned());
        batch
    }

    /// Whether `error`, given for a batch that this request was merged into, means that the target
    /// is taken by another operation.
    pub fn is_refused(&self, merged: &Batch, error: &Error) -> bool {
        error.kind() == ErrorKind::AlreadyExists
            && error.position().is_some()
            && error.position()
                == position(
                    merged,
                    &record::claims(),
                    &record::claim_key(self.target_uid),
                )
    }

    fn is_committed(&self, merged: &Batch, error: &Error) -> bool {
        let own = position(
            merged,
            &record::operations(),
            &record::operation_key(self.id),
        );
        error.kind() == ErrorKind::AlreadyExists && own.is_some() && error.position() == own
    }
}

impl Operations {
    /// The writes that start an operation, for the caller to merge into its own batch
    /// ([`Operations::submit`] merges, applies and explains refusals).
    pub async fn request(&self, new: &NewOperation) -> Result<Requested, WorkflowError> {
        let now = self.store.now().await?;
        let id = OperationId::generate(self.clock.now(), &*self.entropy);
        let record = OperationRecord {
            format: record::FORMAT,
            id,
            verb: new.verb.to_owned(),
            target: new.target.clone(),
            target_uid: new.target_uid,
            phase: OperationPhase::Running,
            state: new.state.clone(),
            state_name: new.state_name.clone(),
            requested_by: new.requested_by.clone(),
            created_at: now,
            updated_at: now,
            finished_at: None,
            finished_at_ms: None,
            due_at_ms: Some(record::AT_ONCE),
            attempts: 0,
            panics: 0,
            message: new.message.clone(),
            hint: None,
            output: None,
            cancellation: None,
            sequence: 1,
            save: nonce(&*self.entropy),
            trace_parent: trace::current().map(|parent| parent.to_string()),
            unknown: serde_json::Map::new(),
        };
        let event = EventRecord {
            operation: id,
            event: OperationEvent {
                sequence: 1,
                at: now,
                state: new.state_name.clone(),
                message: new.message.clone(),
                progress: None,
            },
        };
        let claim = Claim {
            operation: id,
            verb: new.verb.to_owned(),
        };
        let batch = Batch::new()
            .put(
                &record::operations(),
                record.key(),
                Value::encode(&record)?,
                PutMode::Create,
            )
            .put(
                &record::operation_events(),
                event.key(),
                Value::encode(&event)?,
                PutMode::Create,
            )
            .put(
                &record::claims(),
                record::claim_key(new.target_uid),
                Value::encode(&claim)?,
                PutMode::Create,
            );
        Ok(Requested {
            id,
            target: new.target.clone(),
            target_uid: new.target_uid,
            batch,
        })
    }

    /// Applies `batch` and the request together. A target that is taken gives
    /// [`WorkflowError::Held`]; other refusals come back as the store's error, with the position
    /// counted as in `batch`. A lost reply is settled: success means committed, and
    /// `Undetermined` is given only when the store stays out of reach.
    pub async fn submit(
        &self,
        batch: Batch,
        requested: Requested,
    ) -> Result<Submitted, WorkflowError> {
        const ATTEMPTS_MAX: u32 = 6;
        let merged = requested.merged_into(batch);
        let mut patience = Patience::default();
        let mut unheard = None;
        for _ in 0..ATTEMPTS_MAX {
            let error = match self.store.apply(merged.clone()).await {
                Ok(outcome) => return Ok(self.submitted(&requested, Some(outcome))),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Undetermined {
                // Applied again, the same batch either commits now or is refused because it did.
                unheard = Some(error);
                patience.wait().await;
                continue;
            }
            if unheard.is_some() {
                // The refusal may come from what the unheard attempt itself wrote.
                match self.get(requested.id).await {
                    Ok(Some(_)) => return Ok(self.submitted(&requested, None)),
                    Ok(None) if error.is_conflict() => {}
                    _ => {
                        patience.wait().await;
                        continue;
                    }
                }
            }
            if requested.is_committed(&merged, &error) {
                return Ok(self.submitted(&requested, None));
            }
            if requested.is_refused(&merged, &error)
                && let Some(held) = self.held(&requested).await?
            {
                return Err(held);
            }
            return Err(error.into());
        }
        Err(unheard
            .unwrap_or_else(|| Error::new(ErrorKind::Undetermined, "the store's reply was lost"))
            .into())
    }

    fn submitted(&self, requested: &Requested, outcome: Option<ApplyOutcome>) -> Submitted {
        self.nudges.due.notify_one();
        self.nudges.changed();
        Submitted {
            id: requested.id,
            outcome,
        }
    }

    /// Who holds the target of a refused request; nothing when it was freed meanwhile.
    async fn held(&self, requested: &Requested) -> Result<Option<WorkflowError>, WorkflowError> {
        let holder = self.holder(requested.target_uid).await?;
        Ok(holder.map(|claim| WorkflowError::Held {
            target: requested.target.clone(),
            holder: claim.operation,
            verb: claim.verb,
        }))
    }
}

/// Where a batch writes a record, counted as the store counts.
fn position(batch: &Batch, in_collection: &CollectionName, at_key: &Key) -> Option<usize> {
    let at = batch.writes.iter().position(|write| match write {
        Write::Put {
            collection, key, ..
        }
        | Write::Delete {
            collection, key, ..
        } => collection == in_collection && key == at_key,
    });
    at.map(|at| batch.preconditions.len() + at)
}
