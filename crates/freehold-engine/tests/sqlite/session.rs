//! The session that runs scripts.

use std::time::{Duration, Instant};

use freehold_engine::{
    CopySource, DesiredState, EngineError, Fault, ScriptSession as _, StatementError,
    sqlite::SqliteSession,
};

use crate::world::{World, database, program, session};

async fn start() -> (World, SqliteSession) {
    let world = World::start();
    world.provision(&database("shop")).await;
    let scripts = session(&world.file("shop")).await;
    (world, scripts)
}

fn words(error: &EngineError) -> &StatementError {
    match &error.fault {
        Fault::Statement(words) => words,
        _ => panic!("{error}"),
    }
}

#[tokio::test]
async fn rows_are_counted_and_read_as_text() {
    let (_world, mut scripts) = start().await;
    scripts
        .execute("CREATE TABLE item (id INTEGER, name, price, data)")
        .await
        .expect("made");
    let insert =
        "INSERT INTO item VALUES (1, 'é', 1.0, x'0aff'), (9007199254740993, NULL, 1e300, '')";
    assert_eq!(scripts.execute(insert).await.expect("written").rows, 2);
    assert_eq!(
        scripts
            .execute("CREATE TABLE more (id)")
            .await
            .expect("made")
            .rows,
        0
    );
    assert_eq!(
        scripts
            .execute("SELECT * FROM item")
            .await
            .expect("read")
            .rows,
        2
    );
    let returning = "UPDATE item SET price = 2 WHERE id = 1 RETURNING id";
    assert_eq!(scripts.execute(returning).await.expect("changed").rows, 1);
    assert_eq!(
        scripts
            .execute("UPDATE item SET id = id WHERE 0")
            .await
            .expect("none")
            .rows,
        0
    );
    let row = |values: [Option<&str>; 4]| values.map(|value| value.map(str::to_owned)).to_vec();
    let rows = scripts
        .query("SELECT id, name, price * 1.5, data FROM item", &[])
        .await;
    assert_eq!(
        rows.expect("read"),
        [
            row([Some("1"), Some("é"), Some("3.0"), Some("X'0AFF'")]),
            row([Some("9007199254740993"), None, Some("1.5e300"), Some("")]),
        ]
    );
    let hostile = "'; DROP TABLE item; --";
    let asked = scripts
        .query(
            "SELECT ?1, ?2, count(*) FROM item WHERE id = ?3",
            &[Some(hostile), None, Some("1")],
        )
        .await
        .expect("read");
    assert_eq!(
        asked,
        [[Some(hostile.to_owned()), None, Some("1".to_owned())]]
    );
    assert!(
        scripts
            .query("SELECT ?1", &[Some("1"), Some("2")])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_batch_stops_at_the_statement_that_fails_and_says_where() {
    let (_world, mut scripts) = start().await;
    let interrupted = scripts
        .execute_batch("CREATE TABLE é (id);\n-- more\nINSERT INTO é VALUES (1); SELECT absent FROM é; DROP TABLE é")
        .await
        .expect_err("no such column");
    assert_eq!(interrupted.completed, Some(2));
    let error = words(&interrupted.error);
    assert_eq!(error.message, "no such column: absent");
    assert_eq!(error.sqlstate, "SQLITE_ERROR");
    // In characters from the start of the whole text.
    assert_eq!(error.position, Some(63));
    let rows = scripts
        .query("SELECT count(*) FROM é", &[])
        .await
        .expect("it stays");
    assert_eq!(rows, [[Some("1".to_owned())]]);

    let interrupted = scripts
        .execute_batch("CREATE UNIQUE INDEX u ON é (id); INSERT INTO é VALUES (1)")
        .await
        .expect_err("it is there");
    assert_eq!(interrupted.completed, Some(1));
    assert_eq!(
        words(&interrupted.error).sqlstate,
        "SQLITE_CONSTRAINT_UNIQUE"
    );
    let error = scripts.execute("SELEC 1").await.expect_err("syntax");
    assert_eq!(words(&error).position, Some(1));
    let error = scripts
        .execute("SELECT 1;\0 DROP TABLE é")
        .await
        .expect_err("hidden");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    scripts
        .execute("-- only a comment")
        .await
        .expect("nothing to do");
}

#[tokio::test]
async fn transactions_and_settings_last_until_the_reset() {
    let (world, mut scripts) = start().await;
    let asked = |pragma: &'static str| format!("PRAGMA {pragma}");
    let initial = scripts
        .query(&asked("foreign_keys"), &[])
        .await
        .expect("asked");
    assert_eq!(initial, [[Some("0".to_owned())]], "as a script expects it");
    let durable = scripts
        .query(&asked("synchronous"), &[])
        .await
        .expect("asked");
    assert_eq!(
        durable,
        [[Some("2".to_owned())]],
        "commits outlast a power cut"
    );
    assert!(!scripts.in_transaction().await.expect("asked"));
    scripts
        .execute_batch(
            "PRAGMA foreign_keys = ON; PRAGMA user_version = 3; CREATE TEMP TABLE scratch (id); \
             CREATE TABLE item (id); BEGIN; INSERT INTO item VALUES (1)",
        )
        .await
        .expect("run");
    assert!(scripts.in_transaction().await.expect("asked"));
    let on = scripts
        .query(&asked("foreign_keys"), &[])
        .await
        .expect("asked");
    assert_eq!(on, [[Some("1".to_owned())]]);
    scripts.reset().await.expect("reset");
    assert!(!scripts.in_transaction().await.expect("asked"));
    let off = scripts
        .query(&asked("foreign_keys"), &[])
        .await
        .expect("asked");
    assert_eq!(off, [[Some("0".to_owned())]]);
    let rows = scripts
        .query(
            "SELECT count(*), (SELECT count(*) FROM temp.sqlite_schema) FROM item",
            &[],
        )
        .await
        .expect("asked");
    assert_eq!(rows, [[Some("0".to_owned()), Some("0".to_owned())]]);
    let kept = scripts
        .query(&asked("user_version"), &[])
        .await
        .expect("asked");
    assert_eq!(kept, [[Some("3".to_owned())]], "what is in the file stays");
    assert!(
        scripts.execute("ATTACH ':memory:' AS m").await.is_err(),
        "the new connection has its authorizer"
    );

    // A session does not wander to another file.
    let mut closed = database("shop");
    closed.state = DesiredState::Closed;
    world.apply(&closed, 1).await.expect("closed");
    let error = scripts.reset().await.expect_err("it is gone");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let world = World::start();
    world.provision(&database("shop")).await;
    let absent = world.home("shop").join("absent.db");
    let error = SqliteSession::open(&absent).await.err().expect("absent");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
    assert!(!absent.exists(), "and it is not made");
    std::fs::write(&absent, "something else ".repeat(100)).expect("written");
    let error = SqliteSession::open(&absent)
        .await
        .err()
        .expect("no database");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    let error = SqliteSession::open(&world.home("shop"))
        .await
        .err()
        .expect("a folder");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn copying_in_is_refused() {
    let (_world, mut scripts) = start().await;
    let error = scripts
        .copy_in("COPY item FROM STDIN", CopySource("1\n"))
        .await;
    let error = error.expect_err("not claimed");
    assert!(matches!(error.fault, Fault::Unsupported { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_statement_is_cancelled_and_the_session_goes_on() {
    let (_world, mut scripts) = start().await;
    let endless =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let canceller = scripts.canceller();
    // It is asked again and again, because it may be asked before the statement has begun.
    let asking = tokio::spawn(async move {
        loop {
            (canceller.0)().await.expect("asked");
            tokio::task::yield_now().await;
        }
    });
    let error = scripts.execute(endless).await.expect_err("cancelled");
    asking.abort();
    let _ = asking.await;
    assert_eq!(words(&error).sqlstate, "57014");
    scripts
        .execute("CREATE TABLE item (id)")
        .await
        .expect("it goes on");
    scripts.reset().await.expect("reset");

    let canceller = scripts.canceller();
    let asking = tokio::spawn(async move {
        loop {
            (canceller.0)().await.expect("asked");
            tokio::task::yield_now().await;
        }
    });
    assert!(scripts.execute(endless).await.is_err(), "after a reset too");
    asking.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_lock_is_cancelled_too() {
    let (world, _) = start().await;
    let file = world.file("shop");
    let holder = program(&file).expect("opened");
    holder.execute_batch("BEGIN IMMEDIATE").expect("held");
    let mut scripts = SqliteSession::open_with_busy_timeout(&file, Duration::from_secs(600))
        .await
        .expect("opened");
    let canceller = scripts.canceller();
    let asking = tokio::spawn(async move {
        loop {
            (canceller.0)().await.expect("asked");
            tokio::task::yield_now().await;
        }
    });
    let began = Instant::now();
    scripts
        .execute("CREATE TABLE item (id)")
        .await
        .expect_err("cancelled");
    asking.abort();
    let _ = asking.await;
    assert!(began.elapsed() < Duration::from_secs(60));
    holder.execute_batch("ROLLBACK").expect("free");
    scripts
        .execute("CREATE TABLE item (id)")
        .await
        .expect("free");
}

/// A look of the engine at a file must not drop the locks that a session of the same process holds.
#[tokio::test]
async fn looking_does_not_unlock_a_running_script() {
    let (world, mut scripts) = start().await;
    scripts
        .execute_batch(
            "CREATE TABLE item (id INTEGER); BEGIN IMMEDIATE; INSERT INTO item VALUES (1)",
        )
        .await
        .expect("begun");
    assert_eq!(
        world.observe(&database("shop"), 1).await.expect("looked"),
        []
    );
    world.engine.survey().await.expect("surveyed");
    // Asked from another process, because POSIX locks do not keep out one's own.
    let asked = std::process::Command::new(std::env::current_exe().expect("our own program"))
        .args([
            "--exact",
            "session::another_process_cannot_write",
            "--nocapture",
        ])
        .env(LOCKED, world.file("shop"))
        .output()
        .expect("run");
    let output = String::from_utf8_lossy(&asked.stdout);
    assert!(
        asked.status.success() && output.contains("it was locked"),
        "{output}"
    );
    scripts.execute("COMMIT").await.expect("done");
}

const LOCKED: &str = "FREEHOLD_TEST_SQLITE_LOCKED";

/// Tries to write to a file that a writer holds: another process's, or one of its own.
#[test]
fn another_process_cannot_write() {
    let own = tempfile::tempdir().expect("a temporary directory");
    let (file, _holder) = match std::env::var_os(LOCKED) {
        Some(file) => (std::path::PathBuf::from(file), None),
        None => {
            let file = own.path().join("own.db");
            let holder = rusqlite::Connection::open(&file).expect("made");
            holder.execute_batch("BEGIN IMMEDIATE").expect("held");
            (file, Some(holder))
        }
    };
    let other = rusqlite::Connection::open(file).expect("opened");
    other.busy_timeout(Duration::from_millis(100)).expect("set");
    let error = other.execute_batch("BEGIN IMMEDIATE").expect_err("held");
    assert_eq!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy)
    );
    println!("it was locked");
}
