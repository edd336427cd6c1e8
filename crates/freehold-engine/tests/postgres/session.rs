//! Sessions for scripts.

use freehold_engine::{CopySource, Fault, ScriptSession as _, postgres::PostgresSession};
use freehold_testing::{postgres::Server, proxy};

use crate::world::{As, World, database, open_migrator, target};

async fn session(server: &Server) -> PostgresSession {
    PostgresSession::connect(&target(server.port(), &server.superuser_login()))
        .await
        .expect("connects")
}

#[tokio::test]
async fn statements_count_rows_and_errors_have_positions() {
    for version in crate::world::oldest_and_newest() {
        let server = Server::start_version(version);
        let mut session = session(&server).await;
        session
            .execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
            .await
            .expect("made");
        let done = session
            .execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 7) i")
            .await;
        assert_eq!(done.expect("inserted").rows, 7);
        assert_eq!(
            session
                .execute("SELECT * FROM t")
                .await
                .expect("selected")
                .rows,
            7
        );

        let error = session
            .execute("SELECT nothing FROM t")
            .await
            .expect_err("no such column");
        let Fault::Statement(statement) = &error.fault else {
            panic!("{error}")
        };
        assert_eq!(
            (statement.sqlstate.as_str(), statement.position),
            ("42703", Some(8))
        );
        let error = session
            .execute("INSERT INTO t VALUES (1)")
            .await
            .expect_err("a duplicate");
        let Fault::Statement(statement) = &error.fault else {
            panic!("{error}")
        };
        assert_eq!(statement.sqlstate, "23505");
        assert!(
            statement
                .context
                .as_deref()
                .is_some_and(|context| context.contains("t_pkey"))
        );

        let batch = "INSERT INTO t VALUES (8); INSERT INTO t VALUES (9); INSERT INTO t VALUES (1)";
        let stopped = session.execute_batch(batch).await.expect_err("a duplicate");
        assert_eq!(stopped.completed, Some(2));
        // What cannot be prepared or be in a transaction runs too.
        session.execute("VACUUM t").await.expect("vacuumed");
    }
}

#[tokio::test]
async fn copy_streams_data_as_it_stands() {
    let server = Server::start();
    let mut session = session(&server).await;
    session
        .execute("CREATE TABLE t (id int, name text)")
        .await
        .expect("made");
    let data: String = (0..50_000)
        .map(|at| format!("{at}\ta\\tb\\\\c ½\n"))
        .collect();
    let copied = session
        .copy_in("COPY t FROM STDIN", CopySource(&data))
        .await;
    assert_eq!(copied.expect("copied").rows, 50_000);
    let rows = session
        .query("SELECT name FROM t WHERE id = $1", &[Some("49999")])
        .await;
    assert_eq!(rows.expect("asked"), [[Some("a\tb\\c ½".to_owned())]]);

    let error = session
        .copy_in("COPY t FROM STDIN", CopySource("1\tok\nx\tbad\n"))
        .await
        .expect_err("not a number");
    let Fault::Statement(statement) = &error.fault else {
        panic!("{error}")
    };
    assert_eq!(statement.sqlstate, "22P02");
    assert!(
        statement
            .context
            .as_deref()
            .is_some_and(|context| context.contains("line 2")),
        "{statement:?}"
    );
    let rows = session.query("SELECT count(*) FROM t", &[]).await;
    assert_eq!(
        rows.expect("the session lives"),
        [[Some("50000".to_owned())]]
    );
}

#[tokio::test]
async fn queries_take_and_give_text() {
    let server = Server::start();
    let mut session = session(&server).await;
    let rows = session
        .query(
            "SELECT $1::int + 1, $2::text, $3::timestamptz IS NULL, true WHERE $4 = 'it''s'",
            &[Some("41"), Some("a'b\\c"), None, Some("it's")],
        )
        .await
        .expect("asked");
    assert_eq!(
        rows,
        [["42", "a'b\\c", "t", "t"].map(|value| Some(value.to_owned()))]
    );
    let error = session
        .query("SELECT wrong, $1", &[Some("1")])
        .await
        .expect_err("no column");
    let Fault::Statement(statement) = &error.fault else {
        panic!("{error}")
    };
    assert_eq!(statement.position, Some(8));
}

#[tokio::test]
async fn the_server_says_whether_a_transaction_is_open() {
    let server = Server::start();
    let mut session = session(&server).await;
    assert!(!session.in_transaction().await.expect("asked"));
    session.execute("BEGIN").await.expect("begun");
    assert!(session.in_transaction().await.expect("asked"));
    session.execute("SELECT wrong").await.expect_err("fails");
    assert!(
        session.in_transaction().await.expect("asked"),
        "a failed one is open"
    );
    session.execute("ROLLBACK").await.expect("rolled back");
    assert!(!session.in_transaction().await.expect("asked"));
    session
        .execute("DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'careful'; END $$")
        .await
        .expect("done");
    assert_eq!(
        session.take_notices(),
        ["NOTICE: hello", "WARNING: careful"]
    );
    assert_eq!(session.take_notices(), Vec::<String>::new());
}

#[tokio::test]
async fn reset_gives_back_a_new_session_but_keeps_locks() {
    for version in crate::world::oldest_and_newest() {
        let world = World::start(version, As::Managed);
        let mut desired = database("shop");
        open_migrator(&mut desired);
        world.provision(&desired).await;
        let mut session =
            PostgresSession::connect(&crate::provision::login_target(&world, "shop_migrator"))
                .await
                .expect("connects");
        for statement in [
            "SELECT pg_advisory_lock(1)",
            "SET search_path = nowhere",
            "SET ROLE NONE",
            "CREATE TEMP TABLE leftover (id int)",
            "PREPARE p AS SELECT 1",
            "BEGIN",
        ] {
            // The login itself may do nothing; acting as the owner is what a new session gives.
            let _ = session.execute(statement).await;
        }
        session.reset().await.expect("reset");
        let rows = session
            .query("SELECT current_user, current_setting('search_path'), to_regclass('pg_temp.leftover'), (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')", &[])
            .await
            .expect("asked");
        let values: Vec<Option<&str>> = rows[0].iter().map(Option::as_deref).collect();
        assert_eq!(
            values,
            [
                Some("shop_owner"),
                Some("\"$user\", public"),
                None,
                Some("0"),
                Some("1")
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_statement_can_be_cancelled_from_elsewhere() {
    let server = Server::start();
    let mut session = session(&server).await;
    let cancel = session.canceller();
    let running = tokio::spawn(async move { session.execute("SELECT pg_sleep(600)").await });
    loop {
        let asleep = server.psql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        if asleep.trim() == "1" {
            break;
        }
    }
    (cancel.0)().await.expect("cancelled");
    let error = running.await.expect("no panic").expect_err("cancelled");
    let Fault::Statement(statement) = &error.fault else {
        panic!("{error}")
    };
    assert_eq!(statement.sqlstate, "57014");
}

#[tokio::test]
async fn a_lost_connection_leaves_a_statement_undetermined() {
    let server = Server::start();
    let proxy = proxy::Tcp::start((server.host(), server.port()));
    let mut session = PostgresSession::connect(&target(proxy.port(), &server.superuser_login()))
        .await
        .expect("connects");
    proxy.cut();
    let error = session
        .execute("CREATE TABLE t (id int)")
        .await
        .expect_err("no connection");
    assert_eq!(error.fault, Fault::Undetermined);
    let error = PostgresSession::connect(&target(1, &server.superuser_login())).await;
    let error = error.err().expect("nobody listens");
    assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
}
