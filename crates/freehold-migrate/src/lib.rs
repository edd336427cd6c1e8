//! Schema migrations, compatible with Flyway: same file names, order, checksums, history table, lock.
//!
//! From the outside in:
//!
//! * [`Bundle`]: a folder of scripts as one immutable, content-addressed archive.
//! * [`Dialect`]: PostgreSQL's, MySQL's or SQLite's SQL; all that differs between engines hangs on it.
//! * [`Migrations`]: what is in it, in order; [`Script`]: one of them, cut into statements.
//! * [`plan()`]: files against history, pure: what is pending, what forbids running, every state.
//! * [`Migrator`]: runs what is pending over one [`freehold_engine::ScriptSession`], each script in one
//!   transaction with its history row where the engine can, and tells an [`Observer`] about it.
//! * [`runner_process`]: the same as a process of its own that holds the bundle and one credential.
//!
//! Everything that can be known without a server is decided before one is asked: a script that cannot
//! be honoured is refused with file, line, reason and advice, and nothing has run. `docs/migrations.md`
//! has the rules for developers.
//!
//! * [`Settings`]: what a project's `flyway.toml` or `flyway.conf` says, in the bundle.
//!
//! Not here: undo, which is refused by name; and who may run what, which is the control plane's matter.

mod bundle;
mod callback;
mod checksum;
mod dialect;
mod history;
mod migrations;
mod name;
mod plan;
mod refusal;
mod runner;
pub mod runner_process;
mod scaffold;
mod script;
mod settings;
mod state;
mod version;

pub use bundle::{Bundle, BundleError, Content, Limits, Manifest, ManifestFile, Packed, Project};
pub use callback::CallbackEvent;
pub use checksum::checksum;
pub use dialect::{Dialect, HISTORY_TABLE, UnknownDialect};
pub use history::{HistoryRow, RowKind};
pub use migrations::{Migration, Migrations};
pub use name::{FileRole, RefusedName, ScriptKind, ScriptName, role_of};
pub use plan::{Plan, plan};
pub use refusal::{Place, Refusal, RefusalCode};
pub use runner::{
    AppliedScript, LockHolder, Migrator, Observer, PlannedScript, RunEvent, RunFailure, RunOptions,
    RunReport, StatementFailure, Status, StopHandle, lock_id, lock_name, status,
};
pub use scaffold::{NewMigration, new_repeatable, next_versioned};
pub use script::{
    Mode, Script, ScriptConfig, SplitError, Statement, StatementClass, TransactionControl, Warning,
    split,
};
pub use settings::{IgnorePattern, InvalidIgnorePattern, Settings, SettingsFile};
pub use state::{PlanOptions, State, StatusEntry};
pub use version::{InvalidVersion, Version};
