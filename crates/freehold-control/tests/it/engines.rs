//! The same path on every engine: a manifest becomes a database that is migrated, used, closed and
//! brought back, and what the engine cannot hold is refused when it is asked for.

use freehold_api::{BindingTarget, ServerBinding};
use freehold_migrate::Dialect;
use freehold_model::{Code, Kind, OperationId, ResourceKey, kinds::OperationPhase};
use freehold_testing::{
    mariadb::{Login, Server, sql_as},
    redis,
};

use crate::plant::{Plant, eventually, is_condition, key, within};

const SCRIPTS: &[(&str, &str)] = &[
    (
        "V1__notes.sql",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body VARCHAR(200));\n",
    ),
    (
        "V2__first.sql",
        "INSERT INTO notes (id, body) VALUES (7, 'kept; as it is');\n",
    ),
];

/// The platform's and the team's half, for one engine.
fn manifests(engine: &str, instance: &str, limits: &str) -> String {
    format!(
        r"
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {{name: shop}}
spec: {{members: [{{subject: ana, role: owner}}]}}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {{name: api, namespace: shop}}
spec: {{}}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {{name: report, namespace: shop}}
spec: {{}}
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {{name: standard}}
spec: {{engine: {engine}, deletionPolicy: Quarantine{limits}}}
---
apiVersion: freehold.dev/v1alpha1
kind: Instance
metadata: {{name: {engine}-1}}
spec:
  engine: {engine}
{instance}
"
    )
}

const NOTES: &str = r"
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {name: notes, namespace: shop}
spec:
  class: standard
  access:
    - {workload: api, level: readWrite}
    - {workload: report, level: readOnly}
";

async fn finished(plant: &Plant, id: OperationId) -> OperationPhase {
    let mut phase = None;
    within(crate::plant::PATIENCE, "the run ends", || async {
        let view = plant.control.operation_get(&plant.admin, id).await;
        let phase = view.expect("an operation").spec.phase;
        matches!(
            phase,
            OperationPhase::Succeeded | OperationPhase::Failed | OperationPhase::Cancelled
        )
    })
    .await;
    let view = plant.control.operation_get(&plant.admin, id).await;
    phase
        .get_or_insert(view.expect("an operation").spec.phase)
        .to_owned()
}

