//! Reading: point reads, scans, the change feed.
//!
//! A reader in a write-ahead log sees what was committed when its statement began, waits for nobody
//! and stops nobody, so every acknowledged write is seen, also one of another process.

use jiff::Timestamp;
use rusqlite::{Connection, Row, ToSql, params};

use crate::{
    Change, ChangeKind, ChangePosition, Changes, CollectionName, Error, Etag, Key, Page, Record,
    Result, Value,
    batch::{ahead, compacted},
    paging::Plan,
    record::stored_time,
};

/// The database failed, or what it holds is not what we put there.
pub(super) enum Trouble {
    Database(rusqlite::Error),
    Content(Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Content(error)
    }
}

pub(super) fn get(
    connection: &Connection,
    collection: &CollectionName,
    key: &Key,
    now: Timestamp,
) -> Result<Option<Record>, Trouble> {
    let mut statement = connection.prepare_cached(
        "SELECT value, rev, nonce, created, updated, expires FROM records
         WHERE collection = ? AND key = ? AND (expires IS NULL OR expires > ?)",
    )?;
    let mut rows = statement.query(params![
        collection.as_str(),
        key.as_str().as_bytes(),
        now.as_microsecond()
    ])?;
    rows.next()?
        .map(|row| record(row, collection.clone(), key.clone()))
        .transpose()
}

/// From a row that begins with the columns of `get`.
fn record(row: &Row<'_>, collection: CollectionName, key: Key) -> Result<Record, Trouble> {
    let expires: Option<i64> = row.get(5)?;
    Ok(Record {
        value: Value::stored(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?),
        etag: Etag::new(row.get(1)?, row.get(2)?),
        created_at: stored_time(row.get(3)?)?,
        updated_at: stored_time(row.get(4)?)?,
        expires_at: expires.map(stored_time).transpose()?,
        collection,
        key,
    })
}

fn blob<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    Ok(row.get_ref(column)?.as_blob()?)
}

pub(super) fn scan(
    connection: &Connection,
    plan: &Plan<'_>,
    now: Timestamp,
) -> Result<Page, Trouble> {
    let (collection, now) = (plan.collection().as_str(), now.as_microsecond());
    let mut bound: Vec<&dyn ToSql> = vec![&collection, &now];
    let sql = statement(plan, &mut bound);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(bound.as_slice())?;
    let mut page = plan.page();
    while let Some(row) = rows.next()? {
        let key = Key::stored(blob(row, 6)?)?;
        let record = record(row, plan.collection().clone(), key)?;
        let place = match plan.index {
            Some(_) => blob(row, 7)?,
            None => &[],
        };
        if !page.offer(record, place)? {
            break;
        }
    }
    Ok(page.finish())
}

/// The statement of a scan, whose values beyond the collection and the time are added to `bound`. It
/// has one lower bound, because SQLite would walk from the first of two.
fn statement<'a>(plan: &'a Plan<'_>, bound: &mut Vec<&'a dyn ToSql>) -> String {
    const LIVE: &str = "(r.expires IS NULL OR r.expires > ?2)";
    let mut sql = String::with_capacity(512);
    sql += "SELECT r.value, r.rev, r.nonce, r.created, r.updated, r.expires, r.key";
    let mut next = |value: &'a dyn ToSql| {
        bound.push(value);
        bound.len()
    };
    // A place before the range comes from a forged token; the range counts.
    let after = plan.after.as_ref();
    let (column, order) = match &plan.index {
        None => {
            sql += " FROM records r WHERE r.collection = ?1";
            match after.filter(|after| after.key >= plan.from) {
                Some(after) => sql += &format!(" AND r.key > ?{}", next(&after.key)),
                None => sql += &format!(" AND r.key >= ?{}", next(&plan.from)),
            }
            ("r.key", "r.key")
        }
        Some(index) => {
            // CROSS JOIN keeps the index outside, whatever the planner thinks of the sizes.
            sql += &format!(
                ", e.value FROM entries e CROSS JOIN records r
                 ON r.collection = e.collection AND r.key = e.key
                 WHERE e.collection = ?1 AND e.name = ?{}",
                next(index)
            );
            match after.filter(|after| after.value >= plan.from) {
                Some(after) => {
                    let (value, key) = (next(&after.value), next(&after.key));
                    sql += &format!(" AND (e.value, e.key) > (?{value}, ?{key})");
                }
                None => sql += &format!(" AND e.value >= ?{}", next(&plan.from)),
            }
            ("e.value", "e.value, e.key")
        }
    };
    if let Some(to) = &plan.to {
        sql += &format!(" AND {column} < ?{}", next(to));
    }
    sql += &format!(" AND {LIVE} ORDER BY {order}");
    sql
}

pub(super) fn changes(
    connection: &Connection,
    after: Option<ChangePosition>,
    limit: usize,
) -> Result<Changes, Trouble> {
    // One snapshot for the bounds and the rows between them.
    let snapshot = connection.unchecked_transaction()?;
    let (trimmed, last): (u64, u64) = snapshot
        .prepare_cached(
            "SELECT (SELECT value FROM meta WHERE name = 'trimmed'),
                    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'feed'), 0)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let after = after.map_or(trimmed, |position| position.0);
    if after < trimmed {
        return Err(compacted(after, trimmed).into());
    }
    if after > last {
        return Err(ahead(after, last).into());
    }
    let mut statement = snapshot.prepare_cached(
        "SELECT position, collection, key, rev, nonce FROM feed
         WHERE position > ? ORDER BY position LIMIT ?",
    )?;
    let mut rows = statement.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        changes.push(change(row)?);
    }
    let next = changes
        .last()
        .map_or(ChangePosition(after), |c: &Change| c.position);
    Ok(Changes { changes, next })
}

fn change(row: &Row<'_>) -> Result<Change, Trouble> {
    let kind = match row.get::<_, Option<u64>>(3)? {
        None => ChangeKind::Delete,
        Some(rev) => ChangeKind::Put {
            etag: Etag::new(rev, row.get(4)?),
        },
    };
    Ok(Change {
        position: ChangePosition(row.get(0)?),
        collection: CollectionName::new(row.get::<_, String>(1)?)?,
        key: Key::stored(blob(row, 2)?)?,
        kind,
    })
}
