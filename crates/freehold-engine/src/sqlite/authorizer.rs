//! What a migration script may do: everything in its own file, and nothing outside of it.
//!
//! SQLite asks for each thing that a statement would do while it prepares it, so a refused statement
//! changes nothing. Refused are:
//!
//! * `ATTACH` and `DETACH` of any file, `VACUUM INTO` (both would read or write files by name). A plain
//!   `VACUUM` attaches a nameless private file of its own, so that is allowed;
//! * extensions (`load_extension`) and `fts3_tokenizer`, which takes a pointer to code;
//! * virtual tables of modules that are not known to keep to the file;
//! * pragmas that are not listed here. Listed are those that read, and those whose effect ends with
//!   the session or stays within the file without weakening it. Not listed are, for example,
//!   `writable_schema`, `temp_store_directory` and `hard_heap_limit` (of the whole process), and
//!   `journal_mode`, `synchronous`, `locking_mode` with values that let the file be damaged by a crash
//!   or lock programs out.
//!
//! `busy_timeout` is ignored, with a notice: scripts set it habitually, and it would replace the
//! waiting that can be cancelled.
//!
//! What it leaves out: how much memory, time and disk a script takes.

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// What a pragma may be given.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// Only asked.
    Nothing,
    /// Any value; often the name of what is asked about.
    Anything,
    /// One of these, in any case, or asked.
    OneOf(&'static [&'static str]),
}

const PRAGMAS: &[(&str, Takes)] = &[
    ("analysis_limit", Takes::Anything),
    ("application_id", Takes::Nothing),
    ("auto_vacuum", Takes::Anything),
    ("automatic_index", Takes::Anything),
    ("cache_size", Takes::Anything),
    ("cache_spill", Takes::Anything),
    ("case_sensitive_like", Takes::Anything),
    ("cell_size_check", Takes::Nothing),
    ("checkpoint_fullfsync", Takes::Nothing),
    ("collation_list", Takes::Nothing),
    ("compile_options", Takes::Nothing),
    ("data_version", Takes::Nothing),
    ("database_list", Takes::Nothing),
    ("defer_foreign_keys", Takes::Anything),
    ("encoding", Takes::Nothing),
    ("foreign_key_check", Takes::Anything),
    ("foreign_key_list", Takes::Anything),
    ("foreign_keys", Takes::Anything),
    ("freelist_count", Takes::Nothing),
    ("fullfsync", Takes::Nothing),
    ("function_list", Takes::Nothing),
    ("ignore_check_constraints", Takes::Anything),
    ("incremental_vacuum", Takes::Anything),
    ("index_info", Takes::Anything),
    ("index_list", Takes::Anything),
    ("index_xinfo", Takes::Anything),
    ("integrity_check", Takes::Anything),
    ("journal_mode", Takes::OneOf(&["wal"])),
    ("journal_size_limit", Takes::Nothing),
    ("legacy_alter_table", Takes::Anything),
    ("locking_mode", Takes::OneOf(&["normal"])),
    ("max_page_count", Takes::Anything),
    ("mmap_size", Takes::Nothing),
    ("module_list", Takes::Nothing),
    ("optimize", Takes::Anything),
    ("page_count", Takes::Nothing),
    ("page_size", Takes::Nothing),
    ("pragma_list", Takes::Nothing),
    ("query_only", Takes::Anything),
    ("quick_check", Takes::Anything),
    ("recursive_triggers", Takes::Anything),
    ("reverse_unordered_selects", Takes::Anything),
    ("schema_version", Takes::Nothing),
    ("secure_delete", Takes::Anything),
    ("shrink_memory", Takes::Nothing),
    (
        "synchronous",
        Takes::OneOf(&["1", "2", "3", "normal", "full", "extra"]),
    ),
    ("table_info", Takes::Anything),
    ("table_list", Takes::Anything),
    ("table_xinfo", Takes::Anything),
    ("temp_store", Takes::Anything),
    ("trusted_schema", Takes::OneOf(&["0", "off", "false", "no"])),
    ("user_version", Takes::Anything),
    ("wal_autocheckpoint", Takes::Nothing),
    ("wal_checkpoint", Takes::Anything),
    (
        "writable_schema",
        Takes::OneOf(&["0", "off", "false", "no"]),
    ),
];

const MODULES: &[&str] = &[
    "fts3",
    "fts3tokenize",
    "fts4",
    "fts4aux",
    "fts5",
    "fts5vocab",
    "geopoly",
    "rtree",
    "rtree_i32",
];

const FUNCTIONS_DENIED: &[&str] = &["load_extension", "fts3_tokenizer"];

/// Decides about one thing that a statement would do. `notice` hears what is ignored.
pub(crate) fn authorize(asked: AuthContext<'_>, notice: &mut dyn FnMut(String)) -> Authorization {
    let allowed = match asked.action {
        AuthAction::Attach { filename } => filename.is_empty(),
        AuthAction::Detach { .. } | AuthAction::Unknown { .. } => false,
        AuthAction::Function { function_name } => !is_in(FUNCTIONS_DENIED, function_name),
        AuthAction::CreateVtable { module_name, .. } => is_in(MODULES, module_name),
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } => {
            if pragma_name.eq_ignore_ascii_case("busy_timeout") && pragma_value.is_some() {
                notice("PRAGMA busy_timeout was ignored: Freehold waits for locks itself".into());
                return Authorization::Ignore;
            }
            may_pragma(pragma_name, pragma_value)
        }
        _ => true,
    };
    if allowed {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

fn may_pragma(name: &str, value: Option<&str>) -> bool {
    if name.eq_ignore_ascii_case("busy_timeout") {
        return true;
    }
    let listed = PRAGMAS
        .iter()
        .find(|(listed, _)| listed.eq_ignore_ascii_case(name));
    match (listed, value) {
        (Some(_), None) | (Some((_, Takes::Anything)), Some(_)) => true,
        (None, _) | (Some((_, Takes::Nothing)), Some(_)) => false,
        (Some((_, Takes::OneOf(values))), Some(value)) => is_in(values, value),
    }
}

fn is_in(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_says_each_once() {
        assert!(PRAGMAS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
