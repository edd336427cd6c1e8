//! The shape every resource shares: metadata, spec, status.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Kind, Name, Uid};

pub const API_VERSION: &str = "freehold.dev/v1alpha1";

/// Where the names of a kind are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One for the whole control plane: Environment, Team.
    Global,
    /// One per environment, owned by the platform: Instance, Class.
    Environment,
    /// One per team, the same in every environment: Workload.
    Team,
    /// One per environment and team: Database, Access, Binding.
    EnvironmentAndTeam,
}

/// What a manifest says about a resource, and what Freehold adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    pub name: Name,
    /// The owning team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// Filled in from the context of the command; a manifest need not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,

    // What follows is written by the server; in a manifest it is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// Grows by one with each change of `spec`.
    #[serde(default)]
    pub generation: u64,
    /// The store's etag of the record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub creation_timestamp: Option<Timestamp>,
    /// Set when a deletion has been accepted and is not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deletion_timestamp: Option<Timestamp>,
    /// The resource that made this one and that it follows into deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_reference: Option<OwnerReference>,
    /// Which manager owns which fields: manager → JSON pointers of leaves below `spec`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub managed_fields: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    pub kind: Kind,
    pub name: Name,
    pub uid: Uid,
}

impl Metadata {
    pub fn named(name: Name) -> Self {
        Self {
            name,
            namespace: None,
            environment: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            uid: None,
            generation: 0,
            resource_version: String::new(),
            creation_timestamp: None,
            deletion_timestamp: None,
            owner_reference: None,
            managed_fields: BTreeMap::new(),
        }
    }
}

/// One resource of any kind. `S` and `T` default to untyped JSON, which is how resources travel
/// through apply, the API and the CLI; the typed forms are in [`crate::kinds`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    bound(deserialize = "S: Deserialize<'de>, T: Deserialize<'de>")
)]
pub struct Resource<S = serde_json::Value, T = serde_json::Value> {
    pub api_version: String,
    pub kind: Kind,
    pub metadata: Metadata,
    pub spec: S,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<T>,
}

impl<S, T> Resource<S, T> {
    pub fn key(&self) -> ResourceKey {
        ResourceKey {
            kind: self.kind,
            environment: self.metadata.environment.clone(),
            team: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
        }
    }
}

/// Names one resource. Which of the optional parts are present follows from the kind's [`Scope`].
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct ResourceKey {
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    pub name: Name,
}

impl ResourceKey {
    /// The key under which the store keeps the resource, within its kind's collection. Names hold
    /// no `/`, so keys of one environment or team form a contiguous range.
    pub fn store_key(&self) -> String {
        let mut key = String::new();
        for part in [&self.environment, &self.team].into_iter().flatten() {
            key.push_str(part.as_str());
            key.push('/');
        }
        key.push_str(self.name.as_str());
        key
    }
}

/// `database/orders` or `database/shop/orders in prod`, for messages.
impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind.as_str().to_ascii_lowercase())?;
        if let Some(team) = &self.team {
            write!(f, "{team}/")?;
        }
        write!(f, "{}", self.name)?;
        if let Some(environment) = &self.environment {
            write!(f, " in {environment}")?;
        }
        Ok(())
    }
}
