//! Sorts a statement for MySQL or MariaDB by its keywords.
//!
//! What matters most is whether it commits: a script of statements that don't runs in one
//! transaction, any other cannot be undone. `CALL`, `EXECUTE` and compound statements may commit, so
//! they count as if they did. The words in `/*! … */` are read like all others.

use super::lexer::Lexer;
use crate::{
    StatementClass, TransactionControl,
    dialect::token::{TokenKind, is_any},
};

/// The class of the statement at `start..end` of `text`.
pub(super) fn classify(text: &str, start: usize, end: usize) -> StatementClass {
    let mut words = Words {
        lexer: Lexer::inside(text, start, end),
        text,
        depth: 0,
    };
    let Some(first) = words.next() else {
        return StatementClass::Ordinary;
    };
    let upper = first.to_ascii_uppercase();
    match upper.as_str() {
        // The bulk of all scripts' bytes: nothing in it is of interest.
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" => return StatementClass::Ordinary,
        "SELECT" | "WITH" | "TABLE" | "VALUES" => return query(words),
        _ => {}
    }
    let rest: Vec<&str> = words.collect();
    transaction_control(&upper, &rest)
        .or_else(|| refused(&upper, &rest))
        .or_else(|| setting(&upper, &rest, &text[start..end]))
        .or_else(|| committing(&upper, &rest))
        .unwrap_or(StatementClass::Ordinary)
}

/// The name that a `CREATE TEMPORARY TABLE` gives, as it is written there.
pub(crate) fn temporary_name(text: &str, start: usize, end: usize) -> Option<&str> {
    let mut lexer = Lexer::inside(text, start, end);
    let introducing = [
        "create",
        "or",
        "replace",
        "temporary",
        "table",
        "sequence",
        "if",
        "not",
        "exists",
    ];
    let mut name: Option<(usize, usize)> = None;
    while let Some(token) = lexer.next_token().ok().flatten() {
        let word = &text[token.start..token.end];
        match (token.kind, name) {
            (TokenKind::Marker, _) => {}
            (TokenKind::Word, None) if is_any(word, &introducing) => {}
            (TokenKind::Word | TokenKind::QuotedName, None) => {
                name = Some((token.start, token.end));
            }
            (TokenKind::Sign(b'.'), Some((start, _))) => name = Some((start, token.end)),
            // A dot waits for the rest of the name.
            (TokenKind::Word | TokenKind::QuotedName, Some((start, end)))
                if text[..end].ends_with('.') =>
            {
                name = Some((start, token.end));
            }
            _ => break,
        }
    }
    name.map(|(start, end)| &text[start..end])
}

fn query(words: Words<'_>) -> StatementClass {
    let mut previous = "";
    for word in words {
        if previous.eq_ignore_ascii_case("into") && is_any(word, &["outfile", "dumpfile"]) {
            return StatementClass::Refused {
                reason: "SELECT … INTO OUTFILE writes a file on the server",
                advice: "Remove it from the migration; export data with another tool.",
            };
        }
        previous = word;
    }
    StatementClass::Ordinary
}

fn transaction_control(first: &str, rest: &[&str]) -> Option<StatementClass> {
    use TransactionControl::{Begin, Chain, Commit, Rollback, Savepoint};
    let has = |word: &str| is_in(rest, word);
    let control = match first {
        "BEGIN" if is(rest, 0, "not") => return None,
        "START" if !is(rest, 0, "transaction") => return None,
        "BEGIN" | "START" => Begin {
            read_only: has("read") && has("only"),
        },
        "COMMIT" | "ROLLBACK" if has("release") && !has("no") => {
            return Some(StatementClass::Refused {
                reason: "RELEASE ends the connection, and with it the migration lock",
                advice: "Remove the word RELEASE.",
            });
        }
        "COMMIT" | "ROLLBACK" if has("chain") && !has("no") => Chain,
        "COMMIT" => Commit,
        "ROLLBACK" if has("to") => Savepoint,
        "ROLLBACK" => Rollback,
        "SAVEPOINT" => Savepoint,
        "RELEASE" if is(rest, 0, "savepoint") => Savepoint,
        "XA" => {
            return Some(StatementClass::Refused {
                reason: "an XA transaction outlives its connection and would tear the script from its history row",
                advice: "Use a plain transaction.",
            });
        }
        _ => return None,
    };
    Some(StatementClass::Transaction(control))
}

const ACCOUNTS: StatementClass = StatementClass::Refused {
    reason: "accounts, roles and rights are the platform's, not a migration's",
    advice: "Declare the access in a manifest instead, and remove the statement.",
};
const SERVER: StatementClass = StatementClass::Refused {
    reason: "this is about the whole server, not about this database",
    advice: "Remove it, and ask those who run the server.",
};
const FILES: StatementClass = StatementClass::Refused {
    reason: "LOAD DATA and LOAD XML read files that a migration does not bring along",
    advice: "Write the rows as INSERT statements.",
};
const OTHER_DATABASE: StatementClass = StatementClass::Refused {
    reason: "a migration stays in its own database",
    advice: "Remove the statement, and the database's name before tables.",
};

