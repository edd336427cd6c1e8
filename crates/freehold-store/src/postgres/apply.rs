//! A batch as the arguments of one call of `apply_v1`.
//!
//! Locks are advisory, on 2,048 stripes: a record's stripe comes from a hash of its name, a unique
//! value's from a hash of the value. Row locks cannot hold a place that no row has yet. A lock per key
//! instead of per stripe would let one large batch use up the server's lock table; two writers that
//! meet on a stripe by accident merely wait for one commit.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use deadpool_postgres::Client;
use jiff::Timestamp;
use tokio_postgres::{Error as PgError, Row, Statement};

use crate::{
    ApplyOutcome, CollectionName, DeleteMode, Error, Etag, Key, Precondition, PutMode, Result,
    Write,
    batch::{self, Prepared},
    index::Definitions,
};

const STRIPES: u64 = 2_048;

/// Tells the stripes of one store from those of another in the same database.
pub(super) fn space(schema: &str) -> i32 {
    let hash = hash(&[b"freehold-store", schema.as_bytes()]).to_be_bytes();
    i32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

pub(super) fn record_stripe(collection: &str, key: &[u8]) -> i32 {
    stripe(&[b"record", collection.as_bytes(), key])
}

fn value_stripe(collection: &CollectionName, index: &str, value: &[u8]) -> i32 {
    stripe(&[
        b"value",
        collection.as_str().as_bytes(),
        index.as_bytes(),
        value,
    ])
}

fn stripe(parts: &[&[u8]]) -> i32 {
    i32::try_from(hash(parts) % STRIPES).expect("a stripe is a small number")
}

/// Every replica must come to the same stripe, of whatever version and platform, so this hash is a
/// fixed one.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let full = context.finish();
    let (first, _) = full.as_ref().split_at(8);
    u64::from_be_bytes(first.try_into().expect("eight bytes"))
}

pub(super) const CALL: &str = "SELECT status, at, detail, owner, current_rev, current_nonce, revs
    FROM {s}.apply_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22, $23, $24, $25, $26, $27)";

/// What the server said.
pub(super) enum Answer {
    Done(ApplyOutcome),
    /// Other definitions are in force: load them and call again.
    Stale,
    /// This expired record must be locked and removed too: call again with it.
    Evict(CollectionName, Key),
}

#[derive(Default)]
struct Arguments<'a> {
    stripes: Vec<i32>,
    exclusive: Vec<bool>,
    checks: Checks<'a>,
    writes: Writes<'a>,
    entries: Entries<'a>,
    victim_collections: Vec<&'a str>,
    victim_keys: Vec<&'a [u8]>,
}

#[derive(Default)]
struct Checks<'a> {
    kind: Vec<i16>,
    collection: Vec<Option<&'a str>>,
    key: Vec<&'a [u8]>,
    rev: Vec<Option<i64>>,
    nonce: Vec<Option<&'a [u8]>>,
}

#[derive(Default)]
struct Writes<'a> {
    collection: Vec<&'a str>,
    key: Vec<&'a [u8]>,
    mode: Vec<i16>,
    value: Vec<Option<&'a str>>,
    expires: Vec<Option<i64>>,
    rev: Vec<Option<i64>>,
    expected: Vec<Option<&'a [u8]>>,
    nonce: Vec<&'a [u8]>,
    indexed: Vec<bool>,
    first: Vec<i32>,
    last: Vec<i32>,
}

#[derive(Default)]
struct Entries<'a> {
    write: Vec<i32>,
    name: Vec<&'a str>,
    value: Vec<&'a [u8]>,
    unique: Vec<bool>,
    /// Which earlier write of the batch has the same value of the unique index; 0 for none.
    taken: Vec<i32>,
}

