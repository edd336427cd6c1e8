//! What a merge changes, as text for people and as a list for programs.

use freehold_model::Resource;
use serde_json::{Map, Value, json};
use similar::TextDiff;

use super::leaves::{self, Leaves};
use crate::manifest;

/// One changed leaf. `before` is absent when it is added, `after` when it is removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub pointer: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// A unified diff of the YAML forms; empty when nothing differs.
    pub text: String,
    /// Sorted by pointer.
    pub changes: Vec<Change>,
}

/// Compares what people may write: labels, annotations and spec. Either side may be absent.
pub fn diff(live: Option<&Resource>, merged: Option<&Resource>) -> Diff {
    let leaves = |side: Option<&Resource>| side.map(leaves::of).unwrap_or_default();
    let text = |side: Option<&Resource>| side.map(written).unwrap_or_default();
    let title = |side: Option<&Resource>| {
        side.map_or_else(
            || "nothing".to_owned(),
            |resource| resource.key().to_string(),
        )
    };
    let (before, after) = (text(live), text(merged));
    let text = if before == after {
        String::new()
    } else {
        let names = (
            format!("live     {}", title(live)),
            format!("applied  {}", title(merged)),
        );
        TextDiff::from_lines(&before, &after)
            .unified_diff()
            .context_radius(3)
            .header(&names.0, &names.1)
            .to_string()
    };
    Diff {
        text,
        changes: changes(&leaves(live), &leaves(merged)),
    }
}

pub(super) fn changes(before: &Leaves, after: &Leaves) -> Vec<Change> {
    let mut changes: Vec<Change> = before
        .iter()
        .filter(|(at, value)| after.get(*at) != Some(value))
        .map(|(at, value)| Change {
            pointer: at.clone(),
            before: Some(value.clone()),
            after: after.get(at).cloned(),
        })
        .collect();
    let added = after.iter().filter(|(at, _)| !before.contains_key(*at));
    changes.extend(added.map(|(at, value)| Change {
        pointer: at.clone(),
        before: None,
        after: Some(value.clone()),
    }));
    changes.sort_by(|a, b| a.pointer.cmp(&b.pointer));
    changes
}

/// The part of a resource that people write, with sorted fields, so that order is no difference.
fn written(resource: &Resource) -> String {
    let metadata = &resource.metadata;
    let people_s = |map: &std::collections::BTreeMap<String, String>| -> Map<String, Value> {
        map.iter()
            .filter(|(key, _)| !manifest::is_reserved_label(key))
            .map(|(key, value)| (key.clone(), Value::String(value.clone())))
            .collect()
    };
    let mut head = Map::new();
    head.insert("name".to_owned(), json!(metadata.name));
    if let Some(team) = &metadata.namespace {
        head.insert("namespace".to_owned(), json!(team));
    }
    if let Some(environment) = &metadata.environment {
        head.insert("environment".to_owned(), json!(environment));
    }
    for (field, map) in [
        ("labels", people_s(&metadata.labels)),
        ("annotations", people_s(&metadata.annotations)),
    ] {
        if !map.is_empty() {
            head.insert(field.to_owned(), Value::Object(map));
        }
    }
    manifest::value_to_yaml(&json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": head,
        "spec": sorted(&manifest::without_nulls(&resource.spec)),
    }))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> = object.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            let fields = fields
                .into_iter()
                .map(|(name, value)| (name.clone(), sorted(value)));
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}
