//! Callbacks: scripts that run at a moment of the run, by their names, as Flyway has them.
//!
//! Those around a single script run in its transaction, where it has one; the others run in one of their
//! own. Several of one event run in the order of their descriptions. None leaves a row in the history.

use crate::name::RefusedName;

/// When a callback runs. A run that fails before a moment never reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallbackEvent {
    BeforeMigrate,
    /// Once everything pending has run, also when nothing was.
    AfterMigrate,
    /// Only when something was.
    AfterMigrateApplied,
    AfterMigrateError,
    BeforeValidate,
    AfterValidate,
    AfterValidateError,
    BeforeEachMigrate,
    AfterEachMigrate,
    AfterEachMigrateError,
    /// After the last versioned script, before the repeatable ones.
    AfterVersioned,
    BeforeRepeatables,
    /// Of something that Freehold does by no script, or not at all: known, and never run.
    Elsewhere,
}

/// The events that something here reaches.
const REACHED: &[(&str, CallbackEvent)] = &[
    ("beforeMigrate", CallbackEvent::BeforeMigrate),
    ("afterMigrate", CallbackEvent::AfterMigrate),
    ("afterMigrateApplied", CallbackEvent::AfterMigrateApplied),
    ("afterMigrateError", CallbackEvent::AfterMigrateError),
    ("beforeValidate", CallbackEvent::BeforeValidate),
    ("afterValidate", CallbackEvent::AfterValidate),
    ("afterValidateError", CallbackEvent::AfterValidateError),
    ("beforeEachMigrate", CallbackEvent::BeforeEachMigrate),
    ("afterEachMigrate", CallbackEvent::AfterEachMigrate),
    (
        "afterEachMigrateError",
        CallbackEvent::AfterEachMigrateError,
    ),
    ("afterVersioned", CallbackEvent::AfterVersioned),
    ("beforeRepeatables", CallbackEvent::BeforeRepeatables),
];

/// Events of Flyway's other commands.
const ELSEWHERE: &[&str] = &[
    "beforeClean",
    "afterClean",
    "afterCleanError",
    "beforeBaseline",
    "afterBaseline",
    "afterBaselineError",
    "beforeRepair",
    "afterRepair",
    "afterRepairError",
    "beforeInfo",
    "afterInfo",
    "afterInfoError",
    "beforeUndo",
    "afterUndo",
    "afterUndoError",
    "beforeEachUndo",
    "afterEachUndo",
    "afterEachUndoError",
    "createSchema",
    "beforeCreateSchema",
    "afterMigrateOperationFinish",
    "afterValidateOperationFinish",
    "afterInfoOperationFinish",
    "afterCleanOperationFinish",
    "afterBaselineOperationFinish",
    "afterRepairOperationFinish",
    "afterUndoOperationFinish",
];

/// Events that Freehold cannot honour, and what to do instead.
const REFUSED: &[(&str, &str, &str)] = &[
    ("beforeEachMigrateStatement", PER_STATEMENT, ONCE),
    ("afterEachMigrateStatement", PER_STATEMENT, ONCE),
    ("afterEachMigrateStatementError", PER_STATEMENT, ONCE),
    ("beforeEachUndoStatement", PER_STATEMENT, ONCE),
    ("afterEachUndoStatement", PER_STATEMENT, ONCE),
    ("afterEachUndoStatementError", PER_STATEMENT, ONCE),
    ("beforeConnect", PER_SESSION, IN_TRANSACTION),
    ("afterConnect", PER_SESSION, IN_TRANSACTION),
];

const PER_STATEMENT: &str = "it would run around every statement, which Freehold does not do";
const ONCE: &str = "Move it out of the folder, or do it once around the script: beforeEachMigrate, afterEachMigrate.";
const PER_SESSION: &str =
    "every script starts with a fresh session here, so what it sets would be gone";
const IN_TRANSACTION: &str =
    "Move it out of the folder, or set what each script needs in beforeEachMigrate.sql.";

impl CallbackEvent {
    /// What a file's name without `.sql` says; `None` when it is no callback's.
    pub(crate) fn of_file(stem: &str) -> Option<Result<Self, RefusedName>> {
        let event = stem.split_once("__").map_or(stem, |(event, _)| event);
        if let Some((_, known)) = REACHED.iter().find(|(name, _)| *name == event) {
            return Some(Ok(*known));
        }
        if ELSEWHERE.contains(&event) {
            return Some(Ok(Self::Elsewhere));
        }
        let refused = REFUSED.iter().find(|(name, ..)| *name == event);
        refused.map(|(_, reason, advice)| {
            Err(RefusedName {
                reason: format!("it is the callback {event}: {reason}"),
                advice: (*advice).to_owned(),
            })
        })
    }
}
