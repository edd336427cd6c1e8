//! Runners that meet, that are killed, and that lose their parent or their server.

use std::{
    fs,
    time::{Duration, Instant},
};

use freehold_migrate::{Bundle, RefusalCode, RunEvent, RunFailure, RunOptions};
use freehold_testing::postgres::Server;

use crate::fixture::{Database, Runner, bundle};

/// `pg_locks` shows who waits for what; so a test waits for the thing itself.
fn wait_until(database: &Database<'_>, condition: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while database.psql(&format!("SELECT {condition}")) != "t" {
        assert!(Instant::now() < deadline, "never came true: {condition}");
    }
}

const GATE: &str = "SELECT pg_advisory_xact_lock_shared(4242)";

/// Holds the gate shut until it is dropped.
struct ShutGate<'a> {
    database: &'a Database<'a>,
    session: freehold_engine::postgres::PostgresSession,
}

impl<'a> ShutGate<'a> {
    async fn shut(database: &'a Database<'a>) -> Self {
        use freehold_engine::ScriptSession as _;
        let mut session = database.session().await;
        session
            .execute("SELECT pg_advisory_lock(4242)")
            .await
            .expect("it is free");
        Self { database, session }
    }

    fn wait_for_arrival(&self) {
        wait_until(
            self.database,
            "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND NOT granted)",
        );
    }

    async fn open(mut self) {
        use freehold_engine::ScriptSession as _;
        self.session
            .execute("SELECT pg_advisory_unlock(4242)")
            .await
            .expect("it is ours");
    }
}

