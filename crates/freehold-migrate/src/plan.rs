//! From files and history to what runs next, or why nothing does. Pure.

use crate::{
    HistoryRow, Migration, Migrations, PlanOptions, Refusal, RefusalCode, RowKind, State,
    StatusEntry, Version, checksum,
    state::{Entry, Survey, checksum_matches, survey},
};

/// What would happen.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// In the order in which they run.
    pub pending: Vec<&'a Migration<'a>>,
    /// Everything that forbids running. Where there is one, nothing runs.
    pub refusals: Vec<Refusal>,
    /// All files and rows, with their states.
    pub status: Vec<StatusEntry>,
    /// Rank of the newest row, 0 without rows.
    pub last_rank: i32,
}

/// Compares files and history. Rows may come in any order.
pub fn plan<'a>(
    migrations: &'a Migrations<'a>,
    rows: &'a mut Vec<HistoryRow>,
    options: &PlanOptions,
) -> Plan<'a> {
    // Other engines keep their lock in a row with a negative rank.
    rows.retain(|row| row.installed_rank >= 0);
    rows.sort_by_key(|row| row.installed_rank);
    let rows: &'a [HistoryRow] = rows;
    let survey = survey(migrations, rows, options);
    Plan {
        pending: survey
            .entries
            .iter()
            .filter(|entry| entry.state == State::Pending)
            .filter_map(|entry| entry.migration)
            .collect(),
        refusals: validate(&survey, options),
        status: survey.entries.iter().map(StatusEntry::from).collect(),
        last_rank: rows.last().map_or(0, |row| row.installed_rank),
    }
}

fn validate(survey: &Survey<'_>, options: &PlanOptions) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = survey
        .corrupted
        .iter()
        .map(|row| {
            Refusal::new(
                RefusalCode::InvalidHistory,
                format!(
                    "the history deletes {} twice (rank {})",
                    subject(row),
                    row.installed_rank
                ),
                "Look at the DELETE rows of the history table and remove the surplus one.",
            )
            .of_version(row.version.as_ref().map(Version::as_str))
        })
        .collect();
    for entry in &survey.entries {
        refusals.extend(entry.row.and_then(unknown_kind));
        let is_repeatable = match (entry.row, entry.migration) {
            (Some(row), _) => row.version.is_none(),
            (None, migration) => migration.is_some_and(Migration::is_repeatable),
        };
        let ignored = options
            .ignore
            .iter()
            .any(|pattern| pattern.matches(is_repeatable, entry.state));
        if !ignored {
            refusals.extend(judge(entry, survey));
        }
    }
    refusals
}

fn unknown_kind(row: &HistoryRow) -> Option<Refusal> {
    let RowKind::Unknown(kind) = &row.kind else {
        return None;
    };
    Some(Refusal::new(
        RefusalCode::InvalidHistory,
        format!(
            "row {} of the history has the type {kind:?}, which Flyway does not know either",
            row.installed_rank
        ),
        "Find out what wrote it. Flyway refuses such a history, and so does Freehold.",
    ))
}

fn judge(entry: &Entry<'_>, survey: &Survey<'_>) -> Option<Refusal> {
    match entry.state {
        State::Failed | State::FailedMissing | State::FailedFuture => Some(failed(entry)),
        State::Missing | State::Future => Some(missing(entry)),
        State::Ignored => Some(ignored(entry, survey)),
        State::Success | State::OutOfOrder | State::Outdated | State::Superseded => {
            mismatch(entry, survey)
        }
        _ => None,
    }
}

fn failed(entry: &Entry<'_>) -> Refusal {
    let is_baseline = entry.row.is_some_and(|row| row.kind.is_baseline());
    let is_versioned = entry.row.is_some_and(|row| row.version.is_some());
    let code = match (is_baseline, is_versioned) {
        (true, _) => RefusalCode::FailedBaselineMigration,
        (false, true) => RefusalCode::FailedVersionedMigration,
        (false, false) => RefusalCode::FailedRepeatableMigration,
    };
    about(
        entry,
        code,
        "its last run failed outside a transaction, so part of it may have happened".to_owned(),
        "Undo by hand what it left behind, then delete its row with success = false from the history table (or run flyway repair), and run again.",
    )
}

