//! Zabbix's schema as SQL, from its Debian packages: downloaded, not installed, and kept unpacked in
//! the cache for the next demo. There is one package for each engine; their folders lie side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, cache, command};

const PACKAGE: &str = "zabbix-server-pgsql";
/// Those for other engines.
const OTHERS: &[&str] = &["zabbix-server-mysql", "zabbix-proxy-sqlite3"];
/// Where the packages' files lie in the cache, and in it the folders that hold the SQL.
const UNPACKED: &str = "unpacked";

/// The folder that holds `schema.sql.gz` and the others for PostgreSQL. The demo looks beside it for
/// the other engines' and has a sample where one cannot be had.
pub(super) fn unpacked() -> Result<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    let kept = cache::install_dir(is_root).join("zabbix");
    let folder = unpack(&kept, PACKAGE, "data.sql.gz", is_root)?;
    for package in OTHERS {
        if let Err(error) = unpack(&kept, package, "schema.sql.gz", is_root) {
            println!("{package} cannot be had here ({error}); a sample takes its place");
        }
    }
    Ok(folder)
}

/// The folder of one package's SQL, which holds `proof` when it is whole.
fn unpack(kept: &Path, name: &str, proof: &str, is_root: bool) -> Result<PathBuf> {
    let shared = kept.join(UNPACKED).join("usr/share");
    let sql = shared.join(name);
    if sql.join(proof).is_file() {
        return Ok(sql);
    }
    let package = package(kept, name, is_root)?;
    // It appears under its name by one rename, so half a package is never taken for one.
    let staging = staging(kept)?;
    command::capture(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(&package)
            .arg(staging.path()),
    )?;
    let _ = fs::remove_dir_all(&sql);
    fs::create_dir_all(&shared)
        .and_then(|()| fs::rename(staging.path().join("usr/share").join(name), &sql))
        .map_err(|error| format!("cannot keep what the package holds: {error}"))?;
    if sql.join(proof).is_file() {
        Ok(sql)
    } else {
        Err(format!("{} holds no {proof}", package.display()))
    }
}

/// The package's file: from the cache, or downloaded into it.
fn package(kept: &Path, name: &str, is_root: bool) -> Result<PathBuf> {
    if let Some(file) = package_in(kept, name) {
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
    if apt(&["download", "--quiet", name]).is_err() {
        if is_root {
            apt(&["update", "--quiet"])?;
        }
        apt(&["download", "--quiet", name])?;
    }
    let file = package_in(beside.path(), name).ok_or("apt-get downloaded nothing")?;
    let under = kept.join(file.file_name().ok_or("the package has no name")?);
    fs::rename(&file, &under).map_err(|error| format!("cannot keep the package: {error}"))?;
    Ok(under)
}

fn staging(kept: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(kept)
        .map_err(|error| format!("cannot write to {}: {error}", kept.display()))
}

/// A package's file is called `NAME_VERSION_ARCHITECTURE.deb`.
fn package_in(folder: &Path, name: &str) -> Option<PathBuf> {
    let is_it = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str());
        file.and_then(|file| file.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('_'))
            && path.extension().is_some_and(|suffix| suffix == "deb")
    };
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_package_is_not_taken_for_another() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "zabbix-server-mysql_1%3a6.0_amd64.deb",
            "zabbix-server_1.deb",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = package_in(folder.path(), "zabbix-server").unwrap();
        assert!(found.ends_with("zabbix-server_1.deb"), "{found:?}");
        assert_eq!(package_in(folder.path(), PACKAGE), None);
    }
}
