//! The published schemas: up to date, valid, and of one mind with the validator.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use freehold_model::{Kind, Metadata, Name, Resource};
use freehold_plan::{
    manifest::{self, Context},
    schema,
};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const UPDATE: &str = "FREEHOLD_UPDATE_SCHEMAS";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_published_schemas_are_up_to_date() {
    let folder = root().join("schemas");
    let mut expected = BTreeSet::new();
    for (name, text) in schema::files() {
        let path = folder.join(&name);
        if std::env::var_os(UPDATE).is_some() {
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "schemas/{name} is stale; renew it with\n\n    {UPDATE}=1 cargo test -p freehold-plan \
             --test schemas\n"
        );
        expected.insert(name);
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            expected.contains(&name),
            "schemas/{name} belongs to no kind: delete it"
        );
    }
}

fn validator(kind: Kind) -> Validator {
    jsonschema::draft202012::new(schema::of(kind)).unwrap()
}

/// What the walker of `manifest/shape.rs` understands. A new keyword must be taught to it first.
#[test]
fn the_schemas_of_manifests_use_only_keywords_that_the_validator_understands() {
    const KNOWN: [&str; 24] = [
        "$schema",
        "$id",
        "$defs",
        "$ref",
        "title",
        "description",
        "type",
        "properties",
        "additionalProperties",
        "propertyNames",
        "required",
        "items",
        "uniqueItems",
        "enum",
        "const",
        "oneOf",
        "anyOf",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "default",
    ];
    fn walk(schema: &Value, at: &str) {
        let Value::Object(object) = schema else {
            assert!(schema.is_boolean(), "{at}: {schema}");
            return;
        };
        if object.contains_key("$ref") {
            let beside = |k: &&String| !["$ref", "description", "default"].contains(&k.as_str());
            assert_eq!(
                object.keys().find(beside),
                None,
                "{at}: a `$ref` hides what is beside it"
            );
        }
        for (keyword, value) in object {
            let at = format!("{at}/{keyword}");
            if keyword == "readOnly" {
                continue;
            }
            assert!(KNOWN.contains(&keyword.as_str()), "{at} is not understood");
            match (keyword.as_str(), value) {
                ("properties" | "$defs", Value::Object(map)) => {
                    map.iter()
                        .for_each(|(name, inner)| walk(inner, &format!("{at}/{name}")));
                }
                ("oneOf" | "anyOf", Value::Array(list)) => {
                    list.iter().for_each(|inner| walk(inner, &at));
                }
                ("items" | "additionalProperties" | "propertyNames", inner) => walk(inner, &at),
                _ => {}
            }
        }
    }
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_view()) {
        walk(schema::of(kind), kind.as_str());
    }
}

/// The metadata's schema is written by hand: it must name every field there is.
#[test]
fn no_field_of_the_metadata_is_forgotten() {
    let derived = schemars::schema_for!(Metadata).to_value();
    let fields = |schema: &Value| -> BTreeSet<String> {
        schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let published = &schema::of(Kind::Database)["$defs"]["Metadata"];
    assert_eq!(fields(published), fields(&derived));
}

fn examples() -> Vec<(String, String)> {
    let folder = root().join("examples/manifests");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "yaml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn context(team: &str) -> Context {
    Context {
        environment: Some(Name::new("dev").unwrap()),
        team: Name::new(team).ok(),
    }
}

#[test]
fn the_example_manifests_are_right_by_schema_and_by_validator() {
    let files = examples();
    assert!(files.len() >= 3);
    let mut kinds = BTreeSet::new();
    for (name, text) in files {
        let documents = manifest::parse(&text, &context(&name))
            .unwrap_or_else(|faults| panic!("{name}.yaml: {faults}"));
        for document in documents {
            let kind = document.resource.kind;
            kinds.insert(kind);
            let value = serde_json::to_value(&document.resource).unwrap();
            let errors: Vec<_> = validator(kind)
                .iter_errors(&value)
                .map(|error| error.to_string())
                .collect();
            assert!(
                errors.is_empty(),
                "{name}.yaml, {}: {errors:?}",
                document.resource.key()
            );
        }
    }
    let all: BTreeSet<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| !kind.is_view())
        .collect();
    assert_eq!(kinds, all, "every kind that can be applied has an example");
}

