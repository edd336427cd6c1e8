//! Declared indexes: their definitions, and the bytes under which a record stands in them.
//!
//! Every adapter keeps index entries as bytes whose order is the order of the values they stand for,
//! so that one comparison, `memcmp`, serves in memory, in SQLite (`BLOB`) and in PostgreSQL
//! (`BYTEA`), whatever the collation of the server. Each value's encoding is prefix-free, which makes
//! the encoding of several fields the plain concatenation, and a scan by leading fields a range.
//!
//! A definition only grows: an index that this program does not name stays, because another version
//! of the program may need it. A dropped index leaves its version behind, so that a replica of
//! yesterday's program does not bring it back when it restarts.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::{
    CollectionName, CollectionSpec, Error, ErrorKind, IndexSpec, IndexValue, Key, Result, Value,
    pointer::{Document, Pointer},
};

/// Longest encoding of a record's values in one index. Together with a key of 1 KiB it fits into
/// a B-tree entry of every store we know (PostgreSQL: 2,704 bytes).
pub(crate) const ENTRY_BYTES_MAX: usize = 1024;
const FIELDS_MAX: usize = 8;

const FALSE: u8 = 0x01;
const TRUE: u8 = 0x02;
const INTEGER: u8 = 0x03;
const TEXT: u8 = 0x04;

/// Appends the order-preserving form of a value.
pub(crate) fn encode(value: &IndexValue, out: &mut Vec<u8>) {
    match value {
        IndexValue::Bool(false) => out.push(FALSE),
        IndexValue::Bool(true) => out.push(TRUE),
        IndexValue::Integer(number) => {
            out.push(INTEGER);
            // Flipping the sign bit makes two's complement order like unsigned.
            out.extend_from_slice(&(number.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        }
        IndexValue::Text(text) => {
            out.push(TEXT);
            // A zero byte becomes 00 FF and the end 00 00, so that a text sorts before every longer
            // text that it begins.
            for byte in text.bytes() {
                out.push(byte);
                if byte == 0 {
                    out.push(0xFF);
                }
            }
            out.extend_from_slice(&[0, 0]);
        }
    }
}

/// The least byte string greater than every one that starts with `prefix`; none when there is none.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// How a record stands in one index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(crate) index: String,
    pub(crate) unique: bool,
    pub(crate) value: Vec<u8>,
}

/// One collection's definition as stored, for all versions of the program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    indexes: BTreeMap<String, IndexSpec>,
    /// Name and version of indexes that were removed for good.
    #[serde(default)]
    dropped: BTreeMap<String, u32>,
}

/// What a `define` comes to.
pub(crate) enum Merge {
    Unchanged,
    /// The new definition, and the names of the indexes that must be built anew.
    Changed(Definition, Vec<String>),
}

impl Definition {
    pub(crate) fn from_json(collection: &str, text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|source| {
            Error::corrupt(format!(
                "the stored definition of collection {collection} cannot be read"
            ))
            .because(source)
        })
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|source| Error::invalid("a definition cannot be written").because(source))
    }

    pub(crate) fn merge(&self, spec: &CollectionSpec) -> Result<Merge> {
        let mut merged = self.clone();
        let mut rebuild = Vec::new();
        for (at, wanted) in spec.indexes.iter().enumerate() {
            validate(&spec.name, wanted)?;
            if spec.indexes[..at].iter().any(|one| one.name == wanted.name) {
                return Err(Error::invalid(format!(
                    "collection {} names index {:?} twice",
                    spec.name, wanted.name
                )));
            }
            if self
                .dropped
                .get(&wanted.name)
                .is_some_and(|gone| wanted.version <= *gone)
            {
                continue;
            }
            match self.indexes.get(&wanted.name) {
                Some(stored) if stored.version > wanted.version => {}
                Some(stored) if stored.version == wanted.version => {
                    if stored != wanted {
                        return Err(Error::new(
                            ErrorKind::Config,
                            format!(
                                "index {:?} of collection {} is stored with other fields under the \
                                 same version {}; raise its version to change it",
                                wanted.name, spec.name, wanted.version
                            ),
                        ));
                    }
                }
                _ => {
                    merged.indexes.insert(wanted.name.clone(), wanted.clone());
                    rebuild.push(wanted.name.clone());
                }
            }
        }
        if rebuild.is_empty() {
            Ok(Merge::Unchanged)
        } else {
            Ok(Merge::Changed(merged, rebuild))
        }
    }

    /// The definition without an index; nothing when it has none of that name.
    pub(crate) fn without(&self, index: &str) -> Option<Self> {
        let mut rest = self.clone();
        let gone = rest.indexes.remove(index)?;
        rest.dropped.insert(gone.name, gone.version);
        Some(rest)
    }

    pub(crate) fn index(&self, name: &str) -> Option<&IndexSpec> {
        self.indexes.get(name)
    }

    pub(crate) fn has_indexes(&self) -> bool {
        !self.indexes.is_empty()
    }

    /// The entries of a value in all indexes, ordered by index name.
    pub(crate) fn entries(&self, value: &str) -> Result<Vec<Entry>> {
        self.entries_where(value, |_| true)
    }

    /// The entries of a value in the indexes that `wanted` picks.
    pub(crate) fn entries_where(
        &self,
        value: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Entry>> {
        if self.indexes.is_empty() {
            return Ok(Vec::new());
        }
        let document = Document::parse(value)?;
        let mut entries = Vec::with_capacity(self.indexes.len());
        for spec in self.indexes.values().filter(|spec| wanted(&spec.name)) {
            if let Some(value) = encode_fields(spec, &document)? {
                entries.push(Entry {
                    index: spec.name.clone(),
                    unique: spec.unique,
                    value,
                });
            }
        }
        Ok(entries)
    }
}

