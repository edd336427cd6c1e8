//! Where statements end, what they are, and what is refused with which place.

use freehold_migrate::{
    Dialect, Mode, RefusalCode, Script, ScriptConfig, ScriptKind, ScriptName, StatementClass, split,
};
use proptest::prelude::*;

fn texts(script: &str) -> Vec<&str> {
    split(Dialect::Postgresql, script)
        .expect("the script can be cut")
        .iter()
        .map(|statement| &script[statement.range()])
        .collect()
}

fn name() -> ScriptName {
    ScriptName {
        kind: ScriptKind::Versioned("1".parse().expect("a version")),
        description: "x".to_owned(),
    }
}

/// The mode and the statements that would be sent, or code, line and column of each refusal.
type Loaded = Result<(Mode, Vec<String>), Vec<(RefusalCode, u32, u32)>>;

fn loaded(script: &str) -> Loaded {
    loaded_with(script, ScriptConfig::default())
}

fn loaded_with(script: &str, config: ScriptConfig) -> Loaded {
    Script::load(
        Dialect::Postgresql,
        "V1__x.sql",
        &name(),
        script.as_bytes(),
        config,
    )
    .map(|loaded| {
        let statements = loaded
            .statements
            .iter()
            .map(|statement| script[statement.range()].to_owned())
            .collect();
        (loaded.mode, statements)
    })
    .map_err(|refusals| {
        refusals
            .iter()
            .map(|refusal| {
                assert!(!refusal.advice.is_empty());
                (
                    refusal.code,
                    refusal.line.expect("a line"),
                    refusal.column.expect("a column"),
                )
            })
            .collect()
    })
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[test]
fn semicolons_end_statements_only_where_the_server_sees_them() {
    for (script, expected) in [
        ("select 1; select 2", vec!["select 1", "select 2"]),
        (";;select 1;;", vec!["select 1"]),
        ("-- a;\n/* b; */ select 1 -- c;\n;", vec!["select 1"]),
        (
            "select 'a;''b;' ; select 2;",
            vec!["select 'a;''b;'", "select 2"],
        ),
        ("select 'a\\'; select 2;", vec!["select 'a\\'", "select 2"]),
        (
            r"select E'a\';b'; select 2",
            vec![r"select E'a\';b'", "select 2"],
        ),
        (
            r"select e'a\\'; select 2",
            vec![r"select e'a\\'", "select 2"],
        ),
        (
            "select E'a'\n  'b\\';c'; select 2",
            vec!["select E'a'\n  'b\\';c'", "select 2"],
        ),
        (
            "select E'a' -- x\n'b\\';c'; select 2",
            vec!["select E'a' -- x\n'b\\';c'", "select 2"],
        ),
        (
            r"select type'a\'; select 2",
            vec![r"select type'a\'", "select 2"],
        ),
        (
            r"select U&'\0061;' , B'01', X'1F;'; select 2",
            vec![r"select U&'\0061;' , B'01', X'1F;'", "select 2"],
        ),
        (
            r#"select "a;""b;\"; select 2"#,
            vec![r#"select "a;""b;\""#, "select 2"],
        ),
        (
            "select /* a /* b; */ c; */ 1; select 2",
            vec!["select /* a /* b; */ c; */ 1", "select 2"],
        ),
        (
            "select /*/ ; */ 1; select 2",
            vec!["select /*/ ; */ 1", "select 2"],
        ),
        (
            "select $$a;$x$;$$; select 2",
            vec!["select $$a;$x$;$$", "select 2"],
        ),
        (
            "select $é$a;$$;$É$;$é$; select 2",
            vec!["select $é$a;$$;$É$;$é$", "select 2"],
        ),
        (
            "select $a$ $b$a$; select 2",
            vec!["select $a$ $b$a$", "select 2"],
        ),
        (
            "select $1; select a$b$; select c$b$",
            vec!["select $1", "select a$b$", "select c$b$"],
        ),
        (
            "select f(1; 2); select 2",
            vec!["select f(1; 2)", "select 2"],
        ),
        (
            "create rule r as on insert to t do (select 1; select 2); select 3",
            vec![
                "create rule r as on insert to t do (select 1; select 2)",
                "select 3",
            ],
        ),
        ("-- mac\rselect 1;\rselect 2", vec!["select 1", "select 2"]),
        ("\u{feff}select 1;", vec!["select 1"]),
        (
            "select 1+--;\n2; select 2",
            vec!["select 1+--;\n2", "select 2"],
        ),
    ] {
        assert_eq!(texts(script), expected, "{script:?}");
    }
}

#[test]
fn bodies_of_sql_standard_functions_stay_whole() {
    let function = "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql\n\
        BEGIN ATOMIC\n  INSERT INTO t VALUES (a);\n  SELECT CASE WHEN a > 1 THEN CASE a WHEN 2 THEN 1 END ELSE (CASE WHEN true THEN 1 END) END;\n  SELECT t.end, 1 AS case, 2 AS \"end\" FROM t;\nEND";
    let script = format!("{function}; SELECT 2;");
    assert_eq!(texts(&script), [function, "SELECT 2"]);
    let procedure = "create procedure p() begin atomic insert into t values (1); end";
    assert_eq!(
        texts(&format!("{procedure};select 1")),
        [procedure, "select 1"]
    );
    // A function may be called `begin`, and plpgsql bodies stand in quotes.
    let plain = "create function begin() returns int language plpgsql as $$ begin return case when true then 1; end $$";
    assert_eq!(texts(&format!("{plain};select 1")), [plain, "select 1"]);
}

#[test]
fn copy_blocks_take_their_data_with_them() {
    for newline in ["\n", "\r\n"] {
        let script = [
            "COPY t (a, b) FROM stdin; -- data",
            "1\tit's; \\. not the end",
            "\\.x",
            "2\t$$",
            "\\.",
            "COPY t FROM STDIN WITH (FORMAT csv);",
            "\\.",
            "SELECT 'after';",
        ]
        .join(newline);
        let statements = split(Dialect::Postgresql, &script).expect("valid");
        let data: Vec<&str> = statements
            .iter()
            .filter_map(|statement| match &statement.class {
                StatementClass::CopyFromStdin { data } => Some(&script[data.clone()]),
                _ => None,
            })
            .collect();
        let expected = format!("1\tit's; \\. not the end{newline}\\.x{newline}2\t$${newline}");
        assert_eq!(data, [expected.as_str(), ""]);
        assert_eq!(&script[statements[2].range()], "SELECT 'after'");
    }
    assert!(split(Dialect::Postgresql, "COPY t FROM STDIN;\n\\.").is_ok());
    for unfinished in [
        "COPY t FROM STDIN",
        "COPY t FROM STDIN;",
        "COPY t FROM STDIN;\n1\n",
        "COPY t FROM STDIN;\n1\n\\. ",
        "COPY t FROM STDIN; SELECT 1;\n\\.\n",
    ] {
        assert!(
            split(Dialect::Postgresql, unfinished).is_err(),
            "{unfinished:?}"
        );
    }
    // From a file, or from a table called stdin, there is no data below.
    assert_eq!(texts("COPY t FROM '/x'; SELECT 1").len(), 2);
    assert_eq!(texts("COPY stdin FROM '/x'; SELECT 1").len(), 2);
}

#[test]
fn what_is_left_open_is_reported_where_it_began() {
    for (script, line, column) in [
        ("select 1;\n select 'a;\n b", 2, 9),
        ("select 1;\n select \"a", 2, 9),
        ("select 1;\n select E'a\\'", 2, 9),
        ("select 1; /* a /* b */\n", 1, 11),
        ("select\n\n $fn$ body $$ $FN$", 3, 2),
        ("create table t (\n a int;\n create table u (b int);", 1, 16),
        (
            "create function f() returns int\nbegin atomic select 1;",
            2,
            7,
        ),
        ("select 1;\nCOPY t FROM STDIN;\n1\n", 2, 1),
        ("select 1;\n\\i other.sql\n", 2, 1),
        ("select 1 \\gexec\n", 1, 10),
        ("\\.\n", 1, 1),
    ] {
        assert_eq!(
            loaded(script),
            Err(vec![(RefusalCode::InvalidScript, line, column)]),
            "{script:?}"
        );
    }
}

#[test]
fn a_scripts_own_enclosing_transaction_becomes_the_runners() {
    for (script, opening) in [
        (
            "START TRANSACTION;\nINSERT INTO t VALUES (1);\nCOMMIT;",
            "START TRANSACTION",
        ),
        ("-- x\nbegin;insert into t values (1);end", "begin"),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE;INSERT INTO t VALUES (1);COMMIT WORK;",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
        ),
    ] {
        let (mode, statements) = loaded(script).expect("it may run");
        let opening = opening.to_owned();
        assert_eq!(mode, Mode::Transaction { opening }, "{script:?}");
        assert_eq!(statements.len(), 1);
    }
    let (mode, statements) =
        loaded("SAVEPOINT a; SELECT 1; ROLLBACK TO a; RELEASE a").expect("runs");
    assert_eq!(statements.len(), 4);
    assert_eq!(
        mode,
        Mode::Transaction {
            opening: "BEGIN".to_owned()
        }
    );
}

#[test]
fn any_other_transaction_control_is_refused_with_its_place() {
    use RefusalCode::TransactionControl as Control;
    for (script, places) in [
        ("SELECT 1;\nCOMMIT;", vec![(2, 1)]),
        ("BEGIN;\nSELECT 1;", vec![(1, 1)]),
        ("BEGIN; COMMIT; BEGIN; COMMIT;", vec![(1, 8), (1, 16)]),
        (
            "SET x.y = 1; BEGIN; SELECT 1; COMMIT;",
            vec![(1, 14), (1, 31)],
        ),
        ("BEGIN; SELECT 1; ROLLBACK;", vec![(1, 1), (1, 18)]),
        ("ABORT", vec![(1, 1)]),
        ("BEGIN READ ONLY; COMMIT", vec![(1, 1), (1, 18)]),
        ("BEGIN; SELECT 1; COMMIT AND CHAIN;", vec![(1, 1), (1, 18)]),
        ("PREPARE TRANSACTION 'x'", vec![(1, 1)]),
    ] {
        let expected = places
            .iter()
            .map(|&(line, column)| (Control, line, column))
            .collect();
        assert_eq!(loaded(script), Err(expected), "{script:?}");
    }
    let config = ScriptConfig {
        execute_in_transaction: Some(false),
        ..ScriptConfig::default()
    };
    assert_eq!(
        loaded_with("BEGIN; SELECT 1; COMMIT; VACUUM;", config)
            .expect("it may run")
            .0,
        Mode::Bare
    );
}

#[test]
fn statements_that_cannot_run_in_a_transaction_are_known() {
    for script in [
        "CREATE DATABASE x",
        "DROP DATABASE x",
        "CREATE TABLESPACE x LOCATION '/x'",
        "DROP SUBSCRIPTION x",
        "ALTER SYSTEM SET a = 1",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "create unique index concurrently if not exists i on t (a)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX SCHEMA s",
        "REINDEX (VERBOSE) DATABASE d",
        "REINDEX TABLE CONCURRENTLY t",
        "REINDEX (CONCURRENTLY) TABLE t",
        "reindex (verbose, concurrently on) index i",
        "REINDEX (VERBOSE, CONCURRENTLY FALSE) SYSTEM d",
        "VACUUM",
        "VACUUM (FULL) t",
        "CLUSTER",
        "CLUSTER VERBOSE",
        "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
        "ALTER DATABASE d SET TABLESPACE s",
        "COMMIT PREPARED 'x'",
        "ALTER SUBSCRIPTION s REFRESH PUBLICATION",
        "SET lock_timeout = '5s'; CREATE /* now */ INDEX CONCURRENTLY i ON t (a); RESET lock_timeout",
    ] {
        assert_eq!(
            loaded(script).map(|(mode, _)| mode),
            Ok(Mode::Bare),
            "{script}"
        );
        let mixed = format!("CREATE TABLE t (a int);\n{script};");
        let refused = loaded(&mixed).expect_err(&mixed);
        assert_eq!(
            (refused[0].0, refused[0].1),
            (RefusalCode::MixedTransactions, 2),
            "{script}"
        );
    }
    for script in [
        "CREATE INDEX concurrently_made ON t (a)",
        "CREATE TABLE database (a int)",
        "REINDEX TABLE t",
        "CLUSTER t USING i",
        "DROP INDEX i",
        "ALTER TYPE e ADD VALUE 'x'",
        "DISCARD TEMP",
        "SELECT 'VACUUM'",
        "SET a.b = 1",
        "",
        "-- nothing",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ] {
        let mode = loaded(script).map(|(mode, _)| mode);
        assert!(
            matches!(mode, Ok(Mode::Transaction { .. })),
            "{script}: {mode:?}"
        );
    }
}

#[test]
fn some_statements_never_run() {
    for script in [
        "DISCARD ALL",
        "SET standard_conforming_strings = off",
        "COPY t TO STDOUT",
        "SET LOCAL standard_conforming_strings TO 'off'",
        "SET client_encoding = 'LATIN1'",
        "SET NAMES 'latin1'",
    ] {
        let refused = loaded(script).expect_err(script);
        assert_eq!(refused, [(RefusalCode::StatementRefused, 1, 1)], "{script}");
    }
    for script in [
        "SET standard_conforming_strings = on;",
        "SET client_encoding = 'UTF8';",
        "SET NAMES 'utf8'",
    ] {
        assert!(loaded(script).is_ok(), "{script}");
    }
}

#[test]
fn changes_of_role_run_with_a_warning() {
    for script in [
        "SET ROLE x",
        "RESET ROLE",
        "SET LOCAL ROLE x",
        "SET SESSION ROLE x",
        "set \"role\" = x",
        "SET SESSION AUTHORIZATION x",
        "RESET SESSION AUTHORIZATION",
    ] {
        let name = name();
        let script = Script::load(
            Dialect::Postgresql,
            "V1.sql",
            &name,
            script.as_bytes(),
            ScriptConfig::default(),
        );
        assert_eq!(script.expect("it may run").warnings.len(), 1);
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    for (bytes, line, column) in [
        (&b"select 1;\nselect '\0';"[..], 2, 9),
        (b"select 1;\r\nselect '\xe4';", 2, 9),
        (b"\xff\xfes\0e\0", 1, 1),
    ] {
        let name = name();
        let refusals = Script::load(
            Dialect::Postgresql,
            "V1.sql",
            &name,
            bytes,
            ScriptConfig::default(),
        )
        .expect_err("it is no text");
        assert_eq!(refusals[0].code, RefusalCode::InvalidEncoding);
        assert_eq!(
            (refusals[0].line, refusals[0].column),
            (Some(line), Some(column))
        );
    }
}

#[test]
fn a_hundred_megabytes_take_linear_time() {
    let line = "INSERT INTO items (id, name, params) VALUES ('1','it''s; a name','$1 -- x');\n";
    let script = line.repeat(1_300_000);
    let statements = split(Dialect::Postgresql, &script).expect("valid");
    assert_eq!(statements.len(), 1_300_000);
    // Constructs that look ahead must not look again and again.
    for evil in [
        "$a",
        "E''\n",
        "/*",
        "((",
        "'",
        "$",
        "\\.\n",
        "COPY x FROM STDIN;\n",
        "-",
        "begin atomic ",
    ] {
        let _ = split(Dialect::Postgresql, &evil.repeat(1_000_000));
        let _ = split(
            Dialect::Postgresql,
            &format!("COPY t FROM STDIN;\n{}", evil.repeat(300_000)),
        );
    }
}

/// Pieces that a statement can be made of, each complete in itself.
fn piece() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[a-z]{1,6}".prop_map(|word| format!("x{word}")),
        "[a-z;'\"$()\\\\/*-]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
        "[a-z;'\"$()]{0,12}".prop_map(|text| format!("E'\\'{}'", text.replace('\'', "\\'"))),
        "[a-z;'$()\\\\/*-]{0,12}".prop_map(|text| format!("\"{text}\"")),
        "[a-z;'\"()\\\\/*-]{0,12}".prop_map(|text| format!("$t${text}$t$")),
        "[a-z;'\"()-]{0,12}".prop_map(|text| format!("/* {text} /* {text} */ */")),
        "[a-z;'\"$()\\\\/*-]{0,12}".prop_map(|text| format!("-- {text}\n")),
        Just("é😀".to_owned()),
        Just("$1".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::vec(inner, 1..4).prop_map(|pieces| format!("({})", pieces.join(" ; ")))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn generated_statements_come_back_as_they_were(
        statements in prop::collection::vec(prop::collection::vec(piece(), 0..5), 0..8),
        separator in prop_oneof![Just(";"), Just(";\n"), Just(" ;;\r\n")],
    ) {
        let statements: Vec<String> = statements
            .iter()
            .map(|pieces| format!("stmt {} last", pieces.join(" ")))
            .collect();
        let script = statements.join(separator);
        prop_assert_eq!(texts(&script), statements);
    }

    #[test]
    fn nothing_but_blanks_comments_and_semicolons_stands_between_statements(text in "[a-zE$'\"();/*\\- \n]{0,60}") {
        if let Ok(statements) = split(Dialect::Postgresql, &text) {
            let mut at = 0;
            for statement in &statements {
                prop_assert!(at <= statement.start && statement.start < statement.end);
                prop_assert_eq!(split(Dialect::Postgresql, &text[at..statement.start]).map(|between| between.len()), Ok(0));
                at = statement.end;
            }
            prop_assert_eq!(split(Dialect::Postgresql, &text[at..]).map(|between| between.len()), Ok(0));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let name = name();
        let _ = Script::load(Dialect::Postgresql, "V1.sql", &name, &bytes, ScriptConfig::default());
    }

    #[test]
    fn arbitrary_sql_like_text_never_panics(
        words in prop::collection::vec(prop_oneof![
            Just("create"), Just("function"), Just("begin"), Just("atomic"), Just("case"), Just("end"),
            Just("copy"), Just("from"), Just("stdin"), Just(";"), Just("\n"), Just("\\."), Just("("),
            Just(")"), Just("'"), Just("$$"), Just("E'"), Just("\\"), Just("--"), Just("/*"), Just("*/"),
            Just("\r"), Just("é"), Just("set"), Just("role"), Just("commit"), Just("alter"), Just("${"), Just("}"),
        ], 0..40),
        joiner in prop_oneof![Just(""), Just(" ")],
    ) {
        let name = name();
        let _ = Script::load(Dialect::Postgresql, "V1.sql", &name, words.join(joiner).as_bytes(), ScriptConfig::default());
    }
}
