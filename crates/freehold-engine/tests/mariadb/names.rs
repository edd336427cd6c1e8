//! Hostile names.

use freehold_engine::{Fault, ScriptSession as _, mariadb::MariadbSession};
use freehold_model::kinds::AccessLevel;
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

use crate::world::{As, World, access, database, keys, open_migrator, stamp, target, uid};

const HOSTILE: [&str; 14] = [
    "back`tick",
    "``",
    "quote\"quote",
    "it's",
    "back\\slash",
    "per%cent_under",
    "select",
    "user",
    "a b; DROP DATABASE mysql; --",
    "`; DROP USER root; --",
    "ｓhop",
    "ЅHOP",
    "$$ $1 {} %s ? :x @y #z /*!",
    " leading",
];

#[tokio::test]
async fn hostile_names_are_only_names() {
    let world = World::start(As::Managed);
    for (at, hostile) in HOSTILE.into_iter().enumerate() {
        let at = at as u64;
        let mut desired = database(hostile);
        desired.stamp.uid = uid(at);
        let (all, part) = (format!("{hostile} all"), format!("{hostile} part"));
        desired.accesses = vec![
            access(at * 2, &all, AccessLevel::ReadWrite, &[]),
            access(at * 2 + 1, &part, AccessLevel::ReadOnly, &[hostile]),
        ];
        open_migrator(&mut desired);
        world.reserve(&desired, 1).await.expect(hostile);
        world.apply(&desired, 1).await.expect(hostile);
        let table = format!("`{}`", hostile.replace('`', "``"));
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
            .sql_as(&desired, &format!("{all}_a"), &insert)
            .expect(hostile);
        let select = format!("SELECT * FROM {table}");
        world
            .sql_as(&desired, &format!("{part}_a"), &select)
            .expect(hostile);
        let refused = world.sql_as(&desired, &format!("{part}_a"), &insert);
        assert!(refused.is_err(), "{hostile}");
    }
    let survey = world.engine.survey().await.expect("a survey");
    for hostile in HOSTILE {
        let found = survey.databases.iter().find(|found| found.name == hostile);
        assert!(
            found.is_some_and(|found| found.stamp.is_some()),
            "{hostile}"
        );
        assert!(
            found.is_some_and(|found| found.size_bytes > Some(0)),
            "{hostile}"
        );
    }
    let survived = "SELECT COUNT(*) FROM mysql.global_priv WHERE User = 'root'";
    assert_eq!(world.server.sql(survived), "1");
}

