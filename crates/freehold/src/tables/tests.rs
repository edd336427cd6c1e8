use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "callers write the values in place"
)]
fn resource(kind: &str, name: &str, spec: Value, status: Value) -> Resource {
    serde_json::from_value(json!({
        "apiVersion": "freehold.dev/v1alpha1",
        "kind": kind,
        "metadata": {
            "name": name, "namespace": "shop", "environment": "local", "generation": 1,
            "labels": {"tier": "gold"},
            "creationTimestamp": "2026-03-01T09:00:00Z",
        },
        "spec": spec,
        "status": status,
    }))
    .unwrap()
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "why\nand what next",
           "lastTransitionTime": "2026-03-01T11:59:00Z", "observedGeneration": 1})
}

fn wanted(wide: bool) -> Wanted {
    Wanted {
        wide,
        team: wide,
        now: now(),
    }
}

#[test]
fn databases_show_where_they_are_and_whether_they_can_be_used() {
    let placed = resource(
        "Database",
        "orders",
        json!({"class": "small"}),
        json!({
            "observedGeneration": 1,
            "conditions": [condition("Ready", "True", "Ready")],
            "placement": {"instance": "pg-1", "instanceUid": "0198f0a0-0000-7000-8000-000000000001",
                "since": "2026-03-01T09:00:01Z", "reason": "most room",
                "load": {"storageMib": 1, "connections": 2, "throughput": 3}},
            "databaseName": "local_shop_orders", "sizeBytes": 9_000_000,
            "migration": {"version": "12", "applied": 12},
        }),
    );
    let fresh = resource("Database", "carts", json!({"class": "small"}), Value::Null);
    insta::assert_snapshot!(of_resources(Kind::Database, &[placed.clone(), fresh], wanted(false)), @r"
    NAME    CLASS  INSTANCE  READY    REASON  MIGRATED  AGE
    orders  small  pg-1      True     Ready   12        3h
    carts   small            Unknown                    3h
    ");
    insta::assert_snapshot!(of_resources(Kind::Database, &[placed], wanted(true)), @r"
    TEAM  NAME    CLASS  INSTANCE  READY  REASON  MIGRATED  SERVER NAME        SIZE     DRIFTED  CHECKED  LABELS     AGE
    shop  orders  small  pg-1      True   Ready   12        local_shop_orders  8.6 MiB  Unknown           tier=gold  3h
    ");
}

#[test]
fn instances_show_what_was_seen_last() {
    let instance = resource(
        "Instance",
        "pg-1",
        json!({"engine": "postgres", "local": {}}),
        json!({
            "conditions": [condition("Ready", "Unknown", "Unreachable")],
            "version": "15.20", "databases": 3, "connections": 7, "connectionsMax": 100,
        }),
    );
    insta::assert_snapshot!(of_resources(Kind::Instance, &[instance], wanted(false)), @r"
    NAME  ENGINE    VERSION  READY    REASON       DATABASES  CONNECTIONS  AGE
    pg-1  postgres  15.20    Unknown  Unreachable  3          7/100        3h
    ");
}

#[test]
fn every_kind_has_a_table() {
    for kind in Kind::ALL {
        let resource = resource(kind.as_str(), "x", json!({}), Value::Null);
        let table = of_resources(kind, &[resource], wanted(true));
        assert_eq!(table.lines().count(), 2, "{table}");
    }
}

#[test]
fn accesses_name_a_workload_of_another_team_with_its_team() {
    let spec = json!({"database": "orders", "level": "readOnly",
        "subject": {"workload": "report", "team": "bi"}, "expiresAt": "2026-03-01T14:00:00Z"});
    let access = resource("Access", "orders-report", spec, Value::Null);
    insta::assert_snapshot!(of_resources(Kind::Access, &[access], wanted(false)), @r"
    NAME           DATABASE  WORKLOAD   LEVEL     READY    REASON  EXPIRES  AGE
    orders-report  orders    bi/report  readOnly  Unknown          in 2h    3h
    ");
}

#[test]
fn a_condition_is_one_line_even_when_its_message_is_not() {
    let observed = Observed::of(&resource(
        "Database",
        "orders",
        json!({}),
        json!({
            "conditions": [condition("Ready", "False", "NoCandidate")],
        }),
    ));
    insta::assert_snapshot!(of_conditions(observed.conditions.iter(), now()), @r"
    TYPE   STATUS  REASON       SINCE  MESSAGE
    Ready  False   NoCandidate  60s    why and what next
    ");
}

#[test]
fn text_from_outside_cannot_move_the_cursor() {
    let mut table = Table::new(&["A", "B"]);
    table.row(vec!["x\u{1b}[2Jy".to_owned(), "z".to_owned()]);
    assert_eq!(table.render(), "A      B\nx[2Jy  z\n");
}
