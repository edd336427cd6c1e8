//! Sorts a statement by its keywords.
//!
//! Flyway looks at a statement's first keywords only. We look at all of those outside parentheses
//! where it matters, and so find `REINDEX … CONCURRENTLY`, `DETACH PARTITION … CONCURRENTLY`,
//! `CLUSTER` of everything and a few more that Flyway would send inside a transaction.

use super::lexer::Lexer;
use crate::{StatementClass, TransactionControl, dialect::token::TokenKind};

/// The class of the statement at `start..end` of `text`; COPY blocks are the splitter's matter.
pub(super) fn classify(text: &str, start: usize, end: usize) -> StatementClass {
    let mut words = Words::new(text, start, end);
    let Some(first) = words.next() else {
        return StatementClass::Ordinary;
    };
    let class = if first.eq_ignore_ascii_case("insert") || first.eq_ignore_ascii_case("select") {
        None
    } else {
        transaction_control(first, &mut words.clone())
            .or_else(|| session_statement(first, &mut words.clone()))
            .or_else(|| reindexing(first, text, start, end))
            .or_else(|| non_transactional(first, &words.collect::<Vec<_>>()))
    };
    class.unwrap_or(StatementClass::Ordinary)
}

fn transaction_control(first: &str, rest: &mut Words<'_>) -> Option<StatementClass> {
    use TransactionControl::{Begin, Chain, Commit, PrepareTransaction, Rollback, Savepoint};
    let upper = first.to_ascii_uppercase();
    let keyword = upper.as_str();
    if !matches!(
        keyword,
        "BEGIN"
            | "START"
            | "COMMIT"
            | "END"
            | "ROLLBACK"
            | "ABORT"
            | "PREPARE"
            | "SAVEPOINT"
            | "RELEASE"
    ) {
        return None;
    }
    let rest: Vec<&str> = rest.collect();
    let has = |word: &str| rest.iter().any(|other| other.eq_ignore_ascii_case(word));
    let second = |word: &str| {
        rest.first()
            .is_some_and(|other| other.eq_ignore_ascii_case(word))
    };
    let chained = has("chain") && !has("no");
    let control = match keyword {
        "START" if !second("transaction") => return None,
        "BEGIN" | "START" => Begin {
            read_only: has("read") && has("only"),
        },
        "COMMIT" | "END" | "ROLLBACK" if second("prepared") => {
            return Some(non("COMMIT PREPARED and ROLLBACK PREPARED", false));
        }
        "COMMIT" | "END" | "ROLLBACK" | "ABORT" if chained => Chain,
        "COMMIT" | "END" => Commit,
        "ROLLBACK" if has("to") => Savepoint,
        "ROLLBACK" | "ABORT" => Rollback,
        "PREPARE" if second("transaction") => PrepareTransaction,
        "PREPARE" => return Some(StatementClass::Prepare),
        _ => Savepoint,
    };
    Some(StatementClass::Transaction(control))
}

fn session_statement(first: &str, rest: &mut Words<'_>) -> Option<StatementClass> {
    if first.eq_ignore_ascii_case("discard") {
        let all = rest
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("all"));
        return all.then_some(StatementClass::Refused {
            reason: "DISCARD ALL would give up the migration lock that keeps a second runner out",
            advice: "Remove it: the session is put back to its beginnings after every script anyway.",
        });
    }
    if first.eq_ignore_ascii_case("show") {
        return Some(StatementClass::Setting);
    }
    if !first.eq_ignore_ascii_case("set") && !first.eq_ignore_ascii_case("reset") {
        return None;
    }
    let words: Vec<String> = rest
        .map(|word| word.trim_matches('"').to_ascii_lowercase())
        .collect();
    let mut words = words.iter().map(String::as_str).peekable();
    words.next_if(|word| *word == "local");
    if words.next_if(|word| *word == "session").is_some() {
        return Some(match words.peek() {
            Some(&"authorization" | &"role") => StatementClass::RoleChange,
            _ => StatementClass::Setting,
        });
    }
    Some(match words.next() {
        Some("role" | "session_authorization") => StatementClass::RoleChange,
        Some("standard_conforming_strings") if first.eq_ignore_ascii_case("set") => {
            string_rules(words.last().unwrap_or_default())
        }
        Some("client_encoding" | "names") if first.eq_ignore_ascii_case("set") => {
            encoding(words.last().unwrap_or_default())
        }
        // What the transaction itself is told must stay in it.
        Some("transaction" | "constraints") => StatementClass::Ordinary,
        _ => StatementClass::Setting,
    })
}

/// With other string rules the server would see other statements than the splitter did.
fn string_rules(value: &str) -> StatementClass {
    match value.trim_matches('\'') {
        "on" | "true" | "yes" | "1" | "default" => StatementClass::Setting,
        _ => StatementClass::Refused {
            reason: "with standard_conforming_strings off, a backslash in a plain string means something else",
            advice: "Remove the setting and write strings with backslash escapes as E'…'.",
        },
    }
}