fn refused(first: &str, rest: &[&str]) -> Option<StatementClass> {
    let second = |words: &[&str]| rest.first().is_some_and(|word| is_any(word, words));
    match first {
        "USE" => Some(OTHER_DATABASE),
        "CREATE" | "DROP" if second(&["database", "schema"]) => Some(OTHER_DATABASE),
        "CREATE" if is_in(rest, "database") && is(rest, 0, "or") && is(rest, 2, "database") => {
            Some(OTHER_DATABASE)
        }
        "GRANT" | "REVOKE" => Some(ACCOUNTS),
        "CREATE" | "ALTER" | "DROP" | "RENAME" if second(&["user", "role"]) => Some(ACCOUNTS),
        "CREATE" if is(rest, 0, "or") && (is(rest, 2, "user") || is(rest, 2, "role")) => {
            Some(ACCOUNTS)
        }
        "CREATE" | "ALTER" | "DROP" if second(&["server", "logfile", "tablespace", "instance"]) => {
            Some(SERVER)
        }
        "CREATE" if is_in(rest, "function") && is_in(rest, "soname") => Some(SERVER),
        "LOAD" if second(&["data", "xml"]) => Some(FILES),
        "FLUSH" | "RESET" | "PURGE" | "CHANGE" | "STOP" | "SHUTDOWN" | "RESTART" | "KILL"
        | "INSTALL" | "UNINSTALL" | "BACKUP" | "BINLOG" | "CLONE" | "IMPORT" | "START" => {
            Some(SERVER)
        }
        "LOCK" | "UNLOCK" if second(&["instance"]) => Some(SERVER),
        _ => None,
    }
}

/// What commits the transaction before or after itself, or may.
fn committing(first: &str, rest: &[&str]) -> Option<StatementClass> {
    let temporary = |index: usize| is(rest, index, "temporary");
    let what = match first {
        "CREATE" if temporary(0) || (is(rest, 0, "or") && temporary(2)) => {
            return Some(StatementClass::Temporary);
        }
        "DROP" if temporary(0) => return None,
        "CREATE" => "CREATE",
        "ALTER" => "ALTER",
        "DROP" => "DROP",
        "RENAME" => "RENAME",
        "TRUNCATE" => "TRUNCATE",
        "ANALYZE"
            if is_any(rest.first().unwrap_or(&""), &["table", "tables"]) || log_option(rest) =>
        {
            "ANALYZE TABLE"
        }
        "OPTIMIZE" => "OPTIMIZE TABLE",
        "CHECK" => "CHECK TABLE",
        "REPAIR" => "REPAIR TABLE",
        "CACHE" => "CACHE INDEX",
        "LOAD" => "LOAD INDEX",
        "LOCK" => "LOCK TABLES",
        "UNLOCK" => "UNLOCK TABLES",
        "CALL" => "CALL",
        "EXECUTE" => "EXECUTE",
        "BEGIN" | "IF" | "CASE" | "LOOP" | "REPEAT" | "WHILE" | "FOR" => "a compound statement",
        _ => return None,
    };
    Some(StatementClass::NonTransactional {
        what,
        flyway_knows: true,
    })
}

fn log_option(rest: &[&str]) -> bool {
    rest.first()
        .is_some_and(|word| is_any(word, &["local", "no_write_to_binlog"]))
}

fn setting(first: &str, rest: &[&str], statement: &str) -> Option<StatementClass> {
    match first {
        "SHOW" | "DESCRIBE" | "DESC" | "EXPLAIN" | "HELP" | "DEALLOCATE" => {
            Some(StatementClass::Setting)
        }
        "PREPARE" | "HANDLER" => Some(StatementClass::Prepare),
        "SET" => Some(set(rest, statement)),
        _ => None,
    }
}

fn set(rest: &[&str], statement: &str) -> StatementClass {
    if is(rest, 0, "statement") {
        return set_for(rest);
    }
    if is(rest, 0, "password") || (is(rest, 0, "default") && is(rest, 1, "role")) {
        return ACCOUNTS;
    }
    if is(rest, 0, "role") {
        return StatementClass::RoleChange;
    }
    if is(rest, 0, "resource") {
        return SERVER;
    }
    let mut autocommit = false;
    for item in rest.split(|word| *word == ",") {
        match set_item(item, statement) {
            Item::Plain => {}
            Item::Autocommit => autocommit = true,
            Item::Refused(class) => return class,
        }
    }
    if autocommit {
        return StatementClass::Transaction(TransactionControl::Autocommit);
    }
    StatementClass::Setting
}

