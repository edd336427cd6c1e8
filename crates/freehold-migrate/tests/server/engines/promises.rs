//! The same promises on every engine: one suite, three servers.

use freehold_migrate::{
    Bundle, Dialect, HISTORY_TABLE, Migrator, RefusalCode, RunEvent, RunFailure, RunOptions, State,
    status,
};

use super::Site;
use crate::{
    fixture::Runner,
    running::{refusals, statement},
};

on_every_engine!(
    scripts_run_once_in_order_and_are_recorded_as_flyway_records_them,
    a_failing_change_of_data_leaves_no_trace,
    a_failing_change_of_schema_is_undone_or_recorded_as_failed,
    a_script_may_bring_its_own_transaction,
    two_runs_at_once_apply_every_script_once,
    no_script_finds_what_another_left_in_the_session,
    a_bundle_for_another_engine_is_refused,
    a_schema_with_objects_and_no_history_is_refused,
    what_can_be_refused_is_refused_before_anything_runs,
    a_changed_file_is_refused_and_a_changed_repeatable_runs_again,
    a_script_outside_a_transaction_fails_with_a_row,
    hostile_names_stay_names,
    a_runner_that_is_killed_leaves_nothing_half_done_without_a_trace,
    a_runner_in_a_process_of_its_own_does_the_same,
);

async fn scripts_run_once_in_order_and_are_recorded_as_flyway_records_them<S: Site>() {
    let site = S::new();
    let line = "alter table location_history add column valid_until timestamp with time zone;";
    let files = [
        ("V1__One.sql", "CREATE TABLE a (n INT);"),
        ("V1_10__Ten.sql", "INSERT INTO a VALUES (10);\r\n"),
        (
            "V1.2__Two's.sql",
            "INSERT INTO a VALUES (2); INSERT INTO a VALUES (3)",
        ),
        ("R__z.sql", "DELETE FROM a WHERE n = 3"),
        ("R__Z.sql", ""),
    ];
    let report = site.run(&files).await.expect("runs");
    assert!(report.history_created);
    assert_eq!(report.applied.len(), 5);
    assert_eq!(report.applied[1].rows, 2);
    let sum = freehold_migrate::checksum;
    assert_eq!(
        site.history().await,
        format!(
            "1|1|One|SQL|V1__One.sql|{}|yes\n2|1.2|Two's|SQL|V1.2__Two's.sql|{}|yes\n\
             3|1.10|Ten|SQL|V1_10__Ten.sql|{}|yes\n4||Z|SQL|R__Z.sql|0|yes\n5||z|SQL|R__z.sql|{}|yes",
            sum(files[0].1),
            sum(files[2].1),
            sum(files[1].1),
            sum(files[3].1)
        )
    );
    assert_eq!(sum(line), -1_039_259_818);
    assert_eq!(site.rows("SELECT n FROM a ORDER BY n").await, "2\n10");
    let again = site.run(&files).await.expect("runs");
    assert!(again.applied.is_empty() && !again.history_created);
    assert_eq!(again.history.len(), 5);
    assert!(
        again
            .history
            .iter()
            .all(|row| row.success && !row.installed_on.is_empty())
    );
    let by = &again.history[0].installed_by;
    assert_eq!(by.is_empty(), S::DIALECT == Dialect::Sqlite, "{by:?}");
}

