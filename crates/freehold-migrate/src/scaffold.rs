//! The next migration's file: its name in the folder's own style, and what stands in it at first.

use jiff::Timestamp;

use crate::{FileRole, Version, role_of};

/// A file to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMigration {
    pub file_name: String,
    pub content: String,
}

/// The next versioned migration for a folder with these paths.
///
/// A folder of timestamps (14 digits, `20260131120000`) goes on with one; a folder of whole numbers
/// with the next number, as wide as the widest (`V007` after `V006`); a folder of dotted versions
/// with the next whole number above its highest. An empty folder starts with `V1`.
pub fn next_versioned<'a>(
    paths: impl IntoIterator<Item = &'a str>,
    description: &str,
    now: Timestamp,
) -> NewMigration {
    let versions: Vec<Version> = paths.into_iter().filter_map(version_of).collect();
    let version = match versions.iter().max() {
        None => "1".to_owned(),
        Some(highest) if is_timestamp(highest) => next_timestamp(highest, now),
        Some(highest) => next_number(highest, &versions),
    };
    let words = file_words(description);
    NewMigration {
        file_name: format!("V{version}__{words}.sql"),
        content: format!(
            "-- {title}\n\
             --\n\
             -- Runs once, in a transaction together with its history row: write no BEGIN and COMMIT.\n\
             -- Once it has run anywhere it must not change any more; a correction is the next migration.\n\
             -- Statements that cannot run in a transaction (CREATE INDEX CONCURRENTLY, VACUUM, …) go\n\
             -- into a migration of their own. In MySQL and MariaDB every change of the schema commits\n\
             -- by itself: keep one to a migration, and changes of data in migrations of their own.\n\n",
            title = title(description),
        ),
    }
}

/// A repeatable migration, which runs again whenever it has changed.
pub fn new_repeatable(description: &str) -> NewMigration {
    NewMigration {
        file_name: format!("R__{}.sql", file_words(description)),
        content: format!(
            "-- {title}\n\
             --\n\
             -- Runs after all versioned migrations, again whenever this file has changed: every statement\n\
             -- must be repeatable (CREATE OR REPLACE …, DROP … IF EXISTS).\n\n",
            title = title(description),
        ),
    }
}

fn version_of(path: &str) -> Option<Version> {
    match role_of(path) {
        FileRole::Migration(name) => name.version().cloned(),
        _ => None,
    }
}

fn is_timestamp(version: &Version) -> bool {
    let text = version.as_str();
    text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.starts_with("20")
}

/// Now, or one above the highest when that lies ahead of this clock.
fn next_timestamp(highest: &Version, now: Timestamp) -> String {
    let now = now.strftime("%Y%m%d%H%M%S").to_string();
    match now.parse::<Version>() {
        Ok(version) if version > *highest => now,
        _ => increment(highest.as_str()),
    }
}

fn next_number(highest: &Version, versions: &[Version]) -> String {
    let is_whole = versions
        .iter()
        .all(|version| !version.as_str().contains('.'));
    let next = increment(highest.first_part());
    let width = versions
        .iter()
        .map(|version| version.as_str().len())
        .max()
        .filter(|_| is_whole)
        .unwrap_or_default();
    format!("{next:0>width$}")
}

/// One more, for decimal digits of any length.
fn increment(digits: &str) -> String {
    let mut next: Vec<u8> = digits.bytes().collect();
    for digit in next.iter_mut().rev() {
        if *digit == b'9' {
            *digit = b'0';
        } else {
            *digit += 1;
            return String::from_utf8_lossy(&next).into_owned();
        }
    }
    format!("1{}", String::from_utf8_lossy(&next))
}

/// What may stand in a file name on every system, without the separator `__`.
fn file_words(description: &str) -> String {
    let mut words = String::new();
    for character in description.trim().chars() {
        let kept = if character.is_alphanumeric() {
            character
        } else {
            '_'
        };
        if !(kept == '_' && (words.is_empty() || words.ends_with('_'))) {
            words.extend(kept.to_lowercase());
        }
    }
    let words: String = words.trim_end_matches('_').chars().take(80).collect();
    if words.is_empty() {
        "change".to_owned()
    } else {
        words
    }
}

/// One line of a comment: nothing may break out of it.
fn title(description: &str) -> String {
    let line: String = description
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    line.trim().replace("${", "$ {")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bundle, ScriptName};

    fn next(paths: &[&str]) -> String {
        let now = "2026-01-31T12:00:00Z".parse().expect("a time");
        next_versioned(paths.iter().copied(), "x", now).file_name
    }

    #[test]
    fn the_folders_style_goes_on() {
        assert_eq!(next(&[]), "V1__x.sql");
        assert_eq!(next(&["README.md", "R__x.sql"]), "V1__x.sql");
        assert_eq!(next(&["V1__a.sql", "V2__b.sql"]), "V3__x.sql");
        assert_eq!(next(&["V9__a.sql"]), "V10__x.sql");
        assert_eq!(next(&["V001__a.sql", "sub/V009__b.sql"]), "V010__x.sql");
        assert_eq!(next(&["V1.2__a.sql", "V1.10__b.sql"]), "V2__x.sql");
        assert_eq!(next(&["V20250101000000__a.sql"]), "V20260131120000__x.sql");
        assert_eq!(next(&["V20990101000000__a.sql"]), "V20990101000001__x.sql");
        assert_eq!(
            next(&["V99999999999999999999__a.sql"]),
            "V100000000000000000000__x.sql"
        );
    }

    #[test]
    fn any_description_gives_a_valid_name_and_a_script_that_runs() {
        let now = "2026-01-31T12:00:00Z".parse().expect("a time");
        for description in [
            "Add the orders!",
            "a__b",
            "",
            "\n; DROP TABLE x; --",
            "ä/../b",
            "${x}",
        ] {
            let new = next_versioned([], description, now);
            let FileRole::Migration(ScriptName {
                description: words, ..
            }) = role_of(&new.file_name)
            else {
                panic!("{} is no migration", new.file_name);
            };
            assert!(!words.is_empty());
            let bundle = Bundle::from_files([(new.file_name, new.content)]).expect("a bundle");
            assert_eq!(bundle.check(), []);
        }
        assert_eq!(
            next_versioned([], "Add the orders!", now).file_name,
            "V1__add_the_orders.sql"
        );
        assert_eq!(new_repeatable("All Views").file_name, "R__all_views.sql");
    }
}
