//! Deleting, bringing back, sharing with another team.

use freehold_api::{BindingRead, TokenKind};
use freehold_model::{Code, Kind, Uid};
use freehold_store::{Batch, CollectionName, Key, PutMode, Range, Scan, Value, Write};
use freehold_testing::{faults::JumpClock, postgres::Server};

use crate::plant::{ORDERS, Plant, Setup, condition, eventually, is_condition, key, sql};

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_database_refuses_connections_and_comes_back_with_its_data() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    plant.apply(&ORDERS.replace("readWrite", "owner")).await;
    let orders = key(Kind::Database, Some("shop"), "orders");
    plant.ready(&orders).await;
    let binding = plant.binding("shop", "orders-api").await;
    sql(
        &binding,
        "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)",
    )
    .await
    .expect("a table");

    let report = plant
        .control
        .resource_delete(&plant.admin, &orders)
        .await
        .expect("accepted");
    assert!(report.message.contains("undelete"), "{}", report.message);
    plant
        .until(&orders, "quarantined", |found| {
            found
                .status
                .as_ref()
                .is_some_and(|status| status.get("quarantine").is_some())
        })
        .await;
    assert!(
        sql(&binding, "SELECT 1").await.is_err(),
        "a quarantined database lets nobody in"
    );
    let access = key(Kind::Binding, Some("shop"), "orders-api");
    let refused = plant
        .control
        .binding_read(&plant.admin, &access, read())
        .await;
    assert_eq!(
        refused.expect_err("no credential").code,
        Code::FailedPrecondition
    );

    plant
        .control
        .database_undelete(&plant.admin, &orders)
        .await
        .expect("accepted");
    plant.ready(&orders).await;
    assert_eq!(
        sql(&binding, "SELECT id FROM kept").await,
        Ok(vec![Some("7".to_owned())])
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_is_over_cannot_be_undone() {
    let clock = std::sync::Arc::new(JumpClock::default());
    let setup = Setup {
        clock: clock.clone(),
        ..Setup::default()
    };
    let plant = Plant::start_on(Server::start(), setup).await;
    plant.provisioned(ORDERS).await;
    let orders = key(Kind::Database, Some("shop"), "orders");
    let asked = plant.control.resource_delete(&plant.admin, &orders).await;
    asked.expect("accepted");
    plant
        .until(&orders, "quarantined", |found| {
            condition(found, "Ready").is_some_and(|ready| ready["reason"] == "Quarantined")
        })
        .await;
    let day = std::time::Duration::from_secs(24 * 3600);
    clock.forward(15 * day);
    let refused = plant
        .control
        .database_undelete(&plant.admin, &orders)
        .await
        .expect_err("fourteen days are over");
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert!(refused.message.contains("ended on"), "{refused}");
    let hint = refused.hint.expect("a way out");
    assert!(hint.contains("still on the server"), "{hint}");
    let there = "SELECT datconnlimit FROM pg_database WHERE datname = 'shop_orders'";
    assert_eq!(plant.server.psql("postgres", there).trim(), "0");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_needs_no_secret_that_can_be_opened() {
    let plant = Plant::start().await;
    let retained = ORDERS.replace(
        "class: standard",
        "class: standard\n  deletionPolicy: Retain",
    );
    let binding = plant.provisioned(&retained).await;
    let orders = key(Kind::Database, Some("shop"), "orders");
    let uid = plant.get(&orders).await.metadata.uid.expect("a uid");
    spoil_credentials(&plant, uid).await;
    let asked = plant.control.resource_delete(&plant.admin, &orders).await;
    asked.expect("accepted");
    eventually("the resource is gone", || async {
        let found = plant.control.resource_get(&plant.admin, &orders).await;
        found.is_err_and(|error| error.code == Code::NotFound)
    })
    .await;
    assert!(sql(&binding, "SELECT 1").await.is_err(), "the door is shut");
    plant.stop().await;
}

/// Changes each sealed password in the store, as a disk that errs would.
async fn spoil_credentials(plant: &Plant, database: Uid) {
    let collection = CollectionName::new("credentials").expect("a name");
    let key = Key::new(database.to_string()).expect("a key");
    let found = plant.store.get(&collection, &key).await;
    let record = found.expect("the store").expect("credentials");
    let mut held: serde_json::Value = record.value.decode().expect("JSON");
    let accesses = held["accesses"].as_object_mut().expect("accesses");
    assert!(!accesses.is_empty());
    for access in accesses.values_mut() {
        access["password"]["ciphertext"] = "AAAA".into();
    }
    let mut batch = Batch::new();
    batch.writes.push(Write::Put {
        collection,
        key,
        value: Value::encode(&held).expect("a value"),
        mode: PutMode::Upsert,
        expires_at: None,
    });
    plant.store.apply(batch).await.expect("spoilt");
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_forgets_the_database_and_keeps_its_data() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    plant
        .apply(&ORDERS.replace(
            "class: standard",
            "class: standard\n  deletionPolicy: Retain",
        ))
        .await;
    let orders = key(Kind::Database, Some("shop"), "orders");
    plant.ready(&orders).await;
    let binding = plant.binding("shop", "orders-api").await;
    plant
        .control
        .resource_delete(&plant.admin, &orders)
        .await
        .expect("accepted");
    eventually("the resource is gone", || async {
        let found = plant.control.resource_get(&plant.admin, &orders).await;
        found.is_err_and(|error| error.code == Code::NotFound)
    })
    .await;
    assert!(
        sql(&binding, "SELECT 1").await.is_err(),
        "its credentials are disabled"
    );
    let there = "SELECT count(*) FROM pg_database WHERE datname = 'shop_orders'";
    assert_eq!(
        plant.server.psql("postgres", there).trim(),
        "1",
        "the data stays"
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_taken_away_ends_its_sessions() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    plant.apply(ORDERS).await;
    plant
        .ready(&key(Kind::Database, Some("shop"), "orders"))
        .await;
    let access = key(Kind::Access, Some("shop"), "orders-api");
    plant.ready(&access).await;
    let binding = plant.binding("shop", "orders-api").await;
    let asleep = tokio::spawn({
        let binding = binding.clone();
        async move { sql(&binding, "SELECT pg_sleep(120)").await }
    });
    eventually("the session runs", || async {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'",
            binding.username
        );
        plant.server.psql("postgres", &count).trim() == "1"
    })
    .await;
    plant
        .apply(&ORDERS.replace("[{workload: api, level: readWrite}]", "[]"))
        .await;
    let ended = asleep.await.expect("the task ends");
    assert!(ended.is_err(), "the session was ended: {ended:?}");
    assert!(
        sql(&binding, "SELECT 1").await.is_err(),
        "the login is disabled"
    );
    eventually("the access is gone", || async {
        plant
            .control
            .resource_get(&plant.admin, &access)
            .await
            .is_err()
    })
    .await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_teams_workload_gets_in_only_when_the_owner_lets_it() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    plant.apply(ORDERS).await;
    plant
        .ready(&key(Kind::Database, Some("shop"), "orders"))
        .await;
    let report = r"
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {name: spy, namespace: rivals}
spec: {}
";
    let grant = r"
apiVersion: freehold.dev/v1alpha1
kind: Access
metadata: {name: for-rivals, namespace: shop}
spec: {database: orders, subject: {workload: spy, team: rivals}, level: readOnly}
";
    let eve = plant.caller("eve", TokenKind::Person, None).await;
    let ana = plant.caller("ana", TokenKind::Person, None).await;
    plant
        .try_apply(&eve, report)
        .await
        .expect("her own workload");
    plant
        .try_apply(&eve, grant)
        .await
        .expect_err("not hers to give");
    plant
        .try_apply(&ana, grant)
        .await
        .expect("the owner's consent");
    let access = key(Kind::Access, Some("shop"), "for-rivals");
    plant
        .until(&access, "ready", |found| {
            is_condition(found, "Ready", "True")
        })
        .await;
    let binding = key(Kind::Binding, Some("shop"), "for-rivals");
    let secret = plant
        .control
        .binding_read(&eve, &binding, read())
        .await
        .expect("the binding");
    let binding = secret.target.server().expect("a server's");
    assert!(sql(binding, "SELECT 1").await.is_ok());
    let foreign = key(Kind::Binding, Some("shop"), "orders-api");
    plant
        .control
        .binding_read(&eve, &foreign, read())
        .await
        .expect_err("not hers");
    plant.stop().await;
}

fn read() -> BindingRead {
    BindingRead {
        reason: "a test".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_uses_is_not_deleted_and_stays_as_it_was() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    for used in [
        key(Kind::Instance, None, "pg-1"),
        key(Kind::Class, None, "standard"),
        key(Kind::Workload, Some("shop"), "api"),
        key(Kind::Team, None, "shop"),
        key(Kind::Environment, None, "local"),
    ] {
        let refused = plant.control.resource_delete(&plant.admin, &used).await;
        let refused = refused.expect_err("it is used");
        assert_eq!(refused.code, Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message.contains("still used by"), "{refused:?}");
        let left = plant.get(&used).await;
        assert_eq!(left.metadata.deletion_timestamp, None, "{used}");
    }
    let unused = key(Kind::Team, None, "rivals");
    let deleted = plant.control.resource_delete(&plant.admin, &unused).await;
    deleted.expect("nobody uses it");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_request_took_and_who_had_to_act_is_recorded() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    let ana = plant.caller("ana", TokenKind::Person, None).await;
    let robot = plant.caller("ci-shop", TokenKind::Machine, None).await;
    plant.try_apply(&ana, ORDERS).await.expect("her team's");
    let orders = key(Kind::Database, Some("shop"), "orders");
    let usable = plant.ready(&orders).await;
    let more = ORDERS.replace("class: standard", "class: standard\n  schemas: [more]");
    plant.try_apply(&robot, &more).await.expect("its team's");
    let events = CollectionName::new("product_events").expect("a collection");
    let mut scan = Scan::new(events, Range::All);
    scan.limit = 1000;
    let page = plant.store.scan(scan).await.expect("events");
    let events: Vec<serde_json::Value> = page
        .records
        .iter()
        .map(|record| record.value.decode().expect("JSON"))
        .collect();
    let of = |kind: &str| {
        let events = events.iter().map(|event| &event["body"]);
        let of: Vec<_> = events.filter(|body| body["event"] == kind).collect();
        of
    };
    let took = of("requestToUsable");
    assert_eq!(took.len(), 1, "once per database: {events:?}");
    assert_eq!(took[0]["database"]["name"], "orders", "{took:?}");
    let told = &usable.status.as_ref().expect("a status")["requestToUsableSeconds"];
    assert_eq!(&took[0]["seconds"], told, "as the database says itself");
    assert!(told.as_f64().is_some_and(|seconds| seconds > 0.0), "{told}");
    let touches = of("humanTouch");
    let by = |subject: &str, action: &str| {
        let touches = touches.iter();
        touches
            .filter(|touch| touch["subject"] == subject && touch["action"] == action)
            .count()
    };
    assert_eq!(by("ana", "database.apply"), 1, "{touches:?}");
    assert_eq!(by("ci-shop", "database.apply"), 0, "no human: {touches:?}");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_database_stays_closed_when_somebody_opens_it_by_hand() {
    let plant = Plant::start().await;
    let binding = plant.provisioned(ORDERS).await;
    let orders = key(Kind::Database, Some("shop"), "orders");
    let deleted = plant.control.resource_delete(&plant.admin, &orders).await;
    deleted.expect("accepted");
    plant
        .until(&orders, "quarantined", |found| {
            found
                .status
                .as_ref()
                .is_some_and(|status| status.get("quarantine").is_some())
        })
        .await;
    let login = &binding.username;
    plant.server.psql(
        "postgres",
        &format!(
            "CREATE ROLE intruder LOGIN; ALTER ROLE \"{login}\" LOGIN; \
             GRANT CONNECT ON DATABASE shop_orders TO PUBLIC, \"{login}\"; \
             ALTER DATABASE shop_orders CONNECTION LIMIT -1"
        ),
    );
    eventually("it is closed again", || async {
        let open = format!(
            "SELECT has_database_privilege('intruder', 'shop_orders', 'CONNECT') \
             OR has_database_privilege('{login}', 'shop_orders', 'CONNECT') \
             OR (SELECT rolcanlogin FROM pg_roles WHERE rolname = '{login}') \
             OR (SELECT datconnlimit <> 0 FROM pg_database WHERE datname = 'shop_orders')"
        );
        plant.server.psql("postgres", &open).trim() == "f"
    })
    .await;
    assert!(sql(&binding, "SELECT 1").await.is_err(), "nobody gets in");
    let still = plant.get(&orders).await;
    let status = still.status.as_ref().expect("a status");
    assert!(status.get("quarantine").is_some(), "{status}");
    plant.stop().await;
}
