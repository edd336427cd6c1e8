//! Reading: rows to records, scans, the change feed.

use deadpool_postgres::Client;
use jiff::Timestamp;
use tokio_postgres::{
    Error as PgError, Row,
    types::{ToSql, Type},
};

use super::apply::{etag, number, stored_key};
use crate::{
    Change, ChangeKind, ChangePosition, Changes, CollectionName, Error, Key, Page, Record, Result,
    Value,
    batch::{ahead, compacted},
    index::Definitions,
    paging::Plan,
    token::Place,
};

/// The server failed, or what it holds is not what we put there.
pub(super) enum Trouble {
    Server(PgError),
    Content(Error),
}

impl From<PgError> for Trouble {
    fn from(error: PgError) -> Self {
        Self::Server(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Content(error)
    }
}

const LIVE: &str = "(r.expires IS NULL OR r.expires > {s}.now_v1())";

pub(super) async fn get(
    client: &Client,
    schema: &str,
    collection: &CollectionName,
    key: &Key,
) -> Result<Option<Record>, Trouble> {
    let sql = format!(
        "SELECT r.value, r.rev, r.nonce, r.created, r.updated, r.expires FROM {{s}}.records r
         WHERE r.collection = $1 AND r.key = $2 AND {LIVE}"
    );
    let statement = client.prepare_cached(&sql.replace("{s}", schema)).await?;
    let row = client
        .query_opt(
            &statement,
            &[&collection.as_str(), &key.as_str().as_bytes()],
        )
        .await?;
    match row {
        None => Ok(None),
        Some(row) => Ok(Some(record(&row, 0, collection.clone(), key.clone())?)),
    }
}

fn record(row: &Row, first: usize, collection: CollectionName, key: Key) -> Result<Record> {
    let time = |micros| {
        Timestamp::from_microsecond(micros).map_err(|source| {
            Error::corrupt(format!(
                "a time stamp of {collection}/{key} is out of range"
            ))
            .because(source)
        })
    };
    let value = Value::from_text(row.get(first)).map_err(|source| {
        Error::corrupt(format!(
            "the stored value of {collection}/{key} is not JSON"
        ))
        .because(source)
    })?;
    Ok(Record {
        value,
        etag: etag(row.get(first + 1), row.get(first + 2))?,
        created_at: time(row.get(first + 3))?,
        updated_at: time(row.get(first + 4))?,
        expires_at: row.get::<_, Option<i64>>(first + 5).map(time).transpose()?,
        collection,
        key,
    })
}

/// One page; nothing when other definitions are in force than the plan was made by.
pub(super) async fn scan(
    client: &Client,
    schema: &str,
    collection: &CollectionName,
    plan: &Plan,
    definitions: &Definitions,
) -> Result<Option<Page>, Trouble> {
    let mut page = plan.page();
    let mut after = plan.after.clone();
    loop {
        let rows = rows(client, schema, collection, plan, after.as_ref()).await?;
        let wanted = plan.fetch();
        let mut got = 0;
        for row in rows {
            if plan.index.is_some() && row.get::<_, i64>(8) != number(definitions.version) {
                return Ok(None);
            }
            // The row of the definitions alone: the range is empty.
            let Some(key) = row.get::<_, Option<&[u8]>>(6) else {
                break;
            };
            got += 1;
            let value: &[u8] = row.get(7);
            after = Some(Place {
                value: value.to_vec(),
                key: key.to_vec(),
            });
            let record = record(&row, 0, collection.clone(), stored_key(key)?)?;
            if !page.offer(record, value) {
                return Ok(Some(page.finish()));
            }
        }
        if got < wanted {
            return Ok(Some(page.finish()));
        }
    }
}

async fn rows(
    client: &Client,
    schema: &str,
    collection: &CollectionName,
    plan: &Plan,
    after: Option<&Place>,
) -> Result<Vec<Row>, PgError> {
    let (name, limit) = (collection.as_str(), plan.fetch());
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&name, &plan.from, &limit];
    let mut types = vec![Type::TEXT, Type::BYTEA, Type::INT8];
    let column = if plan.index.is_some() {
        "e.value"
    } else {
        "r.key"
    };
    let mut bounds = format!("{column} >= $2");
    let mut bind = |value, kind| {
        values.push(value);
        types.push(kind);
        values.len()
    };
    if let Some(to) = &plan.to {
        bounds += &format!(" AND {column} < ${}", bind(to, Type::BYTEA));
    }
    if let Some(after) = after {
        let key = bind(&after.key, Type::BYTEA);
        bounds += &if plan.index.is_some() {
            let value = bind(&after.value, Type::BYTEA);
            format!(" AND (e.value, e.key) > (${value}, ${key})")
        } else {
            format!(" AND r.key > ${key}")
        };
    }
    let sql = match &plan.index {
        None => format!(
            "SELECT r.value, r.rev, r.nonce, r.created, r.updated, r.expires, r.key, ''::bytea
             FROM {{s}}.records r WHERE r.collection = $1 AND {bounds} AND {LIVE}
             ORDER BY r.key LIMIT $3"
        ),
        // The version of the definitions comes from the snapshot of the rows.
        Some(index) => {
            let index = bind(index, Type::TEXT);
            format!(
                "SELECT f.*, m.value FROM {{s}}.meta m LEFT JOIN LATERAL (
                    SELECT r.value AS text, r.rev, r.nonce, r.created, r.updated, r.expires, r.key,
                        e.value FROM {{s}}.entries e
                    JOIN {{s}}.records r ON r.collection = e.collection AND r.key = e.key
                    WHERE e.collection = $1 AND e.name = ${index} AND {bounds} AND {LIVE}
                    ORDER BY e.value, e.key LIMIT $3
                 ) f ON true WHERE m.name = 'definitions' ORDER BY f.value, f.key"
            )
        }
    };
    let statement = client
        .prepare_typed_cached(&sql.replace("{s}", schema), &types)
        .await?;
    client.query(&statement, &values).await
}

