//! How texts from outside are shown in messages, and what they may have been meant to be.

use std::borrow::Cow;

/// A text from outside, safe and short enough to stand in a message: control characters are
/// escaped, what is longer than 60 characters is cut.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    const LENGTH_MAX: usize = 60;
    let harmless = |c: char| !c.is_control() && !is_invisible(c);
    if text.len() <= LENGTH_MAX && text.chars().all(harmless) {
        return text.into();
    }
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == LENGTH_MAX {
            out.push('…');
            break;
        }
        if harmless(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out.into()
}

/// Characters that change or hide their surroundings when printed.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The known word nearest to `word`, when one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LENGTH_MAX: usize = 64;
    if word.is_empty() || word.len() > LENGTH_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let distance_max = (lower.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            *distance <= distance_max || is_prefix_meant(&lower, &candidate.to_lowercase())
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `env` means `environment`, and `databases` means `database`.
fn is_prefix_meant(word: &str, candidate: &str) -> bool {
    let shorter = word.len().min(candidate.len());
    shorter >= 3 && (word.starts_with(candidate) || candidate.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_nonsense_finds_none() {
        let known = ["access", "class", "schemas", "deletionPolicy"];
        assert_eq!(nearest("acces", known), Some("access"));
        assert_eq!(nearest("Class", known), Some("class"));
        assert_eq!(nearest("deletionpolcy", known), Some("deletionPolicy"));
        assert_eq!(nearest("schema", known), Some("schemas"));
        assert_eq!(nearest("password", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
    }

    #[test]
    fn hostile_texts_are_shown_harmlessly() {
        assert_eq!(shown("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(shown("a\u{202e}b"), "a\\u{202e}b");
        assert!(shown(&"x".repeat(1000)).chars().count() <= 61);
    }
}
