//! Deciding where a database goes, with the promises of all instances at hand.
//!
//! The decision is pure (`freehold_plan::placement`). Here the candidates are read, and the promise
//! is written in the same batch as whatever follows from the decision, guarded by the etag of the
//! instance's allocation record: two deciders cannot both take the last room.

use freehold_model::{
    Error, Kind, Name, Result, Uid,
    kinds::{Class, Database, Instance},
};
use freehold_plan::placement::{
    Allocated, Allocation, Candidate, Decision, PlacementRequest, place,
};
use freehold_store::{Etag, PutMode, Value, Write};

use crate::{
    records::{self, own_collection, store_error, uid_key},
    start::Control,
    world::owner,
};

pub(crate) const ALLOCATIONS: &str = "allocations";

/// A decision with what is needed to act on it.
pub(crate) struct Placing {
    pub(crate) decision: Decision,
    pub(crate) request: PlacementRequest,
    instances: Vec<(Instance, Allocation, Option<Etag>)>,
}

impl Control {
    pub(crate) async fn allocation(&self, instance: Uid) -> Result<(Allocation, Option<Etag>)> {
        let collection = own_collection(ALLOCATIONS);
        let found = self
            .store
            .get(&collection, &uid_key(instance))
            .await
            .map_err(store_error)?;
        let Some(record) = found else {
            return Ok((Allocation::default(), None));
        };
        Ok((
            record.value.decode().map_err(store_error)?,
            Some(record.etag),
        ))
    }

    /// Decides where `database` would go now. Changes nothing.
    pub(crate) async fn decide_placement(
        &self,
        environment: &Name,
        team: &Name,
        database: &Database,
        class: &Class,
    ) -> Result<Placing> {
        let range = records::range(Kind::Instance, Some(environment), None);
        let mut instances = Vec::new();
        let mut candidates = Vec::new();
        for instance in self.records.all::<_, _>(Kind::Instance, range).await? {
            let instance: Instance = instance;
            let Some(uid) = instance.metadata.uid else {
                continue;
            };
            let (allocation, etag) = self.allocation(uid).await?;
            candidates.push(Candidate::new(&instance, allocation.clone()));
            instances.push((instance, allocation, etag));
        }
        let request = PlacementRequest::new(team.clone(), database, class);
        let decision = place(&request, &candidates);
        Ok(Placing {
            decision,
            request,
            instances,
        })
    }

    /// The write that takes back what was promised to a database on an instance.
    pub(crate) async fn release_promise(
        &self,
        instance: Uid,
        database: Uid,
    ) -> Result<Option<Write>> {
        let (mut allocation, etag) = self.allocation(instance).await?;
        if allocation.remove(database).is_none() {
            return Ok(None);
        }
        write(instance, &allocation, etag).map(Some)
    }
}

impl Placing {
    /// The chosen instance and the write that promises room on it; `None` when nothing fits.
    pub(crate) fn promise(&self, database: &Database) -> Result<Option<(&Instance, Write)>> {
        let Some(chosen) = &self.decision.chosen else {
            return Ok(None);
        };
        let owner = owner(database)?;
        let (instance, allocation, etag) = self
            .instances
            .iter()
            .find(|(instance, ..)| instance.metadata.name == *chosen)
            .ok_or_else(|| Error::internal("placing", "the chosen instance is not a candidate"))?;
        let uid = instance
            .metadata
            .uid
            .ok_or_else(|| Error::internal("placing", "the chosen instance has no uid"))?;
        let mut allocation = allocation.clone();
        allocation.add(
            owner.uid,
            Allocated {
                team: owner.team.clone(),
                database: database.metadata.name.clone(),
                load: self.request.load,
            },
        );
        Ok(Some((instance, write(uid, &allocation, etag.clone())?)))
    }
}

fn write(instance: Uid, allocation: &Allocation, etag: Option<Etag>) -> Result<Write> {
    Ok(Write::Put {
        collection: own_collection(ALLOCATIONS),
        key: uid_key(instance),
        value: Value::encode(allocation).map_err(store_error)?,
        mode: etag.map_or(PutMode::Create, PutMode::Match),
        expires_at: None,
    })
}
