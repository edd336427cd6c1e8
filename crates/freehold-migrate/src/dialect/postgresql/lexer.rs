//! PostgreSQL's lexical rules, as far as they decide where a statement ends.
//!
//! The lexer follows the server's own (`scan.l` with `standard_conforming_strings = on`): it never
//! looks inside a string, a quoted name, a dollar quote or a comment. It works on bytes, because
//! every character that matters is ASCII and every byte of a longer character belongs to a word, and
//! it hands out positions, never copies.

use crate::dialect::token::{Token, TokenKind, Unfinished, find};

pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, at: usize) -> Self {
        Self {
            bytes: text.as_bytes(),
            at,
        }
    }

    pub(crate) fn jump_to(&mut self, at: usize) {
        self.at = at;
    }

    pub(crate) fn next_token(&mut self) -> Result<Option<Token>, Unfinished> {
        self.skip_blanks_and_comments()?;
        let start = self.at;
        let Some(&byte) = self.bytes.get(start) else {
            return Ok(None);
        };
        let kind = match byte {
            b'\'' => {
                self.at = self.quoted(start, b'\'', "string", "'")?;
                TokenKind::Text
            }
            b'"' => {
                self.at = self.quoted(start, b'"', "quoted name", "\"")?;
                TokenKind::QuotedName
            }
            b'$' => self.dollar(start)?,
            b'0'..=b'9' => {
                self.at = self.end_of(start, |byte| is_word(byte) || byte == b'.');
                TokenKind::Number
            }
            byte if is_word_start(byte) => self.word(start)?,
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

    fn word(&mut self, start: usize) -> Result<TokenKind, Unfinished> {
        self.at = self.end_of(start, |byte| is_word(byte) || byte == b'$');
        let is_escape_prefix = self.at == start + 1 && matches!(self.bytes[start], b'e' | b'E');
        if is_escape_prefix && self.bytes.get(self.at) == Some(&b'\'') {
            self.at = self.escape_string(start)?;
            return Ok(TokenKind::Text);
        }
        // B'', X'', N'' and U&'' need no rule of their own: their quotes close like a plain string's.
        Ok(TokenKind::Word)
    }

    fn end_of(&self, start: usize, belongs: impl Fn(u8) -> bool) -> usize {
        self.bytes[start..]
            .iter()
            .position(|&byte| !belongs(byte))
            .map_or(self.bytes.len(), |length| start + length)
    }

    /// A doubled quote reads as two quoted stretches side by side, which ends at the same place.
    fn quoted(
        &self,
        start: usize,
        quote: u8,
        what: &'static str,
        closed_by: &'static str,
    ) -> Result<usize, Unfinished> {
        let mut at = start + 1;
        loop {
            at = find(self.bytes, at, quote).ok_or(Unfinished {
                what,
                closed_by,
                start,
            })? + 1;
            if self.bytes.get(at) != Some(&quote) {
                return Ok(at);
            }
            at += 1;
        }
    }

    /// `E'…'`: a backslash takes the next byte with it, and the escapes go on in a continuation on
    /// a following line.
    fn escape_string(&self, start: usize) -> Result<usize, Unfinished> {
        let unfinished = Unfinished {
            what: "escape string",
            closed_by: "'",
            start,
        };
        let mut at = start + 2;
        loop {
            match self.bytes.get(at) {
                None => return Err(unfinished),
                Some(b'\\') => at += 2,
                Some(b'\'') => match self.continuation(at + 1) {
                    Some(inside) => at = inside,
                    None => return Ok(at + 1),
                },
                Some(_) => at += 1,
            }
        }
    }

    /// After a closing quote: a quote at once, or after white space with a line break, goes on with
    /// the same string. Gives the position inside it.
    fn continuation(&self, mut at: usize) -> Option<usize> {
        if self.bytes.get(at) == Some(&b'\'') {
            return Some(at + 1);
        }
        let mut line_broken = false;
        loop {
            match *self.bytes.get(at)? {
                b'\n' | b'\r' => {
                    line_broken = true;
                    at += 1;
                }
                byte if is_blank(byte) => at += 1,
                b'-' if self.bytes.get(at + 1) == Some(&b'-') => at = self.line_end(at),
                b'\'' if line_broken => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// `$tag$ … $tag$`; a `$` that starts no such quote is a parameter or a stray sign.
    fn dollar(&mut self, start: usize) -> Result<TokenKind, Unfinished> {
        let tag_end = match self.bytes.get(start + 1) {
            Some(&byte) if is_word_start(byte) => self.end_of(start + 1, is_word),
            _ => start + 1,
        };
        if self.bytes.get(tag_end) != Some(&b'$') {
            self.at = start + 1;
            return Ok(TokenKind::Sign(b'$'));
        }
        let delimiter = &self.bytes[start..=tag_end];
        let mut at = tag_end + 1;
        loop {
            at = find(self.bytes, at, b'$').ok_or(Unfinished {
                what: "dollar-quoted text",
                closed_by: "the same dollar tag",
                start,
            })?;
            if self.bytes[at..].starts_with(delimiter) {
                self.at = at + delimiter.len();
                return Ok(TokenKind::Text);
            }
            at += 1;
        }
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), Unfinished> {
        loop {
            match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(&byte), _) if is_blank(byte) => self.at += 1,
                (Some(b'-'), Some(b'-')) => self.at = self.line_end(self.at),
                (Some(b'/'), Some(b'*')) => self.skip_block_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<(), Unfinished> {
        let start = self.at;
        let mut depth = 1;
        let mut at = start + 2;
        while depth > 0 {
            match (self.bytes.get(at), self.bytes.get(at + 1)) {
                (None, _) => {
                    return Err(Unfinished {
                        what: "comment",
                        closed_by: "*/",
                        start,
                    });
                }
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                }
                _ => at += 1,
            }
        }
        self.at = at;
        Ok(())
    }

    fn line_end(&self, at: usize) -> usize {
        self.end_of(at, |byte| byte != b'\n' && byte != b'\r')
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit()
}