pub(super) async fn changes(
    client: &Client,
    schema: &str,
    space: i32,
    after: Option<ChangePosition>,
    limit: usize,
) -> Result<Changes, Trouble> {
    let sequence = client
        .prepare_cached(&format!("SELECT {schema}.sequence_v1($1)"))
        .await?;
    let read = client
        .prepare_cached(&format!(
            "SELECT b.trimmed, b.last, f.position, f.collection, f.key, f.rev, f.nonce
             FROM {schema}.feed_bounds b LEFT JOIN LATERAL (
                SELECT * FROM {schema}.feed
                WHERE position > coalesce($1, b.trimmed) ORDER BY position LIMIT $2
             ) f ON true ORDER BY f.position"
        ))
        .await?;
    let from = after.map(|position| i64::try_from(position.0).unwrap_or(i64::MAX));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Both go out at once. They are two transactions, one after the other: a position is read only
    // after it has been committed.
    let from_limit: [&(dyn ToSql + Sync); 2] = [&from, &limit];
    let (sequenced, rows) = futures::future::join(
        client.execute(&sequence, &[&space]),
        client.query(&read, &from_limit),
    )
    .await;
    sequenced?;
    let rows = rows?;
    let bounds = rows.first().ok_or_else(|| {
        Error::corrupt("the change feed's bounds are missing; restore the store from a backup")
    })?;
    let (trimmed, last) = (
        bounds.get::<_, i64>(0).cast_unsigned(),
        bounds.get::<_, i64>(1).cast_unsigned(),
    );
    let after = after.map_or(trimmed, |position| position.0);
    if after < trimmed {
        return Err(compacted(after, trimmed).into());
    }
    if after > last {
        return Err(ahead(after, last).into());
    }
    let changes = rows.iter().filter_map(change).collect::<Result<Vec<_>>>()?;
    let next = changes.last().map_or(ChangePosition(after), |c| c.position);
    Ok(Changes { changes, next })
}

fn change(row: &Row) -> Option<Result<Change>> {
    let position: i64 = row.get::<_, Option<_>>(2)?;
    let read = || {
        let kind = match row.get::<_, Option<i64>>(5) {
            None => ChangeKind::Delete,
            Some(rev) => ChangeKind::Put {
                etag: etag(rev, row.get(6))?,
            },
        };
        Ok(Change {
            position: ChangePosition(position.cast_unsigned()),
            collection: CollectionName::new(row.get::<_, String>(3))?,
            key: stored_key(row.get(4))?,
            kind,
        })
    };
    Some(read())
}
