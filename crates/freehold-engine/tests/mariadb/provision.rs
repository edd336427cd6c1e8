//! What a provisioned database lets whom do.

use freehold_engine::{
    DesiredState, Fault, LoginState, ScriptSession as _, mariadb::MariadbSession,
};
use freehold_model::{
    Gate,
    kinds::{AccessLevel, AccessTarget},
};
use jiff::Timestamp;

use crate::world::{
    As, World, access, credentials, database, fence, open_migrator, password, rotate, uid,
};

#[tokio::test]
async fn each_level_may_do_its_own_and_no_more() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.accesses = vec![
        access(1, "ro", AccessLevel::ReadOnly, &[]),
        access(2, "rw", AccessLevel::ReadWrite, &[]),
        access(3, "own", AccessLevel::Owner, &[]),
    ];
    world.provision(&desired).await;
    let setup = "CREATE TABLE t (i int); CREATE PROCEDURE p() INSERT INTO t VALUES (1);";
    world.migrate(&desired, 1, setup).await;
    let may = |login: &str, sql: &str| world.sql_as(&desired, login, sql).is_ok();
    let table = [
        ("SELECT * FROM t", [true, true, true]),
        ("INSERT INTO t VALUES (2)", [false, true, true]),
        ("CALL p()", [false, true, true]),
        ("DELETE FROM t", [false, true, true]),
        ("ALTER TABLE t ADD c int", [false, false, true]),
        ("CREATE TABLE u (i int)", [false, false, true]),
        ("TRUNCATE t", [false, false, true]),
        ("DROP TABLE u", [false, false, true]),
        ("CREATE VIEW v AS SELECT 1", [false, false, false]),
        ("CREATE PROCEDURE q() SELECT 1", [false, false, false]),
        (
            "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            [false, false, false],
        ),
        (
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
            [false, false, false],
        ),
        ("CREATE DATABASE other", [false, false, false]),
        ("SELECT * FROM mysql.user", [false, false, false]),
        ("SELECT * FROM freehold.registry", [false, false, false]),
        ("GRANT SELECT ON shop.* TO ro_a@'%'", [false, false, false]),
    ];
    for (sql, expected) in table {
        let found = ["ro_a", "rw_a", "own_a"].map(|login| may(login, sql));
        assert_eq!(found, expected, "{sql}");
    }
    assert!(!may("rw_b", "SELECT 1"), "the other slot is closed");
    assert!(!may("shop_migrator", "SELECT 1"), "so is the migrator");
}

/// `_` and `%` are wildcards in a grant.
#[tokio::test]
async fn a_neighbour_with_a_similar_name_is_out_of_reach() {
    let world = World::start(As::Managed);
    let names = ["team_a", "teamxa", "team%", "team\\_a", "t", "te_m_a"];
    for (at, name) in names.into_iter().enumerate() {
        let at = at as u64;
        let mut desired = database(name);
        desired.stamp.uid = uid(at);
        let login = format!("app{at}");
        desired.accesses = vec![access(at, &login, AccessLevel::ReadWrite, &[])];
        world.provision(&desired).await;
        world.migrate(&desired, 1, "CREATE TABLE t (i int)").await;
        assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
    }
    for (at, own) in names.into_iter().enumerate() {
        for other in names {
            let sql = format!("SELECT * FROM `{other}`.t");
            let answer = world
                .server
                .sql_as(&credentials(&format!("app{at}_a")), own, &sql);
            assert_eq!(answer.is_ok(), own == other, "{own} to {other}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_access_to_tables_reaches_them_alone_and_waits_for_them() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.accesses = vec![access(
        1,
        "app",
        AccessLevel::ReadWrite,
        &["orders", "stock"],
    )];
    world.reserve(&desired, 1).await.expect("free");
    let made = world.apply(&desired, 1).await.expect("made");
    let pending = made
        .iter()
        .filter(|found| found.key.starts_with("target.pending"));
    assert_eq!(pending.count(), 2, "{made:?}");
    let setup = "CREATE TABLE orders (i int); CREATE TABLE secret (i int)";
    world.migrate(&desired, 1, setup).await;
    let left = world.apply(&desired, 1).await.expect("looked at");
    assert_eq!(crate::world::keys(&left), ["target.pending:stock"]);
    assert!(left.iter().all(|found| !found.repaired));
    let login = credentials("app_a");
    let may = |sql: &str| world.server.sql_as(&login, "shop", sql).is_ok();
    assert!(may("INSERT INTO orders VALUES (1); SELECT * FROM orders"));
    assert!(!may("SELECT * FROM secret"));
    assert!(!may("DROP TABLE orders") && !may("CREATE TABLE x (i int)"));

    // In MariaDB a schema is the database, by the name that its manifest gives it or the server's.
    for schema in ["main", "shop"] {
        let mut named = desired.clone();
        for target in &mut named.accesses[0].on {
            target.schema = schema.into();
        }
        let same = world.apply(&named, 1).await.expect(schema);
        assert_eq!(crate::world::keys(&same), ["target.pending:stock"]);
    }
    // Less than before: only one of them, and only to read.
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &["orders"])];
    world.apply(&desired, 1).await.expect("narrowed");
    assert!(may("SELECT * FROM orders") && !may("INSERT INTO orders VALUES (1)"));
    // More: the whole database.
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.apply(&desired, 1).await.expect("widened");
    assert!(may("SELECT * FROM secret"));
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
}

