//! Projects as Flyway knows them, with settings, placeholders, callbacks and baselines, on every engine.

use freehold_migrate::{
    Bundle, Migrator, RefusalCode, RunFailure, RunOptions, RunReport, Settings, SettingsFile,
};

use super::Site;
use crate::running::{refusals, statement};

on_every_engine!(
    a_project_runs_by_its_settings_as_it_stands,
    callbacks_run_at_their_moments_and_leave_no_row,
    what_a_callback_before_a_script_refuses_takes_the_script_with_it,
    a_schema_that_is_there_is_taken_for_the_baseline,
    an_empty_schema_begins_at_the_highest_baseline,
    a_placeholder_without_a_value_stops_everything,
    what_the_project_ignores_is_overlooked,
);

fn settings(toml: &str) -> Settings {
    SettingsFile::parse("flyway.toml", toml)
        .expect("valid settings")
        .settings
}

async fn run<S: Site>(
    site: &S,
    settings: &Settings,
    files: &[(&str, &str)],
) -> Result<RunReport, RunFailure> {
    let bundle = Bundle::from_files_with(S::DIALECT, settings.clone(), files.iter().copied());
    let mut session = site.session().await;
    Migrator::new(S::DIALECT, &mut session, RunOptions::default())
        .run(&bundle.expect("a bundle"), &mut |_| {})
        .await
}

async fn a_project_runs_by_its_settings_as_it_stands<S: Site>() {
    let site = S::new();
    let named = |label: &str| {
        settings(&format!(
            "[flyway]\noutOfOrder = true\n[flyway.placeholders]\ntable = \"item\"\nlabel = \"{label}\""
        ))
    };
    let table = "CREATE TABLE ${table} (label VARCHAR(40));";
    let mut files = vec![
        ("V1__table.sql", table),
        (
            "V3__later.sql",
            "INSERT INTO ${TABLE} VALUES ('${flyway:filename}')",
        ),
        ("R__label.sql", "INSERT INTO item VALUES ('${label}')"),
        ("notes.sql", "a file that Flyway leaves alone"),
    ];
    run(&site, &named("z''b"), &files).await.expect("runs");
    let labels = "SELECT label FROM item ORDER BY label";
    assert_eq!(site.rows(labels).await, "V3__later.sql\nz'b");
    let first = format!(
        "1|1|table|SQL|V1__table.sql|{}|yes",
        freehold_migrate::checksum(table)
    );
    assert!(
        site.history().await.starts_with(&first),
        "the raw text counts"
    );

    let again = run(&site, &named("z''b"), &files).await.expect("runs");
    assert_eq!(again.applied.len(), 0);
    // Another value is another text for a repeatable script, and the same one for a versioned script.
    files.push(("V2__between.sql", "INSERT INTO item VALUES ('between')"));
    let other = run(&site, &named("zz"), &files).await.expect("runs");
    let ran: Vec<&str> = other.applied.iter().map(|ran| ran.file.as_str()).collect();
    assert_eq!(ran, ["V2__between.sql", "R__label.sql"]);
}

async fn callbacks_run_at_their_moments_and_leave_no_row<S: Site>() {
    let site = S::new();
    site.execute("CREATE TABLE told (n INT, what VARCHAR(40))")
        .await;
    let tell = |what: &str| format!("INSERT INTO told SELECT COUNT(*), '{what}' FROM told");
    let events = [
        "beforeValidate",
        "afterValidate",
        "beforeMigrate",
        "beforeEachMigrate",
        "afterEachMigrate",
        "afterVersioned",
        "beforeRepeatables",
        "afterMigrateApplied",
        "afterMigrate",
        "afterMigrateError",
        "beforeClean",
    ];
    let mut files: Vec<(String, String)> = events
        .iter()
        .map(|event| (format!("{event}__tell.sql"), tell(event)))
        .collect();
    files.push(("V2__data.sql".into(), tell("V2")));
    files.push((
        "V3__table.sql".into(),
        format!("CREATE TABLE t (n INT); {}", tell("V3")),
    ));
    files.push(("R__again.sql".into(), tell("R")));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let existing = settings("[flyway]\nbaselineOnMigrate = true");
    run(&site, &existing, &files).await.expect("runs");
    let each = |script: &str| format!("beforeEachMigrate {script} afterEachMigrate");
    let told = "SELECT what FROM told ORDER BY n";
    let first = site.rows(told).await.replace('\n', " ");
    assert_eq!(
        first,
        format!(
            "beforeValidate afterValidate beforeMigrate {} {} afterVersioned beforeRepeatables {} \
             afterMigrateApplied afterMigrate",
            each("V2"),
            each("V3"),
            each("R")
        )
    );
    assert_eq!(
        site.rows("SELECT COUNT(*) FROM flyway_schema_history")
            .await,
        "4"
    );
    // A run that has nothing to do.
    site.execute("DELETE FROM told").await;
    run(&site, &existing, &files).await.expect("runs");
    assert_eq!(
        site.rows(told).await.replace('\n', " "),
        "beforeValidate afterValidate beforeMigrate afterMigrate"
    );
    // One that fails.
    site.execute("DELETE FROM told").await;
    let mut failing = files.clone();
    failing.push(("V4__bad.sql", "INSERT INTO nowhere VALUES (1)"));
    statement(run(&site, &existing, &failing).await);
    let after = site.rows(told).await;
    assert!(after.ends_with("afterMigrateError"), "{after}");
}

