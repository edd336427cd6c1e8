//! JSON pointers (RFC 6901), and the way people write the same path.

use std::borrow::Cow;

/// `pointer` with one more token.
pub(crate) fn join(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", escape(token))
}

pub(crate) fn escape(token: &str) -> Cow<'_, str> {
    if token.contains(['~', '/']) {
        token.replace('~', "~0").replace('/', "~1").into()
    } else {
        token.into()
    }
}

pub(crate) fn unescape(token: &str) -> Cow<'_, str> {
    if token.contains('~') {
        token.replace("~1", "/").replace("~0", "~").into()
    } else {
        token.into()
    }
}

/// `/spec/access/0/level` as `spec.access[0].level`. Names that hold other than letters, digits,
/// `_` and `-` are put in brackets and quotes.
pub(crate) fn human(pointer: &str) -> String {
    let mut path = String::new();
    for token in pointer.split('/').skip(1) {
        let token = unescape(token);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{token}]"));
        } else if !token.is_empty() && token.chars().all(plain) {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&token);
        } else {
            path.push_str(&format!("[{:?}]", crate::text::shown(&token)));
        }
    }
    path
}

/// Whether `inner` is `outer` or lies below it.
pub(crate) fn is_within(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_people_write_it() {
        assert_eq!(human("/spec/access/0/level"), "spec.access[0].level");
        assert_eq!(
            human("/metadata/labels/a.b~1c"),
            "metadata.labels[\"a.b/c\"]"
        );
        assert_eq!(human(""), "");
    }

    #[test]
    fn within_is_by_token_not_by_letter() {
        assert!(is_within("/spec/local", "/spec/local"));
        assert!(is_within("/spec/local/port", "/spec/local"));
        assert!(!is_within("/spec/localport", "/spec/local"));
    }
}
