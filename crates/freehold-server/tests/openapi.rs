//! The committed document is what the server says of itself.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

fn parsed() -> Value {
    serde_json::from_str(&freehold_server::document()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.is_object() {
                operations.push((path.clone(), method.clone(), operation.clone()));
            }
        }
    }
    operations
}

#[test]
fn the_committed_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/freehold.json");
    let now = freehold_server::document();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let first = now
        .lines()
        .zip(committed.lines().chain(std::iter::repeat("(end of file)")))
        .enumerate()
        .find(|(_, (now, committed))| now != committed);
    assert!(
        now == committed,
        "openapi/freehold.json differs from the routes, first at {first:?}; \
         look at the change, then run this test with UPDATE_OPENAPI=1"
    );
}

#[test]
fn every_operation_has_an_id_an_action_a_summary_and_the_error_body() {
    let document = parsed();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let (noun, verb) = id.split_once('_').unwrap_or_default();
        assert!(
            !noun.is_empty() && !verb.is_empty(),
            "{method} {path}: id {id:?}"
        );
        assert!(ids.insert(id), "{method} {path}: its id is used twice");
        assert!(operation["summary"].is_string(), "{method} {path}");
        let action = &operation["x-freehold-action"];
        assert!(action["action"].is_string(), "{method} {path}");
        let open = action["action"] == "none";
        assert_eq!(operation["security"].is_null(), open, "{method} {path}");
        if path != "/metrics" {
            let failure = &operation["responses"]["default"]["content"]["application/json"];
            assert_eq!(
                failure["schema"]["$ref"], "#/components/schemas/FailureBody",
                "{method} {path}"
            );
        }
    }
    assert!(ids.len() >= 29, "only {} operations", ids.len());
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                map.values().for_each(|inner| walk(inner, document));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(inner, document)),
            _ => {}
        }
    }
    let document = parsed();
    walk(&document, &document);
}
