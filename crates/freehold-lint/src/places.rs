//! From byte offsets to lines and columns, in one pass over a script.

use std::ops::Range;

use crate::Place;

/// The longest excerpt, in characters.
const EXCERPT: usize = 200;

/// Answers in the order of the text, so that a script is walked once however many findings it has.
pub(crate) struct Places<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
    line_start: usize,
}

impl<'a> Places<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        // A byte order mark is no column.
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self {
            text,
            at,
            line: 1,
            column: 1,
            line_start: at,
        }
    }

    fn advance(&mut self, to: usize) {
        let text = &self.text[self.at..to.clamp(self.at, self.text.len())];
        let bytes = self.text.as_bytes();
        for (offset, one) in text.char_indices() {
            let next = self.at + offset + one.len_utf8();
            let ends_line = one == '\n' || (one == '\r' && bytes.get(next) != Some(&b'\n'));
            if ends_line {
                self.line += 1;
                self.column = 1;
                self.line_start = next;
            } else {
                self.column += 1;
            }
        }
        self.at = to.clamp(self.at, self.text.len());
    }

    /// The place of a stretch that begins no earlier than the one before. A stretch of several lines ends,
    /// for the place, with its first: the rest of a long statement helps nobody.
    pub(crate) fn place(&mut self, range: &Range<usize>) -> Place {
        self.advance(range.start);
        let rest = &self.text[self.at..];
        let line_length = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let marked = &rest[..line_length.min(range.end.saturating_sub(self.at))];
        let marked = marked.trim_end();
        let width = marked.chars().take(EXCERPT).count().max(1);
        let line = self.text[self.line_start..].split(['\n', '\r']).next();
        let excerpt = line.unwrap_or_default().chars().take(EXCERPT).collect();
        Place {
            line: self.line,
            column: self.column,
            end_line: self.line,
            end_column: self.column + u32::try_from(width).unwrap_or(1),
            excerpt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_in_characters() {
        let text = "\u{feff}é x\r\ny\n  zz;";
        let mut places = Places::of(text);
        let mut at = |word: &str| {
            let start = text.find(word).unwrap();
            let place = places.place(&(start..start + word.len()));
            (place.line, place.column, place.end_column, place.excerpt)
        };
        assert_eq!(at("é"), (1, 1, 2, "é x".to_owned()));
        assert_eq!(at("x"), (1, 3, 4, "é x".to_owned()));
        assert_eq!(at("y"), (2, 1, 2, "y".to_owned()));
        assert_eq!(at("zz"), (3, 3, 5, "  zz;".to_owned()));
    }
}
