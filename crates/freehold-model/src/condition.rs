//! Conditions: what is true of a resource now, in the form that `kubectl wait` understands.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The conditions Freehold reports. `Ready` sums up the others.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ConditionType {
    Ready,
    /// An instance answers to its admin credential.
    Reachable,
    Placed,
    Provisioned,
    AccessSynced,
    CredentialsPublished,
    MigrationsApplied,
    /// Abnormal when true: the server differs from what is declared.
    Drifted,
}

/// `Unknown` means that we could not look, never that we guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: ConditionType,
    pub status: ConditionStatus,
    /// A stable CamelCase word that programs may match on.
    pub reason: String,
    /// One or two sentences for a person: what is the matter and what to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When `status` last changed; other changes do not move it.
    #[schemars(with = "String")]
    pub last_transition_time: Timestamp,
    #[serde(default)]
    pub observed_generation: u64,
}

/// The conditions of one resource, at most one of each type, in the order of [`ConditionType`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    pub fn get(&self, kind: ConditionType) -> Option<&Condition> {
        self.0.iter().find(|c| c.kind == kind)
    }

    pub fn is_true(&self, kind: ConditionType) -> bool {
        self.get(kind)
            .is_some_and(|c| c.status == ConditionStatus::True)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        self.0.iter()
    }

    /// Sets a condition and returns whether its status changed (the moment worth an event).
    pub fn set(
        &mut self,
        kind: ConditionType,
        status: ConditionStatus,
        reason: &str,
        message: impl Into<String>,
        now: Timestamp,
        observed_generation: u64,
    ) -> bool {
        let message = message.into();
        let reason = reason.to_owned();
        match self.0.binary_search_by_key(&kind, |c| c.kind) {
            Ok(at) => {
                let old = &mut self.0[at];
                let changed = old.status != status;
                if changed {
                    old.last_transition_time = now;
                }
                (old.status, old.reason, old.message) = (status, reason, message);
                old.observed_generation = observed_generation;
                changed
            }
            Err(at) => {
                let last_transition_time = now;
                self.0.insert(
                    at,
                    Condition {
                        kind,
                        status,
                        reason,
                        message,
                        last_transition_time,
                        observed_generation,
                    },
                );
                true
            }
        }
    }

    pub fn remove(&mut self, kind: ConditionType) {
        self.0.retain(|c| c.kind != kind);
    }
}
