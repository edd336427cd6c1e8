//! wip
mod bundle;
mod checksum;
mod history;
mod migrations;
mod name;
mod plan;
mod quote;
mod refusal;
mod runner;
pub mod runner_process;
mod scaffold;
mod script;
mod state;
mod version;

pub use bundle::{Bundle, BundleError, Content, Limits, Manifest, ManifestFile, Packed};
pub use checksum::checksum;
pub use history::{HistoryRow, RowKind};
pub use migrations::{Migration, Migrations};
pub use name::{FileRole, RefusedName, ScriptKind, ScriptName, role_of};
pub use plan::{Plan, plan};
pub use refusal::{Place, Refusal, RefusalCode};
pub use runner::{
    AppliedScript, HISTORY_TABLE, LockHolder, Migrator, Observer, PlannedScript, RunEvent,
    RunFailure, RunOptions, RunReport, StatementFailure, Status, StopHandle, lock_id, status,
};
pub use scaffold::{NewMigration, new_repeatable, next_versioned};
pub use script::{
    Mode, Script, ScriptConfig, SplitError, Statement, StatementClass, TransactionControl, Warning,
    split,
};
pub use state::{PlanOptions, State, StatusEntry};
pub use version::{InvalidVersion, Version};
