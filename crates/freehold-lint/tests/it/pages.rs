//! Each rule's page holds an example that is found and one that is not, and both are tried here. A page:
//! `## Found` with a block of SQL, `## Instead` with another. A line `-- V2__name.sql` begins a file,
//! `-- V2__name.sql executeInTransaction=false` one with settings; `-- engine: mysql:8.0`, `-- applied: 1`
//! and `-- rows: orders 5000000` say what the scripts meet.

use std::path::PathBuf;

use freehold_lint::{RULES, Report, Snapshot, SnapshotTable};

use crate::folder::{lint_after, rules};

/// Rules about names of files and about what the runner refuses: the caller of the gates finds those.
const OF_THE_CALLER: &[&str] = &["file-name", "version-duplicate"];

fn page(rule: &str) -> String {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/rules/{rule}.md"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn block(page: &str, heading: &str) -> Option<String> {
    let after = page.split_once(&format!("\n## {heading}\n"))?.1;
    let section = after.split("\n## ").next()?;
    let (_, after) = section.split_once("```sql\n")?;
    Some(after.split_once("```")?.0.to_owned())
}

fn run(example: &str) -> Report {
    let mut engine = "postgres:15".to_owned();
    let mut applied = None;
    let mut snapshot = Snapshot::default();
    let mut files: Vec<(String, String)> = Vec::new();
    for line in example.lines() {
        let comment = line.strip_prefix("-- ").unwrap_or_default();
        if let Some(named) = comment.strip_prefix("engine: ") {
            engine = named.to_owned();
        } else if let Some(version) = comment.strip_prefix("applied: ") {
            applied = Some(version.to_owned());
        } else if let Some((table, rows)) = comment
            .strip_prefix("rows: ")
            .and_then(|rest| rest.split_once(' '))
        {
            snapshot.tables.push(SnapshotTable {
                name: table.to_owned(),
                rows: Some(rows.parse().unwrap()),
                ..SnapshotTable::default()
            });
        } else if comment
            .split(' ')
            .next()
            .is_some_and(|word| word.ends_with(".sql"))
        {
            let (name, settings) = comment.split_once(' ').unwrap_or((comment, ""));
            if !settings.is_empty() {
                files.push((format!("{name}.conf"), format!("{settings}\n")));
            }
            files.push((name.to_owned(), String::new()));
        } else {
            let (_, text) = files
                .last_mut()
                .unwrap_or_else(|| panic!("no file before {line:?}"));
            text.push_str(line);
            text.push('\n');
        }
    }
    lint_after(&engine, &files, Some(&snapshot), applied.as_deref())
}

#[test]
fn every_rule_has_a_page_whose_examples_are_true() {
    let mut wrong = Vec::new();
    for rule in RULES {
        let page = page(rule.id);
        assert!(page.starts_with(&format!("# {}\n", rule.id)), "{}", rule.id);
        assert!(
            page.contains(rule.why),
            "{}: its page gives another reason",
            rule.id
        );
        if OF_THE_CALLER.contains(&rule.id) {
            continue;
        }
        let found =
            run(&block(&page, "Found").unwrap_or_else(|| panic!("{}: no example", rule.id)));
        if rules(&found) != [rule.id] {
            wrong.push(format!("{}: found {:#?}", rule.id, found.findings));
        }
        let instead =
            run(&block(&page, "Instead").unwrap_or_else(|| panic!("{}: no way out", rule.id)));
        if !rules(&instead).is_empty() {
            wrong.push(format!("{}: instead {:#?}", rule.id, instead.findings));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a finding itself proposes is no worse than what the page proposes.
#[test]
fn what_a_finding_proposes_is_not_found_again() {
    let mut wrong = Vec::new();
    for rule in RULES
        .iter()
        .filter(|rule| !OF_THE_CALLER.contains(&rule.id))
    {
        let example = block(&page(rule.id), "Found").unwrap();
        let surroundings: Vec<&str> = example
            .lines()
            .filter(|line| {
                ["-- engine: ", "-- rows: "]
                    .iter()
                    .any(|known| line.starts_with(known))
            })
            .collect();
        for finding in run(&example)
            .findings
            .iter()
            .filter(|finding| !finding.instead.is_empty())
        {
            let mut proposed = surroundings.join("\n");
            for (index, script) in finding.instead.iter().enumerate() {
                let settings = if script.starts_with("PRAGMA") {
                    " executeInTransaction=false"
                } else {
                    ""
                };
                proposed.push_str(&format!(
                    "\n-- V{}__step.sql{settings}\n{script}\n",
                    index + 1
                ));
            }
            let again = run(proposed.trim_start());
            if !again.findings.is_empty() {
                wrong.push(format!("{}: {proposed}\n{:#?}", rule.id, again.findings));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_page_is_without_its_rule() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let id = name.strip_suffix(".md").expect("pages only");
        assert!(
            id == "README" || freehold_lint::rule(id).is_some(),
            "{name}"
        );
    }
}

/// The files that the documentation shows are files that are read.
#[test]
fn the_documented_snapshot_and_configuration_are_read() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/lint.md");
    let page = std::fs::read_to_string(path).unwrap();
    let block = |kind: &str| {
        let (_, after) = page.split_once(&format!("```{kind}\n")).unwrap();
        after.split_once("```").unwrap().0
    };
    let snapshot: Snapshot = serde_json::from_str(block("json")).unwrap();
    assert_eq!(snapshot.tables.len(), 2);
    assert_eq!(
        serde_json::from_value::<Snapshot>(serde_json::to_value(&snapshot).unwrap()).unwrap(),
        snapshot
    );
    let policy: freehold_lint::Policy = toml::from_str(block("toml")).unwrap();
    assert!(policy.unknown_rules().is_empty());
}
