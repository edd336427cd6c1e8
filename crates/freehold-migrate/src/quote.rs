//! The one way from text to SQL text in this crate.

use std::fmt;

/// A name; displays with its quotes.
pub(crate) struct Identifier<'a>(pub(crate) &'a str);

impl fmt::Display for Identifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A value; displays as a string literal that means the same whatever
/// `standard_conforming_strings` says, because a script may have changed it behind our back.
/// NUL, which no text of the server can hold, is left out.
pub(crate) struct Literal<'a>(pub(crate) &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doubled = self.0.replace('\0', "").replace('\'', "''");
        if doubled.contains('\\') {
            write!(f, " E'{}'", doubled.replace('\\', "\\\\"))
        } else {
            write!(f, "'{doubled}'")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_inside_its_quotes() {
        assert_eq!(Identifier("a\"; DROP").to_string(), "\"a\"\"; DROP\"");
        assert_eq!(Literal("it's").to_string(), "'it''s'");
        assert_eq!(Literal("a\\'b").to_string(), " E'a\\\\''b'");
    }
}