/// The script travels as UTF-8; told otherwise, the server would store other characters.
fn encoding(value: &str) -> StatementClass {
    match value.trim_matches('\'') {
        "utf8" | "utf-8" | "unicode" | "default" => StatementClass::Setting,
        _ => StatementClass::Refused {
            reason: "the script is sent as UTF-8, and the server would read it in another encoding",
            advice: "Remove the setting; if the file is not UTF-8, convert it.",
        },
    }
}

/// `REINDEX (CONCURRENTLY) …`: an option in parentheses, unless it is switched off.
fn reindexing(first: &str, text: &str, start: usize, end: usize) -> Option<StatementClass> {
    if !first.eq_ignore_ascii_case("reindex") {
        return None;
    }
    let mut lexer = Lexer::new(&text[..end], start);
    let mut tokens = std::iter::from_fn(|| lexer.next_token().ok().flatten());
    tokens.find(|token| token.kind == TokenKind::Sign(b'('))?;
    let options: Vec<&str> = tokens
        .take_while(|token| token.kind != TokenKind::Sign(b')'))
        .map(|token| &text[token.start..token.end])
        .collect();
    let at = options
        .iter()
        .position(|word| word.eq_ignore_ascii_case("concurrently"))?;
    let is_off = options.get(at + 1).is_some_and(|value| {
        let value = value.trim_matches('\'').to_ascii_lowercase();
        ["false", "off", "0"].contains(&value.as_str())
    });
    (!is_off).then(|| non("REINDEX … CONCURRENTLY", false))
}

fn non_transactional(first: &str, rest: &[&str]) -> Option<StatementClass> {
    let is = |index: usize, word: &str| {
        rest.get(index)
            .is_some_and(|other| other.eq_ignore_ascii_case(word))
    };
    let any = |index: usize, words: &[&str]| words.iter().any(|word| is(index, word));
    let has = |word: &str| rest.iter().any(|other| other.eq_ignore_ascii_case(word));
    let whole = ["database", "tablespace", "subscription"];
    match first.to_ascii_uppercase().as_str() {
        "VACUUM" => Some(non("VACUUM", true)),
        "CREATE" | "DROP" if any(0, &whole) => Some(non(
            "CREATE and DROP of a DATABASE, TABLESPACE or SUBSCRIPTION",
            true,
        )),
        "CREATE" if is(0, "index") && is(1, "concurrently") => {
            Some(non("CREATE INDEX CONCURRENTLY", true))
        }
        "CREATE" if is(0, "unique") && is(1, "index") && is(2, "concurrently") => {
            Some(non("CREATE INDEX CONCURRENTLY", true))
        }
        "DROP" if is(0, "index") && is(1, "concurrently") => {
            Some(non("DROP INDEX CONCURRENTLY", true))
        }
        "ALTER" => alter(is(0, "system"), rest, has),
        "REINDEX" => {
            let target = usize::from(is(0, "verbose"));
            if any(target, &["schema", "database", "system"]) {
                Some(non("REINDEX of a SCHEMA, DATABASE or the SYSTEM", true))
            } else {
                has("concurrently").then(|| non("REINDEX … CONCURRENTLY", false))
            }
        }
        "CLUSTER" => rest
            .iter()
            .all(|word| word.eq_ignore_ascii_case("verbose"))
            .then(|| non("CLUSTER of every table", false)),
        _ => None,
    }
}

fn alter(system: bool, rest: &[&str], has: impl Fn(&str) -> bool) -> Option<StatementClass> {
    let first_is = |word: &str| {
        rest.first()
            .is_some_and(|other| other.eq_ignore_ascii_case(word))
    };
    if system {
        return Some(non("ALTER SYSTEM", true));
    }
    if first_is("table") && has("detach") && has("concurrently") {
        return Some(non("DETACH PARTITION … CONCURRENTLY", false));
    }
    if first_is("database") && has("set") && has("tablespace") {
        return Some(non("ALTER DATABASE … SET TABLESPACE", false));
    }
    (first_is("subscription") && has("refresh"))
        .then(|| non("ALTER SUBSCRIPTION … REFRESH PUBLICATION", false))
}

fn non(what: &'static str, flyway_knows: bool) -> StatementClass {
    StatementClass::NonTransactional { what, flyway_knows }
}

/// The tokens of a statement that stand outside parentheses, as they are written.
#[derive(Clone)]
struct Words<'a> {
    text: &'a str,
    at: usize,
    end: usize,
    depth: u32,
}

impl<'a> Words<'a> {
    fn new(text: &'a str, start: usize, end: usize) -> Self {
        Self {
            text,
            at: start,
            end,
            depth: 0,
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut lexer = Lexer::new(&self.text[..self.end], self.at);
        loop {
            // The splitter has been here: nothing is left open.
            let token = lexer.next_token().ok().flatten()?;
            self.at = token.end;
            match token.kind {
                TokenKind::Sign(b'(') => self.depth += 1,
                TokenKind::Sign(b')') => self.depth = self.depth.saturating_sub(1),
                _ if self.depth == 0 => return Some(&self.text[token.start..token.end]),
                _ => {}
            }
        }
    }
}
