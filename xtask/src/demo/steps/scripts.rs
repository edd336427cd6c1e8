//! The migrations folder: a real application's schema, or one of ours where that cannot be had.
//!
//! Zabbix's Debian package carries its schema as SQL. It is downloaded, not installed, and kept in
//! the cache for the next demo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::World;
use crate::{Result, cache, command};

const PACKAGE: &str = "zabbix-server-pgsql";
const FILES: &[(&str, &str)] = &[
    ("schema", "V1__schema.sql"),
    ("images", "V2__images.sql"),
    ("data", "V3__data.sql"),
];

/// What lies in the folder, seen from what differs between the two applications.
#[derive(Debug)]
pub(super) struct Scripts {
    /// Scripts of ours that come after the application's own.
    pub(super) ours: &'static str,
    /// A table that the scripts fill.
    pub(super) table: &'static str,
    /// How a line begins that inserts one row into it, where each row has such a line.
    pub(super) insert: Option<&'static str>,
    /// The script of ours that gets a mistake: the right words in it, and the wrong ones.
    pub(super) mistaken: &'static str,
    pub(super) slip: (&'static str, &'static str),
}

const ZABBIX: Scripts = Scripts {
    ours: "samples/demo/zabbix",
    table: "items",
    insert: Some("INSERT INTO items "),
    mistaken: "V4__ownership.sql",
    slip: ("REFERENCES hosts", "REFERENCES host"),
};

const OWN: Scripts = Scripts {
    ours: "samples/demo/own",
    table: "product",
    insert: None,
    mistaken: "V10__ownership.sql",
    slip: ("REFERENCES product", "REFERENCES produkt"),
};

/// Fills the folder `migrations` and says with what.
pub(super) fn prepare(world: &World) -> Result {
    let folder = folder(world);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make a folder: {error}"))?;
    match zabbix(&folder) {
        Ok(version) => {
            println!("     Zabbix {version}, from its Debian package {PACKAGE} (not installed):");
            Ok(())
        }
        Err(error) => {
            println!("     Zabbix's package cannot be had here ({error});");
            println!(
                "     a sample of our own takes its place, an online shop with its warehouse:"
            );
            for (_, script) in FILES {
                let _ = fs::remove_file(folder.join(script));
            }
            copy_scripts(&world.source("samples/migrations"), &folder)
        }
    }
}

/// Which of the two it became.
pub(super) fn prepared(world: &World) -> Scripts {
    if folder(world).join(FILES[0].1).exists() {
        ZABBIX
    } else {
        OWN
    }
}

pub(super) fn folder(world: &World) -> PathBuf {
    world.path().join("migrations")
}

/// Copies a folder's scripts.
pub(super) fn copy_scripts(from: &Path, into: &Path) -> Result {
    let entries =
        fs::read_dir(from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
    for entry in entries.flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|suffix| suffix == "sql")
        {
            fs::copy(entry.path(), into.join(entry.file_name()))
                .map_err(|error| format!("cannot copy {}: {error}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// How many lines of all scripts begin with a text.
pub(super) fn lines_with(folder: &Path, beginning: &str) -> Result<usize> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("cannot read the scripts: {error}"))?;
    let mut count = 0;
    for entry in entries.flatten() {
        let text =
            fs::read(entry.path()).map_err(|error| format!("cannot read a script: {error}"))?;
        count += text
            .split(|byte| *byte == b'\n')
            .filter(|line| line.starts_with(beginning.as_bytes()))
            .count();
    }
    Ok(count)
}

/// Cuts Zabbix's SQL into versioned scripts and returns the package's version.
fn zabbix(folder: &Path) -> Result<String> {
    let package = package()?;
    let unpacked = tempfile::tempdir().map_err(|error| format!("no room to unpack: {error}"))?;
    command::capture(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(&package)
            .arg(unpacked.path()),
    )?;
    let sql = unpacked.path().join("usr/share").join(PACKAGE);
    for (source, script) in FILES {
        let output = Command::new("gzip")
            .arg("-dc")
            .arg(sql.join(format!("{source}.sql.gz")))
            .output()
            .map_err(|error| format!("cannot run gzip: {error}"))?;
        if !output.status.success() || output.stdout.is_empty() {
            return Err(format!("the package holds no {source}.sql.gz"));
        }
        fs::write(folder.join(script), output.stdout)
            .map_err(|error| format!("cannot write {script}: {error}"))?;
    }
    let version = command::capture(
        Command::new("dpkg-deb")
            .arg("-f")
            .arg(&package)
            .arg("Version"),
    )?;
    Ok(version.trim().to_owned())
}

/// The package's file: from the cache, or downloaded into it.
fn package() -> Result<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    let kept = cache::install_dir(is_root).join("zabbix");
    if let Some(file) = package_in(&kept) {
        return Ok(file);
    }
    if command::find("apt-get").is_none() || command::find("dpkg-deb").is_none() {
        return Err("this is no Debian".to_owned());
    }
    fs::create_dir_all(&kept)
        .map_err(|error| format!("cannot make {}: {error}", kept.display()))?;
    // It appears in the cache by one rename, so half a download is never taken for a package.
    let beside = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(&kept)
        .map_err(|error| format!("cannot write to {}: {error}", kept.display()))?;
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

fn package_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let mut files = entries.flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|suffix| suffix == "deb"))
}
