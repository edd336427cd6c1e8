//! What people ask for and change their minds about: expiry, protection, cancelling, pruning,
//! conflicts, poolers.

use freehold_api::{ApplyOutcome, BindingRead, TokenKind};
use freehold_model::{
    Code, Gate, GateKeeper, InjectedFault, Kind, OperationId, Point, When, kinds::OperationPhase,
};
use freehold_testing::{faults::JumpClock, pgbouncer::Bouncer, postgres::Server};
use tokio::sync::watch;

use crate::plant::{
    ORDERS, Plant, Setup, condition, eventually, is_condition, key, name, request, sql,
};

fn orders() -> freehold_model::ResourceKey {
    key(Kind::Database, Some("shop"), "orders")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_that_runs_out_is_closed_and_its_sessions_are_ended() {
    let clock = std::sync::Arc::new(JumpClock::default());
    let setup = Setup {
        clock: clock.clone(),
        ..Setup::default()
    };
    let plant = Plant::start_on(Server::start(), setup).await;
    plant.provisioned(ORDERS).await;
    let access = |until: &str| {
        format!(
            "apiVersion: freehold.dev/v1alpha1\nkind: Access\nmetadata: {{name: visit, namespace: shop}}\n\
             spec: {{database: orders, subject: {{workload: api}}, level: readOnly, expiresAt: '{until}', reason: a look}}\n"
        )
    };
    let end = freehold_model::Clock::now(&*clock) + jiff::SignedDuration::from_hours(1);
    plant.apply(&access(&end.to_string())).await;
    let visit = key(Kind::Access, Some("shop"), "visit");
    plant.ready(&visit).await;
    let binding = plant.binding("shop", "visit").await;
    let asleep = tokio::spawn({
        let binding = binding.clone();
        async move { sql(&binding, "SELECT pg_sleep(300)").await }
    });
    let asleep_there = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
        binding.username
    );
    eventually("the session runs", || async {
        plant.server.psql("postgres", &asleep_there).trim() == "1"
    })
    .await;
    clock.forward(std::time::Duration::from_secs(2 * 3600));
    let expired = plant
        .until(&visit, "expired", |found| {
            condition(found, "Ready").is_some_and(|c| c["reason"] == "Expired")
        })
        .await;
    assert!(is_condition(&expired, "Ready", "False"));
    let ended = asleep.await.expect("no panic");
    assert!(ended.is_err(), "its session was ended: {ended:?}");
    assert!(sql(&binding, "SELECT 1").await.is_err(), "the door is shut");
    let asked = BindingRead {
        reason: "again".to_owned(),
    };
    let refused = plant
        .control
        .binding_read(
            &plant.admin,
            &key(Kind::Binding, Some("shop"), "visit"),
            asked,
        )
        .await;
    assert_eq!(
        refused.expect_err("no secret").code,
        Code::FailedPrecondition
    );
    // The workload's own access is not touched.
    let own = plant.binding("shop", "orders-api").await;
    assert!(sql(&own, "SELECT 1").await.is_ok());
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_gets_no_workloads_credential_in_a_protected_environment() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let ana = plant.caller("ana", TokenKind::Person, None).await;
    let robot = plant.caller("ci-shop", TokenKind::Machine, None).await;
    let binding = key(Kind::Binding, Some("shop"), "orders-api");
    let asked = || BindingRead {
        reason: "to look".to_owned(),
    };
    plant
        .control
        .binding_read(&ana, &binding, asked())
        .await
        .expect("not protected yet");
    plant
        .apply(
            "apiVersion: freehold.dev/v1alpha1\nkind: Environment\nmetadata: {name: local}\n\
             spec: {protected: true}\n",
        )
        .await;
    for person in [&ana, &plant.admin] {
        let refused = plant.control.binding_read(person, &binding, asked()).await;
        let refused = refused.expect_err("protected");
        assert_eq!(refused.code, Code::Forbidden, "{refused:?}");
    }
    let got = plant.control.binding_read(&robot, &binding, asked()).await;
    assert!(
        got.is_ok(),
        "the workload's own credential: {:?}",
        got.err()
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_are_sent_to_the_pooler_while_freehold_talks_to_the_server() {
    let plant = Plant::start().await;
    let pooler = Bouncer::start(&plant.server);
    let endpoint = format!(
        "    workloadEndpoint: {{host: {}, port: {}}}",
        pooler.host(),
        pooler.port()
    );
    plant.apply(&plant.platform(&endpoint)).await;
    plant.apply(ORDERS).await;
    plant.ready(&orders()).await;
    plant
        .ready(&key(Kind::Access, Some("shop"), "orders-api"))
        .await;
    let binding = plant.binding("shop", "orders-api").await;
    assert_eq!(binding.port, pooler.port());
    assert_eq!(
        sql(&binding, "SELECT 1").await,
        Ok(vec![Some("1".to_owned())])
    );
    plant.stop().await;
}

/// Holds whoever reaches a point, and says so.
#[derive(Debug)]
struct HoldAt {
    what: &'static str,
    reached: watch::Sender<bool>,
    go_on: watch::Receiver<bool>,
}

impl GateKeeper for HoldAt {
    fn reach(
        &self,
        point: Point,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        Box::pin(async move {
            if point.when == When::Before && point.what == self.what {
                self.reached.send_replace(true);
                let mut go_on = self.go_on.clone();
                let _ = go_on.wait_for(|on| *on).await;
            }
            Ok(())
        })
    }
}

/// A plant whose operations stand still before a point, what says that one does, and what lets go.
async fn held_at(what: &'static str) -> (Plant, watch::Receiver<bool>, watch::Sender<bool>) {
    let (reached, is_reached) = watch::channel(false);
    let (go, go_on) = watch::channel(false);
    let gate = Gate::kept_by(std::sync::Arc::new(HoldAt {
        what,
        reached,
        go_on,
    }));
    let setup = Setup {
        gate,
        ..Setup::default()
    };
    let plant = Plant::start_on(Server::start(), setup).await;
    plant.apply(&plant.platform("")).await;
    plant.ready(&key(Kind::Instance, None, "pg-1")).await;
    (plant, is_reached, go)
}

async fn requested(plant: &Plant) -> OperationId {
    let report = plant.apply(ORDERS).await;
    report.applied[0].operation.expect("an operation")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioning_cancelled_in_any_early_state_leaves_no_trace_on_the_server() {
    for state in ["step provision Place", "step provision Reserve"] {
        let (plant, mut reached, go) = held_at(state).await;
        let operation = requested(&plant).await;
        reached.wait_for(|is| *is).await.expect("reached");
        plant
            .control
            .operation_cancel(&plant.admin, operation)
            .await
            .expect("accepted");
        go.send_replace(true);
        let ended = plant.ended(operation).await;
        assert_eq!(
            ended.spec.phase,
            OperationPhase::Cancelled,
            "{state}: {ended:#?}"
        );
        let there = "SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'; \
                     SELECT count(*) FROM pg_roles WHERE rolname LIKE 'shop%'";
        assert_eq!(
            plant.server.psql("postgres", there).trim(),
            "0\n0",
            "{state}"
        );
        let cancelled = plant.get(&orders()).await;
        assert!(
            condition(&cancelled, "Ready").is_some_and(|c| c["reason"] == "Cancelled"),
            "{state}: {cancelled:#?}"
        );
        // Applied again with a change, it is made after all.
        let changed = ORDERS.replace("class: standard", "class: standard\n  schemas: [stock]");
        plant.apply(&changed).await;
        plant.ready(&orders()).await;
        plant.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioning_refused_because_the_name_is_taken_can_be_cancelled() {
    let plant = Plant::start().await;
    plant.server.psql("postgres", "CREATE DATABASE shop_orders");
    plant.apply(&plant.platform("")).await;
    let operation = requested(&plant).await;
    let parked = plant.ended(operation).await;
    assert_eq!(parked.spec.phase, OperationPhase::NeedsAttention);
    plant
        .control
        .operation_cancel(&plant.admin, operation)
        .await
        .expect("accepted");
    eventually("it is cancelled", || async {
        let found = plant.ended(operation).await;
        found.spec.phase == OperationPhase::Cancelled
    })
    .await;
    plant
        .control
        .resource_delete(&plant.admin, &orders())
        .await
        .expect("accepted");
    eventually("the resource is gone", || async {
        let found = plant.control.resource_get(&plant.admin, &orders()).await;
        found.is_err()
    })
    .await;
    let there = "SELECT count(*) FROM pg_database WHERE datname = 'shop_orders'";
    assert_eq!(plant.server.psql("postgres", there).trim(), "1");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_dropped_by_hand_can_be_deleted_as_its_condition_says() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    plant
        .server
        .psql("postgres", "DROP DATABASE shop_orders WITH (FORCE)");
    plant
        .until(&orders(), "missing", |found| {
            condition(found, "Ready").is_some_and(|c| c["reason"] == "Missing")
        })
        .await;
    let retain = ORDERS.replace(
        "class: standard",
        "class: standard\n  deletionPolicy: Retain",
    );
    plant.apply(&retain).await;
    plant
        .control
        .resource_delete(&plant.admin, &orders())
        .await
        .expect("accepted");
    eventually("the resource is gone", || async {
        let found = plant.control.resource_get(&plant.admin, &orders()).await;
        found.is_err()
    })
    .await;
    let open = "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'shop\\_%'";
    assert_eq!(plant.server.psql("postgres", open).trim(), "0");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioning_that_makes_the_database_already_refuses_to_be_cancelled() {
    let (plant, mut reached, go) = held_at("step provision Create").await;
    let operation = requested(&plant).await;
    reached.wait_for(|is| *is).await.expect("reached");
    let answer = plant
        .control
        .operation_cancel(&plant.admin, operation)
        .await;
    go.send_replace(true);
    let ended = plant.ended(operation).await;
    assert_eq!(
        ended.spec.phase,
        OperationPhase::Succeeded,
        "{answer:?} {ended:#?}"
    );
    plant.ready(&orders()).await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_migration_is_cancelled_and_its_login_is_shut() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let scripts = [
        ("V1__first.sql", "CREATE TABLE first (id int);"),
        ("V2__slow.sql", "SELECT pg_sleep(600);"),
    ];
    let operation = plant.migrate(&orders(), &scripts).await;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually("the script sleeps", || async {
        plant.server.psql("postgres", asleep).trim() == "1"
    })
    .await;
    plant
        .control
        .operation_cancel(&plant.admin, operation)
        .await
        .expect("accepted");
    let ended = plant.ended(operation).await;
    assert_eq!(ended.spec.phase, OperationPhase::Cancelled, "{ended:#?}");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE '%migrator'; \
                SELECT rolcanlogin FROM pg_roles WHERE rolname = 'shop_orders_migrator'";
    assert_eq!(plant.server.psql("postgres", left).trim(), "0\nf");
    // The first script stays applied, the second one leaves no row, and a new run goes on.
    let fixed = [
        ("V1__first.sql", "CREATE TABLE first (id int);"),
        ("V2__slow.sql", "SELECT 1;"),
    ];
    let again = plant.migrate(&orders(), &fixed).await;
    let ended = plant.ended(again).await;
    assert_eq!(ended.spec.phase, OperationPhase::Succeeded, "{ended:#?}");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_run_the_status_shows_what_was_applied_before() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let scripts = [
        ("V1__first.sql", "CREATE TABLE first (id int);"),
        ("V2__broken.sql", "SELECT no_such_column FROM first;"),
    ];
    let operation = plant.migrate(&orders(), &scripts).await;
    let ended = plant.ended(operation).await;
    assert_eq!(ended.spec.phase, OperationPhase::Failed, "{ended:#?}");
    assert!(
        ended.spec.message.contains("V2__broken.sql"),
        "{}",
        ended.spec.message
    );
    let files = scripts.iter().map(|(path, text)| (*path, *text));
    let bundle = freehold_migrate::Bundle::from_files(files).expect("a bundle");
    let status = plant
        .control
        .migration_status(&plant.admin, &orders(), Some(bundle.digest().clone()))
        .await
        .expect("a status");
    let states: Vec<&str> = status
        .entries
        .iter()
        .map(|entry| entry.state.as_str())
        .collect();
    assert_eq!(states, ["Success", "Pending"]);
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_of_a_field_fight_in_words_and_force_decides() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let mut theirs = request(&ORDERS.replace("readWrite", "readOnly"));
    theirs.manager = Some("terraform".to_owned());
    let refused = plant.control.apply(&plant.admin, theirs.clone()).await;
    let refused = refused.expect_err("a conflict");
    assert_eq!(refused.code, Code::Conflict, "{refused:?}");
    let said = format!("{} {}", refused.message, refused.hint.unwrap_or_default());
    assert!(said.contains("cli") && said.contains("access"), "{said}");
    theirs.force = true;
    let report = plant.control.apply(&plant.admin, theirs).await;
    assert_eq!(
        report.expect("forced").applied[0].outcome,
        ApplyOutcome::Changed
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_says_what_to_do_instead() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let visit = "apiVersion: freehold.dev/v1alpha1\nkind: Access\nmetadata: {name: visit, namespace: shop}\n\
                 spec: {database: orders, subject: {workload: api}, level: readOnly}\n";
    plant.apply(visit).await;
    plant
        .apply(
            &ORDERS
                .replace("name: orders", "name: other")
                .replace("[{workload: api, level: readWrite}]", "[]"),
        )
        .await;
    let moved = visit.replace("database: orders", "database: other");
    let refused = plant.try_apply(&plant.admin, &moved).await;
    let refused = refused.expect_err("an access stays on its database");
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert!(
        refused.message.contains("Apply a new access"),
        "{refused:?}"
    );
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_deletes_what_the_set_no_longer_holds_and_nothing_else() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    let bare = ORDERS.replace("[{workload: api, level: readWrite}]", "[]");
    let kept = bare.replace("name: orders", "name: kept");
    let gone = bare.replace("name: orders", "name: gone");
    plant.apply(&bare).await;
    let mut both = request(&format!("{kept}---{gone}"));
    both.prune_set = Some(name("ours"));
    plant
        .control
        .apply(&plant.admin, both)
        .await
        .expect("accepted");
    for database in ["kept", "gone", "orders"] {
        plant
            .ready(&key(Kind::Database, Some("shop"), database))
            .await;
    }
    let mut fewer = request(&kept);
    fewer.prune_set = Some(name("ours"));
    let report = plant
        .control
        .apply(&plant.admin, fewer)
        .await
        .expect("accepted");
    let pruned: Vec<_> = report
        .applied
        .iter()
        .filter(|applied| applied.outcome == ApplyOutcome::Pruned)
        .map(|applied| applied.key.name.to_string())
        .collect();
    assert_eq!(pruned, ["gone"]);
    plant
        .until(
            &key(Kind::Database, Some("shop"), "gone"),
            "closed",
            |found| {
                found
                    .status
                    .as_ref()
                    .is_some_and(|status| status.get("quarantine").is_some())
            },
        )
        .await;
    for database in ["kept", "orders"] {
        let found = plant
            .get(&key(Kind::Database, Some("shop"), database))
            .await;
        assert!(is_condition(&found, "Ready", "True"));
        assert!(found.metadata.deletion_timestamp.is_none());
    }
    let there = "SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'";
    assert_eq!(
        plant.server.psql("postgres", there).trim(),
        "3",
        "no data is dropped"
    );
    plant.stop().await;
}
