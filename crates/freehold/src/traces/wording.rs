//! Spans' fields in the words that tools for traces know.
//!
//! The log calls a field `method`; OpenTelemetry's conventions call it `http.request.method`. What has
//! no word there is put under `freehold.`, so that it cannot be mistaken for one that has.

use opentelemetry::{
    Key, Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::SpanData;

/// Requests of those who watch the server: nobody has given them a name.
const UNNAMED: &str = "request";

const KNOWN: [(&str, &str); 5] = [
    ("method", "http.request.method"),
    ("route", "http.route"),
    ("status", "http.response.status_code"),
    ("subject", "enduser.id"),
    ("busy_ns", "freehold.busy_ns"),
];

pub(super) fn is_unnamed(span: &SpanData) -> bool {
    span.name == UNNAMED
}

pub(super) fn translate(span: &mut SpanData) {
    for attribute in &mut span.attributes {
        let key = attribute.key.as_str();
        // What has a dot is a word of somebody's conventions already.
        if key.contains('.') {
            continue;
        }
        let known = KNOWN.iter().find(|(ours, _)| *ours == key);
        attribute.key = match known {
            Some((_, theirs)) => Key::from_static_str(theirs),
            None => Key::from(format!("freehold.{key}")),
        };
        if attribute.key.as_str() == "http.response.status_code"
            && let Value::I64(status) = attribute.value
            && span.span_kind == SpanKind::Server
            && status >= 500
        {
            span.status = Status::error(format!("status {status}"));
        }
    }
}
