//! The accesses that a database's manifest names inline.
//!
//! Each becomes an Access resource of its own, so that everything after this point knows one kind
//! of access only. It belongs to its database: who applies the database changes it, and it follows
//! the database into deletion. A name that somebody else's Access has already is refused, never
//! taken over: `a-b` + `c` and `a` + `b-c` are one name.

use std::collections::BTreeMap;

use freehold_model::{
    API_VERSION, Kind, Metadata, Name, OwnerReference, Resource, ResourceKey, Uid,
    kinds::{AccessSpec, Database, InlineAccess, Subject},
};
use serde_json::Value;

use crate::manifest::Violation;

/// What a database's `spec.access` asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Expansion {
    /// Access resources in the database's namespace and environment, each with an owner reference
    /// to the database. One that exists already keeps its metadata and status, and its generation
    /// grows if its spec changes; a new one has no uid yet.
    pub accesses: Vec<Resource>,
    /// Accesses that this database made before and no longer names: to be deleted.
    pub obsolete: Vec<ResourceKey>,
}

/// Makes the accesses of `database`, whose uid is `uid`. `existing` are the accesses of its
/// environment and team, or at least those with the names in question and those it owns.
///
/// Pointers of violations lead into the database.
pub fn expand(
    database: &Database,
    uid: Uid,
    existing: &[Resource],
) -> Result<Expansion, Vec<Violation>> {
    let owner = OwnerReference {
        kind: Kind::Database,
        name: database.metadata.name.clone(),
        uid,
    };
    let same_place = |resource: &&Resource| {
        resource.kind == Kind::Access
            && resource.metadata.namespace == database.metadata.namespace
            && resource.metadata.environment == database.metadata.environment
    };
    let mut there: BTreeMap<&Name, &Resource> = existing
        .iter()
        .filter(same_place)
        .map(|resource| (&resource.metadata.name, resource))
        .collect();

    let mut violations = Vec::new();
    let mut accesses: Vec<Resource> = Vec::new();
    for (index, inline) in database.spec.access.iter().enumerate() {
        let refuse = |key, message| Violation {
            pointer: format!("/spec/access/{index}/workload"),
            key,
            message,
        };
        let text = format!("{}-{}", owner.name, inline.workload);
        let Ok(name) = Name::new(text.clone()) else {
            let message = format!(
                "its access would be named `{text}`, which is longer than {} characters: write an \
                 Access resource with a name of its own instead",
                Name::LENGTH_MAX
            );
            violations.push(refuse("length", message));
            continue;
        };
        if accesses.iter().any(|access| access.metadata.name == name) {
            let message = format!("workload `{}` has an access above", inline.workload);
            violations.push(refuse("duplicate", message));
            continue;
        }
        match there.remove(&name) {
            Some(live) if live.metadata.owner_reference.as_ref() != Some(&owner) => {
                violations.push(refuse("collision", collision(&name, live)));
            }
            live => accesses.push(access(database, &owner, name, inline, live)),
        }
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let obsolete = there
        .into_values()
        .filter(|access| access.metadata.owner_reference.as_ref() == Some(&owner))
        .map(Resource::key)
        .collect();
    Ok(Expansion { accesses, obsolete })
}

fn collision(name: &Name, live: &Resource) -> String {
    let whose = match &live.metadata.owner_reference {
        Some(owner) => format!("belongs to database `{}`", owner.name),
        None => "was applied by itself".to_owned(),
    };
    format!(
        "its access would be named `{name}`, and an Access of that name {whose}: rename one of \
         them, or delete that Access first"
    )
}

fn access(
    database: &Database,
    owner: &OwnerReference,
    name: Name,
    inline: &InlineAccess,
    live: Option<&Resource>,
) -> Resource {
    let spec = AccessSpec {
        database: owner.name.clone(),
        subject: Subject {
            workload: inline.workload.clone(),
            team: None,
        },
        level: inline.level,
        targets: inline.targets.clone(),
        expires_at: None,
        reason: String::new(),
    };
    let spec = serde_json::to_value(spec).unwrap_or(Value::Null);
    match live {
        None => {
            let mut metadata = Metadata::named(name);
            metadata.namespace.clone_from(&database.metadata.namespace);
            metadata
                .environment
                .clone_from(&database.metadata.environment);
            metadata.owner_reference = Some(owner.clone());
            metadata.generation = 1;
            Resource {
                api_version: API_VERSION.to_owned(),
                kind: Kind::Access,
                metadata,
                spec,
                status: None,
            }
        }
        Some(live) => {
            let mut access = live.clone();
            if access.spec != spec {
                access.spec = spec;
                access.metadata.generation = access.metadata.generation.saturating_add(1);
            }
            access
        }
    }
}
