//! What somebody changed by hand.

use freehold_model::kinds::{AccessLevel, Difference};
use freehold_testing::postgres::Server;

use crate::world::{ANY, As, BOTH, World, access, database, oldest_and_newest, open_migrator, uid};

/// What is done by hand as the superuser, where, and the finding's key.
const DRIFTS: [(&str, &str, &str); 22] = [
    (
        "shop",
        "GRANT SELECT ON item TO PUBLIC",
        "grant.extra:public.item:PUBLIC",
    ),
    (
        "shop",
        "GRANT UPDATE ON item TO app_a",
        "grant.extra:public.item:app_a",
    ),
    (
        "shop",
        "GRANT TRUNCATE ON item TO shop_writer",
        "grant.extra:public.item:shop_writer",
    ),
    (
        "shop",
        "GRANT SELECT ON item TO other_a",
        "grant.extra:public.item:other_a",
    ),
    (
        "shop",
        "GRANT SELECT ON item TO shop_reader WITH GRANT OPTION",
        "grant.extra:public.item:shop_reader",
    ),
    (
        "shop",
        "GRANT SELECT (name) ON item TO other_a",
        "grant.extra:public.item.name:other_a",
    ),
    (
        "shop",
        "REVOKE SELECT ON item FROM shop_reader",
        "grant.missing:public.item:shop_reader",
    ),
    (
        "shop",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "grant.extra:public:PUBLIC",
    ),
    (
        "shop",
        "GRANT CREATE ON SCHEMA public TO app_a",
        "grant.extra:public:app_a",
    ),
    (
        "shop",
        "GRANT EXECUTE ON FUNCTION twice(int) TO PUBLIC",
        "grant.extra:public.twice(integer):PUBLIC",
    ),
    (
        "shop",
        "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner GRANT SELECT ON TABLES TO PUBLIC",
        "default.extra:shop_owner:*:tables:PUBLIC",
    ),
    (
        "shop",
        "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA public GRANT ALL ON TABLES TO app_a",
        "default.extra:shop_owner:public:tables:app_a",
    ),
    (
        "shop",
        "ALTER TABLE item OWNER TO shop_migrator",
        "owner.login:shop_migrator",
    ),
    (
        "postgres",
        "GRANT CONNECT ON DATABASE shop TO PUBLIC",
        "grant.extra:shop:PUBLIC",
    ),
    (
        "postgres",
        "GRANT CONNECT ON DATABASE shop TO other_a",
        "grant.extra:shop:other_a",
    ),
    (
        "postgres",
        "GRANT shop_owner TO bob",
        "member.extra:shop_owner:bob",
    ),
    (
        "postgres",
        "GRANT shop_writer TO app_a",
        "member.extra:shop_writer:app_a",
    ),
    (
        "postgres",
        "GRANT pg_read_all_data TO app_a",
        "member.extra:pg_read_all_data:app_a",
    ),
    (
        "postgres",
        "ALTER ROLE app_b LOGIN",
        "role.attributes:app_b",
    ),
    (
        "postgres",
        "ALTER ROLE app_a CREATEDB",
        "role.attributes:app_a",
    ),
    (
        "postgres",
        "ALTER ROLE app_a IN DATABASE shop SET statement_timeout = 0",
        "setting:app_a:statement_timeout",
    ),
    (
        "postgres",
        "ALTER DATABASE shop CONNECTION LIMIT 77",
        "database.connections:shop",
    ),
];

fn shop() -> freehold_engine::DesiredDatabase {
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    desired.limits.statement_timeout_ms = Some(60_000);
    open_migrator(&mut desired);
    desired
}

async fn prepared(version: u32, admin: As) -> World {
    let world = World::start(version, admin);
    let mut other = database("other");
    other.stamp.uid = uid(2);
    other.accesses = vec![access(2, "other", AccessLevel::ReadOnly, &[])];
    world.provision(&other).await;
    world.provision(&shop()).await;
    world
        .sql_as(
            &shop(),
            "shop_migrator",
            "CREATE TABLE item (id int, name text);
            CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2'",
        )
        .expect("the migrator makes objects");
    world.server.psql("postgres", "CREATE ROLE bob LOGIN");
    assert_eq!(world.apply(&shop(), 1).await.expect("as it should be"), []);
    world
}

