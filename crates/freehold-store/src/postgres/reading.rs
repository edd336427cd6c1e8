//! Reading: rows to records, scans, the change feed.

use deadpool_postgres::Client;
use tokio_postgres::{
    Error as PgError, Row,
    types::{ToSql, Type},
};

use super::apply::{etag, number};
use crate::{
    Change, ChangeKind, ChangePosition, Changes, CollectionName, Error, Key, Page, Record, Result,
    Value,
    batch::{ahead, compacted},
    index::Definitions,
    paging::Plan,
    record::stored_time,
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
    row.map(|row| Ok(record(&row, collection.clone(), key.clone())?))
        .transpose()
}

/// From a row that begins with the columns of `get`.
fn record(row: &Row, collection: CollectionName, key: Key) -> Result<Record> {
    let expires: Option<i64> = row.get(5);
    Ok(Record {
        value: Value::stored(row.get(0)),
        etag: etag(row.get(1), row.get(2))?,
        created_at: stored_time(row.get(3))?,
        updated_at: stored_time(row.get(4))?,
        expires_at: expires.map(stored_time).transpose()?,
        collection,
        key,
    })
}

/// One page; nothing when other definitions are in force than the plan was made by.
pub(super) async fn scan(
    client: &Client,
    schema: &str,
    plan: &Plan<'_>,
    definitions: &Definitions,
) -> Result<Option<Page>, Trouble> {
    let mut page = plan.page();
    let mut after = plan.after.clone();
    let wanted = usize::try_from(plan.fetch()).unwrap_or(usize::MAX);
    loop {
        let rows = rows(client, schema, plan, after.as_ref()).await?;
        // One row of the definitions alone says that the range is empty.
        let found = || {
            rows.iter()
                .map_while(|row| Some((row, row.get::<_, Option<&[u8]>>(6)?)))
        };
        if plan.index.is_some()
            && rows
                .first()
                .is_some_and(|row| row.get::<_, i64>(8) != number(definitions.version))
        {
            return Ok(None);
        }
        for (row, key) in found() {
            let record = record(row, plan.collection().clone(), Key::stored(key)?)?;
            if !page.offer(record, row.get(7))? {
                return Ok(Some(page.finish()));
            }
        }
        if rows.len() < wanted {
            return Ok(Some(page.finish()));
        }
        // The filter left room.
        after = found().last().map(|(row, key)| Place {
            value: row.get::<_, &[u8]>(7).to_vec(),
            key: key.to_vec(),
        });
    }
}

async fn rows(
    client: &Client,
    schema: &str,
    plan: &Plan<'_>,
    after: Option<&Place>,
) -> Result<Vec<Row>, PgError> {
    let (name, limit) = (plan.collection().as_str(), plan.fetch());
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
            key: Key::stored(row.get(4))?,
            kind,
        })
    };
    Some(read())
}
