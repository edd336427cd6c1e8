//! A session for scripts.

use freehold_engine::{CopySource, Fault, ScriptSession as _, mariadb::MariadbSession};

use crate::world::{As, World, credentials, database, open_migrator, target};

async fn session(world: &World) -> MariadbSession {
    let mut desired = database("shop");
    open_migrator(&mut desired);
    world.provision(&desired).await;
    let mut target = target(world.server.port(), &credentials("shop_migrator"));
    target.database = "shop".into();
    MariadbSession::connect(&target).await.expect("it is open")
}

#[tokio::test]
async fn statements_run_and_stay_on_one_session() {
    let world = World::start(As::Managed);
    let mut session = session(&world).await;
    session
        .execute("CREATE TABLE t (i int)")
        .await
        .expect("made");
    session
        .execute("CREATE TEMPORARY TABLE mine (i int)")
        .await
        .expect("made");
    session.execute("SET @kept = 41").await.expect("set");
    let inserted = session.execute("INSERT INTO t VALUES (1), (2), (3)").await;
    assert_eq!(inserted.expect("inserted").rows, 3);
    let selected = session.execute("SELECT * FROM t WHERE i > 1").await;
    assert_eq!(selected.expect("selected").rows, 2);
    let kept = session.query("SELECT @kept + 1, NULL", &[]).await;
    assert_eq!(kept.expect("asked"), [[Some("42".to_owned()), None]]);
    session
        .execute("CREATE PROCEDURE p() BEGIN INSERT INTO t VALUES (4); SELECT * FROM t; END")
        .await
        .expect("a body's semicolons are its own");
    let called = session.execute("CALL p()").await.expect("called").rows;
    assert_eq!(called, 5, "four returned, one inserted");
    let batch = session
        .execute_batch("INSERT INTO t VALUES (5); DELETE FROM t WHERE i = 5")
        .await;
    assert_eq!(batch.expect("both ran").rows, 2);
}

#[tokio::test]
async fn parameters_are_values() {
    let world = World::start(As::Managed);
    let mut session = session(&world).await;
    for mode in ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"] {
        let set = format!("SET sql_mode = '{mode}'");
        session.execute(&set).await.expect("set");
        let hostile = "it's \\ \"quoted\" ? 🦀 '; DROP TABLE t; --";
        let rows = session
            .query(
                "SELECT ?, CONCAT(?, '?'), ? IS NULL",
                &[Some(hostile), Some("a"), None],
            )
            .await
            .expect("asked");
        let expected = [Some(hostile), Some("a?"), Some("1")].map(|v| v.map(str::to_owned));
        assert_eq!(rows, [expected], "{mode}");
    }
}

