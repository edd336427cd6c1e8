//! Which trace a piece of work belongs to, so that work which begins in one process and ends in
//! another is seen as one.
//!
//! A [`TraceParent`] is the value of the W3C header `traceparent`: it comes in with a request, is
//! kept in the record of an operation that the request causes, and is taken up by whoever drives the
//! operation. Who records spans is not known here: the program that exports them installs a
//! [`Recorder`] once, and everybody else asks through [`current`] and [`begin`]. Without a recorder
//! nothing is kept and nothing costs.
//!
//! `tracestate` is left out: Freehold calls nobody who would read it.

use std::{fmt, sync::OnceLock};

use tracing::Span;

/// A span in somebody's trace: `00-<trace id>-<span id>-<flags>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceParent(String);

impl TraceParent {
    /// The header's value, when it is one that the standard's version 00 allows. Whatever else comes
    /// is as good as nothing, as the standard asks: a caller's broken header must not fail its request.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags] = parts.as_slice() else {
            return None;
        };
        let hex = |part: &str, length: usize| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let names_something = |part: &str| part.bytes().any(|byte| byte != b'0');
        let valid = *version == "00"
            && hex(trace, 32)
            && hex(span, 16)
            && hex(flags, 2)
            && names_something(trace)
            && names_something(span);
        valid.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a span is in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The answering of a request.
    Server,
    /// Work that somebody asked for earlier.
    Consumer,
    /// Work that nobody asked for, or a part of other work.
    Internal,
}

/// Who records spans.
pub trait Recorder: Send + Sync {
    /// The span that the caller is in.
    fn current(&self) -> Option<TraceParent>;

    /// Told of a span before it is entered.
    fn begin(&self, span: &Span, role: Role, name: &str, within: Option<&TraceParent>);
}

static RECORDER: OnceLock<Box<dyn Recorder>> = OnceLock::new();

/// Becomes the process's recorder; the first one stays.
pub fn record_with(recorder: Box<dyn Recorder>) {
    let _ = RECORDER.set(recorder);
}

/// The span that the caller is in, for work that it starts elsewhere.
pub fn current() -> Option<TraceParent> {
    RECORDER.get().and_then(|recorder| recorder.current())
}

/// Says what a new span is, how it is called and whose work it continues, before it is entered. The
/// name is one of few: what it is about stands in the span's fields.
pub fn begin(span: &Span, role: Role, name: &str, within: Option<&TraceParent>) {
    if let Some(recorder) = RECORDER.get() {
        recorder.begin(span, role, name, within);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_the_standard_allows_is_taken_and_nothing_else() {
        assert_eq!(TraceParent::parse(GOOD).unwrap().as_str(), GOOD);
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b\r-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
        }
    }
}
