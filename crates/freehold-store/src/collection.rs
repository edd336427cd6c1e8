//! A typed view of one collection, for records whose shape changes over the years.
//!
//! A stored value is the document itself, an object, with one member more: `"_v"`, which says
//! `[version, readable from]`. So a JSON pointer in an index or a filter is the pointer into the document
//! (`/spec/name`), and nothing moves when a version is added. A document that was written without
//! `"_v"` is version 1.
//!
//! * **Newer program, older record**: [`Document::upgrade`] takes the value from the version found up to
//!   [`Document::VERSION`], at every read. The record is rewritten only when somebody updates it.
//! * **Older program, newer record**: it reads the record when the writer said so
//!   ([`Document::READABLE_FROM`] at most the reader's version), and refuses with a clear error
//!   otherwise. So that replicas of yesterday's program may run beside today's, a change of shape takes
//!   two releases unless the old program can read the new shape: add, then remove.
//! * **Older program updates a newer record**: members that it does not know survive, at every level of
//!   nesting, because the update is laid over what was stored. The record keeps its newer version,
//!   so the newer program will not take it for an old one.
//!
//! What an update changed is the difference between the document as this program read it and as it
//! writes it; only that is laid over the stored text, and every other byte stays, numbers of any size
//! included. So a key that was taken out of a map is gone, and a member that this program never saw
//! is not. Elements of arrays have no name: an array that changed is replaced as a whole. A renamed
//! member is the business of `upgrade`; `#[serde(alias)]` would leave both names in the record.

use std::marker::PhantomData;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use crate::{
    Batch, CollectionName, CollectionSpec, DeleteMode, Error, ErrorKind, Etag, Filter, IndexSpec,
    IndexValue, Key, PutMode, Range, Record, Result, Scan, ScanToken, StoreHandle, Value, Write,
    batch::changed, pointer::members,
};

/// The member that carries `[version, readable from]`.
const STAMP: &str = "_v";
/// How often an update that meets another one is tried again.
const ATTEMPTS: u32 = 64;

/// A type whose values are the records of one collection.
pub trait Document: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// See [`CollectionName`].
    const COLLECTION: &'static str;
    /// Counts the changes of shape, from 1.
    const VERSION: u32;
    /// The oldest version of the program that can read what this one writes. At most `VERSION`; equal
    /// to it says that no older program can.
    const READABLE_FROM: u32;

    /// Turns a value of an older version (1 to `VERSION - 1`) into one of this version.
    fn upgrade(from: u32, value: Json) -> Result<Json>;

    fn indexes() -> Vec<IndexSpec>;
}

/// A document as it was read, with what an update of it needs.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    pub key: Key,
    pub value: T,
    pub etag: Etag,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// The stored text, upgraded to this program's version when it was older, without its stamp.
    text: String,
    stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    version: u32,
    readable_from: u32,
}

/// One page of a scan.
#[derive(Debug, Clone)]
pub struct StoredPage<T> {
    pub documents: Vec<Stored<T>>,
    /// Absent on the last page.
    pub next: Option<ScanToken>,
}

/// The records of type `T` in a store.
#[derive(Debug)]
pub struct Collection<T> {
    store: StoreHandle,
    name: CollectionName,
    document: PhantomData<fn() -> T>,
}

impl<T> Clone for Collection<T> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            name: self.name.clone(),
            document: PhantomData,
        }
    }
}

impl<T: Document> Collection<T> {
    /// Fails when `T` describes no collection (its name, or `READABLE_FROM` above `VERSION`).
    pub fn new(store: StoreHandle) -> Result<Self> {
        if T::VERSION == 0 || T::READABLE_FROM > T::VERSION {
            return Err(Error::invalid(format!(
                "documents of collection {} have version {} readable from {}; versions count from 1",
                T::COLLECTION,
                T::VERSION,
                T::READABLE_FROM
            )));
        }
        Ok(Self {
            store,
            name: CollectionName::new(T::COLLECTION)?,
            document: PhantomData,
        })
    }

    pub fn name(&self) -> &CollectionName {
        &self.name
    }

