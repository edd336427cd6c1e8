//! Scripts from texts or folders, cut as the runner cuts them.

use std::path::Path;

use freehold_lint::{
    Engine, Place, Policy, Product, Refusal, Refused, Report, Script, Sequence, Snapshot, check,
};
use freehold_migrate::{Bundle, Dialect, Migrations, Mode};

pub(crate) fn dialect(engine: &Engine) -> Dialect {
    match engine.product {
        Product::Postgres => Dialect::Postgresql,
        Product::Mariadb | Product::Mysql => Dialect::Mysql,
        Product::Sqlite => Dialect::Sqlite,
    }
}

/// What the gates say about files, all of them pending.
pub(crate) fn lint(
    engine: &str,
    files: &[(String, String)],
    snapshot: Option<&Snapshot>,
) -> Report {
    lint_after(engine, files, snapshot, None)
}

/// The same, where the scripts up to a version have run.
pub(crate) fn lint_after(
    engine: &str,
    files: &[(String, String)],
    snapshot: Option<&Snapshot>,
    applied: Option<&str>,
) -> Report {
    let engine: Engine = engine.parse().unwrap();
    let files = files
        .iter()
        .map(|(path, text)| (path.clone(), text.as_bytes().to_vec()));
    let bundle =
        Bundle::from_files_for(dialect(&engine), files).expect("names that are migrations'");
    let migrations = Migrations::resolve(&bundle).expect("no duplicates");
    let applied: Option<freehold_migrate::Version> =
        applied.map(|version| version.parse().unwrap());
    let mut refused = Vec::new();
    let scripts: Vec<Script<'_>> = migrations
        .all()
        .map(|migration| {
            let text = std::str::from_utf8(bundle.file(migration.path).unwrap()).unwrap();
            let pending = migration
                .version()
                .is_none_or(|version| applied.as_ref().is_none_or(|applied| version > applied));
            let (statements, in_transaction) = match migration.script() {
                Ok(script) => {
                    let ranges = script
                        .statements
                        .iter()
                        .map(freehold_migrate::Statement::range);
                    (ranges.collect(), script.mode != Mode::Bare)
                }
                Err(refusals) => {
                    refused.extend(refusals.into_iter().map(|refusal| Refused {
                        what: Refusal::Script,
                        file: migration.path.to_owned(),
                        place: refusal.line.map(|line| Place {
                            line,
                            column: 1,
                            end_line: line,
                            end_column: 2,
                            excerpt: String::new(),
                        }),
                        reason: refusal.reason,
                        advice: refusal.advice,
                    }));
                    let statements =
                        freehold_migrate::split(migration.dialect, text).unwrap_or_default();
                    (
                        statements
                            .iter()
                            .map(freehold_migrate::Statement::range)
                            .collect(),
                        true,
                    )
                }
            };
            Script {
                path: migration.path,
                text,
                version: migration.version().map(freehold_migrate::Version::as_str),
                statements,
                in_transaction,
                pending,
            }
        })
        .collect();
    check(&Sequence {
        engine,
        scripts,
        snapshot,
        refused,
        policy: &Policy::default(),
        today: jiff::civil::date(2026, 12, 1),
    })
}

/// One script alone.
pub(crate) fn script(engine: &str, text: &str) -> Report {
    lint(engine, &[("V1__it.sql".to_owned(), text.to_owned())], None)
}

pub(crate) fn rules(report: &Report) -> Vec<&str> {
    report
        .findings
        .iter()
        .map(|finding| finding.rule.as_str())
        .collect()
}

/// The scripts of a folder of this repository.
pub(crate) fn read(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(folder);
    let mut files: Vec<(String, String)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "sql")
        })
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}
