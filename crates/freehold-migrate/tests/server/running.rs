//! What a run does to a database, and what it leaves when it fails.

use crate::fixture::{self, Database, bundle};
use freehold_migrate::{
    Bundle, Dialect, RefusalCode, RunEvent, RunFailure, RunOptions, StatementFailure, status,
};
use freehold_testing::postgres::Server;

pub(crate) fn refusals(
    result: Result<freehold_migrate::RunReport, RunFailure>,
) -> Vec<(RefusalCode, String)> {
    match result {
        Err(RunFailure::Refused { refusals }) => refusals
            .into_iter()
            .map(|refusal| (refusal.code, refusal.file.unwrap_or_default()))
            .collect(),
        other => panic!("it should have been refused: {other:?}"),
    }
}

pub(crate) fn statement(
    result: Result<freehold_migrate::RunReport, RunFailure>,
) -> StatementFailure {
    match result {
        Err(RunFailure::Statement(failure)) => *failure,
        other => panic!("a statement should have failed: {other:?}"),
    }
}

#[tokio::test]
async fn the_history_table_is_flyways_to_the_column() {
    let server = Server::start();
    let database = Database::create(&server);
    let report = database
        .run(&bundle(&[("V1__a.sql", "")]))
        .await
        .expect("runs");
    assert!(report.history_created);
    assert_eq!(
        database.psql(
            "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default \
             FROM information_schema.columns WHERE table_name = 'flyway_schema_history' ORDER BY ordinal_position"
        ),
        "installed_rank|integer||NO|\n\
         version|character varying|50|YES|\n\
         description|character varying|200|NO|\n\
         type|character varying|20|NO|\n\
         script|character varying|1000|NO|\n\
         checksum|integer||YES|\n\
         installed_by|character varying|100|NO|\n\
         installed_on|timestamp without time zone||NO|now()\n\
         execution_time|integer||NO|\n\
         success|boolean||NO|"
    );
    assert_eq!(
        database.psql(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'flyway_schema_history' ORDER BY 1"
        ),
        "CREATE INDEX flyway_schema_history_s_idx ON public.flyway_schema_history USING btree (success)\n\
         CREATE UNIQUE INDEX flyway_schema_history_pk ON public.flyway_schema_history USING btree (installed_rank)"
    );
    assert_eq!(
        database.psql("SELECT conname, contype FROM pg_constraint WHERE conrelid = 'flyway_schema_history'::regclass AND contype <> 'n'"),
        "flyway_schema_history_pk|p"
    );
}

#[tokio::test]
async fn rows_are_written_as_flyway_writes_them() {
    let server = Server::start();
    let database = Database::create(&server);
    let line = "alter table location_history add column valid_until timestamp with time zone;";
    let first = "CREATE TABLE location_history ();\r\n";
    let long = format!("V3__{}.sql", "d".repeat(201));
    let files = [
        ("V001_0__It's_\"one\".sql", first),
        ("sub/V1.1__Add__column.sql", line),
        (long.as_str(), "\u{feff}"),
        ("R__b.sql", "SELECT 1"),
        ("R__B.sql", "SELECT 1"),
    ];
    database.run(&bundle(&files)).await.expect("runs");
    let long_description = format!("{}...", "d".repeat(197));
    assert_eq!(
        database.history(),
        format!(
            "1|001.0|It's \"one\"|SQL|V001_0__It's_\"one\".sql|t\n\
             2|1.1|Add  column|SQL|sub/V1.1__Add__column.sql|t\n\
             3|3|{long_description}|SQL|{long}|t\n\
             4||B|SQL|R__B.sql|t\n\
             5||b|SQL|R__b.sql|t"
        )
    );
    let checks = "SELECT checksum, installed_by, installed_on > now() - interval '1 minute', \
                  execution_time BETWEEN 0 AND 60000 FROM flyway_schema_history WHERE installed_rank IN (2, 3) ORDER BY 1";
    let user = server.superuser();
    assert_eq!(
        database.psql(checks),
        format!("-1039259818|{user}|t|t\n0|{user}|t|t")
    );
    let again = database.run(&bundle(&files)).await.expect("runs");
    assert!(again.applied.is_empty() && !again.history_created);
}

