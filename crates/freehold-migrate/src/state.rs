//! What each migration's state is: files and history rows laid side by side, as Flyway does.
//!
//! Pure and linear: one pass over the rows in the order of their ranks, one over the files, lookups by
//! hash. Flyway's own calculation grows with the square of the history and more.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::{HistoryRow, IgnorePattern, Migration, Migrations, RowKind, Settings, Version};

/// Flyway's states, under its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    Pending,
    #[serde(rename = "Above Target")]
    AboveTarget,
    #[serde(rename = "Below Baseline")]
    BelowBaseline,
    Baseline,
    /// A baseline migration that does not run, because something has run already or a higher one does.
    #[serde(rename = "Ignored (Baseline)")]
    IgnoredBaseline,
    /// Never run, and a higher version was.
    Ignored,
    Missing,
    #[serde(rename = "Failed (Missing)")]
    FailedMissing,
    Success,
    Undone,
    Failed,
    #[serde(rename = "Out of Order")]
    OutOfOrder,
    Future,
    #[serde(rename = "Failed (Future)")]
    FailedFuture,
    /// A repeatable migration's last run, and its file has changed since.
    Outdated,
    /// A repeatable migration's older run.
    Superseded,
    Deleted,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::AboveTarget => "Above Target",
            Self::BelowBaseline => "Below Baseline",
            Self::Baseline => "Baseline",
            Self::IgnoredBaseline => "Ignored (Baseline)",
            Self::Ignored => "Ignored",
            Self::Missing => "Missing",
            Self::FailedMissing => "Failed (Missing)",
            Self::Success => "Success",
            Self::Undone => "Undone",
            Self::Failed => "Failed",
            Self::OutOfOrder => "Out of Order",
            Self::Future => "Future",
            Self::FailedFuture => "Failed (Future)",
            Self::Outdated => "Outdated",
            Self::Superseded => "Superseded",
            Self::Deleted => "Deleted",
        }
    }

    pub fn is_failed(self) -> bool {
        matches!(
            self,
            Self::Failed | Self::FailedMissing | Self::FailedFuture
        )
    }
}

/// What may run beyond the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PlanOptions {
    /// Run a version below the highest applied one instead of refusing it.
    pub out_of_order: bool,
    /// Run no version above this one.
    pub target: Option<Version>,
    /// What validation overlooks.
    pub ignore: Vec<IgnorePattern>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self::of(&Settings::default())
    }
}

impl PlanOptions {
    /// What a project's settings allow.
    pub fn of(settings: &Settings) -> Self {
        Self {
            out_of_order: settings.out_of_order,
            target: settings.target.clone(),
            ignore: settings.ignore_migration_patterns.clone(),
        }
    }

    /// The same, with what a run asks for itself.
    pub(crate) fn within(&self, settings: &Settings) -> Self {
        Self {
            out_of_order: self.out_of_order || settings.out_of_order,
            target: self.target.clone().or_else(|| settings.target.clone()),
            ignore: settings.ignore_migration_patterns.clone(),
        }
    }
}

/// One line of `flyway info`: a file, a row, or both.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) migration: Option<&'a Migration<'a>>,
    pub(crate) row: Option<&'a HistoryRow>,
    pub(crate) state: State,
}

/// Files and rows, matched.
#[derive(Debug, Clone)]
pub(crate) struct Survey<'a> {
    /// Below the baseline first, then the rows by rank, then the files that were not applied.
    pub(crate) entries: Vec<Entry<'a>>,
    /// The highest version of a baseline row.
    pub(crate) baseline: Option<&'a Version>,
    pub(crate) highest_applied: Option<&'a Version>,
    /// Versions or descriptions with more `DELETE` rows than rows to delete.
    pub(crate) corrupted: Vec<&'a HistoryRow>,
}

/// What later rows say about earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Deleted,
    Undone,
}

/// What a row is about: Flyway pairs rows and files by it.
#[derive(PartialEq, Eq, Hash)]
enum Subject<'a> {
    Version(&'a Version),
    Description(String),
}

impl<'a> Subject<'a> {
    fn of_row(row: &'a HistoryRow) -> Self {
        match &row.version {
            Some(version) => Self::Version(version),
            None => Self::Description(row.description.clone()),
        }
    }

    fn of_migration(migration: &'a Migration<'a>) -> Self {
        match migration.version() {
            Some(version) => Self::Version(version),
            None => Self::Description(migration.name.stored_description()),
        }
    }
}

