//! What a file in a migrations folder is, by its name: prefix, version, `__`, description, suffix.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CallbackEvent, Version};

/// Width of the history table's `description` and `script` columns.
const DESCRIPTION_LENGTH_MAX: usize = 200;
const SCRIPT_LENGTH_MAX: usize = 1000;

/// A migration's name, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptName {
    pub kind: ScriptKind,
    /// The words after `__`, with `_` turned into spaces. May be empty.
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptKind {
    /// `V`: runs once, in the order of versions.
    Versioned(Version),
    /// `R`: runs after the versioned ones whenever its text has changed.
    Repeatable,
    /// `B`: runs instead of all versioned ones up to its version, where nothing has run yet.
    Baseline(Version),
}

/// What a file is to a migrations folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRole {
    Migration(ScriptName),
    /// `afterMigrate.sql`, `beforeMigrate__log.sql`: runs at a moment of the run.
    Callback(CallbackEvent),
    /// `<script>.sql.conf`: settings of the script beside it.
    ScriptConfig,
    /// Nothing of ours: a README, a `.DS_Store`.
    Stray,
    /// It looks like a migration and is none, or is of a sort that Freehold does not run yet.
    Refused(RefusedName),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedName {
    pub reason: String,
    pub advice: String,
}

/// Says what a file is by its path relative to the folder, `/` separated.
pub fn role_of(path: &str) -> FileRole {
    if path.split('/').any(|component| component.starts_with('.')) {
        return FileRole::Stray;
    }
    let file = path.rsplit('/').next().unwrap_or(path);
    if let Some(script) = strip_suffix_ignoring_case(file, ".conf")
        && strip_suffix_ignoring_case(script, ".sql").is_some()
    {
        if file.ends_with(".conf") {
            return FileRole::ScriptConfig;
        }
        return FileRole::Refused(RefusedName {
            reason: "the settings of a script end in .conf, in small letters".to_owned(),
            advice: "Rename it.".to_owned(),
        });
    }
    match strip_suffix_ignoring_case(file, ".sql") {
        None => FileRole::Stray,
        Some(stem) => match CallbackEvent::of_file(stem) {
            Some(Ok(event)) => FileRole::Callback(event),
            Some(Err(refused)) => FileRole::Refused(refused),
            None => match parse_stem(stem) {
                Ok(name) => FileRole::Migration(name),
                Err(refused) => FileRole::Refused(refused),
            },
        },
    }
}

fn parse_stem(stem: &str) -> Result<ScriptName, RefusedName> {
    let Some(prefix @ ('V' | 'R' | 'B' | 'U')) = stem.chars().next() else {
        let lower = stem.starts_with(['v', 'r', 'b', 'u']);
        let advice = if lower {
            "The prefix is a capital letter: V1__description.sql or R__description.sql."
        } else {
            "Name it V1__description.sql or R__description.sql, or give it another suffix than .sql."
        };
        return refuse("its name starts with neither V nor R".to_owned(), advice);
    };
    let rest = &stem[1..];
    let (version, description) = rest.split_once("__").unwrap_or((rest, ""));
    let description = description.replace('_', " ");
    match prefix {
        'R' if version.is_empty() => Ok(ScriptName {
            kind: ScriptKind::Repeatable,
            description,
        }),
        'R' => refuse(
            format!("a repeatable migration has no version, and {version:?} stands before `__`"),
            "Name it R__description.sql.",
        ),
        'U' => refuse(
            "undo migrations (U) are not supported yet".to_owned(),
            "Write the way back as the next versioned migration (V).",
        ),
        _ => match version.parse::<Version>() {
            Ok(version) => Ok(ScriptName {
                kind: if prefix == 'B' {
                    ScriptKind::Baseline(version)
                } else {
                    ScriptKind::Versioned(version)
                },
                description,
            }),
            Err(error) => refuse(
                error.to_string(),
                "Name it V<version>__<description>.sql, e.g. V1.2__add_orders.sql.",
            ),
        },
    }
}

fn refuse<T>(reason: String, advice: &str) -> Result<T, RefusedName> {
    Err(RefusedName {
        reason,
        advice: advice.to_owned(),
    })
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let split = text.len().checked_sub(suffix.len())?;
    let tail = text.get(split..)?;
    tail.eq_ignore_ascii_case(suffix).then(|| &text[..split])
}

impl ScriptName {
    pub fn version(&self) -> Option<&Version> {
        match &self.kind {
            ScriptKind::Versioned(version) | ScriptKind::Baseline(version) => Some(version),
            ScriptKind::Repeatable => None,
        }
    }

