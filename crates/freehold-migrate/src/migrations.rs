//! The migrations of a bundle, in the order in which they run.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    Bundle, CallbackEvent, Dialect, FileRole, Refusal, RefusalCode, Script, ScriptConfig,
    ScriptKind, ScriptName, Version, checksum, role_of,
    script::{self, placeholder::Values},
};

/// All migrations of a bundle.
#[derive(Debug, Clone)]
pub struct Migrations<'a> {
    /// Ascending by version.
    pub versioned: Vec<Migration<'a>>,
    /// Ascending by description.
    pub repeatable: Vec<Migration<'a>>,
    /// Ascending by version.
    pub baselines: Vec<Migration<'a>>,
    /// Ascending by event, then by path.
    pub callbacks: Vec<(CallbackEvent, Migration<'a>)>,
}

/// One migration, known by name and checksum; its text is cut only when it is to run.
#[derive(Debug, Clone)]
pub struct Migration<'a> {
    pub dialect: Dialect,
    pub path: &'a str,
    pub name: ScriptName,
    /// Of a repeatable migration with its placeholders replaced, of any other as it stands in the file.
    pub checksum: i32,
    pub config: ScriptConfig,
    raw: &'a str,
    text: Cow<'a, str>,
}

impl<'a> Migrations<'a> {
    /// As far as can be known without a database: Flyway's own placeholders stand for themselves.
    ///
    /// # Errors
    /// All files that are no migrations or cannot be read as text, placeholders without a value, and all
    /// duplicates.
    pub fn resolve(bundle: &'a Bundle) -> Result<Self, Vec<Refusal>> {
        Self::resolve_with(bundle, &Values::without_database(bundle.settings()))
    }

    pub(crate) fn resolve_with(
        bundle: &'a Bundle,
        values: &Values<'_>,
    ) -> Result<Self, Vec<Refusal>> {
        let mut refusals = Vec::new();
        let mut resolved = Self {
            versioned: Vec::new(),
            repeatable: Vec::new(),
            baselines: Vec::new(),
            callbacks: Vec::new(),
        };
        for (path, bytes) in bundle.files() {
            if let Err(refusal) = resolved.take(bundle, path, bytes, values) {
                refusals.push(*refusal);
            }
        }
        for ordered in [&mut resolved.versioned, &mut resolved.baselines] {
            ordered.sort_by(|a, b| a.version().cmp(&b.version()));
        }
        // As Java compares strings: by UTF-16 units.
        resolved.repeatable.sort_by(|a, b| {
            let units = |migration: &'_ Migration<'_>| {
                migration
                    .name
                    .description
                    .encode_utf16()
                    .collect::<Vec<_>>()
            };
            units(a).cmp(&units(b))
        });
        resolved
            .callbacks
            .sort_by_key(|(event, callback)| (*event, callback.path));
        resolved.find_duplicates(&mut refusals);
        if refusals.is_empty() {
            Ok(resolved)
        } else {
            Err(refusals)
        }
    }

    fn take(
        &mut self,
        bundle: &'a Bundle,
        path: &'a str,
        bytes: &'a [u8],
        values: &Values<'_>,
    ) -> Result<(), Box<Refusal>> {
        let migration = |name| Migration::new(bundle, path, bytes, name, values);
        match role_of(path) {
            FileRole::Migration(name) => {
                let migration = migration(name)?;
                match migration.name.kind {
                    ScriptKind::Versioned(_) => self.versioned.push(migration),
                    ScriptKind::Repeatable => self.repeatable.push(migration),
                    ScriptKind::Baseline(_) => self.baselines.push(migration),
                }
            }
            FileRole::Callback(CallbackEvent::Elsewhere)
            | FileRole::ScriptConfig
            | FileRole::Stray => {}
            FileRole::Callback(event) => {
                // A callback has no version and leaves no row.
                let name = ScriptName {
                    kind: ScriptKind::Repeatable,
                    description: String::new(),
                };
                self.callbacks.push((event, migration(name)?));
            }
            FileRole::Refused(_) if bundle.settings().lenient_names => {}
            FileRole::Refused(refused) => {
                let refusal =
                    Refusal::new(RefusalCode::InvalidName, refused.reason, refused.advice);
                return Err(Box::new(refusal.in_file(path)));
            }
        }
        Ok(())
    }

