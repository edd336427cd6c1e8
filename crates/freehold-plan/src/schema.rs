//! The published JSON Schemas (draft 2020-12), one for every kind.
//!
//! The schema of a spec is derived from its Rust type and then *refined*: ports start at 1, lists
//! hold nothing twice, texts have the form their field needs. The result is the one description of
//! a manifest's shape: `schemas/*.json` publish it for editors and for the Kubernetes operator, and
//! [`crate::manifest::validate`] walks the same value to say what is wrong in words. Only rules that
//! look at several fields at once live elsewhere, in `manifest/rules.rs`.
//!
//! Null stands for "absent" wherever a field may be left out, as in Kubernetes.

use std::{collections::BTreeMap, sync::LazyLock};

use freehold_model::{
    API_VERSION, Kind,
    kinds::{
        AccessSpec, BindingSpec, ClassSpec, DatabaseSpec, ENGINES, EnvironmentSpec, InstanceSpec,
        OperationViewSpec, TeamSpec, WorkloadSpec,
    },
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The dialect of the schemas.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

pub(crate) const NAME: &str = "^[a-z]([a-z0-9-]*[a-z0-9])?$";
pub(crate) const SECRET_REFERENCE: &str = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+|exec:.+)$";
pub(crate) const MAJOR_VERSION: &str = "^[1-9][0-9]{0,2}$";
pub(crate) const HOST: &str = "^[A-Za-z0-9_.:-]+$";
pub(crate) const EXTENSION: &str = "^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$";
pub(crate) const TIMESTAMP: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$";
pub(crate) const LABEL_KEY: &str =
    "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$";
pub(crate) const LABEL_VALUE: &str = "^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$";

/// The longest identifier that the engines take, in bytes.
pub(crate) const IDENTIFIER_BYTES_MAX: u64 = 63;
/// The largest integer that every JSON reader keeps exactly.
const INTEGER_MAX: u64 = (1 << 53) - 1;
/// PostgreSQL's settings are 32-bit and signed.
const SETTING_MAX: u64 = i32::MAX as u64;

/// What the server writes into `metadata`. Ignored in a manifest, so that what `get -o yaml` prints
/// can be applied.
pub(crate) const SERVER_WRITTEN: [&str; 7] = [
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReference",
    "managedFields",
];

static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> = LazyLock::new(|| {
    Kind::ALL
        .into_iter()
        .map(|kind| (kind, make(kind)))
        .collect()
});

/// The schema of a manifest of `kind`.
pub fn of(kind: Kind) -> &'static Value {
    &SCHEMAS[&kind]
}

/// Every published file: its name and its text.
pub fn files() -> Vec<(String, String)> {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            let text = serde_json::to_string_pretty(of(kind)).expect("a schema is plain JSON");
            (file_name(kind), text + "\n")
        })
        .collect()
}

fn file_name(kind: Kind) -> String {
    format!("{}.json", kind.as_str().to_ascii_lowercase())
}

fn make(kind: Kind) -> Value {
    let (spec, mut definitions) = match kind {
        Kind::Environment => derived::<EnvironmentSpec>(),
        Kind::Team => derived::<TeamSpec>(),
        Kind::Workload => derived::<WorkloadSpec>(),
        Kind::Instance => derived::<InstanceSpec>(),
        Kind::Class => derived::<ClassSpec>(),
        Kind::Database => derived::<DatabaseSpec>(),
        Kind::Access => derived::<AccessSpec>(),
        Kind::Binding => derived::<BindingSpec>(),
        Kind::Operation => derived::<OperationViewSpec>(),
    };
    definitions.insert(format!("{kind}Spec"), spec);
    definitions.insert("Metadata".to_owned(), metadata());
    refine(&mut definitions);
    for definition in definitions.values_mut() {
        widen_integers(definition);
        allow_null_for_absent(definition);
    }
    let spec_needed = definitions[&format!("{kind}Spec")]
        .get("required")
        .is_some();
    let mut required = vec!["apiVersion", "kind", "metadata"];
    required.extend(spec_needed.then_some("spec"));
    let mut spec = json!({ "$ref": format!("#/$defs/{kind}Spec") });
    if !spec_needed {
        spec = json!({ "anyOf": [spec, { "type": "null" }] });
    }
    json!({
        "$schema": DIALECT,
        "$id": format!("https://freehold.dev/schemas/v1alpha1/{}", file_name(kind)),
        "title": kind.as_str(),
        "description": purpose(kind),
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string", "const": API_VERSION },
            "kind": { "type": "string", "const": kind.as_str() },
            "metadata": { "$ref": "#/$defs/Metadata" },
            "spec": spec,
            "status": {
                "description": "Written by Freehold; ignored in a manifest.",
                "readOnly": true,
            },
        },
        "additionalProperties": false,
        "required": required,
        "$defs": definitions,
    })
}