pub(super) async fn call(
    client: &Client,
    statement: &Statement,
    space: i32,
    prepared: &Prepared,
    definitions: &Definitions,
    victims: &[(CollectionName, Key)],
) -> Result<Result<Answer>, PgError> {
    let args = arguments(prepared, definitions, victims);
    let version = number(prepared.definitions);
    let (checks, writes, entries) = (&args.checks, &args.writes, &args.entries);
    let row = client
        .query_one(
            statement,
            &[
                &space,
                &version,
                &args.stripes,
                &args.exclusive,
                &checks.kind,
                &checks.collection,
                &checks.key,
                &checks.rev,
                &checks.nonce,
                &writes.collection,
                &writes.key,
                &writes.mode,
                &writes.value,
                &writes.expires,
                &writes.rev,
                &writes.expected,
                &writes.nonce,
                &writes.indexed,
                &writes.first,
                &writes.last,
                &entries.write,
                &entries.name,
                &entries.value,
                &entries.unique,
                &entries.taken,
                &args.victim_collections,
                &args.victim_keys,
            ],
        )
        .await?;
    Ok(answer(prepared, &row))
}

fn arguments<'a>(
    prepared: &'a Prepared,
    definitions: &Definitions,
    victims: &'a [(CollectionName, Key)],
) -> Arguments<'a> {
    let mut args = Arguments::default();
    // Stripe → whether exclusively. The order of the map is the order in which everyone locks.
    let mut stripes: BTreeMap<i32, bool> = BTreeMap::new();
    for precondition in &prepared.batch.preconditions {
        args.checks.push(precondition, &mut stripes);
    }
    let mut taken = HashMap::new();
    for (at, write) in prepared.batch.writes.iter().enumerate() {
        let (collection, key) = write.target();
        stripes.insert(
            record_stripe(collection.as_str(), key.as_str().as_bytes()),
            true,
        );
        let number = ordinal(at);
        args.writes.first.push(ordinal(args.entries.write.len()));
        for entry in &prepared.entries[at] {
            let before = entry
                .unique
                .then(|| taken.insert((collection, &entry.index, &entry.value), number))
                .flatten();
            if entry.unique {
                stripes.insert(value_stripe(collection, &entry.index, &entry.value), true);
            }
            args.entries.write.push(number);
            args.entries.name.push(&entry.index);
            args.entries.value.push(&entry.value);
            args.entries.unique.push(entry.unique);
            args.entries.taken.push(before.unwrap_or(0));
        }
        args.writes.last.push(ordinal(args.entries.write.len()) - 1);
        args.writes
            .indexed
            .push(definitions.of(collection).is_some());
        args.writes.nonce.push(&prepared.nonces[at]);
        args.writes.push(write);
    }
    for (collection, key) in victims {
        let key = key.as_str().as_bytes();
        stripes.insert(record_stripe(collection.as_str(), key), true);
        args.victim_collections.push(collection.as_str());
        args.victim_keys.push(key);
    }
    (args.stripes, args.exclusive) = stripes.into_iter().unzip();
    args
}

impl<'a> Checks<'a> {
    fn push(&mut self, precondition: &'a Precondition, stripes: &mut BTreeMap<i32, bool>) {
        let (kind, collection, key, rev, nonce) = match precondition {
            Precondition::LeaseHeld { name, epoch } => {
                (0, None, name.as_str(), Some(number(*epoch)), None)
            }
            Precondition::Unchanged {
                collection,
                key,
                etag,
            } => (
                1,
                Some(collection),
                key.as_str(),
                Some(number(etag.rev())),
                Some(etag.nonce().as_slice()),
            ),
            Precondition::Absent { collection, key } => {
                (2, Some(collection), key.as_str(), None, None)
            }
        };
        let key = key.as_bytes();
        if let Some(collection) = collection {
            stripes
                .entry(record_stripe(collection.as_str(), key))
                .or_insert(false);
        }
        self.kind.push(kind);
        self.collection.push(collection.map(CollectionName::as_str));
        self.key.push(key);
        self.rev.push(rev);
        self.nonce.push(nonce);
    }
}