/// Three scripts of three statements, each leaving a line; one more copies, the last runs outside
/// transactions. The gate stands before the given statement of the given script.
fn gated(script: usize, statement: usize) -> Bundle {
    let mut files = Vec::new();
    for number in 1..=5 {
        let mut statements = vec![
            format!("INSERT INTO line VALUES ('{number}a')"),
            if number == 4 {
                "COPY line FROM stdin;\n4b\n\\.\n".to_owned()
            } else {
                format!("INSERT INTO line VALUES ('{number}b')")
            },
            format!("INSERT INTO line VALUES ('{number}c')"),
        ];
        if number == 1 {
            statements[0] = "CREATE TABLE line (t text); INSERT INTO line VALUES ('1a')".to_owned();
        }
        if number == 5 {
            statements.push("VACUUM line".to_owned());
        }
        if number == script {
            statements.insert(statement.min(statements.len()), GATE.to_owned());
        }
        files.push((
            format!("V{number}__x.sql"),
            statements.join(";\n").replace("\\.\n;", "\\.\n"),
        ));
    }
    files.push((
        "V5__x.sql.conf".to_owned(),
        "executeInTransaction=false".to_owned(),
    ));
    Bundle::from_files(files).expect("a bundle")
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_statement_the_next_run_makes_it_whole() {
    let server = Server::start();
    for script in 1..=4 {
        for statement in 0..=3 {
            if (script, statement) == (1, 0) {
                continue;
            }
            let database = Database::create(&server);
            let bundle = gated(script, statement);
            let gate = ShutGate::shut(&database).await;
            let mut runner = Runner::start(&database, &bundle);
            gate.wait_for_arrival();
            runner.child.kill().expect("it runs");
            runner.child.wait().expect("it is our child");
            // Nobody must believe a row that is not committed, nor a commit without its row.
            let rows = database.psql("SELECT count(*) FROM flyway_schema_history");
            assert_eq!(rows, (script - 1).to_string());
            gate.open().await;
            // The server may still be at work for the dead runner; the lock makes us wait for it.
            let (last, code) = Runner::start(&database, &bundle).finish();
            assert_eq!(code, 0, "{script}.{statement}: {last:?}");
            assert_eq!(
                database.psql("SELECT string_agg(t, ' ' ORDER BY t) FROM line"),
                "1a 1b 1c 2a 2b 2c 3a 3b 3c 4a 4b 4c 5a 5b 5c",
                "{script}.{statement}"
            );
            assert_eq!(
                database.psql("SELECT string_agg(version, ' ' ORDER BY installed_rank), bool_and(success) FROM flyway_schema_history"),
                "1 2 3 4 5|t"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_outside_a_transaction_nothing_runs_twice_and_a_person_decides() {
    let server = Server::start();
    for statement in 0..=3 {
        let database = Database::create(&server);
        let bundle = gated(5, statement);
        let gate = ShutGate::shut(&database).await;
        let mut runner = Runner::start(&database, &bundle);
        gate.wait_for_arrival();
        runner.child.kill().expect("it runs");
        runner.child.wait().expect("it is our child");
        gate.open().await;
        let (last, code) = Runner::start(&database, &bundle).finish();
        assert_eq!(code, 2, "{statement}: {last:?}");
        let RunEvent::Failed {
            failure: RunFailure::Refused { refusals },
        } = last
        else {
            panic!("{statement}: {last:?}");
        };
        assert_eq!(refusals[0].code, RefusalCode::FailedVersionedMigration);
        let done = ["5a", "5b", "5c"];
        assert_eq!(
            database.psql(
                "SELECT coalesce(string_agg(t, ' ' ORDER BY t), '') FROM line WHERE t LIKE '5%'"
            ),
            done[..statement].join(" "),
            "what was done is done once"
        );
        // Undone by hand, it runs like any other.
        database.psql(
            "DELETE FROM line WHERE t LIKE '5%'; DELETE FROM flyway_schema_history WHERE NOT success",
        );
        let (last, code) = Runner::start(&database, &bundle).finish();
        assert_eq!(code, 0, "{statement}: {last:?}");
        assert_eq!(
            database.psql("SELECT count(*), count(DISTINCT t) FROM line"),
            "15|15"
        );
        assert_eq!(
            database.psql(
                "SELECT installed_rank, success FROM flyway_schema_history WHERE version = '5'"
            ),
            "5|t"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runners_one_waits_and_each_script_runs_once() {
    let server = Server::start();
    let database = Database::create(&server);
    let bundle = gated(2, 1);
    let gate = ShutGate::shut(&database).await;
    let first = Runner::start(&database, &bundle);
    gate.wait_for_arrival();
    let mut second = Runner::start(&database, &bundle);
    let holder = loop {
        match second.next().expect("it waits") {
            RunEvent::WaitingForLock { holders, .. } => break holders,
            RunEvent::Connected { .. } => {}
            other => panic!("it should wait: {other:?}"),
        }
    };
    assert_eq!(holder.len(), 1);
    assert_eq!(holder[0].application, "freehold/op/0190");
    gate.open().await;
    let (first, second) = (first.finish(), second.finish());
    let applied = |(event, code): &(RunEvent, i32)| match event {
        RunEvent::Finished { report } => (report.applied.len(), *code),
        other => panic!("{other:?}"),
    };
    assert_eq!((applied(&first), applied(&second)), ((5, 0), (0, 0)));
    assert_eq!(
        database.psql("SELECT count(*), count(DISTINCT t) FROM line"),
        "15|15"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn flyways_lock_keeps_us_out() {
    let server = Server::start();
    let database = Database::create(&server);
    let mut session = database.session().await;
    for take in [
        "SELECT pg_advisory_lock(77433833903597)",
        "BEGIN; SELECT pg_try_advisory_xact_lock(77433833903597)",
    ] {
        use freehold_engine::ScriptSession as _;
        session.execute(take).await.expect("it is free");
        let options = RunOptions {
            lock_attempts: 1,
            ..RunOptions::default()
        };
        let result = database
            .run_with(&bundle(&[("V1__a.sql", "CREATE TABLE a ();")]), options)
            .await;
        let Err(RunFailure::Locked { holders }) = result else {
            panic!("it should be locked: {result:?}");
        };
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].application, "freehold/test");
        assert_eq!(
            database.psql("SELECT to_regclass('flyway_schema_history') IS NULL"),
            "t"
        );
        session
            .execute("ROLLBACK")
            .await
            .expect("it works without a transaction");
        session
            .execute("SELECT pg_advisory_unlock_all()")
            .await
            .expect("it is ours");
    }
    // And ours keeps Flyway out, even while no script runs, until the run has ended.
    let gate = ShutGate::shut(&database).await;
    let runner = Runner::start(&database, &gated(1, 2));
    gate.wait_for_arrival();
    assert_eq!(
        database.psql("SELECT pg_try_advisory_lock(77433833903597)"),
        "f"
    );
    gate.open().await;
    assert_eq!(runner.finish().1, 0);
    assert_eq!(
        database.psql("SELECT pg_try_advisory_lock(77433833903597)"),
        "t"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_without_the_lock_runs_nothing_outside_a_transaction() {
    let server = Server::start();
    let database = Database::create(&server);
    let files = [
        (
            "V1__a.sql",
            "CREATE TABLE a (); SELECT pg_advisory_unlock_all();",
        ),
        ("V2__b.sql", "VACUUM a;"),
    ];
    let result = database.run(&bundle(&files)).await;
    assert!(
        matches!(result, Err(RunFailure::Server { .. })),
        "{result:?}"
    );
    assert_eq!(database.history(), "1|1|a|SQL|V1__a.sql|t");
    assert!(database.run(&bundle(&files)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_ends_with_its_parent_and_leaves_no_trace() {
    let server = Server::start();
    let database = Database::create(&server);
    let files = [
        ("V1__a.sql", "CREATE TABLE a ();"),
        ("V2__b.sql", "CREATE TABLE b (); SELECT pg_sleep(600);"),
    ];
    let mut runner = Runner::start(&database, &bundle(&files));
    wait_until(
        &database,
        "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')",
    );
    let started = Instant::now();
    runner.stdin.take();
    let (last, code) = runner.finish();
    assert!(started.elapsed() < Duration::from_secs(10));
    let expected = RunFailure::Cancelled {
        file: Some("V2__b.sql".to_owned()),
    };
    assert_eq!((last, code), (RunEvent::Failed { failure: expected }, 7));
    assert_eq!(
        (database.tables(), database.history()),
        ("a".to_owned(), "1|1|a|SQL|V1__a.sql|t".to_owned())
    );

    // Also while it waits for the lock.
    let gate = ShutGate::shut(&database).await;
    let _first = Runner::start(
        &database,
        &bundle(&[files[0], ("V2__b.sql", &format!("{GATE};"))]),
    );
    gate.wait_for_arrival();
    let mut second = Runner::start(&database, &bundle(&files));
    while !matches!(second.next(), Some(RunEvent::WaitingForLock { .. })) {}
    second.stdin.take();
    assert_eq!(second.finish().1, 7);
    gate.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_in_no_argument_and_no_environment() {
    let server = Server::start();
    let database = Database::create(&server);
    let runner = Runner::start(
        &database,
        &bundle(&[("V1__a.sql", "SELECT pg_sleep(600);")]),
    );
    wait_until(
        &database,
        "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')",
    );
    let password = server.superuser_password().as_bytes();
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", runner.child.id())).expect("it runs");
        assert!(
            !bytes
                .windows(password.len())
                .any(|window| window == password),
            "{file}"
        );
    }
    let mut runner = runner;
    runner.child.kill().expect("it runs");
    runner.child.wait().expect("it is our child");
    database.psql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_while_committing_is_settled_by_the_next_run() {
    let server = Server::start();
    let database = Database::create(&server);
    let dies = "CREATE TABLE a (n int);\n\
        CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
          IF current_setting('app.calm', true) IS DISTINCT FROM 'yes' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
          RETURN NULL; END $$;\n\
        CREATE CONSTRAINT TRIGGER t AFTER INSERT ON a DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die();\n\
        INSERT INTO a VALUES (1);";
    let whole = bundle(&[("V1__a.sql", dies)]);
    let in_parts = format!("{dies}\nCOPY a FROM stdin;\n2\n\\.\n");
    let parts = bundle(&[("V1__a.sql", &in_parts)]);
    for bundle in [&whole, &parts] {
        let result = database.run(bundle).await;
        assert!(
            matches!(result, Err(RunFailure::Undetermined { .. })),
            "{result:?}"
        );
        assert!(result.is_err_and(|failure| failure.is_retryable()));
        assert_eq!(database.psql("SELECT to_regclass('a') IS NULL"), "t");
    }
    // Lost before the commit was sent, it is known that nothing was kept.
    let early = bundle(&[(
        "V1__a.sql",
        "CREATE TABLE a ();\nCOPY a FROM stdin;\n\\.\nSELECT pg_terminate_backend(pg_backend_pid());\nCOPY a FROM stdin;\n\\.\n",
    )]);
    let result = database.run(&early).await;
    assert!(
        matches!(result, Err(RunFailure::ConnectionLost { .. })),
        "{result:?}"
    );
    database.psql(&format!(
        "ALTER DATABASE {} SET app.calm = 'yes'",
        database.name
    ));
    assert_eq!(database.run(&whole).await.expect("runs").applied.len(), 1);
    assert_eq!(database.history(), "1|1|a|SQL|V1__a.sql|t");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_told_without_the_password() {
    let server = Server::start();
    let database = Database::create(&server);
    for (input, expected) in [
        ("", 3),
        ("nonsense\n", 3),
        ("{\"password\":\"hunter2\"}\n", 3),
    ] {
        let mut runner = Runner::start_bare();
        runner.write(input.as_bytes());
        runner.stdin.take();
        let (last, code) = runner.finish();
        assert_eq!(code, expected, "{input:?}: {last:?}");
        assert!(!format!("{last:?}").contains("hunter2"));
    }
    let other = bundle(&[("V1__a.sql", "SELECT 2")]);
    let expected = bundle(&[("V1__a.sql", "SELECT 1")]);
    let (last, code) = Runner::start_expecting(&database, &other, expected.digest()).finish();
    assert!(
        matches!(
            last,
            RunEvent::Failed {
                failure: RunFailure::Input { .. }
            }
        ),
        "{last:?}"
    );
    assert_eq!(code, 3);
    let refused = bundle(&[("V1__a.sql", "SELECT 1; ROLLBACK;")]);
    assert_eq!(Runner::start(&database, &refused).finish().1, 2);
    let failing = bundle(&[("V1__a.sql", "SELECT 1/0")]);
    assert_eq!(Runner::start(&database, &failing).finish().1, 1);
    server.stop(freehold_testing::postgres::StopMode::Fast);
    let fine = bundle(&[("V1__a.sql", "SELECT 1")]);
    assert_eq!(Runner::start(&database, &fine).finish().1, 4);
}
