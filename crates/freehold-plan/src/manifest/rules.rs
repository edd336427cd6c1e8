//! Rules that look at several fields at once, which no schema says well.
//!
//! They read plain JSON and pass over what has the wrong shape, so that a manifest with a slip in
//! one field still hears everything else that is wrong with it.

use std::collections::HashSet;

use freehold_model::{Kind, Metadata, Name, Scope, kinds::EngineProfile};
use serde_json::Value;

use super::Violation;
use crate::text::shown;

struct Rules {
    violations: Vec<Violation>,
}

impl Rules {
    fn say(&mut self, pointer: impl Into<String>, key: &'static str, message: impl Into<String>) {
        self.violations.push(Violation {
            pointer: pointer.into(),
            key,
            message: message.into(),
        });
    }
}

/// Which of team and environment a kind has.
pub(super) fn metadata(kind: Kind, metadata: &Metadata) -> Vec<Violation> {
    let mut rules = Rules {
        violations: Vec::new(),
    };
    let (needs_environment, needs_team) = match kind.scope() {
        Scope::Global => (false, false),
        Scope::Environment => (true, false),
        Scope::Team => (false, true),
        Scope::EnvironmentAndTeam => (true, true),
    };
    match (&metadata.namespace, needs_team) {
        (None, true) => rules.say(
            "/metadata/namespace",
            "missing",
            format!(
                "{} belongs to a team: name it in `metadata.namespace` or with --team",
                a(kind)
            ),
        ),
        (Some(_), false) => rules.say(
            "/metadata/namespace",
            "scope",
            format!(
                "{} belongs to no team: remove `metadata.namespace`",
                a(kind)
            ),
        ),
        _ => {}
    }
    match (&metadata.environment, needs_environment) {
        (None, true) => rules.say(
            "/metadata/environment",
            "missing",
            format!(
                "{} lives in an environment: name it in `metadata.environment` or with --env",
                a(kind)
            ),
        ),
        (Some(_), false) => rules.say(
            "/metadata/environment",
            "scope",
            format!(
                "{} is the same in every environment: remove `metadata.environment`",
                a(kind)
            ),
        ),
        _ => {}
    }
    rules.violations
}

/// `a Database`, `an Instance`.
pub(super) fn a(kind: Kind) -> String {
    let article = match kind {
        Kind::Environment | Kind::Instance | Kind::Access | Kind::Operation => "an",
        Kind::Team | Kind::Workload | Kind::Class | Kind::Database | Kind::Binding => "a",
    };
    format!("{article} {kind}")
}

/// The rules of one kind's spec. `name` is the resource's, where it could be read.
pub(super) fn spec(kind: Kind, name: Option<&str>, spec: &Value) -> Vec<Violation> {
    let mut rules = Rules {
        violations: Vec::new(),
    };
    match kind {
        Kind::Team => team(&mut rules, spec),
        Kind::Instance => instance(&mut rules, spec),
        Kind::Class => class(&mut rules, spec),
        Kind::Database => database(&mut rules, name, spec),
        Kind::Access => {
            let level = spec.get("level").and_then(Value::as_str);
            targets(&mut rules, "/spec/targets", level, spec.get("targets"));
        }
        Kind::Environment | Kind::Workload | Kind::Binding | Kind::Operation => {}
    }
    rules.violations
}

fn team(rules: &mut Rules, spec: &Value) {
    let mut seen = HashSet::new();
    for (index, member) in list(spec.get("members")) {
        let Some(subject) = member.get("subject").and_then(Value::as_str) else {
            continue;
        };
        if !seen.insert(subject) {
            let at = format!("/spec/members/{index}/subject");
            let subject = shown(subject);
            rules.say(at, "duplicate", format!("`{subject}` is a member twice"));
        }
    }
}

fn instance(rules: &mut Rules, spec: &Value) {
    if let Some(engine) = profile(spec) {
        instance_of(rules, engine, spec);
    }
    let Some(external) = spec.get("external") else {
        return;
    };
    let plain = external.get("tls").and_then(Value::as_str) == Some("disable");
    if plain && external.get("ca").is_some_and(|ca| !ca.is_null()) {
        rules.say(
            "/spec/external/ca",
            "contradiction",
            "`ca` is never looked at, because `tls` is `disable`: remove one of the two",
        );
    }
}

fn profile(spec: &Value) -> Option<&'static EngineProfile> {
    EngineProfile::of(spec.get("engine")?.as_str()?)
}

