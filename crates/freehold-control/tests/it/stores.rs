//! What can happen to the control plane's own state: copied back, restored, full, a clock that jumps.

use std::{path::Path, sync::Arc};

use freehold_api::{TokenKind, TokenList};
use freehold_model::{Code, Kind, SystemClock, SystemEntropy};
use freehold_store::{SqliteStore, StoreHandle};
use freehold_testing::{disk::Tiny, faults::JumpClock, postgres::Server};
use futures::StreamExt;

use crate::plant::{ORDERS, Plant, Setup, condition, eventually, is_condition, key, request, sql};

fn orders() -> freehold_model::ResourceKey {
    key(Kind::Database, Some("shop"), "orders")
}

const STORE_FILES: [&str; 3] = ["state.db", "state.db-wal", "state.db-shm"];

fn copy(directory: &Path, from: &str, to: &str) {
    for file in STORE_FILES {
        let target = directory.join(format!("{to}{file}"));
        let _ = std::fs::remove_file(&target);
        let source = directory.join(format!("{from}{file}"));
        if source.exists() {
            std::fs::copy(source, target).expect("a copy");
        }
    }
}

async fn archive(plant: &Plant) -> Vec<u8> {
    let stream = plant.control.backup(&plant.admin).await.expect("a backup");
    let pieces: Vec<_> = stream.collect().await;
    let pieces = pieces.into_iter().map(|piece| piece.expect("a piece"));
    pieces.flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn yesterdays_store_copied_back_changes_nothing_until_it_is_restored_as_such() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let plant = plant
        .restart_after(|directory| copy(directory, "", "yesterday-"))
        .await;
    // Today changes reach the server: a schema is there, the access is gone.
    let today = ORDERS.replace("class: standard", "class: standard\n  schemas: [today]");
    plant.apply(&today).await;
    plant
        .until(&orders(), "changed", |found| {
            let seen = found
                .status
                .as_ref()
                .map(|s| s["observedGeneration"].clone());
            seen == Some(serde_json::json!(2)) && is_condition(found, "Ready", "True")
        })
        .await;
    plant
        .apply(&today.replace("[{workload: api, level: readWrite}]", "[]"))
        .await;
    let access = key(Kind::Access, Some("shop"), "orders-api");
    eventually("the access is gone", || async {
        let found = plant.control.resource_get(&plant.admin, &access).await;
        found.is_err()
    })
    .await;
    let registry = "SELECT name, epoch, actor, state FROM freehold.registry; \
                    SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname LIKE 'shop%' ORDER BY 1";
    let plant = plant
        .restart_after(|directory| copy(directory, "yesterday-", ""))
        .await;
    let before = plant.server.psql("postgres", registry);
    let fenced = plant
        .until(&orders(), "fenced", |found| {
            condition(found, "Ready").is_some_and(|c| c["reason"] == "Fenced")
        })
        .await;
    let said = condition(&fenced, "Ready").expect("a condition");
    assert!(
        said["message"]
            .as_str()
            .is_some_and(|m| m.contains("freehold admin restore")),
        "{said}"
    );
    // Each pass raises the store's epoch; however many there could be, none may overtake the fence.
    let rounds = plant.get(&key(Kind::Instance, None, "pg-1")).await;
    let seen = rounds.status.as_ref().expect("seen")["observedAt"].clone();
    let instance = key(Kind::Instance, None, "pg-1");
    plant
        .until(&instance, "looked at again", |found| {
            found
                .status
                .as_ref()
                .is_some_and(|s| s["observedAt"] != seen)
        })
        .await;
    for number in 0..5 {
        let manifest = ORDERS.replace(
            "class: standard",
            &format!("class: standard\n  schemas: [s{number}]"),
        );
        plant.apply(&manifest).await;
    }
    plant
        .until(&orders(), "still fenced", |found| {
            condition(found, "Ready").is_some_and(|c| c["reason"] == "Fenced")
        })
        .await;
    assert_eq!(
        before,
        plant.server.psql("postgres", registry),
        "nothing was changed on the server"
    );

    // A person decides that yesterday's store counts: it goes through an archive.
    let bytes = archive(&plant).await;
    let plant = restored(plant, bytes).await;
    plant.ready(&orders()).await;
    plant.ready(&access).await;
    let binding = plant.binding("shop", "orders-api").await;
    assert!(sql(&binding, "SELECT 1").await.is_ok());
    plant.stop().await;
}

