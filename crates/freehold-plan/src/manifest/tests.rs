use freehold_model::kinds::AccessLevel;

use super::*;

fn context() -> Context {
    Context {
        environment: Some(Name::new("dev").unwrap()),
        team: Some(Name::new("shop").unwrap()),
    }
}

fn read(text: &str) -> Vec<Document> {
    parse(text, &context()).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(text: &str) -> String {
    parse(text, &context())
        .expect_err("it was accepted")
        .to_string()
}

/// A database manifest with `spec` below `class: small`.
fn database(spec: &str) -> String {
    format!(
        "apiVersion: freehold.dev/v1alpha1\nkind: Database\nmetadata:\n  name: orders\nspec:\n  \
         class: small\n{spec}"
    )
}

fn spec_faults(spec: &str) -> String {
    faults(&database(spec))
}

#[test]
fn the_eight_line_database_gets_its_place_from_the_context() {
    let documents = read(&database(
        "  access:\n    - workload: api\n      level: readWrite\n",
    ));
    let [document] = documents.as_slice() else {
        panic!("{documents:?}");
    };
    assert_eq!(
        document.resource.key().to_string(),
        "database/shop/orders in dev"
    );
    let Typed::Database(database) = &document.typed else {
        panic!("{document:?}");
    };
    assert_eq!(database.spec.access[0].level, AccessLevel::ReadWrite);
}

#[test]
fn what_a_manifest_says_itself_outweighs_the_context() {
    let text = database("").replace(
        "name: orders",
        "name: orders\n  namespace: other\n  environment: prod",
    );
    assert_eq!(
        read(&text)[0].resource.key().to_string(),
        "database/other/orders in prod"
    );
}

#[test]
fn an_unknown_field_is_named_with_its_line_and_the_nearest_known_one() {
    assert_eq!(
        spec_faults("  acces:\n    - workload: api\n"),
        "document 1, line 7, column 3: Database/orders: spec.acces: unknown field `acces` in spec, \
         did you mean `access`?"
    );
    assert_eq!(
        spec_faults("  access:\n    - workload: api\n      levl: readOnly\n"),
        "document 1, line 9, column 7: Database/orders: spec.access[0].levl: unknown field `levl` \
         in spec.access[0], did you mean `level`?\n\
         document 1, line 8, column 7: Database/orders: spec.access[0].level: field `level` is \
         missing in spec.access[0]"
    );
}

#[test]
fn unknown_kinds_values_and_versions_name_the_nearest_known_one() {
    let text = database("").replace("kind: Database", "kind: Databse");
    assert!(faults(&text).ends_with("kind: unknown kind `Databse`, did you mean `Database`?"));
    let text = database("").replace("kind: Database", "kind: db");
    assert!(faults(&text).ends_with("unknown kind `db`, did you mean `Database`?"));
    let text = database("").replace("v1alpha1", "v1");
    assert!(faults(&text).contains("it must be `freehold.dev/v1alpha1`"));
    let said = spec_faults("  deletionPolicy: retain\n");
    assert!(
        said.ends_with("unknown value `retain` for deletionPolicy, did you mean `Retain`?"),
        "{said}"
    );
    let said = spec_faults("  manage: sometimes\n");
    assert!(said.contains("it may be `apply` or `observe`"), "{said}");
}

#[test]
fn all_faults_of_all_documents_are_said_at_once() {
    let one = database("  acces: []\n  manage: maybe\n  load: {storageMib: -1}\n");
    let two = "apiVersion: freehold.dev/v1alpha1\nkind: Team\nmetadata: {name: Shop}\nspec: {}\n";
    let three = "kind: [broken\n";
    let four =
        "apiVersion: freehold.dev/v1alpha1\nkind: Team\nmetadata: {name: x}\nspec: {mmebers: []}\n";
    let said = faults(&[one.as_str(), two, three, four].join("---\n"));
    for part in [
        "document 1, line 7",
        "document 1, line 8",
        "it may be from 0 to",
        "document 2, line 13",
        "document 3, line",
        "document 4, line",
        "did you mean `members`?",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

#[test]
fn a_mistaken_type_says_what_to_write() {
    let class = "apiVersion: freehold.dev/v1alpha1\nkind: Class\nmetadata: {name: c}\nspec: {engine: postgres, versionMin: 14}\n";
    assert!(
        faults(class)
            .ends_with("versionMin must be a text, not the number 14; put it in quotes: \"14\"")
    );
    let said = spec_faults("  load: {connections: \"5\"}\n");
    assert!(
        said.ends_with("the text \"5\"; leave the quotes out"),
        "{said}"
    );
    let said = spec_faults("  access: api\n");
    assert!(
        said.ends_with("access must be a list, not the text \"api\""),
        "{said}"
    );
}

#[test]
fn on_yes_and_no_are_texts_and_a_norwegian_keeps_his_country() {
    let documents = read(&database(
        "  schemas: [no, on, yes]\n  access:\n    - workload: api\n      level: readOnly\n      targets:\n        - schema: no\n",
    ));
    assert_eq!(
        documents[0].resource.spec["schemas"],
        serde_json::json!(["no", "on", "yes"])
    );
}

#[test]
fn duplicate_keys_and_duplicate_resources_are_refused() {
    assert!(
        spec_faults("  class: large\n").contains("line 7, column 3: field `class` is given twice")
    );
    let said = faults(&[database(""), database("  manage: observe\n")].join("---\n"));
    assert!(said.contains("document 2"), "{said}");
    assert!(
        said.contains("is written twice: here and in document 1"),
        "{said}"
    );
    // The same name said in two ways is the same resource.
    let other = database("").replace("name: orders", "name: orders\n  namespace: shop");
    assert!(faults(&[database(""), other].join("---\n")).contains("twice"));
    // Another team's is another resource.
    let other = database("").replace("name: orders", "name: orders\n  namespace: ledger");
    assert_eq!(read(&[database(""), other].join("---\n")).len(), 2);
}

#[test]
fn a_list_and_json_are_read_like_documents() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "freehold.dev/v1alpha1", "kind": "Team", "metadata": {"name": "a"}, "spec": {}},
        {"apiVersion": "freehold.dev/v1alpha1", "kind": "Team", "metadata": {"name": "b"}, "spec": {"mmbers": []}}
    ]}"#;
    let said = faults(list);
    assert!(said.starts_with("document 2, line 3, column"), "{said}");
    let documents = read(&list.replace("mmbers", "members"));
    assert_eq!(
        documents.iter().map(|d| d.number).collect::<Vec<_>>(),
        [1, 2]
    );
    // JSON's escapes, surrogate pairs included.
    let text = r#"{"apiVersion":"freehold.dev/v1alpha1","kind":"Team","metadata":{"name":"a"},"spec":{"displayName":"\ud83d\ude00\/\u00e4"}}"#;
    assert_eq!(read(text)[0].resource.spec["displayName"], "😀/ä");
}