async fn a_failing_change_of_data_leaves_no_trace<S: Site>() {
    let site = S::new();
    let many = "INSERT INTO a VALUES (2);\n".repeat(3000);
    let late = format!("{many}  INSERT INTO b VALUES (1);\n{many}");
    let first = (
        "V1__a.sql",
        "CREATE TABLE a (n INT); CREATE TABLE b (n INT PRIMARY KEY); INSERT INTO b VALUES (1);",
    );
    for (script, line) in [
        (
            "INSERT INTO a VALUES (1);\n\n  INSERT INTO b\n VALUES (1);",
            3,
        ),
        (
            "INSERT INTO a VALUES (1);\n/* x */ INSERT INTO nowhere VALUES (1);",
            2,
        ),
        (
            "INSERT INTO a VALUES (1);\nINSERT INTO a\n VALUES (1,,2);",
            3,
        ),
        (late.as_str(), 3001),
    ] {
        let failure = statement(site.run(&[first, ("V2__b.sql", script)]).await);
        let shown = script.chars().take(80).collect::<String>();
        assert_eq!(failure.file, "V2__b.sql");
        assert_eq!(failure.line, Some(line), "{shown}: {failure:?}");
        assert!(failure.rolled_back, "{failure:?}");
        assert!(!failure.advice.is_empty() && !failure.excerpt.is_empty());
        assert_eq!(site.rows("SELECT COUNT(*) FROM a").await, "0", "{shown}");
        assert_eq!(site.history().await.lines().count(), 1);
    }
    site.run(&[first, ("V2__b.sql", "INSERT INTO a VALUES (1)")])
        .await
        .expect("a script that left no trace may be corrected");
}

async fn a_failing_change_of_schema_is_undone_or_recorded_as_failed<S: Site>() {
    let site = S::new();
    let files = [
        ("V1__a.sql", "CREATE TABLE a (n INT);"),
        (
            "V2__b.sql",
            "INSERT INTO a VALUES (1);\nCREATE TABLE b (n INT);\nINSERT INTO a VALUES (2);\n  CREATE TABLE a (n INT);\nCREATE TABLE c (n INT);",
        ),
    ];
    let failure = statement(site.run(&files).await);
    assert_eq!(failure.line, Some(4), "{failure:?}");
    assert!(failure.advice.contains("exists already"), "{failure:?}");
    if S::DIALECT != Dialect::Mysql {
        assert!(failure.rolled_back);
        assert_eq!(site.tables().await, "a");
        assert_eq!(site.history().await.lines().count(), 1);
        return;
    }
    assert!(!failure.rolled_back);
    assert_eq!(site.tables().await, "a,b");
    // The second INSERT is committed by the CREATE TABLE that fails, as the server has it.
    assert_eq!(site.rows("SELECT n FROM a ORDER BY n").await, "1\n2");
    let history = site.history().await;
    assert!(
        history.ends_with("|no") && history.lines().count() == 2,
        "{history}"
    );
    let refused = refusals(site.run(&files).await);
    assert_eq!(
        refused,
        [(
            RefusalCode::FailedVersionedMigration,
            "V2__b.sql".to_owned()
        )]
    );
    let mut session = site.session().await;
    let states: Vec<State> = status(
        S::DIALECT,
        &mut session,
        &S::bundle(&files),
        &RunOptions::default(),
    )
    .await
    .expect("answers")
    .entries
    .iter()
    .map(|entry| entry.state)
    .collect();
    assert_eq!(states, [State::Success, State::Failed]);
    // As flyway repair does.
    site.execute("DROP TABLE b").await;
    site.execute("DELETE FROM flyway_schema_history WHERE success = 0")
        .await;
    let corrected = [files[0], ("V2__b.sql", "CREATE TABLE b (n INT);")];
    site.run(&corrected).await.expect("runs");
    assert!(site.history().await.ends_with("|yes"));
}

async fn a_script_may_bring_its_own_transaction<S: Site>() {
    let site = S::new();
    let opening = if S::DIALECT == Dialect::Sqlite {
        "BEGIN TRANSACTION"
    } else {
        "START TRANSACTION"
    };
    let own =
        format!("{opening};\nINSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2);\nCOMMIT;\n");
    let torn = format!("{own}INSERT INTO a VALUES (3);");
    let first = ("V1__a.sql", "CREATE TABLE a (n INT PRIMARY KEY);");
    site.run(&[first, ("V2__b.sql", &own)]).await.expect("runs");
    assert_eq!(site.rows("SELECT n FROM a ORDER BY n").await, "1\n2");
    let failure = statement(
        site.run(&[first, ("V2__b.sql", &own), ("V3__c.sql", &own)])
            .await,
    );
    assert_eq!((failure.line, failure.rolled_back), (Some(2), true));
    let refused = refusals(
        site.run(&[first, ("V2__b.sql", &own), ("V3__c.sql", &torn)])
            .await,
    );
    assert_eq!(refused.len(), 2);
    assert!(
        refused
            .iter()
            .all(|(code, _)| *code == RefusalCode::TransactionControl)
    );
    assert_eq!(site.history().await.lines().count(), 2);
}