#[tokio::test]
async fn names_that_the_server_would_change_are_refused() {
    let world = World::start(As::Superuser);
    let longest = "d".repeat(64);
    let mut desired = database(&longest);
    desired.migrator.login = "m".repeat(80);
    world.provision(&desired).await;
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
    // One byte less than what is too much for the catalog, in another alphabet.
    let mut other = database(&"é".repeat(64));
    other.stamp.uid = uid(2);
    other.migrator.login = "ö".repeat(80);
    world.provision(&other).await;
    assert_eq!(world.apply(&other, 1).await.expect("as it should be"), []);

    for name in [
        "d".repeat(65),
        "_".repeat(33),
        String::new(),
        "nul\0".into(),
        "trailing ".into(),
        "🦀".into(),
        "mysql".into(),
        "Information_Schema".into(),
        "freehold".into(),
        "sys".into(),
    ] {
        let error = world
            .reserve(&database(&name), 1)
            .await
            .expect_err("refused");
        assert!(
            matches!(error.fault, Fault::Invalid { .. }),
            "{name:?}: {error}"
        );
    }
    for login in [
        "m".repeat(81),
        String::new(),
        "end ".into(),
        "PUBLIC".into(),
        "🦀".into(),
    ] {
        let mut desired = database("shop");
        desired.migrator.login.clone_from(&login);
        let error = world.apply(&desired, 1).await.expect_err("refused");
        assert!(
            matches!(error.fault, Fault::Invalid { .. }),
            "{login:?}: {error}"
        );
    }
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &["t "])];
    let error = world.apply(&desired, 1).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn two_things_never_share_an_account() {
    let world = World::start(As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![
        access(1, "app", AccessLevel::ReadOnly, &[]),
        access(2, "app", AccessLevel::Owner, &[]),
    ];
    let error = world.apply(&desired, 1).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
}

/// Where the file system does not tell `Shop` from `shop`, the server writes the latter.
#[tokio::test]
async fn a_server_that_keeps_lower_case_gets_lower_case() {
    let settings = [("lower_case_table_names", "1")];
    let server = freehold_testing::mariadb::Server::with_settings(&settings);
    let world = World::around(server, As::Superuser);
    let desired = database("shop");
    world.provision(&desired).await;
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
    let mut upper = database("Shop");
    upper.stamp.uid = uid(2);
    let error = world.reserve(&upper, 1).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
}

/// Whatever text becomes a name is that name on the server, character for character.
#[tokio::test]
async fn names_arrive_as_they_are() {
    let world = World::start(As::Managed);
    let mut session = MariadbSession::connect(&target(world.server.port(), &world.admin))
        .await
        .expect("connects");
    let mut runner = TestRunner::deterministic();
    let texts =
        proptest::string::string_regex("[^\\x00\u{10000}-\u{10ffff}]{1,15}|[`'\"\\\\_%a]{1,12}")
            .expect("a pattern");
    let mut arrived = 0;
    for at in 0..40 {
        let text = texts.new_tree(&mut runner).expect("a text").current();
        let mut desired = database(&text);
        desired.stamp.uid = uid(at);
        desired.migrator.login = format!("{text}~{at}");
        if let Err(error) = world.reserve(&desired, 1).await {
            assert!(
                matches!(error.fault, Fault::Invalid { .. }),
                "{text:?}: {error}"
            );
            continue;
        }
        world
            .apply(&desired, 1)
            .await
            .unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let left = world.apply(&desired, 1).await.expect("looked at");
        assert_eq!(keys(&left), [""; 0], "{text:?}");
        let asked = "SELECT COUNT(*) FROM information_schema.SCHEMATA s \
            JOIN mysql.global_priv u ON BINARY u.User = ? WHERE BINARY s.SCHEMA_NAME = ?";
        let rows = session
            .query(asked, &[Some(&desired.migrator.login), Some(&text)])
            .await
            .expect("asked");
        assert_eq!(rows[0][0].as_deref(), Some("1"), "{text:?}");
        arrived += 1;
    }
    assert!(arrived > 20, "{arrived}");
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused() {
    let world = World::start(As::Managed);
    world.server.sql("CREATE DATABASE legacy");
    let error = world
        .reserve(&database("legacy"), 1)
        .await
        .expect_err("it exists");
    assert!(
        matches!(error.fault, Fault::NameTaken { owner: None, .. }),
        "{error}"
    );

    let ours = database("shop");
    world.reserve(&ours, 1).await.expect("free");
    world.reserve(&ours, 1).await.expect("ours again");
    let mut theirs = database("shop");
    theirs.stamp = stamp(99);
    for error in [
        world.reserve(&theirs, 9).await.expect_err("it is taken"),
        world.apply(&theirs, 9).await.expect_err("it is taken"),
    ] {
        assert!(
            matches!(&error.fault, Fault::NameTaken { owner: Some(owner), .. } if **owner == ours.stamp),
            "{error}"
        );
    }

    // An account of the name that we would use is somebody's, for whatever host, and so is a role.
    for taken in [
        "CREATE USER den_migrator@'%'",
        "CREATE USER den_migrator@localhost",
        "CREATE ROLE den_migrator",
    ] {
        world.server.sql(taken);
        let mut shadowed = database("den");
        shadowed.stamp.uid = uid(5);
        world.reserve(&shadowed, 1).await.expect("free");
        let error = world.apply(&shadowed, 1).await.expect_err(taken);
        assert!(
            matches!(&error.fault, Fault::NameTaken { name, .. } if name == "den_migrator"),
            "{error}"
        );
        assert_eq!(world.server.sql("SHOW DATABASES LIKE 'den'"), "");
        let drop = taken.replace("CREATE", "DROP");
        world.server.sql(&drop);
    }

    // So is a login of another database of ours.
    let mut victim = ours.clone();
    victim.accesses = vec![access(2, "app", AccessLevel::ReadOnly, &[])];
    world.apply(&victim, 1).await.expect("made");
    let mut thief = database("thief");
    thief.stamp.uid = uid(6);
    thief.accesses = vec![access(1, "app", AccessLevel::Owner, &[])];
    world.reserve(&thief, 1).await.expect("free");
    let error = world
        .apply(&thief, 1)
        .await
        .expect_err("the login is taken");
    assert!(
        matches!(&error.fault, Fault::NameTaken { name, .. } if name == "app_a"),
        "{error}"
    );
}
