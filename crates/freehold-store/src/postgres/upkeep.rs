//! Making the schema, loading and changing definitions, purging.

use std::collections::BTreeMap;

use deadpool_postgres::{Client, Transaction};

use super::{apply::record_stripes, reading::Trouble};
use crate::{
    CollectionName, CollectionSpec, Error, ErrorKind, Key, Result,
    index::{self, Definition, Definitions, Entry, Merge},
};

/// Raised when an older program could no longer keep the promises on such a schema.
const FORMAT: i64 = 1;
/// Raised with every change of functions.sql, so that the functions are replaced once.
const CODE: i64 = 1;
/// Records that one purging or building step takes at most.
pub(super) const CHUNK: i32 = 500;

/// Makes what is missing. Several replicas may start at once.
pub(super) async fn prepare(client: &mut Client, schema: &str, space: i32) -> Result<(), Trouble> {
    let transaction = client.transaction().await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1, -3)", &[&space])
        .await?;
    let exists = |what: String| {
        let transaction = &transaction;
        async move {
            let row = transaction.query_one(&what, &[&schema]).await?;
            Ok::<bool, Trouble>(row.get(0))
        }
    };
    let named = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)".to_owned();
    if !exists(named).await? {
        transaction
            .batch_execute(&format!("CREATE SCHEMA {schema}"))
            .await?;
    }
    let relations = "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace =
        (SELECT oid FROM pg_namespace WHERE nspname = $1))";
    let meta = format!("{relations} AND to_regclass($1 || '.meta') IS NULL");
    if exists(meta).await? {
        return Err(Error::new(
            ErrorKind::Config,
            format!("schema {schema} holds tables that are not a store's; name another schema"),
        )
        .into());
    }
    if !exists(relations.to_owned()).await? {
        let tables = include_str!("schema.sql").replace("{s}", schema);
        transaction.batch_execute(&tables).await?;
    }
    let format = meta_value(&transaction, schema, "format").await?;
    if format != FORMAT {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "the store in schema {schema} has format {format}, and this program knows format \
                 {FORMAT}; use a newer program"
            ),
        )
        .into());
    }
    // A newer program's functions serve this one too.
    if meta_value(&transaction, schema, "code").await? < CODE {
        let functions = include_str!("functions.sql").replace("{s}", schema);
        transaction.batch_execute(&functions).await?;
        transaction
            .execute(
                &format!("UPDATE {schema}.meta SET value = $1 WHERE name = 'code'"),
                &[&CODE],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn meta_value(
    transaction: &Transaction<'_>,
    schema: &str,
    name: &str,
) -> Result<i64, Trouble> {
    let sql = format!("SELECT value FROM {schema}.meta WHERE name = $1");
    let row = transaction.query_opt(&sql, &[&name]).await?;
    match row {
        Some(row) => Ok(row.get(0)),
        None => Err(Error::corrupt(format!("{schema}.meta lacks {name:?}")).into()),
    }
}

/// Definitions and their version, from one snapshot.
pub(super) async fn load_definitions(
    client: &Client,
    schema: &str,
) -> Result<Definitions, Trouble> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT m.value, c.name, c.definition
             FROM {schema}.meta m LEFT JOIN {schema}.collections c ON true
             WHERE m.name = 'definitions'"
        ))
        .await?;
    let rows = client.query(&statement, &[]).await?;
    let first = rows
        .first()
        .ok_or_else(|| Error::corrupt(format!("{schema}.meta lacks \"definitions\"")))?;
    let mut definitions = Definitions {
        version: first.get::<_, i64>(0).cast_unsigned(),
        ..Definitions::default()
    };
    for row in &rows {
        if let Some(name) = row.get::<_, Option<&str>>(1) {
            let definition = Definition::from_json(name, row.get(2))?;
            definitions
                .collections
                .insert(CollectionName::new(name)?, definition);
        }
    }
    Ok(definitions)
}

