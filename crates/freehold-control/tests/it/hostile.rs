//! Hostile names, hostile text in every field, hostile scripts.

use std::collections::BTreeMap;

use freehold_model::{Code, Kind, kinds::OperationPhase};
use freehold_testing::postgres::Login;

use crate::plant::{ORDERS, Plant, eventually, key, sql, within};

fn orders() -> freehold_model::ResourceKey {
    key(Kind::Database, Some("shop"), "orders")
}

fn team_and_database(team: &str, database: &str, access: &str) -> String {
    format!(
        r"
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {{name: {team}}}
spec: {{members: [{{subject: ana, role: owner}}]}}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {{name: w, namespace: {team}}}
spec: {{}}
---
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {{name: {database}, namespace: {team}}}
spec: {{class: standard}}
---
apiVersion: freehold.dev/v1alpha1
kind: Access
metadata: {{name: {access}, namespace: {team}}}
spec: {{database: {database}, subject: {{workload: w}}, level: owner}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_databases_ever_share_a_name_a_role_or_a_row_on_the_server() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    let long = "a".repeat(63);
    let nearly = format!("{}b", "a".repeat(62));
    // Joined, cut or suffixed carelessly, each of these would meet another one.
    let pairs = [
        ("a", "b-c"),
        ("a-b", "c"),
        ("a", "b"),
        ("pg", "catalog"),
        ("freehold", "registry"),
        ("postgres", "template1"),
        ("x", "owner"),
        ("x", "orders"),
        ("x", "orders-migrator"),
        (long.as_str(), long.as_str()),
        (long.as_str(), nearly.as_str()),
        (nearly.as_str(), long.as_str()),
    ];
    for (number, (team, database)) in pairs.iter().enumerate() {
        let access = format!("access{number}");
        let manifests = team_and_database(team, database, &access);
        plant.apply(&manifests).await;
    }
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (team, database) in pairs {
        let found = plant
            .ready(&key(Kind::Database, Some(team), database))
            .await;
        let name = found.status.expect("a status")["databaseName"].clone();
        let name = name.as_str().expect("a name").to_owned();
        let before = seen.insert(name.clone(), format!("{team}/{database}"));
        assert_eq!(before, None, "{team}/{database} is {name:?} as well");
    }
    // A table that one makes is seen by nobody else.
    for (number, (team, database)) in pairs.iter().enumerate() {
        let access = format!("access{number}");
        plant.ready(&key(Kind::Access, Some(team), &access)).await;
        let binding = plant.binding(team, &access).await;
        let made = sql(&binding, "CREATE TABLE mine (id int)").await;
        assert!(made.is_ok(), "{team}/{database}: {made:?}");
    }
    for refused in ["A", "a_b", "a.b", "-a", "a-", "", "ä", "a b", "a\"b", "1a"] {
        let manifest = team_and_database("shop", &format!("{refused:?}"), "access");
        let answer = plant.try_apply(&plant.admin, &manifest).await;
        let error = answer.expect_err(refused);
        assert_eq!(error.code, Code::Invalid, "{refused:?}: {error:?}");
    }
    plant.stop().await;
}

/// Text that has broken programs before.
const NASTY: [&str; 9] = [
    r#"a"b"#,
    "a'b; DROP DATABASE postgres; --",
    "%s%n",
    "_",
    "$$",
    "select",
    "\u{202e}evil",
    "ｐublic",
    "pg_temp",
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_in_any_field_is_data_or_refused_and_never_a_statement() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    let roles = "SELECT count(*) FROM pg_roles WHERE rolsuper";
    let before = plant.server.psql("postgres", roles);
    let mut accepted = Vec::new();
    let mut refused = 0;
    for (number, text) in NASTY.iter().enumerate() {
        let json = serde_json::to_string(text).expect("JSON");
        let fields = [
            ("s", format!("schemas: [{json}]")),
            ("e", format!("extensions: [{json}]")),
            (
                "t",
                format!(
                    "access: [{{workload: api, level: readWrite, targets: [{{schema: public, table: {json}}}]}}]"
                ),
            ),
        ];
        for (kind, field) in fields {
            let name = format!("h{kind}{number}");
            let manifest = format!(
                "apiVersion: freehold.dev/v1alpha1\nkind: Database\nmetadata: {{name: {name}, namespace: shop, \
                 annotations: {{note: {json}}}}}\nspec:\n  class: standard\n  {field}\n"
            );
            match plant.try_apply(&plant.admin, &manifest).await {
                Ok(_) => accepted.push((name, *text, kind)),
                Err(error) => {
                    assert_eq!(error.code, Code::Invalid, "{field}: {error:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0, "extensions that no class lists are refused");
    assert!(!accepted.is_empty(), "a schema may be called anything");
    for (name, text, kind) in accepted {
        let found = plant.ready(&key(Kind::Database, Some("shop"), &name)).await;
        let database = found.status.expect("a status")["databaseName"].clone();
        let database = database.as_str().expect("a name").to_owned();
        if kind == "s" {
            let quoted = text.replace('\'', "''");
            let there = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{quoted}'");
            assert_eq!(plant.server.psql(&database, &there).trim(), "1", "{text:?}");
        }
    }
    assert_eq!(before, plant.server.psql("postgres", roles));
    let databases = "SELECT count(*) FROM pg_database WHERE datname = 'postgres'";
    assert_eq!(plant.server.psql("postgres", databases).trim(), "1");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_script_gains_nothing_and_its_door_is_shut_afterwards() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    plant
        .apply(
            &ORDERS
                .replace("name: orders", "name: victim")
                .replace("[{workload: api, level: readWrite}]", "[]"),
        )
        .await;
    plant
        .ready(&key(Kind::Database, Some("shop"), "victim"))
        .await;
    plant.server.psql(
        "shop_victim",
        "SET ROLE shop_victim_owner; CREATE TABLE secret (id int)",
    );
    let powers = "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin FROM pg_roles \
                  WHERE rolname NOT LIKE 'pg\\_%' ORDER BY 1; \
                  SELECT roleid::regrole, member::regrole FROM pg_auth_members ORDER BY 1, 2; \
                  SELECT datname, datacl::text FROM pg_database ORDER BY 1";
    let before = plant.server.psql("postgres", powers);
    let attacks = [
        "RESET ROLE; CREATE ROLE backdoor LOGIN SUPERUSER;",
        "SET ROLE postgres; SELECT 1;",
        "SET SESSION AUTHORIZATION postgres;",
        "CREATE ROLE backdoor LOGIN;",
        "ALTER ROLE shop_orders_migrator LOGIN PASSWORD 'known' CREATEDB;",
        "GRANT shop_victim_owner TO shop_orders_owner;",
        "GRANT CONNECT ON DATABASE shop_victim TO PUBLIC;",
        "COPY (SELECT 1) TO PROGRAM 'touch /tmp/freehold-hacked';",
        "DROP OWNED BY shop_victim_owner;",
        "UPDATE freehold.registry SET epoch = 0;",
        "ALTER DATABASE shop_orders OWNER TO shop_orders_migrator;",
        "DO $$ BEGIN EXECUTE 'reset role'; EXECUTE 'create role backdoor'; END $$;",
        // Outside a transaction, so its failure stays in the history: the last one.
        "CREATE DATABASE mine;",
    ];
    for (number, attack) in attacks.iter().enumerate() {
        let file = format!("V{}__attack.sql", number + 1);
        let operation = plant.migrate(&orders(), &[(&file, attack)]).await;
        let ended = plant.ended(operation).await;
        assert_eq!(
            ended.spec.phase,
            OperationPhase::Failed,
            "{attack}: {ended:#?}"
        );
        assert!(
            ended.spec.message.contains(&file),
            "it says where: {}",
            ended.spec.message
        );
    }
    assert_eq!(before, plant.server.psql("postgres", powers));
    assert!(!std::path::Path::new("/tmp/freehold-hacked").exists());
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_drops_all_it_owns_hurts_its_own_database_alone_and_that_is_repaired() {
    let plant = Plant::start().await;
    let binding = plant.provisioned(ORDERS).await;
    let scripts = [
        ("V1__items.sql", "CREATE TABLE items (id int);"),
        // An owner may do this to itself; what Freehold granted must come back.
        (
            "V2__gone.sql",
            "REVOKE ALL ON SCHEMA public FROM shop_orders_writer; DROP TABLE items; \
             CREATE TABLE items (id int, name text); GRANT ALL ON items TO PUBLIC;",
        ),
    ];
    let operation = plant.migrate(&orders(), &scripts).await;
    let ended = plant.ended(operation).await;
    assert_eq!(ended.spec.phase, OperationPhase::Succeeded, "{ended:#?}");
    eventually("the workload reads and writes again", || async {
        sql(&binding, "INSERT INTO items VALUES (1, 'a')")
            .await
            .is_ok()
    })
    .await;
    let public = "SELECT count(*) FROM pg_class, aclexplode(relacl) a \
                  WHERE relname = 'items' AND a.grantee = 0";
    eventually("nobody else may", || async {
        plant.server.psql("shop_orders", public).trim() == "0"
    })
    .await;
    let migrator = Login {
        name: "shop_orders_migrator".to_owned(),
        password: String::new(),
    };
    let entered = plant.server.psql_as(&migrator, "shop_orders", "SELECT 1");
    assert!(entered.is_err(), "the migrator's door is shut");
    plant.stop().await;
}

/// The runner processes of this test, which are its children.
fn runners() -> Vec<u32> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| {
            rest.split(' ')
                .nth(1)
                .and_then(|text| text.parse::<u32>().ok())
        });
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if parent == Some(own) && line.ends_with(b"\0runner\0") {
            found.push(pid);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_killed_in_the_middle_of_a_script_is_followed_by_one_that_completes_it() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    // The script waits for a lock of ours, so that it is killed where we want it.
    let mut holder = tokio_postgres::Config::new();
    let login = plant.server.superuser_login();
    holder
        .host(plant.server.host())
        .port(plant.server.port())
        .user(&login.name)
        .password(&login.password)
        .dbname("shop_orders");
    let (holder, connection) = holder.connect(tokio_postgres::NoTls).await.expect("in");
    tokio::spawn(connection);
    let held = holder.batch_execute("SELECT pg_advisory_lock(42)").await;
    held.expect("held");
    let scripts = [
        ("V1__first.sql", "CREATE TABLE first (id int);"),
        (
            "V2__slow.sql",
            "CREATE TABLE second (id int); SELECT pg_advisory_xact_lock(42); \
             INSERT INTO second VALUES (1);",
        ),
    ];
    let operation = plant.migrate(&orders(), &scripts).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop_orders' \
                   AND wait_event = 'advisory'";
    for _ in 0..2 {
        eventually("the script waits", || async {
            plant.server.psql("postgres", waiting).trim() == "1" && runners().len() == 1
        })
        .await;
        let runner = runners()[0];
        let killed = std::process::Command::new("kill")
            .args(["-9", &runner.to_string()])
            .status();
        assert!(killed.expect("kill runs").success());
        eventually("the runner is gone", || async {
            !runners().contains(&runner)
        })
        .await;
    }
    eventually("a new runner waits", || async {
        plant.server.psql("postgres", waiting).trim() == "1"
    })
    .await;
    drop(holder);
    let ended = plant.ended(operation).await;
    assert_eq!(ended.spec.phase, OperationPhase::Succeeded, "{ended:#?}");
    let history = "SELECT string_agg(script || success, ' ' ORDER BY installed_rank) FROM \
                   flyway_schema_history; SELECT count(*) FROM second";
    assert_eq!(
        plant.server.psql("shop_orders", history).trim(),
        "V1__first.sqltrue V2__slow.sqltrue\n1"
    );
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE '%migrator'; \
                SELECT rolcanlogin FROM pg_roles WHERE rolname = 'shop_orders_migrator'";
    within(crate::plant::PATIENCE, "the migrator is out", || async {
        plant.server.psql("postgres", left).trim() == "0\nf"
    })
    .await;
    plant.stop().await;
}
