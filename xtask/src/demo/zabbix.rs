//! Zabbix's schema as SQL, from its Debian package: downloaded, not installed, and kept unpacked in
//! the cache for the next demo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, cache, command};

const PACKAGE: &str = "zabbix-server-pgsql";
/// Where the package's files lie in the cache, and in it the folder that holds the SQL.
const UNPACKED: &str = "unpacked";

/// The folder that holds `schema.sql.gz` and the others.
pub(super) fn unpacked() -> Result<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    let kept = cache::install_dir(is_root).join("zabbix");
    let sql = kept.join(UNPACKED).join("usr/share").join(PACKAGE);
    if sql.join("data.sql.gz").is_file() {
        return Ok(sql);
    }
    let package = package(&kept, is_root)?;
    // It appears under its name by one rename, so half a package is never taken for one.
    let staging = staging(&kept)?;
    let files = staging.path().join(UNPACKED);
    command::capture(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&files))?;
    let _ = fs::remove_dir_all(kept.join(UNPACKED));
    fs::rename(&files, kept.join(UNPACKED))
        .map_err(|error| format!("cannot keep what the package holds: {error}"))?;
    if sql.join("data.sql.gz").is_file() {
        Ok(sql)
    } else {
        Err(format!("{} holds no data.sql.gz", package.display()))
    }
}

/// The package's file: from the cache, or downloaded into it.
fn package(kept: &Path, is_root: bool) -> Result<PathBuf> {
    if let Some(file) = package_in(kept) {
        return Ok(file);
    }
    if command::find("apt-get").is_none() || command::find("dpkg-deb").is_none() {
        return Err("this is no Debian".to_owned());
    }
    fs::create_dir_all(kept).map_err(|error| format!("cannot make {}: {error}", kept.display()))?;
    let beside = staging(kept)?;
    let apt = |words: &[&str]| {
        let limits = [
            "-o",
            "Acquire::http::Timeout=20",
            "-o",
            "Acquire::Retries=1",
        ];
        command::capture(
            Command::new("apt-get")
                .args(limits)
                .args(words)
                .current_dir(beside.path()),
        )
    };
    if apt(&["download", "--quiet", PACKAGE]).is_err() {
        if is_root {
            apt(&["update", "--quiet"])?;
        }
        apt(&["download", "--quiet", PACKAGE])?;
    }
    let file = package_in(beside.path()).ok_or("apt-get downloaded nothing")?;
    let name = file.file_name().ok_or("the package has no name")?;
    let under = kept.join(name);
    fs::rename(&file, &under).map_err(|error| format!("cannot keep the package: {error}"))?;
    Ok(under)
}

fn staging(kept: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(kept)
        .map_err(|error| format!("cannot write to {}: {error}", kept.display()))
}

fn package_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let mut files = entries.flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|suffix| suffix == "deb"))
}