/// The bytes of all the index's fields, or nothing when one of them is missing.
fn encode_fields(spec: &IndexSpec, document: &Document<'_>) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    for field in &spec.fields {
        let Some(value) = document
            .find(&Pointer::parse(field)?)?
            .and_then(index_value)
        else {
            return Ok(None);
        };
        encode(&value, &mut bytes);
    }
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(Error::too_large(format!(
            "the fields of index {:?} take {} bytes ({ENTRY_BYTES_MAX} at most)",
            spec.name,
            bytes.len()
        )));
    }
    Ok(Some(bytes))
}

/// What a JSON text stands for in an index; nothing for null, fractions, arrays and objects.
fn index_value(json: &str) -> Option<IndexValue> {
    match json.as_bytes().first()? {
        b't' => Some(IndexValue::Bool(true)),
        b'f' => Some(IndexValue::Bool(false)),
        b'"' => serde_json::from_str(json).ok().map(IndexValue::Text),
        b'-' | b'0'..=b'9' => json.parse().ok().map(IndexValue::Integer),
        _ => None,
    }
}

fn validate(collection: &CollectionName, spec: &IndexSpec) -> Result<()> {
    CollectionName::new(spec.name.as_str()).map_err(|_| {
        Error::invalid(format!(
            "{:?} is not an index name (1 to 48 of a-z, 0-9 and _, starting with a letter)",
            spec.name
        ))
    })?;
    if spec.fields.is_empty() || spec.fields.len() > FIELDS_MAX {
        return Err(Error::invalid(format!(
            "index {:?} of collection {collection} has {} fields (1 to {FIELDS_MAX})",
            spec.name,
            spec.fields.len()
        )));
    }
    spec.fields
        .iter()
        .try_for_each(|f| Pointer::parse(f).map(drop))
}

/// All definitions of a store at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Definitions {
    /// Grows with each change of any definition; writers prove with it that they know them all.
    pub(crate) version: u64,
    pub(crate) collections: HashMap<CollectionName, Definition>,
}

impl Definitions {
    pub(crate) fn of(&self, collection: &CollectionName) -> Option<&Definition> {
        self.collections
            .get(collection)
            .filter(|one| one.has_indexes())
    }

    pub(crate) fn index(&self, collection: &CollectionName, name: &str) -> Result<&IndexSpec> {
        self.collections
            .get(collection)
            .and_then(|definition| definition.index(name))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    format!(
                        "collection {collection} has no index {name:?}; define it before scanning it"
                    ),
                )
            })
    }
}

/// A `define` met two records with the same value of a unique index.
pub(crate) fn unique_build_refused(
    collection: &CollectionName,
    index: &str,
    one: &[u8],
    other: &[u8],
) -> Error {
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    Error::new(
        ErrorKind::AlreadyExists,
        format!(
            "unique index {index:?} of collection {collection} cannot be built: the records {one:?} \
             and {other:?} have the same value"
        ),
    )
}

/// A record that is there cannot stand in an index that is being built.
pub(crate) fn build_refused(collection: &CollectionName, key: &Key, source: Error) -> Error {
    Error::new(
        source.kind(),
        format!("an index of collection {collection} cannot be built because of record {key}"),
    )
    .because(source)
}