#[tokio::test]
async fn lowering_a_level_ends_the_sessions_that_have_more() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
    world.provision(&desired).await;
    world.migrate(&desired, 1, "CREATE TABLE t (i int)").await;
    let mut target = crate::world::target(world.server.port(), &credentials("app_a"));
    target.database = "shop".into();
    let mut session = MariadbSession::connect(&target).await.expect("it is open");
    session
        .execute("INSERT INTO t VALUES (1)")
        .await
        .expect("it may write");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.apply(&desired, 1).await.expect("lowered");
    // A right on a database that is taken stays with the sessions that are open (until USE).
    let error = session
        .execute("INSERT INTO t VALUES (2)")
        .await
        .expect_err("the session is gone");
    assert_eq!(error.fault, Fault::Undetermined, "{error}");
    assert_eq!(world.server.sql("SELECT count(*) FROM shop.t"), "1");
}

#[tokio::test]
async fn limits_hold_and_the_firm_one_cannot_be_lifted() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.limits.connections = Some(2);
    desired.limits.statement_timeout_ms = Some(150);
    desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
    world.provision(&desired).await;
    let target = crate::world::target(world.server.port(), &credentials("app_a"));
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let session = MariadbSession::connect(&target).await;
        sessions.push(session.expect("two may"));
    }
    let third = MariadbSession::connect(&target).await;
    let error = third.err().expect("a third may not");
    assert!(matches!(error.fault, Fault::Exhausted { .. }), "{error}");
    assert_eq!(world.engine.capabilities().firm_limits, ["connections"]);
    let [session, other] = &mut sessions[..] else {
        panic!("two were opened");
    };
    for lift in [
        "ALTER USER CURRENT_USER() WITH MAX_USER_CONNECTIONS 0",
        "SET SESSION max_user_connections = 100",
        "SET GLOBAL max_user_connections = 100",
    ] {
        session.execute(lift).await.expect_err(lift);
    }

    // The other one is a default, and not called firm.
    let slow = "SELECT SLEEP(5)";
    let told = other.execute(slow).await.expect_err("too slow");
    assert!(told.to_string().contains("max_statement_time"), "{told}");
    other
        .execute("SET SESSION max_statement_time = 0")
        .await
        .expect("it may");
    let rows = other.query("SELECT SLEEP(0.3)", &[]).await;
    assert_eq!(rows.expect("it was lifted"), [[Some("0".to_owned())]]);

    // What no account can carry is refused, not forgotten.
    for limit in ["lock", "idle", "temp"] {
        let mut more = desired.clone();
        match limit {
            "lock" => more.limits.lock_timeout_ms = Some(1),
            "idle" => more.limits.idle_in_transaction_timeout_ms = Some(1),
            _ => more.limits.temp_files_mib = Some(1),
        }
        let error = world.apply(&more, 1).await.expect_err("refused");
        assert!(matches!(error.fault, Fault::Unsupported { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_claimed_is_refused() {
    let world = World::start(As::Superuser);
    let mut schemas = database("shop");
    schemas.schemas = vec!["stock".into()];
    let mut extensions = database("shop");
    extensions.extensions = vec!["pgcrypto".into()];
    let claimed = world.engine.capabilities();
    assert!(!claimed.schemas && !claimed.extensions && !claimed.transactional_ddl);
    for desired in [schemas, extensions] {
        let error = world.apply(&desired, 1).await.expect_err("refused");
        assert!(matches!(error.fault, Fault::Unsupported { .. }), "{error}");
    }
    let mut schema = database("shop");
    schema.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    schema.accesses[0].on = vec![AccessTarget {
        schema: "public".into(),
        table: None,
    }];
    let error = world.apply(&schema, 1).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    schema.accesses = vec![access(1, "app", AccessLevel::Owner, &["t"])];
    let error = world.apply(&schema, 1).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn a_closed_database_is_quiet_and_opens_as_it_was() {
    let world = World::start(As::Managed);
    world.server.sql("SET GLOBAL event_scheduler = ON");
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
    world.provision(&desired).await;
    let setup = "CREATE TABLE t (i int); \
        CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO t VALUES (1)";
    world.migrate(&desired, 1, setup).await;
    let mut target = crate::world::target(world.server.port(), &credentials("app_a"));
    target.database = "shop".into();
    let mut session = MariadbSession::connect(&target).await.expect("it is open");
    let mut closed = desired.clone();
    closed.state = DesiredState::Closed;
    world.apply(&closed, 1).await.expect("closed");
    assert_eq!(world.apply(&closed, 1).await.expect("as it should be"), []);
    assert!(session.execute("SELECT 1").await.is_err(), "it was ended");
    assert!(world.sql_as(&desired, "app_a", "SELECT 1").is_err());
    // Events rest: two of their seconds pass, counted by the server.
    let quiet = "SELECT count(*) INTO @before FROM shop.t; SELECT SLEEP(2.2) INTO @s; \
        SELECT count(*) - @before FROM shop.t";
    assert_eq!(world.server.sql(quiet), "0");
    world.apply(&desired, 1).await.expect("open again");
    assert!(world.sql_as(&desired, "app_a", "SELECT * FROM t").is_ok());
    let busy = "SELECT count(*) INTO @before FROM shop.t; SELECT SLEEP(2.2) INTO @s; \
        SELECT count(*) - @before > 0 FROM shop.t";
    assert_eq!(world.server.sql(busy), "1");
}

/// A tenant may lock its own tables, and what alters the database or grants on a table waits for it.
#[tokio::test]
async fn a_tenant_cannot_hold_up_the_closing_of_its_database() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.accesses = vec![
        access(1, "own", AccessLevel::Owner, &[]),
        access(2, "part", AccessLevel::ReadOnly, &["t"]),
    ];
    world.provision(&desired).await;
    world.migrate(&desired, 1, "CREATE TABLE t (i int)").await;
    world.apply(&desired, 1).await.expect("granted");
    let connect = async || {
        let mut target = crate::world::target(world.server.port(), &credentials("own_a"));
        target.database = "shop".into();
        let mut session = MariadbSession::connect(&target).await.expect("it is open");
        for statement in ["ALTER DATABASE shop COMMENT 'mine'", "LOCK TABLES t WRITE"] {
            session.execute(statement).await.expect("it may");
        }
        session
    };
    let mut session = connect().await;
    let mut closed = desired.clone();
    closed.state = DesiredState::Closed;
    world.apply(&closed, 1).await.expect("closed nevertheless");
    assert!(session.execute("SELECT 1").await.is_err(), "it was ended");
    world.apply(&desired, 1).await.expect("open again");

    // Nor that of a right: here the grant on a table that comes with it would wait.
    let mut session = connect().await;
    let mut lowered = desired.clone();
    lowered.accesses[0].level = AccessLevel::ReadOnly;
    lowered.accesses[1].level = AccessLevel::ReadWrite;
    world
        .apply(&lowered, 1)
        .await
        .expect("lowered nevertheless");
    assert!(session.execute("SELECT 1").await.is_err(), "it was ended");
    assert_eq!(world.apply(&lowered, 1).await.expect("as it should be"), []);
}

#[tokio::test]
async fn retired_logins_have_nothing_left() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.accesses = vec![
        access(1, "app", AccessLevel::ReadWrite, &[]),
        access(2, "part", AccessLevel::ReadOnly, &["t"]),
    ];
    world.provision(&desired).await;
    world.migrate(&desired, 1, "CREATE TABLE t (i int)").await;
    world.apply(&desired, 1).await.expect("granted");
    let target = crate::world::target(world.server.port(), &credentials("app_a"));
    let mut session = MariadbSession::connect(&target).await.expect("it is open");
    let retired: Vec<String> = ["app_a", "app_b", "part_a", "part_b"]
        .map(String::from)
        .into();
    world
        .engine
        .disable_logins("shop", &desired.stamp, &retired, &fence(1), &Gate::open())
        .await
        .expect("disabled");
    assert!(session.execute("SELECT 1").await.is_err(), "it was ended");
    for login in &retired {
        let grants = world.server.sql(&format!("SHOW GRANTS FOR {login}@'%'"));
        assert_eq!(grants.lines().count(), 1, "{grants}");
        assert!(grants.contains("USAGE"), "{grants}");
        let locked = world.server.sql(&format!("SHOW CREATE USER {login}@'%'"));
        assert!(locked.contains("ACCOUNT LOCK"), "{locked}");
    }
    // A login of somebody else is not touched.
    world.server.sql("CREATE USER foreigner@'%'");
    let error = world
        .engine
        .disable_logins(
            "shop",
            &desired.stamp,
            &["foreigner".into()],
            &fence(1),
            &Gate::open(),
        )
        .await
        .expect_err("it is not ours");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
}

#[tokio::test]
async fn a_password_never_reaches_the_server_in_clear() {
    let settings = [("general-log", "1"), ("general-log-file", "general.log")];
    let server = freehold_testing::mariadb::Server::with_settings(&settings);
    let world = World::around(server, As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
    world.provision(&desired).await;
    rotate(&mut desired);
    world.apply(&desired, 1).await.expect("rotated");
    let log = std::fs::read(world.server.data_dir().join("general.log")).expect("there is a log");
    let log = String::from_utf8_lossy(&log);
    assert!(
        log.contains("CREATE USER `app_a`"),
        "the log is the right one"
    );
    for login in ["app_a", "app_b"] {
        assert!(!log.contains(password(login).expose()), "{login}");
    }
}

/// The server knows no hour at which an account ends; the next look does.
#[tokio::test]
async fn a_login_that_has_expired_is_closed_by_the_next_look() {
    let world = World::start(As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.provision(&desired).await;
    let until = |at: Timestamp| LoginState::Enabled {
        password: password("app_a"),
        valid_until: Some(at),
    };
    desired.accesses[0].logins[0].state = until(Timestamp::MAX);
    assert_eq!(world.apply(&desired, 1).await.expect("still valid"), []);
    desired.accesses[0].logins[0].state = until(Timestamp::UNIX_EPOCH);
    world.apply(&desired, 1).await.expect("closed");
    assert!(world.sql_as(&desired, "app_a", "SELECT 1").is_err());
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
}

#[tokio::test]
async fn a_survey_tells_what_single_looks_tell() {
    let world = World::start(As::Managed);
    let mut all = Vec::new();
    for at in 0..12 {
        let mut desired = database(&format!("shop_{at}-é"));
        desired.stamp.uid = uid(at);
        let app = format!("app{at}");
        desired.accesses = vec![
            access(at, &app, AccessLevel::ReadWrite, &[]),
            access(
                100 + at,
                &format!("part{at}"),
                AccessLevel::ReadOnly,
                &["t"],
            ),
        ];
        world.provision(&desired).await;
        world.migrate(&desired, 1, "CREATE TABLE t (i int)").await;
        world.apply(&desired, 1).await.expect("granted");
        all.push(desired);
    }
    world.server.sql(
        "GRANT SELECT ON `shop%`.* TO app3_a@'%'; CREATE USER snoop@'%'; \
         GRANT SELECT ON `shop\\_5-é`.* TO snoop@'%'; ALTER USER app7_b@'%' ACCOUNT UNLOCK; \
         CREATE DATABASE foreign_one",
    );
    let survey = world.engine.survey().await.expect("a survey");
    for desired in &all {
        let single = world.observe(desired, 1).await.expect("looked at");
        let by_survey = world
            .engine
            .converge(
                desired,
                freehold_engine::ConvergeMode::Observe,
                Some(&survey),
                &fence(1),
                &Gate::open(),
            )
            .await
            .expect("looked at");
        assert_eq!(single, by_survey, "{}", desired.name);
        let listed = survey
            .databases
            .iter()
            .find(|found| found.name == desired.name)
            .expect("listed");
        assert_eq!(listed.stamp.as_ref(), Some(&desired.stamp));
        assert!(listed.size_bytes.is_some_and(|size| size > 0), "{listed:?}");
        assert_eq!(listed.owner, desired.migrator.login);
    }
    let foreign = survey
        .databases
        .iter()
        .find(|found| found.name == "foreign_one")
        .expect("listed");
    assert_eq!(foreign.stamp, None);
    let mut opened = all[0].clone();
    open_migrator(&mut opened);
    let seen = world.observe(&opened, 1).await.expect("looked at");
    assert!(!seen.is_empty(), "an opened door is a difference");
}