/// Matches files with rows. `rows` are in the order of their ranks.
pub(crate) fn survey<'a>(
    migrations: &'a Migrations<'a>,
    rows: &'a [HistoryRow],
    options: &PlanOptions,
) -> Survey<'a> {
    let (fates, latest, corrupted) = fates(rows);
    let files: HashMap<Subject<'a>, &'a Migration<'a>> = migrations
        .all()
        .map(|migration| (Subject::of_migration(migration), migration))
        .collect();
    let baselines = by_version(&migrations.baselines);
    let mut entries = Vec::with_capacity(rows.len() + files.len());
    let mut running: Option<&Version> = None;
    let mut baseline: Option<&Version> = None;
    for (index, row) in rows.iter().enumerate() {
        let fate = fates[index];
        let migration = match (&row.kind, &row.version) {
            (RowKind::SqlBaseline, Some(version)) => baselines.get(version).copied(),
            _ => files.get(&Subject::of_row(row)).copied(),
        };
        let out_of_order = running.is_some_and(|highest| Some(highest) > row.version.as_ref());
        let is_latest = latest.get(&Subject::of_row(row)) == Some(&index);
        let state = row_state(
            row,
            fate,
            migration,
            migrations.latest(),
            out_of_order,
            is_latest,
        );
        // Rows that undo, delete or describe others are not applied versions themselves.
        let counts = fate == Fate::Lives && !row.kind.is_undo() && row.kind != RowKind::Delete;
        if counts && let Some(version) = &row.version {
            running = running.max(Some(version));
            if row.kind.is_baseline() && row.success {
                baseline = baseline.max(Some(version));
            }
        }
        entries.push(Entry {
            migration: if row.kind == RowKind::Schema {
                None
            } else {
                migration
            },
            row: Some(row),
            state,
        });
    }
    let first = rows
        .is_empty()
        .then(|| first_baseline(migrations, options))
        .flatten();
    entries.extend(baselines_without_rows(migrations, rows, first));
    let from = baseline.max(first.and_then(Migration::version));
    let mut below = Vec::new();
    for migration in migrations.all() {
        let row = latest
            .get(&Subject::of_migration(migration))
            .map(|&index| &rows[index]);
        let Some(state) = file_state(migration, row, from, running, options) else {
            continue;
        };
        let entry = Entry {
            migration: Some(migration),
            row: None,
            state,
        };
        if state == State::BelowBaseline {
            below.push(entry);
        } else {
            entries.push(entry);
        }
    }
    below.append(&mut entries);
    Survey {
        entries: below,
        baseline,
        highest_applied: running,
        corrupted,
    }
}

fn by_version<'a>(migrations: &'a [Migration<'a>]) -> HashMap<&'a Version, &'a Migration<'a>> {
    let versions = migrations.iter();
    versions
        .filter_map(|migration| Some((migration.version()?, migration)))
        .collect()
}

/// The baseline migrations that no row stands for. The first of them runs, all others never will.
fn baselines_without_rows<'a>(
    migrations: &'a Migrations<'a>,
    rows: &[HistoryRow],
    first: Option<&Migration<'_>>,
) -> Vec<Entry<'a>> {
    let applied: HashSet<&Version> = rows
        .iter()
        .filter(|row| row.kind == RowKind::SqlBaseline)
        .filter_map(|row| row.version.as_ref())
        .collect();
    let first = first.and_then(Migration::version);
    let lonely = migrations.baselines.iter().filter(|migration| {
        let version = migration.version();
        version.is_none_or(|version| !applied.contains(version))
    });
    lonely
        .map(|migration| Entry {
            migration: Some(migration),
            row: None,
            state: if first.is_some() && migration.version() == first {
                State::Pending
            } else {
                State::IgnoredBaseline
            },
        })
        .collect()
}

/// The baseline migration that a database without a history starts from: the highest that may run.
fn first_baseline<'a>(
    migrations: &'a Migrations<'a>,
    options: &PlanOptions,
) -> Option<&'a Migration<'a>> {
    migrations.baselines.iter().rev().find(|migration| {
        let target = options.target.as_ref();
        target.is_none_or(|target| migration.version() <= Some(target))
    })
}

type Latest<'a> = HashMap<Subject<'a>, usize>;

/// What became of each row, and the newest living row of each subject.
fn fates(rows: &[HistoryRow]) -> (Vec<Fate>, Latest<'_>, Vec<&HistoryRow>) {
    let mut fates = vec![Fate::Lives; rows.len()];
    let mut living: HashMap<Subject<'_>, Vec<usize>> = HashMap::new();
    let mut corrupted = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let subject = Subject::of_row(row);
        if row.kind == RowKind::Delete {
            match living.remove(&subject) {
                Some(deleted) => deleted.into_iter().for_each(|at| fates[at] = Fate::Deleted),
                None => corrupted.push(row),
            }
        } else if row.kind.is_undo() {
            if row.success
                && let Some(at) = living.get_mut(&subject).and_then(Vec::pop)
            {
                fates[at] = Fate::Undone;
            }
        } else if row.kind != RowKind::Schema {
            living.entry(subject).or_default().push(index);
        }
    }
    let latest = living
        .into_iter()
        .filter_map(|(subject, rows)| Some((subject, *rows.last()?)))
        .collect();
    (fates, latest, corrupted)
}

