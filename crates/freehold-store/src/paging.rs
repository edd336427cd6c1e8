//! From a [`Scan`] to bounds over bytes, and from rows back to a [`Page`].
//!
//! The part of scanning that is the same for every adapter: which bytes the range spans, what the
//! filter keeps, when a page is full, where the next one begins.

use serde_json::Value as Json;

use crate::{
    Error, Filter, IndexValue, Page, Range, Record, Result, Scan,
    index::{Definitions, encode, successor},
    pointer::{Document, Pointer},
    token::{Place, ScanDigest},
};

const LIMIT_MAX: usize = 1_000;

/// A scan as an adapter runs it: half-open bounds over keys, or over values of an index.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `None`: by key.
    pub(crate) index: Option<String>,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Option<Vec<u8>>,
    /// Read strictly after this place.
    pub(crate) after: Option<Place>,
    digest: ScanDigest,
    filter: Option<(Pointer, Json)>,
    limit: usize,
}

impl Plan {
    pub(crate) fn new(scan: &Scan, definitions: &Definitions) -> Result<Self> {
        if !(1..=LIMIT_MAX).contains(&scan.limit) {
            return Err(Error::invalid(format!(
                "a page of {} records (1 to {LIMIT_MAX})",
                scan.limit
            )));
        }
        let (index, from, to) = bounds(&scan.range, scan, definitions)?;
        let index_version = match &index {
            Some(index) => Some(definitions.index(&scan.collection, index)?.version),
            None => None,
        };
        let identity = format!(
            "{:?}",
            (&scan.collection, &scan.range, &scan.filter, index_version)
        );
        let digest = ScanDigest::of(&identity);
        Ok(Self {
            index,
            from,
            to,
            after: scan.after.as_ref().map(|t| digest.place(t)).transpose()?,
            digest,
            filter: scan.filter.as_ref().map(filter).transpose()?,
            limit: scan.limit,
        })
    }

    /// How many rows to fetch at once: one more than the page when nothing is filtered out.
    #[cfg(feature = "postgres")]
    pub(crate) fn fetch(&self) -> i64 {
        let rows = if self.filter.is_some() {
            LIMIT_MAX
        } else {
            self.limit + 1
        };
        i64::try_from(rows).unwrap_or(i64::MAX)
    }

    pub(crate) fn page(&self) -> PageBuilder<'_> {
        PageBuilder {
            plan: self,
            records: Vec::new(),
            last: None,
            more: false,
        }
    }

    fn keeps(&self, record: &Record) -> bool {
        let Some((pointer, wanted)) = &self.filter else {
            return true;
        };
        Document::parse(record.value.text())
            .and_then(|document| document.find(pointer))
            .ok()
            .flatten()
            .and_then(|found| serde_json::from_str::<Json>(found).ok())
            .is_some_and(|found| found == *wanted)
    }
}

type Bounds = (Option<String>, Vec<u8>, Option<Vec<u8>>);

fn bounds(range: &Range, scan: &Scan, definitions: &Definitions) -> Result<Bounds> {
    match range {
        Range::All => Ok((None, Vec::new(), None)),
        Range::KeyPrefix(prefix) => {
            let from = prefix.as_bytes().to_vec();
            let to = successor(&from);
            Ok((None, from, to))
        }
        Range::IndexPrefix { index, values } => {
            let fields = definitions.index(&scan.collection, index)?.fields.len();
            let from = leading(index, values, fields)?;
            let to = successor(&from);
            Ok((Some(index.clone()), from, to))
        }
        Range::IndexRange {
            index,
            values,
            from,
            to,
        } => {
            let fields = definitions.index(&scan.collection, index)?.fields.len();
            // The range is over one more field than the leading values.
            let prefix = leading(index, values, fields - 1)?;
            let bound = |value: &IndexValue| {
                let mut bytes = prefix.clone();
                encode(value, &mut bytes);
                bytes
            };
            let low = from.as_ref().map_or_else(|| prefix.clone(), bound);
            let high = to
                .as_ref()
                .map_or_else(|| successor(&prefix), |v| Some(bound(v)));
            Ok((Some(index.clone()), low, high))
        }
    }
}

fn leading(index: &str, values: &[IndexValue], fields_max: usize) -> Result<Vec<u8>> {
    if values.len() > fields_max {
        return Err(Error::invalid(format!(
            "{} leading values for index {index:?}, which takes {fields_max} here",
            values.len()
        )));
    }
    let mut bytes = Vec::new();
    values.iter().for_each(|value| encode(value, &mut bytes));
    Ok(bytes)
}

fn filter(filter: &Filter) -> Result<(Pointer, Json)> {
    Ok((Pointer::parse(&filter.pointer)?, filter.equals.clone()))
}

/// Collects rows in scan order until the page is full.
pub(crate) struct PageBuilder<'a> {
    plan: &'a Plan,
    records: Vec<Record>,
    last: Option<Place>,
    more: bool,
}

impl PageBuilder<'_> {
    /// Takes the next row. `false` when no further row is needed: the page is full and it is known
    /// that another one follows.
    pub(crate) fn offer(&mut self, record: Record, index_value: &[u8]) -> bool {
        if !self.plan.keeps(&record) {
            return true;
        }
        if self.records.len() == self.plan.limit {
            self.more = true;
            return false;
        }
        if self.records.len() + 1 == self.plan.limit {
            self.last = Some(Place {
                value: index_value.to_vec(),
                key: record.key.as_str().as_bytes().to_vec(),
            });
        }
        self.records.push(record);
        true
    }

    pub(crate) fn finish(self) -> Page {
        let next = self
            .last
            .filter(|_| self.more)
            .map(|place| self.plan.digest.token(&place));
        Page {
            records: self.records,
            next,
        }
    }
}
