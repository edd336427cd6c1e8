//! Resources as the store keeps them: one collection per kind, one record per resource.
//!
//! The key is [`ResourceKey::store_key`], so the resources of one environment or team are one range
//! of keys. The record's etag is the resource's `resourceVersion`; it is not in the stored text.

use freehold_model::{Code, Error, Kind, Name, Resource, ResourceKey, Result, Uid};
use freehold_store::{
    Batch, CollectionName, CollectionSpec, ErrorKind, Etag, IndexSpec, IndexValue, Key,
    Precondition, PutMode, Range, Record, Scan, ScanToken, StoreHandle, Value, Write,
};
use serde::{Serialize, de::DeserializeOwned};

/// How often a change is tried again when somebody else was faster.
pub(crate) const CONFLICT_TRIES: usize = 16;

const INDEX_UID: &str = "uid";
pub(crate) const INDEX_ACCESS_DATABASE: &str = "database";
pub(crate) const INDEX_ACCESS_SUBJECT: &str = "subject_team";
pub(crate) const INDEX_DATABASE_INSTANCE: &str = "instance";

/// The kinds that have records of their own; views have none.
pub(crate) const STORED: [Kind; 7] = [
    Kind::Environment,
    Kind::Team,
    Kind::Workload,
    Kind::Instance,
    Kind::Class,
    Kind::Database,
    Kind::Access,
];

#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) store: StoreHandle,
}

/// The collection that holds the resources of `kind`.
pub(crate) fn collection(kind: Kind) -> CollectionName {
    CollectionName::new(kind.plural()).expect("plurals are collection names")
}

/// A collection of control's own, by a name written in the code.
pub(crate) fn own_collection(name: &'static str) -> CollectionName {
    CollectionName::new(name).expect("names in the code are collection names")
}

pub(crate) fn record_key(key: &ResourceKey) -> Key {
    Key::new(key.store_key()).expect("at most three names of 63 bytes")
}

pub(crate) fn uid_key(uid: Uid) -> Key {
    Key::new(uid.to_string()).expect("a uid is a key")
}

impl Records {
    pub(crate) fn new(store: StoreHandle) -> Self {
        Self { store }
    }

    /// Makes the collections and their indexes. Safe to run by several servers at once.
    pub(crate) async fn define(&self) -> Result<()> {
        for kind in STORED {
            let mut indexes = vec![index(INDEX_UID, &["/metadata/uid"], true)];
            match kind {
                Kind::Access => {
                    indexes.push(index(
                        INDEX_ACCESS_DATABASE,
                        &[
                            "/metadata/environment",
                            "/metadata/namespace",
                            "/spec/database",
                        ],
                        false,
                    ));
                    indexes.push(index(
                        INDEX_ACCESS_SUBJECT,
                        &["/spec/subject/team", "/metadata/environment"],
                        false,
                    ));
                }
                Kind::Database => indexes.push(index(
                    INDEX_DATABASE_INSTANCE,
                    &["/status/placement/instanceUid"],
                    false,
                )),
                _ => {}
            }
            let spec = CollectionSpec {
                name: collection(kind),
                indexes,
            };
            self.store.define(spec).await.map_err(store_error)?;
        }
        Ok(())
    }

    pub(crate) async fn get<S, T>(&self, key: &ResourceKey) -> Result<Option<Resource<S, T>>>
    where
        S: DeserializeOwned,
        T: DeserializeOwned,
    {
        let record = self
            .store
            .get(&collection(key.kind), &record_key(key))
            .await;
        record
            .map_err(store_error)?
            .map(|record| decode(&record))
            .transpose()
    }

    /// The resource, or `NotFound` in words.
    pub(crate) async fn expect<S, T>(&self, key: &ResourceKey) -> Result<Resource<S, T>>
    where
        S: DeserializeOwned,
        T: DeserializeOwned,
    {
        self.get(key).await?.ok_or_else(|| not_found(key))
    }

    /// All resources of a kind in a range of keys.
    pub(crate) async fn all<S, T>(&self, kind: Kind, range: Range) -> Result<Vec<Resource<S, T>>>
    where
        S: DeserializeOwned,
        T: DeserializeOwned,
    {
        let mut scan = Scan {
            limit: 1000,
            ..Scan::new(collection(kind), range)
        };
        let mut found = Vec::new();
        loop {
            let page = self.store.scan(scan.clone()).await.map_err(store_error)?;
            for record in &page.records {
                found.push(decode(record)?);
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return Ok(found),
            }
        }
    }

    pub(crate) async fn page(
        &self,
        kind: Kind,
        range: Range,
        limit: usize,
        after: Option<ScanToken>,
    ) -> Result<(Vec<Resource>, Option<ScanToken>)> {
        let scan = Scan {
            limit,
            after,
            ..Scan::new(collection(kind), range)
        };
        let page = self.store.scan(scan).await.map_err(store_error)?;
        let resources = page.records.iter().map(decode).collect::<Result<_>>()?;
        Ok((resources, page.next))
    }

    pub(crate) async fn by_uid<S, T>(&self, kind: Kind, uid: Uid) -> Result<Option<Resource<S, T>>>
    where
        S: DeserializeOwned,
        T: DeserializeOwned,
    {
        let values = vec![IndexValue::Text(uid.to_string())];
        let range = Range::IndexPrefix {
            index: INDEX_UID.to_owned(),
            values,
        };
        Ok(self.all(kind, range).await?.pop())
    }