    pub fn store(&self) -> &StoreHandle {
        &self.store
    }

    /// Declares the collection with its indexes; once at start, before the first scan by index.
    pub async fn define(&self) -> Result<()> {
        let spec = CollectionSpec {
            name: self.name.clone(),
            indexes: T::indexes(),
        };
        self.store.define(spec).await
    }

    pub async fn get(&self, key: &Key) -> Result<Option<Stored<T>>> {
        let record = self.store.get(&self.name, key).await?;
        record.map(|record| self.decode(record)).transpose()
    }

    /// `AlreadyExists` when the key is taken, or a unique index has one of the values.
    pub async fn create(&self, key: Key, value: &T) -> Result<Etag> {
        self.apply_one(self.to_create(key, value)?).await
    }

    /// Writes the whole document, whatever is there. What another version of the program kept in it
    /// is lost; [`Collection::update`] keeps it.
    pub async fn put(&self, key: Key, value: &T) -> Result<Etag> {
        self.apply_one(self.to_put(key, value, PutMode::Upsert)?)
            .await
    }

    /// Writes back a document that was read and changed; `VersionMismatch` when somebody was faster.
    pub async fn save(&self, document: &Stored<T>) -> Result<Etag> {
        self.apply_one(self.to_save(document)?).await
    }

