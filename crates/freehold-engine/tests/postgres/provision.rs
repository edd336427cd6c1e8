//! Making a database, and what each level may then do.

use std::sync::{Arc, Mutex};

use freehold_engine::{ConvergeMode, DesiredState};
use freehold_model::{
    Gate, GateKeeper, InjectedFault, Point, When,
    kinds::{AccessLevel, Limits},
};
use freehold_testing::postgres::Server;

use crate::world::{
    ANY, As, BOTH, World, access, credentials, database, enabled, fence, oldest_and_newest,
    open_migrator, password,
};

fn refused(result: Result<String, String>, why: &str) {
    let error = result.expect_err("it must be refused");
    assert!(error.contains(why), "{error:?} should say {why:?}");
}

#[tokio::test]
async fn every_level_can_do_its_work_and_no_more() {
    for version in Server::versions() {
        for admin in BOTH {
            let world = World::start(version, admin);
            let mut desired = database("shop");
            desired.schemas = vec!["stock".into()];
            desired.accesses = vec![
                access(1, "reader", AccessLevel::ReadOnly, &[]),
                access(2, "writer", AccessLevel::ReadWrite, &[]),
                access(3, "boss", AccessLevel::Owner, &[]),
            ];
            open_migrator(&mut desired);
            world.reserve(&desired, 1).await.expect("the name is free");
            let made = world
                .apply(&desired, 1)
                .await
                .expect("the database is made");
            let left: Vec<_> = made.iter().filter(|found| !found.repaired).collect();
            assert!(left.is_empty(), "{version} {admin:?}: {left:#?}");
            let again = world.apply(&desired, 1).await.expect("it is still there");
            assert!(again.is_empty(), "{version} {admin:?}: {again:#?}");
            check_levels(&world);
            let after = world.apply(&desired, 1).await.expect("it is still there");
            assert!(after.is_empty(), "{version} {admin:?}: {after:#?}");
        }
    }
}

/// Writes down what passes.
#[derive(Debug, Default)]
struct Passed(Mutex<Vec<String>>);

impl GateKeeper for Passed {
    fn reach(
        &self,
        point: Point,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        if point.when == When::Before {
            self.0.lock().expect("no panic").push(point.what);
        }
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_database_is_made_in_four_effects_that_leave_nothing_to_repair() {
    for version in oldest_and_newest() {
        for admin in BOTH {
            let world = World::start(version, admin);
            let mut desired = database("shop");
            desired.limits.connections = Some(9);
            desired.limits.lock_timeout_ms = Some(5000);
            desired.accesses = vec![
                access(1, "reader", AccessLevel::ReadOnly, &[]),
                access(2, "boss", AccessLevel::Owner, &[]),
                access(3, "part", AccessLevel::ReadWrite, &[("public", None)]),
            ];
            world.reserve(&desired, 1).await.expect("the name is free");
            let passed = Arc::new(Passed::default());
            let (first, gate) = (fence(1), Gate::kept_by(passed.clone()));
            let made = world
                .engine
                .converge(&desired, ConvergeMode::Apply, None, &first, &gate)
                .await
                .expect("the database is made");
            assert!(made.iter().all(|found| found.repaired), "{made:#?}");
            let effects = [
                "make the roles of \"shop\"",
                "create database \"shop\"",
                "open database \"shop\"",
                "grant inside \"shop\"",
            ];
            assert_eq!(*passed.0.lock().expect("no panic"), effects);
            let left = world.observe(&desired, 1).await.expect("it is there");
            assert!(left.is_empty(), "{version} {admin:?}: {left:#?}");
        }
    }
}

/// A birth looks only for what it can have brought along, so it must see that there is more.
#[tokio::test]
async fn what_a_template_brings_along_is_seen() {
    let world = World::start(ANY, As::Superuser);
    world.server.psql(
        "postgres",
        "ALTER DATABASE template0 ALLOW_CONNECTIONS true",
    );
    world.server.psql(
        "template0",
        "CREATE TABLE public.brought (id int); GRANT SELECT ON public.brought TO PUBLIC;
         CREATE SCHEMA guest; ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO PUBLIC",
    );
    let desired = database("shop");
    world.reserve(&desired, 1).await.expect("the name is free");
    let made = world.apply(&desired, 1).await.expect("it is made");
    let left: Vec<_> = made.iter().filter(|found| !found.repaired).collect();
    let keys: Vec<&str> = left.iter().map(|found| found.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "owner.foreign:guest:postgres",
            "owner.foreign:public.brought:postgres",
            "defaults.foreign:postgres::r"
        ]
    );
    let again = world.observe(&desired, 1).await.expect("it is there");
    assert_eq!(again.iter().collect::<Vec<_>>(), left);
}

fn check_levels(world: &World) {
    let sql = |login: &str, text: &str| world.sql_in(login, "shop", text);
    sql(
        "shop_migrator",
        "RESET ROLE; CREATE TABLE item (id serial PRIMARY KEY, name text);
         CREATE TABLE stock.place (id int GENERATED ALWAYS AS IDENTITY, name text);
         CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
         CREATE SCHEMA later; CREATE TABLE later.thing (id int);
         INSERT INTO item (name) VALUES ('a')",
    )
    .expect("the migrator makes objects");
    let owners = sql(
        "boss_a",
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'stock', 'later')",
    );
    assert_eq!(owners.expect("the owner reads").trim(), "shop_owner");

