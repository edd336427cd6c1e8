//! How a report looks, and that tools can read it.

use freehold_lint::{Report, Snapshot, SnapshotTable, render};

use crate::folder::lint;

fn report() -> Report {
    let scripts = [
        (
            "V2__index.sql",
            "-- who buys what\nCREATE INDEX order_customer_idx\n    ON orders (customer_id);\n",
        ),
        (
            "V3__odd, names: 100%.sql",
            "\tALTER TABLE \"Ördér\" ADD UNIQUE (a), DROP COLUMN b;\n",
        ),
        (
            "V4__allowed.sql",
            "-- freehold:allow drop-loses-data until 2027-01-31: unused since May\nDROP TABLE old;\n",
        ),
    ];
    let snapshot = Snapshot {
        applied: Some("1".to_owned()),
        tables: vec![SnapshotTable {
            name: "orders".to_owned(),
            rows: Some(12_345_678),
            ..SnapshotTable::default()
        }],
    };
    let files: Vec<(String, String)> = scripts
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    lint("postgres:15", &files, Some(&snapshot))
}

#[test]
fn for_people() {
    insta::assert_snapshot!(render::text(&report(), &render::plain));
}

#[test]
fn for_github() {
    insta::assert_snapshot!(render::github(&report(), "./db/migrations/"));
}

#[test]
fn for_gitlab() {
    insta::assert_json_snapshot!(render::gitlab(&report(), "db/migrations"));
}

#[test]
fn for_programs() {
    insta::assert_json_snapshot!(report());
}

/// The parts of SARIF 2.1.0 that its readers insist on.
#[test]
fn sarif_has_the_structure_that_its_readers_demand() {
    let log = render::sarif(&report(), "db/migrations", "1.2.3");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(run["tool"]["driver"]["name"], "freehold lint");
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let location = &result["locations"][0]["physicalLocation"];
        let uri = location["artifactLocation"]["uri"].as_str().unwrap();
        assert!(
            uri.starts_with("db/migrations/V") && !uri.contains([' ', ',', ':']),
            "{uri}"
        );
        let region = &location["region"];
        assert!(region["startLine"].as_u64().unwrap() >= 1);
        assert!(region["endColumn"].as_u64() > region["startColumn"].as_u64());
    }
    assert_eq!(results[3]["suppressions"][0]["kind"], "inSource");
    for rule in rules {
        assert!(rule["shortDescription"]["text"].is_string());
    }
}

/// What a script holds cannot command the runner of GitHub, or a terminal.
#[test]
fn hostile_text_stays_text() {
    let text = "DROP TABLE \"a\n::error::x\u{1b}[2J\";";
    let report = lint(
        "postgres:15",
        &[("V1__a.sql".to_owned(), text.to_owned())],
        None,
    );
    assert_eq!(report.findings.len(), 1);
    let github = render::github(&report, "");
    assert_eq!(github.lines().count(), 1, "{github}");
    let shown = render::text(&report, &render::plain);
    assert!(!shown.contains('\u{1b}'), "{shown}");
}
