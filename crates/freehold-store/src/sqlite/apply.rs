//! A batch inside the write transaction: everything is checked, then everything is written.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::writer::{Desk, Failure};
use crate::{
    ApplyOutcome, CollectionName, Error, ErrorKind, Etag, Key, Precondition, Result, Write,
    batch::{self, Prepared},
    index::{Definitions, Entry},
};

/// A stored record as far as a write needs it.
struct Found {
    id: i64,
    etag: Etag,
    created: i64,
    live: bool,
    /// How it stands in the indexes now.
    entries: Vec<Entry>,
}

/// An expired record whose unique value is wanted.
struct Expired {
    collection: CollectionName,
    key: Key,
}

pub(super) fn apply(prepared: &mut Prepared, desk: &Desk<'_>) -> Result<ApplyOutcome, Failure> {
    if prepared.definitions != desk.definitions.version {
        prepared
            .extract(desk.definitions)
            .map_err(Failure::Refused)?;
    }
    check_preconditions(prepared, desk)?;
    let found = check_modes(prepared, desk)?;
    let evictions = check_unique(prepared, &found, desk)?;
    write(prepared, found, evictions, desk)
}

fn check_preconditions(prepared: &Prepared, desk: &Desk<'_>) -> Result<(), Failure> {
    for (at, precondition) in prepared.batch.preconditions.iter().enumerate() {
        let refused = |error: Error| Failure::Refused(error.at(at));
        match precondition {
            Precondition::LeaseHeld { name, epoch } => {
                let held = desk
                    .connection
                    .prepare_cached(
                        "SELECT 1 FROM leases WHERE name = ? AND epoch = ? AND until > ?",
                    )?
                    .exists(params![
                        name.as_str().as_bytes(),
                        i64::try_from(*epoch).unwrap_or(-1),
                        desk.now.as_microsecond()
                    ])?;
                if !held {
                    return Err(refused(batch::lease_lost(name, *epoch)));
                }
            }
            Precondition::Unchanged {
                collection, key, ..
            }
            | Precondition::Absent { collection, key } => {
                let etag = live_etag(desk, collection, key)?;
                batch::holds(precondition, etag.as_ref()).map_err(refused)?;
            }
        }
    }
    Ok(())
}

fn live_etag(
    desk: &Desk<'_>,
    collection: &CollectionName,
    key: &Key,
) -> rusqlite::Result<Option<Etag>> {
    desk.connection
        .prepare_cached(
            "SELECT rev, nonce FROM records
             WHERE collection = ? AND key = ? AND (expires IS NULL OR expires > ?)",
        )?
        .query_row(
            params![
                collection.as_str(),
                key.as_str().as_bytes(),
                desk.now.as_microsecond()
            ],
            |row| Ok(Etag::new(row.get(0)?, row.get(1)?)),
        )
        .optional()
}

fn check_modes(prepared: &Prepared, desk: &Desk<'_>) -> Result<Vec<Option<Found>>, Failure> {
    let first = prepared.batch.preconditions.len();
    let mut all = Vec::with_capacity(prepared.batch.writes.len());
    for (at, write) in prepared.batch.writes.iter().enumerate() {
        let found = find(desk, write)?;
        let live = found.as_ref().filter(|found| found.live);
        write
            .permitted(live.map(|found| &found.etag))
            .map_err(|error| Failure::Refused(error.at(first + at)))?;
        all.push(found);
    }
    Ok(all)
}

fn find(desk: &Desk<'_>, write: &Write) -> Result<Option<Found>, Failure> {
    let (collection, key) = write.target();
    let definition = desk.definitions.of(collection);
    // The old value is needed only to know the old entries.
    let sql = if definition.is_some() {
        "SELECT id, rev, nonce, created, expires, value FROM records
         WHERE collection = ? AND key = ?"
    } else {
        "SELECT id, rev, nonce, created, expires FROM records WHERE collection = ? AND key = ?"
    };
    let mut statement = desk.connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![collection.as_str(), key.as_str().as_bytes()])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let entries = match definition {
        None => Vec::new(),
        Some(definition) => {
            let text = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
            definition
                .entries(text)
                .map_err(|e| Failure::Refused(unreadable(collection, key, e)))?
        }
    };
    let expires: Option<i64> = row.get(4)?;
    Ok(Some(Found {
        id: row.get(0)?,
        etag: Etag::new(row.get(1)?, row.get(2)?),
        created: row.get(3)?,
        live: expires.is_none_or(|end| end > desk.now.as_microsecond()),
        entries,
    }))
}