    /// The description as the history table holds it: at most 200 characters, cut with `...`.
    pub fn stored_description(&self) -> String {
        abbreviate_end(&self.description)
    }
}

impl fmt::Display for ScriptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ScriptKind::Versioned(version) => write!(f, "version {version}"),
            ScriptKind::Baseline(version) => write!(f, "baseline {version}"),
            ScriptKind::Repeatable => write!(f, "repeatable {:?}", self.description),
        }
    }
}

/// Lengths count as Java counts them, in UTF-16 units, so that the stored text is the same.
fn utf16_length(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

fn abbreviate_end(text: &str) -> String {
    if utf16_length(text) <= DESCRIPTION_LENGTH_MAX {
        return text.to_owned();
    }
    let mut room = DESCRIPTION_LENGTH_MAX - 3;
    let mut kept: String = text
        .chars()
        .take_while(|character| match room.checked_sub(character.len_utf16()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        })
        .collect();
    kept.push_str("...");
    kept
}

/// The script's path as the history table holds it: at most 1,000 characters, its tail after `...`.
pub(crate) fn stored_script(path: &str) -> String {
    if utf16_length(path) <= SCRIPT_LENGTH_MAX {
        return path.to_owned();
    }
    let mut room = SCRIPT_LENGTH_MAX - 3;
    let start = path
        .char_indices()
        .rev()
        .take_while(
            |(_, character)| match room.checked_sub(character.len_utf16()) {
                Some(left) => {
                    room = left;
                    true
                }
                None => false,
            },
        )
        .last()
        .map_or(path.len(), |(at, _)| at);
    format!("...{}", &path[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(path: &str) -> ScriptName {
        match role_of(path) {
            FileRole::Migration(name) => name,
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn versioned_names_split_at_the_first_double_underscore() {
        let name = migration("dir1/V1_2__Add_the__orders.sql");
        assert_eq!(name.version().map(Version::as_str), Some("1.2"));
        assert_eq!(name.description, "Add the  orders");
        assert_eq!(migration("V1.sql").description, "");
        assert_eq!(migration("V1__.SQL").description, "");
        assert_eq!(migration("V1___x.sql").description, " x");
        assert_eq!(
            migration("V20260131120000__x.sql")
                .version()
                .map(Version::as_str),
            Some("20260131120000")
        );
    }

    #[test]
    fn repeatable_names_carry_no_version() {
        assert_eq!(migration("R__all_views.sql").kind, ScriptKind::Repeatable);
        assert!(matches!(role_of("R1__x.sql"), FileRole::Refused(_)));
    }

    #[test]
    fn wrong_names_are_refused_and_strangers_are_left_out() {
        for refused in [
            "V__x.sql",
            "Vx__y.sql",
            "v1__x.sql",
            "U1__x.sql",
            "schema.sql",
            "V1._x.sql",
            "V1-2__x.sql",
            "B__x.sql",
            "afterEachMigrateStatementError.sql",
            "é.sql",
            ".sql.sql/x.sql/V.sql",
        ] {
            let role = role_of(refused);
            let hidden = refused.starts_with('.');
            assert!(
                matches!(role, FileRole::Refused(_)) != hidden,
                "{refused}: {role:?}"
            );
        }
        for stray in [
            "README.md",
            ".DS_Store",
            ".git/V1__x.sql",
            "a/.hidden/V1__x.sql",
            "V1__x.sql.orig",
            "x",
        ] {
            assert_eq!(role_of(stray), FileRole::Stray, "{stray}");
        }
        assert_eq!(role_of("V1__x.sql.conf"), FileRole::ScriptConfig);
        assert!(matches!(role_of("V1__x.sql.CONF"), FileRole::Refused(_)));
    }

    #[test]
    fn long_texts_are_cut_as_flyway_cuts_them() {
        let name = migration(&format!("V1__{}.sql", "d".repeat(201)));
        assert_eq!(name.stored_description(), format!("{}...", "d".repeat(197)));
        let name = migration(&format!("V1__{}.sql", "d".repeat(200)));
        assert_eq!(name.stored_description(), "d".repeat(200));
        let path = format!("a/{}.sql", "p".repeat(1000));
        let stored = stored_script(&path);
        assert_eq!(stored.len(), 1000);
        assert!(stored.starts_with("...p") && stored.ends_with("p.sql"));
        assert_eq!(stored_script("a/b.sql"), "a/b.sql");
    }
}
