//! A resource as a flat map from JSON pointer to value: the unit in which fields are owned.
//!
//! A leaf is a scalar, a whole list (lists are atomic) or an empty mapping below `/spec`, or one
//! label or annotation. Nulls stand for absent fields and are no leaves. Freehold's own labels are
//! not part of it: no manager owns them.

use std::collections::BTreeMap;

use freehold_model::{Metadata, Resource};
use serde_json::{Map, Value};

use crate::{manifest, pointer};

pub(super) type Leaves = BTreeMap<String, Value>;

pub(super) const LABELS: &str = "/metadata/labels";
pub(super) const ANNOTATIONS: &str = "/metadata/annotations";

/// Everything in a resource that managers own.
pub(super) fn of(resource: &Resource) -> Leaves {
    let mut leaves = Leaves::new();
    // An empty spec is there in every resource, so nobody owns its being there.
    if let Value::Object(spec) = manifest::without_nulls(&resource.spec) {
        for (name, value) in &spec {
            below(&mut leaves, pointer::join("/spec", name), value);
        }
    }
    let maps = [
        (LABELS, &resource.metadata.labels),
        (ANNOTATIONS, &resource.metadata.annotations),
    ];
    for (parent, map) in maps {
        for (key, value) in map {
            if !manifest::is_reserved_label(key) {
                leaves.insert(pointer::join(parent, key), Value::String(value.clone()));
            }
        }
    }
    leaves
}

fn below(leaves: &mut Leaves, at: String, value: &Value) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (name, value) in object {
                below(leaves, pointer::join(&at, name), value);
            }
        }
        leaf => {
            leaves.insert(at, leaf.clone());
        }
    }
}

/// The value at a leaf's pointer, wherever it is kept.
pub(super) fn get(resource: &Resource, at: &str) -> Option<Value> {
    if let Some((map, key)) = text_map(&resource.metadata, at) {
        return map.get(&key).map(|text| Value::String(text.clone()));
    }
    let value = resource.spec.pointer(at.strip_prefix("/spec")?)?;
    (!value.is_null()).then(|| value.clone())
}

/// Puts a value in, making the mappings on the way and replacing what is no mapping.
pub(super) fn set(resource: &mut Resource, at: &str, value: &Value) {
    if let Some((map, key)) = text_map_mut(&mut resource.metadata, at) {
        if let Value::String(text) = value {
            map.insert(key, text.clone());
        }
        return;
    }
    let Some(path) = at.strip_prefix("/spec/") else {
        return;
    };
    let mut slot = &mut resource.spec;
    for token in path.split('/') {
        let token = pointer::unescape(token);
        slot = mapping(slot).entry(token.as_ref()).or_insert(Value::Null);
    }
    let keeps_children = value == &Value::Object(Map::new()) && matches!(slot, Value::Object(_));
    if !keeps_children {
        *slot = value.clone();
    }
}

fn mapping(slot: &mut Value) -> &mut Map<String, Value> {
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
        .expect("it was made a mapping just now")
}

/// Takes a leaf out, and the mappings around it that are left empty unless `kept` says that
/// somebody owns their being there.
pub(super) fn remove(resource: &mut Resource, at: &str, kept: &dyn Fn(&str) -> bool) {
    if let Some((map, key)) = text_map_mut(&mut resource.metadata, at) {
        map.remove(&key);
        return;
    }
    let filled = |value: &Value| value.as_object().is_some_and(|object| !object.is_empty());
    let mut at = at.to_owned();
    while let Some((parent, token)) = at.rsplit_once('/') {
        let Some(inner) = parent.strip_prefix("/spec") else {
            return;
        };
        let Some(Value::Object(object)) = resource.spec.pointer_mut(inner) else {
            return;
        };
        let token = pointer::unescape(token);
        if object.get(token.as_ref()).is_none_or(filled) {
            return;
        }
        object.shift_remove(token.as_ref());
        if !object.is_empty() || kept(parent) {
            return;
        }
        at = parent.to_owned();
    }
}

fn key_of(at: &str) -> Option<(bool, String)> {
    for (parent, is_label) in [(LABELS, true), (ANNOTATIONS, false)] {
        if let Some(key) = at
            .strip_prefix(parent)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            return Some((is_label, pointer::unescape(key).into_owned()));
        }
    }
    None
}

fn text_map<'m>(
    metadata: &'m Metadata,
    at: &str,
) -> Option<(&'m BTreeMap<String, String>, String)> {
    let (is_label, key) = key_of(at)?;
    let map = if is_label {
        &metadata.labels
    } else {
        &metadata.annotations
    };
    Some((map, key))
}

fn text_map_mut<'m>(
    metadata: &'m mut Metadata,
    at: &str,
) -> Option<(&'m mut BTreeMap<String, String>, String)> {
    let (is_label, key) = key_of(at)?;
    let map = if is_label {
        &mut metadata.labels
    } else {
        &mut metadata.annotations
    };
    Some((map, key))
}
