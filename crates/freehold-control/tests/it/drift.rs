//! What changes on the server behind our back is found, said, and repaired or only said.

use freehold_model::Kind;

use crate::plant::{ORDERS, Plant, condition, is_condition, key, sql};

/// A provisioned database's name on the server, with a table that its owner has made.
async fn provisioned(plant: &Plant) -> String {
    plant.apply(&plant.platform("")).await;
    plant.apply(ORDERS).await;
    let database = plant
        .ready(&key(Kind::Database, Some("shop"), "orders"))
        .await;
    let status = database.status.as_ref().expect("a status");
    let name = status["databaseName"].as_str().expect("a name").to_owned();
    plant.server.psql(
        &name,
        "SET ROLE shop_orders_owner; CREATE TABLE public.items (id int)",
    );
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_grant_is_found_repaired_and_written_down() {
    let plant = Plant::start().await;
    let name = provisioned(&plant).await;
    plant
        .server
        .psql("postgres", "CREATE ROLE intruder LOGIN PASSWORD 'x'");
    plant
        .server
        .psql(&name, "GRANT CONNECT ON DATABASE shop_orders TO PUBLIC");
    let orders = key(Kind::Database, Some("shop"), "orders");
    let repaired = plant
        .until(&orders, "repaired", |found| {
            condition(found, "Drifted").is_some_and(|c| c["reason"] == "Repaired")
        })
        .await;
    assert!(is_condition(&repaired, "Drifted", "False"));
    let still = "SELECT has_database_privilege('intruder', current_database(), 'CONNECT')";
    assert_eq!(plant.server.psql(&name, still).trim(), "f");
    let query = freehold_api::AuditQuery {
        action: Some("drift.repair".to_owned()),
        ..freehold_api::AuditQuery::default()
    };
    crate::plant::eventually("the repair stands in the audit log", || async {
        let found = plant.control.audit_list(&plant.admin, query.clone()).await;
        found.is_ok_and(|list| !list.items.is_empty())
    })
    .await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observed_database_is_reported_and_not_touched() {
    let plant = Plant::start().await;
    let name = provisioned(&plant).await;
    let observed = ORDERS.replace("class: standard", "class: standard\n  manage: observe");
    plant.apply(&observed).await;
    plant
        .server
        .psql(&name, "GRANT CONNECT ON DATABASE shop_orders TO PUBLIC");
    let orders = key(Kind::Database, Some("shop"), "orders");
    let drifted = plant
        .until(&orders, "drifted", |found| {
            is_condition(found, "Drifted", "True")
        })
        .await;
    let drift = &drifted.status.as_ref().expect("a status")["drift"];
    assert!(
        drift
            .as_array()
            .is_some_and(|d| d.iter().all(|d| d["repaired"] == false)),
        "{drift}"
    );
    let acl = "SELECT count(*) FROM pg_database, aclexplode(datacl) a \
               WHERE datname = current_database() AND a.grantee = 0 AND privilege_type = 'CONNECT'";
    assert_eq!(
        plant.server.psql(&name, acl).trim(),
        "1",
        "the grant is still there"
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_dropped_by_hand_is_said_and_not_made_again_empty() {
    let plant = Plant::start().await;
    let name = provisioned(&plant).await;
    plant
        .server
        .psql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
    let orders = key(Kind::Database, Some("shop"), "orders");
    plant
        .until(&orders, "missing", |found| {
            condition(found, "Ready").is_some_and(|c| c["reason"] == "Missing")
        })
        .await;
    let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(plant.server.psql("postgres", &there).trim(), "0");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_makes_its_databases_unknown_and_delays_nobody() {
    let plant = Plant::start().await;
    provisioned(&plant).await;
    let orders = key(Kind::Database, Some("shop"), "orders");
    plant.server.kill9();
    plant
        .until(&orders, "unknown", |found| {
            is_condition(found, "Ready", "Unknown")
        })
        .await;
    let instance = key(Kind::Instance, None, "pg-1");
    plant
        .until(&instance, "unknown", |found| {
            is_condition(found, "Reachable", "Unknown")
        })
        .await;
    plant.server.restart();
    plant.ready(&orders).await;
    plant.ready(&instance).await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_to_a_table_that_is_still_to_come_is_not_called_synced() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    let limited = ORDERS.replace(
        "level: readWrite",
        "level: readWrite, targets: [{schema: public, table: items}]",
    );
    plant.apply(&limited).await;
    let access = key(Kind::Access, Some("shop"), "orders-api");
    let orders = key(Kind::Database, Some("shop"), "orders");
    for key in [&access, &orders] {
        let found = plant.ready(key).await;
        let synced = condition(&found, "AccessSynced").expect("it is said");
        assert_eq!(synced["status"], "False", "{found:#?}");
        assert_eq!(synced["reason"], "TargetPending", "{found:#?}");
        assert!(is_condition(&found, "CredentialsPublished", "True"));
    }
    plant.server.psql(
        "shop_orders",
        "SET ROLE shop_orders_owner; CREATE TABLE public.items (id int)",
    );
    for key in [&access, &orders] {
        plant
            .until(key, "synced", |found| {
                is_condition(found, "AccessSynced", "True")
            })
            .await;
    }
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_access_to_an_observed_database_is_not_called_published() {
    let plant = Plant::start().await;
    provisioned(&plant).await;
    let observed = ORDERS
        .replace("class: standard", "class: standard\n  manage: observe")
        .replace("access: [", "access: [{workload: jobs, level: readOnly}, ");
    let jobs = "apiVersion: freehold.dev/v1alpha1\nkind: Workload\n\
                metadata: {name: jobs, namespace: shop}\nspec: {}\n---";
    plant.apply(&format!("{jobs}{observed}")).await;
    let access = key(Kind::Access, Some("shop"), "orders-jobs");
    let found = plant
        .until(&access, "looked at", |found| {
            condition(found, "AccessSynced").is_some()
        })
        .await;
    for kind in ["Ready", "AccessSynced", "CredentialsPublished"] {
        assert!(is_condition(&found, kind, "False"), "{kind}: {found:#?}");
    }
    let orders = key(Kind::Database, Some("shop"), "orders");
    let found = plant
        .until(&orders, "told", |found| {
            is_condition(found, "AccessSynced", "False")
        })
        .await;
    assert!(is_condition(&found, "CredentialsPublished", "False"));
    assert!(is_condition(&found, "Provisioned", "True"));
    assert!(is_condition(
        &plant
            .get(&key(Kind::Access, Some("shop"), "orders-api"))
            .await,
        "CredentialsPublished",
        "True"
    ));
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_that_is_only_observed_is_made_first() {
    let plant = Plant::start().await;
    let observed = ORDERS.replace("class: standard", "class: standard\n  manage: observe");
    let binding = plant.provisioned(&observed).await;
    assert_eq!(
        sql(&binding, "SELECT 1").await,
        Ok(vec![Some("1".to_owned())]),
        "Ready means that its workload gets in"
    );
    let orders = key(Kind::Database, Some("shop"), "orders");
    let made = plant.get(&orders).await;
    assert_eq!(made.spec["manage"], "observe", "the declaration is kept");
    let grant = "GRANT CONNECT ON DATABASE shop_orders TO PUBLIC";
    plant.server.psql("shop_orders", grant);
    plant
        .until(&orders, "drifted", |found| {
            is_condition(found, "Drifted", "True")
        })
        .await;
    plant.stop().await;
}
