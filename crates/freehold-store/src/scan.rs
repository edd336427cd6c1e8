//! Reading many records, page by page.

use serde::{Deserialize, Serialize};

use crate::{CollectionName, Record};

/// What to read. Without an index, records come in key order; with one, in the order of the index
/// values and then of keys. Records that lack one of the index's fields are not in the index.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    pub collection: CollectionName,
    pub range: Range,
    /// Applied to what the range gives, before `limit` counts.
    pub filter: Option<Filter>,
    /// Records per page, 1 to 1,000.
    pub limit: usize,
    pub after: Option<ScanToken>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Range {
    All,
    /// Keys that start with the text.
    KeyPrefix(String),
    /// Records whose leading index values equal these; fewer values than fields give a prefix.
    IndexPrefix {
        index: String,
        values: Vec<IndexValue>,
    },
    /// Records whose leading index values equal `values` and whose next one is at least `from` and
    /// less than `to`.
    IndexRange {
        index: String,
        values: Vec<IndexValue>,
        from: Option<IndexValue>,
        to: Option<IndexValue>,
    },
}

impl Range {
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_indexed(&self) -> bool {
        matches!(self, Self::IndexPrefix { .. } | Self::IndexRange { .. })
    }
}

/// A value that can stand in an index. They order as: false, true, integers, texts (by bytes).
/// Other JSON types (null, fractions, arrays, objects) put the record outside the index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IndexValue {
    Bool(bool),
    Integer(i64),
    Text(String),
}

impl From<&str> for IndexValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A field must equal a value. `pointer` is an RFC 6901 JSON pointer into the record's value.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub pointer: String,
    pub equals: serde_json::Value,
}

/// Where the next page begins. It stays valid while others write: no record that exists throughout
/// is skipped or repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScanToken(pub String);

#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub records: Vec<Record>,
    /// Absent on the last page.
    pub next: Option<ScanToken>,
}

impl Scan {
    pub fn new(collection: CollectionName, range: Range) -> Self {
        Self {
            collection,
            range,
            filter: None,
            limit: 100,
            after: None,
        }
    }
}
