//! Many at once: nothing is promised twice, nothing is lost.

use freehold_model::{Kind, Resource};
use futures::{StreamExt, future::join_all, stream};

use crate::plant::{ORDERS, PATIENCE, Plant, condition, key, name, request, within};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_applies_from_three_servers_place_exactly_one_hundred() {
    let plant = Plant::start().await;
    let second = plant.second("two").await;
    let third = plant.second("three").await;
    plant
        .apply(&plant.platform("  capacity: {databases: 100}"))
        .await;
    plant.ready(&key(Kind::Instance, None, "pg-1")).await;
    let servers = [&plant.control, &second, &third];
    stream::iter(0..200)
        .for_each_concurrent(24, |number| {
            let (control, admin) = (servers[number % 3], &plant.admin);
            async move {
                let manifest = ORDERS
                    .replace("name: orders", &format!("name: d{number}"))
                    .replace("access: [{workload: api, level: readWrite}]", "access: []");
                control
                    .apply(admin, request(&manifest))
                    .await
                    .expect("accepted");
            }
        })
        .await;
    // A hundred of them are really made on the server before the last one is decided upon.
    within(PATIENCE * 6, "each database is decided upon", || async {
        let all = databases(&plant).await;
        all.len() == 200
            && all
                .iter()
                .all(|database| condition(database, "Placed").is_some())
    })
    .await;
    let all = databases(&plant).await;
    let placed = all.iter().filter(|d| is_placed(d)).count();
    assert_eq!(placed, 100);
    let waiting = all.iter().find(|d| !is_placed(d)).expect("one that waits");
    let why = condition(waiting, "Placed").expect("a condition");
    assert_eq!(why["reason"], "NoCandidate");
    assert!(
        why["message"]
            .as_str()
            .is_some_and(|m| m.contains("databases")),
        "{why}"
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_apply_the_same_manifest_make_one_database() {
    let plant = Plant::start().await;
    let second = plant.second("two").await;
    plant.apply(&plant.platform("")).await;
    let manifest = request(ORDERS);
    let applies = (0..16).map(|number| {
        let control = [&plant.control, &second][number % 2];
        control.apply(&plant.admin, manifest.clone())
    });
    for outcome in join_all(applies).await {
        outcome.expect("accepted");
    }
    plant
        .ready(&key(Kind::Database, Some("shop"), "orders"))
        .await;
    let there = "SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'";
    assert_eq!(plant.server.psql("postgres", there).trim(), "1");
    plant.stop().await;
}

fn is_placed(database: &Resource) -> bool {
    database
        .status
        .as_ref()
        .is_some_and(|status| status.get("placement").is_some())
}

async fn databases(plant: &Plant) -> Vec<Resource> {
    let mut query = freehold_api::ListQuery {
        environment: Some(name("local")),
        team: None,
        labels: None,
        limit: Some(500),
        after: None,
    };
    let mut all = Vec::new();
    loop {
        let page = plant
            .control
            .resource_list(&plant.admin, Kind::Database, query.clone())
            .await;
        let page = page.expect("a page");
        all.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return all,
        }
    }
}