    assert_eq!(
        sql("reader_a", "SELECT count(*), twice(2) FROM item")
            .expect("reads")
            .trim(),
        "1|4"
    );
    sql("reader_a", "SELECT * FROM later.thing, stock.place").expect("reads what was made later");
    refused(
        sql("reader_a", "INSERT INTO item (name) VALUES ('b')"),
        "permission denied",
    );
    refused(
        sql("reader_a", "CREATE TABLE public.mine (id int)"),
        "permission denied",
    );
    refused(
        sql("reader_a", "CREATE TEMP TABLE mine (id int)"),
        "permission denied",
    );

    sql(
        "writer_a",
        "INSERT INTO item (name) VALUES ('b'); UPDATE item SET name = 'c'; DELETE FROM item",
    )
    .expect("writes");
    sql("writer_a", "INSERT INTO stock.place (name) VALUES ('x')")
        .expect("writes in other schemas");
    sql("writer_a", "CREATE TEMP TABLE mine (id int)").expect("may use temporary tables");
    refused(sql("writer_a", "DROP TABLE item"), "must be owner");
    refused(sql("writer_a", "TRUNCATE item"), "permission denied");
    refused(
        sql("writer_a", "CREATE TABLE public.mine (id int)"),
        "permission denied",
    );
    refused(sql("writer_a", "CREATE SCHEMA mine"), "permission denied");
    refused(sql("writer_a", "SET ROLE shop_owner"), "permission denied");
    refused(
        sql(
            "writer_a",
            "SET ROLE shop_writer; ALTER TABLE item ADD x int",
        ),
        "",
    );

    sql(
        "boss_a",
        "ALTER TABLE item ADD extra int; DROP TABLE later.thing",
    )
    .expect("defines");
    refused(
        sql("boss_a", "ALTER DATABASE shop CONNECTION LIMIT 1000"),
        "must be owner",
    );
    refused(
        sql("boss_a", "SET ROLE NONE; CREATE TABLE public.mine (id int)"),
        "permission denied",
    );
    refused(
        world.sql_in("boss_a", "postgres", "DROP DATABASE shop"),
        "must be owner",
    );
    refused(sql("writer_b", "SELECT 1"), "FATAL");
}

#[tokio::test]
async fn one_tenant_cannot_reach_another() {
    for version in oldest_and_newest() {
        let world = World::start(version, As::Managed);
        for (at, shop) in ["red", "blue"].into_iter().enumerate() {
            let mut desired = database(shop);
            desired.stamp.uid = crate::world::uid(at as u64);
            desired.accesses = vec![access(at as u64, shop, AccessLevel::Owner, &[])];
            world.provision(&desired).await;
        }
        refused(
            world.sql_in("red_a", "blue", "SELECT 1"),
            "permission denied for database",
        );
        refused(
            world.sql_in("red_a", "red", "SET ROLE blue_owner"),
            "permission denied",
        );
        refused(
            world.sql_in("red_a", "postgres", "SELECT * FROM freehold.registry"),
            if version < 15
                || world
                    .server
                    .psql(
                        "postgres",
                        "SELECT 1 FROM pg_namespace WHERE nspname = 'freehold'",
                    )
                    .is_empty()
            {
                ""
            } else {
                "permission denied"
            },
        );
    }
}

