//! Writes YAML that [`super::parse`] and every other YAML reader understand alike.
//!
//! A text stands plain only when no reader could take it for anything else (`on`, `1e3` and
//! `2027-01-31` are quoted); every other text stands in double quotes with JSON's escapes.

use freehold_model::Resource;
use serde_json::{Map, Value};

/// The YAML form of a resource: what people write first, what Freehold adds after it. The
/// bookkeeping of field ownership is left out. [`super::parse`] reads it back.
pub fn to_yaml(resource: &Resource) -> String {
    let mut value = serde_json::to_value(resource).expect("a resource is plain JSON");
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    value_to_yaml(&value)
}

/// The YAML form of any JSON value, ending with a line break.
pub fn value_to_yaml(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

/// Writes `value` as whole lines at `indent`.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(object) if !object.is_empty() => mapping(out, object, indent, false),
        Value::Array(items) if !items.is_empty() => list(out, items, indent),
        other => {
            margin(out, indent);
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

/// `inline` says that the first field's line has been begun already.
fn mapping(out: &mut String, object: &Map<String, Value>, indent: usize, mut inline: bool) {
    for (name, value) in object {
        if !std::mem::take(&mut inline) {
            margin(out, indent);
        }
        out.push_str(&text(name));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(out, inner, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                list(out, items, indent + 2);
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn list(out: &mut String, items: &[Value], indent: usize) {
    for item in items {
        margin(out, indent);
        out.push('-');
        match item {
            Value::Object(object) if !object.is_empty() => {
                out.push(' ');
                mapping(out, object, indent + 2, true);
            }
            Value::Array(inner) if !inner.is_empty() => {
                out.push('\n');
                list(out, inner, indent + 2);
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn margin(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Number(it) => it.to_string(),
        Value::String(it) => text(it),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

fn text(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Whether every YAML reader, of 1.1 and of 1.2, takes the bare text for this text.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/');
    let spaced = |b: &u8| word(b) || matches!(b, b' ' | b',' | b'(' | b')' | b'+' | b'=' | b';');
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    let reserved = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf",
    ];
    first.is_ascii_alphabetic()
        && word(last)
        && bytes.iter().all(spaced)
        && !reserved.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) > 0xffff => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Printable in YAML and harmless on a terminal.
fn is_printable(c: char) -> bool {
    let stable = !matches!(
        c,
        '\u{2028}'..='\u{202e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    );
    let printable = matches!(
        c,
        ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10fffd}'
    );
    stable && printable && !c.is_control()
}