#[test]
fn the_examples_classes_allow_what_the_examples_databases_ask_for() {
    let mut classes = Map::new();
    let mut databases = Vec::new();
    for (name, text) in examples() {
        for document in manifest::parse(&text, &context(&name)).unwrap() {
            match document.typed {
                manifest::Typed::Class(class) => {
                    let spec = serde_json::to_value(&class.spec).unwrap();
                    classes.insert(class.metadata.name.to_string(), spec);
                }
                manifest::Typed::Database(database) => databases.push(database),
                _ => {}
            }
        }
    }
    assert!(databases.len() >= 3);
    for database in databases {
        let class = &classes[database.spec.class.as_str()];
        let class = serde_json::from_value(class.clone()).unwrap();
        assert_eq!(manifest::validate_with_class(&database.spec, &class), []);
    }
}

/// What `freehold get -o yaml` prints of a resource that has lived for a while can be applied.
#[test]
fn the_output_of_get_applies_cleanly() {
    for (name, text) in examples() {
        for document in manifest::parse(&text, &context(&name)).unwrap() {
            let merged =
                freehold_plan::apply::merge(None, &document.resource, "cli", false).unwrap();
            let mut live = merged.resource;
            let metadata = &mut live.metadata;
            metadata.uid = Some("0190f3a0-0000-7000-8000-000000000001".parse().unwrap());
            metadata.resource_version = "17.f00".to_owned();
            metadata.creation_timestamp = Some("2027-01-01T00:00:00Z".parse().unwrap());
            metadata
                .labels
                .insert("apply-set.freehold.dev/dev".to_owned(), "x".to_owned());
            live.status = Some(json!({"observedGeneration": 1, "conditions": []}));

            let printed = manifest::to_yaml(&live);
            assert!(printed.contains("observedGeneration"), "{printed}");
            let read = manifest::parse(&printed, &Context::default())
                .unwrap_or_else(|faults| panic!("{faults}\n{printed}"));
            let again = &read[0].resource;
            assert_eq!(*again, document.resource, "{printed}");
            let merged = freehold_plan::apply::merge(Some(&live), again, "cli", false).unwrap();
            assert_eq!(merged.outcome, freehold_plan::apply::Outcome::Unchanged);
            assert!(!merged.write);
        }
    }
}

/// A value for a schema: mostly right, sometimes wrong on purpose. Random numbers steer it, so that
/// one strategy serves every kind.
struct Maker<'s> {
    root: &'s Value,
    choices: std::vec::IntoIter<u8>,
}

impl Maker<'_> {
    fn choice(&mut self, count: usize) -> usize {
        usize::from(self.choices.next().unwrap_or(0)) % count
    }

    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if self.choice(24) == 1 {
            return self.wrong();
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let schema = self.root.pointer(&reference[1..]).unwrap().clone();
            return self.value(&schema, depth);
        }
        if let Some(branches) = schema["anyOf"].as_array() {
            let branch = branches[self.choice(branches.len() * 3) / 3].clone();
            return self.value(&branch, depth);
        }
        if schema.get("properties").is_none()
            && let Some(branches) = schema["oneOf"].as_array()
        {
            let branch = branches[self.choice(branches.len())].clone();
            return self.value(&branch, depth);
        }
        if let Some(words) = schema["enum"].as_array() {
            return words[self.choice(words.len())].clone();
        }
        if let Some(word) = schema.get("const") {
            return word.clone();
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            Value::String(name) => vec![name.as_str()],
            _ => vec!["null"],
        };
        match types[self.choice(types.len() * 3) / 3] {
            "object" => self.object(schema, depth),
            "array" => {
                let count = self.choice(4);
                (0..count)
                    .map(|_| self.value(&schema["items"], depth + 1))
                    .collect()
            }
            "string" => self.text(schema),
            "integer" => self.integer(schema),
            "boolean" => Value::Bool(self.choice(2) == 1),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut object = Map::new();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let needed = required.iter().any(|it| it == name);
            if (needed && self.choice(30) != 1) || (!needed && self.choice(3) == 1) {
                object.insert(name.clone(), self.value(property, depth + 1));
            }
        }
        if self.choice(30) == 1 {
            object.insert("unknown".to_owned(), Value::Null);
        }
        if schema.get("propertyNames").is_some() && self.choice(2) == 1 {
            let key = ["a", "x.y/z", "-", "", "é"][self.choice(5)];
            let value = self.value(&schema["additionalProperties"], depth + 1);
            object.insert(key.to_owned(), value);
        }
        Value::Object(object)
    }

    fn text(&mut self, _: &Value) -> Value {
        const TEXTS: [&str; 22] = [
            "a",
            "orders",
            "public",
            "15",
            "14",
            "env:X",
            "file:/x",
            "exec:true",
            "pg.example.com",
            "10.0.0.1",
            "::1",
            "2027-01-31T12:00:00Z",
            "pg_trgm",
            "é",
            "",
            "x y",
            "A",
            "a\u{0}b",
            "'; --",
            "a-very-long-name-that-is-longer-than-sixty-three-characters-in-all-really",
            "uuid-ossp",
            "w",
        ];
        TEXTS[self.choice(TEXTS.len())].into()
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let min = schema["minimum"].as_u64().unwrap_or(0);
        let max = schema["maximum"].as_u64().unwrap_or(u64::MAX);
        match self.choice(9) {
            0 => min.into(),
            1 => max.into(),
            2 => max.saturating_add(1).into(),
            3 => json!(-1),
            _ => (min + 1).min(max).into(),
        }
    }

    fn wrong(&mut self) -> Value {
        let values = [
            json!(null),
            json!(true),
            json!(7),
            json!("x"),
            json!([]),
            json!({}),
            json!([1]),
        ];
        values[self.choice(values.len())].clone()
    }
}

