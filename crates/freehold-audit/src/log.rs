//! Reading the log: listing and single entries. Proofs and the export are beside it.
//!
//! Listing answers page by page from the index that fits the query best and applies the rest of the
//! query to what the index gives. The work for one page is bounded, so a page may come back short,
//! even empty, and still name a next one.

use freehold_model::{Name, ResourceKey};
use freehold_store::{Error, IndexValue, Range, Result, Scan, StoreHandle};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Checkpoint, Entry, Hash, collections,
    record::{Head, LogRecord, negated_micros, position, target_text},
};

/// Records that one page looks at, at most.
const EXAMINED_MAX: usize = 5_000;
/// Entries are in the order in which they were committed. Servers' clocks are trusted to be this
/// close to each other when a listing by time decides that nothing older can follow.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// Reads one log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    pub(crate) store: StoreHandle,
}

/// Which entries to list. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub team: Option<Name>,
    pub target: Option<ResourceKey>,
    /// Entries that happened at this time or later.
    pub since: Option<Timestamp>,
    /// Entries that happened before this time.
    pub until: Option<Timestamp>,
    pub order: Order,
    /// Entries per page, 1 to 1,000; 100 when 0.
    pub limit: usize,
    /// Where the page before ended; the rest of the query must be the same.
    pub after: Option<Cursor>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// Where a page ended. Opaque; valid while entries are added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub entries: Vec<LoggedEntry>,
    /// Absent on the last page. A page may hold fewer entries than asked for and still have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// One entry with its place in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedEntry {
    /// From 0 without gaps, in the order in which the entries were committed.
    pub index: u64,
    pub leaf: Hash,
    /// The hashed text, byte for byte. Read it as [`crate::Entry`] with [`LoggedEntry::entry`].
    pub entry: Box<RawValue>,
}

impl LoggedEntry {
    pub fn entry(&self) -> serde_json::Result<Entry> {
        serde_json::from_str(self.entry.get())
    }
}

impl Log {
    pub fn new(store: StoreHandle) -> Self {
        Self { store }
    }