#[test]
fn views_cannot_be_applied() {
    let text = database("").replace("Database", "Binding");
    assert!(faults(&text).contains("made by Freehold"));
}

#[test]
fn scope_follows_from_the_kind() {
    let team = "apiVersion: freehold.dev/v1alpha1\nkind: Team\nmetadata: {name: a, namespace: b, environment: dev}\n";
    let said = faults(team);
    assert!(said.contains("a Team belongs to no team"), "{said}");
    assert!(
        said.contains("a Team is the same in every environment"),
        "{said}"
    );
    let nowhere = parse(&database(""), &Context::default())
        .unwrap_err()
        .to_string();
    assert!(
        nowhere.contains("--team") && nowhere.contains("--env"),
        "{nowhere}"
    );
}

#[test]
fn every_rule_across_fields_is_said() {
    let long = "w".repeat(60);
    for (spec, part) in [
        ("  schemas: [public]\n", "leave it out"),
        ("  schemas: [pg_x]\n", "kept for the server"),
        ("  schemas: [freehold]\n", "kept for Freehold"),
        ("  schemas: [a, a]\n", "stands in the list twice"),
        ("  schemas: ['']\n", "is empty"),
        ("  schemas: [\"a\\0b\"]\n", "NUL"),
        (
            "  extensions: ['x\"; drop']\n",
            "an extension's name is made of",
        ),
        ("  placement: {near: [orders]}\n", "cannot name itself"),
        (
            "  placement: {near: [a], avoid: [a]}\n",
            "in `near` and in `avoid`",
        ),
        (
            "  access: [{workload: a, level: owner, targets: [{schema: s, table: t}]}]\n",
            "not to a table",
        ),
        (
            "  access: [{workload: a, level: readOnly, targets: [{schema: s}, {schema: s, table: t}]}]\n",
            "named as a whole already",
        ),
        (
            "  access: [{workload: a, level: owner}, {workload: a, level: readOnly}]\n",
            "has an access above",
        ),
        (
            &format!("  access: [{{workload: {long}, level: owner}}]\n"),
            "longer than 63 characters",
        ),
    ] {
        let said = spec_faults(spec);
        assert!(said.contains(part), "{spec}: {said}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one entry for each rule")]
fn the_rules_of_instances_classes_teams_and_accesses_are_said() {
    let head = |kind: &str| {
        format!("apiVersion: freehold.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec: ")
    };
    for (kind, spec, part) in [
        (
            "Instance",
            "{engine: postgres}",
            "exactly one of `external` and `local` must be given; none is",
        ),
        (
            "Instance",
            "{engine: postgres, local: {}, external: {host: h, username: u}}",
            "remove the other",
        ),
        (
            "Instance",
            "{engine: postgress, local: {}}",
            "did you mean `postgres`?",
        ),
        (
            "Instance",
            "{engine: postgres, external: {host: 'h:5432', username: u}}",
            "without port or scheme",
        ),
        (
            "Instance",
            "{engine: postgres, external: {host: h, username: u, password: hunter2}}",
            "a secret is referenced, never written",
        ),
        (
            "Instance",
            "{engine: postgres, external: {host: h, username: u, port: 0}}",
            "port is 0; it may be from 1 to 65535",
        ),
        (
            "Instance",
            "{engine: postgres, external: {host: h, username: u, tls: disable, ca: 'file:/x'}}",
            "never looked at",
        ),
        (
            "Instance",
            "{engine: postgres, local: {}, capacity: {headroomPercent: 101}}",
            "from 0 to 100",
        ),
        (
            "Instance",
            "{engine: postgres, local: {version: '15.2'}}",
            "major version",
        ),
        (
            "Instance",
            "{engine: sqlite, external: {host: h, username: u}}",
            "write `local: {}` instead",
        ),
        (
            "Instance",
            "{engine: sqlite, local: {port: 4000}}",
            "a sqlite instance has no `port`",
        ),
        (
            "Instance",
            "{engine: mariadb, local: {}}",
            "Freehold makes no mariadb servers",
        ),
        (
            "Instance",
            "{engine: mariadb, external: {host: h, username: u, adminDatabase: x}}",
            "leave it out for mariadb",
        ),
        (
            "Instance",
            "{engine: redis, external: {host: h, username: u, tls: prefer}}",
            "write `verifyFull` or `disable`",
        ),
        (
            "Class",
            "{engine: redis, limits: {connections: 3}}",
            "redis cannot hold the limit `connections`; it can hold none",
        ),
        (
            "Class",
            "{engine: sqlite, limits: {connections: 3}}",
            "sqlite cannot hold the limit `connections`; it can hold none",
        ),
        (
            "Class",
            "{engine: mariadb, limits: {lockTimeoutMs: 3}}",
            "it can hold connections and statementTimeoutMs",
        ),
        (
            "Class",
            "{engine: mariadb, extensions: [postgis]}",
            "no extensions to create",
        ),
        (
            "Access",
            "{database: d, subject: {workload: w}, level: readOnly, targets: [{}]}",
            "name a schema, or a table, or both",
        ),
        (
            "Class",
            "{engine: postgres, versionMin: '17', versionMax: '14'}",
            "no version is left",
        ),
        (
            "Class",
            "{engine: postgres, limits: {connections: 0}}",
            "from 1 to",
        ),
        (
            "Team",
            "{members: [{subject: a, role: owner}, {subject: a, role: viewer}]}",
            "twice",
        ),
        (
            "Team",
            "{members: [{subject: a, role: admin}]}",
            "it may be `viewer`, `developer` or `owner`",
        ),
        (
            "Access",
            "{database: d, subject: {workload: w}, level: readOnly, expiresAt: tomorrow}",
            "a time such as",
        ),
        (
            "Access",
            "{database: d, subject: {workload: w}, level: readOnly, expiresAt: 2027-02-30T00:00:00Z}",
            "a time such as",
        ),
    ] {
        let said = faults(&(head(kind) + spec));
        assert!(said.contains(part), "{kind} {spec}: {said}");
    }
}

#[test]
fn a_secret_written_by_mistake_is_not_hidden_but_a_long_one_is_cut() {
    let secret = "s".repeat(500);
    let text = format!(
        "apiVersion: freehold.dev/v1alpha1\nkind: Instance\nmetadata: {{name: x}}\nspec: {{engine: postgres, external: {{host: h, username: u, password: {secret}}}}}"
    );
    assert!(faults(&text).len() < 400);
}

#[test]
fn nothing_but_comments_is_a_fault() {
    for text in ["", "# nothing\n", "---\n---\n", "\u{feff}"] {
        assert!(faults(text).contains("holds no resource"), "{text:?}");
    }
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let uses = vec![format!("*a{}", level - 1); 10].join(", ");
        aliases.push_str(&format!("a{level}: &a{level} [{uses}]\n"));
    }
    assert!(faults(&aliases).contains("holds more than 1000000 values"));
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..200 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(faults(&chain).contains("deeper than"));
    assert!(faults("a: &a [*a]\n").contains("refers to the value it stands in"));
    for open in ["[", "{a: ", "- "] {
        let said = faults(&open.repeat(10_000));
        assert!(!said.is_empty());
    }
    assert!(faults("a: !!binary aGk=\n").contains("is not read here"));
    assert!(faults("a: &x {b: 1}\nc: {<<: *x}\n").contains("merge keys"));
    assert!(faults("? [a]\n: b\n").contains("must be a text"));
    assert!(faults("a: 99999999999999999999999\n").contains("can be kept exactly"));
    assert!(faults("a: .nan\n").contains("can be kept exactly"));
    assert!(faults(&"#".repeat(TEXT_BYTES_MAX + 1)).contains("split it"));
}