async fn two_runs_at_once_apply_every_script_once<S: Site>() {
    let site = S::new();
    let mut files = vec![("V1__a.sql".to_owned(), "CREATE TABLE a (n INT);".to_owned())];
    for number in 2..=12 {
        let text = if number % 3 == 0 {
            format!("CREATE TABLE a{number} (n INT); INSERT INTO a VALUES ({number});")
        } else {
            format!("INSERT INTO a VALUES ({number});")
        };
        files.push((format!("V{number}__x.sql"), text));
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let (one, two) = tokio::join!(site.run(&files), site.run(&files));
    let (one, two) = (one.expect("runs"), two.expect("runs"));
    assert_eq!(one.applied.len() + two.applied.len(), 12);
    assert_eq!(
        site.rows("SELECT n FROM a ORDER BY n")
            .await
            .lines()
            .count(),
        11
    );
    assert_eq!(site.history().await.lines().count(), 12);
    assert!(!site.history().await.contains("|no"));
}

async fn no_script_finds_what_another_left_in_the_session<S: Site>() {
    let site = S::new();
    let (leaves, finds, expected) = match S::DIALECT {
        Dialect::Postgresql => (
            "CREATE TEMP TABLE left_over (n INT); SET lock_timeout = '7s';",
            "CREATE TEMP TABLE left_over (n INT); INSERT INTO p SELECT current_setting('lock_timeout');",
            "0",
        ),
        Dialect::Mysql => (
            "CREATE TEMPORARY TABLE left_over (n INT); SET @x = 'left', SESSION lock_wait_timeout = 7, foreign_key_checks = 0; PREPARE s FROM 'SELECT 1';",
            "CREATE TEMPORARY TABLE left_over (n INT); INSERT INTO p SELECT CONCAT_WS(',', @x, @@lock_wait_timeout, @@foreign_key_checks, @@character_set_client, DATABASE());",
            "86400,ON,utf8mb4,shop_1",
        ),
        Dialect::Sqlite => (
            "CREATE TEMP TABLE left_over (n INT); PRAGMA recursive_triggers = 1; PRAGMA case_sensitive_like = 1;",
            "CREATE TEMP TABLE left_over (n INT); INSERT INTO p SELECT recursive_triggers || ',' || ('A' LIKE 'a') FROM pragma_recursive_triggers;",
            "0,1",
        ),
    };
    let files = [
        ("V1__p.sql", "CREATE TABLE p (t VARCHAR(200));"),
        ("V2__a.sql", leaves),
        ("V3__b.sql", finds),
    ];
    site.run(&files).await.expect("runs");
    assert_eq!(site.rows("SELECT t FROM p").await, expected);
}

async fn a_bundle_for_another_engine_is_refused<S: Site>() {
    let site = S::new();
    for other in Dialect::ALL
        .into_iter()
        .filter(|dialect| *dialect != S::DIALECT)
    {
        let bundle = Bundle::from_files_for(other, [("V1__a.sql", "CREATE TABLE a (n INT);")])
            .expect("a bundle");
        let mut session = site.session().await;
        let result = Migrator::new(S::DIALECT, &mut session, RunOptions::default())
            .run(&bundle, &mut |_| {})
            .await;
        assert_eq!(
            refusals(result),
            [(RefusalCode::OtherEngine, String::new())]
        );
        let looked = status(S::DIALECT, &mut session, &bundle, &RunOptions::default()).await;
        assert!(matches!(looked, Err(RunFailure::Refused { .. })));
    }
    assert_eq!(site.tables().await, "");
}

async fn a_schema_with_objects_and_no_history_is_refused<S: Site>() {
    for object in ["CREATE TABLE x (n INT)", "CREATE VIEW x AS SELECT 1 AS n"] {
        let site = S::new();
        site.execute(object).await;
        let refused = refusals(site.run(&[("V1__a.sql", "CREATE TABLE y (n INT)")]).await);
        assert_eq!(
            refused,
            [(
                RefusalCode::NonEmptySchemaWithoutSchemaHistoryTable,
                String::new()
            )],
            "{object}"
        );
    }
}

async fn what_can_be_refused_is_refused_before_anything_runs<S: Site>() {
    let site = S::new();
    for second in match S::DIALECT {
        Dialect::Postgresql => ["SELECT 1;\n\\i other.sql", "DISCARD ALL", "SELECT 'a"],
        Dialect::Mysql => [
            "SELECT 1;\nsource other.sql",
            "DROP DATABASE shop_1",
            "SELECT 'a",
        ],
        Dialect::Sqlite => ["SELECT 1;\n.read other.sql", "ATTACH 'x' AS y", "SELECT 'a"],
    } {
        let files = [
            ("V1__a.sql", "CREATE TABLE a (n INT);"),
            ("V2__b.sql", second),
        ];
        let refused = refusals(site.run(&files).await);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0].1, "V2__b.sql");
        assert_eq!(site.tables().await, "");
    }
}

