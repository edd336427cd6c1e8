//! What a migration leaves alone, what it writes down, and how it ends when its end and a
//! cancellation meet.

use std::os::unix::fs::PermissionsExt as _;

use freehold_model::{Kind, ResourceKey, kinds::OperationPhase};
use freehold_testing::postgres::Server;

use crate::plant::{ORDERS, Plant, Setup, eventually, is_condition, key};

fn orders() -> ResourceKey {
    key(Kind::Database, Some("shop"), "orders")
}

const ITEMS: (&str, &str) = ("V1__items.sql", "CREATE TABLE items (id int);");

/// The repairs in the log, once it tells of so many migrations too, which were saved with them.
async fn repairs(plant: &Plant, migrations: usize) -> Vec<serde_json::Value> {
    eventually("the migration stands in the log", async || {
        // That it was asked for, and how it ended.
        logged(plant, "database.migrate").await.len() == 2 * migrations
    })
    .await;
    logged(plant, "drift.repair").await
}

async fn logged(plant: &Plant, action: &str) -> Vec<serde_json::Value> {
    let query = freehold_api::AuditQuery {
        action: Some(action.to_owned()),
        ..freehold_api::AuditQuery::default()
    };
    let found = plant.control.audit_list(&plant.admin, query).await;
    let items = found.expect("the log").items;
    items
        .into_iter()
        .map(|entry| serde_json::to_value(entry).expect("an entry"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_an_observed_database_takes_nothing_back() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let first = plant.migrate(&orders(), &[ITEMS]).await;
    plant.ended(first).await;
    let observed = ORDERS.replace("class: standard", "class: standard\n  manage: observe");
    plant.apply(&observed).await;
    let by_hand = "CREATE TABLE public.kept (id int); \
                   GRANT CONNECT ON DATABASE shop_orders TO PUBLIC; \
                   SET ROLE shop_orders_owner; CREATE TABLE public.shared (id int); \
                   GRANT SELECT ON public.shared TO PUBLIC";
    plant.server.psql("shop_orders", by_hand);
    plant
        .until(&orders(), "drifted", |found| {
            is_condition(found, "Drifted", "True")
        })
        .await;
    let more = ("V2__more.sql", "CREATE TABLE more (id int);");
    let id = plant.migrate(&orders(), &[ITEMS, more]).await;
    let ended = plant.ended(id).await;
    assert_eq!(ended.spec.phase, OperationPhase::Succeeded, "{ended:#?}");
    let rights = "SELECT \
        (SELECT count(*) FROM pg_database, aclexplode(datacl) a \
         WHERE datname = 'shop_orders' AND a.grantee = 0 AND privilege_type = 'CONNECT'), \
        (SELECT count(*) FROM pg_class, aclexplode(relacl) a \
         WHERE relname = 'shared' AND a.grantee = 0), \
        (SELECT tableowner FROM pg_tables WHERE tablename = 'more'), \
        (SELECT rolcanlogin FROM pg_roles WHERE rolname LIKE '%migrator')";
    let found = plant.server.psql("shop_orders", rights);
    assert_eq!(found.trim(), "1|1|shop_orders_owner|f");
    assert_eq!(repairs(&plant, 2).await, Vec::<serde_json::Value>::new());
    let found = plant.get(&orders()).await;
    assert!(is_condition(&found, "Drifted", "True"), "{found:#?}");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_migration_repairs_is_written_down_once() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    // While the operation holds the database, nobody else repairs it.
    let script = "CREATE TABLE items (id int); GRANT SELECT ON items TO PUBLIC;";
    let id = plant.migrate(&orders(), &[("V1__items.sql", script)]).await;
    let ended = plant.ended(id).await;
    assert_eq!(ended.spec.phase, OperationPhase::Succeeded, "{ended:#?}");
    eventually("the repair stands in the log", async || {
        !logged(&plant, "drift.repair").await.is_empty()
    })
    .await;
    let repairs = repairs(&plant, 1).await;
    assert_eq!(repairs.len(), 1, "{repairs:#?}");
    let told = repairs[0].to_string();
    assert!(told.contains("grant.extra:public.items:PUBLIC"), "{told}");
    assert!(
        !told.contains("migrator"),
        "its own comings are no drift: {told}"
    );
    let found = plant.get(&orders()).await;
    assert!(is_condition(&found, "Ready", "True"), "{found:#?}");
    plant.stop().await;
}

/// A runner that has said how it went and has not ended yet: now somebody cancels.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_finished_is_not_called_cancelled() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (program, said) = (
        directory.path().join("runner"),
        directory.path().join("said"),
    );
    let row = serde_json::json!({
        "event": "finished",
        "report": {
            "schema": "public",
            "historyCreated": true,
            "applied": [
                {"file": "V1__items.sql", "version": "1", "installedRank": 1, "elapsedMs": 1, "rows": 0}
            ],
        },
    });
    let script = format!(
        "#!/bin/sh\necho '{row}'\n: > '{}'\n/bin/cat > /dev/null\n",
        said.display()
    );
    std::fs::write(&program, script).expect("a script");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).expect("a program");
    let setup = Setup {
        runner: Some(program),
        ..Setup::default()
    };
    let plant = Plant::start_on(Server::start(), setup).await;
    plant.provisioned(ORDERS).await;
    let id = plant.migrate(&orders(), &[ITEMS]).await;
    eventually("the runner has said how it went", async || said.exists()).await;
    plant
        .control
        .operation_cancel(&plant.admin, id)
        .await
        .expect("it is asked");
    let ended = plant.ended(id).await;
    assert_eq!(ended.spec.phase, OperationPhase::Succeeded, "{ended:#?}");
    let found = plant.get(&orders()).await;
    let status = found.status.as_ref().expect("a status");
    assert_eq!(status["migration"]["applied"], 1, "{status}");
    plant.stop().await;
}