impl<'a> Writes<'a> {
    fn push(&mut self, write: &'a Write) {
        let (collection, key) = write.target();
        self.collection.push(collection.as_str());
        self.key.push(key.as_str().as_bytes());
        let (mode, expected) = match write {
            Write::Put { mode, .. } => match mode {
                PutMode::Upsert => (0, None),
                PutMode::Create => (1, None),
                PutMode::Match(etag) => (2, Some(etag)),
            },
            Write::Delete { mode, .. } => match mode {
                DeleteMode::Any => (3, None),
                DeleteMode::MustExist => (4, None),
                DeleteMode::Match(etag) => (5, Some(etag)),
            },
        };
        self.mode.push(mode);
        self.rev.push(expected.map(|etag| number(etag.rev())));
        self.expected
            .push(expected.map(|etag| etag.nonce().as_slice()));
        let (value, expires) = match write {
            Write::Put {
                value, expires_at, ..
            } => (
                Some(value.text()),
                expires_at.map(Timestamp::as_microsecond),
            ),
            Write::Delete { .. } => (None, None),
        };
        self.value.push(value);
        self.expires.push(expires);
    }
}

fn answer(prepared: &Prepared, row: &Row) -> Result<Answer> {
    let first = prepared.batch.preconditions.len();
    let at = || usize::try_from(row.get::<_, i32>("at") - 1).unwrap_or(0);
    let current = || -> Result<Option<Etag>> {
        match row.get::<_, Option<i64>>("current_rev") {
            Some(rev) => etag(rev, row.get("current_nonce")).map(Some),
            None => Ok(None),
        }
    };
    match row.get::<_, i32>("status") {
        0 => Ok(Answer::Done(outcome(prepared, row))),
        1 => Ok(Answer::Stale),
        2 => {
            let collection = CollectionName::new(row.get::<_, String>("detail"))?;
            Ok(Answer::Evict(collection, Key::stored(row.get("owner"))?))
        }
        3 => {
            let precondition = &prepared.batch.preconditions[at()];
            if let Precondition::LeaseHeld { name, epoch } = precondition {
                return Err(batch::lease_lost(name, *epoch).at(at()));
            }
            Err(refusal(batch::holds(precondition, current()?.as_ref())).at(at()))
        }
        4 => {
            let write = &prepared.batch.writes[at()];
            Err(refusal(write.permitted(current()?.as_ref())).at(first + at()))
        }
        _ => {
            let (collection, _) = prepared.batch.writes[at()].target();
            let owner = String::from_utf8_lossy(row.get("owner")).into_owned();
            Err(batch::unique_taken(collection, row.get("detail"), &owner).at(first + at()))
        }
    }
}

/// The server refused; our own words for it come from the same rule.
fn refusal(checked: Result<()>) -> Error {
    match checked {
        Err(error) => error,
        Ok(()) => Error::corrupt("the store's functions and this program disagree about a check"),
    }
}

fn outcome(prepared: &Prepared, row: &Row) -> ApplyOutcome {
    // An array that nothing was assigned to is null.
    let revs: Vec<Option<i64>> = row.get::<_, Option<_>>("revs").unwrap_or_default();
    let etags = prepared
        .nonces
        .iter()
        .enumerate()
        .map(|(at, nonce)| {
            let rev = revs.get(at).copied().flatten()?;
            Some(Etag::new(rev.cast_unsigned(), *nonce))
        })
        .collect();
    ApplyOutcome { etags }
}

pub(super) fn etag(rev: i64, nonce: &[u8]) -> Result<Etag> {
    let nonce = nonce
        .try_into()
        .map_err(|source| Error::corrupt("a stored nonce is not 16 bytes long").because(source))?;
    Ok(Etag::new(rev.cast_unsigned(), nonce))
}

/// Ours never come near 2^63; one that does names nothing.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(-1)
}

/// PostgreSQL counts from one.
fn ordinal(at: usize) -> i32 {
    i32::try_from(at + 1).expect("a batch is limited")
}

/// The stripes of records, in the order in which everyone locks.
pub(super) fn record_stripes(records: &[(String, Vec<u8>)]) -> Vec<i32> {
    let mut stripes: Vec<i32> = records
        .iter()
        .map(|(collection, key)| record_stripe(collection, key))
        .collect();
    stripes.sort_unstable();
    stripes.dedup();
    stripes
}
