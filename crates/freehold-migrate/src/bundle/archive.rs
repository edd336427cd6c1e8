//! The archive's bytes: written one way, read with suspicion.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use flate2::{Compression, GzBuilder, read::GzDecoder};
use freehold_model::BundleDigest;
use tar::{Archive, EntryType, Header};

use super::{Bundle, BundleError, FORMAT, Limits, Manifest, describe};
use crate::Dialect;

const MANIFEST: &str = "freehold-bundle.json";
const FOLDER: &str = "migrations/";
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
const PATH_BYTES_MAX: usize = 1000;
/// So small a bundle is no bomb, however well it compresses.
const RATIO_FREE_BYTES: u64 = 16 << 20;

impl Bundle {
    /// The archive: the same bytes for the same bundle and version of Freehold.
    pub fn to_archive(&self) -> Vec<u8> {
        self.write()
            .expect("writing to memory does not fail, and the paths were checked")
    }

    fn write(&self) -> io::Result<Vec<u8>> {
        let gzip = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::new(6));
        let mut tar = tar::Builder::new(gzip);
        let manifest = serde_json::to_vec_pretty(&self.manifest).map_err(io::Error::other)?;
        append(&mut tar, MANIFEST, &manifest)?;
        for (path, bytes) in &self.files {
            append(&mut tar, &format!("{FOLDER}{path}"), bytes)?;
        }
        tar.into_inner()?.finish()
    }

    /// Reads an archive and verifies every file against the manifest.
    ///
    /// # Errors
    /// Anything that [`Bundle::to_archive`] would not have written, or that is beyond the limits.
    pub fn open(archive: &[u8]) -> Result<Self, BundleError> {
        Self::open_within(archive, Limits::default())
    }

    /// As [`Bundle::open`], and the bundle must be the one with this address.
    pub fn open_expecting(archive: &[u8], expected: &BundleDigest) -> Result<Self, BundleError> {
        let bundle = Self::open(archive)?;
        if bundle.digest == *expected {
            Ok(bundle)
        } else {
            Err(BundleError::OtherDigest {
                expected: expected.clone(),
                found: bundle.digest,
            })
        }
    }

    pub fn open_within(archive: &[u8], limits: Limits) -> Result<Self, BundleError> {
        if archive.len() as u64 > limits.archive_bytes {
            return Err(too_large(format!(
                "its archive has {} bytes, {} are allowed",
                archive.len(),
                limits.archive_bytes
            )));
        }
        let unpacked_max = limits
            .total_bytes
            .min((archive.len() as u64 * limits.ratio).max(RATIO_FREE_BYTES));
        let mut budget = Budget {
            inner: GzDecoder::new(archive),
            // Headers, padding and the manifest come on top of the files.
            left: unpacked_max + MANIFEST_BYTES_MAX + 2048 * (limits.files as u64 + 2),
            exceeded: false,
        };
        let read = read_entries(&mut budget, limits, unpacked_max);
        if budget.exceeded {
            return Err(too_large(format!(
                "it unpacks to more than {unpacked_max} bytes"
            )));
        }
        let (manifest, files) = read?;
        verify(manifest, files)
    }
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

/// Reads no more than was granted, and remembers that it stopped.
struct Budget<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::Error::other("the archive unpacks to too much"));
            }
        }
        Ok(read)
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn read_entries(
    reader: &mut impl Read,
    limits: Limits,
    unpacked_max: u64,
) -> Result<(Manifest, Files), BundleError> {
    let mut archive = Archive::new(&mut *reader);
    let mut manifest = None;
    let mut files = Files::new();
    let mut total = 0;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if entry.header().entry_type() != EntryType::Regular {
            return Err(invalid(
                "it holds something other than plain files".to_owned(),
            ));
        }
        let path = entry.path_bytes().into_owned();
        let path = String::from_utf8(path)
            .map_err(|_| invalid("a file's name is not UTF-8".to_owned()))?;
        let size = entry.size();
        if path == MANIFEST && manifest.is_none() && files.is_empty() {
            let bytes = read_file(&mut entry, size, MANIFEST_BYTES_MAX, &path)?;
            manifest = Some(
                serde_json::from_slice(&bytes)
                    .map_err(|error| invalid(format!("its manifest cannot be read: {error}")))?,
            );
            continue;
        }
        let Some(path) = path.strip_prefix(FOLDER) else {
            return Err(invalid(format!("{path:?} does not belong into it")));
        };
        check_path(path)?;
        if files.len() >= limits.files {
            return Err(too_large(format!(
                "it holds more than {} files",
                limits.files
            )));
        }
        let bytes = read_file(&mut entry, size, limits.file_bytes, path)?;
        total += bytes.len() as u64;
        if total > unpacked_max {
            return Err(too_large(format!(
                "it unpacks to more than {unpacked_max} bytes"
            )));
        }
        if files.insert(path.to_owned(), bytes).is_some() {
            return Err(invalid(format!("{path} stands in it twice")));
        }
    }
    // Only at its very end does gzip say whether the bytes arrived whole.
    io::copy(reader, &mut io::sink()).map_err(broken)?;
    let manifest = manifest.ok_or_else(|| invalid("it has no manifest".to_owned()))?;
    Ok((manifest, files))
}

fn read_file(
    entry: &mut impl Read,
    size: u64,
    size_max: u64,
    path: &str,
) -> Result<Vec<u8>, BundleError> {
    if size > size_max {
        return Err(too_large(format!(
            "{path} has {size} bytes, {size_max} are allowed"
        )));
    }
    let mut bytes = Vec::new();
    entry
        .take(size_max)
        .read_to_end(&mut bytes)
        .map_err(broken)?;
    Ok(bytes)
}

fn verify(manifest: Manifest, files: Files) -> Result<Bundle, BundleError> {
    let content = &manifest.content;
    if content.format != FORMAT {
        return Err(invalid(format!(
            "its format is {}, this version of Freehold knows {FORMAT}",
            content.format
        )));
    }
    let dialect = content
        .engine
        .parse()
        .ok()
        .filter(|dialect: &Dialect| dialect.as_str() == content.engine)
        .ok_or_else(|| {
            invalid(format!(
                "it is for {:?}, which this version of Freehold cannot migrate",
                content.engine
            ))
        })?;
    let described: Vec<_> = files
        .iter()
        .map(|(path, bytes)| describe(path, bytes))
        .collect();
    if described != content.files {
        let culprit = described
            .iter()
            .find(|file| !content.files.contains(file))
            .or_else(|| content.files.iter().find(|file| !described.contains(file)))
            .map_or("their order", |file| file.path.as_str());
        return Err(invalid(format!(
            "its files are not those of its manifest (see {culprit})"
        )));
    }
    Ok(Bundle {
        dialect,
        digest: content.digest(),
        manifest,
        files,
    })
}

/// A decent name is relative, stays inside the folder and prints.
pub(super) fn check_path(path: &str) -> Result<(), BundleError> {
    let decent = !path.is_empty()
        && path.len() <= PATH_BYTES_MAX
        && !path.contains('\\')
        && !path.chars().any(char::is_control)
        && path
            .split('/')
            .all(|component| !matches!(component, "" | "." | ".."));
    if decent {
        Ok(())
    } else {
        Err(invalid(format!(
            "{path:?} is no name for a file in a bundle"
        )))
    }
}

pub(super) fn invalid(reason: String) -> BundleError {
    BundleError::Invalid { reason }
}

fn too_large(what: String) -> BundleError {
    BundleError::TooLarge { what }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn broken(error: io::Error) -> BundleError {
    invalid(format!("the archive is broken: {error}"))
}