fn instance_of(rules: &mut Rules, engine: &EngineProfile, spec: &Value) {
    let given = |field: &str| spec.get(field).is_some_and(|value| !value.is_null());
    let name = engine.name;
    if given("external") && !engine.external {
        let message = format!(
            "a {name} instance is a folder on the machine of `freehold serve`: write `local: {{}}` instead"
        );
        rules.say("/spec/external", "engine", message);
    }
    if given("local") && !engine.local {
        let message = format!(
            "Freehold makes no {name} servers: write `external` with the address of one that runs"
        );
        rules.say("/spec/local", "engine", message);
    }
    for field in ["version", "port"] {
        let at = format!("/spec/local/{field}");
        if spec.pointer(&at[5..]).is_some_and(|value| !value.is_null()) && !engine.local_server {
            let message = format!("a {name} instance has no `{field}`: leave it out");
            rules.say(at, "engine", message);
        }
    }
    let tls = spec.pointer("/external/tls").and_then(Value::as_str);
    if !engine.tls_by_choice && tls == Some("prefer") {
        let message = format!(
            "a port of {name} speaks TLS or it does not, and programs have to know: write `verifyFull` or \
             `disable`"
        );
        rules.say("/spec/external/tls", "engine", message);
    }
    let database = spec.pointer("/external/adminDatabase");
    if engine.name != "postgres" && database.is_some_and(|value| !value.is_null()) {
        let message = format!("`adminDatabase` is PostgreSQL's: leave it out for {name}");
        rules.say("/spec/external/adminDatabase", "engine", message);
    }
}

/// What a class promises must be something that its engine can keep.
fn class_of(rules: &mut Rules, engine: &EngineProfile, spec: &Value) {
    let name = engine.name;
    let limits = spec.get("limits").and_then(Value::as_object);
    for (limit, value) in limits.into_iter().flatten() {
        if !value.is_null() && !engine.limits.contains(&limit.as_str()) {
            let can = match engine.limits {
                [] => "it can hold none".to_owned(),
                some => format!("it can hold {}", some.join(" and ")),
            };
            let message = format!("{name} cannot hold the limit `{}`; {can}", shown(limit));
            rules.say(format!("/spec/limits/{limit}"), "engine", message);
        }
    }
    if !engine.extensions && list(spec.get("extensions")).next().is_some() {
        let message = format!("{name} databases have no extensions to create: leave it out");
        rules.say("/spec/extensions", "engine", message);
    }
}

fn class(rules: &mut Rules, spec: &Value) {
    if let Some(engine) = profile(spec) {
        class_of(rules, engine, spec);
    }
    let major = |field: &str| {
        spec.get(field)
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<u32>().ok())
    };
    if let (Some(min), Some(max)) = (major("versionMin"), major("versionMax"))
        && min > max
    {
        let message = format!("versionMin {min} is above versionMax {max}: no version is left");
        rules.say("/spec/versionMin", "contradiction", message);
    }
}

fn database(rules: &mut Rules, name: Option<&str>, spec: &Value) {
    for (index, schema) in list(spec.get("schemas")) {
        let Some(schema) = schema.as_str() else {
            continue;
        };
        let at = format!("/spec/schemas/{index}");
        let reserved = schema == "information_schema" || schema.starts_with("pg_");
        if reserved || schema.starts_with("freehold") {
            let owner = if reserved { "the server" } else { "Freehold" };
            let schema = shown(schema);
            rules.say(
                at,
                "reserved",
                format!("schema name `{schema}` is kept for {owner}"),
            );
        } else if schema == "public" {
            rules.say(
                at,
                "reserved",
                "schema `public` is there already: leave it out",
            );
        }
    }
    inline_accesses(rules, name, spec);
    hints(rules, name, spec);
}

fn inline_accesses(rules: &mut Rules, name: Option<&str>, spec: &Value) {
    let mut seen = HashSet::new();
    for (index, access) in list(spec.get("access")) {
        let at = format!("/spec/access/{index}");
        let level = access.get("level").and_then(Value::as_str);
        targets(
            rules,
            &format!("{at}/targets"),
            level,
            access.get("targets"),
        );
        let Some(workload) = access.get("workload").and_then(Value::as_str) else {
            continue;
        };
        if !seen.insert(workload) {
            let message = format!(
                "workload `{}` has an access above: join the two, or write an Access resource",
                shown(workload)
            );
            rules.say(format!("{at}/workload"), "duplicate", message);
        }
        if let Some(name) = name
            && Name::new(workload).is_ok()
            && Name::new(format!("{name}-{workload}")).is_err()
        {
            let message = format!(
                "its access would be named `{name}-{workload}`, which is longer than {} \
                 characters: write an Access resource with a name of its own instead",
                Name::LENGTH_MAX
            );
            rules.say(format!("{at}/workload"), "length", message);
        }
    }
}