    /// Reads, changes, writes; again with the new state when somebody was faster. `change` may run
    /// several times. Its error ends the update. `VersionMismatch` when the record is absent.
    pub async fn update(
        &self,
        key: &Key,
        mut change: impl FnMut(&mut T) -> Result<()> + Send,
    ) -> Result<Stored<T>> {
        let mut attempt = 0;
        loop {
            let mut document = self
                .get(key)
                .await?
                .ok_or_else(|| changed(&self.name, key, None))?;
            change(&mut document.value)?;
            match self.save(&document).await {
                Ok(etag) => {
                    document.etag = etag;
                    return Ok(document);
                }
                Err(error) if error.kind() == ErrorKind::VersionMismatch && attempt < ATTEMPTS => {
                    attempt += 1;
                    back_off(attempt).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub async fn delete(&self, key: Key, mode: DeleteMode) -> Result<()> {
        let write = self.to_delete(key, mode);
        self.store.apply(single(write)).await.map(drop)
    }

    pub async fn scan(
        &self,
        range: Range,
        filter: Option<Filter>,
        limit: usize,
        after: Option<ScanToken>,
    ) -> Result<StoredPage<T>> {
        let page = self
            .store
            .scan(Scan {
                collection: self.name.clone(),
                range,
                filter,
                limit,
                after,
            })
            .await?;
        let documents = page.records.into_iter().map(|record| self.decode(record));
        Ok(StoredPage {
            documents: documents.collect::<Result<_>>()?,
            next: page.next,
        })
    }

    /// All documents of a range, however many pages they take.
    pub async fn all(&self, range: Range) -> Result<Vec<Stored<T>>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.scan(range.clone(), None, 1_000, after).await?;
            all.extend(page.documents);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// All documents whose leading values in the index are these.
    pub async fn find(&self, index: &str, values: Vec<IndexValue>) -> Result<Vec<Stored<T>>> {
        let index = index.to_owned();
        self.all(Range::IndexPrefix { index, values }).await
    }

    // What follows builds writes for batches across collections.

    pub fn to_create(&self, key: Key, value: &T) -> Result<Write> {
        self.to_put(key, value, PutMode::Create)
    }

    /// The whole document, as `encode` writes it.
    pub fn to_put(&self, key: Key, value: &T, mode: PutMode) -> Result<Write> {
        Ok(Write::Put {
            collection: self.name.clone(),
            key,
            value: self.encode(value)?,
            mode,
            expires_at: None,
        })
    }

    /// A document that was read and changed, on the condition that nobody else changed it. Its
    /// `expires_at` is written as it stands in `document`.
    pub fn to_save(&self, document: &Stored<T>) -> Result<Write> {
        Ok(Write::Put {
            collection: self.name.clone(),
            key: document.key.clone(),
            value: document.encode()?,
            mode: PutMode::Match(document.etag.clone()),
            expires_at: document.expires_at,
        })
    }

    pub fn to_delete(&self, key: Key, mode: DeleteMode) -> Write {
        Write::Delete {
            collection: self.name.clone(),
            key,
            mode,
        }
    }

    /// A new document with this program's stamp.
    pub fn encode(&self, value: &T) -> Result<Value> {
        stamped(&object_text(value)?, own_stamp::<T>())
    }

    /// A record of this collection, upgraded when it is older.
    pub fn decode(&self, record: Record) -> Result<Stored<T>> {
        let name = format!("{}/{}", record.collection, record.key);
        let (stamp, text) = unstamped(record.value.text())
            .map_err(|e| Error::corrupt(format!("record {name} is no document")).because(e))?;
        let (stamp, text) = readable::<T>(&name, stamp, text)?;
        let value = serde_json::from_str(&text).map_err(|source| {
            Error::corrupt(format!(
                "record {name} does not have the shape of version {} that it says it has",
                stamp.version
            ))
            .because(source)
        })?;
        Ok(Stored {
            key: record.key,
            value,
            etag: record.etag,
            created_at: record.created_at,
            updated_at: record.updated_at,
            expires_at: record.expires_at,
            text,
            stamp,
        })
    }

    async fn apply_one(&self, write: Write) -> Result<Etag> {
        let outcome = self.store.apply(single(write)).await?;
        let etag = outcome.etags.into_iter().next().flatten();
        etag.ok_or_else(|| Error::corrupt("the store gave no etag for a write"))
    }
}

impl<T: Document> Stored<T> {
    /// The value as it is now, laid over what was stored.
    fn encode(&self) -> Result<Value> {
        let before: T = serde_json::from_str(&self.text).map_err(|source| {
            Error::corrupt(format!("record {} cannot be read twice", self.key)).because(source)
        })?;
        let (before, after) = (to_json(&before)?, to_json(&self.value)?);
        stamped(&merge(&self.text, &before, &after)?, self.stamp)
    }
}

fn single(write: Write) -> Batch {
    Batch {
        preconditions: Vec::new(),
        writes: vec![write],
    }
}

/// The first meetings are settled by whoever comes next; later ones wait a little, more each time.
async fn back_off(attempt: u32) {
    if attempt <= 2 {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(attempt.min(20)))).await;
    }
}

fn own_stamp<T: Document>() -> Stamp {
    Stamp {
        version: T::VERSION,
        readable_from: T::READABLE_FROM,
    }
}

/// The text as this program can read it: upgraded, as it is, or refused.
fn readable<T: Document>(name: &str, stamp: Stamp, text: String) -> Result<(Stamp, String)> {
    if stamp.version == T::VERSION {
        return Ok((stamp, text));
    }
    if stamp.version > T::VERSION {
        if stamp.readable_from <= T::VERSION {
            return Ok((stamp, text));
        }
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "record {name} was written by a newer program, as version {}, which can be read from \
                 version {} on; this program knows version {}: use a newer one",
                stamp.version,
                stamp.readable_from,
                T::VERSION
            ),
        ));
    }
    let value = serde_json::from_str(&text)
        .map_err(|source| Error::corrupt(format!("record {name} is not JSON")).because(source))?;
    let upgraded = T::upgrade(stamp.version, value)?;
    let text = object_text(&upgraded)?;
    Ok((own_stamp::<T>(), text))
}

fn to_json<T: Serialize>(value: &T) -> Result<Json> {
    serde_json::to_value(value)
        .map_err(|source| Error::invalid("a document cannot be written as JSON").because(source))
}

fn object_text<T: Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|source| Error::invalid("a document cannot be written as JSON").because(source))?;
    if !text.starts_with('{') {
        return Err(Error::invalid("a document must be a JSON object"));
    }
    if members(&text)?.iter().any(|(name, _)| name == STAMP) {
        return Err(Error::invalid(format!(
            "a document has a member {STAMP:?}, which is kept for its version"
        )));
    }
    Ok(text)
}