    /// The newest signed checkpoint; none while the log is empty.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(self.head().await?.map(|head| head.checkpoint))
    }

    pub(crate) async fn head(&self) -> Result<Option<Head>> {
        let record = self
            .store
            .get(&collections::head(), &collections::head_key())
            .await?;
        record.map(|record| record.value.decode()).transpose()
    }

    pub async fn get(&self, index: u64) -> Result<Option<LoggedEntry>> {
        Ok(self.record(index).await?.map(LogRecord::into_logged))
    }

    pub(crate) async fn record(&self, index: u64) -> Result<Option<LogRecord>> {
        let key = collections::numbered(index);
        let record = self.store.get(&collections::log(), &key).await?;
        record.map(|record| record.value.decode()).transpose()
    }

    /// The records of `first..end`, 1,000 at most, by index.
    pub(crate) async fn records(&self, first: u64, end: u64) -> Result<Vec<LogRecord>> {
        let mut scan = Scan::new(
            collections::log(),
            Range::IndexRange {
                index: "by_index".to_owned(),
                values: Vec::new(),
                from: Some(IndexValue::Integer(position(first))),
                to: Some(IndexValue::Integer(position(end))),
            },
        );
        scan.limit = usize::try_from(end.saturating_sub(first))
            .unwrap_or(usize::MAX)
            .clamp(1, 1_000);
        let records = self.store.scan(scan).await?.records;
        records.iter().map(|record| record.value.decode()).collect()
    }

    /// One page of entries.
    pub async fn list(&self, query: Query) -> Result<Page> {
        let limit = match query.limit {
            0 => 100,
            limit => limit.min(1_000),
        };
        let mut at = match &query.after {
            None => At::Start,
            Some(cursor) => At::parse(cursor)?,
        };
        let mut entries = Vec::new();
        let mut examined = 0;
        while entries.len() < limit && examined < EXAMINED_MAX {
            let wanted = if query.filters_after_index() {
                500
            } else {
                limit - entries.len()
            };
            let records = self.candidates(&query, at, wanted).await?;
            let at_end = records.len() < wanted;
            for record in records {
                if query.is_past_end(&record) {
                    return Ok(Page {
                        entries,
                        next: None,
                    });
                }
                examined += 1;
                at = At::after(&record);
                if query.matches(&record) {
                    entries.push(record.into_logged());
                    if entries.len() == limit {
                        let next = Some(at.cursor());
                        return Ok(Page { entries, next });
                    }
                }
            }
            if at_end {
                return Ok(Page {
                    entries,
                    next: None,
                });
            }
        }
        let next = Some(at.cursor());
        Ok(Page { entries, next })
    }

    /// The next records after `at` in the index that fits the query; fewer than `wanted` only at the
    /// end.
    async fn candidates(&self, query: &Query, at: At, wanted: usize) -> Result<Vec<LogRecord>> {
        let (index, values) = match query.plan() {
            Plan::Forward => {
                let first = at.index().map_or(0, |index| index + 1);
                return self.records(first, first + wanted as u64).await;
            }
            Plan::Backward => {
                let end = match at.index() {
                    Some(index) => index,
                    None => self.head().await?.map_or(0, |head| head.edge.size()),
                };
                let first = end.saturating_sub(wanted as u64);
                let mut records = self.records(first, end).await?;
                records.reverse();
                return Ok(records);
            }
            Plan::ByTime => return self.candidates_by_time(query, at, wanted).await,
            Plan::Index(index, value) => (index, vec![IndexValue::Text(value)]),
        };
        let from = at
            .index()
            .map(|index| IndexValue::Integer(1 - position(index)));
        let range = Range::IndexRange {
            index: index.to_owned(),
            values,
            from,
            to: None,
        };
        let mut scan = Scan::new(collections::log(), range);
        scan.limit = wanted.clamp(1, 1_000);
        let records = self.store.scan(scan).await?.records;
        records.iter().map(|record| record.value.decode()).collect()
    }

    async fn candidates_by_time(
        &self,
        query: &Query,
        at: At,
        wanted: usize,
    ) -> Result<Vec<LogRecord>> {
        let start = query.until.map(|until| negated_micros(until) + 1);
        let (from, done) = match at {
            At::Start => (start, None),
            At::After { index, time } => (time.or(start), time.map(|time| (time, index))),
        };
        let range = Range::IndexRange {
            index: "by_time".to_owned(),
            values: Vec::new(),
            from: from.map(IndexValue::Integer),
            to: query
                .since
                .map(|since| IndexValue::Integer(negated_micros(since) + 1)),
        };
        let mut scan = Scan::new(collections::log(), range);
        scan.limit = wanted.clamp(1, 1_000);
        let mut found = Vec::new();
        // Entries of the very microsecond at which the page before ended come first again.
        while found.len() < wanted {
            let page = self.store.scan(scan.clone()).await?;
            for record in &page.records {
                let record: LogRecord = record.value.decode()?;
                let seen = done.is_some_and(|(time, index)| {
                    record.time == Some(time) && record.index >= index
                });
                if !seen {
                    found.push(record);
                }
            }
            if page.next.is_none() {
                break;
            }
            scan.after = page.next;
        }
        found.truncate(wanted);
        Ok(found)
    }
}

/// How a listing is read.
enum Plan {
    Forward,
    Backward,
    ByTime,
    Index(&'static str, String),
}

impl Query {
    fn plan(&self) -> Plan {
        if self.order == Order::OldestFirst {
            Plan::Forward
        } else if let Some(target) = &self.target {
            Plan::Index("by_target", target_text(target))
        } else if let Some(actor) = &self.actor {
            Plan::Index("by_actor", actor.clone())
        } else if let Some(team) = &self.team {
            Plan::Index("by_team", team.to_string())
        } else if let Some(action) = self.exact_action() {
            Plan::Index("by_action", action.to_owned())
        } else if self.action.is_none() && (self.since.is_some() || self.until.is_some()) {
            Plan::ByTime
        } else {
            Plan::Backward
        }
    }

