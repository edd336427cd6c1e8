//! Where `cargo xtask test` keeps servers that Debian does not carry, and where tests look for them.
//!
//! The same file is compiled into xtask, so that the two cannot disagree. Root uses a directory
//! that the `postgres` user can reach; a server refuses to run as root, and `/root` is closed to it.

use std::env;
use std::path::PathBuf;

/// Overrides every default below.
pub(crate) const VARIABLE: &str = "FREEHOLD_TESTING_CACHE";

/// The directory that an installation by this user writes to.
pub(crate) fn install_dir(is_root: bool) -> PathBuf {
    if let Some(dir) = env::var_os(VARIABLE) {
        return PathBuf::from(dir);
    }
    if is_root { system_dir() } else { user_dir() }
}

/// The directories in which an installed server may be, best last.
pub(crate) fn search_dirs(is_root: bool) -> Vec<PathBuf> {
    match env::var_os(VARIABLE) {
        Some(dir) => vec![PathBuf::from(dir)],
        None if is_root => vec![system_dir()],
        None => vec![system_dir(), user_dir()],
    }
}

fn system_dir() -> PathBuf {
    PathBuf::from("/var/cache/freehold-testing")
}

fn user_dir() -> PathBuf {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(env::temp_dir)
        .join("freehold-testing")
}