/// The object with its stamp in front.
fn stamped(object: &str, stamp: Stamp) -> Result<Value> {
    let rest = object.trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if rest.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    Value::from_text(format!(
        "{{\"{STAMP}\":[{},{}]{comma}{rest}",
        stamp.version, stamp.readable_from
    ))
}

/// The stamp and the object without it. What has no stamp is version 1.
fn unstamped(text: &str) -> Result<(Stamp, String)> {
    let first = Stamp {
        version: 1,
        readable_from: 1,
    };
    let all = members(text)?;
    let stamp = match all.iter().find(|(name, _)| name == STAMP) {
        None => first,
        Some((_, raw)) => {
            let (version, readable_from) = serde_json::from_str(raw.get()).map_err(|source| {
                Error::corrupt(format!("{STAMP:?} is not a version stamp")).because(source)
            })?;
            Stamp {
                version,
                readable_from,
            }
        }
    };
    let rest = all.iter().filter(|(name, _)| name != STAMP);
    Ok((
        stamp,
        join(rest.map(|(name, raw)| (&**name, raw.get().to_owned()))),
    ))
}

fn join<'a>(members: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&Json::from(name).to_string());
        text.push(':');
        text.push_str(&value);
    }
    text.push('}');
    text
}

/// Lays what changed from `before` to `after` over the stored text. Both are what this program makes
/// of the document, so a member that is in neither is one that it does not know.
fn merge(stored: &str, before: &Json, after: &Json) -> Result<String> {
    if before == after {
        return Ok(stored.to_owned());
    }
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
        return Ok(after.to_string());
    };
    if !stored.trim_start().starts_with('{') {
        return Ok(Json::from(after.clone()).to_string());
    }
    let stored = members(stored)?;
    let mut merged: Vec<(&str, String)> = Vec::with_capacity(stored.len());
    for (name, raw) in &stored {
        match (before.get(&**name), after.get(&**name)) {
            (Some(before), Some(after)) => merged.push((name, merge(raw.get(), before, after)?)),
            (None, Some(after)) => merged.push((name, after.to_string())),
            (Some(_), None) => {}
            (None, None) => merged.push((name, raw.get().to_owned())),
        }
    }
    for (name, value) in after {
        if !stored.iter().any(|(known, _)| known == name) {
            merged.push((name, value.to_string()));
        }
    }
    Ok(join(merged.into_iter()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_laid_over_the_stored_text() {
        let stored = r#"{"new":18446744073709551617,"a":1,"in":{"x":1,"new":1e400},"map":{"k":1,"l":2},"list":[{"id":1,"new":0}]}"#;
        let before = json!({"a":1,"in":{"x":1},"map":{"k":1,"l":2},"list":[{"id":1}]});
        let after = json!({"a":2,"in":{"x":3},"map":{"l":2,"m":3},"list":[{"id":1}],"b":true});
        let merged = merge(stored, &before, &after).unwrap();
        assert_eq!(
            merged,
            r#"{"new":18446744073709551617,"a":2,"in":{"x":3,"new":1e400},"map":{"l":2,"m":3},"list":[{"id":1,"new":0}],"b":true}"#
        );
    }

    #[test]
    fn a_stamp_comes_off_as_it_went_on() {
        for text in ["{}", r#"{"a":1}"#, r#"{ "a" : 1 }"#] {
            let stamp = Stamp {
                version: 3,
                readable_from: 2,
            };
            let value = stamped(text, stamp).unwrap();
            let (found, rest) = unstamped(value.text()).unwrap();
            assert_eq!(found, stamp);
            assert_eq!(
                serde_json::from_str::<Json>(&rest).unwrap(),
                serde_json::from_str::<Json>(text).unwrap()
            );
        }
    }

    #[test]
    fn an_object_without_a_stamp_is_of_the_first_version() {
        assert_eq!(unstamped(r#"{"a":1}"#).unwrap().0.version, 1);
        assert!(unstamped(r#"{"_v":"x"}"#).is_err());
        assert!(object_text(&json!({"_v": 1})).is_err());
        assert!(object_text(&json!([1])).is_err());
    }
}
