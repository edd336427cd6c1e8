//! SQLite's lexical rules (`tokenize.c`), as far as they decide where a statement ends.

use crate::dialect::token::{
    Token, TokenKind, Unfinished, byte_order_mark, end_of_comment, end_of_quoted, find, is_word,
};

pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            at: byte_order_mark(text),
        }
    }

    /// The inside of one statement.
    pub(super) fn inside(text: &'a str, start: usize, end: usize) -> Self {
        Self {
            bytes: &text.as_bytes()[..end],
            at: start,
        }
    }

    pub(super) fn next_token(&mut self) -> Result<Option<Token>, Unfinished> {
        self.skip_blanks_and_comments()?;
        let start = self.at;
        let Some(&byte) = self.bytes.get(start) else {
            return Ok(None);
        };
        let kind = match byte {
            b'\'' => {
                self.at = end_of_quoted(self.bytes, start, b'\'', "string", "'")?;
                TokenKind::Text
            }
            b'"' => {
                self.at = end_of_quoted(self.bytes, start, b'"', "quoted name", "\"")?;
                TokenKind::QuotedName
            }
            b'`' => {
                self.at = end_of_quoted(self.bytes, start, b'`', "quoted name", "`")?;
                TokenKind::QuotedName
            }
            b'[' => {
                self.at = find(self.bytes, start, b']').ok_or(Unfinished {
                    what: "quoted name",
                    closed_by: "]",
                    start,
                })? + 1;
                TokenKind::QuotedName
            }
            byte if is_word(byte) || byte == b'$' => {
                let belongs = |byte: &u8| is_word(*byte) || *byte == b'$';
                let length = self.bytes[start..].iter().take_while(|byte| belongs(byte));
                self.at = start + length.count();
                TokenKind::Word
            }
            byte => {
                self.at = start + 1;
                TokenKind::Sign(byte)
            }
        };
        Ok(Some(Token {
            kind,
            start,
            end: self.at,
        }))
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), Unfinished> {
        loop {
            match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0c), _) => self.at += 1,
                (Some(b'-'), Some(b'-')) => {
                    self.at = find(self.bytes, self.at, b'\n').unwrap_or(self.bytes.len());
                }
                (Some(b'/'), Some(b'*')) => self.at = end_of_comment(self.bytes, self.at)?,
                _ => return Ok(()),
            }
        }
    }
}