/// What shall become of a definition.
pub(super) enum Wish<'a> {
    Define(&'a CollectionSpec),
    Drop(&'a CollectionName, &'a str),
}

impl Wish<'_> {
    fn collection(&self) -> &CollectionName {
        match self {
            Self::Define(spec) => &spec.name,
            Self::Drop(collection, _) => collection,
        }
    }

    /// The new definition and the indexes to build anew, or nothing to do.
    fn applied_to(&self, stored: Option<Definition>) -> Result<Option<(Definition, Vec<String>)>> {
        let stored = stored.unwrap_or_default();
        Ok(match self {
            Self::Define(spec) => match stored.merge(spec)? {
                Merge::Unchanged => None,
                Merge::Changed(definition, rebuild) => Some((definition, rebuild)),
            },
            Self::Drop(_, name) => stored
                .without(name)
                .map(|rest| (rest, vec![(*name).to_owned()])),
        })
    }

    pub(super) fn is_granted(&self, definitions: &Definitions) -> Result<bool> {
        let stored = definitions.collections.get(self.collection()).cloned();
        Ok(self.applied_to(stored)?.is_none())
    }
}

/// Changes a definition and its entries in one transaction, alone: every writer holds the lock shared
/// that is held exclusively here. Index values are made by the same code that makes them for writes,
/// so records travel here and entries travel back. Should this process stop in the middle, the
/// server ends the session after `idle_in_transaction_session_timeout`.
pub(super) async fn redefine(
    client: &mut Client,
    schema: &str,
    space: i32,
    wish: &Wish<'_>,
) -> Result<(), Trouble> {
    let collection = wish.collection();
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0")
        .await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1, -1)", &[&space])
        .await?;
    let sql = format!("SELECT definition FROM {schema}.collections WHERE name = $1");
    let stored = transaction.query_opt(&sql, &[&collection.as_str()]).await?;
    let stored = stored
        .map(|row| Definition::from_json(collection.as_str(), row.get(0)))
        .transpose()?;
    let Some((definition, rebuild)) = wish.applied_to(stored)? else {
        return Ok(());
    };
    remove_expired(&transaction, schema, collection).await?;
    let sql = format!("DELETE FROM {schema}.entries WHERE collection = $1 AND name = ANY($2)");
    transaction
        .execute(&sql, &[&collection.as_str(), &rebuild])
        .await?;
    build(&transaction, schema, collection, &definition, &rebuild).await?;
    let sql = format!(
        "INSERT INTO {schema}.collections (name, definition) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET definition = $2"
    );
    transaction
        .execute(&sql, &[&collection.as_str(), &definition.to_json()?])
        .await?;
    let sql = format!("UPDATE {schema}.meta SET value = value + 1 WHERE name = 'definitions'");
    transaction.execute(&sql, &[]).await?;
    transaction.commit().await?;
    Ok(())
}

async fn remove_expired(
    transaction: &Transaction<'_>,
    schema: &str,
    collection: &CollectionName,
) -> Result<(), Trouble> {
    let sql = format!(
        "WITH gone AS (
            DELETE FROM {schema}.records WHERE collection = $1 AND expires <= {schema}.now_v1()
            RETURNING collection, key, expires
         ), entries AS (
            DELETE FROM {schema}.entries e USING gone g
            WHERE e.collection = g.collection AND e.key = g.key
         )
         INSERT INTO {schema}.outbox (collection, key, at)
         SELECT collection, key, {schema}.now_v1() FROM gone ORDER BY expires, key"
    );
    transaction.execute(&sql, &[&collection.as_str()]).await?;
    Ok(())
}

