//! Walks a value beside its schema and says in words where the two part.
//!
//! Understands exactly the keywords that [`crate::schema`] writes; a test enumerates them. A
//! general validator would say "is not valid under any of the given schemas"; this one says what a
//! person should write instead, and all of it at once.

use std::{collections::HashSet, net::IpAddr};

use freehold_model::Name;
use serde_json::Value;

use super::Violation;
use crate::{
    pointer,
    schema::{
        EXTENSION, HOST, LABEL_KEY, LABEL_VALUE, MAJOR_VERSION, NAME, SECRET_REFERENCE, TIMESTAMP,
    },
    text::{nearest, shown},
};

/// More than these are not collected: nobody reads them.
pub(super) const VIOLATIONS_MAX: usize = 50;

/// Checks `value` against the definition `reference` (`#/$defs/…`, or `#` for the root).
pub(super) fn check(
    root: &'static Value,
    reference: &str,
    at: &str,
    value: &Value,
) -> Vec<Violation> {
    let mut walk = Walk {
        root,
        violations: Vec::new(),
    };
    let schema = walk.resolve(reference);
    walk.value(schema, at, value);
    walk.violations
}

struct Walk {
    root: &'static Value,
    violations: Vec<Violation>,
}

impl Walk {
    fn say(&mut self, at: &str, key: &'static str, message: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            let pointer = at.to_owned();
            self.violations.push(Violation {
                pointer,
                key,
                message,
            });
        }
    }

    fn resolve(&self, reference: &str) -> &'static Value {
        let pointer = reference.strip_prefix('#').unwrap_or(reference);
        self.root
            .pointer(pointer)
            .expect("every reference of a schema resolves; the schema test says so")
    }

    /// Follows `$ref` and the `anyOf [schema, null]` of an optional field.
    fn effective(&self, mut schema: &'static Value) -> &'static Value {
        loop {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                schema = self.resolve(reference);
            } else if let Some(Value::Array(choices)) = schema.get("anyOf") {
                let not_null = |s: &&Value| s.get("type").is_none_or(|t| t != "null");
                match choices.iter().find(not_null) {
                    Some(choice) => schema = choice,
                    None => return schema,
                }
            } else {
                return schema;
            }
        }
    }

    fn value(&mut self, schema: &'static Value, at: &str, value: &Value) {
        if self.violations.len() >= VIOLATIONS_MAX {
            return;
        }
        let schema = self.effective(schema);
        if let Some(words) = allowed_words(schema) {
            return self.word(&words, at, value);
        }
        match primary_type(schema) {
            Some("object") => self.object(schema, at, value),
            Some("array") => self.list(schema, at, value),
            Some("string") => self.text(schema, at, value),
            Some("integer") => self.integer(schema, at, value),
            Some("boolean") if !value.is_boolean() => {
                self.mismatch(at, "`true` or `false`", value);
            }
            _ => {}
        }
    }

    fn mismatch(&mut self, at: &str, expected: &str, value: &Value) {
        let found = describe(value);
        let advice = match value {
            Value::Number(_) | Value::Bool(_) if expected.starts_with("a text") => {
                format!("; put it in quotes: \"{value}\"")
            }
            Value::String(text) if text.parse::<u64>().is_ok() && expected.contains("number") => {
                "; leave the quotes out".to_owned()
            }
            _ => String::new(),
        };
        let field = last(at);
        self.say(
            at,
            "type",
            format!("{field} must be {expected}, not {found}{advice}"),
        );
    }

    fn word(&mut self, words: &[&'static str], at: &str, value: &Value) {
        let Value::String(text) = value else {
            let expected = format!("one of {}", list_words(words));
            return self.mismatch(at, &expected, value);
        };
        if words.contains(&text.as_str()) {
            return;
        }
        let field = last(at);
        let advice = match (nearest(text, words.iter().copied()), words) {
            (Some(word), _) => format!("did you mean `{word}`?"),
            (None, [only]) => format!("it must be `{only}`"),
            (None, _) => format!("it may be {}", list_words(words)),
        };
        let text = shown(text);
        let message = format!("unknown value `{text}` for {field}, {advice}");
        self.say(at, "unknownValue", message);
    }

    fn object(&mut self, schema: &'static Value, at: &str, value: &Value) {
        let Value::Object(object) = value else {
            return self.mismatch(at, "a mapping of fields", value);
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = names(schema.get("required"));
        for (name, value) in object {
            let at = pointer::join(at, name);
            match properties.and_then(|p| p.get(name)) {
                // Null is the same as absent; what is missing is said below.
                Some(_) if value.is_null() => {}
                Some(property) => self.value(property, &at, value),
                None => self.other_field(schema, &at, name, value),
            }
        }
        for name in required {
            if object.get(name).is_none_or(Value::is_null) {
                let whole = described_place(at);
                let at = pointer::join(at, name);
                self.say(&at, "missing", format!("field `{name}` is missing{whole}"));
            }
        }
        self.exactly_one(schema, at, object);
    }

    /// `oneOf` of an object: each branch requires one field.
    fn exactly_one(
        &mut self,
        schema: &'static Value,
        at: &str,
        object: &serde_json::Map<String, Value>,
    ) {
        let Some(Value::Array(branches)) = schema.get("oneOf") else {
            return;
        };
        let choices: Vec<&str> = branches
            .iter()
            .flat_map(|branch| names(branch.get("required")))
            .collect();
        let given: Vec<&str> = choices
            .iter()
            .copied()
            .filter(|name| object.get(*name).is_some_and(|value| !value.is_null()))
            .collect();
        if given.len() != 1 {
            let all = list_words_with(&choices, "and");
            let message = match given.as_slice() {
                [] => format!("exactly one of {all} must be given; none is"),
                _ => format!("exactly one of {all} must be given; remove the other"),
            };
            self.say(at, "exactlyOne", message);
        }
    }

    fn other_field(&mut self, schema: &'static Value, at: &str, name: &str, value: &Value) {
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => {
                let known = schema.get("properties").and_then(Value::as_object);
                let known = known.into_iter().flat_map(|p| p.keys().map(String::as_str));
                let (parent, _) = at.rsplit_once('/').unwrap_or_default();
                let whole = described_place(parent);
                let advice = match nearest(name, known) {
                    Some(word) => format!(", did you mean `{word}`?"),
                    None => String::new(),
                };
                let name = shown(name);
                let message = format!("unknown field `{name}`{whole}{advice}");
                self.say(at, "unknownField", message);
            }
            Some(others) => {
                if let Some(names) = schema.get("propertyNames") {
                    self.form(names, at, name);
                }
                if !value.is_null() {
                    self.value(others, at, value);
                }
            }
            None => {}
        }
    }

    fn list(&mut self, schema: &'static Value, at: &str, value: &Value) {
        let Value::Array(items) = value else {
            return self.mismatch(at, "a list", value);
        };
        let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{at}/{index}");
            if let Some(schema) = schema.get("items") {
                self.value(schema, &at, item);
            }
            if unique && !seen.insert(canonical(item)) {
                let message = format!("{} stands in the list twice", describe(item));
                self.say(&at, "duplicate", message);
            }
        }
    }

    fn text(&mut self, schema: &'static Value, at: &str, value: &Value) {
        match value {
            Value::String(text) => self.form(schema, at, text),
            _ => self.mismatch(at, "a text", value),
        }
    }

    /// Length and form of a text.
    fn form(&mut self, schema: &'static Value, at: &str, text: &str) {
        let field = last(at);
        if text.contains('\0') {
            return self.say(at, "nul", format!("{field} holds a NUL character"));
        }
        let limit = |keyword| schema.get(keyword).and_then(Value::as_u64);
        let bytes = text.len() as u64;
        if limit("minLength").is_some_and(|min| bytes < min) {
            return self.say(at, "length", format!("{field} is empty"));
        }
        if let Some(max) = limit("maxLength").filter(|max| bytes > *max) {
            let message = format!("{field} is {bytes} bytes long; {max} are allowed");
            return self.say(at, "length", message);
        }
        let Some(pattern) = schema.get("pattern").and_then(Value::as_str) else {
            return;
        };
        if let Err(reason) = well_formed(pattern, text) {
            let text = shown(text);
            self.say(
                at,
                "form",
                format!("`{text}` is not right for {field}: {reason}"),
            );
        }
    }

    fn integer(&mut self, schema: &'static Value, at: &str, value: &Value) {
        let limit = |keyword| schema.get(keyword).and_then(Value::as_u64);
        let (min, max) = (
            limit("minimum").unwrap_or(0),
            limit("maximum").unwrap_or(u64::MAX),
        );
        let Value::Number(number) = value else {
            return self.mismatch(at, "a whole number", value);
        };
        if number.is_f64() {
            return self.mismatch(at, "a whole number", value);
        }
        if number.as_u64().is_none_or(|n| n < min || n > max) {
            let field = last(at);
            let message = format!("{field} is {number}; it may be from {min} to {max}");
            self.say(at, "range", message);
        }
    }
}

