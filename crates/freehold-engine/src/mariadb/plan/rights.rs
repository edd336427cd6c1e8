//! Which rights there are, and which a level has.
//!
//! Rights are granted directly to each login, never through roles: a view made while a default role
//! was active fails once it is not (error 1356).
//!
//! * **No login slot may define programs** (views, triggers, routines, events): they would run in the
//!   slot's name and stop when it is retired. Migrations make them, in the name of the migrator's
//!   account, which stays.
//! * A routine runs with its definer's rights unless it says otherwise, so only who may write may
//!   call one.
//! * The right to drop tables is the right to drop the database: MariaDB has no smaller one.

use std::collections::BTreeSet;

use freehold_model::kinds::AccessLevel;

/// The columns of `mysql.db` and what they stand for in a `GRANT`.
pub(crate) const DATABASE: [(&str, &str); 20] = [
    ("Select_priv", "SELECT"),
    ("Insert_priv", "INSERT"),
    ("Update_priv", "UPDATE"),
    ("Delete_priv", "DELETE"),
    ("Create_priv", "CREATE"),
    ("Drop_priv", "DROP"),
    ("Grant_priv", GRANT_OPTION),
    ("References_priv", "REFERENCES"),
    ("Index_priv", "INDEX"),
    ("Alter_priv", "ALTER"),
    ("Create_tmp_table_priv", "CREATE TEMPORARY TABLES"),
    ("Lock_tables_priv", "LOCK TABLES"),
    ("Create_view_priv", "CREATE VIEW"),
    ("Show_view_priv", "SHOW VIEW"),
    ("Create_routine_priv", "CREATE ROUTINE"),
    ("Alter_routine_priv", "ALTER ROUTINE"),
    ("Execute_priv", "EXECUTE"),
    ("Event_priv", EVENT),
    ("Trigger_priv", "TRIGGER"),
    ("Delete_history_priv", "DELETE HISTORY"),
];

pub(crate) const GRANT_OPTION: &str = "GRANT OPTION";
pub(crate) const EVENT: &str = "EVENT";

const READ: &[&str] = &["SELECT", "SHOW VIEW"];

const WRITE: &[&str] = &[
    "SELECT",
    "SHOW VIEW",
    "INSERT",
    "UPDATE",
    "DELETE",
    "EXECUTE",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
];

/// What an owner has beyond writing: everything about tables.
const DEFINE: &[&str] = &["CREATE", "DROP", "REFERENCES", "INDEX", "ALTER"];

/// What only migrations have: programs.
const PROGRAM: &[&str] = &[
    "CREATE VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    EVENT,
    "TRIGGER",
];

pub(crate) type Privileges = BTreeSet<String>;

/// What a level may do in a whole database.
pub(crate) fn on_database(level: AccessLevel) -> Privileges {
    match level {
        AccessLevel::ReadOnly => set(&[READ]),
        AccessLevel::ReadWrite => set(&[WRITE]),
        AccessLevel::Owner => set(&[WRITE, DEFINE]),
    }
}

/// What a level may do with one table. No level below owner may define.
pub(crate) fn on_table(level: AccessLevel) -> Privileges {
    match level {
        AccessLevel::ReadOnly => set(&[READ]),
        AccessLevel::ReadWrite | AccessLevel::Owner => {
            set(&[READ, &["INSERT", "UPDATE", "DELETE"]])
        }
    }
}

/// What migrations may do. In a closed database their events rest.
pub(crate) fn of_migrator(open: bool) -> Privileges {
    let mut privileges = set(&[WRITE, DEFINE, PROGRAM]);
    if !open {
        privileges.remove(EVENT);
    }
    privileges
}

/// Everything that the admin must be able to pass on.
pub(crate) fn all() -> Privileges {
    of_migrator(true)
}

fn set(parts: &[&[&str]]) -> Privileges {
    let all = parts.iter().flat_map(|part| part.iter());
    all.map(|privilege| (*privilege).to_owned()).collect()
}

/// Reads the flags of `mysql.db`, in the order of [`DATABASE`].
pub(crate) fn of_flags(flags: &str) -> Privileges {
    let set = flags.chars().zip(DATABASE).filter(|(flag, _)| *flag == 'Y');
    set.map(|(_, (_, privilege))| privilege.to_owned())
        .collect()
}

/// Reads a set column of the other grant tables: `Select,Show view,Grant`.
pub(crate) fn of_set(set: &str) -> Privileges {
    set.split(',')
        .filter(|word| !word.is_empty())
        .map(|word| match word.to_uppercase().as_str() {
            "GRANT" => GRANT_OPTION.to_owned(),
            "DELETE VERSIONING ROWS" => "DELETE HISTORY".to_owned(),
            other => other.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogs_words_are_read() {
        assert_eq!(of_flags("YNNNNNY"), set(&[&["SELECT", GRANT_OPTION]]));
        assert_eq!(
            of_set("Select,Create View,Grant,Delete versioning rows"),
            set(&[&["SELECT", "CREATE VIEW", GRANT_OPTION, "DELETE HISTORY"]])
        );
        assert_eq!(of_set(""), Privileges::new());
    }

    #[test]
    fn every_right_of_a_level_can_be_read_back() {
        let known: BTreeSet<&str> = DATABASE.iter().map(|(_, privilege)| *privilege).collect();
        for privilege in all() {
            assert!(known.contains(privilege.as_str()), "{privilege}");
        }
    }

    #[test]
    fn levels_only_add() {
        let levels = [
            on_database(AccessLevel::ReadOnly),
            on_database(AccessLevel::ReadWrite),
            on_database(AccessLevel::Owner),
            of_migrator(true),
        ];
        for pair in levels.windows(2) {
            assert!(pair[0].is_subset(&pair[1]));
        }
        for level in &levels[..3] {
            assert!(level.iter().all(|right| !PROGRAM.contains(&right.as_str())));
        }
    }
}
