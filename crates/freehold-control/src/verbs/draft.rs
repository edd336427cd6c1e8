//! What an apply is about to do, before it is saved: the resources as they will be, on top of those
//! that are there.

use std::collections::BTreeMap;

use freehold_api::ApplyOutcome;
use freehold_model::{Error, Resource, ResourceKey, Result};
use freehold_plan::apply::Outcome;
use freehold_store::{Batch, Precondition};
use serde::{Serialize, de::DeserializeOwned};

use crate::records::{self, Records};

/// One resource of the draft.
#[derive(Debug, Clone)]
pub(crate) struct Drafted {
    pub(crate) live: Option<Resource>,
    pub(crate) resource: Resource,
    pub(crate) outcome: Outcome,
    /// Whether its record must be written.
    pub(crate) write: bool,
}

impl Drafted {
    pub(crate) fn api_outcome(&self) -> ApplyOutcome {
        match self.outcome {
            Outcome::Created => ApplyOutcome::Created,
            Outcome::Unchanged => ApplyOutcome::Unchanged,
            Outcome::Changed { .. } => ApplyOutcome::Changed,
        }
    }

    pub(crate) fn changed_paths(&self) -> Vec<String> {
        match &self.outcome {
            Outcome::Changed { paths } => paths.clone(),
            Outcome::Created | Outcome::Unchanged => Vec::new(),
        }
    }
}

pub(crate) struct Draft<'a> {
    records: &'a Records,
    pub(crate) drafted: BTreeMap<ResourceKey, Drafted>,
    /// Keys in the order of the manifests.
    pub(crate) order: Vec<ResourceKey>,
    /// What was read and must not change until the batch is saved.
    leaned_on: BTreeMap<ResourceKey, Precondition>,
    /// What this apply is about to prune and has marked as going in the store.
    pub(crate) marked: Vec<Resource>,
    /// Whether others changed something while it was marked.
    pub(crate) interfered: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(records: &'a Records) -> Self {
        Self {
            records,
            drafted: BTreeMap::new(),
            order: Vec::new(),
            leaned_on: BTreeMap::new(),
            marked: Vec::new(),
            interfered: false,
        }
    }

    pub(crate) fn insert(&mut self, key: ResourceKey, drafted: Drafted) {
        if !self.drafted.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.drafted.insert(key, drafted);
    }

    /// A resource that another one refers to, as it will be after the draft. The batch will demand
    /// that it is still there and the same.
    pub(crate) async fn lean_on<S, T>(
        &mut self,
        key: &ResourceKey,
    ) -> Result<Option<Resource<S, T>>>
    where
        S: DeserializeOwned,
        T: DeserializeOwned,
    {
        if let Some(drafted) = self.drafted.get(key) {
            // One that stays as it is will not be written, so nothing else would notice that it went.
            if let Some(live) = drafted.live.as_ref().filter(|_| !drafted.write) {
                self.leaned_on
                    .insert(key.clone(), records::unchanged(live)?);
            }
            return typed(&drafted.resource).map(Some);
        }
        let Some(found): Option<Resource> = self.records.get(key).await? else {
            return Ok(None);
        };
        if found.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        self.leaned_on
            .insert(key.clone(), records::unchanged(&found)?);
        typed(&found).map(Some)
    }

    /// Whether something in the draft refers to a resource.
    pub(crate) fn leans_on(&self, key: &ResourceKey) -> bool {
        self.leaned_on.contains_key(key)
    }

    /// Whether any of what the draft began from has been changed by others since.
    pub(crate) async fn overtaken(&self) -> Result<bool> {
        if self.interfered {
            return Ok(true);
        }
        for (key, drafted) in &self.drafted {
            let now: Option<Resource> = self.records.get(key).await?;
            let version = |found: Option<&Resource>| {
                found.map(|resource| resource.metadata.resource_version.clone())
            };
            if version(now.as_ref()) != version(drafted.live.as_ref()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The writes of everything that must be saved and the preconditions of what was leaned on.
    pub(crate) fn batch(&self) -> Result<Batch> {
        let mut batch = Batch::new();
        for drafted in self.drafted.values().filter(|drafted| drafted.write) {
            batch.writes.push(records::put(&drafted.resource)?);
        }
        batch.preconditions.extend(
            self.leaned_on
                .iter()
                .filter(|(key, _)| !self.drafted.get(*key).is_some_and(|drafted| drafted.write))
                .map(|(_, precondition)| precondition.clone()),
        );
        Ok(batch)
    }
}

/// The typed form of a resource, or the untyped form of a typed one.
pub(crate) fn typed<A, B, S, T>(resource: &Resource<A, B>) -> Result<Resource<S, T>>
where
    A: Serialize,
    B: Serialize,
    S: DeserializeOwned,
    T: DeserializeOwned,
{
    serde_json::to_value(resource)
        .and_then(serde_json::from_value)
        .map_err(|source| Error::internal("reading a resource in another form", source))
}
