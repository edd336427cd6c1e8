//! What a directory says about itself, and what it lacks.

use std::{collections::BTreeMap, path::Path};

use super::{connect::Directory, errors::At as _, registry::Registry, survey};
use crate::{EngineError, Fault, InstanceFacts, Result};

pub(super) fn inspect(directory: &Directory) -> Result<InstanceFacts> {
    let root = &directory.root;
    let exists = root.symlink_metadata().is_ok();
    let place = if exists {
        directory.check()?;
        root.as_path()
    } else {
        parent(root)?
    };
    let disk = rustix::fs::statvfs(place)
        .map_err(std::io::Error::from)
        .at(place, "measure the disk")?;
    let identity = match Registry::open(directory) {
        Ok(registry) => Some(registry.server()?.identity()),
        Err(error) if matches!(error.fault, Fault::Missing { .. }) => None,
        Err(error) if error.fault == Fault::ReadOnly => {
            Some(Registry::open_frozen(directory)?.server()?.identity())
        }
        Err(error) => return Err(error),
    };
    let folders = if exists {
        survey::folders(directory)?
    } else {
        Vec::new()
    };
    let settings = BTreeMap::from([
        ("directory".to_owned(), root.display().to_string()),
        (
            "disk_free_bytes".to_owned(),
            disk.f_bavail.saturating_mul(disk.f_frsize).to_string(),
        ),
        (
            "disk_bytes".to_owned(),
            disk.f_blocks.saturating_mul(disk.f_frsize).to_string(),
        ),
    ]);
    Ok(InstanceFacts {
        version: rusqlite::version().to_owned(),
        version_major: 3,
        identity,
        databases: u32::try_from(folders.len()).unwrap_or(u32::MAX),
        size_bytes: folders.iter().map(|folder| folder.size_bytes).sum(),
        connections: 0,
        // A file counts nobody who opens it.
        connections_max: None,
        read_only: disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        missing_rights: Vec::new(),
        settings,
        extensions_available: Vec::new(),
    })
}

/// A directory that is not there can be made when its parent is.
fn parent(root: &Path) -> Result<&Path> {
    let parent = match root.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => root,
    };
    if parent.is_dir() {
        return Ok(parent);
    }
    let detail = format!(
        "neither {} nor the folder that it should be made in is there; is its disk mounted?",
        root.display()
    );
    Err(EngineError::new(
        Fault::Unreachable { detail },
        "look for the directory",
    ))
}