#[tokio::test]
async fn an_access_limited_to_schemas_and_tables_sees_only_those() {
    for version in [ANY] {
        let world = World::start(version, As::Superuser);
        let mut desired = database("shop");
        desired.accesses = vec![access(
            1,
            "part",
            AccessLevel::ReadWrite,
            &[("sales", None), ("public", Some("item"))],
        )];
        open_migrator(&mut desired);
        world.reserve(&desired, 1).await.expect("the name is free");
        let made = world
            .apply(&desired, 1)
            .await
            .expect("the database is made");
        let mut pending: Vec<_> = made
            .iter()
            .filter(|found| !found.repaired)
            .map(|found| found.key.as_str())
            .collect();
        pending.sort_unstable();
        assert_eq!(
            pending,
            ["target.pending:public.item", "target.pending:sales"]
        );

        world
            .sql_as(
                &desired,
                "shop_migrator",
                "CREATE TABLE item (id serial, name text); CREATE TABLE secret (id int);
                CREATE SCHEMA sales; CREATE TABLE sales.early (id int)",
            )
            .expect("the migrator makes objects");
        let granted = world
            .apply(&desired, 1)
            .await
            .expect("what was pending is granted");
        assert!(granted.iter().all(|found| found.repaired), "{granted:#?}");
        world
            .sql_as(
                &desired,
                "shop_migrator",
                "CREATE TABLE sales.late (id int)",
            )
            .expect("the migrator makes objects");

        world
            .sql_as(&desired, "part_a", "INSERT INTO item (name) VALUES ('x')")
            .expect("the named table, with its sequence");
        world
            .sql_as(
                &desired,
                "part_a",
                "INSERT INTO sales.early SELECT 1; INSERT INTO sales.late SELECT 1",
            )
            .expect("the named schema");
        refused(
            world.sql_as(&desired, "part_a", "SELECT * FROM secret"),
            "permission denied",
        );
        assert_eq!(
            world
                .apply(&desired, 1)
                .await
                .expect("it is as it should be"),
            []
        );

        // The access goes, and its rights with it.
        let login = desired.accesses.remove(0).logins[0].name.clone();
        world
            .apply(&desired, 1)
            .await
            .expect("the rights are taken");
        refused(world.sql_as(&desired, &login, "SELECT * FROM item"), "");
    }
}

#[tokio::test]
async fn closing_ends_every_session_and_opening_restores_exactly() {
    for version in oldest_and_newest() {
        for admin in BOTH {
            let world = World::start(version, admin);
            let mut desired = database("shop");
            desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
            world.provision(&desired).await;
            let before = rights(&world);
            let session =
                freehold_engine::postgres::PostgresSession::connect(&login_target(&world, "app_a"))
                    .await
                    .expect("the login works");

            desired.state = DesiredState::Closed;
            let closed = world.apply(&desired, 1).await.expect("it is closed");
            assert!(closed.iter().all(|found| found.repaired), "{closed:#?}");
            refused(world.sql_as(&desired, "app_a", "SELECT 1"), "");
            assert_eq!(
                world
                    .server
                    .psql(
                        "postgres",
                        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a'"
                    )
                    .trim(),
                "0"
            );
            assert_eq!(world.apply(&desired, 1).await.expect("it stays closed"), []);
            drop(session);

            desired.state = DesiredState::Open;
            world.apply(&desired, 1).await.expect("it opens");
            assert_eq!(rights(&world), before);
            world
                .sql_as(&desired, "app_a", "SELECT 1")
                .expect("it is open again");
        }
    }
}

fn rights(world: &World) -> String {
    world.server.psql(
        "postgres",
        "SELECT datacl, datconnlimit FROM pg_database WHERE datname = 'shop'",
    )
}

pub(crate) fn login_target(world: &World, login: &str) -> freehold_engine::ConnectTarget {
    let mut target = crate::world::target(world.server.port(), &credentials(login));
    target.database = "shop".into();
    target
}

#[tokio::test]
async fn rotating_a_slot_ends_what_was_connected_with_it() {
    for version in oldest_and_newest() {
        let world = World::start(version, As::Managed);
        let mut desired = database("shop");
        desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
        world.provision(&desired).await;
        let _old =
            freehold_engine::postgres::PostgresSession::connect(&login_target(&world, "app_a"))
                .await
                .expect("slot A works");
        let [a, b] = &mut desired.accesses[0].logins;
        (a.state, b.state) = (freehold_engine::LoginState::Disabled, enabled("app_b"));
        world.apply(&desired, 1).await.expect("rotated");
        world
            .sql_as(&desired, "app_b", "SELECT 1")
            .expect("slot B works");
        refused(
            world.sql_as(&desired, "app_a", "SELECT 1"),
            "not permitted to log in",
        );
        assert_eq!(
            world
                .server
                .psql(
                    "postgres",
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a'"
                )
                .trim(),
            "0"
        );

        world
            .engine
            .disable_logins(
                "shop",
                &desired.stamp,
                &["app_b".into(), "never_was".into()],
                &crate::world::fence(1),
                &freehold_model::Gate::open(),
            )
            .await
            .expect("disabled");
        refused(world.sql_as(&desired, "app_b", "SELECT 1"), "");
        assert_eq!(
            world.server.psql("postgres", "SELECT count(*) FROM pg_auth_members WHERE member = 'app_b'::regrole AND roleid::regrole::text LIKE 'shop%'").trim(),
            "0"
        );
    }
}

