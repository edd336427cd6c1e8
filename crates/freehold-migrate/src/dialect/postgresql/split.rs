//! Cuts a script into statements.
//!
//! A semicolon ends a statement where the server would see one: outside strings, comments and
//! parentheses, and outside the body of an SQL-standard function (`BEGIN ATOMIC … END`, in which
//! `CASE` has an `END` of its own). A `COPY … FROM STDIN` takes the lines after it up to `\.` with it.
//! What is left open when the text ends, and what only psql understands, is an error that names
//! where it began. One pass, nothing is copied.

use std::ops::Range;

use super::{classify::classify, lexer::Lexer};
use crate::{
    SplitError, Statement, StatementClass,
    dialect::token::{Token, TokenKind, Unfinished, byte_order_mark, is_any},
};

/// The statements of a script, in order. Positions are byte offsets into `text`.
///
/// # Errors
/// A construct that is not closed, data of a COPY without its end, or a psql command.
pub(crate) fn split(text: &str) -> Result<Vec<Statement>, SplitError> {
    let mut lexer = Lexer::new(text, byte_order_mark(text));
    let mut statements = Vec::new();
    let mut open: Option<Open> = None;
    while let Some(token) = lexer.next_token()? {
        let word = match token.kind {
            TokenKind::Word => &text[token.start..token.end],
            TokenKind::Sign(b'\\') => return Err(psql_command(text, token.start)),
            _ => "",
        };
        let ends = token.kind == TokenKind::Sign(b';')
            && open.as_ref().is_none_or(|open| !open.is_inside());
        if !ends {
            open.get_or_insert_with(|| Open::new(token.start))
                .take(token, word);
            continue;
        }
        if let Some(open) = open.take() {
            let class = match open.copy {
                Copy::FromStdin => {
                    let (data, after) = copy_data(text, open.start, token.end)?;
                    lexer.jump_to(after);
                    StatementClass::CopyFromStdin { data }
                }
                _ => open.class(text),
            };
            statements.push(open.close(class));
        }
    }
    if let Some(open) = open {
        open.check_finished()?;
        let class = open.class(text);
        statements.push(open.close(class));
    }
    Ok(statements)
}

/// A statement whose end has not come yet.
struct Open {
    start: usize,
    end: usize,
    parens: u32,
    /// Where the outermost open parenthesis stands.
    paren_at: usize,
    /// How many `END`s are owed inside `BEGIN ATOMIC`.
    blocks: u32,
    block_at: usize,
    head: Head,
    copy: Copy,
    previous: Previous,
}

/// How far the statement's first words match `CREATE [OR REPLACE] FUNCTION|PROCEDURE` or `COPY`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Nothing,
    Create,
    CreateOr,
    CreateOrReplace,
    Routine,
    Copy,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Copy {
    No,
    FromStdin,
    ToStdout,
}

/// The token before, as far as it changes what the next one means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Previous {
    Begin,
    /// After `AS` or a dot, any keyword is a name.
    NameFollows,
    From,
    To,
    Other,
}

impl Open {
    fn new(start: usize) -> Self {
        Self {
            start,
            end: start,
            parens: 0,
            paren_at: start,
            blocks: 0,
            block_at: start,
            head: Head::Nothing,
            copy: Copy::No,
            previous: Previous::Other,
        }
    }

    fn is_inside(&self) -> bool {
        self.parens > 0 || self.blocks > 0
    }

    fn take(&mut self, token: Token, word: &str) {
        self.end = token.end;
        match token.kind {
            TokenKind::Sign(b'(') => {
                if self.parens == 0 {
                    self.paren_at = token.start;
                }
                self.parens += 1;
            }
            TokenKind::Sign(b')') => self.parens = self.parens.saturating_sub(1),
            _ => {}
        }
        self.head = next_head(self.head, word);
        match self.head {
            Head::Routine if !word.is_empty() => self.track_block(token, word),
            Head::Copy if self.parens == 0 && is_any(word, &["stdin", "stdout"]) => {
                match self.previous {
                    Previous::From => self.copy = Copy::FromStdin,
                    Previous::To => self.copy = Copy::ToStdout,
                    _ => {}
                }
            }
            _ => {}
        }
        self.previous = previous(token, word);
    }

    fn track_block(&mut self, token: Token, word: &str) {
        let is_name = self.previous == Previous::NameFollows;
        if self.blocks == 0 {
            let opens = self.previous == Previous::Begin && self.parens == 0;
            if opens && word.eq_ignore_ascii_case("atomic") {
                self.blocks = 1;
                self.block_at = token.start;
            }
        } else if !is_name && word.eq_ignore_ascii_case("case") {
            self.blocks += 1;
        } else if !is_name && word.eq_ignore_ascii_case("end") {
            self.blocks -= 1;
        }
    }

    fn class(&self, text: &str) -> StatementClass {
        match self.copy {
            Copy::ToStdout => StatementClass::Refused {
                reason: "COPY … TO STDOUT would send data that nobody receives",
                advice: "Remove it from the migration, or export the data with another tool.",
            },
            _ => classify(text, self.start, self.end),
        }
    }

    fn close(&self, class: StatementClass) -> Statement {
        Statement {
            start: self.start,
            end: self.end,
            class,
        }
    }