#[test]
fn aliases_within_reason_are_read() {
    let text = database(
        "  access:\n    - {workload: a, level: readOnly, targets: &on [{schema: s}]}\n    - {workload: b, level: readOnly, targets: *on}\n",
    );
    let spec = &read(&text)[0].resource.spec;
    assert_eq!(spec["access"][0]["targets"], spec["access"][1]["targets"]);
}

#[test]
fn integers_above_two_to_the_53_are_kept() {
    let tree =
        text::read("a: 18446744073709551615\nb: -9223372036854775808\nc: 0x1f\nd: 1e3\ne: 0o17\n");
    let value = tree[0].root.as_ref().unwrap().to_value();
    assert_eq!(value["a"], u64::MAX);
    assert_eq!(value["b"], i64::MIN);
    assert_eq!(value["c"], 31);
    assert_eq!(value["d"], 1000.0);
    assert_eq!(value["e"], 15);
}

#[test]
fn null_stands_for_absent() {
    let text = "apiVersion: freehold.dev/v1alpha1\nkind: Workload\nmetadata:\n  name: w\n  labels:\nspec:\n";
    assert_eq!(read(text)[0].resource.spec, serde_json::json!({}));
    let said = faults(
        "apiVersion: freehold.dev/v1alpha1\nkind: Database\nmetadata: {name: d}\nspec: {class: null}\n",
    );
    assert!(said.contains("field `class` is missing"), "{said}");
    let said = spec_faults("  clas: null\n");
    assert!(said.contains("did you mean `class`?"), "{said}");
}

