//! The words of one statement, without its strings and comments.
//!
//! Enough to tell what kind of statement it is and to read the simple ones whole. Where statements begin
//! and end is not decided here: the caller has cut the script.

use std::ops::Range;

use crate::Product;

/// One word, name or sign of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub kind: Kind,
    /// As it stands; a name without its quotes.
    pub text: &'a str,
    /// Byte offset in the statement, and the offset after it.
    pub start: usize,
    pub end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    QuotedName,
    Text,
    Sign,
}

impl Token<'_> {
    pub(crate) fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(crate) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

/// A statement as tokens.
#[derive(Debug, Clone)]
pub(crate) struct Words<'a> {
    pub tokens: Vec<Token<'a>>,
}

impl<'a> Words<'a> {
    /// Never fails: what is not closed ends with the text.
    pub(crate) fn of(product: Product, text: &'a str) -> Self {
        let mut tokens = Vec::new();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let (kind, end) = match next(product, text, at) {
                Next::Skip(end) => {
                    at = end.max(at + 1);
                    continue;
                }
                Next::Token(kind, end) => (kind, end.clamp(at + 1, bytes.len())),
            };
            let whole = &text[at..end];
            let inside = match kind {
                Kind::QuotedName => {
                    let open = &whole[1..];
                    open.strip_suffix(['"', '`', ']']).unwrap_or(open)
                }
                _ => whole,
            };
            tokens.push(Token {
                kind,
                text: inside,
                start: at,
                end,
            });
            at = end;
        }
        Self { tokens }
    }

    /// Whether the statement begins with these words.
    pub(crate) fn begin(&self, words: &[&str]) -> bool {
        words.len() <= self.tokens.len()
            && words
                .iter()
                .zip(&self.tokens)
                .all(|(word, token)| token.is(word))
    }

    /// Where these words stand one after the other.
    pub(crate) fn find(&self, words: &[&str]) -> Option<Range<usize>> {
        let windows = self.tokens.windows(words.len());
        windows
            .into_iter()
            .find(|window| {
                words
                    .iter()
                    .zip(*window)
                    .all(|(word, token)| token.is(word))
            })
            .map(|window| window[0].start..window[words.len() - 1].end)
    }

    /// Whether a word stands outside of all parentheses.
    pub(crate) fn has_outside(&self, word: &str) -> bool {
        let mut depth = 0_u32;
        for token in &self.tokens {
            if token.is_sign("(") {
                depth += 1;
            } else if token.is_sign(")") {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && token.is(word) {
                return true;
            }
        }
        false
    }

    /// How deep a recursive parser could be led: by parentheses, or by tokens that hang one on the other. A comma
    /// leads back to where its parentheses began.
    pub(crate) fn is_hostile(&self) -> bool {
        let mut open: Vec<u32> = Vec::new();
        let mut chained = 0_u32;
        for token in &self.tokens {
            chained += 1;
            match token.text {
                "(" | "[" => open.push(chained),
                ")" | "]" => chained = open.pop().unwrap_or(chained),
                "," => chained = open.last().copied().unwrap_or_default(),
                _ => {}
            }
            if open.len() > DEEPEST || chained > CHAINED {
                return true;
            }
        }
        false
    }
}

/// Nested parentheses that a real migration does not have.
const DEEPEST: usize = 40;
/// Tokens without a comma, likewise.
const CHAINED: u32 = 400;

enum Next {
    Skip(usize),
    Token(Kind, usize),
}