/// Entries of one value, with the position of the write they belong to in errors.
pub(crate) fn entries_of(
    definitions: &Definitions,
    collection: &CollectionName,
    value: &Value,
) -> Result<Vec<Entry>> {
    definitions.of(collection).map_or_else(
        || Ok(Vec::new()),
        |definition| definition.entries(value.text()),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = IndexValue> {
        prop_oneof![
            any::<bool>().prop_map(IndexValue::Bool),
            any::<i64>().prop_map(IndexValue::Integer),
            (-3i64..3).prop_map(IndexValue::Integer),
            "[\\x00\\x01ab\u{10FFFF}]{0,4}".prop_map(IndexValue::Text),
            any::<String>().prop_map(IndexValue::Text),
        ]
    }

    fn encoded(values: &[IndexValue]) -> Vec<u8> {
        let mut out = Vec::new();
        values.iter().for_each(|value| encode(value, &mut out));
        out
    }

    proptest! {
        #[test]
        fn bytes_order_as_the_values_do(
            left in prop::collection::vec(value(), 0..4),
            right in prop::collection::vec(value(), 0..4),
        ) {
            prop_assert_eq!(encoded(&left).cmp(&encoded(&right)), left.cmp(&right));
        }

        #[test]
        fn leading_values_are_exactly_a_range(
            all in prop::collection::vec(value(), 1..4),
            prefix in prop::collection::vec(value(), 1..3),
        ) {
            let (bytes, from) = (encoded(&all), encoded(&prefix));
            let inside = bytes >= from && successor(&from).is_none_or(|to| bytes < to);
            prop_assert_eq!(inside, all.starts_with(&prefix));
        }

        #[test]
        fn the_successor_is_above_everything_that_starts_with_the_prefix(
            prefix in prop::collection::vec(any::<u8>(), 0..6),
            other in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let starts = other.starts_with(&prefix);
            let inside = other >= prefix && successor(&prefix).is_none_or(|to| other < to);
            prop_assert_eq!(inside, starts);
        }

        #[test]
        fn a_stored_field_is_encoded_as_the_value_that_finds_it(wanted in value()) {
            let definition = definition(&[("i", &["/f"], 1)]);
            let text = serde_json::json!({ "f": &wanted }).to_string();
            let entries = definition.entries(&text).unwrap();
            prop_assert_eq!(&entries[0].value, &encoded(&[wanted]));
        }
    }

    fn index(name: &str, fields: &[&str], version: u32) -> IndexSpec {
        IndexSpec {
            name: name.to_owned(),
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            unique: false,
            version,
        }
    }

    fn spec(indexes: &[(&str, &[&str], u32)]) -> CollectionSpec {
        CollectionSpec {
            name: CollectionName::new("things").unwrap(),
            indexes: indexes.iter().map(|(n, f, v)| index(n, f, *v)).collect(),
        }
    }

    fn definition(indexes: &[(&str, &[&str], u32)]) -> Definition {
        match Definition::default().merge(&spec(indexes)).unwrap() {
            Merge::Changed(definition, _) => definition,
            Merge::Unchanged => unreachable!("a new index changes the definition"),
        }
    }

    #[test]
    fn values_of_other_types_stand_outside() {
        let definition = definition(&[("i", &["/f"], 1)]);
        for text in ["null", "1.5", "1e3", "[1]", "{}", "9223372036854775808"] {
            let entries = definition.entries(&format!("{{\"f\":{text}}}")).unwrap();
            assert_eq!(entries, [], "{text}");
        }
        assert_eq!(definition.entries("[1,2]").unwrap(), []);
    }

    #[test]
    fn an_index_is_kept_replaced_or_refused_by_its_version() {
        let stored = definition(&[("a", &["/x"], 2)]);
        assert!(matches!(stored.merge(&spec(&[])), Ok(Merge::Unchanged)));
        assert!(matches!(
            stored.merge(&spec(&[("a", &["/y"], 1)])),
            Ok(Merge::Unchanged)
        ));
        let refused = stored.merge(&spec(&[("a", &["/y"], 2)])).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Config);
        let Ok(Merge::Changed(newer, rebuild)) = stored.merge(&spec(&[("a", &["/y"], 3)])) else {
            panic!("a higher version replaces the index");
        };
        assert_eq!(
            (newer.index("a").unwrap().version, rebuild),
            (3, vec!["a".to_owned()])
        );
    }

    #[test]
    fn a_dropped_index_comes_back_only_with_a_higher_version() {
        let rest = definition(&[("a", &["/x"], 2)]).without("a").unwrap();
        assert!(matches!(
            rest.merge(&spec(&[("a", &["/x"], 2)])),
            Ok(Merge::Unchanged)
        ));
        assert!(matches!(
            rest.merge(&spec(&[("a", &["/x"], 3)])),
            Ok(Merge::Changed(..))
        ));
    }
}
