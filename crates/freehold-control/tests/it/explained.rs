//! What `freehold explain database` is told: for a database that is placed, one that waits, one that
//! nobody knows.

use freehold_model::{Code, Kind};

use crate::plant::{ORDERS, Plant, is_condition, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_placement_is_explained_whether_it_came_about_or_not() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let explained = async |name: &str| {
        let database = key(Kind::Database, Some("shop"), name);
        plant
            .control
            .database_explain(&plant.admin, &database)
            .await
    };

    let placed = explained("orders").await.expect("it is there");
    assert!(placed.placed);
    assert_eq!(
        placed.chosen.as_ref().map(|name| name.as_str()),
        Some("pg-1")
    );
    let [candidate] = placed.candidates.as_slice() else {
        panic!("one instance: {placed:#?}");
    };
    assert!(
        candidate.fits && !candidate.reasons.is_empty(),
        "{placed:#?}"
    );
    assert_eq!(placed.way_out, None);

    let cordoned = plant.platform("  cordon: true");
    plant.apply(&cordoned).await;
    let waits = ORDERS.replace("name: orders", "name: later");
    plant
        .apply(&waits.replace("[{workload: api, level: readWrite}]", "[]"))
        .await;
    plant
        .until(
            &key(Kind::Database, Some("shop"), "later"),
            "waiting",
            |found| is_condition(found, "Placed", "False"),
        )
        .await;
    let waiting = explained("later").await.expect("it is there");
    assert!(!waiting.placed && waiting.chosen.is_none(), "{waiting:#?}");
    let [candidate] = waiting.candidates.as_slice() else {
        panic!("one instance: {waiting:#?}");
    };
    assert!(!candidate.fits, "{waiting:#?}");
    let reasons = candidate.reasons.join("; ");
    assert!(reasons.contains("cordoned"), "{reasons}");
    let way_out = waiting.way_out.expect("a way out");
    assert!(way_out.contains("lift its cordon"), "{way_out}");

    let unknown = explained("nothing").await.expect_err("nobody knows it");
    assert_eq!(unknown.code, Code::NotFound);
    plant.stop().await;
}