fn purpose(kind: Kind) -> &'static str {
    match kind {
        Kind::Environment => "An ordered stage, such as dev, staging and prod.",
        Kind::Team => "The owner of resources and the multi-tenancy boundary.",
        Kind::Workload => "A program that uses databases.",
        Kind::Instance => "One server or cluster that databases are placed on.",
        Kind::Class => "An entry on the platform's menu: isolation, limits, deletion defaults.",
        Kind::Database => "One logical datastore owned by a team, placed on an instance.",
        Kind::Access => "Who may do what on a database, until when.",
        Kind::Binding => "Read-only view of what an access gives its workload. Cannot be applied.",
        Kind::Operation => "Read-only view of one durable piece of work. Cannot be applied.",
    }
}

/// The schema that serde's view of `T` implies, and the definitions it refers to.
fn derived<T: JsonSchema>() -> (Value, Map<String, Value>) {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.root_schema_for::<T>().to_value();
    let mut definitions = Map::new();
    if let Some(object) = schema.as_object_mut() {
        if let Some(Value::Object(map)) = object.remove("$defs") {
            definitions = map;
        }
        object.remove("$schema");
        object.remove("title");
    }
    (schema, definitions)
}

fn metadata() -> Value {
    let mut properties = json!({
        "name": { "$ref": "#/$defs/Name" },
        "namespace": { "$ref": "#/$defs/Name", "description": "The owning team." },
        "environment": {
            "$ref": "#/$defs/Name",
            "description": "Filled in from the context of the command when absent.",
        },
        "labels": {
            "type": "object",
            "propertyNames": { "pattern": LABEL_KEY, "maxLength": 317 },
            "additionalProperties": { "type": "string", "pattern": LABEL_VALUE, "maxLength": 63 },
        },
        "annotations": {
            "type": "object",
            "propertyNames": { "pattern": LABEL_KEY, "maxLength": 317 },
            "additionalProperties": { "type": "string" },
        },
    });
    for field in SERVER_WRITTEN {
        properties[field] = json!({
            "description": "Written by Freehold; ignored in a manifest.",
            "readOnly": true,
        });
    }
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "required": ["name"],
    })
}

/// Adds what a Rust type cannot say.
fn refine(definitions: &mut Map<String, Value>) {
    definitions.insert(
        "Name".to_owned(),
        json!({
            "description":
                "A DNS label: lower-case letters, digits and '-', starting with a letter.",
            "type": "string",
            "maxLength": 63,
            "pattern": NAME,
        }),
    );
    for (pointer, additions) in refinements() {
        let (definition, rest) = pointer.split_once('/').unwrap_or((pointer, ""));
        let Some(definition) = definitions.get_mut(definition) else {
            continue;
        };
        let rest = if rest.is_empty() {
            String::new()
        } else {
            format!("/properties/{rest}")
        };
        let target = definition
            .pointer_mut(&rest)
            .and_then(Value::as_object_mut)
            .expect("a refinement names a field that exists; the schema test says which");
        let Value::Object(additions) = additions else {
            continue;
        };
        if additions.contains_key("type") {
            // It says everything itself.
            target.retain(|keyword, _| matches!(keyword.as_str(), "description" | "default"));
        }
        target.extend(additions);
    }
}