async fn a_changed_file_is_refused_and_a_changed_repeatable_runs_again<S: Site>() {
    let site = S::new();
    let first = ("V1__a.sql", "CREATE TABLE a (n INT);");
    site.run(&[first, ("R__r.sql", "INSERT INTO a VALUES (1)")])
        .await
        .expect("runs");
    let changed = [first, ("R__r.sql", "INSERT INTO a VALUES (2)")];
    let report = site.run(&changed).await.expect("runs");
    assert_eq!(report.applied.len(), 1);
    assert_eq!(site.rows("SELECT n FROM a ORDER BY n").await, "1\n2");
    let other = [("V1__a.sql", "CREATE TABLE a (n BIGINT);"), changed[1]];
    assert_eq!(
        refusals(site.run(&other).await),
        [(RefusalCode::ChecksumMismatch, "V1__a.sql".to_owned())]
    );
}

async fn a_script_outside_a_transaction_fails_with_a_row<S: Site>() {
    let site = S::new();
    let first = ("V1__a.sql", "CREATE TABLE a (n INT PRIMARY KEY);");
    let files = [
        first,
        (
            "V2__b.sql",
            "INSERT INTO a VALUES (1);\nBEGIN; INSERT INTO a VALUES (2); COMMIT;\nINSERT INTO a VALUES (1);",
        ),
        ("V2__b.sql.conf", "executeInTransaction=false"),
    ];
    let failure = statement(site.run(&files).await);
    assert_eq!((failure.line, failure.rolled_back), (Some(3), false));
    assert_eq!(site.rows("SELECT n FROM a ORDER BY n").await, "1\n2");
    assert!(site.history().await.ends_with("|no"));
    let refused = refusals(site.run(&files).await);
    assert_eq!(
        refused,
        [(
            RefusalCode::FailedVersionedMigration,
            "V2__b.sql".to_owned()
        )]
    );
    let good = [
        first,
        (
            "V2__b.sql",
            "INSERT INTO a VALUES (3);\nBEGIN; INSERT INTO a VALUES (4); COMMIT;",
        ),
        files[2],
    ];
    site.execute(&format!("DELETE FROM {HISTORY_TABLE} WHERE version = '2'"))
        .await;
    site.run(&good).await.expect("runs");
    assert_eq!(site.rows("SELECT n FROM a ORDER BY n").await, "1\n2\n3\n4");
    assert!(site.history().await.ends_with("|yes"));
}

async fn hostile_names_stay_names<S: Site>() {
    let site = S::new();
    let long = format!("V2__{}.sql", "d".repeat(201));
    let hostile = "V1__It's_\"one\"_`;_--_'); DROP TABLE x.sql";
    let files = [(hostile, "CREATE TABLE a (n INT);"), (long.as_str(), "")];
    let options = RunOptions {
        installed_by: Some("ann's \\ \"laptop\" `x`".to_owned()),
        ..RunOptions::default()
    };
    site.run_with(&files, options, &mut Vec::new())
        .await
        .expect("runs");
    assert_eq!(
        site.rows(&format!(
            "SELECT description, installed_by FROM {HISTORY_TABLE} ORDER BY installed_rank"
        ))
        .await,
        format!(
            "It's \"one\" `; -- '); DROP TABLE x|ann's \\ \"laptop\" `x`\n{}...|ann's \\ \"laptop\" `x`",
            "d".repeat(197)
        )
    );
    let report = site.run(&files).await.expect("the history fits the files");
    assert!(report.applied.is_empty());
}

