//! Hostile names.

use freehold_engine::Fault;
use freehold_model::kinds::AccessLevel;

use crate::world::{ANY, As, World, access, database, open_migrator, uid};

const HOSTILE: [&str; 12] = [
    "quote\"quote",
    "it's",
    "back\\slash",
    "per%cent_under",
    "select",
    "user",
    "a b; DROP DATABASE postgres; --",
    "\"; DROP ROLE postgres; --",
    "ｓhop",
    "ЅHOP",
    "$$ $1 {} %s",
    " leading and trailing ",
];

#[tokio::test]
async fn hostile_names_are_only_names() {
    for version in [ANY] {
        let world = World::start(version, As::Managed);
        for (at, hostile) in HOSTILE.into_iter().enumerate() {
            let at = at as u64;
            let mut desired = database(hostile);
            desired.stamp.uid = uid(at);
            desired.schemas = vec![format!("{hostile} schema")];
            let schema = desired.schemas[0].clone();
            desired.accesses = vec![
                access(
                    at * 2,
                    &format!("{hostile} all"),
                    AccessLevel::ReadWrite,
                    &[],
                ),
                access(
                    at * 2 + 1,
                    &format!("{hostile} part"),
                    AccessLevel::ReadOnly,
                    &[(&schema, Some(hostile))],
                ),
            ];
            open_migrator(&mut desired);
            world.reserve(&desired, 1).await.expect(hostile);
            world.apply(&desired, 1).await.expect(hostile);
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let table = format!("{}.{}", quoted(&schema), quoted(hostile));
            let create = format!("CREATE TABLE {table} (id int)");
            world
                .sql_as(&desired, &desired.migrator.login, &create)
                .expect(hostile);
            world.apply(&desired, 1).await.expect(hostile);
            assert_eq!(
                world.apply(&desired, 1).await.expect(hostile),
                [],
                "{hostile}"
            );
            let insert = format!("INSERT INTO {table} VALUES (1)");
            world
                .sql_as(&desired, &format!("{hostile} all_a"), &insert)
                .expect(hostile);
            let select = format!("SELECT * FROM {table}");
            world
                .sql_as(&desired, &format!("{hostile} part_a"), &select)
                .expect(hostile);
        }
        let survived = world.server.psql(
            "postgres",
            "SELECT count(*) FROM pg_roles WHERE rolname = 'postgres'",
        );
        assert_eq!(survived.trim(), "1");
    }
}

#[tokio::test]
async fn names_that_the_server_would_cut_are_refused() {
    let world = World::start(15, As::Superuser);
    let longest = "d".repeat(63);
    let mut desired = database(&longest);
    desired.migrator.login = "m".repeat(63);
    world.provision(&desired).await;
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
    // Another database whose name agrees in the first 62 bytes has roles of its own.
    let mut neighbour = database(&format!("{}e", &longest[..62]));
    neighbour.stamp.uid = uid(2);
    neighbour.migrator.login = "n".repeat(63);
    world.provision(&neighbour).await;

    for name in [
        "d".repeat(64),
        "é".repeat(32),
        String::new(),
        "nul\0".into(),
    ] {
        let error = world
            .reserve(&database(&name), 1)
            .await
            .expect_err("refused");
        assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
        let mut desired = database("shop");
        desired.schemas = vec![name.clone()];
        let error = world.apply(&desired, 1).await.expect_err("refused");
        assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
        let mut desired = database("shop");
        desired.accesses = vec![access(
            1,
            "app",
            AccessLevel::ReadOnly,
            &[("public", Some(&name))],
        )];
        let error = world.apply(&desired, 1).await.expect_err("refused");
        assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    }
}

#[tokio::test]
async fn two_things_never_share_a_role() {
    let world = World::start(15, As::Superuser);
    let mut desired = database("shop");
    desired.migrator.login = "shop_owner".into();
    let error = world.apply(&desired, 1).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    let mut desired = database("shop");
    desired.accesses = vec![
        access(1, "app", AccessLevel::ReadOnly, &[]),
        access(2, "app", AccessLevel::Owner, &[]),
    ];
    let error = world.apply(&desired, 1).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
}

mod quoting {
    use freehold_engine::{ScriptSession as _, postgres::PostgresSession};
    use proptest::{
        strategy::{Strategy as _, ValueTree as _},
        test_runner::TestRunner,
    };

    use crate::world::{As, World, database, target, uid};

    /// Whatever text becomes a name is that name on the server, byte for byte.
    #[tokio::test]
    async fn names_arrive_as_they_are() {
        let world = World::start(15, As::Superuser);
        let mut session = PostgresSession::connect(&target(world.server.port(), &world.admin))
            .await
            .expect("connects");
        let mut runner = TestRunner::deterministic();
        let texts = proptest::string::string_regex("[^\\x00]{1,15}").expect("a pattern");
        for at in 0..60 {
            let text = texts.new_tree(&mut runner).expect("a text").current();
            let text: String = text.chars().take_while(|c| *c != '\0').collect();
            let mut desired = database(&text);
            desired.stamp.uid = uid(at);
            if world.reserve(&desired, 1).await.is_err() {
                assert!(
                    ["postgres", "template0", "template1"].contains(&text.as_str())
                        || text.len() > 63,
                    "{text:?}"
                );
                continue;
            }
            let rows = session
                .query(
                    "SELECT count(*) FROM freehold.registry WHERE name = $1",
                    &[Some(&text)],
                )
                .await
                .expect("asked");
            assert_eq!(rows[0][0].as_deref(), Some("1"), "{text:?}");
            let quoted = session
                .query(
                    "SELECT quote_literal($1::text), quote_ident($1::text)",
                    &[Some(&text)],
                )
                .await
                .expect("asked");
            let back = session
                .query(
                    &format!(
                        "SELECT {} , 1 AS {}",
                        quoted[0][0].as_deref().expect("a value"),
                        quoted[0][1].as_deref().expect("a value")
                    ),
                    &[],
                )
                .await
                .expect("asked");
            assert_eq!(back[0][0].as_deref(), Some(text.as_str()));
        }
    }
}