/// `Definition/field` or `Definition/field/items` → what holds for it.
fn refinements() -> Vec<(&'static str, Value)> {
    let identifier = || json!({ "minLength": 1, "maxLength": IDENTIFIER_BYTES_MAX });
    let host = || json!({ "minLength": 1, "maxLength": 253, "pattern": HOST });
    let unique = || json!({ "uniqueItems": true });
    let major = || json!({ "pattern": MAJOR_VERSION });
    let engine = || {
        let mut engine = json!({ "type": "string", "enum": ENGINES });
        engine["description"] = "The engine's name.".into();
        engine
    };
    let extension = || {
        let bytes = IDENTIFIER_BYTES_MAX;
        json!({ "minLength": 1, "maxLength": bytes, "pattern": EXTENSION })
    };
    let timeout = || json!({ "minimum": 1, "maximum": SETTING_MAX });
    let object_given =
        |field: &str| json!({ "required": [field], "properties": { field: { "type": "object" } } });
    vec![
        (
            "InstanceSpec",
            json!({ "oneOf": [object_given("external"), object_given("local")] }),
        ),
        ("InstanceSpec/engine", engine()),
        ("InstanceSpec/allowedTeams", unique()),
        ("InstanceSpec/classes", unique()),
        ("External/host", host()),
        ("External/port", json!({ "minimum": 1 })),
        ("External/username", identifier()),
        ("External/adminDatabase", identifier()),
        ("SecretReference", json!({ "maxLength": 4096 })),
        ("WorkloadEndpoint/host", host()),
        ("WorkloadEndpoint/port", json!({ "minimum": 1 })),
        ("Local/version", major()),
        ("Local/port", json!({ "minimum": 1024 })),
        ("Capacity/headroomPercent", json!({ "maximum": 100 })),
        ("ClassSpec/engine", engine()),
        ("ClassSpec/versionMin", major()),
        ("ClassSpec/versionMax", major()),
        ("ClassSpec/extensions", unique()),
        ("ClassSpec/extensions/items", extension()),
        (
            "ClassSpec/quarantineDays",
            json!({ "minimum": 1, "maximum": 3650 }),
        ),
        (
            "Limits/connections",
            json!({ "minimum": 1, "maximum": SETTING_MAX }),
        ),
        ("Limits/statementTimeoutMs", timeout()),
        ("Limits/lockTimeoutMs", timeout()),
        ("Limits/idleInTransactionTimeoutMs", timeout()),
        // The setting counts KiB.
        (
            "Limits/tempFilesMib",
            json!({ "maximum": SETTING_MAX / 1024 }),
        ),
        ("DatabaseSpec/extensions", unique()),
        ("DatabaseSpec/extensions/items", extension()),
        ("DatabaseSpec/schemas", unique()),
        ("DatabaseSpec/schemas/items", identifier()),
        ("PlacementHints/near", unique()),
        ("PlacementHints/avoid", unique()),
        ("InlineAccess/targets", unique()),
        ("AccessSpec/targets", unique()),
        (
            "AccessSpec/expiresAt",
            json!({ "format": "date-time", "pattern": TIMESTAMP }),
        ),
        ("AccessSpec/reason", json!({ "maxLength": 500 })),
        (
            "AccessTarget/schema",
            json!({ "maxLength": IDENTIFIER_BYTES_MAX }),
        ),
        ("AccessTarget/table", identifier()),
        ("TeamSpec/displayName", json!({ "maxLength": 200 })),
        ("Member/role", team_role()),
        ("WorkloadSpec/description", json!({ "maxLength": 1000 })),
    ]
}

/// `operator` and `admin` hold for the whole platform and come from a token, never from a team.
fn team_role() -> Value {
    json!({ "type": "string", "enum": ["viewer", "developer", "owner"] })
}

/// Says in numbers what `format: uint32` only says to those who know it.
fn widen_integers(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let maximum = match object.get("format").and_then(Value::as_str) {
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("uint64") => Some(INTEGER_MAX),
                _ => None,
            };
            if let Some(maximum) = maximum
                && !object.contains_key("maximum")
            {
                object.insert("maximum".to_owned(), maximum.into());
            }
            object.values_mut().for_each(widen_integers);
        }
        Value::Array(items) => items.iter_mut().for_each(widen_integers),
        _ => {}
    }
}

/// Lets every field that may be absent be null instead.
fn allow_null_for_absent(definition: &mut Value) {
    let required: Vec<String> = definition
        .get("required")
        .and_then(Value::as_array)
        .map(|names| {
            names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    let Some(properties) = definition
        .get_mut("properties")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    for (name, property) in properties {
        if !required.contains(name) && !accepts_null(property) {
            *property = with_null(property.take());
        }
    }
}

fn accepts_null(schema: &Value) -> bool {
    let typed = |value: &Value| match value {
        Value::String(name) => name == "null",
        Value::Array(names) => names.iter().any(|name| name == "null"),
        _ => false,
    };
    let untyped = ["type", "$ref", "anyOf", "oneOf", "enum", "const"]
        .iter()
        .all(|keyword| schema.get(keyword).is_none());
    let one_of = schema.get("anyOf").and_then(Value::as_array);
    untyped
        || schema.get("type").is_some_and(typed)
        || one_of.is_some_and(|schemas| schemas.iter().any(accepts_null))
}

fn with_null(mut schema: Value) -> Value {
    if let Some(kind) = schema.get("type").and_then(Value::as_str)
        && schema.get("enum").is_none()
    {
        schema["type"] = json!([kind, "null"]);
        return schema;
    }
    let mut outer = Map::new();
    for keyword in ["description", "default"] {
        if let Some(value) = schema
            .as_object_mut()
            .and_then(|object| object.remove(keyword))
        {
            outer.insert(keyword.to_owned(), value);
        }
    }
    outer.insert("anyOf".to_owned(), json!([schema, { "type": "null" }]));
    Value::Object(outer)
}
