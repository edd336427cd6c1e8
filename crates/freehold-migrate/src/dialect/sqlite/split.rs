//! Cuts a script for SQLite into statements.
//!
//! A semicolon ends a statement outside strings, comments and parentheses, and outside a trigger's
//! body, which ends at the `END` that follows a semicolon, so that the `END` of a `CASE` does not count.
//! That is the rule of SQLite's own shell.

use super::{classify::classify, lexer::Lexer};
use crate::{
    SplitError, Statement,
    dialect::token::{Span, Token, TokenKind, Unfinished, is_any},
};

/// The statements of a script, in order. Positions are byte offsets into `text`.
///
/// # Errors
/// A construct that is not closed, or a command of the `sqlite3` shell.
pub(crate) fn split(text: &str) -> Result<Vec<Statement>, SplitError> {
    let mut lexer = Lexer::new(text);
    let mut statements = Vec::new();
    let mut open: Option<Open> = None;
    while let Some(token) = lexer.next_token()? {
        if open.is_none() && token.kind == TokenKind::Sign(b'.') {
            return Err(dot_command(text, token.start));
        }
        let word = match token.kind {
            TokenKind::Word => &text[token.start..token.end],
            _ => "",
        };
        let ends = token.kind == TokenKind::Sign(b';')
            && open
                .as_ref()
                .is_none_or(|open| !open.span.in_parens() && open.head != Head::Body);
        if ends {
            statements.extend(open.take().map(|open| open.close(text)));
        } else {
            open.get_or_insert_with(|| Open::new(token.start))
                .take(token, word);
        }
    }
    if let Some(open) = open {
        open.span.check_parens()?;
        if open.head == Head::Body {
            return Err(Unfinished {
                what: "trigger's body",
                closed_by: "END",
                start: open.body_at,
            }
            .into());
        }
        statements.push(open.close(text));
    }
    Ok(statements)
}

/// A statement whose end has not come yet.
struct Open {
    span: Span,
    head: Head,
    body_at: usize,
    after_semicolon: bool,
}

/// How far the statement's words match `CREATE [TEMP] TRIGGER … BEGIN … ; END`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Nothing,
    Create,
    Trigger,
    Body,
    Other,
}

impl Open {
    fn new(start: usize) -> Self {
        Self {
            span: Span::new(start),
            head: Head::Nothing,
            body_at: start,
            after_semicolon: false,
        }
    }

    fn take(&mut self, token: Token, word: &str) {
        self.span.take(token);
        self.head = match self.head {
            Head::Nothing if word.eq_ignore_ascii_case("create") => Head::Create,
            Head::Create if is_any(word, &["temp", "temporary"]) => Head::Create,
            Head::Create if word.eq_ignore_ascii_case("trigger") => Head::Trigger,
            Head::Trigger if word.eq_ignore_ascii_case("begin") && !self.span.in_parens() => {
                self.body_at = token.start;
                Head::Body
            }
            Head::Body if self.after_semicolon && word.eq_ignore_ascii_case("end") => Head::Other,
            Head::Trigger => Head::Trigger,
            Head::Body => Head::Body,
            _ => Head::Other,
        };
        self.after_semicolon = token.kind == TokenKind::Sign(b';');
    }

    fn close(self, text: &str) -> Statement {
        let (start, end) = (self.span.start, self.span.end);
        Statement {
            start,
            end,
            class: classify(text, start, end),
        }
    }
}

fn dot_command(text: &str, at: usize) -> SplitError {
    let name: String = text[at + 1..]
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .take(32)
        .collect();
    let advice = match name.as_str() {
        "read" => "Put the other file's statements here, or make it a migration of its own.",
        "open" | "restore" | "backup" | "save" | "clone" => {
            "A migration stays in its own database file; remove the line."
        }
        "import" => "Write the rows as INSERT statements.",
        "load" => "A migration loads no extensions; remove the line.",
        "shell" | "system" => "A migration runs no shell commands; remove the line.",
        _ => "It only changes what the sqlite3 shell does; remove the line.",
    };
    SplitError {
        at,
        reason: format!(".{name} is a command of the sqlite3 shell, not SQL"),
        advice: advice.to_owned(),
    }
}
