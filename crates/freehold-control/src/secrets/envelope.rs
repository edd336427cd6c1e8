//! Envelope encryption: each secret under a key of its own, that key under the key-encryption key.
//!
//! AES-256-GCM throughout. A data key is used once, so changing the key-encryption key means
//! wrapping small keys anew, never touching the secrets. Associated data ties both layers to their
//! [`Place`]: a sealed secret that is copied to another record, or to another field, does not open
//! there. Each sealed secret names the key that it needs, so several can be in use during a change.

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use freehold_model::{Code, Entropy, Error, Result, Secret};
use freehold_store::{Batch, CollectionName, CollectionSpec, Key, PutMode, StoreHandle, Value};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KeySource, key_source::KeyBytes};

/// Where a sealed secret belongs: it opens nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// The collection, the record's key, and the field that holds it.
    pub fn new(collection: &str, key: &str, field: &str) -> Self {
        // Lengths keep two places apart whatever their parts hold.
        let (a, b) = (collection.len(), key.len());
        Self(format!("{a}:{collection}{b}:{key}{field}"))
    }
}

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// The key-encryption key that it needs.
    key_id: String,
    /// Nonce, data key and tag, in base64.
    wrapped_key: String,
    /// Nonce, secret and tag, in base64.
    ciphertext: String,
}

