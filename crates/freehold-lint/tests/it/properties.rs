//! Whatever the text is, the gates answer, and in a time that grows with its length.

use freehold_lint::{Engine, Policy, Report, Script, Sequence, check, render};
use proptest::prelude::*;

use crate::folder::dialect;

/// As a runner would call, but with statements even where the splitter found none.
fn report(engine: &str, text: &str) -> Report {
    let engine: Engine = engine.parse().unwrap();
    let statements = match freehold_migrate::split(dialect(&engine), text) {
        Ok(found) => found
            .iter()
            .map(freehold_migrate::Statement::range)
            .collect(),
        Err(_) => std::iter::once(0..text.len()).collect(),
    };
    let script = Script {
        path: "V1__it.sql",
        text,
        version: Some("1"),
        statements,
        in_transaction: true,
        pending: true,
    };
    check(&Sequence {
        engine,
        scripts: vec![script],
        snapshot: None,
        refused: Vec::new(),
        policy: &Policy::default(),
        today: jiff::civil::date(2026, 12, 1),
    })
}

const ENGINES: [&str; 4] = ["postgres:15", "mariadb:10.11", "mysql:8.0", "sqlite"];

/// Pieces of SQL in any order: what random bytes never hit.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "ALTER TABLE ",
        "CREATE TABLE ",
        "CREATE INDEX ",
        "DROP TABLE ",
        "UPDATE ",
        "DELETE FROM ",
        "TRUNCATE ",
        "a",
        "\"b\"",
        "`c`",
        "ß",
        "(",
        ")",
        ",",
        ";",
        ".",
        " ADD ",
        " COLUMN ",
        " CONSTRAINT ",
        " CHECK ",
        " FOREIGN KEY ",
        " REFERENCES ",
        " NOT NULL ",
        " DEFAULT ",
        " SET ",
        " TYPE ",
        " int",
        " WHERE ",
        "'",
        "$$",
        "--",
        "/*",
        "*/",
        "\n",
        "\u{feff}",
        " RENAME TO ",
        " CONCURRENTLY ",
        " ON ",
        "-- freehold:allow ",
        "drop-loses-data until 2027-01-01: x\n",
        " USING ",
        " GENERATED ALWAYS AS ",
        " STORED ",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_gets_an_answer(text in any::<String>()) {
        for engine in ENGINES {
            report(engine, &text);
        }
    }

    #[test]
    fn any_sql_gets_an_answer_with_places_inside(text in pieces()) {
        for engine in ENGINES {
            let report = report(engine, &text);
            let lines = text.lines().count().max(1) + 1;
            for finding in &report.findings {
                let place = finding.place.as_ref().expect("a place in the script");
                prop_assert!(place.line as usize <= lines && place.column >= 1 && place.end_column > place.column);
            }
            render::text(&report, &render::plain);
            render::sarif(&report, "migrations", "0");
            render::github(&report, "migrations");
            render::gitlab(&report, "migrations");
        }
    }

    /// Ranges that a caller got wrong are left out.
    #[test]
    fn any_ranges_get_an_answer(text in "\\PC{0,40}", ranges in prop::collection::vec((0_usize..60, 0_usize..60), 0..6)) {
        let script = Script {
            path: "V1__it.sql",
            text: &text,
            version: None,
            statements: ranges.into_iter().map(|(start, end)| start..end).collect(),
            in_transaction: false,
            pending: true,
        };
        check(&Sequence {
            engine: "postgres".parse().unwrap(),
            scripts: vec![script],
            snapshot: None,
            refused: Vec::new(),
            policy: &Policy::default(),
            today: jiff::civil::date(2026, 12, 1),
        });
    }
}

/// Nothing is nested so deeply that it would end the process.
#[test]
fn deep_nesting_is_unchecked_and_no_crash() {
    for (open, close) in [
        ("(", ")"),
        ("NOT ", ""),
        ("- ", ""),
        ("1 + ", ""),
        ("CASE WHEN ", ""),
        ("a.", ""),
        ("a::", ""),
        ("ARRAY[", "]"),
        ("(SELECT ", ")"),
        ("x[", "]"),
        ("f(", ")"),
        ("a COLLATE b ", ""),
        ("a IS NULL ", ""),
    ] {
        for times in [30, 400, 20_000] {
            let text = format!(
                "CREATE TABLE t (a int CHECK ({}1{}))",
                open.repeat(times),
                close.repeat(times)
            );
            for engine in ENGINES {
                println!("{open:?} {times} times for {engine}");
                report(engine, &text);
            }
        }
    }
    for text in [
        "int[]".repeat(20_000),
        "(".repeat(20_000),
        "a int, ".repeat(20_000),
        "SETOF ".repeat(20_000),
    ] {
        for engine in ENGINES {
            report(engine, &format!("CREATE TABLE t ({text}"));
            report(engine, &format!("ALTER TABLE t ADD COLUMN a {text}"));
        }
    }
}

/// Ten times the text takes about ten times as long; a hundred times would be quadratic.
#[test]
fn time_grows_with_the_text() {
    let text = |times: usize| {
        let mut text = String::new();
        for index in 0..times {
            text.push_str(&format!("ALTER TABLE t{index} ADD COLUMN c int; INSERT INTO t{index} VALUES ('x'); DROP TABLE u{index}; -- note\n"));
        }
        text
    };
    let took = |text: &str| {
        let start = std::time::Instant::now();
        assert!(!report("postgres:15", text).findings.is_empty());
        start.elapsed()
    };
    let (short, long) = (text(400), text(4_000));
    let best = |text: &str| (0..3).map(|_| took(text)).min().unwrap();
    let ratio = best(&long).as_secs_f64() / best(&short).as_secs_f64();
    assert!(
        ratio < 40.0,
        "ten times the text took {ratio:.0} times as long"
    );
}