/// A statement that goes on until it is stopped.
fn endless(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgresql => "INSERT INTO a SELECT 9 FROM pg_sleep(600);",
        Dialect::Mysql => "INSERT INTO a SELECT SLEEP(600);",
        Dialect::Sqlite => {
            "INSERT INTO a WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT MAX(x) FROM c;"
        }
    }
}

async fn a_runner_that_is_killed_leaves_nothing_half_done_without_a_trace<S: Site>() {
    let site = S::new();
    let endless = endless(S::DIALECT);
    // Told after each stretch of statements: the table is made when the progress is told.
    let schema = format!("CREATE TABLE a (n INT);\n{endless}");
    let first = ("V1__a.sql", "CREATE TABLE b (n INT);");
    let bundle = S::bundle(&[first, ("V2__b.sql", &schema)]);
    let mut runner = Runner::start_at(site.target(), &bundle);
    while let Some(event) = runner.next() {
        if matches!(&event, RunEvent::ScriptStarted { number: 2, .. }) {
            break;
        }
    }
    if S::DIALECT == Dialect::Mysql {
        let made = |event: &RunEvent| matches!(event, RunEvent::Progress { statement: 1, file, .. } if file == "V2__b.sql");
        while let Some(event) = runner.next() {
            if made(&event) {
                break;
            }
        }
    }
    runner.child.kill().expect("it runs");
    runner.child.wait().expect("it was killed");
    if S::DIALECT == Dialect::Postgresql {
        // The server would notice only when it has something to say.
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'freehold/op/%'";
        site.execute(end).await;
    }
    let corrected = [first, ("V2__b.sql", "CREATE TABLE a (n INT);")];
    let after = site.run(&corrected).await;
    if S::DIALECT == Dialect::Mysql {
        let refused = refusals(after);
        assert_eq!(
            refused,
            [(
                RefusalCode::FailedVersionedMigration,
                "V2__b.sql".to_owned()
            )]
        );
        assert_eq!(site.tables().await, "a,b");
    } else {
        assert_eq!(after.expect("runs").applied.len(), 1);
    }
}

async fn a_runner_in_a_process_of_its_own_does_the_same<S: Site>() {
    let site = S::new();
    let files = [
        ("V1__a.sql", "CREATE TABLE a (n INT);"),
        ("V2__b.sql", "INSERT INTO a VALUES (1);"),
    ];
    let (last, code) = Runner::start_at(site.target(), &S::bundle(&files)).finish();
    assert_eq!(code, 0, "{last:?}");
    assert!(matches!(last, RunEvent::Finished { report } if report.applied.len() == 2));
    // What stops is stopped: the statement is cancelled and the process ends.
    let endless = [files[0], files[1], ("V3__c.sql", endless(S::DIALECT))];
    let mut runner = Runner::start_at(site.target(), &S::bundle(&endless));
    while let Some(event) = runner.next() {
        if matches!(event, RunEvent::ScriptStarted { .. }) {
            break;
        }
    }
    runner.stdin.take();
    let (last, code) = runner.finish();
    assert_eq!(code, 7, "{last:?}");
    assert!(
        matches!(
            last,
            RunEvent::Failed {
                failure: RunFailure::Cancelled { .. }
            }
        ),
        "{last:?}"
    );
    assert_eq!(site.rows("SELECT n FROM a").await, "1");
    assert_eq!(site.history().await.lines().count(), 2);
    let other = if S::DIALECT == Dialect::Postgresql {
        Dialect::Sqlite
    } else {
        Dialect::Postgresql
    };
    let bundle = Bundle::from_files_for(other, files).expect("a bundle");
    let (last, code) = Runner::start_at(site.target(), &bundle).finish();
    assert_eq!(code, 2, "{last:?}");
}
