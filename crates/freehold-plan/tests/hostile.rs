//! Whatever is put anywhere into a manifest, it is accepted or refused, quickly, and never panics.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use freehold_model::{Kind, Name};
use freehold_plan::{
    apply,
    manifest::{self, Context, Typed},
    schema,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn context() -> Context {
    Context {
        environment: Some(Name::new("dev").unwrap()),
        team: Some(Name::new("shop").unwrap()),
    }
}

/// One full document of each kind: every field there is.
fn full_documents() -> Vec<Value> {
    let document = |kind: &str, spec: Value| {
        json!({
            "apiVersion": freehold_model::API_VERSION,
            "kind": kind,
            "metadata": {
                "name": "orders", "labels": {"a": "b"}, "annotations": {"a": "b"},
            },
            "spec": spec,
        })
    };
    vec![
        document("Environment", json!({"order": 1, "protected": true})),
        document(
            "Team",
            json!({"displayName": "x", "members": [{"subject": "ana", "role": "owner"}]}),
        ),
        document("Workload", json!({"description": "x"})),
        document(
            "Instance",
            json!({
                "engine": "postgres",
                "external": {
                    "host": "h", "port": 1, "username": "u", "password": "env:X",
                    "adminDatabase": "d", "tls": "prefer", "ca": "file:/x",
                    "workloadEndpoint": {"host": "h", "port": 1},
                },
                "tenancy": "shared", "allowedTeams": ["a"], "classes": ["a"],
                "capacity": {
                    "databases": 1, "storageMib": 1, "connections": 1, "throughput": 1,
                    "headroomPercent": 1,
                },
                "cordon": true,
            }),
        ),
        document(
            "Instance",
            json!({"engine": "postgres", "local": {"version": "15", "port": 6000}}),
        ),
        document(
            "Class",
            json!({
                "engine": "postgres", "isolation": "shared", "versionMin": "14", "versionMax": "18",
                "limits": {
                    "connections": 1, "statementTimeoutMs": 1, "lockTimeoutMs": 1,
                    "idleInTransactionTimeoutMs": 1, "tempFilesMib": 1,
                },
                "load": {"storageMib": 1, "connections": 1, "throughput": 1},
                "extensions": ["a"], "deletionPolicy": "Retain", "quarantineDays": 1,
            }),
        ),
        document(
            "Database",
            json!({
                "class": "small", "load": {"storageMib": 1, "connections": 1, "throughput": 1},
                "placement": {"near": ["a"], "avoid": ["b"], "instance": "c"},
                "extensions": ["a"], "schemas": ["a"],
                "access": [
                    {"workload": "w", "level": "readOnly", "targets": [{"schema": "s", "table": "t"}]},
                ],
                "deletionPolicy": "Quarantine", "manage": "observe",
            }),
        ),
        document(
            "Access",
            json!({
                "database": "d", "subject": {"workload": "w", "team": "t"}, "level": "readOnly",
                "targets": [{"schema": "s", "table": "t"}], "expiresAt": "2027-01-01T00:00:00Z",
                "reason": "r",
            }),
        ),
    ]
}

/// The pointer of every value in a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// The full documents really are full: a field that a kind gets later must be added above.
#[test]
fn every_field_of_every_kind_is_fuzzed() {
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_view()) {
        let mut written = Vec::new();
        for document in full_documents()
            .iter()
            .filter(|it| it["kind"] == kind.as_str())
        {
            pointers(document, "", &mut written);
        }
        let named: std::collections::BTreeSet<&str> = written
            .iter()
            .filter_map(|at| at.rsplit('/').next())
            .collect();
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
                assert!(
                    named.contains(field.as_str()),
                    "{kind}: {definition}.{field} is missing"
                );
            }
        }
    }
}

#[test]
fn the_full_documents_are_right() {
    for document in full_documents() {
        let text = document.to_string();
        manifest::parse(&text, &context()).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    }
}

fn hostile_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "a b",
        "'",
        "\"",
        "\"; drop table x; --",
        "%",
        "_",
        "\\",
        "`",
        "$$",
        "a\u{0}b",
        "\u{0}",
        "\n",
        "\r\n",
        "\t",
        "\u{1b}[2J",
        "\u{202e}abc",
        "\u{200b}",
        "\u{feff}",
        "аdmin",
        "ﬁ",
        "😀",
        "select",
        "public",
        "pg_catalog",
        "postgres",
        "template1",
        "../../etc/passwd",
        "/",
        "~",
        "~1",
        "{{x}}",
        "${jndi:x}",
        "null",
        "true",
        "0",
        "-1",
        "1e999",
        "NaN",
        "<script>",
        "&a",
        "*a",
        "!!str x",
        "- a",
        "? a",
        "| ",
        ">",
        "#",
        "a: b",
        "[",
        "{",
        "---",
        "...",
        "<<",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    for length in [62, 63, 64, 255, 5000] {
        texts.push("x".repeat(length));
        texts.push("ü".repeat(length / 2));
    }
    texts
}

