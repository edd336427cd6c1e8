//! Cuts a script for MySQL or MariaDB into statements.
//!
//! A semicolon ends a statement outside strings, comments and parentheses, and outside the body of a
//! stored program: there, `BEGIN` and `CASE` are counted against `END`, as Flyway does, so that
//! `DELIMITER` is not needed. After a `DELIMITER` line the new delimiter ends a statement wherever it
//! stands, as for the `mysql` client, and semicolons end only what is no stored program. Delimiters
//! are not sent. What only the client understands is an error that names its place.

use super::{classify::classify, lexer::Lexer};
use crate::{
    SplitError, Statement,
    dialect::token::{Span, Token, TokenKind, Unfinished, is_any},
};

/// The statements of a script, in order. Positions are byte offsets into `text`.
///
/// # Errors
/// A construct that is not closed, or a command of the `mysql` client.
pub(crate) fn split(text: &str) -> Result<Vec<Statement>, SplitError> {
    let mut lexer = Lexer::new(text);
    let mut statements = Vec::new();
    let mut open: Option<Open> = None;
    while let Some(token) = lexer.next_token()? {
        let word = match token.kind {
            TokenKind::Word => &text[token.start..token.end],
            TokenKind::Sign(b'\\') if !is_null(text, token.start) => {
                return Err(backslash_command(text, token.start));
            }
            _ => "",
        };
        if open.is_none() && word.eq_ignore_ascii_case("delimiter") {
            lexer
                .take_delimiter()
                .map_err(|found| no_delimiter(token.start, found))?;
            continue;
        }
        if open.is_none() && !word.is_empty() {
            check_client_command(word, token.start)?;
        }
        let is_default = lexer.is_default_delimiter();
        let ends = match token.kind {
            TokenKind::Delimiter => open
                .as_mut()
                .is_none_or(|open| !is_default || open.ends_at_semicolon()),
            // The delimiter is another one, or we are in an executable comment.
            TokenKind::Sign(b';') => {
                !lexer.in_executable_comment()
                    && open
                        .as_ref()
                        .is_none_or(|open| !open.span.in_parens() && open.head != Head::Program)
            }
            _ => false,
        };
        if !ends {
            open.get_or_insert_with(|| Open::new(token.start))
                .take(token, word);
            continue;
        }
        if let Some(open) = open.take() {
            statements.extend(open.close(text)?);
        }
    }
    if let Some(mut open) = open {
        open.settle("");
        if open.blocks > 0 {
            return Err(Unfinished {
                what: "block",
                closed_by: "END",
                start: open.block_at,
            }
            .into());
        }
        statements.extend(open.close(text)?);
    }
    Ok(statements)
}

/// A statement whose end has not come yet.
struct Open {
    span: Span,
    head: Head,
    /// How many `END`s are owed.
    blocks: u32,
    /// Where the outermost open block begins.
    block_at: usize,
    /// An `END` was read, and the next token says whether it closes a block.
    end_seen: bool,
    previous: Previous,
    /// Anything but the marks of an executable comment.
    has_content: bool,
}

/// What the first words say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Nothing,
    /// `CREATE`, and what follows does not say yet what is created.
    Create,
    /// `BEGIN`: of a transaction, or of MariaDB's compound statement.
    Begin,
    /// A stored program or a compound statement: semicolons stand inside.
    Program,
    Other,
}

/// The token before, as far as it changes what the next one means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Previous {
    /// After a dot, a comma, an operator: a keyword is a name.
    NameFollows,
    Other,
}

impl Open {
    fn new(start: usize) -> Self {
        Self {
            span: Span::new(start),
            head: Head::Nothing,
            blocks: 0,
            block_at: start,
            end_seen: false,
            previous: Previous::Other,
            has_content: false,
        }
    }

    /// Whether a semicolon that comes now is the statement's end.
    fn ends_at_semicolon(&mut self) -> bool {
        self.settle("");
        !self.span.in_parens() && self.blocks == 0
    }

    fn take(&mut self, token: Token, word: &str) {
        self.span.take(token);
        if token.kind == TokenKind::Marker {
            return;
        }
        self.has_content = true;
        if self.head == Head::Program {
            self.track_block(token, word);
        } else {
            self.head = self.next_head(token, word);
        }
        self.previous = match token.kind {
            TokenKind::Sign(
                b'.' | b',' | b'=' | b'@' | b'<' | b'>' | b'+' | b'-' | b'*' | b'/',
            ) => Previous::NameFollows,
            _ => Previous::Other,
        };
    }

