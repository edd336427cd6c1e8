//! Flyway's checksum of a script.
//!
//! CRC-32 over the UTF-8 bytes of each line without its terminator, as a signed 32-bit number. LF, CR
//! and CRLF end a line; one byte order mark at the very start does not count. So neither line endings
//! nor blank lines nor a final newline change it, trailing spaces do, and joining two lines does not.

/// The checksum that the history table holds for this text.
pub fn checksum(text: &str) -> i32 {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut hasher = crc32fast::Hasher::new();
    for line in text
        .as_bytes()
        .split(|&byte| byte == b'\n' || byte == b'\r')
    {
        hasher.update(line);
    }
    hasher.finalize().cast_signed()
}

/// The checksum of some Flyway 5 versions, which hashed a line feed after each line. It serves to tell
/// an old history from a changed file.
pub(crate) fn with_line_feeds(text: &str) -> i32 {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut hasher = crc32fast::Hasher::new();
    for line in text.lines() {
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "alter table location_history add column valid_until timestamp with time zone;";

    /// From flyway#2474. The older variant hashed the line feed too and gave −1340212107.
    #[test]
    fn the_published_vector_holds() {
        assert_eq!(checksum(LINE), -1_039_259_818);
        assert_eq!(with_line_feeds(LINE), -1_340_212_107);
    }

    #[test]
    fn an_empty_script_has_a_real_zero() {
        assert_eq!(checksum(""), 0);
        assert_eq!(checksum("\n\r\n\r"), 0);
        assert_eq!(checksum("\u{feff}"), 0);
    }

    #[test]
    fn line_endings_blank_lines_and_the_byte_order_mark_do_not_count() {
        let expected = checksum("a\nb");
        for same in [
            "a\r\nb",
            "a\rb",
            "a\nb\n",
            "a\n\n\nb\n\n",
            "\u{feff}a\nb",
            "ab",
        ] {
            assert_eq!(checksum(same), expected, "{same:?}");
        }
        for other in ["a \nb", "a\n b", "\u{feff}\u{feff}a\nb", "a\n\u{feff}b"] {
            assert_ne!(checksum(other), expected, "{other:?}");
        }
    }
}
