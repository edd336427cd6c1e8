//! Who this control plane is: one record, made at the first start, kept for ever.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use freehold_audit::SigningKey;
use freehold_model::{Clock, ControlPlaneId, Entropy, Error, Result, Secret};
use freehold_store::{Batch, CollectionName, CollectionSpec, Key, PutMode, StoreHandle, Value};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    records::{own_collection, store_error},
    secrets::{Place, Sealed, Sealer},
};

const KEY: &str = "control_plane";

/// As it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityRecord {
    id: ControlPlaneId,
    created_at: Timestamp,
    /// Name of the audit log in its checkpoints.
    origin: String,
    audit_seed: Sealed,
    /// Added to every lease epoch before it goes to a database server. A restore raises it, because
    /// a person who restores yesterday's store says with it that this store counts from now on,
    /// although the servers have seen higher epochs.
    #[serde(default)]
    epoch_offset: u64,
}

/// As the control plane uses it.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: ControlPlaneId,
    pub(crate) epoch_offset: u64,
    pub(crate) audit_key: SigningKey,
}

/// How far a restore moves the epochs: more than any target is worked on in a lifetime.
const RESTORE_EPOCH_STEP: u64 = 1 << 32;

pub(crate) fn system_collection() -> CollectionName {
    own_collection("system")
}

fn key() -> Key {
    Key::new(KEY).expect("a valid key")
}

fn seed_place() -> Place {
    Place::new("system", KEY, "auditSeed")
}

/// Reads the identity, or makes it when this is the first start. Two servers that start at once
/// agree on one.
pub(crate) async fn load_or_create(
    store: &StoreHandle,
    sealer: &Sealer,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Identity> {
    let name = system_collection();
    store
        .define(CollectionSpec {
            name,
            indexes: vec![],
        })
        .await
        .map_err(store_error)?;
    if let Some(found) = read(store, sealer).await? {
        return Ok(found);
    }
    let now = clock.now();
    let id = ControlPlaneId::generate(now, &**entropy);
    let seed = Secret::new(BASE64.encode(*SigningKey::generate_seed(&**entropy)));
    let record = IdentityRecord {
        id,
        created_at: now,
        origin: format!("freehold/{id}"),
        audit_seed: sealer.seal(&seed_place(), &seed),
        epoch_offset: 0,
    };
    let value = Value::encode(&record).map_err(store_error)?;
    let batch = Batch::new().put(&system_collection(), key(), value, PutMode::Create);
    match store.apply(batch).await {
        Ok(_) => {}
        Err(error) if error.is_conflict() => {}
        Err(error) => return Err(store_error(error)),
    }
    read(store, sealer)
        .await?
        .ok_or_else(|| Error::internal("creating the control plane's identity", "it vanished"))
}

async fn read(store: &StoreHandle, sealer: &Sealer) -> Result<Option<Identity>> {
    let Some(found) = store
        .get(&system_collection(), &key())
        .await
        .map_err(store_error)?
    else {
        return Ok(None);
    };
    let record: IdentityRecord = found.value.decode().map_err(store_error)?;
    let text = sealer.open(&seed_place(), &record.audit_seed)?;
    let seed: [u8; 32] = BASE64
        .decode(text.expose())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::internal("reading the audit log's key", "it has a wrong length"))?;
    let audit_key = SigningKey::from_seed(&record.origin, &seed)
        .map_err(|source| Error::internal("reading the audit log's key", source))?;
    Ok(Some(Identity {
        id: record.id,
        epoch_offset: record.epoch_offset,
        audit_key,
    }))
}

/// The identity record's value with its epochs raised, for a restore.
pub(crate) fn with_raised_epochs(value: &Value) -> Result<Value> {
    let mut record: IdentityRecord = value.decode().map_err(store_error)?;
    record.epoch_offset += RESTORE_EPOCH_STEP;
    Value::encode(&record).map_err(store_error)
}