/// The words that a schema made of `enum`, `const` and `oneOf` of these allows.
fn allowed_words(schema: &'static Value) -> Option<Vec<&'static str>> {
    if let Some(Value::Array(branches)) = schema.get("oneOf") {
        let words: Option<Vec<_>> = branches.iter().map(allowed_words).collect();
        return words.map(|words| words.into_iter().flatten().collect());
    }
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![word]);
    }
    schema.get("enum").map(|words| names(Some(words)))
}

fn primary_type(schema: &'static Value) -> Option<&'static str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|n| *n != "null"),
        _ => None,
    }
}

fn names(list: Option<&'static Value>) -> Vec<&'static str> {
    list.and_then(Value::as_array)
        .map(|items| items.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

fn last(at: &str) -> String {
    let human = pointer::human(at);
    if human.is_empty() {
        "the document".to_owned()
    } else {
        human.strip_prefix("spec.").unwrap_or(&human).to_owned()
    }
}

/// ` in spec.access[0]`, or nothing for the document itself.
fn described_place(at: &str) -> String {
    let human = pointer::human(at);
    if human.is_empty() {
        human
    } else {
        format!(" in {human}")
    }
}

fn list_words(words: &[&str]) -> String {
    list_words_with(words, "or")
}

fn list_words_with(words: &[&str], joint: &str) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} {joint} `{last}`", first.join(", "))
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(it) => format!("`{it}`"),
        Value::Number(it) => format!("the number {it}"),
        Value::String(it) => format!("the text \"{}\"", shown(it)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// The same text for equal values, whatever the order of their fields.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut pairs: Vec<_> = object.iter().collect();
            pairs.sort_unstable_by_key(|(name, _)| *name);
            let fields: Vec<_> = pairs
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| format!("{name:?}:{}", canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// Whether a text has the form that `pattern` names, else what it must be. May be stricter than
/// the pattern, never looser.
pub(super) fn well_formed(pattern: &str, text: &str) -> Result<(), String> {
    let (right, must) = match pattern {
        NAME => return Name::new(text).map(drop).map_err(|e| e.reason.to_owned()),
        SECRET_REFERENCE => (
            is_secret_reference(text),
            "a secret is referenced, never written: `env:NAME`, `file:/path` or `exec:command`",
        ),
        MAJOR_VERSION => (
            is_major_version(text),
            "it must be a major version such as \"15\"",
        ),
        HOST => (
            is_host(text),
            "it must be a host name or an IP address, without port or scheme",
        ),
        EXTENSION => (
            is_extension(text),
            "an extension's name is made of letters, digits, `_`, `-` and `.`",
        ),
        TIMESTAMP => (
            is_timestamp(text),
            "it must be a time such as 2027-01-31T12:00:00Z",
        ),
        LABEL_KEY => (
            is_label_key(text),
            "a key is made of at most 63 letters, digits, `-`, `_` and `.`, perhaps after a \
             `domain/`",
        ),
        LABEL_VALUE => (
            text.is_empty() || is_label_word(text),
            "a label's value is made of letters, digits, `-`, `_` and `.`, and starts and ends \
             with a letter or digit",
        ),
        _ => (false, "its form cannot be checked"),
    };
    if right { Ok(()) } else { Err(must.to_owned()) }
}

fn is_secret_reference(text: &str) -> bool {
    if text.chars().any(char::is_control) {
        return false;
    }
    if let Some(name) = text.strip_prefix("env:") {
        let mut bytes = name.bytes();
        return bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    }
    if let Some(path) = text.strip_prefix("file:") {
        return path.len() > 1 && path.starts_with('/');
    }
    text.strip_prefix("exec:")
        .is_some_and(|command| !command.trim().is_empty())
}

fn is_major_version(text: &str) -> bool {
    (1..=3).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit())
        && !text.starts_with('0')
}

fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let last_is_number = labels
        .clone()
        .next_back()
        .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    let right = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !last_is_number && labels.clone().all(right)
}

fn is_extension(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let outer = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let bytes = text.as_bytes();
    bytes.iter().copied().all(inner)
        && bytes.first().is_some_and(outer)
        && bytes.last().is_some_and(outer)
        && !text.contains("--")
        && !text.contains("..")
}

fn is_timestamp(text: &str) -> bool {
    let shape: Vec<u8> = text
        .bytes()
        .map(|b| if b.is_ascii_digit() { b'0' } else { b })
        .collect();
    let Some(rest) = shape.strip_prefix(b"0000-00-00T00:00:00") else {
        return false;
    };
    let zone = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|b| **b == b'0').count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
    };
    matches!(zone, b"Z" | b"+00:00" | b"-00:00") && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_label_key(text: &str) -> bool {
    let (domain, name) = match text.split_once('/') {
        None => (None, text),
        Some((domain, name)) => (Some(domain), name),
    };
    let domain_right = domain.is_none_or(|domain| {
        let outer =
            |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = domain.as_bytes();
        bytes.len() <= 253
            && outer(bytes.first())
            && outer(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
    });
    domain_right && is_label_word(name)
}

fn is_label_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && outer(bytes.first())
        && outer(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
