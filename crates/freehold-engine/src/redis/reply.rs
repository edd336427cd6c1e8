//! Reading the server's replies: maps come as arrays of pairs in one protocol and as maps in the other,
//! texts in three kinds.

use std::collections::BTreeMap;

use redis::Value;

/// A reply's text; `None` for what is none.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Okay => Some("OK".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The members of a list; nothing for what is no list.
pub(super) fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => &[],
    }
}

pub(super) fn texts(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(text).collect()
}

/// Pairs by their first.
pub(super) fn map(value: &Value) -> BTreeMap<String, &Value> {
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .filter_map(|(key, value)| Some((text(key)?, value)))
            .collect(),
        other => list(other)
            .chunks_exact(2)
            .filter_map(|pair| Some((text(pair.first()?)?, pair.last()?)))
            .collect(),
    }
}

/// A hash of texts; `None` when there is no such key.
pub(super) fn hash(value: &Value) -> Option<BTreeMap<String, String>> {
    let pairs: BTreeMap<String, String> = map(value)
        .into_iter()
        .filter_map(|(key, value)| Some((key, text(value)?)))
        .collect();
    (!pairs.is_empty()).then_some(pairs)
}

/// The `name:value` lines of INFO.
pub(super) fn info(value: &Value) -> BTreeMap<String, String> {
    let text = text(value).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// How many connections each user has, by `CLIENT LIST`.
pub(super) fn sessions(value: &Value) -> BTreeMap<String, u32> {
    let mut sessions = BTreeMap::new();
    for line in text(value).unwrap_or_default().lines() {
        let mut words = line.split(' ');
        if let Some(user) = words.find_map(|word| word.strip_prefix("user=")) {
            *sessions.entry(user.to_owned()).or_insert(0) += 1;
        }
    }
    sessions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn both_protocols_say_the_same() {
        let old = Value::Array(vec![bulk("a"), bulk("1"), bulk("b"), Value::Int(2)]);
        let new = Value::Map(vec![(bulk("a"), bulk("1")), (bulk("b"), Value::Int(2))]);
        assert_eq!(hash(&old), hash(&new));
        assert_eq!(hash(&Value::Array(Vec::new())), None);
    }

    #[test]
    fn sessions_are_counted_by_user() {
        let listed = bulk(
            "id=1 addr=1:1 name= user=shop_a lib-name=\nid=2 name=x user=shop_a\nid=3 user=root\n",
        );
        let counted = sessions(&listed);
        assert_eq!((counted["shop_a"], counted["root"]), (2, 1));
    }
}