    /// At the end of the text: whatever is still open is an error.
    fn check_finished(&self) -> Result<(), SplitError> {
        let (at, what, closed_by) = if self.blocks > 0 {
            (self.block_at, "BEGIN ATOMIC", "END")
        } else if self.parens > 0 {
            (self.paren_at, "parenthesis", ")")
        } else if self.copy == Copy::FromStdin {
            return Err(SplitError {
                at: self.start,
                reason: "COPY … FROM STDIN has neither a closing semicolon nor data".to_owned(),
                advice: "End it with a semicolon, then its data, then a line with only \\. on it."
                    .to_owned(),
            });
        } else {
            return Ok(());
        };
        Err(Unfinished {
            what,
            closed_by,
            start: at,
        }
        .into())
    }
}

fn next_head(head: Head, word: &str) -> Head {
    match head {
        Head::Nothing if word.eq_ignore_ascii_case("create") => Head::Create,
        Head::Nothing if word.eq_ignore_ascii_case("copy") => Head::Copy,
        Head::Create if word.eq_ignore_ascii_case("or") => Head::CreateOr,
        Head::CreateOr if word.eq_ignore_ascii_case("replace") => Head::CreateOrReplace,
        Head::Create | Head::CreateOrReplace if is_any(word, &["function", "procedure"]) => {
            Head::Routine
        }
        Head::Routine => Head::Routine,
        Head::Copy => Head::Copy,
        _ => Head::Other,
    }
}

fn previous(token: Token, word: &str) -> Previous {
    match token.kind {
        TokenKind::Sign(b'.') => Previous::NameFollows,
        TokenKind::Word if word.eq_ignore_ascii_case("as") => Previous::NameFollows,
        TokenKind::Word if word.eq_ignore_ascii_case("begin") => Previous::Begin,
        TokenKind::Word if word.eq_ignore_ascii_case("from") => Previous::From,
        TokenKind::Word if word.eq_ignore_ascii_case("to") => Previous::To,
        _ => Previous::Other,
    }
}

/// The range of a COPY's data and the offset after the line that closes it.
fn copy_data(
    text: &str,
    statement_at: usize,
    after_semicolon: usize,
) -> Result<(Range<usize>, usize), SplitError> {
    let missing = || SplitError {
        at: statement_at,
        reason: "the data of this COPY … FROM STDIN never ends".to_owned(),
        advice: "Close it with a line that holds only \\. (backslash and dot).".to_owned(),
    };
    let rest = &text[after_semicolon..];
    let line_end = rest.find('\n').ok_or_else(missing)?;
    let same_line = rest[..line_end].trim();
    if !same_line.is_empty() && !same_line.starts_with("--") {
        return Err(SplitError {
            at: after_semicolon,
            reason: "something follows COPY … FROM STDIN; on the same line".to_owned(),
            advice: "The data starts on the next line; put the rest after the line with \\. on it."
                .to_owned(),
        });
    }
    let data_start = after_semicolon + line_end + 1;
    let mut at = data_start;
    loop {
        let line_length = text.as_bytes()[at..].iter().position(|&byte| byte == b'\n');
        let line = &text.as_bytes()[at..line_length.map_or(text.len(), |length| at + length)];
        if line == b"\\." || line == b"\\.\r" {
            let after = line_length.map_or(text.len(), |length| at + length + 1);
            return Ok((data_start..at, after));
        }
        at += line_length.ok_or_else(missing)? + 1;
    }
}

fn psql_command(text: &str, at: usize) -> SplitError {
    let rest = &text[at + 1..];
    let name: String = rest
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .take(32)
        .collect();
    let advice = match name.as_str() {
        "i" | "ir" | "include" | "include_relative" => {
            "Put the other file's statements here, or make it a migration of its own."
        }
        "c" | "connect" => "A migration runs in one database; remove the line.",
        "copy" => "Use COPY … FROM STDIN; with the data below it and a closing line \\. instead.",
        "set" | "unset" | "gset" | "if" | "elif" | "else" | "endif" => {
            "psql variables and conditions do not exist here; use a DO block."
        }
        "gexec" | "g" | "gx" | "watch" | "bind" | "parse" => {
            "End the statement with a semicolon; use a DO block with EXECUTE to run generated statements."
        }
        "echo" | "qecho" | "warn" | "timing" | "pset" | "x" | "t" | "o" | "encoding" => {
            "It only changes what psql prints; remove the line, or use RAISE NOTICE."
        }
        "restrict" | "unrestrict" => {
            "pg_dump writes it for psql; remove both lines (\\restrict and \\unrestrict)."
        }
        "" if rest.starts_with('.') => {
            "It closes the data of a COPY, but no COPY … FROM STDIN stands before it."
        }
        "" if rest.starts_with('!') => "A migration runs no shell commands; remove the line.",
        _ => {
            "A migration is sent to the server, which knows no backslash commands; remove the line."
        }
    };
    let shown = if name.is_empty() {
        rest.chars().take(1).collect()
    } else {
        name
    };
    SplitError {
        at,
        reason: format!("\\{shown} is a command of psql, not SQL"),
        advice: advice.to_owned(),
    }
}