async fn what_a_callback_before_a_script_refuses_takes_the_script_with_it<S: Site>() {
    let site = S::new();
    let files = [
        ("V1__t.sql", "CREATE TABLE t (n INT)"),
        ("V2__data.sql", "INSERT INTO t VALUES (2)"),
    ];
    let plain = Settings::default();
    run(&site, &plain, &files[..1]).await.expect("runs");
    let guarded = [
        files[0],
        files[1],
        (
            "afterEachMigrate__check.sql",
            "-- a check\nINSERT INTO nowhere VALUES (1)",
        ),
    ];
    let failure = statement(run(&site, &plain, &guarded).await);
    assert_eq!(
        (failure.file.as_str(), failure.line),
        ("afterEachMigrate__check.sql", Some(2))
    );
    assert!(failure.rolled_back, "{failure:?}");
    assert_eq!(site.rows("SELECT COUNT(*) FROM t").await, "0");
    assert_eq!(
        site.rows("SELECT COUNT(*) FROM flyway_schema_history")
            .await,
        "1"
    );
    run(&site, &plain, &files).await.expect("runs without it");
}

async fn a_schema_that_is_there_is_taken_for_the_baseline<S: Site>() {
    let site = S::new();
    site.execute("CREATE TABLE legacy (n INT)").await;
    let files = [
        ("V1__legacy.sql", "CREATE TABLE legacy (n INT)"),
        ("V1.5__also.sql", "CREATE TABLE also_there (n INT)"),
        ("V2__new.sql", "CREATE TABLE new_one (n INT)"),
    ];
    assert_eq!(
        refusals(run(&site, &Settings::default(), &files).await)[0].0,
        RefusalCode::NonEmptySchemaWithoutSchemaHistoryTable
    );
    let existing = settings("[flyway]\nbaselineOnMigrate = true\nbaselineVersion = \"1.5\"");
    run(&site, &existing, &files).await.expect("runs");
    assert_eq!(site.tables().await, "legacy,new_one");
    let history = site.history().await;
    let first = "1|1.5|<< Flyway Baseline >>|BASELINE|<< Flyway Baseline >>||yes\n2|2|new|SQL|";
    assert!(history.starts_with(first), "{history}");
    // Without the setting the history is one like any other.
    let again = run(&site, &Settings::default(), &files)
        .await
        .expect("runs");
    assert_eq!(again.applied.len(), 0);
}

async fn an_empty_schema_begins_at_the_highest_baseline<S: Site>() {
    let files = [
        ("V1__a.sql", "CREATE TABLE a (n INT)"),
        ("V2__b.sql", "CREATE TABLE b (n INT)"),
        ("V3__c.sql", "CREATE TABLE c (n INT)"),
        ("B1__a.sql", "CREATE TABLE wrong (n INT)"),
        (
            "B2__a_and_b.sql",
            "CREATE TABLE a (n INT); CREATE TABLE b (n INT);",
        ),
    ];
    let site = S::new();
    let report = run(&site, &Settings::default(), &files)
        .await
        .expect("runs");
    let ran: Vec<&str> = report.applied.iter().map(|ran| ran.file.as_str()).collect();
    assert_eq!(ran, ["B2__a_and_b.sql", "V3__c.sql"]);
    assert_eq!(site.tables().await, "a,b,c");
    let kinds = "SELECT version, type FROM flyway_schema_history ORDER BY installed_rank";
    assert_eq!(site.rows(kinds).await, "2|SQL_BASELINE\n3|SQL");
    let again = run(&site, &Settings::default(), &files)
        .await
        .expect("runs");
    assert_eq!(again.applied.len(), 0);
    // A database that has a history goes on with it.
    let older = S::new();
    run(&older, &Settings::default(), &files[..1])
        .await
        .expect("runs");
    let report = run(&older, &Settings::default(), &files)
        .await
        .expect("runs");
    let ran: Vec<&str> = report.applied.iter().map(|ran| ran.file.as_str()).collect();
    assert_eq!(ran, ["V2__b.sql", "V3__c.sql"]);
}

async fn a_placeholder_without_a_value_stops_everything<S: Site>() {
    let site = S::new();
    let files = [
        ("V1__t.sql", "CREATE TABLE t (n INT)"),
        ("V2__x.sql", "INSERT INTO t\nVALUES (${nobody})"),
    ];
    let RunFailure::Refused { refusals } = run(&site, &Settings::default(), &files)
        .await
        .expect_err("refused")
    else {
        panic!("not refused");
    };
    assert_eq!(
        (refusals[0].code, refusals[0].line, refusals[0].column),
        (RefusalCode::Placeholder, Some(2), Some(9))
    );
    assert_eq!(site.tables().await, "");
}

async fn what_the_project_ignores_is_overlooked<S: Site>() {
    let site = S::new();
    let files = [
        ("V1__a.sql", "CREATE TABLE a (n INT)"),
        ("V2__b.sql", "CREATE TABLE b (n INT)"),
    ];
    run(&site, &Settings::default(), &files)
        .await
        .expect("runs");
    assert_eq!(
        refusals(run(&site, &Settings::default(), &files[1..]).await)[0].0,
        RefusalCode::AppliedVersionedMigrationNotResolved
    );
    let lenient = settings("[flyway]\nignoreMigrationPatterns = [\"versioned:missing\"]");
    run(&site, &lenient, &files[1..]).await.expect("overlooked");
    // And what Flyway overlooks by itself is refused where the project says so.
    let strict = settings("[flyway]\nignoreMigrationPatterns = [\"*:missing\"]");
    assert_eq!(
        refusals(run(&site, &strict, &files[..1]).await)[0].0,
        RefusalCode::AppliedVersionedMigrationNotResolved
    );
}