fn unreadable(collection: &CollectionName, key: &Key, source: Error) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the stored value of {collection}/{key} cannot be read"),
    )
    .because(source)
}

/// Unique indexes as they will be after the batch: what it rewrites no longer counts, and an
/// expired owner is evicted. Returns the evictions per write.
fn check_unique(
    prepared: &Prepared,
    found: &[Option<Found>],
    desk: &Desk<'_>,
) -> Result<HashMap<usize, Vec<Expired>>, Failure> {
    let mut evictions: HashMap<usize, Vec<Expired>> = HashMap::new();
    if !prepared.entries.iter().flatten().any(|entry| entry.unique) {
        return Ok(evictions);
    }
    let writes = &prepared.batch.writes;
    let rewritten: HashSet<_> = writes
        .iter()
        .map(Write::target)
        .map(|(c, k)| (c, k.as_str().as_bytes()))
        .collect();
    let mut taken = HashMap::new();
    for (at, write) in writes.iter().enumerate() {
        let (collection, key) = write.target();
        for entry in prepared.entries[at].iter().filter(|entry| entry.unique) {
            let refused = |owner: &[u8]| {
                let owner = String::from_utf8_lossy(owner);
                let error = batch::unique_taken(collection, &entry.index, &owner);
                Failure::Refused(error.at(prepared.batch.preconditions.len() + at))
            };
            let place = (collection, &entry.index, &entry.value);
            if let Some(owner) = taken.insert(place, key.as_str().as_bytes()) {
                return Err(refused(owner));
            }
            // What it had already, nobody else has. An expired row is no owner: it may have
            // been outlived by another.
            let kept = found[at]
                .as_ref()
                .is_some_and(|f| f.live && f.entries.contains(entry));
            if kept {
                continue;
            }
            for (owner, live) in owners(desk, collection, entry)? {
                if rewritten.contains(&(collection, owner.as_slice())) {
                    continue;
                }
                if live {
                    return Err(refused(&owner));
                }
                let key = Key::stored(&owner).map_err(Failure::Refused)?;
                let collection = collection.clone();
                evictions
                    .entry(at)
                    .or_default()
                    .push(Expired { collection, key });
            }
        }
    }
    Ok(evictions)
}