#[tokio::test]
async fn a_script_and_its_row_commit_together_whoever_opened_the_transaction() {
    let server = Server::start();
    let database = Database::create(&server);
    let large = "INSERT INTO a VALUES ('x');\n".repeat(5000);
    let files = [
        (
            "V1__plain.sql",
            "CREATE TABLE a (t text); INSERT INTO a VALUES ('plain');".to_owned(),
        ),
        (
            "V2__own.sql",
            "START TRANSACTION;\nINSERT INTO a VALUES ('own');\nCOMMIT;\n".to_owned(),
        ),
        (
            "V3__copy.sql",
            "COPY a FROM stdin;\ncopy\n\\.\nINSERT INTO a VALUES ('after');".to_owned(),
        ),
        (
            "V4__large.sql",
            format!(
                "BEGIN ISOLATION LEVEL SERIALIZABLE;\n{large}INSERT INTO a VALUES ('large');COMMIT;"
            ),
        ),
    ];
    let bundle = Bundle::from_files(files).expect("a bundle");
    database.run(&bundle).await.expect("runs");
    assert_eq!(
        database.psql(
            "SELECT h.installed_rank, string_agg(a.t, ',' ORDER BY a.t) FROM flyway_schema_history h \
             JOIN a ON a.xmin::text = h.xmin::text WHERE a.t <> 'x' GROUP BY 1 ORDER BY 1"
        ),
        "1|plain\n2|own\n3|after,copy\n4|large"
    );
    assert_eq!(
        database.psql("SELECT count(*) FROM a WHERE t = 'x'"),
        "5000"
    );
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[tokio::test]
async fn a_failing_statement_leaves_no_trace_and_is_shown_where_it_stands() {
    let server = Server::start();
    let filler = "INSERT INTO t VALUES (1);\n".repeat(4000);
    let big = format!(
        "CREATE TABLE t (a int CHECK (a < 5));\n{filler}  INSERT INTO t VALUES (9);\n{filler}"
    );
    let long = format!("SELECT '{}', nowhere;", "x".repeat(5000));
    for (script, line, column, sqlstate) in [
        // The server gives a position …
        (
            "CREATE TABLE t (a int);\nSELECT 'ä', nothing FROM t;",
            Some(2),
            Some(13),
            "42703",
        ),
        (
            "CREATE TABLE t (a int);\r\n\r\nCREATE TABEL u ();",
            Some(3),
            Some(8),
            "42601",
        ),
        (
            "CREATE TABLE t (a int);\nSELECT :name;",
            Some(2),
            Some(8),
            "42601",
        ),
        (long.as_str(), Some(1), Some(5012), "42703"),
        // … or none, and the statement is known by its number.
        (
            "CREATE TABLE t (a int UNIQUE);\nINSERT INTO t VALUES (1);\n\n  INSERT INTO t\n VALUES (1);",
            Some(4),
            Some(3),
            "23505",
        ),
        (
            "CREATE TABLE t ();\nDO $$ BEGIN\n RAISE EXCEPTION 'no' USING HINT = 'try';\nEND $$;",
            Some(2),
            Some(1),
            "P0001",
        ),
        (big.as_str(), Some(4002), Some(3), "23514"),
        (
            "CREATE TABLE t (a int, b int);\nCOPY t FROM stdin;\n1\t2\n3\tx\n\\.\nSELECT 1;",
            Some(4),
            Some(1),
            "22P02",
        ),
        (
            "CREATE TABLE t (a int);\nCOPY nowhere FROM stdin;\n1\n\\.\n",
            Some(2),
            None,
            "42P01",
        ),
        // What fails at the commit belongs to no line.
        (
            "CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO t VALUES (1), (1);",
            None,
            None,
            "23505",
        ),
        ("SET TRANSACTION READ ONLY", None, None, "25006"),
        ("CREATE TABLE t ();SELECT 1/0", Some(1), Some(19), "22012"),
    ] {
        let database = Database::create(&server);
        let files = [
            ("V1__a.sql", "CREATE TABLE first ();"),
            ("V2__b.sql", script),
        ];
        let failure = statement(database.run(&bundle(&files)).await);
        let shown: String = script.chars().take(120).collect();
        assert_eq!(failure.file, "V2__b.sql");
        assert_eq!(failure.line, line, "{shown}: {failure:?}");
        if column.is_some() {
            assert_eq!(failure.column, column, "{shown}: {failure:?}");
        }
        assert_eq!(
            failure.sqlstate.as_deref(),
            Some(sqlstate),
            "{shown}: {failure:?}"
        );
        assert!(failure.rolled_back && !failure.advice.is_empty());
        assert!(failure.excerpt.chars().count() < 200, "{}", failure.excerpt);
        assert_eq!(database.tables(), "first", "{shown}");
        assert_eq!(database.history(), "1|1|a|SQL|V1__a.sql|t");
    }
}

#[tokio::test]
async fn the_failure_carries_all_that_the_server_said() {
    let server = Server::start();
    let database = Database::create(&server);
    let script = "DO $$ BEGIN RAISE EXCEPTION 'no' USING HINT = 'try', DETAIL = 'because'; END $$;";
    let failure = statement(database.run(&bundle(&[("V1__a.sql", script)])).await);
    assert_eq!(failure.message, "no");
    assert_eq!(failure.hint.as_deref(), Some("try"));
    assert_eq!(failure.detail.as_deref(), Some("because"));
    assert!(
        failure
            .context
            .as_deref()
            .is_some_and(|context| context.contains("PL/pgSQL"))
    );
    let text = failure.to_string();
    assert!(text.starts_with("V1__a.sql:1:1: no (P0001)\n"), "{text}");
}

#[tokio::test]
async fn repeatable_migrations_run_again_when_they_have_changed() {
    let server = Server::start();
    let database = Database::create(&server);
    let view = |n: i32| format!("CREATE OR REPLACE VIEW v AS SELECT {n} AS n;");
    let with = |text: String| {
        Bundle::from_files([
            ("R__v.sql".to_owned(), text),
            ("V1__a.sql".to_owned(), String::new()),
        ])
        .expect("a bundle")
    };
    for (text, expected) in [
        (view(1), 2),
        (view(1), 0),
        (
            view(1).replace(' ', "\n\n").replace("\n\n", " ") + "\r\n",
            0,
        ),
        (view(2), 1),
    ] {
        let report = database.run(&with(text)).await.expect("runs");
        assert_eq!(report.applied.len(), expected);
    }
    assert_eq!(database.psql("SELECT n FROM v"), "2");
    let mut session = database.session().await;
    let status = status(
        Dialect::Postgresql,
        &mut session,
        &with(view(3)),
        &RunOptions::default(),
    )
    .await
    .expect("answers");
    let states: Vec<_> = status
        .entries
        .iter()
        .map(|entry| entry.state.as_str())
        .collect();
    assert_eq!(states, ["Success", "Superseded", "Outdated", "Pending"]);
}

#[tokio::test]
async fn scripts_outside_a_transaction_are_recorded_with_their_outcome() {
    let server = Server::start();
    let database = Database::create(&server);
    let files = [
        ("V1__t.sql", "CREATE TABLE t (a int);"),
        (
            "V2__index.sql",
            "CREATE INDEX CONCURRENTLY i ON t (a);\nVACUUM t;",
        ),
        (
            "V3__own.sql",
            "BEGIN; INSERT INTO t VALUES (1); COMMIT;\nCOPY t FROM stdin;\n2\n\\.\nVACUUM t;",
        ),
        ("V3__own.sql.conf", "executeInTransaction=false"),
    ];
    database.run(&bundle(&files)).await.expect("runs");
    assert_eq!(
        database.psql("SELECT count(*) FROM pg_indexes WHERE indexname = 'i'"),
        "1"
    );
    assert_eq!(database.psql("SELECT count(*) FROM t"), "2");

    let mut with_failing = files.to_vec();
    with_failing.push((
        "V4__bad.sql",
        "CREATE INDEX CONCURRENTLY j ON t (a);\nCREATE INDEX CONCURRENTLY j ON t (a);",
    ));
    let failure = statement(database.run(&bundle(&with_failing)).await);
    assert_eq!(
        (failure.line, failure.sqlstate.as_deref()),
        (Some(2), Some("42P07"))
    );
    assert!(!failure.rolled_back);
    assert!(
        database.history().ends_with("4|4|bad|SQL|V4__bad.sql|f"),
        "{}",
        database.history()
    );
    assert_eq!(
        refusals(database.run(&bundle(&with_failing)).await),
        [(
            RefusalCode::FailedVersionedMigration,
            "V4__bad.sql".to_owned()
        )]
    );
    database.psql("DROP INDEX j; DELETE FROM flyway_schema_history WHERE NOT success");
    let mut open = files.to_vec();
    open.extend([
        ("V4__open.sql", "BEGIN; INSERT INTO t VALUES (9);"),
        ("V4__open.sql.conf", "executeInTransaction=false"),
    ]);
    let failure = statement(database.run(&bundle(&open)).await);
    assert!(
        failure.message.contains("inside a transaction"),
        "{failure:?}"
    );
    assert_eq!(database.psql("SELECT count(*) FROM t"), "2");
}

#[tokio::test]
async fn no_script_sees_what_another_left_in_the_session() {
    let server = Server::start();
    let database = Database::create(&server);
    database.psql("CREATE SCHEMA other");
    let files = [
        (
            "V1__a.sql",
            "SET search_path = other; SET statement_timeout = '5min'; CREATE TEMP TABLE left_over (); \
          PREPARE p AS SELECT 1; DECLARE c CURSOR WITH HOLD FOR SELECT 1; LISTEN x; CREATE TABLE o ();",
        ),
        (
            "V2__b.sql",
            "CREATE TABLE p (s text, t text, r regclass); \
          INSERT INTO p VALUES (current_setting('search_path'), current_setting('statement_timeout'), to_regclass('left_over')); \
          PREPARE p AS SELECT 1; DECLARE c CURSOR WITH HOLD FOR SELECT 1;",
        ),
    ];
    database.run(&bundle(&files)).await.expect("runs");
    assert_eq!(
        database.psql("SELECT s, t, r IS NULL FROM p"),
        "\"$user\", public|0|t"
    );
    assert_eq!(
        database.psql("SELECT schemaname FROM pg_tables WHERE tablename = 'o'"),
        "other"
    );
}

#[tokio::test]
async fn scripts_run_as_the_owner_and_a_change_of_role_ends_with_the_script() {
    let server = Server::start();
    let database = Database::create(&server);
    database.psql(
        "CREATE ROLE \"the \"\"owner\" NOLOGIN; CREATE ROLE stranger NOLOGIN; \
         CREATE ROLE migrator LOGIN PASSWORD 'm' NOINHERIT; \
         GRANT \"the \"\"owner\" TO migrator; GRANT ALL ON SCHEMA public TO \"the \"\"owner\";",
    );
    let options = RunOptions {
        role: Some("the \"owner".to_owned()),
        installed_by: Some("ann@example.org's \\ laptop".to_owned()),
        ..RunOptions::default()
    };
    let run = async |files: &[(&str, &str)]| {
        let target = database.target_as("migrator", "m");
        let mut session = freehold_engine::postgres::PostgresSession::connect(&target)
            .await
            .expect("connects");
        freehold_migrate::Migrator::new(Dialect::Postgresql, &mut session, options.clone())
            .run(&bundle(files), &mut |_| {})
            .await
    };
    let files = [
        ("V1__a.sql", "CREATE TABLE a (); RESET ROLE; SELECT 1;"),
        (
            "V2__b.sql",
            "CREATE TABLE b (); DO $$ BEGIN PERFORM set_config('role', 'none', false); END $$;",
        ),
        ("V3__c.sql", "CREATE TABLE c ();"),
    ];
    run(&files).await.expect("runs");
    assert_eq!(
        database.psql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"),
        "the \"owner"
    );
    assert_eq!(
        database.psql("SELECT DISTINCT installed_by FROM flyway_schema_history"),
        "ann@example.org's \\ laptop"
    );
    for hostile in [
        "SET ROLE stranger",
        "SET SESSION AUTHORIZATION stranger",
        "RESET ROLE; DROP TABLE a",
        "GRANT pg_read_all_data TO migrator",
        "CREATE ROLE x",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "COPY a FROM PROGRAM 'true'",
        "DROP OWNED BY stranger",
        "RESET ROLE; CREATE TABLE d ()",
    ] {
        let mut with_hostile = files.to_vec();
        with_hostile.push(("V4__d.sql", hostile));
        with_hostile.push(("V4__d.sql.conf", "executeInTransaction=true"));
        if hostile.starts_with("ALTER SYSTEM") {
            with_hostile.pop();
        }
        let failure = statement(run(&with_hostile).await);
        let sqlstate = failure.sqlstate.as_deref();
        assert!(
            matches!(sqlstate, Some("42501" | "0LP01")),
            "{hostile}: {failure:?}"
        );
        assert_eq!(database.tables(), "a,b,c");
        database.psql("DELETE FROM flyway_schema_history WHERE NOT success");
    }
}

#[tokio::test]
async fn progress_notices_and_warnings_are_told() {
    let server = Server::start();
    let database = Database::create(&server);
    let large = "INSERT INTO a VALUES ('some text to fill the line with');\n".repeat(4000);
    let notices = "DO $$ BEGIN FOR n IN 1..150 LOOP RAISE NOTICE 'notice %', n; END LOOP; END $$;";
    let files = [
        ("V1__a.sql", format!("CREATE TABLE a (t text);\n{large}")),
        ("V2__b.sql", format!("{notices} RESET ROLE;")),
    ];
    let events = database
        .events(&Bundle::from_files(files).expect("a bundle"))
        .await;
    let percents: Vec<u8> = events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Progress { percent, .. } => Some(*percent),
            _ => None,
        })
        .collect();
    assert!(
        percents.len() > 3 && percents.is_sorted() && percents.last() == Some(&99),
        "{percents:?}"
    );
    let notices: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Notice { message, .. } => Some(message.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(notices.len(), 101);
    assert_eq!(notices[0], "NOTICE: notice 1");
    assert_eq!(notices[100], "… and 50 more notices");
    let warned = events.iter().any(|event| matches!(event, RunEvent::Planned { warnings, pending, .. }
        if warnings.len() == 1 && warnings[0].file == "V2__b.sql" && pending.len() == 2 && pending[0].statements == 4001));
    assert!(warned);
    let rows = events.iter().find_map(|event| match event {
        RunEvent::ScriptFinished { rows, .. } => Some(*rows),
        _ => None,
    });
    assert_eq!(rows, Some(4000));
}