    /// In the order in which they run.
    pub fn all(&self) -> impl Iterator<Item = &Migration<'a>> {
        self.versioned.iter().chain(&self.repeatable)
    }

    /// Everything that has a text of its own, in no order.
    pub(crate) fn every(&self) -> impl Iterator<Item = &Migration<'a>> {
        let callbacks = self.callbacks.iter().map(|(_, callback)| callback);
        self.all().chain(&self.baselines).chain(callbacks)
    }

    /// The highest version there is.
    pub fn latest(&self) -> Option<&Version> {
        let versioned = self.versioned.last().and_then(Migration::version);
        versioned.max(self.baselines.last().and_then(Migration::version))
    }

    fn find_duplicates(&self, refusals: &mut Vec<Refusal>) {
        let pairs = self.versioned.windows(2).chain(self.baselines.windows(2));
        for pair in pairs {
            if pair[0].version() == pair[1].version() {
                refusals.push(duplicate(
                    RefusalCode::DuplicateVersionedMigration,
                    &pair[0],
                    &pair[1],
                    "Give one of them the next free version.",
                ));
            }
        }
        let mut by_description: HashMap<&str, &Migration<'_>> = HashMap::new();
        for migration in &self.repeatable {
            if let Some(other) = by_description.insert(&migration.name.description, migration) {
                refusals.push(duplicate(
                    RefusalCode::DuplicateRepeatableMigration,
                    other,
                    migration,
                    "Give one of them another description.",
                ));
            }
        }
    }
}

fn duplicate(
    code: RefusalCode,
    first: &Migration<'_>,
    second: &Migration<'_>,
    advice: &str,
) -> Refusal {
    let reason = format!("{} and {} are both {}", first.path, second.path, first.name);
    Refusal::new(code, reason, advice)
        .in_file(second.path)
        .of_version(second.version().map(Version::as_str))
}

impl<'a> Migration<'a> {
    fn new(
        bundle: &'a Bundle,
        path: &'a str,
        bytes: &'a [u8],
        name: ScriptName,
        values: &Values<'_>,
    ) -> Result<Self, Box<Refusal>> {
        let config_path = format!("{path}.conf");
        let mut config = match bundle.file(&config_path) {
            None => ScriptConfig::default(),
            Some(config) => ScriptConfig::parse(&config_path, &String::from_utf8_lossy(config))?,
        };
        let settings = bundle.settings();
        config.execute_in_transaction = config
            .execute_in_transaction
            .or(settings.execute_in_transaction);
        config.mixed = settings.mixed;
        let raw = script::decode(bytes).map_err(|refusal| refusal.in_file(path))?;
        let text = values.fill(path, raw, config.placeholder_replacement)?;
        let counted = match name.kind {
            ScriptKind::Repeatable => &text,
            ScriptKind::Versioned(_) | ScriptKind::Baseline(_) => raw,
        };
        Ok(Self {
            dialect: bundle.dialect(),
            path,
            checksum: checksum(counted),
            name,
            config,
            raw,
            text,
        })
    }

    pub fn version(&self) -> Option<&Version> {
        self.name.version()
    }

    pub fn is_repeatable(&self) -> bool {
        self.name.kind == ScriptKind::Repeatable
    }

    pub fn is_baseline(&self) -> bool {
        matches!(self.name.kind, ScriptKind::Baseline(_))
    }

    /// What runs: the file's text with its placeholders replaced.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file's own text.
    pub(crate) fn raw(&self) -> &'a str {
        self.raw
    }

    /// Whether a checksum that was stored is this migration's. Of a repeatable one, that of the file as it
    /// stands counts too.
    pub(crate) fn has_checksum(&self, stored: i32) -> bool {
        stored == self.checksum
            || self.is_repeatable()
                && matches!(self.text, Cow::Owned(_))
                && stored == checksum(self.raw)
    }

    /// Cuts the text into statements and decides how it runs.
    ///
    /// # Errors
    /// Every reason why it cannot run.
    pub fn script(&self) -> Result<Script<'_>, Vec<Refusal>> {
        let mut script =
            Script::of_text(self.dialect, self.path, &self.name, &self.text, self.config)?;
        script.checksum = self.checksum;
        Ok(script)
    }
}