/// What the validator refuses and a schema lets through: rules across fields, bytes where the
/// schema counts characters, forms that no pattern says well.
fn is_beyond_schema(key: &str) -> bool {
    matches!(
        key,
        "duplicate"
            | "contradiction"
            | "reserved"
            | "length"
            | "form"
            | "nul"
            | "scope"
            | "view"
            | "engine"
    )
}

fn resource(kind: Kind, spec: Value) -> Resource {
    let mut metadata = Metadata::named(Name::new("x").unwrap());
    let name = |text| Some(Name::new(text).unwrap());
    match kind.scope() {
        freehold_model::Scope::Global => {}
        freehold_model::Scope::Environment => metadata.environment = name("dev"),
        freehold_model::Scope::Team => metadata.namespace = name("shop"),
        freehold_model::Scope::EnvironmentAndTeam => {
            (metadata.environment, metadata.namespace) = (name("dev"), name("shop"));
        }
    }
    Resource {
        api_version: freehold_model::API_VERSION.to_owned(),
        kind,
        metadata,
        spec,
        status: None,
    }
}

/// Returns whether it was accepted.
fn agree(kind: Kind, validator: &Validator, choices: Vec<u8>) -> Result<bool, TestCaseError> {
    let root = schema::of(kind);
    let mut maker = Maker {
        root,
        choices: choices.into_iter(),
    };
    let spec = maker.value(&root["$defs"][format!("{kind}Spec")], 0);
    let resource = resource(kind, spec);
    let value = serde_json::to_value(&resource).unwrap();
    let by_schema = validator.is_valid(&value);
    match manifest::validate(&resource) {
        Ok(_) => {
            let errors: Vec<_> = validator
                .iter_errors(&value)
                .map(|e| e.to_string())
                .collect();
            prop_assert!(by_schema, "only the schema refuses {value:#}: {errors:?}");
            Ok(true)
        }
        Err(violations) => {
            prop_assert!(!violations.is_empty());
            let unreadable = violations
                .iter()
                .find(|violation| violation.key == "unreadable");
            prop_assert!(unreadable.is_none(), "{unreadable:?} in {value:#}");
            if by_schema {
                let within = violations
                    .iter()
                    .find(|violation| !is_beyond_schema(violation.key));
                prop_assert!(
                    within.is_none(),
                    "only the validator says {within:?} of {value:#}"
                );
            }
            Ok(false)
        }
    }
}

#[test]
fn schema_and_validator_agree_on_right_and_wrong_specs_of_every_kind() {
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_view()) {
        let validator = validator(kind);
        let accepted = std::cell::Cell::new(0);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 800,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let choices = prop::collection::vec(any::<u8>(), 0..150);
        runner
            .run(&choices, |choices| {
                let right = agree(kind, &validator, choices)?;
                accepted.set(accepted.get() + usize::from(right));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        // Otherwise the test says nothing about what is accepted.
        assert!(accepted.get() > 10, "{kind}: {} accepted", accepted.get());
    }
}

/// The reference names every field of every kind, so that a new field is not forgotten there.
#[test]
fn the_reference_of_kinds_names_every_field() {
    let text = fs::read_to_string(root().join("docs/manifests.md")).unwrap();
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_view()) {
        let begin = text
            .find(&format!("\n## {kind}\n"))
            .expect("every kind has a section");
        let section = &text[begin + 4..];
        let section = section.split("\n## ").next().unwrap();
        let definitions = schema::of(kind)["$defs"].as_object().unwrap();
        for (definition, schema) in definitions {
            if definition == "Metadata" {
                continue;
            }
            for field in schema["properties"]
                .as_object()
                .into_iter()
                .flat_map(|it| it.keys())
            {
                let named = ["`", "."]
                    .iter()
                    .any(|mark| section.contains(&format!("{mark}{field}`")));
                assert!(named, "docs/manifests.md: {kind} says nothing of `{field}`");
            }
        }
    }
}
