//! The migrations of a bundle, in the order in which they run.

use std::collections::HashMap;

use crate::{
    Bundle, Dialect, FileRole, Refusal, RefusalCode, Script, ScriptConfig, ScriptKind, ScriptName,
    Version, bundle::NamedFile, checksum, role_of, script,
};

/// All migrations of a bundle.
#[derive(Debug, Clone)]
pub struct Migrations<'a> {
    /// Ascending by version.
    pub versioned: Vec<Migration<'a>>,
    /// Ascending by description.
    pub repeatable: Vec<Migration<'a>>,
}

/// One migration, known by name and checksum; its text is cut only when it is to run.
#[derive(Debug, Clone)]
pub struct Migration<'a> {
    pub dialect: Dialect,
    pub path: &'a str,
    pub name: ScriptName,
    pub checksum: i32,
    pub config: ScriptConfig,
    bytes: &'a [u8],
}

impl<'a> Migrations<'a> {
    /// # Errors
    /// All files that are no migrations or cannot be read as text, and all duplicates.
    pub fn resolve(bundle: &'a Bundle) -> Result<Self, Vec<Refusal>> {
        let mut refusals = Vec::new();
        let mut resolved = Self {
            versioned: Vec::new(),
            repeatable: Vec::new(),
        };
        for (path, bytes) in bundle.files() {
            let migration = |file| Migration::new(bundle.dialect(), file);
            match named(bundle, path, bytes).and_then(|file| file.map(migration).transpose()) {
                Ok(None) => {}
                Ok(Some(migration)) if migration.version().is_some() => {
                    resolved.versioned.push(migration);
                }
                Ok(Some(migration)) => resolved.repeatable.push(migration),
                Err(refusal) => refusals.push(*refusal),
            }
        }
        resolved
            .versioned
            .sort_by(|a, b| a.version().cmp(&b.version()));
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
        resolved.find_duplicates(&mut refusals);
        if refusals.is_empty() {
            Ok(resolved)
        } else {
            Err(refusals)
        }
    }

    /// In the order in which they run.
    pub fn all(&self) -> impl Iterator<Item = &Migration<'a>> {
        self.versioned.iter().chain(&self.repeatable)
    }

    /// The highest version there is.
    pub fn latest(&self) -> Option<&Version> {
        self.versioned.last().and_then(Migration::version)
    }

    fn find_duplicates(&self, refusals: &mut Vec<Refusal>) {
        for pair in self.versioned.windows(2) {
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

fn named<'a>(
    bundle: &'a Bundle,
    path: &'a str,
    bytes: &'a [u8],
) -> Result<Option<NamedFile<'a>>, Box<Refusal>> {
    match role_of(path) {
        FileRole::Migration(name) => {
            let config_path = format!("{path}.conf");
            let config = match bundle.file(&config_path) {
                None => ScriptConfig::default(),
                Some(config) => {
                    ScriptConfig::parse(&config_path, &String::from_utf8_lossy(config))?
                }
            };
            Ok(Some(NamedFile {
                path,
                name,
                bytes,
                config,
            }))
        }
        FileRole::ScriptConfig | FileRole::Stray => Ok(None),
        FileRole::Refused(refused) => Err(Box::new(
            Refusal::new(RefusalCode::InvalidName, refused.reason, refused.advice).in_file(path),
        )),
    }
}

impl<'a> Migration<'a> {
    fn new(dialect: Dialect, file: NamedFile<'a>) -> Result<Self, Box<Refusal>> {
        let text = script::decode(file.bytes).map_err(|refusal| refusal.in_file(file.path))?;
        Ok(Self {
            dialect,
            path: file.path,
            checksum: checksum(text),
            name: file.name,
            config: file.config,
            bytes: file.bytes,
        })
    }

    pub fn version(&self) -> Option<&Version> {
        self.name.version()
    }

    pub fn is_repeatable(&self) -> bool {
        self.name.kind == ScriptKind::Repeatable
    }

    /// The text, which was found to be UTF-8 when the migration was resolved.
    pub(crate) fn text(&self) -> &'a str {
        std::str::from_utf8(self.bytes).unwrap_or_default()
    }

    /// Cuts the text into statements and decides how it runs.
    ///
    /// # Errors
    /// Every reason why it cannot run.
    pub fn script(&self) -> Result<Script<'a>, Vec<Refusal>> {
        Script::load(self.dialect, self.path, &self.name, self.bytes, self.config)
    }
}
