//! From byte offsets to lines and columns, and from a server's position back to the file.

use crate::Place;

/// Where each line of a text starts. LF, CRLF and a lone CR end a line, as they do for the server.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    starts: Vec<u32>,
}

impl Lines {
    /// `text` is at most 4 GiB long; the bundle's limits are far below.
    pub(crate) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut starts = vec![0];
        for (at, &byte) in bytes.iter().enumerate() {
            let ends_line = byte == b'\n' || (byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
            if ends_line {
                starts.push(u32::try_from(at + 1).unwrap_or(u32::MAX));
            }
        }
        Self { starts }
    }

    pub(crate) fn line(&self, at: usize) -> u32 {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let line = self.starts.partition_point(|&start| start <= at);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    pub(crate) fn place(&self, text: &str, at: usize) -> Place {
        let line = self.line(at);
        let start = self.starts[line as usize - 1] as usize;
        let before = text.as_bytes().get(start..at).unwrap_or_default();
        let characters = before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        // The byte order mark is no column.
        let mark = usize::from(start == 0 && text.starts_with('\u{feff}') && characters > 0);
        Place {
            line,
            column: u32::try_from(characters - mark + 1).unwrap_or(u32::MAX),
        }
    }
}

/// The byte offset of the `position`th character (from 1) of `text`; its end when there is none.
pub(crate) fn byte_offset(text: &str, position: u32) -> usize {
    text.char_indices()
        .nth((position as usize).saturating_sub(1))
        .map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_end_counts_once() {
        let text = "a\nb\r\nc\rd\n\ne";
        let lines = Lines::of(text);
        let line_of = |letter| lines.line(text.find(letter).expect("a letter"));
        assert_eq!(['a', 'b', 'c', 'd', 'e'].map(line_of), [1, 2, 3, 4, 6]);
    }

    #[test]
    fn columns_count_characters_and_skip_the_byte_order_mark() {
        let text = "\u{feff}äö x\nß y";
        let lines = Lines::of(text);
        let place = |letter| {
            let place = lines.place(text, text.find(letter).expect("a letter"));
            (place.line, place.column)
        };
        assert_eq!(place('ä'), (1, 1));
        assert_eq!(place('x'), (1, 4));
        assert_eq!(place('y'), (2, 3));
    }

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(byte_offset("äb", 1), 0);
        assert_eq!(byte_offset("äb", 2), 2);
        assert_eq!(byte_offset("äb", 9), 3);
    }
}
