//! What must be done so that the directory is as desired: pure, from what is desired and what was
//! seen.
//!
//! A database goes through three states of its row: reserved, creating (its file has been made and is
//! known), created (its file is in place). Once it was made it is never made again: a file that is
//! gone, or another one in its place, is `Missing`, and a person decides. Applying a plan and
//! observing again gives the empty plan, except for what only a person can settle
//! ([`Action::Report`]).

#[cfg(test)]
mod tests;

use freehold_model::kinds::Difference;

use super::{
    connect::{FILE_MODE, FOLDER_MODE},
    names::Folder,
    observe::{Found, Inside, Observed, Spot},
    registry::RowState,
};
use crate::{DesiredDatabase, DesiredState, EngineError, Fault, Result};

/// What is desired, as far as SQLite can hold it.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) folder: Folder,
    pub(crate) open: bool,
}

impl Goal {
    /// Refuses what no SQLite file can hold, whatever the directory's state.
    pub(crate) fn new(desired: &DesiredDatabase) -> Result<Self> {
        let folder = Folder::new(&desired.name)?;
        if let Some(what) = unsupported(desired) {
            return Err(EngineError::new(
                Fault::Unsupported { what },
                format!("plan database {:?}", desired.name),
            ));
        }
        Ok(Self {
            name: desired.name.clone(),
            folder,
            open: desired.state == DesiredState::Open,
        })
    }
}

fn unsupported(desired: &DesiredDatabase) -> Option<String> {
    let limits = &desired.limits;
    let limit = [
        ("connections", limits.connections),
        ("statementTimeoutMs", limits.statement_timeout_ms),
        ("lockTimeoutMs", limits.lock_timeout_ms),
        (
            "idleInTransactionTimeoutMs",
            limits.idle_in_transaction_timeout_ms,
        ),
        ("tempFilesMib", limits.temp_files_mib),
    ]
    .into_iter()
    .find_map(|(name, limit)| limit.map(|_| name));
    let mut targets = desired.accesses.iter().flat_map(|access| &access.on);
    if let Some(name) = limit {
        Some(format!(
            "hold the limit {name}: SQLite keeps no limits in a file; use a class without it"
        ))
    } else if let Some(schema) = desired.schemas.first() {
        Some(format!("have schemas, and {schema:?} is asked for"))
    } else if let Some(extension) = desired.extensions.first() {
        Some(format!("have extensions, and {extension:?} is asked for"))
    } else {
        targets.next().map(|target| {
            let table = target.table.as_deref().unwrap_or("*");
            format!(
                "limit an access to a part of the database, and one names {}.{table}: whoever opens \
                 the file may do everything with it",
                target.schema
            )
        })
    }
}

/// One thing to do, or to tell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Closes the directory and the registry to other accounts.
    RestrictDirectory { mode: u32, registry: u32 },
    /// Builds the file where nobody looks, and notes which it is.
    Make,
    /// Moves the new file to its place and notes that it is created.
    Publish,
    /// A person said that the file that is there is the one: notes which it is.
    Record,
    /// Moves the folder to where no program looks.
    Close,
    /// Moves it back.
    Reopen,
    /// Closes the folder and its files to other accounts.
    Restrict { what: String },
    /// Switches the file back to the write-ahead log.
    UseLog { found: String },
    /// Nothing that we may or can repair.
    Report { key: String, message: String },
}

impl Action {
    pub(crate) fn is_actionable(&self) -> bool {
        !matches!(self, Self::Report { .. })
    }

    /// The effect in words, as gates and errors name it.
    pub(crate) fn effect(&self, database: &str) -> String {
        match self {
            Self::RestrictDirectory { .. } => "restrict the directory".into(),
            Self::Make => format!("make the file of database {database:?}"),
            Self::Publish => format!("put database {database:?} in place"),
            Self::Record => format!("record the file of database {database:?}"),
            Self::Close => format!("close database {database:?}"),
            Self::Reopen => format!("open database {database:?}"),
            Self::Restrict { .. } => format!("restrict the files of database {database:?}"),
            Self::UseLog { .. } => format!("set the journal mode of database {database:?}"),
            Self::Report { .. } => format!("report on database {database:?}"),
        }
    }

    /// The difference as found, not yet repaired.
    pub(crate) fn difference(&self, database: &str) -> Difference {
        let (key, message) = match self {
            Self::RestrictDirectory { mode, registry } => (
                "directory.permissions".into(),
                format!(
                    "The directory has permissions {mode:04o} and its registry {registry:04o}; they \
                     should be {FOLDER_MODE:04o} and {FILE_MODE:04o}."
                ),
            ),
            Self::Make => (
                format!("database.missing:{database}"),
                format!("The database {database:?} does not exist yet."),
            ),
            Self::Publish => (
                format!("database.unfinished:{database}"),
                format!("The making of the database {database:?} was not finished."),
            ),
            Self::Record => (
                format!("file.unrecorded:{database}"),
                format!("Which file holds the database {database:?} is not recorded."),
            ),
            Self::Close => (
                format!("database.open:{database}"),
                format!(
                    "Programs can open the database {database:?}. Those that have it open now keep it \
                     until they close it; SQLite cannot end them."
                ),
            ),
            Self::Reopen => (
                format!("database.closed:{database}"),
                format!("The database {database:?} is in quarantine."),
            ),
            Self::Restrict { what } => (
                format!("file.permissions:{database}"),
                format!(
                    "Other accounts may reach the database {database:?}, or its owner may not: {what}."
                ),
            ),
            Self::UseLog { found } => (
                format!("file.journal_mode:{database}"),
                format!(
                    "The database {database:?} has journal mode {found:?}, it should be \"wal\"."
                ),
            ),
            Self::Report { key, message } => (key.clone(), message.clone()),
        };
        Difference {
            key,
            message,
            repaired: false,
        }
    }
}