/// Deletes the database, which its class quarantines, and waits until nobody gets in.
async fn quarantined(plant: &Plant) {
    let notes = key(Kind::Database, Some("shop"), "notes");
    let deleted = plant.control.resource_delete(&plant.admin, &notes).await;
    deleted.expect("accepted");
    plant
        .until(&notes, "quarantined", |found| {
            let status = found.status.as_ref();
            status.is_some_and(|status| status.get("quarantine").is_some())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_needs_no_server_for_the_whole_path() {
    let plant = Plant::start().await;
    let platform = manifests("sqlite", "  local: {}", "");
    plant.apply(&platform).await;
    plant
        .apply(&platform.replace("name: sqlite-1", "name: sqlite-2"))
        .await;
    // Folders in which nothing is yet have no identity, and are not one for that.
    for instance in ["sqlite-1", "sqlite-2"] {
        plant.ready(&key(Kind::Instance, None, instance)).await;
    }
    plant.apply(NOTES).await;
    let notes = key(Kind::Database, Some("shop"), "notes");
    let made = plant.ready(&notes).await;
    let on = made.status.as_ref().expect("a status")["placement"]["instance"].clone();
    let on = key(Kind::Instance, None, on.as_str().expect("a name"));
    plant
        .until(&on, "known by an identity and ready", |found| {
            let status = found.status.as_ref();
            status.is_some_and(|status| status.get("serverIdentity").is_some())
                && is_condition(found, "Ready", "True")
        })
        .await;
    for access in ["notes-api", "notes-report"] {
        plant.ready(&key(Kind::Access, Some("shop"), access)).await;
    }
    let run = plant.migrate_in(Dialect::Sqlite, &notes, SCRIPTS).await;
    assert_eq!(finished(&plant, run).await, OperationPhase::Succeeded);

    let BindingTarget::Sqlite(file) = plant.target("shop", "notes-api").await else {
        panic!("a file");
    };
    let BindingTarget::Sqlite(reading) = plant.target("shop", "notes-report").await else {
        panic!("a file");
    };
    assert!(!file.read_only && reading.read_only);
    assert_eq!(file.path, reading.path);
    let body = |path: &str| -> rusqlite::Result<String> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let opened = rusqlite::Connection::open_with_flags(path, flags)?;
        opened.query_row("SELECT body FROM notes", [], |row| row.get(0))
    };
    assert_eq!(body(&file.path).expect("a row"), "kept; as it is");

    quarantined(&plant).await;
    assert!(
        body(&file.path).is_err(),
        "the file is where no program looks"
    );
    let undeleted = plant.control.database_undelete(&plant.admin, &notes).await;
    undeleted.expect("accepted");
    plant.ready(&notes).await;
    assert_eq!(body(&file.path).expect("a row"), "kept; as it is");

    // A script for another engine, or one that would leave the file, does not run.
    let foreign = plant.migrate_in(Dialect::Postgresql, &notes, SCRIPTS).await;
    assert_eq!(finished(&plant, foreign).await, OperationPhase::Failed);
    plant.stop().await;
}

fn login(binding: &ServerBinding) -> Login {
    Login {
        name: binding.username.clone(),
        password: binding.password.expose().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_takes_the_same_path_and_keeps_readers_from_writing() {
    let plant = Plant::start().await;
    let server = Server::start();
    let admin = server.create_managed_admin("CONNECTION ADMIN");
    let password = plant.directory.path().join("mariadb-password");
    std::fs::write(&password, &admin.password).expect("a file in a temporary directory");
    let instance = format!(
        "  external:\n    host: {}\n    port: {}\n    username: {}\n    password: 'file:{}'\n    tls: disable",
        server.host(),
        server.port(),
        admin.name,
        password.display(),
    );
    let limits = ", limits: {connections: 5}";
    plant.apply(&manifests("mariadb", &instance, limits)).await;
    plant.ready(&key(Kind::Instance, None, "mariadb-1")).await;
    plant.apply(NOTES).await;
    let notes = key(Kind::Database, Some("shop"), "notes");
    plant.ready(&notes).await;
    for access in ["notes-api", "notes-report"] {
        plant.ready(&key(Kind::Access, Some("shop"), access)).await;
    }
    let run = plant.migrate_in(Dialect::Mysql, &notes, SCRIPTS).await;
    assert_eq!(finished(&plant, run).await, OperationPhase::Succeeded);

    let BindingTarget::Mysql(api) = plant.target("shop", "notes-api").await else {
        panic!("a server of MySQL's protocol");
    };
    let report = plant.binding("shop", "notes-report").await;
    let as_login = |binding: &ServerBinding, statement: &str| {
        sql_as(binding.port, &login(binding), &binding.database, statement)
    };
    let read = "SELECT body FROM notes WHERE id = 7";
    for binding in [&api, &report] {
        let body = as_login(binding, read).expect("a row");
        assert_eq!(body.trim(), "kept; as it is");
    }
    as_login(&api, "INSERT INTO notes VALUES (8, 'x')").expect("a writer writes");
    as_login(&api, "DROP TABLE notes").expect_err("a writer drops nothing");
    as_login(&report, "INSERT INTO notes VALUES (9, 'x')").expect_err("a reader writes nothing");

    // A grant by hand is drift: found and taken back.
    let grant = format!(
        "GRANT DROP ON `{}`.* TO `{}`@`%`",
        api.database, report.username
    );
    server.sql(&grant);
    eventually("the grant is taken back", || async {
        as_login(&report, "DROP TABLE IF EXISTS nothing").is_err()
    })
    .await;

    quarantined(&plant).await;
    as_login(&api, read).expect_err("a quarantined database lets nobody in");
    let undeleted = plant.control.database_undelete(&plant.admin, &notes).await;
    undeleted.expect("accepted");
    plant.ready(&notes).await;
    assert_eq!(
        as_login(&api, read).expect("a row").trim(),
        "kept; as it is"
    );
    plant.stop().await;
}

/// A server of Redis with the database `notes` on it.
async fn on_redis(more: &str) -> (Plant, redis::Server) {
    let plant = Plant::start().await;
    let server = redis::Server::start();
    let admin = server.admin_login();
    let password = plant.directory.path().join("redis-password");
    std::fs::write(&password, &admin.password).expect("a file in a temporary directory");
    let instance = format!(
        "  external:\n    host: {}\n    port: {}\n    username: {}\n    password: 'file:{}'\n    tls: disable",
        server.host(),
        server.port(),
        admin.name,
        password.display(),
    );
    plant.apply(&manifests("redis", &instance, more)).await;
    plant.ready(&key(Kind::Instance, None, "redis-1")).await;
    plant.apply(NOTES).await;
    plant.ready(&notes()).await;
    for access in ["notes-api", "notes-report"] {
        plant.ready(&key(Kind::Access, Some("shop"), access)).await;
    }
    (plant, server)
}

fn notes() -> ResourceKey {
    key(Kind::Database, Some("shop"), "notes")
}

/// Gives a command as the program that a binding is for.
fn on(binding: &ServerBinding, words: &[&str]) -> Result<String, String> {
    let login = redis::Login {
        name: binding.username.clone(),
        password: binding.password.expose().to_owned(),
    };
    redis::run_as(binding.port, &login, words)
}

/// There is nothing to migrate, and everything else is as elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn redis_takes_the_same_path_and_confines_programs_to_their_prefix() {
    let (plant, _server) = on_redis("").await;
    let BindingTarget::Redis(api) = plant.target("shop", "notes-api").await else {
        panic!("a server of Redis");
    };
    let report = plant.binding("shop", "notes-report").await;
    let note = format!("{}:note", api.database);
    on(&api, &["SET", &note, "kept"]).expect("a writer writes");
    on(&api, &["SET", "elsewhere", "x"]).expect_err("and only within its prefix");
    assert_eq!(on(&report, &["GET", &note]).as_deref(), Ok("kept"));
    on(&report, &["SET", &note, "x"]).expect_err("a reader writes nothing");

    let files = freehold_migrate::Bundle::from_files(SCRIPTS.iter().copied()).expect("a bundle");
    let digest = files.digest().clone();
    let stored = plant
        .control
        .bundle_put(&plant.admin, &digest, files.to_archive());
    stored.await.expect("accepted");
    let asked = freehold_api::MigrateRequest {
        bundle: digest,
        reason: String::new(),
    };
    let refused = plant
        .control
        .migration_submit(&plant.admin, &notes(), asked)
        .await
        .expect_err("there is nothing to migrate");
    assert!(refused.message.contains("no schema"), "{}", refused.message);

    quarantined(&plant).await;
    on(&api, &["GET", &note]).expect_err("a quarantined database lets nobody in");
    let undeleted = plant
        .control
        .database_undelete(&plant.admin, &notes())
        .await;
    undeleted.expect("accepted");
    plant.ready(&notes()).await;
    assert_eq!(on(&api, &["GET", &note]).as_deref(), Ok("kept"));
    plant.stop().await;
}

/// Rights given by hand are drift, and so are accounts that a restart has lost.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_on_redis_are_made_again_and_a_large_database_is_told_of() {
    let (plant, server) = on_redis(", load: {storageMib: 1}").await;
    let api = plant.binding("shop", "notes-api").await;
    let report = plant.binding("shop", "notes-report").await;
    let note = format!("{}:note", api.database);
    on(&api, &["SET", &note, "kept"]).expect("a writer writes");
    server.run(&["ACL", "SETUSER", &report.username, "~*"]);
    eventually("the right is taken back", || async {
        on(&report, &["GET", "elsewhere"]).is_err()
    })
    .await;
    server.restart_without_accounts();
    on(&api, &["GET", &note]).expect_err("its account is lost");
    eventually("the account is there again", || async {
        on(&api, &["GET", &note]).as_deref() == Ok("kept")
    })
    .await;
    let large = format!("{}:large", api.database);
    on(&api, &["SETRANGE", &large, "3000000", "x"]).expect("nothing keeps it from that");
    plant
        .until(&notes(), "larger than it was promised", |found| {
            let size = found
                .status
                .as_ref()
                .and_then(|status| status["sizeBytes"].as_u64());
            is_condition(found, "Drifted", "True") && size.is_some_and(|size| size > 3_000_000)
        })
        .await;
    plant.stop().await;
}

/// The keys of the registry are gone with everybody's, and nothing is taken over for that.
#[tokio::test(flavor = "multi_thread")]
async fn flushall_on_redis_is_told_and_put_right() {
    let (plant, server) = on_redis("").await;
    server.run(&["FLUSHALL"]);
    plant
        .until(&notes(), "its loss told of and put right", |found| {
            let status = found.status.as_ref();
            let conditions = status.map(|status| status["conditions"].to_string());
            conditions.is_some_and(|text| text.contains("FLUSHALL"))
        })
        .await;
    eventually("the registry is there again", || async {
        server.run(&["EXISTS", "freehold:server"]) == "1"
    })
    .await;
    plant.ready(&key(Kind::Instance, None, "redis-1")).await;
    // Without accounts as well there is nothing that says whose it was: that is for a person.
    server.run(&["FLUSHALL"]);
    server.restart_without_accounts();
    plant
        .until(&notes(), "not ready", |found| {
            is_condition(found, "Ready", "False")
        })
        .await;
    assert_eq!(server.run(&["ACL", "USERS"]), "admin\ndefault");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_cannot_hold_is_refused_when_it_is_asked_for() {
    let plant = Plant::start().await;
    plant.apply(&manifests("sqlite", "  local: {}", "")).await;
    for (wanted, part) in [
        ("spec: {class: standard, schemas: [stock]}", "no schemas"),
        (
            "spec: {class: standard, access: [{workload: api, level: readOnly, targets: [{table: t}]}]}",
            "whole databases only",
        ),
    ] {
        let manifest = format!(
            "apiVersion: freehold.dev/v1alpha1\nkind: Database\nmetadata: {{name: n, namespace: shop}}\n{wanted}\n"
        );
        let refused = plant.try_apply(&plant.admin, &manifest).await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code, Code::Invalid);
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    plant.stop().await;
}