fn row_state(
    row: &HistoryRow,
    fate: Fate,
    migration: Option<&Migration<'_>>,
    latest_file: Option<&Version>,
    out_of_order: bool,
    is_latest: bool,
) -> State {
    match fate {
        Fate::Deleted => return State::Deleted,
        Fate::Undone => return State::Undone,
        Fate::Lives => {}
    }
    if matches!(row.kind, RowKind::Baseline | RowKind::SqlBaseline) {
        return if row.success {
            State::Baseline
        } else {
            State::Failed
        };
    }
    let Some(migration) = migration else {
        return lonely_state(row, latest_file);
    };
    if !row.success {
        State::Failed
    } else if migration.is_repeatable() {
        match (is_latest, checksum_matches(migration, row)) {
            (false, _) => State::Superseded,
            (true, true) => State::Success,
            (true, false) => State::Outdated,
        }
    } else if out_of_order && !row.kind.is_undo() {
        State::OutOfOrder
    } else {
        State::Success
    }
}

/// A row without a file: older than the newest file it is missing, newer it is from the future.
fn lonely_state(row: &HistoryRow, latest_file: Option<&Version>) -> State {
    if row.kind.is_synthetic() || row.kind.is_undo() {
        return if row.success {
            State::Success
        } else {
            State::Failed
        };
    }
    let is_missing = match &row.version {
        None => true,
        Some(version) => latest_file.is_some_and(|latest| version < latest),
    };
    match (is_missing, row.success) {
        (true, true) => State::Missing,
        (true, false) => State::FailedMissing,
        (false, true) => State::Future,
        (false, false) => State::FailedFuture,
    }
}

/// The state of a file that needs a line of its own; None when its row says it all.
fn file_state(
    migration: &Migration<'_>,
    row: Option<&HistoryRow>,
    baseline: Option<&Version>,
    highest_applied: Option<&Version>,
    options: &PlanOptions,
) -> Option<State> {
    let Some(version) = migration.version() else {
        let is_done = row.is_some_and(|row| row.success && checksum_matches(migration, row));
        let has_failed = row.is_some_and(|row| !row.success);
        return (!is_done && !has_failed).then_some(State::Pending);
    };
    if row.is_some() {
        return None;
    }
    Some(if baseline.is_some_and(|baseline| version <= baseline) {
        State::BelowBaseline
    } else if options
        .target
        .as_ref()
        .is_some_and(|target| version > target)
    {
        State::AboveTarget
    } else if !options.out_of_order && highest_applied.is_some_and(|highest| version < highest) {
        State::Ignored
    } else {
        State::Pending
    })
}

/// Old Flyways wrote NULL for an empty script, newer ones zero.
pub(crate) fn checksum_matches(migration: &Migration<'_>, row: &HistoryRow) -> bool {
    migration.has_checksum(row.checksum.unwrap_or(0))
}

/// One line of `freehold migrate status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusEntry {
    pub state: State,
    /// None for repeatable migrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub description: String,
    #[serde(rename = "type")]
    pub kind: RowKind,
    /// The file's path, or what the row says it was.
    pub script: String,
    /// Of the file, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_rank: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_on: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time_ms: Option<i32>,
}

impl From<&Entry<'_>> for StatusEntry {
    fn from(entry: &Entry<'_>) -> Self {
        let (migration, row) = (entry.migration, entry.row);
        let of_file = |migration: &Migration<'_>| {
            (
                migration.version().map(ToString::to_string),
                migration.name.description.clone(),
                if migration.is_baseline() {
                    RowKind::SqlBaseline
                } else {
                    RowKind::Sql
                },
                migration.path.to_owned(),
            )
        };
        let of_row = |row: &HistoryRow| {
            (
                row.version.as_ref().map(ToString::to_string),
                row.description.clone(),
                row.kind.clone(),
                row.script.clone(),
            )
        };
        let (version, description, kind, script) = row
            .map(of_row)
            .or_else(|| migration.map(of_file))
            .unwrap_or_else(|| (None, String::new(), RowKind::Sql, String::new()));
        Self {
            state: entry.state,
            version,
            description,
            kind,
            script,
            checksum: migration.map(|migration| migration.checksum),
            installed_rank: row.map(|row| row.installed_rank),
            installed_on: row.map(|row| row.installed_on.clone()),
            installed_by: row.map(|row| row.installed_by.clone()),
            execution_time_ms: row.map(|row| row.execution_time_ms),
        }
    }
}
