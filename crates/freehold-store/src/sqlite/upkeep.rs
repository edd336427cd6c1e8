//! What else happens in the write transaction: definitions, leases, purging.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    apply::{insert_entry, remove_expired},
    writer::{Desk, Failure},
};
use crate::{
    CollectionName, CollectionSpec, Key, Lease, LeaseName, Result,
    batch::{lease_end, lease_lost, renewed},
    index::{self, Definition, Merge},
};

/// Records or changes that one purging transaction removes at most, so that others get their turn.
pub(super) const PURGE_CHUNK: u64 = 500;

pub(super) fn define(spec: &CollectionSpec, desk: &mut Desk<'_>) -> Result<(), Failure> {
    let stored = desk.definitions.collections.get(&spec.name).cloned();
    match stored
        .unwrap_or_default()
        .merge(spec)
        .map_err(Failure::Refused)?
    {
        Merge::Unchanged => Ok(()),
        Merge::Changed(definition, rebuild) => redefine(&spec.name, definition, &rebuild, desk),
    }
}

pub(super) fn drop_index(
    collection: &CollectionName,
    name: &str,
    desk: &mut Desk<'_>,
) -> Result<(), Failure> {
    let stored = desk.definitions.collections.get(collection);
    match stored.and_then(|definition| definition.without(name)) {
        None => Ok(()),
        Some(rest) => redefine(collection, rest, &[name.to_owned()], desk),
    }
}

fn redefine(
    collection: &CollectionName,
    definition: Definition,
    rebuild: &[String],
    desk: &mut Desk<'_>,
) -> Result<(), Failure> {
    while purge_expired(Some(collection), desk)? == PURGE_CHUNK {}
    for name in rebuild {
        desk.connection
            .prepare_cached("DELETE FROM entries WHERE collection = ? AND name = ?")?
            .execute(params![collection.as_str(), name])?;
    }
    build(collection, &definition, rebuild, desk)?;
    desk.connection
        .prepare_cached(
            "INSERT INTO collections (name, definition) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET definition = ?2",
        )?
        .execute(params![collection.as_str(), definition.to_json()?])?;
    desk.connection
        .prepare_cached("UPDATE meta SET value = value + 1 WHERE name = 'definitions'")?
        .execute([])?;
    let definitions = Arc::make_mut(desk.definitions);
    definitions.version += 1;
    definitions
        .collections
        .insert(collection.clone(), definition);
    Ok(())
}

/// Entries of all records in the named indexes.
fn build(
    collection: &CollectionName,
    definition: &Definition,
    names: &[String],
    desk: &Desk<'_>,
) -> Result<(), Failure> {
    let mut owners: BTreeMap<(String, Vec<u8>), Vec<u8>> = BTreeMap::new();
    let mut statement = desk
        .connection
        .prepare_cached("SELECT key, value FROM records WHERE collection = ? ORDER BY key")?;
    let mut rows = statement.query([collection.as_str()])?;
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let text = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
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
                    let error = index::unique_build_refused(collection, &entry.index, &other, key);
                    return Err(error.into());
                }
            }
            insert_entry(desk.connection, collection, key, &entry)?;
        }
    }
    Ok(())
}

pub(super) fn lease_acquire(
    name: &LeaseName,
    holder: &str,
    ttl: Duration,
    desk: &Desk<'_>,
) -> Result<Option<Lease>, Failure> {
    let until = lease_end(desk.now, holder, ttl).map_err(Failure::Refused)?;
    let old: Option<(String, u64, i64)> = desk
        .connection
        .prepare_cached("SELECT holder, epoch, until FROM leases WHERE name = ?")?
        .query_row([name.as_str().as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let epoch = match old {
        Some((other, _, until)) if until > desk.now.as_microsecond() && other != holder => {
            return Ok(None);
        }
        Some((_, epoch, _)) => epoch + 1,
        None => 1,
    };
    desk.connection
        .prepare_cached(
            "INSERT INTO leases (name, holder, epoch, until) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET holder = ?2, epoch = ?3, until = ?4",
        )?
        .execute(params![
            name.as_str().as_bytes(),
            holder,
            epoch,
            until.as_microsecond()
        ])?;
    Ok(Some(Lease {
        name: name.clone(),
        holder: holder.to_owned(),
        epoch,
        until,
        ttl,
    }))
}

pub(super) fn lease_renew(lease: &Lease, desk: &Desk<'_>) -> Result<Lease, Failure> {
    let renewed = renewed(lease, desk.now).map_err(Failure::Refused)?;
    let found = desk
        .connection
        .prepare_cached("UPDATE leases SET until = ? WHERE name = ? AND epoch = ? AND until > ?")?
        .execute(params![
            renewed.until.as_microsecond(),
            lease.name.as_str().as_bytes(),
            i64::try_from(lease.epoch).unwrap_or(-1),
            desk.now.as_microsecond()
        ])?;
    if found == 1 {
        Ok(renewed)
    } else {
        Err(Failure::Refused(lease_lost(&lease.name, lease.epoch)))
    }
}

/// The row stays as the memory of its epoch.
pub(super) fn lease_release(lease: &Lease, desk: &Desk<'_>) -> Result<(), Failure> {
    desk.connection
        .prepare_cached("UPDATE leases SET until = ? WHERE name = ? AND epoch = ?")?
        .execute(params![
            i64::MIN,
            lease.name.as_str().as_bytes(),
            i64::try_from(lease.epoch).unwrap_or(-1)
        ])?;
    Ok(())
}

/// Removes one chunk of expired records and says how many.
pub(super) fn purge_expired(
    collection: Option<&CollectionName>,
    desk: &Desk<'_>,
) -> Result<u64, Failure> {
    let expired: Vec<(String, Vec<u8>)> = desk
        .connection
        .prepare_cached(
            "SELECT collection, key FROM records
             WHERE expires <= ?1 AND (?2 IS NULL OR collection = ?2)
             ORDER BY expires, collection, key LIMIT ?3",
        )?
        .query_map(
            params![
                desk.now.as_microsecond(),
                collection.map(CollectionName::as_str),
                PURGE_CHUNK
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<rusqlite::Result<_>>()?;
    let count = expired.len() as u64;
    for (collection, key) in expired {
        let (collection, key) = (CollectionName::new(collection)?, Key::stored(&key)?);
        remove_expired(
            desk.connection,
            desk.definitions,
            &collection,
            &key,
            desk.now,
        )?;
    }
    Ok(count)
}

/// Removes one chunk of changes that are old enough, from the oldest on, and says how many. It stops
/// at the first one that is too young, so that what is kept has no hole even when the clock jumped.
pub(super) fn trim_feed(keep: Duration, desk: &Desk<'_>) -> Result<u64, Failure> {
    let oldest = desk
        .now
        .checked_sub(keep)
        .unwrap_or(Timestamp::MIN)
        .as_microsecond();
    let mut statement = desk
        .connection
        .prepare_cached("SELECT position, at FROM feed ORDER BY position LIMIT ?")?;
    let mut rows = statement.query([PURGE_CHUNK])?;
    let (mut count, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? > oldest {
            break;
        }
        last = Some(row.get::<_, i64>(0)?);
        count += 1;
    }
    drop(rows);
    if let Some(last) = last {
        desk.connection
            .prepare_cached("DELETE FROM feed WHERE position <= ?")?
            .execute([last])?;
        desk.connection
            .prepare_cached("UPDATE meta SET value = ? WHERE name = 'trimmed'")?
            .execute([last])?;
    }
    Ok(count)
}