async fn build(
    transaction: &Transaction<'_>,
    schema: &str,
    collection: &CollectionName,
    definition: &Definition,
    names: &[String],
) -> Result<(), Trouble> {
    let read = format!(
        "SELECT key, value FROM {schema}.records WHERE collection = $1 AND key > $2
         ORDER BY key LIMIT $3"
    );
    let read = transaction.prepare_cached(&read).await?;
    let mut owners: BTreeMap<(String, Vec<u8>), Vec<u8>> = BTreeMap::new();
    let mut last: Vec<u8> = Vec::new();
    loop {
        let rows = transaction
            .query(&read, &[&collection.as_str(), &last, &i64::from(CHUNK)])
            .await?;
        let mut made: Vec<(Entry, Vec<u8>)> = Vec::new();
        for row in &rows {
            let (key, text): (&[u8], &str) = (row.get(0), row.get(1));
            let wanted = |name: &str| names.iter().any(|one| one == name);
            let entries = match definition.entries_where(text, wanted) {
                Ok(entries) => entries,
                Err(error) => {
                    let key = Key::stored(key)?;
                    return Err(index::build_refused(collection, &key, error).into());
                }
            };
            for entry in entries {
                if entry.unique {
                    let place = (entry.index.clone(), entry.value.clone());
                    if let Some(other) = owners.insert(place, key.to_vec()) {
                        let error =
                            index::unique_build_refused(collection, &entry.index, &other, key);
                        return Err(error.into());
                    }
                }
                made.push((entry, key.to_vec()));
            }
            last = key.to_vec();
        }
        insert(transaction, schema, collection, &made).await?;
        if rows.len() < usize::try_from(CHUNK).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
}

async fn insert(
    transaction: &Transaction<'_>,
    schema: &str,
    collection: &CollectionName,
    made: &[(Entry, Vec<u8>)],
) -> Result<(), Trouble> {
    let names: Vec<&str> = made.iter().map(|(entry, _)| entry.index.as_str()).collect();
    let values: Vec<&[u8]> = made
        .iter()
        .map(|(entry, _)| entry.value.as_slice())
        .collect();
    let uniques: Vec<bool> = made.iter().map(|(entry, _)| entry.unique).collect();
    let keys: Vec<&[u8]> = made.iter().map(|(_, key)| key.as_slice()).collect();
    let sql = format!(
        "INSERT INTO {schema}.entries (collection, name, value, key, is_unique)
         SELECT $1, n.name, n.value, n.key, n.is_unique
         FROM unnest($2::text[], $3::bytea[], $4::bytea[], $5::boolean[])
            AS n (name, value, key, is_unique)"
    );
    transaction
        .execute(
            &sql,
            &[&collection.as_str(), &names, &values, &keys, &uniques],
        )
        .await?;
    Ok(())
}

/// Removes one chunk of expired records; says how many were found and how many removed.
pub(super) async fn purge_expired(
    client: &Client,
    schema: &str,
    space: i32,
) -> Result<(usize, u64), Trouble> {
    let find = client
        .prepare_cached(&format!(
            "SELECT collection, key FROM {schema}.records WHERE expires <= {schema}.now_v1()
             ORDER BY expires LIMIT $1"
        ))
        .await?;
    let rows = client.query(&find, &[&i64::from(CHUNK)]).await?;
    if rows.is_empty() {
        return Ok((0, 0));
    }
    let mut records: Vec<(String, Vec<u8>)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let stripes = record_stripes(&records);
    let found = records.len();
    let (collections, keys): (Vec<String>, Vec<Vec<u8>>) = records.drain(..).unzip();
    let purge = client
        .prepare_cached(&format!("SELECT {schema}.purge_v1($1, $2, $3, $4)"))
        .await?;
    let row = client
        .query_one(&purge, &[&space, &stripes, &collections, &keys])
        .await?;
    Ok((found, row.get::<_, i64>(0).cast_unsigned()))
}

/// Removes one chunk of old changes and says how many.
pub(super) async fn trim_feed(
    client: &Client,
    schema: &str,
    space: i32,
    keep: std::time::Duration,
) -> Result<i64, Trouble> {
    let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX / 2);
    let trim = client
        .prepare_cached(&format!("SELECT {schema}.trim_v1($1, $2, $3)"))
        .await?;
    Ok(client
        .query_one(&trim, &[&space, &keep, &CHUNK])
        .await?
        .get(0))
}
