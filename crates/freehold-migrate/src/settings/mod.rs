//! What a project says about its migrations: Flyway's settings, as far as they mean something here.
//!
//! They are read from the project's `flyway.toml` or `flyway.conf` when a folder is packed, and travel in the
//! bundle: what was proven in one environment runs by the same settings in the next. A setting either
//! works as it does in Flyway, or has no meaning where somebody else connects and decides where
//! (address, login, drivers), or is refused by name with what to do instead. None is silently without
//! effect.
//!
//! Not here: settings of one script, which stand in its `.sql.conf`.

mod file;
mod ignore;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use file::SettingsFile;
pub use ignore::{IgnorePattern, InvalidIgnorePattern};

use crate::Version;

/// A project's settings. The default is Flyway's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// Values of `${name}` in scripts. Names do not tell capital from small letters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub placeholders: BTreeMap<String, String>,
    pub placeholder_replacement: bool,
    pub placeholder_prefix: String,
    pub placeholder_suffix: String,
    /// Run a version below the highest applied one instead of refusing it.
    pub out_of_order: bool,
    /// Run no version above this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Version>,
    /// Run a script that mixes statements outside a transaction, instead of refusing it.
    pub mixed: bool,
    /// Whether scripts run in a transaction when their `.sql.conf` does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execute_in_transaction: Option<bool>,
    pub baseline_version: Version,
    pub baseline_description: String,
    /// Take a schema that holds objects and no history for being at the baseline version.
    pub baseline_on_migrate: bool,
    pub ignore_migration_patterns: Vec<IgnorePattern>,
    /// Whom the history names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed_by: Option<String>,
    /// How often to try for the lock, once a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_retry_count: Option<u32>,
    /// Leave out files whose names are no migration's, as Flyway does, instead of refusing them.
    pub lenient_names: bool,
}

/// Flyway's word for description and script of a baseline row.
pub(crate) const BASELINE: &str = "<< Flyway Baseline >>";

impl Default for Settings {
    fn default() -> Self {
        Self {
            placeholders: BTreeMap::new(),
            placeholder_replacement: true,
            placeholder_prefix: "${".to_owned(),
            placeholder_suffix: "}".to_owned(),
            out_of_order: false,
            target: None,
            mixed: false,
            execute_in_transaction: None,
            baseline_version: Version::one(),
            baseline_description: BASELINE.to_owned(),
            baseline_on_migrate: false,
            ignore_migration_patterns: vec![IgnorePattern::FUTURE],
            installed_by: None,
            lock_retry_count: None,
            lenient_names: false,
        }
    }
}

impl Settings {
    /// Whether they are those of a project that says nothing.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