#[tokio::test]
async fn limits_hold_and_say_where_they_cannot() {
    for version in oldest_and_newest() {
        for admin in BOTH {
            let world = World::start(version, admin);
            let mut desired = database("shop");
            desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
            desired.limits = Limits {
                connections: Some(3),
                statement_timeout_ms: Some(1234),
                lock_timeout_ms: Some(567),
                idle_in_transaction_timeout_ms: Some(8901),
                temp_files_mib: Some(5),
            };
            world.reserve(&desired, 1).await.expect("the name is free");
            let made = world
                .apply(&desired, 1)
                .await
                .expect("the database is made");
            let told = made
                .iter()
                .any(|found| !found.repaired && found.key == "setting:app_a:temp_file_limit");
            assert_eq!(told, admin == As::Managed, "{made:#?}");
            let shown = world
                .sql_as(&desired, "app_a", "SHOW statement_timeout; SHOW lock_timeout; SHOW idle_in_transaction_session_timeout; SHOW temp_file_limit")
                .expect("the login works");
            let shown: Vec<&str> = shown.split_whitespace().collect();
            assert_eq!(&shown[..3], ["1234ms", "567ms", "8901ms"]);
            if admin == As::Superuser {
                assert_eq!(shown[3], "5MB");
                refused(
                    world.sql_as(&desired, "app_a", "SET temp_file_limit = -1"),
                    "permission denied",
                );
                refused(
                    world.sql_as(&desired, "app_a", "ALTER ROLE app_a RESET temp_file_limit"),
                    "permission denied",
                );
            }
            let limit = world.server.psql(
                "postgres",
                "SELECT datconnlimit FROM pg_database WHERE datname = 'shop'",
            );
            assert_eq!(limit.trim(), "3");

            desired.limits = Limits::default();
            world.apply(&desired, 1).await.expect("limits are lifted");
            let shown = world
                .sql_as(&desired, "app_a", "SHOW statement_timeout")
                .expect("the login works");
            assert_eq!(shown.trim(), "0");
            assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
        }
    }
}

#[tokio::test]
async fn extensions_and_schemas_are_made_or_named() {
    for version in oldest_and_newest() {
        let world = World::start(version, As::Managed);
        let mut desired = database("shop");
        desired.extensions = vec![
            "citext".into(),
            "no such extension".into(),
            "file_fdw".into(),
        ];
        desired.schemas = vec!["Sales \"EU\"".into()];
        open_migrator(&mut desired);
        world.reserve(&desired, 1).await.expect("the name is free");
        let made = world
            .apply(&desired, 1)
            .await
            .expect("the database is made");
        let state = |key: &str| {
            made.iter()
                .find(|found| found.key == key)
                .map(|found| found.repaired)
        };
        assert_eq!(state("extension.missing:citext"), Some(true), "{made:#?}");
        assert_eq!(state("extension.missing:no such extension"), Some(false));
        assert_eq!(
            state("extension.missing:file_fdw"),
            Some(false),
            "it is not trusted"
        );
        assert_eq!(state("schema.missing:Sales \"EU\""), Some(true));
        world
            .sql_as(
                &desired,
                "shop_migrator",
                "CREATE TABLE \"Sales \"\"EU\"\"\".t (a public.citext)",
            )
            .expect("the schema belongs to the owner");
    }
}

#[tokio::test]
async fn the_log_never_holds_a_password() {
    for version in oldest_and_newest() {
        for admin in BOTH {
            let server = Server::builder()
                .version(version)
                .setting("log_statement", "all")
                .setting("log_min_duration_statement", "0")
                .start();
            let world = World::around(server, admin);
            let mut desired = database("shop");
            desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
            world.provision(&desired).await;
            world
                .sql_as(&desired, "app_a", "SELECT 1")
                .expect("the password works, with its ½");
            let log = world.server.log();
            assert!(
                log.contains("CREATE ROLE \"app_a\""),
                "statements are logged"
            );
            assert!(!log.contains(password("app_a").expose()));
            let verifier = world.server.psql(
                "postgres",
                "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_a'",
            );
            assert!(verifier.starts_with("SCRAM-SHA-256$4096:"));
            let seen = log.contains(verifier.trim());
            assert_eq!(
                seen,
                admin == As::Managed,
                "only a superuser can keep it out of the log"
            );
        }
    }
}