#[tokio::test]
async fn a_failure_carries_the_servers_words() {
    let world = World::start(As::Managed);
    let mut session = session(&world).await;
    let error = session.execute("SELEKT 1").await.expect_err("no SQL");
    let Fault::Statement(statement) = &error.fault else {
        panic!("{error}");
    };
    assert_eq!(statement.sqlstate, "42000");
    assert_eq!(statement.context.as_deref(), Some("MariaDB error 1064"));
    assert!(statement.message.contains("SELEKT"), "{statement:?}");
    let interrupted = session
        .execute_batch("CREATE TABLE one (i int); SELEKT 1; CREATE TABLE two (i int)")
        .await
        .expect_err("it stops");
    assert!(matches!(interrupted.error.fault, Fault::Statement(_)));
    let tables = session.query("SHOW TABLES", &[]).await.expect("asked");
    assert_eq!(tables, [[Some("one".to_owned())]]);
    let error = session
        .copy_in("COPY t FROM STDIN", CopySource("1"))
        .await
        .expect_err("there is no such thing");
    assert!(matches!(error.fault, Fault::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn a_running_statement_is_cancelled_and_the_session_goes_on() {
    let world = World::start(As::Managed);
    let mut session = session(&world).await;
    let cancel = session.canceller();
    let watch = target(world.server.port(), &world.admin);
    let cancelling = async {
        let mut watcher = MariadbSession::connect(&watch).await.expect("connects");
        let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
            WHERE USER = 'shop_migrator' AND STATE = 'User sleep'";
        while watcher.query(running, &[]).await.expect("asked") != [[Some("1".to_owned())]] {}
        cancel.0().await.expect("cancelled");
    };
    let (ended, ()) = futures::join!(session.execute("DO SLEEP(100), 1/0"), cancelling);
    // SLEEP says that it was woken; other statements fail.
    if let Err(error) = ended {
        assert!(matches!(error.fault, Fault::Statement(_)), "{error}");
    }
    let rows = session.query("SELECT 1", &[]).await.expect("it goes on");
    assert_eq!(rows, [[Some("1".to_owned())]]);
}

#[tokio::test]
async fn transactions_are_the_servers_word_and_ddl_ends_them() {
    let world = World::start(As::Managed);
    let mut session = session(&world).await;
    session
        .execute("CREATE TABLE t (i int)")
        .await
        .expect("made");
    assert!(!session.in_transaction().await.expect("asked"));
    session.execute("START TRANSACTION").await.expect("begun");
    session
        .execute("INSERT INTO t VALUES (1)")
        .await
        .expect("inserted");
    assert!(session.in_transaction().await.expect("asked"));
    session
        .execute("CREATE TABLE u (i int)")
        .await
        .expect("made");
    assert!(
        !session.in_transaction().await.expect("asked"),
        "DDL commits"
    );
    session.execute("BEGIN").await.expect("begun");
    session
        .execute("INSERT INTO t VALUES (2)")
        .await
        .expect("inserted");
    session.execute("SET @kept = 1").await.expect("set");
    session.reset().await.expect("reset");
    assert!(!session.in_transaction().await.expect("asked"));
    let rows = session.query("SELECT COUNT(*), @kept FROM t", &[]).await;
    assert_eq!(rows.expect("asked"), [[Some("1".to_owned()), None]]);
}

#[tokio::test]
async fn warnings_are_notices() {
    let world = World::start(As::Managed);
    let mut session = session(&world).await;
    assert_eq!(session.take_notices(), [""; 0]);
    session
        .execute("DROP TABLE IF EXISTS nothing")
        .await
        .expect("no error");
    session.execute("SELECT 1").await.expect("no warning");
    let notices = session.take_notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].contains("1051") && notices[0].contains("nothing"),
        "{notices:?}"
    );
    assert_eq!(session.take_notices(), [""; 0]);
}

#[tokio::test]
async fn a_reset_session_is_as_after_the_login_and_keeps_its_named_lock() {
    let world = World::start(As::Managed);
    let mut session = session(&world).await;
    session
        .execute("CREATE TABLE t (i int)")
        .await
        .expect("made");
    let state = "SELECT @@sql_mode, @@foreign_key_checks, @@autocommit, @@character_set_client, \
        @@time_zone, @@tx_isolation, @@max_statement_time, @@sql_safe_updates, @@innodb_lock_wait_timeout, \
        DATABASE(), @mine, @`odd ``name`, @@in_transaction, @@group_concat_max_len, @@lc_time_names";
    let before = session.query(state, &[]).await.expect("asked");
    for statement in [
        "SELECT GET_LOCK('runner', 0)",
        "SET sql_mode = 'ORACLE,ANSI_QUOTES', foreign_key_checks = 0, time_zone = '+05:00'",
        "SET NAMES latin1",
        "SET @mine = 1, @`odd ``name` = 2",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET max_statement_time = 7.5, sql_safe_updates = 1, innodb_lock_wait_timeout = 3",
        "SET lc_time_names = 'de_DE', group_concat_max_len = 5, autocommit = 0",
        "INSERT INTO t VALUES (1)",
        "USE information_schema",
    ] {
        session.execute(statement).await.expect(statement);
    }
    assert_ne!(session.query(state, &[]).await.expect("asked"), before);
    session.reset().await.expect("reset");
    assert_eq!(session.query(state, &[]).await.expect("asked"), before);
    let rows = session
        .query(
            "SELECT COUNT(*), IS_USED_LOCK('runner') = CONNECTION_ID() FROM t",
            &[],
        )
        .await;
    let kept = [Some("0".to_owned()), Some("1".to_owned())];
    assert_eq!(
        rows.expect("asked"),
        [kept],
        "rolled back, and the lock is held"
    );
}