/// The plant on a new store that was made from an archive.
async fn restored(plant: Plant, archive: Vec<u8>) -> Plant {
    let path = plant.directory.path().join("restored.db");
    {
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let store = StoreHandle::new(SqliteStore::open(&path, clock, entropy).expect("a store"));
        let report = freehold_control::restore(&store, &archive[..]).await;
        assert!(report.expect("restored").records > 10);
        let again = freehold_control::restore(&store, &archive[..]).await;
        let refused = again.expect_err("the store is not empty any more");
        assert_eq!(refused.code, Code::Conflict);
        store.close().await;
    }
    plant
        .restart_after(|directory| {
            copy(directory, "", "old-");
            for file in STORE_FILES {
                let _ = std::fs::remove_file(directory.join(file));
            }
            for file in STORE_FILES {
                let from = directory.join(file.replace("state", "restored"));
                if from.exists() {
                    std::fs::rename(from, directory.join(file)).expect("renamed");
                }
            }
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_others_write_restores_and_everything_goes_on() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let writing = async {
        for number in 0..10 {
            let manifest = ORDERS.replace("name: orders", &format!("name: more{number}"));
            plant
                .apply(&manifest.replace("[{workload: api, level: readWrite}]", "[]"))
                .await;
        }
    };
    let (bytes, ()) = tokio::join!(archive(&plant), writing);
    for number in 0..10 {
        plant
            .ready(&key(Kind::Database, Some("shop"), &format!("more{number}")))
            .await;
    }
    // A truncated archive is noticed before anything is written.
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let path = plant.directory.path().join("half.db");
    let half = StoreHandle::new(SqliteStore::open(&path, clock, entropy).expect("a store"));
    let cut = &bytes[..bytes.len() / 2];
    freehold_control::restore(&half, cut)
        .await
        .expect_err("half an archive");
    freehold_control::restore(&half, &bytes[..])
        .await
        .expect("nothing of the half archive is there");
    let plant = restored(plant, bytes).await;
    plant.ready(&orders()).await;
    // What the backup did not hold is declared again; what was made is found again by its stamp
    // or refused in words, never taken over silently.
    plant
        .apply(&ORDERS.replace("name: orders", "name: afterwards"))
        .await;
    plant
        .ready(&key(Kind::Database, Some("shop"), "afterwards"))
        .await;
    let binding = plant.binding("shop", "orders-api").await;
    assert!(sql(&binding, "SELECT 1").await.is_ok());
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_store_is_said_and_leaves_nothing_half_done() {
    let disk = Tiny::new(6 * 1024 * 1024);
    let setup = Setup {
        store: Some(disk.path().join("state.db")),
        ..Setup::default()
    };
    let plant = Plant::start_on(Server::start(), setup).await;
    plant.apply(&plant.platform("")).await;
    plant.ready(&key(Kind::Instance, None, "pg-1")).await;
    disk.fill();
    let mut refused = None;
    // Pages that the file has already may take a few more records.
    for number in 0..400 {
        let name = format!("full{number}");
        let manifest = ORDERS.replace("name: orders", &format!("name: {name}"));
        if let Err(error) = plant.try_apply(&plant.admin, &manifest).await {
            refused = Some((name, error));
            break;
        }
    }
    let (name, error) = refused.expect("a full disk refuses writes");
    assert!(
        matches!(error.code, Code::Unavailable | Code::Undetermined),
        "{error:?}"
    );
    assert!(error.hint.is_some(), "{error:?}");
    let there = key(Kind::Database, Some("shop"), &name);
    let found = plant.control.resource_get(&plant.admin, &there).await;
    assert_eq!(found.expect_err("nothing of it").code, Code::NotFound);
    disk.free();
    let manifest = ORDERS.replace("name: orders", &format!("name: {name}"));
    eventually("the store takes writes again", || async {
        plant.try_apply(&plant.admin, &manifest).await.is_ok()
    })
    .await;
    plant.ready(&there).await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_days_neither_stops_work_nor_opens_a_door() {
    let clock = Arc::new(JumpClock::default());
    let setup = Setup {
        clock: clock.clone(),
        ..Setup::default()
    };
    let plant = Plant::start_on(Server::start(), setup).await;
    plant.apply(&plant.platform("")).await;
    plant.apply(ORDERS).await;
    plant.ready(&orders()).await;
    let days = |count: u64| std::time::Duration::from_secs(count * 24 * 3600);
    clock.back(days(3));
    plant
        .apply(&ORDERS.replace("name: orders", "name: past"))
        .await;
    plant
        .ready(&key(Kind::Database, Some("shop"), "past"))
        .await;
    clock.forward(days(40));
    plant
        .apply(&ORDERS.replace("name: orders", "name: future"))
        .await;
    plant
        .ready(&key(Kind::Database, Some("shop"), "future"))
        .await;
    plant.ready(&orders()).await;

    let short = freehold_api::TokenCreate {
        subject: crate::plant::name("ana"),
        kind: TokenKind::Person,
        platform_role: None,
        days: Some(1),
    };
    let created = plant.control.token_create(&plant.admin, short).await;
    let created = created.expect("a token");
    let token = created.token.expose().to_owned();
    plant
        .control
        .authenticate(&token, "test")
        .await
        .expect("fresh");
    clock.forward(days(2));
    let refused = plant.control.authenticate(&token, "test").await;
    assert_eq!(refused.expect_err("run out").code, Code::Unauthenticated);
    let TokenList { items } = plant
        .control
        .token_list(&plant.admin)
        .await
        .expect("a list");
    assert!(items.iter().any(|token| token.id == created.view.id));
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_databases_wait_for_a_server_that_nobody_can_reach() {
    let began = std::time::Instant::now();
    let plant = Plant::start().await;
    let closed = plant.platform_at(1, "");
    plant.apply(&closed).await;
    for part in 0..10 {
        let manifests = (0..100).map(|number| {
            ORDERS
                .replace("name: orders", &format!("name: d{part}-{number}"))
                .replace("[{workload: api, level: readWrite}]", "[]")
        });
        let manifests: Vec<String> = manifests.collect();
        plant.apply(&manifests.join("---")).await;
    }
    let accepted = began.elapsed();
    let waiting = key(Kind::Database, Some("shop"), "d9-99");
    plant
        .until(&waiting, "told why it waits", |found| {
            is_condition(found, "Placed", "False")
        })
        .await;
    // The plane still answers at once.
    let asked = std::time::Instant::now();
    plant.get(&waiting).await;
    plant
        .control
        .apply(&plant.admin, request(&closed))
        .await
        .expect("accepted");
    assert!(
        asked.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        accepted < std::time::Duration::from_secs(60),
        "{accepted:?}"
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_five_megabytes_is_accepted_or_refused_as_a_whole() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    let padding = "x".repeat(50_000);
    let workload = |number: usize| {
        format!(
            "---\napiVersion: freehold.dev/v1alpha1\nkind: Workload\nmetadata:\n  name: w{number}\n  \
             namespace: shop\n  annotations: {{note: \"{padding}\"}}\nspec: {{}}\n"
        )
    };
    let large: String = (0..100).map(workload).collect();
    assert!(large.len() > 5_000_000 && large.len() < 5 * 1024 * 1024);
    let answered = plant.try_apply(&plant.admin, &large).await;
    let listed = || async {
        let found = key(Kind::Workload, Some("shop"), "w99");
        let found = plant.control.resource_get(&plant.admin, &found).await;
        found.is_ok()
    };
    match answered {
        Ok(report) => {
            assert_eq!(report.applied.len(), 100);
            assert!(listed().await);
        }
        Err(error) => {
            assert!(
                matches!(error.code, Code::TooLarge | Code::Invalid),
                "{error:?}"
            );
            assert!(!listed().await);
        }
    }
    let larger: String = (0..110).map(workload).collect();
    let refused = plant.try_apply(&plant.admin, &larger).await;
    let refused = refused.expect_err("more than is taken at once");
    assert!(refused.message.contains("split"), "{refused:?}");
    plant.stop().await;
}
