//! Sorts a statement for SQLite by its keywords.

use super::lexer::Lexer;
use crate::{
    StatementClass, TransactionControl,
    dialect::token::{TokenKind, is_any},
};

/// The class of the statement at `start..end` of `text`.
pub(super) fn classify(text: &str, start: usize, end: usize) -> StatementClass {
    let words = Words {
        lexer: Lexer::inside(text, start, end),
        text,
    };
    if loads_extension(text, start, end) {
        return StatementClass::Refused {
            reason: "load_extension brings a program's code into the process that runs the migration",
            advice: "Remove it.",
        };
    }
    // No rule looks further.
    let words: Vec<&str> = words.take(8).collect();
    let Some((first, rest)) = words.split_first() else {
        return StatementClass::Ordinary;
    };
    by_keywords(&first.to_ascii_uppercase(), rest)
}

fn by_keywords(first: &str, rest: &[&str]) -> StatementClass {
    use TransactionControl::{Begin, Commit, Rollback, Savepoint};
    let second = rest.first().copied().unwrap_or_default();
    let has = |word: &str| rest.iter().any(|other| other.eq_ignore_ascii_case(word));
    match first {
        "BEGIN" => StatementClass::Transaction(Begin { read_only: false }),
        "COMMIT" | "END" => StatementClass::Transaction(Commit),
        "ROLLBACK" if has("to") => StatementClass::Transaction(Savepoint),
        "ROLLBACK" => StatementClass::Transaction(Rollback),
        "SAVEPOINT" | "RELEASE" => StatementClass::Transaction(Savepoint),
        "ATTACH" | "DETACH" => StatementClass::Refused {
            reason: "ATTACH reaches out to another file, and a migration stays in its own",
            advice: "Remove it, and the database's name before tables.",
        },
        "VACUUM" if has("into") => StatementClass::Refused {
            reason: "VACUUM INTO writes another file, and a migration stays in its own",
            advice: "Remove it; backups are made elsewhere.",
        },
        "VACUUM" => StatementClass::NonTransactional {
            what: "VACUUM",
            flyway_knows: false,
        },
        "CREATE" if is_any(second, &["temp", "temporary"]) => StatementClass::Temporary,
        "PRAGMA" => pragma(rest),
        _ => StatementClass::Ordinary,
    }
}

fn loads_extension(text: &str, start: usize, end: usize) -> bool {
    let name = b"load_extension";
    let mentions = text.as_bytes()[start..end]
        .windows(name.len())
        .any(|window| window.eq_ignore_ascii_case(name));
    let is_call = || {
        let mut lexer = Lexer::inside(text, start, end);
        let mut previous = "";
        while let Ok(Some(token)) = lexer.next_token() {
            if token.kind == TokenKind::Sign(b'(')
                && previous
                    .trim_matches(['"', '`', '[', ']'])
                    .eq_ignore_ascii_case("load_extension")
            {
                return true;
            }
            previous = &text[token.start..token.end];
        }
        false
    };
    mentions && is_call()
}

/// Only what is about the schema, its checks or a look at them. Everything else changes how the file
/// or the process works, which is not a migration's to say.
fn pragma(rest: &[&str]) -> StatementClass {
    let name = match rest {
        [_, ".", name, ..] | [name, ..] => name.trim_matches(['"', '`', '[', ']', '\'']),
        [] => "",
    };
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        // Inside a transaction it would do nothing, without a word.
        "foreign_keys" => StatementClass::NonTransactional {
            what: "PRAGMA foreign_keys",
            flyway_knows: true,
        },
        "auto_vacuum" | "incremental_vacuum" | "page_size" | "wal_checkpoint" => {
            StatementClass::NonTransactional {
                what: "a PRAGMA of the file's layout",
                flyway_knows: false,
            }
        }
        name if LOOKS.contains(&name) || SETTINGS.contains(&name) => StatementClass::Setting,
        "user_version" => StatementClass::Ordinary,
        _ => StatementClass::Refused {
            reason: "this PRAGMA changes how the file or the process works, not the schema",
            advice: "Remove it; journal, locking and safety are the platform's to set.",
        },
    }
}

const LOOKS: &[&str] = &[
    "collation_list",
    "compile_options",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

const SETTINGS: &[&str] = &[
    "analysis_limit",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "case_sensitive_like",
    "defer_foreign_keys",
    "encoding",
    "ignore_check_constraints",
    "legacy_alter_table",
    "optimize",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "temp_store",
];

/// The tokens of a statement, as they are written.
struct Words<'a> {
    lexer: Lexer<'a>,
    text: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let token = self.lexer.next_token().ok().flatten()?;
        Some(&self.text[token.start..token.end])
    }
}
