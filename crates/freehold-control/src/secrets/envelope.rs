//! Envelope encryption.

use std::sync::Arc;

use freehold_model::{Entropy, Result, Secret};
use serde::{Deserialize, Serialize};

use super::KeySource;

/// Where a sealed secret belongs: it opens nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// The collection, the record's key, and the field that holds it.
    pub fn new(collection: &str, key: &str, field: &str) -> Self {
        Self(format!("{collection}\0{key}\0{field}"))
    }
}

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    key_id: String,
    wrapped_key: String,
    ciphertext: String,
}

/// Seals and opens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sealer {
    _entropy: Arc<dyn Entropy>,
}

impl Sealer {
    /// `current` seals; it and `previous` open.
    pub async fn load(
        _current: &KeySource,
        _previous: &[KeySource],
        _entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        unimplemented!()
    }

    /// The id of the key that seals.
    pub fn key_id(&self) -> &str {
        unimplemented!()
    }

    pub fn seal(&self, _place: &Place, _secret: &Secret) -> Sealed {
        unimplemented!()
    }

    pub fn open(&self, _place: &Place, _sealed: &Sealed) -> Result<Secret> {
        unimplemented!()
    }

    /// The same secret under the current key; `None` when it is already.
    pub fn rewrap(&self, _place: &Place, _sealed: &Sealed) -> Result<Option<Sealed>> {
        unimplemented!()
    }
}
