//! What the lexers of all dialects hand out.

use crate::SplitError;

/// One token; whitespace and comments are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// Byte offsets into the text.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// An unquoted name or keyword.
    Word,
    /// A name in the dialect's quotes.
    QuotedName,
    /// A string, in any of the dialect's forms.
    Text,
    Number,
    /// The beginning or the end of MySQL's `/*! … */`, whose inside is code.
    Marker,
    /// MySQL's statement delimiter, whatever it is at the moment.
    Delimiter,
    /// Any other single byte, e.g. `;`, `(`, `\`.
    Sign(u8),
}

/// A construct that does not end before the text does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) what: &'static str,
    pub(crate) closed_by: &'static str,
    pub(crate) start: usize,
}

impl From<Unfinished> for SplitError {
    fn from(unfinished: Unfinished) -> Self {
        Self {
            at: unfinished.start,
            reason: format!("the {} that begins here is never closed", unfinished.what),
            advice: format!("Close it with {}.", unfinished.closed_by),
        }
    }
}

pub(crate) fn find(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    bytes
        .get(from..)?
        .iter()
        .position(|&byte| byte == wanted)
        .map(|length| from + length)
}

/// The end of something quoted, from the offset of its opening quote. A doubled quote reads as two
/// quoted stretches side by side, which ends at the same place.
pub(crate) fn end_of_quoted(
    bytes: &[u8],
    start: usize,
    quote: u8,
    what: &'static str,
    closed_by: &'static str,
) -> Result<usize, Unfinished> {
    let mut at = start + 1;
    loop {
        at = find(bytes, at, quote).ok_or(Unfinished {
            what,
            closed_by,
            start,
        })? + 1;
        if bytes.get(at) != Some(&quote) {
            return Ok(at);
        }
        at += 1;
    }
}

/// The offset after the `*/` that closes the comment at `start`. Comments inside it do not count.
pub(crate) fn end_of_comment(bytes: &[u8], start: usize) -> Result<usize, Unfinished> {
    let mut at = start + 2;
    loop {
        at = find(bytes, at, b'*').ok_or(Unfinished {
            what: "comment",
            closed_by: "*/",
            start,
        })? + 1;
        if bytes.get(at) == Some(&b'/') {
            return Ok(at + 1);
        }
    }
}

pub(crate) fn is_any(word: &str, of: &[&str]) -> bool {
    of.iter().any(|other| word.eq_ignore_ascii_case(other))
}

/// Where a script's text begins.
pub(crate) fn byte_order_mark(text: &str) -> usize {
    if text.starts_with('\u{feff}') { 3 } else { 0 }
}

/// Letters, digits, `_`, and every byte of a longer character.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The open parentheses and the statement's beginning: what every splitter keeps of a statement
/// whose end has not come yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    parens: u32,
    /// Where the outermost open parenthesis stands.
    paren_at: usize,
}

impl Span {
    pub(crate) fn new(start: usize) -> Self {
        Self {
            start,
            end: start,
            parens: 0,
            paren_at: start,
        }
    }

    pub(crate) fn take(&mut self, token: Token) {
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
    }

    pub(crate) fn in_parens(&self) -> bool {
        self.parens > 0
    }

    pub(crate) fn check_parens(&self) -> Result<(), Unfinished> {
        if self.parens == 0 {
            return Ok(());
        }
        Err(Unfinished {
            what: "parenthesis",
            closed_by: ")",
            start: self.paren_at,
        })
    }
}
