//! Rust text without its comments and literals, so that a rule about code is not broken by a
//! sentence about code. Line breaks stay where they are.

/// Replaces everything inside comments, strings and character literals by spaces.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        match end {
            Some(end) => {
                out.extend(
                    chars[at..end]
                        .iter()
                        .map(|one| if *one == '\n' { '\n' } else { ' ' }),
                );
                at = end;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// Where the comment or literal that begins here ends; `None` when none begins here.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => Some(find(chars, at, '\n').unwrap_or(chars.len())),
        ['/', '*', ..] => Some(block_comment_end(chars, at)),
        ['"', ..] => Some(string_end(chars, at + 1)),
        ['r', '"' | '#', ..] if !continues_word(chars, at) => raw_end(chars, at + 1),
        ['b' | 'c', 'r', '"' | '#', ..] if !continues_word(chars, at) => raw_end(chars, at + 2),
        ['\'', '\\', ..] => Some(find(chars, at + 3, '\'').map_or(chars.len(), |end| end + 1)),
        ['\'', _, '\'', ..] => Some(at + 3),
        _ => None,
    }
}

fn continues_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn find(chars: &[char], from: usize, wanted: char) -> Option<usize> {
    chars
        .get(from..)?
        .iter()
        .position(|one| *one == wanted)
        .map(|found| from + found)
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = at;
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `from` is the first character after the `r`.
fn raw_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from..].iter().take_while(|one| **one == '#').count();
    // `r#type` is a name, no string.
    if chars.get(from + hashes) != Some(&'"') {
        return None;
    }
    let mut at = from + hashes + 1;
    while let Some(quote) = find(chars, at, '"') {
        let closing = chars[quote + 1..]
            .iter()
            .take(hashes)
            .filter(|one| **one == '#')
            .count();
        if closing == hashes {
            return Some(quote + 1 + hashes);
        }
        at = quote + 1;
    }
    Some(chars.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_stays_and_everything_else_goes() {
        for (source, expected) in [
            ("a(); // b()\nc();", "a();       \nc();"),
            ("a(/* b /* c */ d */);", "a(                 );"),
            (r#"a("b\"c");"#, "a(      );"),
            (r##"a(r#"b"c"#);"##, "a(        );"),
            (r#"a(br"b\");"#, "a(      );"),
            ("a('\"', 'b');", "a(   ,    );"),
            ("a('\\'', b);", "a(    , b);"),
            ("fn a<'b>(c: &'b str) {}", "fn a<'b>(c: &'b str) {}"),
            ("let r#type = for_r;", "let r#type = for_r;"),
        ] {
            assert_eq!(code_only(source), expected, "{source}");
        }
    }

    #[test]
    fn text_that_ends_in_the_middle_does_not_panic() {
        for source in ["\"abc\\", "/* a", "r#\"abc\"", "'\\", "'", "//"] {
            assert_eq!(
                code_only(source).chars().count(),
                source.chars().count(),
                "{source}"
            );
        }
    }
}