    /// Whether the index gives records that do not match.
    fn filters_after_index(&self) -> bool {
        let equalities = [
            self.actor.is_some(),
            self.action.is_some(),
            self.team.is_some(),
            self.target.is_some(),
        ];
        let equalities = equalities.into_iter().filter(|given| *given).count();
        let times = self.since.is_some() || self.until.is_some();
        match self.plan() {
            Plan::Forward => equalities > 0 || times,
            Plan::Index(..) => equalities > 1 || times,
            // What is left of the equalities here is a prefix of actions.
            Plan::Backward => self.action.is_some(),
            Plan::ByTime => false,
        }
    }

    /// The action, unless it is a prefix such as `database.`.
    fn exact_action(&self) -> Option<&str> {
        self.action
            .as_deref()
            .filter(|action| !action.ends_with('.'))
    }

    fn matches_action(&self, found: &str) -> bool {
        match (&self.action, self.exact_action()) {
            (_, Some(exact)) => found == exact,
            (Some(prefix), None) => found.starts_with(prefix.as_str()),
            (None, None) => true,
        }
    }

    fn matches(&self, record: &LogRecord) -> bool {
        let at = record.time;
        let in_time = self
            .since
            .is_none_or(|since| at.is_some_and(|at| at <= negated_micros(since)))
            && self
                .until
                .is_none_or(|until| at.is_some_and(|at| at > negated_micros(until)));
        let target = self.target.as_ref().map(target_text);
        if !in_time || target.is_some_and(|target| record.target != Some(target)) {
            return false;
        }
        if self.actor.is_none() && self.action.is_none() && self.team.is_none() {
            return true;
        }
        let Ok(entry) = serde_json::from_str::<Entry>(record.entry.get()) else {
            return false;
        };
        self.actor
            .as_ref()
            .is_none_or(|actor| entry.actor.subject == *actor)
            && self.matches_action(&entry.action)
            && self
                .team
                .as_ref()
                .is_none_or(|team| entry.team.as_ref() == Some(team))
    }

    /// Whether neither this record nor any after it can match, by its time.
    fn is_past_end(&self, record: &LogRecord) -> bool {
        let Some(time) = record.time else {
            return false;
        };
        let bound = match self.order {
            Order::NewestFirst => self.since,
            Order::OldestFirst => self.until,
        };
        let Some(bound) = bound else { return false };
        let tolerance = i64::try_from(CLOCK_TOLERANCE.as_micros()).unwrap_or(i64::MAX);
        match self.order {
            Order::NewestFirst => time > negated_micros(bound).saturating_add(tolerance),
            Order::OldestFirst => time < negated_micros(bound).saturating_sub(tolerance),
        }
    }
}

/// The record at which the page before ended.
#[derive(Clone, Copy)]
enum At {
    Start,
    After { index: u64, time: Option<i64> },
}

impl At {
    fn after(record: &LogRecord) -> Self {
        let (index, time) = (record.index, record.time);
        Self::After { index, time }
    }

    fn index(self) -> Option<u64> {
        match self {
            Self::Start => None,
            Self::After { index, .. } => Some(index),
        }
    }

    fn cursor(self) -> Cursor {
        Cursor(match self {
            Self::Start => "start".to_owned(),
            Self::After { index, time: None } => index.to_string(),
            Self::After {
                index,
                time: Some(time),
            } => format!("{index}.{time}"),
        })
    }

    fn parse(cursor: &Cursor) -> Result<Self> {
        let parse = || {
            if cursor.0 == "start" {
                return Some(Self::Start);
            }
            let (index, time) = match cursor.0.split_once('.') {
                None => (cursor.0.as_str(), None),
                Some((index, time)) => (index, Some(time.parse().ok()?)),
            };
            let index = index.parse().ok()?;
            (index <= i64::MAX as u64).then_some(Self::After { index, time })
        };
        parse().ok_or_else(|| Error::invalid("this is not a cursor of an audit listing"))
    }
}
