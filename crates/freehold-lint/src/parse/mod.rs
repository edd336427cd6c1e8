//! From a statement's text to what it changes.
//!
//! PostgreSQL's statements go through squawk's parser, which follows the server's own grammar; those of
//! MySQL, MariaDB and SQLite through sqlparser. Only statements that can matter are parsed at all: a
//! megabyte of `INSERT` is told by its first word. `UPDATE`, `DELETE`, `TRUNCATE` and the like are read from their words,
//! with the same code for all engines.
//!
//! A statement that matters and cannot be parsed is [`Read::Unchecked`], and said to be.

mod defaults;
mod mysql_words;
mod postgresql;
mod row_changes;
mod sqlparser_tree;
pub(crate) mod words;

use crate::{Product, change::Change};
use words::Words;

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// Nothing, where it changes nothing that a rule is about.
    Changes(Vec<Change>),
    /// Why it could not be read.
    Unchecked(String),
}

/// A longer statement is not parsed: those that matter are short.
const LONGEST: usize = 128 << 10;

/// Reads one statement. The changes' places count from the beginning of `text`.
pub(crate) fn read(product: Product, text: &str) -> Read {
    let head = Words::of(product, beginning(text));
    if !matters(product, &head) {
        return Read::Changes(Vec::new());
    }
    if text.len() > LONGEST {
        return Read::Unchecked(format!("it is longer than {} KiB", LONGEST >> 10));
    }
    let words = Words::of(product, text);
    if let Some(changes) = row_changes::read(product, &words) {
        return Read::Changes(changes);
    }
    if words.is_hostile() {
        return Read::Unchecked("it is nested too deeply".to_owned());
    }
    if product.is_mysql_like()
        && let Some(changes) = mysql_words::read(&words)
    {
        return Read::Changes(changes);
    }
    match product {
        Product::Postgres => postgresql::read(text),
        Product::Mariadb | Product::Mysql | Product::Sqlite => sqlparser_tree::read(product, text),
    }
}

/// As much of a statement as tells what it is.
fn beginning(text: &str) -> &str {
    let mut end = text.len().min(4096);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether a statement may change what the rules are about.
fn matters(product: Product, words: &Words<'_>) -> bool {
    let Some(first) = words.tokens.first() else {
        return false;
    };
    let has = |word: &str| words.tokens.iter().take(8).any(|token| token.is(word));
    match first.text.to_ascii_lowercase().as_str() {
        "alter" | "drop" => has("table") || has("index"),
        "create" => {
            (has("table") && !has("trigger") && !has("foreign")) || (has("index") && !has("view"))
        }
        "update" | "delete" | "truncate" => true,
        "reindex" | "cluster" | "vacuum" => product == Product::Postgres,
        "rename" | "set" => product.is_mysql_like(),
        "pragma" => product == Product::Sqlite,
        _ => false,
    }
}

/// A name as all of this crate writes it: the default schema left out.
pub(crate) fn table_name(product: Product, schema: Option<&str>, name: &str) -> String {
    let fold = |text: &str| match product {
        // MySQL's names depend on the file system; to take two for one is the lesser mistake.
        Product::Mariadb | Product::Mysql | Product::Sqlite => text.to_lowercase(),
        Product::Postgres => text.to_owned(),
    };
    match schema {
        None => fold(name),
        Some(schema) if is_default_schema(product, schema) => fold(name),
        Some(schema) => format!("{}.{}", fold(schema), fold(name)),
    }
}

fn is_default_schema(product: Product, schema: &str) -> bool {
    match product {
        Product::Postgres => schema == "public",
        Product::Sqlite => schema.eq_ignore_ascii_case("main"),
        Product::Mariadb | Product::Mysql => false,
    }
}

/// A type in lower case, with single spaces and none around parentheses and commas.
pub(crate) fn plain_type(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !plain.is_empty() {
            plain.push(' ');
        }
        plain.push_str(&word.to_lowercase());
    }
    for (from, to) in [
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" ,", ","),
        (", ", ","),
    ] {
        plain = plain.replace(from, to);
    }
    plain
}

/// The table that a statement makes, from its words alone, for one that could not be parsed.
pub(crate) fn made_table(product: Product, text: &str) -> Option<String> {
    let words = Words::of(product, beginning(text));
    if !words.tokens.first()?.is("create") {
        return None;
    }
    let at = words
        .tokens
        .iter()
        .take(6)
        .position(|token| token.is("table"))?
        + 1;
    let skipped = words.tokens.get(at..)?.iter();
    let skipped =
        skipped.take_while(|token| token.is("if") || token.is("not") || token.is("exists"));
    let at = at + skipped.count();
    row_changes::name_at(product, &words.tokens, at).map(|(name, _)| name)
}

/// The view that a statement makes.
pub(crate) fn made_view(product: Product, text: &str) -> Option<String> {
    let words = Words::of(product, beginning(text));
    if !words.tokens.first()?.is("create") {
        return None;
    }
    let at = words
        .tokens
        .iter()
        .take(6)
        .position(|token| token.is("view"))?
        + 1;
    row_changes::name_at(product, &words.tokens, at).map(|(name, _)| name)
}