    /// Reads, changes and saves one resource until nobody interferes. `change` returns false when
    /// there is nothing to do. `batch` adds what must be saved or must hold together with it.
    pub(crate) async fn update<S, T>(
        &self,
        key: &ResourceKey,
        mut change: impl FnMut(&mut Resource<S, T>, &mut Batch) -> bool + Send,
    ) -> Result<Option<Resource<S, T>>>
    where
        S: DeserializeOwned + Serialize + Send,
        T: DeserializeOwned + Serialize + Send,
    {
        for _ in 0..CONFLICT_TRIES {
            let Some(mut resource) = self.get::<S, T>(key).await? else {
                return Ok(None);
            };
            let mut batch = Batch::new();
            if !change(&mut resource, &mut batch) {
                return Ok(Some(resource));
            }
            batch.writes.push(put(&resource)?);
            match self.store.apply(batch).await {
                Ok(_) => return Ok(Some(resource)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(store_error(error)),
            }
        }
        Err(too_busy(key))
    }
}

fn index(name: &str, fields: &[&str], unique: bool) -> IndexSpec {
    let fields = fields.iter().map(|&field| field.to_owned()).collect();
    IndexSpec {
        name: name.to_owned(),
        fields,
        unique,
        version: 1,
    }
}

pub(crate) fn decode<S, T>(record: &Record) -> Result<Resource<S, T>>
where
    S: DeserializeOwned,
    T: DeserializeOwned,
{
    let mut resource: Resource<S, T> = record.value.decode().map_err(store_error)?;
    resource.metadata.resource_version = record.etag.to_string();
    Ok(resource)
}

/// The write that saves a resource over the version it was read as, or creates it.
pub(crate) fn put<S: Serialize, T: Serialize>(resource: &Resource<S, T>) -> Result<Write> {
    let mode = match resource.metadata.resource_version.as_str() {
        "" => PutMode::Create,
        version => PutMode::Match(etag(version)?),
    };
    let mut value = serde_json::to_value(resource)
        .map_err(|source| Error::internal("writing a resource as JSON", source))?;
    if let Some(metadata) = value.get_mut("metadata").and_then(|m| m.as_object_mut()) {
        metadata.remove("resourceVersion");
    }
    Ok(Write::Put {
        collection: collection(resource.kind),
        key: record_key(&resource.key()),
        value: Value::encode(&value).map_err(store_error)?,
        mode,
        expires_at: None,
    })
}

/// The write that removes a resource as it was read.
pub(crate) fn remove<S, T>(resource: &Resource<S, T>) -> Result<Write> {
    Ok(Write::Delete {
        collection: collection(resource.kind),
        key: record_key(&resource.key()),
        mode: freehold_store::DeleteMode::Match(etag(&resource.metadata.resource_version)?),
    })
}

/// Demands that a resource is still as it was read.
pub(crate) fn unchanged<S, T>(resource: &Resource<S, T>) -> Result<Precondition> {
    Ok(Precondition::Unchanged {
        collection: collection(resource.kind),
        key: record_key(&resource.key()),
        etag: etag(&resource.metadata.resource_version)?,
    })
}

fn etag(version: &str) -> Result<Etag> {
    Etag::try_from(version.to_owned())
        .map_err(|source| Error::invalid("a resourceVersion is not one of ours").because(source))
}

/// Keys of one environment, or of one team in it.
pub(crate) fn range(kind: Kind, environment: Option<&Name>, team: Option<&Name>) -> Range {
    use freehold_model::Scope;
    let prefix = match (kind.scope(), environment, team) {
        (Scope::Environment, Some(environment), _)
        | (Scope::EnvironmentAndTeam, Some(environment), None) => format!("{environment}/"),
        (Scope::Team, _, Some(team)) => format!("{team}/"),
        (Scope::EnvironmentAndTeam, Some(environment), Some(team)) => {
            format!("{environment}/{team}/")
        }
        _ => return Range::All,
    };
    Range::KeyPrefix(prefix)
}

pub(crate) fn not_found(key: &ResourceKey) -> Error {
    Error::not_found(format!("there is no {key}")).hint(format!(
        "`freehold get {}` lists what is there and visible to you.",
        key.kind.plural()
    ))
}

pub(crate) fn too_busy(key: &ResourceKey) -> Error {
    Error::new(
        Code::Conflict,
        format!("{key} is being changed by many at once"),
    )
    .hint("Nothing was changed by this request. Try again.")
}

/// What a store error means to the caller of a verb.
pub(crate) fn store_error(error: freehold_store::Error) -> Error {
    let (code, message, hint) = match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::VersionMismatch => (
            Code::Conflict,
            "somebody else changed the same thing at the same time",
            "Nothing was changed by this request. Read it again and retry.",
        ),
        ErrorKind::Throttled => (
            Code::Throttled,
            "the store is overloaded",
            "Nothing was changed. Try again shortly.",
        ),
        ErrorKind::Unavailable => (
            Code::Unavailable,
            "the store that keeps Freehold's state cannot be reached or written",
            "Nothing was changed. `freehold doctor` looks for the cause.",
        ),
        ErrorKind::Undetermined => (
            Code::Undetermined,
            "the connection to the store broke; the change may or may not have been saved",
            "Read the resource to see which, then retry.",
        ),
        ErrorKind::TooLarge => (
            Code::TooLarge,
            "that is more than the store takes at once",
            "Split it and retry.",
        ),
        _ => return Error::internal("a store operation", error),
    };
    Error::new(code, message).hint(hint).because(error)
}