fn hints(rules: &mut Rules, name: Option<&str>, spec: &Value) {
    let Some(placement) = spec.get("placement") else {
        return;
    };
    let mut near = HashSet::new();
    for field in ["near", "avoid"] {
        for (index, other) in list(placement.get(field)) {
            let Some(other) = other.as_str() else {
                continue;
            };
            let at = format!("/spec/placement/{field}/{index}");
            if Some(other) == name {
                rules.say(&at, "contradiction", "a database cannot name itself here");
            }
            if field == "near" {
                near.insert(other);
            } else if near.contains(other) {
                let message = format!("`{}` is in `near` and in `avoid`", shown(other));
                rules.say(&at, "contradiction", message);
            }
        }
    }
}

fn targets(rules: &mut Rules, at: &str, level: Option<&str>, on: Option<&Value>) {
    let whole: HashSet<&str> = list(on)
        .filter(|(_, target)| target.get("table").is_none_or(Value::is_null))
        .filter_map(|(_, target)| target.get("schema").and_then(Value::as_str))
        .collect();
    for (index, target) in list(on) {
        let table = target.get("table").and_then(Value::as_str);
        let schema = target.get("schema").and_then(Value::as_str);
        if table.is_none() && schema.is_none_or(str::is_empty) {
            let message = "name a schema, or a table, or both";
            rules.say(format!("{at}/{index}"), "form", message);
        }
        if table.is_some() && level == Some("owner") {
            rules.say(
                format!("{at}/{index}/table"),
                "contradiction",
                "owner access defines objects, so it is to a database or to a schema, not to a \
                 table: use readWrite, or drop `table`",
            );
        }
        if table.is_some() && schema.is_some_and(|schema| whole.contains(schema)) {
            let message = format!(
                "schema `{}` is named as a whole already: drop this entry",
                shown(schema.unwrap_or_default())
            );
            rules.say(format!("{at}/{index}"), "duplicate", message);
        }
    }
}

/// What a database may ask of its class.
pub(super) fn with_class(
    database: &freehold_model::kinds::DatabaseSpec,
    class: &freehold_model::kinds::ClassSpec,
) -> Vec<Violation> {
    let mut rules = Rules {
        violations: Vec::new(),
    };
    let class_name = &database.class;
    for (index, extension) in database.extensions.iter().enumerate() {
        if class.extensions.contains(extension) {
            continue;
        }
        let known = class.extensions.iter().map(String::as_str);
        let advice = match crate::text::nearest(extension, known) {
            Some(word) => format!("did you mean `{word}`?"),
            None if class.extensions.is_empty() => "it allows none".to_owned(),
            None => format!("it allows {}", class.extensions.join(", ")),
        };
        let extension = shown(extension);
        let message =
            format!("class `{class_name}` does not allow extension `{extension}`; {advice}");
        rules.say(format!("/spec/extensions/{index}"), "classForbids", message);
    }
    let Some(engine) = EngineProfile::of(class.engine.as_str()) else {
        return rules.violations;
    };
    let name = engine.name;
    if !engine.schemas && !database.schemas.is_empty() {
        let message = format!(
            "class `{class_name}` is of {name}, which has no schemas inside a database: leave them out"
        );
        rules.say("/spec/schemas", "engine", message);
    }
    for (index, access) in database.access.iter().enumerate() {
        for (number, target) in access.targets.iter().enumerate() {
            let at = format!("/spec/access/{index}/targets/{number}/schema");
            if engine.schemas && target.schema.is_empty() {
                rules.say(at, "required", "name the table's schema, e.g. `public`");
            } else if engine.table_grants && !engine.schemas && !target.schema.is_empty() {
                let message =
                    format!("{name} has no schemas inside a database: name the table alone");
                rules.say(at, "engine", message);
            }
        }
        if !engine.table_grants && !access.targets.is_empty() {
            let message = format!(
                "class `{class_name}` is of {name}, which gives access to whole databases only: leave \
                 `targets` out"
            );
            rules.say(format!("/spec/access/{index}/targets"), "engine", message);
        }
    }
    rules.violations
}

fn list(value: Option<&Value>) -> impl Iterator<Item = (usize, &Value)> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
}
