//! Files and history laid side by side: states, refusals, and what it costs.

use freehold_migrate::{
    Bundle, HistoryRow, Migrations, PlanOptions, RefusalCode, RowKind, checksum, plan,
};

struct Rows(Vec<HistoryRow>);

impl Rows {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// A row with the next rank, whose script was empty.
    fn row(mut self, kind: &str, version: &str, description: &str, success: bool) -> Self {
        let rank = i32::try_from(self.0.len()).expect("few") + 1;
        self.0.push(HistoryRow {
            installed_rank: rank,
            version: (!version.is_empty()).then(|| version.parse().expect("a version")),
            description: description.to_owned(),
            kind: RowKind::from(kind.to_owned()),
            script: format!("{version}{description}.sql"),
            checksum: (!kind.contains("BASELINE")).then_some(0),
            installed_by: "x".to_owned(),
            installed_on: "2026-01-01 00:00:00".to_owned(),
            execution_time_ms: 1,
            success,
        });
        self
    }

    fn sql(self, version: &str) -> Self {
        self.row("SQL", version, "d", true)
    }
}

/// States as `<version or description> <state>`, pending versions, refusals.
fn planned(
    files: &[&str],
    rows: Rows,
    options: &PlanOptions,
) -> (Vec<String>, Vec<String>, Vec<RefusalCode>) {
    let bundle = Bundle::from_files(files.iter().map(|file| (*file, ""))).expect("a bundle");
    let migrations = Migrations::resolve(&bundle).expect("valid names");
    let mut rows = rows.0;
    // The order in which rows arrive must not matter.
    rows.reverse();
    let plan = plan(&migrations, &mut rows, options);
    (
        plan.status
            .iter()
            .map(|entry| {
                let subject = entry
                    .version
                    .clone()
                    .unwrap_or_else(|| entry.description.clone());
                format!("{subject} {}", entry.state.as_str())
            })
            .collect(),
        plan.pending
            .iter()
            .map(|migration| migration.path.to_owned())
            .collect(),
        plan.refusals.iter().map(|refusal| refusal.code).collect(),
    )
}

fn states(files: &[&str], rows: Rows) -> Vec<String> {
    planned(files, rows, &PlanOptions::default()).0
}

#[test]
fn states_are_flyways() {
    let files = &["V1__d.sql", "V2__d.sql", "V3__d.sql", "R__r.sql"];
    assert_eq!(
        states(files, Rows::new()),
        ["1 Pending", "2 Pending", "3 Pending", "r Pending"]
    );
    assert_eq!(
        states(files, Rows::new().sql("1").row("SQL", "2", "d", false)),
        ["1 Success", "2 Failed", "3 Pending", "r Pending"]
    );
    assert_eq!(
        states(
            files,
            Rows::new().sql("1").sql("3").row("SQL", "", "r", true)
        ),
        ["1 Success", "3 Success", "r Success", "2 Ignored"]
    );
    assert_eq!(
        states(files, Rows::new().sql("1").sql("3").sql("2")),
        ["1 Success", "3 Success", "2 Out of Order", "r Pending"]
    );
    assert_eq!(
        states(
            &["V2__d.sql"],
            Rows::new()
                .sql("1")
                .sql("2")
                .sql("3")
                .row("SQL", "4", "d", false)
        ),
        ["1 Missing", "2 Success", "3 Future", "4 Failed (Future)"]
    );
    assert_eq!(
        states(
            &["V2__d.sql"],
            Rows::new()
                .row("SQL", "1", "d", false)
                .row("SQL", "", "gone", true)
        ),
        ["1 Failed (Missing)", "gone Missing", "2 Pending"]
    );
    assert_eq!(
        states(
            &["R__r.sql"],
            Rows::new()
                .row("SQL", "", "r", true)
                .row("SQL", "", "r", true)
        ),
        ["r Superseded", "r Success"]
    );
    assert_eq!(
        states(
            &["V1__d.sql"],
            Rows::new().row("SCHEMA", "", "<< Flyway Schema Creation >>", true)
        ),
        ["<< Flyway Schema Creation >> Success", "1 Pending"]
    );
}

#[test]
fn nothing_at_or_below_a_baseline_runs_or_is_compared() {
    let files = &["V1__d.sql", "V2__other.sql", "V3__d.sql"];
    for kind in ["BASELINE", "SQL_BASELINE", "SQL_STATE_SCRIPT"] {
        let rows = Rows::new().row(kind, "2.0", "<< Flyway Baseline >>", true);
        let (states, pending, refusals) = planned(files, rows, &PlanOptions::default());
        assert_eq!(
            (pending, refusals),
            (vec!["V3__d.sql".to_owned()], vec![]),
            "{kind}"
        );
        assert_eq!(
            (states[0].as_str(), states[2].as_str()),
            ("1 Below Baseline", "3 Pending")
        );
    }
    let failed = Rows::new().row("BASELINE", "1", "b", false);
    let (_, _, refusals) = planned(files, failed, &PlanOptions::default());
    assert_eq!(refusals[0], RefusalCode::FailedBaselineMigration);
}