#[tokio::test]
async fn the_sample_runs_on_every_version_there_is() {
    let versions = Server::versions();
    assert!(!versions.is_empty());
    for version in versions {
        let server = Server::start_version(version);
        let database = Database::create(&server);
        let bundle = fixture::sample();
        assert_eq!(bundle.check(), []);
        let report = database
            .run(&bundle)
            .await
            .unwrap_or_else(|failure| panic!("{version}: {failure}"));
        assert_eq!(report.applied.len(), 11);
        assert!(
            report
                .applied
                .last()
                .is_some_and(|script| script.file == "R__views.sql")
        );
        let tables = database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
        assert!(
            tables.parse::<u32>().is_ok_and(|tables| tables > 40),
            "{tables}"
        );
        assert_eq!(
            database.psql("SELECT count(*), sum(quantity) FROM stock_on_hand"),
            "400|10000"
        );
        assert_eq!(
            database.psql("SELECT price_eur_minor FROM listed_variant WHERE sku = 'SKU-1-1'"),
            "1009"
        );
        assert!(
            database
                .run(&bundle)
                .await
                .is_ok_and(|report| report.applied.is_empty())
        );
    }
}

/// Constructs on which a splitter can go wrong, run by `psql` and by us.
#[tokio::test]
async fn the_result_is_that_of_psql() {
    let script = r#"
CREATE TABLE t (n serial, v text);
INSERT INTO t (v) VALUES ('a;b'), ('it''s'), ('back\'), (E'q\';\\'), (U&'\0041;'), ($$d;'$$), ($x$ $$;$x;$x$);
INSERT INTO t (v) VALUES (/* c; /* d; */ ' */ 'x;'), (B'01'::text), (X'1F'::text) --;
;
CREATE FUNCTION f(i int) RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN i > 0 THEN 'p;' ELSE 'n' END; END;
INSERT INTO t (v) SELECT f(1);;
CREATE TABLE "a;""b" ("c;" int);
CREATE RULE r AS ON INSERT TO "a;""b" DO ALSO (INSERT INTO t (v) VALUES ('rule;'); NOTIFY x);
INSERT INTO "a;""b" VALUES (1);
COPY t (v) FROM stdin;
copied;'$$
tab\tand \\. inside
\.
DO LANGUAGE plpgsql $ä$ BEGIN INSERT INTO t (v) VALUES ($$é;$$); END; $ä$;
INSERT INTO t (v) SELECT 1-/* ; */-1 + 1--1;
;
"#
    .replace("/* c; /* d; */ ' */", "/* c; /* d; */ x */");
    let server = Server::start();
    for script in [script.clone(), script.replace('\n', "\r\n")] {
        let (ours, theirs) = (Database::create(&server), Database::create(&server));
        ours.run(&bundle(&[("V1__x.sql", &script)]))
            .await
            .expect("runs");
        theirs.psql(&script);
        let values = "SELECT n, encode(v::bytea, 'escape') FROM t ORDER BY n";
        let expected = theirs.psql(&values.replace("v::bytea", "convert_to(v, 'UTF8')"));
        assert_eq!(
            ours.psql(&values.replace("v::bytea", "convert_to(v, 'UTF8')")),
            expected
        );
        assert!(expected.lines().count() >= 15, "{expected}");
    }
    // A string continued behind a comment is known to the server, and not to psql.
    let database = Database::create(&server);
    let continued = "CREATE TABLE t AS SELECT E'one' -- more;\n  '\\'two;' AS v;";
    database
        .run(&bundle(&[("V1__x.sql", continued)]))
        .await
        .expect("runs");
    assert_eq!(database.psql("SELECT v FROM t"), "one'two;");
}