/// `SET STATEMENT … FOR …` is MariaDB's way to set something for one statement.
fn set_for(rest: &[&str]) -> StatementClass {
    let Some(at) = rest
        .iter()
        .position(|word| word.eq_ignore_ascii_case("for"))
    else {
        return StatementClass::Setting;
    };
    let Some((first, rest)) = rest[at + 1..].split_first() else {
        return StatementClass::Setting;
    };
    let upper = first.to_ascii_uppercase();
    transaction_control(&upper, rest)
        .or_else(|| refused(&upper, rest))
        .or_else(|| committing(&upper, rest))
        .unwrap_or(StatementClass::Ordinary)
}

enum Item {
    Plain,
    Autocommit,
    Refused(StatementClass),
}

/// One `name = value` of a SET, its words without those in parentheses.
fn set_item(item: &[&str], statement: &str) -> Item {
    let signs = ["@", ".", ":"];
    let at = item
        .iter()
        .position(|word| *word == "=")
        .unwrap_or(item.len());
    let mut names: Vec<&str> = item[..at]
        .iter()
        .copied()
        .filter(|word| !signs.contains(word))
        .collect();
    let is_user_variable = is(item, 0, "@") && !is(item, 1, "@");
    if is_user_variable {
        return Item::Plain;
    }
    let is_server = names.len() > 1 && is_any(names[0], &["global", "persist", "persist_only"]);
    if is_server {
        return Item::Refused(SERVER);
    }
    if names.len() > 1 && is_any(names[0], &["session", "local"]) {
        names.remove(0);
    }
    let value = item.get(at + 1).copied().unwrap_or_default();
    match names
        .first()
        .map(|name| name.trim_matches('`').to_ascii_lowercase())
        .as_deref()
    {
        Some("autocommit") => Item::Autocommit,
        Some("sql_log_bin" | "pseudo_thread_id") => Item::Refused(SERVER),
        Some("sql_mode") => sql_mode(statement),
        Some("names" | "charset") => encoding(names.get(1).copied().unwrap_or_default()),
        Some("character") if is(&names, 1, "set") => {
            encoding(names.get(2).copied().unwrap_or_default())
        }
        Some("character_set_client" | "character_set_connection") => encoding(value),
        _ => Item::Plain,
    }
}

/// With other rules for quotes the server would see other statements than the splitter did.
fn sql_mode(statement: &str) -> Item {
    let upper = statement.to_ascii_uppercase();
    let mut modes = upper.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if modes.any(|mode| super::FOREIGN_MODES.contains(&mode)) {
        return Item::Refused(StatementClass::Refused {
            reason: "with ANSI_QUOTES, NO_BACKSLASH_ESCAPES or another product's mode, quotes and backslashes mean something else than the splitter reads",
            advice: "Leave these words out of sql_mode, quote names with ` and strings with '.",
        });
    }
    Item::Plain
}

/// The script travels as UTF-8; told otherwise, the server would store other characters.
fn encoding(value: &str) -> Item {
    let value = value.trim_matches(['\'', '"']).to_ascii_lowercase();
    // A variable holds what a dump saved before, and puts back now.
    let is_fine = value.starts_with("utf8") || matches!(value.as_str(), "default" | "@" | "");
    if is_fine {
        return Item::Plain;
    }
    Item::Refused(StatementClass::Refused {
        reason: "the script is sent as UTF-8, and the server would read it in another encoding",
        advice: "Say utf8mb4; if the file is not UTF-8, convert it.",
    })
}

fn is(words: &[&str], index: usize, word: &str) -> bool {
    words
        .get(index)
        .is_some_and(|other| other.eq_ignore_ascii_case(word))
}

fn is_in(words: &[&str], word: &str) -> bool {
    words.iter().any(|other| other.eq_ignore_ascii_case(word))
}

/// The tokens of a statement that stand outside parentheses, as they are written.
struct Words<'a> {
    lexer: Lexer<'a>,
    text: &'a str,
    depth: u32,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            // The splitter has been here: nothing is left open.
            let token = self.lexer.next_token().ok().flatten()?;
            match token.kind {
                TokenKind::Sign(b'(') => self.depth += 1,
                TokenKind::Sign(b')') => self.depth = self.depth.saturating_sub(1),
                TokenKind::Marker => {}
                _ if self.depth == 0 => return Some(&self.text[token.start..token.end]),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_tables_are_known_by_the_name_that_is_written() {
        for (statement, name) in [
            ("CREATE TEMPORARY TABLE a (n INT)", Some("a")),
            (
                "create or replace temporary table if not exists `a;``b` select 1",
                Some("`a;``b`"),
            ),
            (
                "CREATE TEMPORARY TABLE shop.`b c` LIKE d",
                Some("shop.`b c`"),
            ),
            (
                "/*!40000 CREATE TEMPORARY TABLE */ x AS SELECT 1",
                Some("x"),
            ),
            ("CREATE TEMPORARY TABLE", None),
            ("CREATE TEMPORARY TABLE 'x'", None),
        ] {
            assert_eq!(temporary_name(statement, 0, statement.len()), name);
        }
    }
}