    fn next_head(&mut self, token: Token, word: &str) -> Head {
        match self.head {
            Head::Nothing if word.eq_ignore_ascii_case("create") => Head::Create,
            Head::Nothing if word.eq_ignore_ascii_case("begin") => {
                self.block_at = token.start;
                Head::Begin
            }
            Head::Begin if word.eq_ignore_ascii_case("not") => {
                self.blocks = 1;
                Head::Program
            }
            // DEFINER = name@host
            Head::Create if self.previous == Previous::NameFollows => Head::Create,
            Head::Create if is_any(word, PROGRAMS) => Head::Program,
            Head::Create if !is_any(word, OBJECTS) => Head::Create,
            _ => Head::Other,
        }
    }

    fn track_block(&mut self, token: Token, word: &str) {
        let after_end = self.end_seen;
        self.settle(word);
        if word.is_empty() || self.previous == Previous::NameFollows || self.span.in_parens() {
            return;
        }
        let opens =
            word.eq_ignore_ascii_case("begin") || (word.eq_ignore_ascii_case("case") && !after_end);
        if opens {
            if self.blocks == 0 {
                self.block_at = token.start;
            }
            self.blocks += 1;
        }
        self.end_seen = word.eq_ignore_ascii_case("end");
    }

    /// `END` closes a block unless it belongs to a statement that is not counted.
    fn settle(&mut self, next: &str) {
        let uncounted = ["if", "loop", "repeat", "while", "for"];
        if std::mem::take(&mut self.end_seen) && !is_any(next, &uncounted) {
            self.blocks = self.blocks.saturating_sub(1);
        }
    }

    /// Nothing but marks is no statement: the server would call it empty.
    fn close(self, text: &str) -> Result<Option<Statement>, SplitError> {
        self.span.check_parens()?;
        let (start, end) = (self.span.start, self.span.end);
        Ok(self.has_content.then(|| Statement {
            start,
            end,
            class: classify(text, start, end),
        }))
    }
}

const PROGRAMS: &[&str] = &["procedure", "function", "trigger", "event"];

/// What else `CREATE` makes; `CREATE … AGGREGATE FUNCTION` and definers come before their noun.
const OBJECTS: &[&str] = &[
    "database",
    "fulltext",
    "index",
    "logfile",
    "resource",
    "role",
    "schema",
    "sequence",
    "server",
    "spatial",
    "table",
    "tablespace",
    "temporary",
    "undo",
    "unique",
    "user",
    "view",
];

/// `\N` is NULL.
fn is_null(text: &str, at: usize) -> bool {
    let mut rest = text.as_bytes()[at + 1..].iter();
    rest.next() == Some(&b'N')
        && !rest
            .next()
            .is_some_and(|&byte| crate::dialect::token::is_word(byte))
}

fn no_delimiter(at: usize, found: &str) -> SplitError {
    SplitError {
        at,
        reason: if found.is_empty() {
            "DELIMITER names no delimiter".to_owned()
        } else {
            format!("DELIMITER {found:?} is no delimiter")
        },
        advice: "Write one word without quotes, blanks or backslashes and nothing after it, e.g. DELIMITER // on a line of its own."
            .to_owned(),
    }
}

fn backslash_command(text: &str, at: usize) -> SplitError {
    let letter: String = text[at + 1..].chars().take(1).collect();
    let advice = match letter.as_str() {
        "." => "Put the other file's statements here, or make it a migration of its own.",
        "!" => "A migration runs no shell commands; remove the line.",
        "g" | "G" => "End the statement with a semicolon.",
        "u" | "r" => "A migration runs in one database; remove the line.",
        _ => "A migration is sent to the server, which knows no backslash commands; remove it.",
    };
    SplitError {
        at,
        reason: format!("\\{letter} is a command of the mysql client, not SQL"),
        advice: advice.to_owned(),
    }
}

/// Words that no statement of the server begins with, and that the client keeps for itself.
fn check_client_command(word: &str, at: usize) -> Result<(), SplitError> {
    let advice = if word.eq_ignore_ascii_case("source") {
        "Put the other file's statements here, or make it a migration of its own."
    } else if word.eq_ignore_ascii_case("system") {
        "A migration runs no shell commands; remove the line."
    } else if is_any(word, &["connect", "resetconnection"]) {
        "A migration runs in one database on one connection; remove the line."
    } else if is_any(
        word,
        &[
            "charset",
            "clear",
            "edit",
            "ego",
            "exit",
            "go",
            "nopager",
            "notee",
            "nowarning",
            "pager",
            "print",
            "prompt",
            "quit",
            "rehash",
            "sandbox",
            "status",
            "tee",
            "warnings",
        ],
    ) {
        "It only changes what the client does; remove the line."
    } else {
        return Ok(());
    };
    Err(SplitError {
        at,
        reason: format!("{word} is a command of the mysql client, not SQL"),
        advice: advice.to_owned(),
    })
}