#[tokio::test]
async fn each_manual_change_is_found_named_and_repaired() {
    for version in oldest_and_newest() {
        let world = prepared(version, As::Superuser).await;
        for (place, change, key) in DRIFTS {
            world.server.psql(place, change);
            let found = world.observe(&shop(), 1).await.expect(change);
            let keys: Vec<&str> = found.iter().map(|found| found.key.as_str()).collect();
            assert_eq!(keys, [key], "{version}: {change}");
            assert!(!found[0].repaired);
            let repaired = world.apply(&shop(), 1).await.expect(change);
            assert!(
                repaired
                    .iter()
                    .any(|found| found.key == key && found.repaired),
                "{change}: {repaired:#?}"
            );
            let left = world.observe(&shop(), 1).await.expect(change);
            assert_eq!(left, [], "{version}: {change}");
        }
        world
            .server
            .psql("postgres", "ALTER ROLE app_a PASSWORD 'mine now'");
        let found = world.apply(&shop(), 1).await.expect("repaired");
        assert_eq!(found[0].key, "role.password:app_a");
        world
            .sql_as(&shop(), "app_a", "SELECT 1")
            .expect("the password is ours again");
    }
}

#[tokio::test]
async fn a_managed_admin_repairs_what_it_may() {
    for version in oldest_and_newest() {
        let world = prepared(version, As::Managed).await;
        for (place, change, key) in [
            (
                "shop",
                "GRANT SELECT ON item TO PUBLIC",
                "grant.extra:public.item:PUBLIC",
            ),
            (
                "postgres",
                "ALTER DATABASE shop CONNECTION LIMIT 77",
                "database.connections:shop",
            ),
            (
                "postgres",
                "ALTER ROLE app_b LOGIN",
                "role.attributes:app_b",
            ),
        ] {
            world.server.psql(place, change);
            let repaired = world.apply(&shop(), 1).await.expect(change);
            assert!(
                repaired
                    .iter()
                    .any(|found| found.key == key && found.repaired),
                "{change}: {repaired:#?}"
            );
            assert_eq!(world.observe(&shop(), 1).await.expect(change), []);
        }
        // What needs a superuser is said, again and again, and does not stop the rest.
        world.server.psql("postgres", "ALTER ROLE app_a SUPERUSER");
        world.server.psql("shop", "GRANT SELECT ON item TO PUBLIC");
        let found = world.apply(&shop(), 1).await.expect("goes on");
        let of = |key: &str| {
            found
                .iter()
                .find(|found| found.key == key)
                .map(|found| found.repaired)
        };
        assert_eq!(of("role.attributes:app_a"), Some(false), "{found:#?}");
        assert_eq!(
            of("grant.extra:public.item:PUBLIC"),
            Some(true),
            "{found:#?}"
        );
    }
}

#[tokio::test]
async fn what_an_administrator_gave_to_a_role_of_his_own_is_reported_and_left() {
    for version in [ANY] {
        let world = prepared(version, As::Superuser).await;
        world.server.psql(
            "shop",
            "GRANT SELECT ON item TO bob; CREATE TABLE dba (id int)",
        );
        let keys = |found: Vec<Difference>| -> Vec<String> {
            found.into_iter().map(|found| found.key).collect()
        };
        let expected = [
            "owner.foreign:public.dba:postgres",
            "grant.foreign:public.item:bob",
        ];
        assert_eq!(
            keys(world.observe(&shop(), 1).await.expect("looks")),
            expected
        );
        assert_eq!(
            keys(world.apply(&shop(), 1).await.expect("leaves it")),
            expected
        );
        assert_eq!(
            world
                .server
                .psql(
                    "shop",
                    "SELECT has_table_privilege('bob', 'item', 'SELECT')"
                )
                .trim(),
            "t"
        );
    }
}

#[tokio::test]
async fn taking_a_membership_away_ends_what_it_let_in() {
    for version in oldest_and_newest() {
        for admin in BOTH {
            let world = prepared(version, admin).await;
            world.server.psql(
                "postgres",
                "GRANT shop_owner TO bob; ALTER ROLE bob PASSWORD 'bob'",
            );
            let login = freehold_testing::postgres::Login {
                name: "bob".into(),
                password: "bob".into(),
            };
            let mut bob = crate::world::target(world.server.port(), &login);
            bob.database = "shop".into();
            let session = freehold_engine::postgres::PostgresSession::connect(&bob)
                .await
                .expect("bob is in");
            world
                .server
                .psql("shop", "REVOKE SELECT ON item FROM shop_reader");
            let found = world.apply(&shop(), 1).await.expect("as far as it may");
            let reading = "grant.missing:public.item:shop_reader";
            assert!(
                found
                    .iter()
                    .any(|found| found.key == reading && found.repaired),
                "what the admin may repair does not wait for what it may not: {found:#?}"
            );
            if admin == As::Superuser {
                let left = world.server.psql(
                    "postgres",
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bob'",
                );
                assert_eq!(left.trim(), "0");
            }
            drop(session);
        }
    }
}

