//! The main path: a manifest becomes a database that its workload, and nobody else, can use.

use freehold_api::{ApplyOutcome, TokenKind};
use freehold_model::{Code, Kind};

use crate::plant::{ORDERS, Plant, key, sql};

#[tokio::test(flavor = "multi_thread")]
async fn an_eight_line_manifest_becomes_a_usable_database() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    plant.ready(&key(Kind::Instance, None, "pg-1")).await;
    let report = plant.apply(ORDERS).await;
    assert_eq!(report.applied[0].outcome, ApplyOutcome::Created);
    assert!(report.applied[0].operation.is_some());

    let database = plant
        .ready(&key(Kind::Database, Some("shop"), "orders"))
        .await;
    let status = database.status.as_ref().expect("a status");
    assert_eq!(status["placement"]["instance"], "pg-1");
    plant
        .ready(&key(Kind::Access, Some("shop"), "orders-api"))
        .await;

    let binding = plant.binding("shop", "orders-api").await;
    assert_eq!(
        sql(&binding, "SELECT 1").await,
        Ok(vec![Some("1".to_owned())])
    );
    let refused = sql(&binding, "CREATE TABLE mine (id int)").await;
    assert!(
        refused.is_err(),
        "a readWrite access defines no tables: {refused:?}"
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_the_same_manifest_again_changes_nothing() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    plant.apply(ORDERS).await;
    let orders = key(Kind::Database, Some("shop"), "orders");
    let before = plant.ready(&orders).await;
    let report = plant.apply(ORDERS).await;
    assert!(
        report
            .applied
            .iter()
            .all(|applied| applied.outcome == ApplyOutcome::Unchanged)
    );
    let after = plant.get(&orders).await;
    assert_eq!(before.metadata.generation, after.metadata.generation);
    assert_eq!(before.metadata.uid, after.metadata.uid);
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_neither_sees_nor_changes_another_teams_database() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    plant.apply(ORDERS).await;
    let eve = plant.caller("eve", TokenKind::Person, None).await;
    let refused = plant.try_apply(&eve, ORDERS).await.expect_err("a hijack");
    assert!(
        matches!(refused.code, Code::Forbidden | Code::NotFound),
        "{refused:?}"
    );
    let orders = key(Kind::Database, Some("shop"), "orders");
    let hidden = plant
        .control
        .resource_get(&eve, &orders)
        .await
        .expect_err("a secret");
    let absent = key(Kind::Database, Some("shop"), "no-such-database");
    let missing = plant
        .control
        .resource_get(&eve, &absent)
        .await
        .expect_err("nothing");
    assert_eq!(hidden.code, missing.code);
    assert_eq!(
        hidden.message.replace("orders", "X"),
        missing.message.replace("no-such-database", "X"),
        "what is hidden looks like what is absent"
    );
    plant.stop().await;
}