#[test]
fn a_resource_that_is_too_large_is_refused_alone_and_in_a_list() {
    let description = "x ".repeat(RESOURCE_BYTES_MAX / 2 + 10);
    let text = format!(
        "{{\"apiVersion\":\"freehold.dev/v1alpha1\",\"kind\":\"Workload\",\"metadata\":{{\"name\":\"w\"}},\"spec\":{{\"description\":\"{description}\"}}}}"
    );
    assert!(faults(&text).contains("bytes large"));
    let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{text}]}}");
    assert!(faults(&list).contains("bytes large"));
}

#[test]
fn validate_says_what_parse_says() {
    let mut resource = read(&database(""))[0].resource.clone();
    assert!(validate(&resource).is_ok());
    resource.spec["acces"] = serde_json::json!([]);
    resource.metadata.environment = None;
    let keys: Vec<_> = validate(&resource)
        .unwrap_err()
        .into_iter()
        .map(|v| (v.pointer, v.key))
        .collect();
    assert_eq!(
        keys,
        [
            ("/spec/acces".to_owned(), "unknownField"),
            ("/metadata/environment".to_owned(), "missing"),
        ]
    );
}

#[test]
fn an_extension_that_the_class_does_not_allow_is_refused() {
    let Typed::Database(database) = &read(&database("  extensions: [pg_trgm, postgs]\n"))[0].typed
    else {
        panic!("not a database");
    };
    let class: freehold_model::kinds::ClassSpec = serde_json::from_value(serde_json::json!({
        "engine": "postgres", "extensions": ["pg_trgm", "postgis"]
    }))
    .unwrap();
    let violations = validate_with_class(&database.spec, &class);
    let [violation] = violations.as_slice() else {
        panic!("{violations:?}");
    };
    assert_eq!(violation.pointer, "/spec/extensions/1");
    assert!(violation.message.contains("did you mean `postgis`?"));
}