/// The actions that lead from what was seen to what is desired.
///
/// # Errors
/// `NameTaken` when something that is not ours is where the database should be, `Missing` when what
/// was made is gone or replaced.
pub(crate) fn plan(goal: &Goal, seen: &Observed) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    if (seen.directory_mode, seen.registry_mode) != (FOLDER_MODE, FILE_MODE) {
        actions.push(Action::RestrictDirectory {
            mode: seen.directory_mode,
            registry: seen.registry_mode,
        });
    }
    let place = seen.row.place.as_ref();
    let at_home = seen.home.holds(place);
    match seen.row.state {
        RowState::Reserved | RowState::Creating if at_home.is_some() => {
            if !goal.open {
                vacant(goal, &[&seen.quarantine])?;
            }
            actions.push(Action::Publish);
        }
        RowState::Reserved | RowState::Creating => {
            vacant(goal, &[&seen.home, &seen.quarantine])?;
            let made = seen.making.holds(place).is_some();
            if goal.open && !made {
                actions.push(Action::Make);
            }
            if goal.open {
                actions.push(Action::Publish);
            }
        }
        RowState::Created if place.is_none() => match (&seen.home, &seen.quarantine) {
            (Spot::File(_), Spot::Empty) | (Spot::Empty, Spot::File(_)) => {
                actions.push(Action::Record);
            }
            (Spot::File(_), other) => vacant(goal, &[other])?,
            (Spot::Empty | Spot::Other(_), _) => return Err(gone(goal, seen)),
        },
        RowState::Created => created(goal, seen, &mut actions)?,
    }
    Ok(actions)
}

fn created(goal: &Goal, seen: &Observed, actions: &mut Vec<Action>) -> Result<()> {
    let place = seen.row.place.as_ref();
    let at_home = seen.home.holds(place);
    let found = match (at_home, seen.quarantine.holds(place)) {
        (Some(found), _) => {
            if !goal.open {
                vacant(goal, &[&seen.quarantine])?;
                actions.push(Action::Close);
            }
            found
        }
        (None, Some(found)) => {
            if goal.open {
                vacant(goal, &[&seen.home])?;
                actions.push(Action::Reopen);
            } else if !seen.home.is_empty() {
                actions.push(Action::Report {
                    key: format!("folder.foreign:{}", goal.name),
                    message: format!(
                        "The database {:?} is in quarantine, and {} is where programs look for it.",
                        goal.name,
                        seen.home.words()
                    ),
                });
            }
            found
        }
        (None, None) => return Err(gone(goal, seen)),
    };
    parts(goal, found, actions);
    if goal.open {
        inside(goal, seen, actions);
    }
    Ok(())
}

fn parts(goal: &Goal, found: &Found, actions: &mut Vec<Action>) {
    let strangers: Vec<String> = found
        .parts
        .iter()
        .filter_map(|part| {
            let account = part.stranger?;
            Some(format!("{} to account {account}", part.path.display()))
        })
        .collect();
    if !strangers.is_empty() {
        actions.push(Action::Report {
            key: format!("file.owner:{}", goal.name),
            message: format!(
                "Of the database {:?} belongs {}; give it back with chown.",
                goal.name,
                strangers.join(", ")
            ),
        });
    }
    let wrong: Vec<String> = found
        .parts
        .iter()
        .filter(|part| part.mode != part.should && part.stranger.is_none())
        .map(|part| {
            let (path, mode, should) = (part.path.display(), part.mode, part.should);
            format!("{path} has {mode:04o} instead of {should:04o}")
        })
        .collect();
    if !wrong.is_empty() {
        actions.push(Action::Restrict {
            what: wrong.join(", "),
        });
    }
}

fn inside(goal: &Goal, seen: &Observed, actions: &mut Vec<Action>) {
    let name = &goal.name;
    match &seen.inside {
        None => {}
        Some(Inside::Damaged(detail)) => actions.push(Action::Report {
            key: format!("file.damaged:{name}"),
            message: format!("The database {name:?} cannot be read: {detail}."),
        }),
        Some(Inside::Read { journal_mode, mark }) => {
            if journal_mode != "wal" {
                actions.push(Action::UseLog {
                    found: journal_mode.clone(),
                });
            }
            if let Some(should) = seen.row.mark
                && should != *mark
            {
                actions.push(Action::Report {
                    key: format!("file.content:{name}"),
                    message: format!(
                        "The file of the database {name:?} has application_id {mark} and was made with \
                         {should}: another database was written over it, or a program set its own. If \
                         the content is right, PRAGMA application_id = {should} settles it."
                    ),
                });
            }
        }
    }
}

/// Refuses what Freehold did not put where the database should be.
pub(crate) fn vacant(goal: &Goal, spots: &[&Spot]) -> Result<()> {
    if spots.iter().all(|spot| spot.is_empty()) {
        return Ok(());
    }
    Err(EngineError::new(
        Fault::NameTaken {
            name: goal.name.clone(),
            owner: None,
        },
        format!("look for the place of database {:?}", goal.name),
    ))
}

fn gone(goal: &Goal, seen: &Observed) -> EngineError {
    let file = goal.folder.file();
    let what = match &seen.home {
        Spot::Empty => format!("the file {file}, which Freehold made,"),
        other => format!(
            "the file {file} that Freehold made ({} is in its place; if a person put it back from a \
             backup, say so with `sqlite3 freehold-registry.db \"UPDATE database SET place = NULL \
             WHERE name = '{}'\"` in the directory)",
            other.words(),
            goal.name.replace('\'', "''")
        ),
    };
    EngineError::new(
        Fault::Missing { what },
        format!("look for the file of database {:?}", goal.name),
    )
}
