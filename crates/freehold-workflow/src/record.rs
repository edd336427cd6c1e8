//! The records that operations are kept in.
//!
//! Three collections: `operations` (one record each, guarded by its etag), `operation_events`
//! (`<operation id>/<sequence in 20 digits>`, gapless from 1) and `claims` (key = uid of the
//! target, present while an operation holds it).
//!
//! Records outlive releases. Fields that this version does not know are kept as they are when it
//! writes a record back, and a record of a newer `format` is left to newer replicas.

use freehold_model::{
    OperationId, ResourceKey, Uid,
    kinds::{OperationEvent, OperationPhase, OperationViewSpec},
};
use freehold_store::{CollectionName, CollectionSpec, IndexSpec, Key, Result, StoreHandle};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// What [`OperationRecord::format`] is in records that this version writes.
pub const FORMAT: u32 = 1;

/// See [`OperationRecord::due_at_ms`].
pub(crate) const AT_ONCE: i64 = 0;

pub(crate) const INDEX_DUE: &str = "due";
pub(crate) const INDEX_TARGET: &str = "by_target";
pub(crate) const INDEX_PHASE: &str = "by_phase";
pub(crate) const INDEX_OWNER: &str = "by_owner";
pub(crate) const INDEX_FINISHED: &str = "finished";
pub(crate) const INDEX_SEQUENCE: &str = "by_sequence";

/// The collection of [`OperationRecord`]s, by operation id.
pub fn operations() -> CollectionName {
    CollectionName::new("operations").expect("a valid collection name")
}

/// The collection of [`EventRecord`]s.
pub fn operation_events() -> CollectionName {
    CollectionName::new("operation_events").expect("a valid collection name")
}

/// The collection of [`Claim`]s, by the target's uid.
pub fn claims() -> CollectionName {
    CollectionName::new("claims").expect("a valid collection name")
}

/// Defines the three collections. Idempotent; every process does it when it starts.
pub async fn define(store: &StoreHandle) -> Result<()> {
    let index = |name: &str, fields: &[&str]| IndexSpec {
        name: name.to_owned(),
        fields: fields.iter().map(|&field| field.to_owned()).collect(),
        unique: false,
        version: 1,
    };
    store
        .define(CollectionSpec {
            name: operations(),
            indexes: vec![
                index(INDEX_DUE, &["/verb", "/dueAtMs"]),
                index(INDEX_TARGET, &["/targetUid"]),
                index(INDEX_PHASE, &["/phase"]),
                index(INDEX_OWNER, &["/target/environment", "/target/team"]),
                index(INDEX_FINISHED, &["/finishedAtMs"]),
            ],
        })
        .await?;
    store
        .define(CollectionSpec {
            name: operation_events(),
            indexes: vec![index(INDEX_SEQUENCE, &["/operation", "/sequence"])],
        })
        .await?;
    store
        .define(CollectionSpec {
            name: claims(),
            indexes: vec![],
        })
        .await
}

/// One operation as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationRecord {
    /// Layout of this record; see [`FORMAT`].
    pub format: u32,
    pub id: OperationId,
    pub verb: String,
    pub target: ResourceKey,
    pub target_uid: Uid,
    pub phase: OperationPhase,
    /// The operation's own state, as its serde enum writes it. Kept when the operation has ended.
    pub state: Json,
    /// The variant's name.
    pub state_name: String,
    pub requested_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The same in milliseconds since 1970, for the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<i64>,
    /// Not to be run before this, on the store's clock; 0 means at once, whatever the clock says, so
    /// that a clock that was set back stops no running operation. Absent when nothing is to be run:
    /// parked or ended. An absent field keeps the record out of the index that workers read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at_ms: Option<i64>,
    /// How often the present state has been tried without getting further.
    #[serde(default)]
    pub attempts: u32,
    /// How many of those attempts panicked.
    #[serde(default)]
    pub panics: u32,
    /// What was done last, or why it waits or failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Cancellation>,
    /// The sequence of the newest event.
    pub sequence: u64,
    /// Fresh for every save by a worker. A worker that did not hear whether its save took hold
    /// finds out by it.
    pub save: String,
    /// The span that asked for it, as the W3C header `traceparent` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
    /// What a newer version keeps here and this one does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Json>,
}

/// That somebody asked to cancel, and whether the operation has turned back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancellation {
    pub by: String,
    pub at: Timestamp,
    /// The state was changed to an undo state; the operation will end as cancelled.
    #[serde(default)]
    pub accepted: bool,
    /// What the operation goes back to when it is not cancelled. Until that is decided it counts as
    /// running, so that a worker decides at once; a wait must not end early for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Interrupted>,
}

/// Where an operation stood when somebody asked to cancel it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupted {
    pub phase: OperationPhase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at_ms: Option<i64>,
}

impl OperationRecord {
    /// How the operation is shown: as the spec of the read-only Operation kind.
    pub fn view(&self) -> OperationViewSpec {
        let message = match &self.hint {
            Some(hint) => format!("{} {hint}", self.message),
            None => self.message.clone(),
        };
        OperationViewSpec {
            id: self.id,
            verb: self.verb.clone(),
            target: self.target.clone(),
            phase: self.phase,
            state: self.state_name.clone(),
            requested_by: self.requested_by.clone(),
            created_at: self.created_at,
            finished_at: self.finished_at,
            attempts: self.attempts,
            message,
        }
    }

    /// Somebody asked to cancel, and it is not decided.
    pub(crate) fn is_cancellation_open(&self) -> bool {
        self.cancellation.as_ref().is_some_and(|c| !c.accepted)
    }

    /// While a cancellation is undecided the operation is due at once, whatever it waits for.
    pub(crate) fn interrupt(&mut self) {
        let (phase, due_at_ms) = (self.phase, self.due_at_ms);
        if phase.is_final() {
            return;
        }
        let Some(cancellation) = self.cancellation.as_mut().filter(|c| !c.accepted) else {
            return;
        };
        cancellation.before = Some(Interrupted { phase, due_at_ms });
        self.phase = OperationPhase::Running;
        self.due_at_ms = Some(AT_ONCE);
    }

    pub(crate) fn key(&self) -> Key {
        operation_key(self.id)
    }
}

/// One line of an operation's history, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRecord {
    pub operation: OperationId,
    #[serde(flatten)]
    pub event: OperationEvent,
}

impl EventRecord {
    pub(crate) fn key(&self) -> Key {
        let text = format!("{}/{:020}", self.operation, self.event.sequence);
        Key::new(text).expect("an id and a number are short")
    }
}

/// That an operation holds a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    pub operation: OperationId,
    /// The operation's verb, so that a refusal can be explained with one read.
    pub verb: String,
}

pub(crate) fn operation_key(id: OperationId) -> Key {
    Key::new(id.to_string()).expect("an id is short and not empty")
}

/// The key of the claim on a target.
pub fn claim_key(target_uid: Uid) -> Key {
    Key::new(target_uid.to_string()).expect("a uid is short and not empty")
}