fn next(product: Product, text: &str, at: usize) -> Next {
    let bytes = text.as_bytes();
    let mysql = product.is_mysql_like();
    let follows = |expected: &str| text[at..].starts_with(expected);
    match bytes[at] {
        byte if byte.is_ascii_whitespace() => Next::Skip(at + 1),
        b'-' if follows("--") => Next::Skip(end_of_line(bytes, at)),
        b'#' if mysql => Next::Skip(end_of_line(bytes, at)),
        b'/' if mysql && (follows("/*!") || follows("/*M!")) => {
            let marker = at + if follows("/*!") { 3 } else { 4 };
            let digits = bytes[marker..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            Next::Skip(marker + digits.count())
        }
        b'*' if mysql && follows("*/") => Next::Skip(at + 2),
        b'/' if follows("/*") => Next::Skip(end_of_comment(bytes, at, product)),
        b'\'' => Next::Token(
            Kind::Text,
            quoted(bytes, at, b'\'', mysql || escaped(bytes, at)),
        ),
        b'"' if mysql => Next::Token(Kind::Text, quoted(bytes, at, b'"', true)),
        b'"' => Next::Token(Kind::QuotedName, quoted(bytes, at, b'"', false)),
        b'`' => Next::Token(Kind::QuotedName, quoted(bytes, at, b'`', false)),
        b'[' if product == Product::Sqlite => {
            let end = bytes[at..].iter().position(|&byte| byte == b']');
            Next::Token(
                Kind::QuotedName,
                end.map_or(bytes.len(), |end| at + end + 1),
            )
        }
        b'$' if product == Product::Postgres => match dollar_quoted(text, at) {
            Some(end) => Next::Token(Kind::Text, end),
            None => Next::Token(Kind::Sign, at + 1),
        },
        byte if is_word(byte) => {
            let rest = bytes[at..]
                .iter()
                .take_while(|&&byte| is_word(byte) || byte == b'$');
            Next::Token(Kind::Word, at + rest.count())
        }
        _ => Next::Token(Kind::Sign, at + 1),
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    let end = bytes[at..]
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'));
    end.map_or(bytes.len(), |end| at + end)
}

/// PostgreSQL's comments nest.
fn end_of_comment(bytes: &[u8], at: usize, product: Product) -> usize {
    let (mut at, mut depth) = (at + 2, 1_u32);
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            b"/*" if product == Product::Postgres => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whether a string's quote follows the `E` of PostgreSQL.
fn escaped(bytes: &[u8], quote: usize) -> bool {
    quote > 0
        && matches!(bytes[quote - 1], b'e' | b'E')
        && (quote == 1 || !is_word(bytes[quote - 2]))
}

fn quoted(bytes: &[u8], start: usize, quote: u8, backslash: bool) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        if backslash && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] == quote {
            if bytes.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                return at + 1;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn dollar_quoted(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at + 1..];
    let tag = rest.bytes().take_while(|&byte| is_word(byte)).count();
    if rest.as_bytes().get(tag) != Some(&b'$') || rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let quote = &text[at..at + tag + 2];
    let body = at + quote.len();
    let end = text[body..].find(quote);
    Some(end.map_or(text.len(), |end| body + end + quote.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(product: Product, text: &str) -> Vec<&str> {
        let kept = Words::of(product, text).tokens;
        kept.iter().map(|token| token.text).collect()
    }

    #[test]
    fn strings_and_comments_hide_their_words() {
        let text = "a 'b -- c' /* d /* e */ f */ $x$ g $x$ \"h i\" -- j\nk E'l\\' m' n";
        let expected = [
            "a",
            "'b -- c'",
            "$x$ g $x$",
            "h i",
            "k",
            "E",
            "'l\\' m'",
            "n",
        ];
        assert_eq!(words(Product::Postgres, text), expected);
        let text = "a \"b\\\" c\" # d\n`e f` /*!40101 g */ 'h\\'i'";
        let expected = ["a", "\"b\\\" c\"", "e f", "g", "'h\\'i'"];
        assert_eq!(words(Product::Mariadb, text), expected);
        assert_eq!(words(Product::Sqlite, "[a b] 'c'';'"), ["a b", "'c'';'"]);
    }

    #[test]
    fn what_is_not_closed_ends_with_the_text() {
        for text in [
            "'", "\"", "`", "[", "/*", "$a$", "$", "E'\\", "é'\\", "/*!", "--", "#",
        ] {
            for product in [Product::Postgres, Product::Mysql, Product::Sqlite] {
                Words::of(product, text);
            }
        }
    }

    #[test]
    fn a_word_in_parentheses_is_not_outside() {
        let words = Words::of(Product::Postgres, "UPDATE a SET b = (SELECT 1 WHERE true)");
        assert!(!words.has_outside("where"));
        assert!(words.find(&["select"]).is_some());
    }
}
