//! From a [`Scan`] to bounds over bytes, and from rows back to a [`Page`].
//!
//! The part of scanning that is the same for every adapter: which bytes the range spans, what the
//! filter keeps, when a page is full, where the next one begins.

use serde_json::Value as Json;

use crate::{
    CollectionName, Error, Filter, IndexValue, Page, Range, Record, Result, Scan,
    index::{Definitions, encode, successor},
    pointer::{Document, Pointer},
    token::{Place, ScanDigest},
};

const LIMIT_MAX: usize = 1_000;
/// Records that a page has room for from the start.
const CAPACITY_FIRST: usize = 128;

/// A scan as an adapter runs it: half-open bounds over keys, or over values of an index.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    scan: &'a Scan,
    /// `None`: by key.
    pub(crate) index: Option<String>,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Option<Vec<u8>>,
    /// Read strictly after this place.
    pub(crate) after: Option<Place>,
    index_version: Option<u32>,
    filter: Option<Pointer>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(scan: &'a Scan, definitions: &Definitions) -> Result<Self> {
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
        let pointer = |filter: &Filter| Pointer::parse(&filter.pointer);
        let mut plan = Self {
            scan,
            index,
            from,
            to,
            after: None,
            index_version,
            filter: scan.filter.as_ref().map(pointer).transpose()?,
        };
        if let Some(token) = &scan.after {
            plan.after = Some(plan.digest().place(token)?);
        }
        Ok(plan)
    }

    pub(crate) fn collection(&self) -> &CollectionName {
        &self.scan.collection
    }

    /// What a token of this scan carries. It is made when there is a token, not for every page.
    fn digest(&self) -> ScanDigest {
        let Scan {
            collection,
            range,
            filter,
            ..
        } = self.scan;
        let identity = format!("{:?}", (collection, range, filter, self.index_version));
        ScanDigest::of(&identity)
    }

    /// How many rows to fetch at once: one more than the page when nothing is filtered out.
    #[cfg(feature = "postgres")]
    pub(crate) fn fetch(&self) -> i64 {
        let rows = if self.filter.is_some() {
            LIMIT_MAX
        } else {
            self.scan.limit + 1
        };
        i64::try_from(rows).unwrap_or(i64::MAX)
    }

    pub(crate) fn page(&self) -> PageBuilder<'_> {
        PageBuilder {
            plan: self,
            // Most pages are full or small.
            records: Vec::with_capacity(self.scan.limit.min(CAPACITY_FIRST)),
            last: None,
            more: false,
        }
    }

    /// Fails when the filter meets a value that cannot be read.
    fn keeps(&self, record: &Record) -> Result<bool> {
        let (Some(pointer), Some(filter)) = (&self.filter, &self.scan.filter) else {
            return Ok(true);
        };
        let unreadable = |source: Error| {
            let name = format!("{}/{}", record.collection, record.key);
            Error::corrupt(format!("the stored value of {name} is not JSON")).because(source)
        };
        let document = Document::parse(record.value.text()).map_err(unreadable)?;
        let found = document.find(pointer).map_err(unreadable)?;
        Ok(found
            .and_then(|found| serde_json::from_str::<Json>(found).ok())
            .is_some_and(|found| found == filter.equals))
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

/// Collects rows in scan order until the page is full.
pub(crate) struct PageBuilder<'a> {
    plan: &'a Plan<'a>,
    records: Vec<Record>,
    last: Option<Place>,
    more: bool,
}

impl PageBuilder<'_> {
    /// Takes the next row. `false` when no further row is needed: the page is full and it is known
    /// that another one follows.
    pub(crate) fn offer(&mut self, record: Record, index_value: &[u8]) -> Result<bool> {
        if !self.plan.keeps(&record)? {
            return Ok(true);
        }
        if self.records.len() == self.plan.scan.limit {
            self.more = true;
            return Ok(false);
        }
        if self.records.len() + 1 == self.plan.scan.limit {
            self.last = Some(Place {
                value: index_value.to_vec(),
                key: record.key.as_str().as_bytes().to_vec(),
            });
        }
        self.records.push(record);
        Ok(true)
    }

    pub(crate) fn finish(self) -> Page {
        let next = self
            .last
            .filter(|_| self.more)
            .map(|place| self.plan.digest().token(&place));
        Page {
            records: self.records,
            next,
        }
    }
}
