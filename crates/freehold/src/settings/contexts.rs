//! What `freehold login` remembers: servers, tokens, the usual environment and team.
//!
//! One file, `contexts.toml`, readable by its owner only and replaced as a whole, so that a crash
//! leaves the old one or the new one.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use freehold_model::{Name, Secret};
use serde::{Deserialize, Serialize};

use super::Directories;
use crate::failure::{Failure, Outcome};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Name>,
    #[serde(default)]
    pub contexts: BTreeMap<Name, Context>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

impl Contexts {
    pub(crate) fn path(directories: &Directories) -> PathBuf {
        directories.config.join("contexts.toml")
    }

    pub(crate) fn load(directories: &Directories) -> Outcome<Self> {
        let path = Self::path(directories);
        let text = read_private(&path)?;
        toml::from_str(text.as_deref().unwrap_or_default()).map_err(|e| {
            // The parser's message may quote the file, which holds tokens.
            let place = e
                .span()
                .map_or(String::new(), |span| format!(" at byte {}", span.start));
            Failure::usage(format!("{} cannot be understood{place}", path.display()))
                .hint("Remove it and log in again with `freehold login`.")
        })
    }

    pub(crate) fn save(&self, directories: &Directories) -> Outcome {
        let text = toml::to_string_pretty(self)
            .map_err(|e| Failure::failed("the contexts cannot be written").because(&e))?;
        write_private(&Self::path(directories), text.as_bytes())
    }

    /// The named context, or the current one, if there is any.
    pub(crate) fn choose(&self, named: Option<&Name>) -> Outcome<Option<(&Name, &Context)>> {
        let Some(name) = named.or(self.current.as_ref()) else {
            return Ok(None);
        };
        match self.contexts.get_key_value(name) {
            Some(found) => Ok(Some(found)),
            // `freehold login --context NEW` names one that is about to be made.
            None => Ok(None),
        }
    }
}

/// Reads a file that holds a secret; `None` when there is none. A file that others can read, or
/// that belongs to somebody else, is refused rather than used.
pub(crate) fn read_private(path: &Path) -> Outcome<Option<String>> {
    let failed = |e: io::Error| Failure::on_file("cannot read", path, &e);
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
        let message = format!("{} holds secrets and others can read it", path.display());
        let repair = format!("`chmod 600 {}`", path.display());
        return Err(Failure::usage(message).hint(repair));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && user != 0 {
        let message = format!("{} belongs to another user", path.display());
        return Err(Failure::usage(message));
    }
    let mut text = String::new();
    io::Read::read_to_string(&mut file, &mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes a file that only its owner can read, all of it or nothing.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Outcome {
    let failed = |e: io::Error| Failure::on_file("cannot write", path, &e);
    let directory = path.parent().unwrap_or(Path::new("."));
    if !directory.as_os_str().is_empty() && !directory.exists() {
        fs::create_dir_all(directory).map_err(failed)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let write = || {
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&new);
        failed(e)
    })
}
