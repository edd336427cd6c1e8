//! MySQL's and MariaDB's lexical rules, as far as they decide where a statement ends.
//!
//! The lexer follows the server's (`sql_lex.cc`, without `ANSI_QUOTES` and `NO_BACKSLASH_ESCAPES`),
//! and the `mysql` client where the server has no say: the delimiter. What stands in `/*! … */` is
//! code for the server, so it is code here; only versions that no server has (`/*!999999`) make it a
//! comment.

use crate::dialect::token::{
    Token, TokenKind, Unfinished, byte_order_mark, end_of_comment, end_of_quoted, find, is_word,
};

#[derive(Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Empty: nothing delimits.
    delimiter: &'a str,
    /// Where the executable comment begins that we are in.
    executable: Option<usize>,
}

impl<'a> Lexer<'a> {
    /// With the delimiter that every script begins with.
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: byte_order_mark(text),
            delimiter: ";",
            executable: None,
        }
    }

    /// The inside of one statement.
    pub(super) fn inside(text: &'a str, start: usize, end: usize) -> Self {
        Self {
            at: start,
            delimiter: "",
            ..Self::new(&text[..end])
        }
    }

    pub(super) fn is_default_delimiter(&self) -> bool {
        self.delimiter == ";"
    }

    pub(super) fn in_executable_comment(&self) -> bool {
        self.executable.is_some()
    }

    /// Takes the rest of the line as the delimiter. Gives what stands there when it is none.
    pub(super) fn take_delimiter(&mut self) -> Result<(), &'a str> {
        let end = self.bytes[self.at..]
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .map_or(self.bytes.len(), |length| self.at + length);
        let word = self.text[self.at..end].trim();
        let is_decent = !word.is_empty() && !word.contains(['\\', '\'', '"', '`', ' ', '\t']);
        if !is_decent {
            return Err(word);
        }
        self.delimiter = word;
        self.at = end;
        Ok(())
    }

    pub(super) fn next_token(&mut self) -> Result<Option<Token>, Unfinished> {
        self.skip_blanks_and_comments()?;
        let start = self.at;
        let Some(&byte) = self.bytes.get(start) else {
            return match self.executable {
                None => Ok(None),
                Some(start) => Err(Unfinished {
                    what: "executable comment",
                    closed_by: "*/",
                    start,
                }),
            };
        };
        let kind = if self.at_delimiter(start) {
            self.at = start + self.delimiter.len();
            TokenKind::Delimiter
        } else if let Some(end) = self.marker(start) {
            self.at = end;
            TokenKind::Marker
        } else {
            self.plain(start, byte)?
        };
        Ok(Some(Token {
            kind,
            start,
            end: self.at,
        }))
    }

    fn plain(&mut self, start: usize, byte: u8) -> Result<TokenKind, Unfinished> {
        Ok(match byte {
            b'\'' => {
                self.at = self.string(start, b'\'', "'")?;
                TokenKind::Text
            }
            b'"' => {
                self.at = self.string(start, b'"', "\"")?;
                TokenKind::Text
            }
            b'`' => {
                self.at = end_of_quoted(self.bytes, start, b'`', "quoted name", "`")?;
                TokenKind::QuotedName
            }
            byte if is_word(byte) || byte == b'$' => {
                self.at = self.end_of_word(start);
                TokenKind::Word
            }
            byte => {
                self.at = start + 1;
                TokenKind::Sign(byte)
            }
        })
    }

    /// A word ends where the delimiter begins, as in `END$$`.
    fn end_of_word(&self, start: usize) -> usize {
        let mut at = start + 1;
        while let Some(&byte) = self.bytes.get(at) {
            if !(is_word(byte) || byte == b'$') || self.at_delimiter(at) {
                break;
            }
            at += 1;
        }
        at
    }

    /// A backslash takes the next byte with it; a doubled quote stays inside.
    fn string(
        &self,
        start: usize,
        quote: u8,
        closed_by: &'static str,
    ) -> Result<usize, Unfinished> {
        let mut at = start + 1;
        loop {
            match self.bytes.get(at) {
                None => {
                    return Err(Unfinished {
                        what: "string",
                        closed_by,
                        start,
                    });
                }
                Some(b'\\') => at += 2,
                Some(&byte) if byte == quote => {
                    if self.bytes.get(at + 1) != Some(&quote) {
                        return Ok(at + 1);
                    }
                    at += 2;
                }
                Some(_) => at += 1,
            }
        }
    }

    /// A delimiter that is a word ends statements only as a word of its own, so that `go` does not
    /// cut `category`. Inside an executable comment nothing delimits, as for Flyway.
    fn at_delimiter(&self, at: usize) -> bool {
        let delimiter = self.delimiter.as_bytes();
        if delimiter.is_empty()
            || self.executable.is_some()
            || !self.bytes[at..].starts_with(delimiter)
        {
            return false;
        }
        let is_name = |byte: u8| is_word(byte) || byte == b'$';
        !delimiter.iter().copied().all(is_word)
            || (!at
                .checked_sub(1)
                .is_some_and(|before| is_name(self.bytes[before]))
                && !self
                    .bytes
                    .get(at + delimiter.len())
                    .copied()
                    .is_some_and(is_name))
    }

    /// The end of `/*!50003`, `/*M!100100` or of the `*/` that closes it.
    fn marker(&mut self, start: usize) -> Option<usize> {
        if self.executable.is_some() {
            let closes = self.bytes[start..].starts_with(b"*/");
            return closes.then(|| {
                self.executable = None;
                start + 2
            });
        }
        let end = self.opening(start)?;
        self.executable = Some(start);
        Some(end)
    }

    /// The end of an executable comment's opening, None for any other comment.
    fn opening(&self, start: usize) -> Option<usize> {
        let rest = &self.bytes[start..];
        let sign = if rest.starts_with(b"/*!") {
            3
        } else if rest.starts_with(b"/*M!") {
            4
        } else {
            return None;
        };
        let digits = rest[sign..]
            .iter()
            .take(6)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let is_unreachable = digits == 6 && rest[sign] == b'9';
        // Fewer than five digits are no version but the code itself.
        let version = if digits < 5 { 0 } else { digits };
        (!is_unreachable).then_some(start + sign + version)
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), Unfinished> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if is_blank(byte) {
                self.at += 1;
            } else if self.at_delimiter(self.at) {
                return Ok(());
            } else if byte == b'#' || self.at_dashes() {
                self.at = find(self.bytes, self.at, b'\n').unwrap_or(self.bytes.len());
            } else if self.bytes[self.at..].starts_with(b"/*")
                && (self.executable.is_some() || self.opening(self.at).is_none())
            {
                self.at = end_of_comment(self.bytes, self.at)?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Two dashes begin a comment only before a blank or a control character: `5--3` is 8.
    fn at_dashes(&self) -> bool {
        self.bytes[self.at..].starts_with(b"--")
            && self
                .bytes
                .get(self.at + 2)
                .is_none_or(|&byte| byte <= b' ' || byte == 0x7f)
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}