/// Checks what must hold of any text: no panic, and what is accepted is accepted again after a
/// round through YAML, and can be merged with itself without change.
fn read(text: &str) {
    let Ok(documents) = manifest::parse(text, &context()) else {
        return;
    };
    for document in documents {
        let resource = &document.resource;
        assert!(manifest::validate(resource).is_ok(), "{text}");
        let printed = manifest::to_yaml(resource);
        let again = manifest::parse(&printed, &Context::default())
            .unwrap_or_else(|faults| panic!("{faults}\n{printed}"));
        assert_eq!(again[0].resource, *resource, "{printed}");
        let live = apply::merge(None, resource, "cli", false).unwrap().resource;
        let same = apply::merge(Some(&live), resource, "cli", false).unwrap();
        assert_eq!(same.outcome, apply::Outcome::Unchanged);
        if let Typed::Database(database) = &document.typed {
            let uid = "0190f3a0-0000-7000-8000-000000000001".parse().unwrap();
            let expansion = apply::expand(database, uid, &[]).unwrap();
            assert_eq!(expansion.accesses.len(), database.spec.access.len());
            for access in &expansion.accesses {
                assert!(manifest::validate(access).is_ok(), "{access:?}");
            }
        }
    }
}

#[test]
fn every_hostile_text_in_every_field_is_accepted_or_refused() {
    let texts = hostile_texts();
    for document in full_documents() {
        let mut fields = Vec::new();
        pointers(&document, "", &mut fields);
        for field in fields.iter().filter(|field| !field.is_empty()) {
            for text in &texts {
                let mut bad = document.clone();
                *bad.pointer_mut(field).unwrap() = Value::String(text.clone());
                read(&bad.to_string());
            }
        }
    }
}

/// Names that reach a server as identifiers keep their rules wherever they stand.
#[test]
fn no_name_that_is_not_a_name_gets_through() {
    for document in full_documents() {
        let kind = document["kind"].as_str().unwrap().to_owned();
        for field in [
            "/metadata/name",
            "/metadata/namespace",
            "/metadata/environment",
        ] {
            for text in hostile_texts() {
                if Name::new(text.as_str()).is_ok() {
                    continue;
                }
                let mut bad = document.clone();
                bad["metadata"][field.rsplit('/').next().unwrap()] = Value::String(text.clone());
                let faults = manifest::parse(&bad.to_string(), &context());
                assert!(faults.is_err(), "{kind} {field}: {text:?}");
            }
        }
    }
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,4}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_in_any_place_is_accepted_or_refused(
        which in any::<prop::sample::Index>(),
        places in prop::collection::vec((any::<prop::sample::Index>(), json_values()), 1..4),
    ) {
        let documents = full_documents();
        let mut document = which.get(&documents).clone();
        for (place, value) in places {
            let mut fields = Vec::new();
            pointers(&document, "", &mut fields);
            *document.pointer_mut(place.get::<String>(&fields)).unwrap() = value;
        }
        read(&document.to_string());
    }

    #[test]
    fn any_text_is_accepted_or_refused(text in "(\\PC|[\\n:\\-\\[\\]{}&*!|>'\"%@`#, ]){0,80}") {
        read(&text);
    }

    /// Half of the danger is in texts that are nearly right.
    #[test]
    fn a_right_text_with_a_piece_cut_out_or_put_in_is_accepted_or_refused(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        cut in 0usize..12,
        put in "(\\PC|[\\n\\t:\\-\\[\\]{}&*!|>'\"]){0,4}",
    ) {
        let document = manifest::value_to_yaml(which.get(&full_documents()));
        let chars: Vec<char> = document.chars().collect();
        let at = at.index(chars.len());
        let rest = &chars[(at + cut).min(chars.len())..];
        let text: String = chars[..at].iter().copied().chain(put.chars()).chain(rest.iter().copied()).collect();
        read(&text);
    }

    #[test]
    fn yaml_gives_back_the_value_it_was_made_from(value in json_values()) {
        let document = json!({
            "apiVersion": freehold_model::API_VERSION,
            "kind": "Workload",
            "metadata": {"name": "w", "annotations": {"value": value.to_string()}},
            "spec": {},
        });
        let yaml = manifest::value_to_yaml(&document);
        let read = manifest::parse(&yaml, &context()).unwrap();
        prop_assert_eq!(&read[0].resource.metadata.annotations["value"], &value.to_string());
    }
}