impl Sealed {
    /// The id of the key-encryption key that it needs.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }
}

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    keys: Arc<BTreeMap<String, Arc<LessSafeKey>>>,
    current: String,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// `current` seals; it and `previous` open.
    pub async fn load(
        current: &KeySource,
        previous: &[KeySource],
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let key = current.load(entropy.as_ref()).await?;
        let mut sealer = Self::new(&key, entropy);
        for source in previous {
            let key = source.load(sealer.entropy.as_ref()).await?;
            sealer.keep(&key);
        }
        Ok(sealer)
    }

    pub(super) fn new(key: &KeyBytes, entropy: Arc<dyn Entropy>) -> Self {
        let current = key_id(key);
        let keys = BTreeMap::from([(current.clone(), Arc::new(cipher(key)))]);
        Self {
            keys: Arc::new(keys),
            current,
            entropy,
        }
    }

    fn keep(&mut self, key: &KeyBytes) {
        let mut keys = BTreeMap::clone(&self.keys);
        keys.insert(key_id(key), Arc::new(cipher(key)));
        self.keys = Arc::new(keys);
    }

    /// The id of the key that seals.
    pub fn key_id(&self) -> &str {
        &self.current
    }

    pub fn seal(&self, place: &Place, secret: &Secret) -> Sealed {
        let mut data_key = Zeroizing::new([0u8; 32]);
        self.entropy.fill(data_key.as_mut());
        let text = secret.expose().as_bytes();
        let ciphertext = self.encrypt(&cipher(&data_key), &secret_aad(place), text);
        Sealed {
            key_id: self.current.clone(),
            wrapped_key: self.wrap(place, &data_key),
            ciphertext,
        }
    }

    /// `FailedPrecondition` when the key is not the right one, `Internal` when what is stored was
    /// changed or moved.
    pub fn open(&self, place: &Place, sealed: &Sealed) -> Result<Secret> {
        let data_key = self.unwrap_key(place, sealed)?;
        let text = decrypt(&cipher(&data_key), &secret_aad(place), &sealed.ciphertext);
        let text = text.ok_or_else(damaged)?;
        let text = std::str::from_utf8(&text).map_err(|_| damaged())?;
        Ok(Secret::new(text))
    }

    /// The same secret under the current key; `None` when it is already.
    pub fn rewrap(&self, place: &Place, sealed: &Sealed) -> Result<Option<Sealed>> {
        if sealed.key_id == self.current {
            return Ok(None);
        }
        let data_key = self.unwrap_key(place, sealed)?;
        Ok(Some(Sealed {
            key_id: self.current.clone(),
            wrapped_key: self.wrap(place, &data_key),
            ciphertext: sealed.ciphertext.clone(),
        }))
    }

    /// Whether this server's keys are those of the store. Call it at start: a wrong key is then
    /// reported at once, not when the first password is needed. The first call marks the store.
    pub async fn check(&self, store: &StoreHandle) -> Result<()> {
        let failed = |source| Error::internal("checking the encryption key", source);
        let name = CollectionName::new("sealing").map_err(failed)?;
        let key = Key::new("check").map_err(failed)?;
        let place = Place::new("sealing", "check", "value");
        let indexes = Vec::new();
        let spec = CollectionSpec {
            name: name.clone(),
            indexes,
        };
        store.define(spec).await.map_err(failed)?;
        let mark = match store.get(&name, &key).await.map_err(failed)? {
            Some(record) => {
                let sealed: Sealed = record.value.decode().map_err(failed)?;
                self.open(&place, &sealed)?;
                self.rewrap(&place, &sealed)?
                    .map(|sealed| (sealed, PutMode::Match(record.etag)))
            }
            None => Some((self.seal(&place, &Secret::new("freehold")), PutMode::Create)),
        };
        let Some((sealed, mode)) = mark else {
            return Ok(());
        };
        let value = Value::encode(&sealed).map_err(failed)?;
        match store
            .apply(Batch::new().put(&name, key.clone(), value, mode))
            .await
        {
            Ok(_) => Ok(()),
            // Another server was faster; what it wrote must open here, too.
            Err(error) if error.is_conflict() => {
                let record = store.get(&name, &key).await.map_err(failed)?;
                let record = record.ok_or_else(damaged)?;
                let sealed: Sealed = record.value.decode().map_err(failed)?;
                self.open(&place, &sealed).map(drop)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn wrap(&self, place: &Place, data_key: &KeyBytes) -> String {
        let key = &self.keys[&self.current];
        self.encrypt(key, &key_aad(&self.current, place), data_key.as_ref())
    }

    fn unwrap_key(&self, place: &Place, sealed: &Sealed) -> Result<KeyBytes> {
        let key = self.keys.get(&sealed.key_id).ok_or_else(|| {
            let message = format!(
                "this secret was sealed with the encryption key {}, but this server has {}",
                sealed.key_id,
                self.keys.keys().cloned().collect::<Vec<_>>().join(", ")
            );
            Error::new(Code::FailedPrecondition, message).hint(
                "Start the server with the key that belongs to this store; after a change of keys \
                 name the old one as a previous key until everything is wrapped anew.",
            )
        })?;
        let bytes = decrypt(key, &key_aad(&sealed.key_id, place), &sealed.wrapped_key);
        let bytes = bytes.ok_or_else(damaged)?;
        let mut data_key = Zeroizing::new([0; 32]);
        if bytes.len() != data_key.len() {
            return Err(damaged());
        }
        data_key.copy_from_slice(&bytes);
        Ok(data_key)
    }

    fn encrypt(&self, key: &LessSafeKey, aad: &str, plain: &[u8]) -> String {
        let mut nonce = [0; NONCE_LEN];
        self.entropy.fill(&mut nonce);
        let mut bytes = plain.to_vec();
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut bytes,
            )
            .expect("AES-GCM seals any text that fits into memory");
        STANDARD.encode([&nonce, bytes.as_slice(), tag.as_ref()].concat())
    }
}

fn decrypt(key: &LessSafeKey, aad: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let plain = key.open_in_place(nonce, Aad::from(aad), sealed).ok()?;
    Some(Zeroizing::new(plain.to_vec()))
}

fn secret_aad(place: &Place) -> String {
    format!("freehold secret 1\0{}", place.0)
}

fn key_aad(key_id: &str, place: &Place) -> String {
    format!("freehold data key 1\0{key_id}\0{}", place.0)
}

fn cipher(key: &KeyBytes) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("an AES-256 key has 32 bytes");
    LessSafeKey::new(key)
}

/// Says which key it is without helping to find it: the key itself is 256 random bits.
fn key_id(key: &KeyBytes) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"freehold key id 1\0");
    context.update(key.as_ref());
    hex::encode(&context.finish().as_ref()[..8])
}

fn damaged() -> Error {
    Error::new(
        Code::Internal,
        "a sealed secret does not open: it was changed, or moved from another record",
    )
    .hint("Restore the record from a backup, or rotate the credential so that a new one is sealed.")
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