fn owners(
    desk: &Desk<'_>,
    collection: &CollectionName,
    entry: &Entry,
) -> rusqlite::Result<Vec<(Vec<u8>, bool)>> {
    desk.connection
        .prepare_cached(
            "SELECT entries.key, records.expires IS NULL OR records.expires > ?
             FROM entries JOIN records USING (collection, key)
             WHERE collection = ? AND entries.name = ? AND entries.value = ?",
        )?
        .query_map(
            params![
                desk.now.as_microsecond(),
                collection.as_str(),
                entry.index,
                entry.value
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect()
}

fn write(
    prepared: &Prepared,
    found: Vec<Option<Found>>,
    mut evictions: HashMap<usize, Vec<Expired>>,
    desk: &Desk<'_>,
) -> Result<ApplyOutcome, Failure> {
    let mut etags = Vec::with_capacity(found.len());
    for (at, (write, found)) in prepared.batch.writes.iter().zip(found).enumerate() {
        for expired in evictions.remove(&at).unwrap_or_default() {
            remove_expired(
                desk.connection,
                desk.definitions,
                &expired.collection,
                &expired.key,
                desk.now,
            )?;
        }
        etags.push(match write {
            Write::Delete {
                collection, key, ..
            } => {
                // An expired record goes too: nothing may lie in wait behind a deletion.
                if let Some(found) = found {
                    delete(desk.connection, collection, key, found.id, &found.entries)?;
                    announce(desk.connection, collection, key, None, desk.now)?;
                }
                None
            }
            Write::Put { .. } => Some(put(prepared, at, found.as_ref(), desk)?),
        });
    }
    Ok(ApplyOutcome { etags })
}

fn put(
    prepared: &Prepared,
    at: usize,
    found: Option<&Found>,
    desk: &Desk<'_>,
) -> Result<Etag, Failure> {
    let Write::Put {
        collection,
        key,
        value,
        expires_at,
        ..
    } = &prepared.batch.writes[at]
    else {
        unreachable!("called for puts");
    };
    let now = desk.now.as_microsecond();
    let expires = expires_at.map(Timestamp::as_microsecond);
    let live = found.filter(|found| found.live);
    let etag = Etag::new(
        live.map_or(0, |found| found.etag.rev()) + 1,
        prepared.nonces[at],
    );
    let created = live.map_or(now, |found| found.created);
    match found {
        Some(found) => desk
            .connection
            .prepare_cached(
                "UPDATE records SET value = ?, rev = ?, nonce = ?, created = ?, updated = ?,
                 expires = ? WHERE id = ?",
            )?
            .execute(params![
                value.text(),
                etag.rev(),
                etag.nonce(),
                created,
                now,
                expires,
                found.id
            ])?,
        None => desk
            .connection
            .prepare_cached(
                "INSERT INTO records
                 (collection, key, value, rev, nonce, created, updated, expires)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                collection.as_str(),
                key.as_str().as_bytes(),
                value.text(),
                etag.rev(),
                etag.nonce(),
                created,
                now,
                expires
            ])?,
    };
    let (old, new) = (found.map_or(&[][..], |f| &f.entries), &prepared.entries[at]);
    for gone in old.iter().filter(|entry| !new.contains(entry)) {
        delete_entry(desk.connection, collection, key, gone)?;
    }
    for entry in new.iter().filter(|entry| !old.contains(entry)) {
        insert_entry(desk.connection, collection, key.as_str().as_bytes(), entry)?;
    }
    announce(desk.connection, collection, key, Some(&etag), desk.now)?;
    Ok(etag)
}

pub(super) fn insert_entry(
    connection: &Connection,
    collection: &CollectionName,
    key: &[u8],
    entry: &Entry,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO entries (collection, name, value, key) VALUES (?, ?, ?, ?)")?
        .execute(params![collection.as_str(), entry.index, entry.value, key])
        .map(drop)
}

fn delete_entry(
    connection: &Connection,
    collection: &CollectionName,
    key: &Key,
    entry: &Entry,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM entries WHERE collection = ? AND name = ? AND value = ? AND key = ?",
        )?
        .execute(params![
            collection.as_str(),
            entry.index,
            entry.value,
            key.as_str().as_bytes()
        ])
        .map(drop)
}

fn delete(
    connection: &Connection,
    collection: &CollectionName,
    key: &Key,
    id: i64,
    entries: &[Entry],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM records WHERE id = ?")?
        .execute(params![id])?;
    entries
        .iter()
        .try_for_each(|entry| delete_entry(connection, collection, key, entry))
}

/// Removes an expired record as if it had been deleted. Nothing happens when it is not there.
pub(super) fn remove_expired(
    connection: &Connection,
    definitions: &Definitions,
    collection: &CollectionName,
    key: &Key,
    now: Timestamp,
) -> Result<(), Failure> {
    let row: Option<(i64, Option<String>)> = connection
        .prepare_cached(
            "SELECT id, value FROM records WHERE collection = ? AND key = ? AND expires <= ?",
        )?
        .query_row(
            params![
                collection.as_str(),
                key.as_str().as_bytes(),
                now.as_microsecond()
            ],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get_ref(1)?.as_str().ok().map(str::to_owned),
                ))
            },
        )
        .optional()?;
    let Some((id, text)) = row else {
        return Ok(());
    };
    let read = text.map(|text| match definitions.of(collection) {
        Some(definition) => definition.entries(&text),
        None => Ok(Vec::new()),
    });
    let entries = if let Some(Ok(entries)) = read {
        entries
    } else {
        // It would go anyway. One damaged record must not keep all the others from being removed; its
        // entries are looked for one by one instead.
        tracing::warn!(%collection, ?key, "an expired record was damaged");
        connection
            .prepare_cached("DELETE FROM entries WHERE collection = ? AND key = ?")?
            .execute(params![collection.as_str(), key.as_str().as_bytes()])?;
        Vec::new()
    };
    delete(connection, collection, key, id, &entries)?;
    announce(connection, collection, key, None, now)?;
    Ok(())
}

fn announce(
    connection: &Connection,
    collection: &CollectionName,
    key: &Key,
    etag: Option<&Etag>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO feed (collection, key, rev, nonce, at) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![
            collection.as_str(),
            key.as_str().as_bytes(),
            etag.map(Etag::rev),
            etag.map(Etag::nonce),
            now.as_microsecond()
        ])
        .map(drop)
}
