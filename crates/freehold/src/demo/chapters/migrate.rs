//! A real application's schema, and a script with a mistake.

use std::fs;

use super::super::schema::{self, Scripts};
use super::super::{Chapter, Result, Step, checks::Checks, programs, stage::Stage};
use super::people::{as_collector, mona};

pub(super) const CHAPTER: Chapter = Chapter {
    name: "migrate",
    needs: &[programs::PSQL],
    steps: &[MIGRATE, CORRECT],
};

const MIGRATE: Step = Step {
    title: "Migrate a real application's schema",
    meaning: "The folder is packed and uploaded, then a runner process that holds one credential for one database runs it, each script in one transaction with its history row.",
    run: migrate,
};

const CORRECT: Step = Step {
    title: "Fail in a script, correct it, go on",
    meaning: "A failing statement is shown with file, line and the server's words; its script leaves nothing behind, so it can be corrected and run again.",
    run: correct,
};

const APPLY: &[&str] = &["migrate", "apply", "monitor"];

fn migrate(stage: &mut Stage, checks: &mut Checks) -> Result {
    mona(stage);
    schema::prepare(stage)?;
    let scripts = schema::prepared(stage);
    show_folder(stage)?;
    stage.follow(APPLY)?.well()?;
    let status = stage
        .freehold(&["migrate", "status", "monitor"])?
        .show()
        .well()?;
    checks.that(
        "the history says that every script ran",
        status.stdout.contains("Success") && !status.stdout.contains("Pending"),
    );
    let folder = schema::folder(stage);
    let created = schema::lines_with(&folder, "CREATE TABLE ")?;
    let tables = count(
        stage,
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'flyway%'",
    )?;
    checks.equal(
        &format!("{created} tables, as many as the scripts create"),
        &tables,
        &created,
    );
    checks.that("a schema of 30 tables or more", tables >= 30);
    let table = scripts.table;
    let rows = count(stage, &format!("SELECT count(*) FROM {table}"))?;
    match scripts.insert {
        Some(insert) => checks.equal(
            &format!("{rows} rows in {table}, as many as the scripts insert"),
            &rows,
            &schema::lines_with(&folder, insert)?,
        ),
        None => checks.that(&format!("{rows} rows in {table}"), rows > 0),
    }
    Ok(())
}

fn correct(stage: &mut Stage, checks: &mut Checks) -> Result {
    mona(stage);
    let scripts = schema::prepared(stage);
    let folder = schema::folder(stage);
    scripts.ours.write_into(&folder)?;
    let line = break_it(stage, scripts)?;
    let failed = stage.follow(APPLY)?;
    checks.equal("the command fails with status 1", &failed.code, &Some(1));
    checks.contains(
        "file and line of the mistake are named",
        &failed.stderr,
        &format!("{}:{line}:", scripts.mistaken),
    );
    checks.contains(
        "the server's own message is passed on",
        &failed.stderr,
        "does not exist",
    );
    let left = as_collector(stage, "SELECT to_regclass('ownership') IS NULL")?
        .show()
        .well()?;
    checks.equal(
        "the statement before it was rolled back with it: no such table",
        &left.stdout.trim(),
        &"t",
    );

    scripts.ours.write_into(&folder)?;
    stage.say(&format!(
        "   mona$ sed -i 's/{}/{}/' migrations/{}",
        scripts.slip.1, scripts.slip.0, scripts.mistaken
    ));
    stage.follow(APPLY)?.well()?;
    let status = stage
        .freehold(&["migrate", "status", "monitor"])?
        .show()
        .well()?;
    checks.that(
        "corrected, it runs, and so do those after it",
        !status.stdout.contains("Pending") && !status.stdout.contains("Failed"),
    );
    let owned = count(stage, "SELECT count(*) FROM owned")?;
    checks.that("the repeatable script made its view, with rows", owned > 0);
    Ok(())
}

/// Puts the mistake in and returns the line it stands in.
fn break_it(stage: &Stage, scripts: &Scripts) -> Result<usize> {
    let path = stage.path().join("migrations").join(scripts.mistaken);
    let right = fs::read_to_string(&path).map_err(|error| format!("cannot read it: {error}"))?;
    let (good, bad) = scripts.slip;
    let wrong = right.replace(good, bad);
    let line = (1..)
        .zip(right.lines().zip(wrong.lines()))
        .find(|(_, (before, after))| before != after)
        .map(|(line, _)| line)
        .ok_or("the script lacks the word to get wrong")?;
    fs::write(&path, &wrong).map_err(|error| format!("cannot write it: {error}"))?;
    stage.say(&format!("   mona$ cat migrations/{}", scripts.mistaken));
    stage.voice().indented(wrong.lines());
    Ok(line)
}

fn show_folder(stage: &Stage) -> Result {
    let entries = fs::read_dir(stage.path().join("migrations"))
        .map_err(|error| format!("cannot read the scripts: {error}"))?;
    let mut files: Vec<(String, u64)> = entries
        .flatten()
        .filter_map(|entry| {
            let size = entry.metadata().ok()?.len();
            Some((entry.file_name().to_string_lossy().into_owned(), size))
        })
        .collect();
    files.sort();
    for (name, size) in files {
        let kib = size.div_ceil(1024);
        stage.say(&format!("       migrations/{name:<20} {kib:>6} KiB"));
    }
    Ok(())
}

fn count(stage: &Stage, statement: &str) -> Result<usize> {
    let ended = as_collector(stage, statement)?.show().well()?;
    let text = ended.stdout.trim();
    text.parse()
        .map_err(|_| format!("this is no number: {text}"))
}
