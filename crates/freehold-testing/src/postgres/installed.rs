//! Which PostgreSQL servers this machine has: Debian's, and the test-only majors that
//! `cargo xtask test` puts into the cache directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cache;

const DEBIAN: &str = "/usr/lib/postgresql";

#[derive(Debug, Clone)]
pub(super) struct Installation {
    pub(super) major: u32,
    pub(super) bin: PathBuf,
    pub(super) debian: bool,
}

/// All installed majors, oldest first. Where both exist Debian's wins: it is what people run.
pub(super) fn all() -> Vec<Installation> {
    let mut found = BTreeMap::new();
    for root in cache::search_dirs(rustix::process::geteuid().is_root()) {
        collect(&root.join("postgresql"), false, &mut found);
    }
    collect(Path::new(DEBIAN), true, &mut found);
    found.into_values().collect()
}

pub(super) fn newest_debian() -> Installation {
    all()
        .into_iter()
        .rfind(|installed| installed.debian)
        .unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server is installed under {DEBIAN}; \
             `cargo xtask test` (or `cargo xtask install`) installs it"
            )
        })
}

pub(super) fn of_major(major: u32) -> Installation {
    let all = all();
    let majors: Vec<u32> = all.iter().map(|installed| installed.major).collect();
    all.into_iter()
        .find(|installed| installed.major == major)
        .unwrap_or_else(|| {
            panic!(
                "PostgreSQL {major} is not installed (installed: {majors:?}); \
             `cargo xtask test` (or `cargo xtask install`) installs it"
            )
        })
}

fn collect(root: &Path, debian: bool, found: &mut BTreeMap<u32, Installation>) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let Some(major) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let bin = entry.path().join("bin");
        if bin.join("postgres").exists() && bin.join("initdb").exists() {
            found.insert(major, Installation { major, bin, debian });
        }
    }
}
