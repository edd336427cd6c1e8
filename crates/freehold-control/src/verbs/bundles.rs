//! Bundles: uploaded before the operation that uses them exists, kept by their content's digest.
//!
//! The bytes are kept in the store in pieces, so that every server of the control plane has them
//! and a backup of the store is complete. Pieces first, the record that names them last: what was
//! interrupted is not there.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use freehold_api::BundleAccepted;
use freehold_migrate::Bundle;
use freehold_model::{BundleDigest, Code, Error, Result};
use freehold_store::{Batch, Key, PutMode, Value};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Caller,
    authorize::{Action, Context},
    records::{own_collection, store_error},
    start::Control,
};

pub(crate) const BUNDLES: &str = "bundles";
pub(crate) const CHUNKS: &str = "bundle_chunks";

/// Bytes per piece, before base64.
const CHUNK_BYTES: usize = 384 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleRecord {
    bytes: u64,
    chunks: usize,
    uploaded_by: String,
    uploaded_at: Timestamp,
}

fn bundle_key(digest: &BundleDigest) -> Key {
    Key::new(digest.as_str()).expect("a digest is a key")
}

fn chunk_key(digest: &BundleDigest, number: usize) -> Key {
    Key::new(format!("{digest}/{number:08}")).expect("a digest and a number are a key")
}

impl Control {
    pub async fn bundle_put(
        &self,
        caller: &Caller,
        expected: &BundleDigest,
        bytes: Vec<u8>,
    ) -> Result<BundleAccepted> {
        match self.take_bundle(caller, expected, bytes).await {
            Ok(accepted) => Ok(accepted),
            Err(error) => Err(self
                .journal
                .refused(caller, "bundle.put", None, error)
                .await),
        }
    }

    /// A bundle is nobody's until an operation names it, so whoever may migrate anything may upload.
    fn may_upload(caller: &Caller) -> Result<()> {
        let mut refusal = None;
        for team in caller.principal.teams.keys() {
            let member = Context {
                team: Some(team.clone()),
                ..Context::default()
            };
            match Self::allow(caller, Action::Migrate, None, &member) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Some(error),
            }
        }
        match refusal {
            Some(error) => Err(error),
            None => Self::allow(caller, Action::Migrate, None, &Context::default()),
        }
    }

    async fn take_bundle(
        &self,
        caller: &Caller,
        expected: &BundleDigest,
        bytes: Vec<u8>,
    ) -> Result<BundleAccepted> {
        Self::may_upload(caller)?;
        let total = bytes.len() as u64;
        let record_key = bundle_key(expected);
        let bundles = own_collection(BUNDLES);
        let known = self
            .store
            .get(&bundles, &record_key)
            .await
            .map_err(store_error)?;
        if known.is_some() {
            return Ok(BundleAccepted {
                digest: expected.clone(),
                bytes: total,
                new: false,
            });
        }
        let (bundle, bytes) = tokio::task::spawn_blocking(move || (Bundle::open(&bytes), bytes))
            .await
            .map_err(|source| Error::internal("checking a bundle", source))?;
        let bundle = bundle.map_err(|refusal| {
            Error::invalid(format!("the bundle is refused: {refusal}"))
                .hint("Pack it with `freehold migrate apply`, which makes bundles that pass.")
        })?;
        if bundle.digest() != expected {
            return Err(Error::invalid(format!(
                "the bundle's content has the digest {}, not {expected}",
                bundle.digest()
            ))
            .hint("It was changed on its way. Upload it again."));
        }
        let refusals = bundle.check();
        if !refusals.is_empty() {
            let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            return Err(Error::invalid(format!(
                "the bundle's scripts are refused:\n{}",
                lines.join("\n")
            )));
        }
        for (number, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            let value = Value::encode(&BASE64.encode(chunk)).map_err(store_error)?;
            let chunks = own_collection(CHUNKS);
            let batch =
                Batch::new().put(&chunks, chunk_key(expected, number), value, PutMode::Upsert);
            self.store.apply(batch).await.map_err(store_error)?;
        }
        let record = BundleRecord {
            bytes: total,
            chunks: bytes.len().div_ceil(CHUNK_BYTES),
            uploaded_by: caller.subject().to_owned(),
            uploaded_at: self.clock.now(),
        };
        let mut entry = self.journal.by(caller, "bundle.put", None);
        entry.details = serde_json::json!({ "digest": expected, "bytes": total });
        let value = Value::encode(&record).map_err(store_error)?;
        let mut batch = Batch::new().put(&bundles, record_key, value, PutMode::Upsert);
        batch.writes.push(self.journal.write(&entry));
        self.store.apply(batch).await.map_err(store_error)?;
        Ok(BundleAccepted {
            digest: expected.clone(),
            bytes: total,
            new: true,
        })
    }

    /// The bytes of a bundle, as uploaded. Their digest is checked by whoever opens them.
    pub(crate) async fn bundle_bytes(&self, digest: &BundleDigest) -> Result<Vec<u8>> {
        let found = self
            .store
            .get(&own_collection(BUNDLES), &bundle_key(digest))
            .await;
        let record = found
            .map_err(store_error)?
            .ok_or_else(|| no_such_bundle(digest))?;
        let record: BundleRecord = record.value.decode().map_err(store_error)?;
        let mut bytes = Vec::with_capacity(usize::try_from(record.bytes).unwrap_or(0));
        for number in 0..record.chunks {
            let chunk = self
                .store
                .get(&own_collection(CHUNKS), &chunk_key(digest, number))
                .await;
            let chunk = chunk.map_err(store_error)?.ok_or_else(|| {
                Error::internal("reading a bundle", "a piece of it is missing in the store")
            })?;
            let text: String = chunk.value.decode().map_err(store_error)?;
            let piece = BASE64
                .decode(text)
                .map_err(|source| Error::internal("reading a bundle", source))?;
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    pub(crate) async fn bundle_exists(&self, digest: &BundleDigest) -> Result<()> {
        let found = self
            .store
            .get(&own_collection(BUNDLES), &bundle_key(digest))
            .await;
        found
            .map_err(store_error)?
            .map(|_| ())
            .ok_or_else(|| no_such_bundle(digest))
    }
}

fn no_such_bundle(digest: &BundleDigest) -> Error {
    Error::new(Code::NotFound, format!("there is no bundle {digest}"))
        .hint("Upload it first; `freehold migrate apply` does so.")
}