#[tokio::test]
async fn a_database_whose_owner_dropped_all_it_owned_is_usable_again() {
    for version in oldest_and_newest() {
        for admin in BOTH {
            let world = prepared(version, admin).await;
            let mut desired = shop();
            open_migrator(&mut desired);
            world.apply(&desired, 1).await.expect("open");
            world
                .sql_as(
                    &desired,
                    "shop_migrator",
                    "DROP OWNED BY CURRENT_USER CASCADE",
                )
                .expect("its own to drop");
            let found = world.apply(&desired, 1).await.expect("repaired");
            assert!(found.iter().all(|found| found.repaired), "{found:#?}");
            assert_eq!(world.observe(&desired, 1).await.expect("looks"), []);
            world
                .sql_as(
                    &desired,
                    "shop_migrator",
                    "CREATE TABLE public.anew (id int)",
                )
                .expect("migrations find a place");
            world
                .sql_as(&desired, "app_a", "SELECT * FROM anew")
                .expect("and programs what they make");
        }
    }
}

#[tokio::test]
async fn a_rule_of_another_role_for_what_it_will_make_is_told() {
    let world = prepared(ANY, As::Superuser).await;
    world.server.psql(
        "shop",
        "ALTER DEFAULT PRIVILEGES FOR ROLE bob GRANT SELECT ON TABLES TO PUBLIC",
    );
    let found = world.apply(&shop(), 1).await.expect("looks");
    let keys: Vec<&str> = found.iter().map(|found| found.key.as_str()).collect();
    assert_eq!(keys, ["defaults.foreign:bob::r"]);
    assert!(!found[0].repaired);
}

#[tokio::test]
async fn a_thousand_tables_cost_few_statements() {
    let server = Server::builder()
        .version(15)
        .setting("log_statement", "all")
        .start();
    let world = World::around(server, As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    open_migrator(&mut desired);
    world.provision(&desired).await;
    world
        .sql_as(&desired, "shop_migrator", "DO $$ BEGIN FOR i IN 1..1200 LOOP EXECUTE format('CREATE TABLE t%s (id int)', i); END LOOP; END $$")
        .expect("made");
    world.server.psql(
        "shop",
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM shop_reader",
    );
    let count = || world.server.log().matches("LOG:  ").count();
    let before = count();
    let found = world.apply(&desired, 1).await.expect("repaired");
    assert_eq!(found.len(), 1, "{found:#?}");
    let used = count() - before;
    assert!(used < 60, "{used} log lines for 1,200 tables");
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
}

#[tokio::test]
async fn a_survey_saves_the_cluster_wide_look_and_hides_nothing() {
    for version in [ANY] {
        for admin in BOTH {
            let world = prepared(version, admin).await;
            let gate = freehold_model::Gate::open();
            let mode = freehold_engine::ConvergeMode::Apply;
            let survey = world.engine.survey().await.expect("a survey");
            let shop_seen = survey
                .databases
                .iter()
                .find(|found| found.name == "shop")
                .expect("listed");
            assert_eq!(shop_seen.stamp.as_ref(), Some(&shop().stamp));
            assert!(shop_seen.same_server && shop_seen.size_bytes.is_some());
            let foreign = survey
                .databases
                .iter()
                .find(|found| found.name == "postgres")
                .expect("listed");
            assert_eq!(foreign.stamp, None);

            let fence = crate::world::fence(1);
            let clean = world
                .engine
                .converge(&shop(), mode, Some(&survey), &fence, &gate)
                .await
                .expect("clean");
            assert_eq!(clean, []);
            world
                .server
                .psql("postgres", "ALTER DATABASE shop CONNECTION LIMIT 7");
            world.server.psql("shop", "GRANT SELECT ON item TO PUBLIC");
            let fresh = world.engine.survey().await.expect("a survey");
            let found = world
                .engine
                .converge(&shop(), mode, Some(&fresh), &fence, &gate)
                .await
                .expect("repaired");
            let keys: Vec<&str> = found.iter().map(|found| found.key.as_str()).collect();
            assert_eq!(
                keys,
                [
                    "database.connections:shop",
                    "grant.extra:public.item:PUBLIC"
                ]
            );
            // The survey is stale now. It costs work, nothing else.
            let found = world
                .engine
                .converge(&shop(), mode, Some(&fresh), &fence, &gate)
                .await
                .expect("looked again");
            assert_eq!(found, []);
        }
    }
}