/// Time that this thread has had the processor: other work on the machine does not count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|text| text.parse().ok());
    nanos.map_or_else(|| BEGIN.elapsed(), Duration::from_nanos)
}

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The bound is loose, because tests are not optimised; what it must catch is anything that grows
/// faster than the text.
#[expect(
    clippy::print_stdout,
    reason = "shown when a test is asked for its output"
)]
fn timed(what: &str, text: &str) -> (Duration, Result<usize, String>) {
    assert!(
        text.len() <= manifest::TEXT_BYTES_MAX,
        "{what}: {}",
        text.len()
    );
    let begin = processor_time();
    let read = manifest::parse(text, &context());
    let taken = processor_time() - begin;
    let read = read
        .map(|documents| documents.len())
        .map_err(|faults| faults.to_string());
    println!("{what}: {} bytes in {taken:?}", text.len());
    (taken, read)
}

fn fill(head: &str, piece: impl Fn(usize) -> String, tail: &str) -> String {
    let mut text = head.to_owned();
    for number in 0.. {
        let piece = piece(number);
        if text.len() + piece.len() + tail.len() > manifest::TEXT_BYTES_MAX {
            break;
        }
        text.push_str(&piece);
    }
    text + tail
}

#[test]
fn five_megabytes_of_anything_are_read_or_refused_in_time() {
    let head = "apiVersion: freehold.dev/v1alpha1\nkind: Database\nmetadata: {name: d}\nspec:\n  class: c\n";
    let workload = |number: usize| {
        format!(
            "---\napiVersion: freehold.dev/v1alpha1\nkind: Workload\nmetadata:\n  name: w{number}\n\
             spec:\n  description: {}\n",
            "long ".repeat(60)
        )
    };
    let texts = [
        ("documents", fill("", workload, ""), true),
        (
            "one list",
            fill(
                "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"freehold.dev/v1alpha1\",\"kind\":\"Workload\",\"metadata\":{\"name\":\"first\"}}",
                |number| {
                    format!(
                        ",\n{{\"apiVersion\":\"freehold.dev/v1alpha1\",\"kind\":\"Workload\",\"metadata\":{{\"name\":\"w{number}\"}},\"spec\":{{\"description\":\"{}\"}}}}",
                        "x".repeat(300)
                    )
                },
                "]}",
            ),
            true,
        ),
        (
            "unknown fields",
            fill(head, |n| format!("  f{n}: 1\n"), ""),
            false,
        ),
        (
            "accesses",
            fill(
                &format!("{head}  access:\n"),
                |n| format!("  - workload: w{n}\n    level: x\n"),
                "",
            ),
            false,
        ),
        (
            "one text",
            fill(&format!("{head}  manage: \""), |_| "x".repeat(1000), "\"\n"),
            false,
        ),
        ("brackets", fill("", |_| "[".to_owned(), ""), false),
        ("colons", fill("", |_| "a: ".to_owned(), ""), false),
        ("ends", fill("", |_| "---\n".to_owned(), ""), false),
        (
            "broken documents",
            fill("", |_| "--- [\n".to_owned(), ""),
            false,
        ),
        ("quotes", fill("", |_| "\"".to_owned(), ""), false),
        ("comments", fill("", |_| "# x\n".to_owned(), ""), false),
        ("small values", fill("[", |_| "1,".to_owned(), "]"), false),
        ("anchors", fill("", |n| format!("- &a{n} x\n"), ""), false),
    ];
    for (what, text, right) in texts {
        let (taken, read) = timed(what, &text);
        assert_eq!(read.is_ok(), right, "{what}: {read:?}");
        assert!(taken < Duration::from_secs(4), "{what} took {taken:?}");
    }
}

#[test]
fn ten_thousand_documents_are_read() {
    let document = |number: usize| {
        format!(
            "---\napiVersion: freehold.dev/v1alpha1\nkind: Database\nmetadata: {{name: d{number}}}\n\
             spec: {{class: small, access: [{{workload: w, level: readWrite}}]}}\n"
        )
    };
    let text: String = (0..10_000).map(document).collect();
    let (_, read) = timed("10,000 databases", &text);
    assert_eq!(read, Ok(10_000));
}

#[test]
fn too_many_documents_are_refused() {
    let text: String = (0..=manifest::DOCUMENTS_MAX)
        .map(|n| {
            format!(
                "---\napiVersion: freehold.dev/v1alpha1\nkind: Team\nmetadata: {{name: t{n}}}\n"
            )
        })
        .collect();
    let (_, read) = timed("too many", &text);
    assert!(read.unwrap_err().contains("20000 are allowed"));
}