fn missing(entry: &Entry<'_>) -> Refusal {
    let is_versioned = entry.row.is_some_and(|row| row.version.is_some());
    let code = if is_versioned {
        RefusalCode::AppliedVersionedMigrationNotResolved
    } else {
        RefusalCode::AppliedRepeatableMigrationNotResolved
    };
    about(
        entry,
        code,
        "the database has it and the folder does not".to_owned(),
        "Put the file back as it was applied. If it is gone for good, flyway repair marks it as deleted.",
    )
}

fn ignored(entry: &Entry<'_>, survey: &Survey<'_>) -> Refusal {
    let highest = survey
        .highest_applied
        .map(ToString::to_string)
        .unwrap_or_default();
    about(
        entry,
        RefusalCode::ResolvedVersionedMigrationNotApplied,
        format!("it was never run, and the higher version {highest} was"),
        "Give the file a version above the highest one, or allow it to run out of order.",
    )
}

/// What the history says about an applied migration must fit its file, above the baseline.
fn mismatch(entry: &Entry<'_>, survey: &Survey<'_>) -> Option<Refusal> {
    let (row, migration) = (entry.row?, entry.migration?);
    let is_below = row
        .version
        .as_ref()
        .is_some_and(|version| survey.baseline.is_some_and(|baseline| version <= baseline));
    if is_below || row.kind.is_undo() || row.kind == RowKind::Delete {
        return None;
    }
    if row.kind != RowKind::Sql {
        return Some(about(
            entry,
            RefusalCode::TypeMismatch,
            format!("it was applied as {}, and the file is SQL", row.kind),
            "Put back the migration that was applied; Freehold runs SQL files only.",
        ));
    }
    if !migration.is_repeatable() && !checksum_matches(migration, row) {
        return Some(changed(entry, migration, row));
    }
    let expected = migration.name.stored_description();
    let stored = match row.description.as_str() {
        "<< no description >>" => "",
        stored => stored,
    };
    (stored != expected).then(|| {
        about(
            entry,
            RefusalCode::DescriptionMismatch,
            format!("it was applied as {stored:?}, and the file says {expected:?}"),
            "Give the file its old name back, or run flyway repair.",
        )
    })
}

fn changed(entry: &Entry<'_>, migration: &Migration<'_>, row: &HistoryRow) -> Refusal {
    let applied = row
        .checksum
        .map_or_else(|| "none".to_owned(), |sum| sum.to_string());
    let advice = if row.checksum == Some(checksum::with_line_feeds(migration.raw())) {
        "The file is unchanged: an old version of Flyway counted line feeds too. Run flyway repair once to store today's checksum."
    } else {
        "Put the file back as it was applied and write the change as a new migration. If the change is harmless, flyway repair stores the new checksum."
    };
    about(
        entry,
        RefusalCode::ChecksumMismatch,
        format!(
            "the file was changed after it was applied (checksum {applied} in the database, {} now)",
            migration.checksum
        ),
        advice,
    )
}

fn about(entry: &Entry<'_>, code: RefusalCode, reason: String, advice: &str) -> Refusal {
    let script = entry
        .migration
        .map(|migration| migration.path)
        .or_else(|| entry.row.map(|row| row.script.as_str()));
    let version = entry
        .row
        .and_then(|row| row.version.as_ref())
        .or_else(|| entry.migration.and_then(Migration::version));
    let refusal = Refusal::new(code, reason, advice).of_version(version.map(Version::as_str));
    match script {
        Some(script) => refusal.in_file(script),
        None => refusal,
    }
}

fn subject(row: &HistoryRow) -> String {
    match &row.version {
        Some(version) => format!("version {version}"),
        None => format!("{:?}", row.description),
    }
}
