//! What a resource must satisfy beyond being JSON.
//!
//! Three passes, so that all faults are said at once: the shape ([`super::shape`], from the
//! published schema), the rules across fields ([`super::rules`]), and at last the conversion to the
//! typed form, which cannot fail any more unless schema and type disagree. That case is reported
//! like any other violation; a property test looks for it.

use freehold_model::{
    API_VERSION, Kind, Metadata, Resource,
    kinds::{
        Access, Class, ClassSpec, Database, DatabaseSpec, Environment, Instance, Team, Workload,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{rules, shape};
use crate::schema;

/// A resource whose every rule has been checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    Environment(Environment),
    Team(Team),
    Workload(Workload),
    Instance(Instance),
    Class(Class),
    Database(Database),
    Access(Access),
}

impl Typed {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Environment(_) => Kind::Environment,
            Self::Team(_) => Kind::Team,
            Self::Workload(_) => Kind::Workload,
            Self::Instance(_) => Kind::Instance,
            Self::Class(_) => Kind::Class,
            Self::Database(_) => Kind::Database,
            Self::Access(_) => Kind::Access,
        }
    }

    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Environment(it) => &it.metadata,
            Self::Team(it) => &it.metadata,
            Self::Workload(it) => &it.metadata,
            Self::Instance(it) => &it.metadata,
            Self::Class(it) => &it.metadata,
            Self::Database(it) => &it.metadata,
            Self::Access(it) => &it.metadata,
        }
    }
}

/// One rule that a resource breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Violation {
    /// JSON pointer into the resource, e.g. `/spec/access/0/level`.
    pub pointer: String,
    /// Stable word for the kind of fault: `unknownField`, `unknownValue`, `missing`, `type`,
    /// `form`, `length`, `range`, `nul`, `duplicate`, `exactlyOne`, `contradiction`, `reserved`,
    /// `scope`, `view`, `classForbids`, `apiVersion`, `unreadable`, `collision`.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Checks every rule and returns all violations at once, at most 50.
pub fn validate(resource: &Resource) -> Result<Typed, Vec<Violation>> {
    let mut violations = Vec::new();
    violations.extend(applicable(resource.kind));
    if resource.api_version != API_VERSION {
        violations.push(wrong_version(&resource.api_version));
    }
    violations.extend(shape_of_metadata(&resource.metadata));
    let reference = format!("#/$defs/{}Spec", resource.kind);
    let root = schema::of(resource.kind);
    let nothing = Value::Object(serde_json::Map::new());
    let spec = match &resource.spec {
        Value::Null => &nothing,
        spec => spec,
    };
    violations.extend(shape::check(root, &reference, "/spec", spec));
    violations.extend(across(resource));
    finish(resource, violations)
}

/// The rules that [`super::parse`] still has to check after the shape of the whole document.
pub(super) fn across(resource: &Resource) -> Vec<Violation> {
    let name = resource.metadata.name.as_str();
    let mut violations = rules::metadata(resource.kind, &resource.metadata);
    violations.extend(rules::spec(resource.kind, Some(name), &resource.spec));
    violations
}

pub(super) fn finish(
    resource: &Resource,
    mut violations: Vec<Violation>,
) -> Result<Typed, Vec<Violation>> {
    if violations.is_empty() {
        return typed(resource).map_err(|violation| vec![violation]);
    }
    violations.truncate(shape::VIOLATIONS_MAX);
    Err(violations)
}

/// Views are made by Freehold.
pub(super) fn applicable(kind: Kind) -> Option<Violation> {
    kind.is_view().then(|| Violation {
        pointer: "/kind".to_owned(),
        key: "view",
        message: match kind {
            Kind::Binding => {
                "a Binding is made by Freehold for each access and cannot be applied: write an \
                 Access, or `spec.access` of a Database"
            }
            _ => "an Operation is made by Freehold and cannot be applied",
        }
        .to_owned(),
    })
}

pub(super) fn wrong_version(found: &str) -> Violation {
    let found = crate::text::shown(found);
    Violation {
        pointer: "/apiVersion".to_owned(),
        key: "apiVersion",
        message: format!("unknown apiVersion `{found}`; it must be `{API_VERSION}`"),
    }
}

fn shape_of_metadata(metadata: &Metadata) -> Vec<Violation> {
    // Only the two free maps can be wrong in a typed `Metadata`.
    let value = serde_json::json!({
        "name": metadata.name,
        "labels": metadata.labels,
        "annotations": metadata.annotations,
    });
    let root = schema::of(Kind::Database);
    shape::check(root, "#/$defs/Metadata", "/metadata", &value)
}

/// The rules that need the class: that the extensions asked for are allowed by it.
pub fn validate_with_class(database: &DatabaseSpec, class: &ClassSpec) -> Vec<Violation> {
    rules::with_class(database, class)
}

fn typed(resource: &Resource) -> Result<Typed, Violation> {
    Ok(match resource.kind {
        Kind::Environment => Typed::Environment(convert(resource)?),
        Kind::Team => Typed::Team(convert(resource)?),
        Kind::Workload => Typed::Workload(convert(resource)?),
        Kind::Instance => Typed::Instance(convert(resource)?),
        Kind::Class => Typed::Class(convert(resource)?),
        Kind::Database => Typed::Database(convert(resource)?),
        Kind::Access => Typed::Access(convert(resource)?),
        Kind::Binding | Kind::Operation => {
            return Err(unreadable("/kind", "a view has no typed form here"));
        }
    })
}

fn convert<S, T>(resource: &Resource) -> Result<Resource<S, T>, Violation>
where
    S: DeserializeOwned,
    T: DeserializeOwned,
{
    let spec = match &resource.spec {
        Value::Null => Value::Object(serde_json::Map::new()),
        spec => without_nulls(spec),
    };
    let spec = serde_json::from_value(spec).map_err(|e| unreadable("/spec", &e.to_string()))?;
    let status = match &resource.status {
        None | Some(Value::Null) => None,
        Some(status) => {
            let read = serde_json::from_value(status.clone());
            Some(read.map_err(|e| unreadable("/status", &e.to_string()))?)
        }
    };
    Ok(Resource {
        api_version: resource.api_version.clone(),
        kind: resource.kind,
        metadata: resource.metadata.clone(),
        spec,
        status,
    })
}

fn unreadable(pointer: &str, cause: &str) -> Violation {
    Violation {
        pointer: pointer.to_owned(),
        key: "unreadable",
        message: format!("{} cannot be read: {cause}", &pointer[1..]),
    }
}

/// Leaves out null fields, which stand for absent ones.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        scalar => scalar.clone(),
    }
}
