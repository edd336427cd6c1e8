//! What only SQLite has.

use std::time::Duration;

use freehold_engine::{ScriptSession as _, sqlite::SqliteSession};
use freehold_migrate::{
    Dialect, Migrator, RefusalCode, RunEvent, RunFailure, RunOptions, StatementFailure,
};

use super::{Site as _, Sqlite};
use crate::running::{refusals, statement};

#[tokio::test]
async fn sqlites_history_is_flyways_to_the_column() {
    let site = Sqlite::new();
    site.run(&[("V1__a.sql", "")]).await.expect("runs");
    assert_eq!(
        site.rows("SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('flyway_schema_history')").await,
        "installed_rank|INT|1||1\nversion|VARCHAR(50)|0||0\ndescription|VARCHAR(200)|1||0\ntype|VARCHAR(20)|1||0\n\
         script|VARCHAR(1000)|1||0\nchecksum|INT|0||0\ninstalled_by|VARCHAR(100)|1||0\n\
         installed_on|TEXT|1|strftime('%Y-%m-%d %H:%M:%f','now')|0\nexecution_time|INT|1||0\nsuccess|BOOLEAN|1||0"
    );
    assert_eq!(
        site.rows("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
            .await,
        "flyway_schema_history_s_idx"
    );
}

#[tokio::test]
async fn another_programs_write_lock_on_a_file_is_waited_for() {
    let site = Sqlite::new();
    let mut other = site.session().await;
    other.execute("BEGIN IMMEDIATE").await.expect("begins");
    let mut session =
        SqliteSession::open_with_busy_timeout(&site.file(), Duration::from_millis(20))
            .await
            .expect("opens");
    let options = RunOptions {
        lock_attempts: 2,
        ..RunOptions::default()
    };
    let files = [("V1__a.sql", "CREATE TABLE a (n INT);")];
    let bundle = Sqlite::bundle(&files);
    let result = Migrator::new(Dialect::Sqlite, &mut session, options.clone())
        .run(&bundle, &mut |_| {})
        .await;
    assert!(
        result.as_ref().is_err_and(RunFailure::is_retryable),
        "{result:?}"
    );
    other.execute("ROLLBACK").await.expect("ends");
    site.run(&files).await.expect("runs");
    other.execute("BEGIN IMMEDIATE").await.expect("begins");
    let files = [files[0], ("V2__b.sql", "INSERT INTO a VALUES (1)")];
    let mut events = Vec::new();
    let result = Migrator::new(Dialect::Sqlite, &mut session, options)
        .run(&Sqlite::bundle(&files), &mut |event| events.push(event))
        .await;
    assert!(
        matches!(&result, Err(RunFailure::Locked { .. })),
        "{result:?}"
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, RunEvent::WaitingForLock { attempt: 1, .. }))
    );
}

#[tokio::test]
async fn sqlite_triggers_and_rebuilt_tables_work() {
    let site = Sqlite::new();
    let files = [
        (
            "V1__a.sql",
            "CREATE TABLE a (n INTEGER PRIMARY KEY, t TEXT); CREATE TABLE log (t TEXT);\n\
             CREATE TRIGGER g AFTER INSERT ON a WHEN new.n > 0 BEGIN\n\
               INSERT INTO log VALUES (CASE new.n WHEN 1 THEN 'one;' ELSE 'more' END);\n\
               UPDATE a SET t = 'end;' WHERE n = new.n; END;\n\
             INSERT INTO a VALUES (1, 'x'), (2, 'y');",
        ),
        (
            "V2__rebuild.sql",
            "PRAGMA foreign_keys = OFF;\nBEGIN;\nCREATE TABLE b (n INTEGER PRIMARY KEY, t TEXT NOT NULL);\n\
             INSERT INTO b SELECT * FROM a;\nDROP TABLE a;\nALTER TABLE b RENAME TO a;\nCOMMIT;\nPRAGMA foreign_keys = ON;",
        ),
        ("V2__rebuild.sql.conf", "executeInTransaction=false"),
        ("V3__vacuum.sql", "VACUUM;"),
    ];
    site.run(&files)
        .await
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(
        site.rows("SELECT n, t FROM a ORDER BY n").await,
        "1|end;\n2|end;"
    );
    assert_eq!(
        site.rows("SELECT t FROM log ORDER BY t").await,
        "more\none;"
    );
    let mut open = files.to_vec();
    open.extend([
        ("V4__open.sql", "BEGIN; INSERT INTO log VALUES ('x');"),
        ("V4__open.sql.conf", "executeInTransaction=false"),
    ]);
    let failure: StatementFailure = statement(site.run(&open).await);
    assert!(
        failure.message.contains("inside a transaction"),
        "{failure:?}"
    );
    assert_eq!(site.rows("SELECT COUNT(*) FROM log").await, "2");
    assert!(site.history().await.ends_with("|no"));
}

/// Not only SQL that we read can reach outside; the session holds it back too.
#[tokio::test]
async fn the_session_denies_what_no_splitter_sees() {
    let site = Sqlite::new();
    let file = site.folder.path().join("other.db");
    let hostile = format!(
        "CREATE TABLE a (n INT);\nVACUUM main INTO '{}';",
        file.display()
    );
    assert_eq!(
        refusals(site.run(&[("V1__a.sql", &hostile)]).await),
        [(RefusalCode::StatementRefused, "V1__a.sql".to_owned())]
    );
    let module =
        "CREATE TABLE a (n INT);\nCREATE VIRTUAL TABLE v USING csv(filename='/etc/passwd');";
    let failure = statement(site.run(&[("V1__a.sql", module)]).await);
    assert_eq!(failure.line, Some(2));
    assert_eq!(site.tables().await, "");
    assert!(!file.exists());
}
