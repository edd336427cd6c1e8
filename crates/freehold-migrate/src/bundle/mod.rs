//! The bundle: one immutable, content-addressed archive of a migrations folder.
//!
//! A bundle is what is uploaded, promoted and run, so the same folder must give the same bundle
//! everywhere. Its address is the SHA-256 of the *content*: the sorted list of files with their sizes
//! and digests, and the engine they are for. It depends neither on the compression nor on the version
//! that packed it, and there are no times, owners or modes in it.
//!
//! The archive is a gzip-compressed tar: `freehold-bundle.json` (the [`Manifest`]) first, then the
//! files under `migrations/`. Opening trusts nothing: it bounds what it reads ([`Limits`]), refuses
//! anything but plain files with decent names, and compares every byte with the manifest.

mod archive;
mod folder;

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use freehold_model::BundleDigest;
use serde::{Deserialize, Serialize};

use crate::{Dialect, Refusal, Settings};
pub use folder::{Packed, Project};

/// An opened bundle: the files, verified.
#[derive(Debug, Clone)]
pub struct Bundle {
    dialect: Dialect,
    manifest: Manifest,
    digest: BundleDigest,
    files: BTreeMap<String, Vec<u8>>,
}

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Which program packed it, e.g. `freehold 0.1.0`. Not part of the address.
    pub created_by: String,
    pub content: Content,
}

/// What the bundle's address is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Content {
    /// Grows when the meaning of a bundle changes.
    pub format: u32,
    /// Whose SQL the scripts are: a [`Dialect`]'s word.
    pub engine: String,
    /// Sorted by path, no path twice.
    pub files: Vec<ManifestFile>,
    /// The project's; absent where it says nothing.
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub settings: Settings,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestFile {
    /// Relative to the folder, `/` separated.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// How much a bundle may hold. Beyond a limit it is refused while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub archive_bytes: u64,
    pub files: usize,
    pub file_bytes: u64,
    pub total_bytes: u64,
    /// Unpacked bytes per packed byte, once more than 16 MiB are unpacked.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 128 << 20,
            files: 20_000,
            file_bytes: 256 << 20,
            total_bytes: 512 << 20,
            ratio: 400,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// Files whose names, places or settings are wrong: all of them.
    #[error("{}", join(.0))]
    Refused(Vec<Refusal>),
    #[error("the folder {path} holds no migrations; name them like V1__create_orders.sql")]
    Empty { path: String },
    #[error("the bundle is too large: {what}")]
    TooLarge { what: String },
    #[error("the bundle is not valid: {reason}")]
    Invalid { reason: String },
    #[error("the bundle is {found}, not {expected}")]
    OtherDigest {
        expected: BundleDigest,
        found: BundleDigest,
    },
}

fn join(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

const FORMAT: u32 = 1;

impl Bundle {
    /// A bundle of the given files for PostgreSQL; see [`Bundle::from_files_for`].
    ///
    /// # Errors
    /// A path that is no decent name, or that stands there twice.
    pub fn from_files<P, B>(files: impl IntoIterator<Item = (P, B)>) -> Result<Self, BundleError>
    where
        P: Into<String>,
        B: Into<Vec<u8>>,
    {
        Self::from_files_for(Dialect::Postgresql, files)
    }

    /// A bundle of the given files, by their paths relative to the folder.
    ///
    /// # Errors
    /// A path that is no decent name, or that stands there twice.
    pub fn from_files_for<P, B>(
        dialect: Dialect,
        files: impl IntoIterator<Item = (P, B)>,
    ) -> Result<Self, BundleError>
    where
        P: Into<String>,
        B: Into<Vec<u8>>,
    {
        Self::from_files_with(dialect, Settings::default(), files)
    }

    /// The same for a project that has settings.
    ///
    /// # Errors
    /// A path that is no decent name, or that stands there twice.
    pub fn from_files_with<P, B>(
        dialect: Dialect,
        settings: Settings,
        files: impl IntoIterator<Item = (P, B)>,
    ) -> Result<Self, BundleError>
    where
        P: Into<String>,
        B: Into<Vec<u8>>,
    {
        let mut by_path = BTreeMap::new();
        for (path, bytes) in files {
            let path = path.into();
            archive::check_path(&path)?;
            if by_path.insert(path.clone(), bytes.into()).is_some() {
                return Err(archive::invalid(format!("{path} stands in it twice")));
            }
        }
        let manifest = Manifest {
            created_by: concat!("freehold ", env!("CARGO_PKG_VERSION")).to_owned(),
            content: Content {
                format: FORMAT,
                engine: dialect.as_str().to_owned(),
                files: by_path
                    .iter()
                    .map(|(path, bytes)| describe(path, bytes))
                    .collect(),
                settings,
            },
        };
        Ok(Self {
            dialect,
            digest: manifest.content.digest(),
            manifest,
            files: by_path,
        })
    }

    /// The bundle's address.
    pub fn digest(&self) -> &BundleDigest {
        &self.digest
    }

    /// Whose SQL the scripts are.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn settings(&self) -> &Settings {
        &self.manifest.content.settings
    }

    /// The files, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
    }

    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// Finds everything that would be refused before running, whatever the database holds: names,
    /// duplicates, encodings, scripts that cannot be cut or that mix transactions.
    pub fn check(&self) -> Vec<Refusal> {
        match crate::Migrations::resolve(self) {
            Err(refusals) => refusals,
            Ok(migrations) => migrations
                .every()
                .filter_map(|migration| migration.script().err())
                .flatten()
                .collect(),
        }
    }
}

impl Content {
    /// The SHA-256 of this value as JSON, fields in the order of the type.
    pub fn digest(&self) -> BundleDigest {
        let json = serde_json::to_vec(self).expect("a plain struct has a JSON form");
        BundleDigest::from_sha256(&sha256(&json))
    }
}

fn describe(path: &str, bytes: &[u8]) -> ManifestFile {
    ManifestFile {
        path: path.to_owned(),
        size: bytes.len() as u64,
        sha256: hex::encode(sha256(bytes)),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}