#[test]
fn deleted_and_undone_migrations_are_pending_again() {
    let files = &["V1__d.sql", "V2__d.sql", "R__r.sql"];
    let rows = Rows::new()
        .sql("1")
        .sql("2")
        .row("SQL", "", "r", true)
        .row("DELETE", "1", "d", true)
        .row("UNDO_SQL", "2", "d", true)
        .row("DELETE", "", "r", true);
    let (states, pending, refusals) = planned(files, rows, &PlanOptions::default());
    assert_eq!(states[..3], ["1 Deleted", "2 Undone", "r Deleted"]);
    assert_eq!(pending, files);
    assert_eq!(refusals, []);
    let redone = Rows::new()
        .sql("1")
        .row("UNDO_SQL", "1", "d", true)
        .sql("1");
    assert_eq!(
        states_of(&["V1__d.sql"], redone),
        ["1 Undone", "1 Success", "1 Success"]
    );
    let twice = Rows::new()
        .sql("1")
        .row("DELETE", "1", "d", true)
        .row("DELETE", "1", "d", true);
    assert_eq!(
        planned(&["V1__d.sql"], twice, &PlanOptions::default()).2,
        [RefusalCode::InvalidHistory]
    );
}

fn states_of(files: &[&str], rows: Rows) -> Vec<String> {
    states(files, rows)
}

#[test]
fn a_target_stops_the_versions_above_it() {
    let options = PlanOptions {
        target: Some("2".parse().expect("a version")),
        ..PlanOptions::default()
    };
    let (states, pending, refusals) = planned(
        &["V1__d.sql", "V2.0__d.sql", "V3__d.sql", "R__r.sql"],
        Rows::new(),
        &options,
    );
    assert_eq!(
        states,
        ["1 Pending", "2.0 Pending", "3 Above Target", "r Pending"]
    );
    assert_eq!(pending, ["V1__d.sql", "V2.0__d.sql", "R__r.sql"]);
    assert_eq!(refusals, []);
}

#[test]
fn versions_pair_as_numbers_and_old_checksums_are_recognised() {
    let rows = Rows::new().sql("001").sql("2.0");
    assert_eq!(
        states(&["V1.0__d.sql", "V2__d.sql"], rows),
        ["001 Success", "2.0 Success"]
    );
    // Lock rows of other engines have a negative rank.
    let mut rows = Rows::new().row("SQL", "", "flyway-lock", true);
    rows.0[0].installed_rank = -100;
    assert_eq!(states(&["V1__d.sql"], rows), ["1 Pending"]);

    let text = "alter table location_history add column valid_until timestamp with time zone;";
    let bundle = Bundle::from_files([("V1__d.sql", text)]).expect("a bundle");
    let migrations = Migrations::resolve(&bundle).expect("valid names");
    for (applied, advice) in [
        (-1_340_212_107, "old version of Flyway"),
        (7, "new migration"),
    ] {
        let mut rows = Rows::new().sql("1").0;
        rows[0].checksum = Some(applied);
        let plan = plan(&migrations, &mut rows, &PlanOptions::default());
        assert_eq!(plan.refusals[0].code, RefusalCode::ChecksumMismatch);
        assert!(
            plan.refusals[0].advice.contains(advice),
            "{:?}",
            plan.refusals[0]
        );
        assert!(
            plan.refusals[0]
                .reason
                .contains(&checksum(text).to_string())
        );
    }
}

/// Flyway takes more than 50 s for 4,400 scripts (flyway#4278). The bound is wide, because this is no
/// benchmark: what grows with the square does not stay below it.
#[test]
fn five_thousand_files_against_ten_thousand_rows_take_no_time() {
    let files: Vec<(String, String)> = (1..=5000)
        .map(|n| (format!("V{n}__d.sql"), String::new()))
        .collect();
    let bundle = Bundle::from_files(files).expect("a bundle");
    let mut rows = Rows::new();
    for n in 1..=4900 {
        rows = rows.sql(&n.to_string());
    }
    for n in 0..5100 {
        rows = rows.row("SQL", "", &format!("r{}", n % 100), true);
    }
    let started = std::time::Instant::now();
    let migrations = Migrations::resolve(&bundle).expect("valid names");
    let plan = plan(&migrations, &mut rows.0, &PlanOptions::default());
    let elapsed = started.elapsed();
    assert_eq!(plan.pending.len(), 100);
    assert_eq!(plan.status.len(), 10_100);
    assert!(elapsed.as_millis() < 1000, "{elapsed:?}");
}
