//! Reading: point reads, scans, the change feed.
//!
//! A reader in a write-ahead log sees what was committed when its statement began, waits for nobody
//! and stops nobody, so every acknowledged write is seen, also one of another process.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::apply::stored_key;
use crate::{
    Change, ChangeKind, ChangePosition, Changes, CollectionName, Error, Etag, Key, Page, Record,
    Result, Value,
    batch::{ahead, compacted},
    paging::Plan,
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

const COLUMNS: &str = "key, r.value, rev, nonce, created, updated, expires";

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
    let parts = statement
        .query_row(
            params![
                collection.as_str(),
                key.as_str().as_bytes(),
                now.as_microsecond()
            ],
            |row| parts(row, 0),
        )
        .optional()?;
    Ok(match parts {
        Some(parts) => Some(parts.into_record(collection.clone(), key.clone())?),
        None => None,
    })
}

pub(super) fn scan(
    connection: &Connection,
    collection: &CollectionName,
    plan: &Plan,
    now: Timestamp,
) -> Result<Page, Trouble> {
    let now = now.as_microsecond();
    let collection_text = collection.as_str();
    let mut sql = match &plan.index {
        None => format!(
            "SELECT {COLUMNS}, x'' FROM records r
             WHERE r.collection = :collection AND r.key >= :from"
        ),
        // CROSS JOIN keeps the index outside, whatever the planner thinks of the sizes.
        Some(_) => format!(
            "SELECT {}, e.value FROM entries e CROSS JOIN records r
             ON r.collection = e.collection AND r.key = e.key
             WHERE e.collection = :collection AND e.name = :name AND e.value >= :from",
            COLUMNS.replacen("key", "r.key", 1)
        ),
    };
    let mut bound: Vec<(&str, &dyn ToSql)> = vec![
        (":collection", &collection_text),
        (":from", &plan.from),
        (":now", &now),
    ];
    let column = if plan.index.is_some() {
        "e.value"
    } else {
        "r.key"
    };
    if let Some(index) = &plan.index {
        bound.push((":name", index));
    }
    if let Some(to) = &plan.to {
        sql += &format!(" AND {column} < :to");
        bound.push((":to", to));
    }
    if let Some(after) = &plan.after {
        if plan.index.is_some() {
            sql += " AND (e.value, e.key) > (:after_value, :after_key)";
            bound.push((":after_value", &after.value));
        } else {
            sql += " AND r.key > :after_key";
        }
        bound.push((":after_key", &after.key));
    }
    sql += " AND (r.expires IS NULL OR r.expires > :now) ORDER BY ";
    sql += if plan.index.is_some() {
        "e.value, e.key"
    } else {
        "r.key"
    };

    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(bound.as_slice())?;
    let mut page = plan.page();
    while let Some(row) = rows.next()? {
        let key = stored_key(row.get(0)?)?;
        let record = parts(row, 1)?.into_record(collection.clone(), key)?;
        if !page.offer(
            record,
            row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?,
        ) {
            break;
        }
    }
    Ok(page.finish())
}

/// A record without its name, as it comes out of a row.
struct Parts {
    value: String,
    etag: Etag,
    created: i64,
    updated: i64,
    expires: Option<i64>,
}

fn parts(row: &Row<'_>, first: usize) -> rusqlite::Result<Parts> {
    Ok(Parts {
        value: row.get(first)?,
        etag: Etag::new(row.get(first + 1)?, row.get(first + 2)?),
        created: row.get(first + 3)?,
        updated: row.get(first + 4)?,
        expires: row.get(first + 5)?,
    })
}

impl Parts {
    fn into_record(self, collection: CollectionName, key: Key) -> Result<Record> {
        let time = |micros| {
            Timestamp::from_microsecond(micros).map_err(|source| {
                Error::corrupt(format!(
                    "a time stamp of {collection}/{key} is out of range"
                ))
                .because(source)
            })
        };
        let value = Value::from_text(self.value).map_err(|source| {
            Error::corrupt(format!(
                "the stored value of {collection}/{key} is not JSON"
            ))
            .because(source)
        })?;
        Ok(Record {
            value,
            etag: self.etag,
            created_at: time(self.created)?,
            updated_at: time(self.updated)?,
            expires_at: self.expires.map(time).transpose()?,
            collection,
            key,
        })
    }
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
        key: stored_key(row.get(2)?)?,
        kind,
    })
}
