//! A binding as a directory of files, one per key, as Kubernetes mounts a Secret:
//!
//! ```text
//! orders/password  -> ..data/password
//! orders/..data    -> ..v2
//! orders/..v2/password
//! ```
//!
//! All files change at once, when `..data` is pointed at a new folder by a rename. A program that
//! resolves `..data` once reads files that belong together. Whoever is killed on the way leaves the
//! old state or the new one, and folders that the next call clears away.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use freehold_api::BindingTarget;

use super::Forms as _;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_new";
const LOCK: &str = "..lock";
const VERSION: &str = "..v";

/// Writes one file per key of [`Forms::keys`](super::Forms::keys) below `directory`, which is made when it is not
/// there: folders 0700, files 0600. Blocks while another process writes the same directory.
///
/// Fails with `AlreadyExists` when a file that is not ours has the name of a key.
pub fn write_directory(directory: &Path, binding: &BindingTarget) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let lock = private()
        .create(true)
        .truncate(false)
        .open(directory.join(LOCK))?;
    lock.lock()?;
    let keys = binding.keys();
    for key in keys.keys() {
        refuse_foreign(&directory.join(key))?;
    }

    let version = new_version(directory)?;
    for (key, value) in &keys {
        let mut file = private()
            .create_new(true)
            .open(directory.join(&version).join(key))?;
        file.write_all(value.expose().as_bytes())?;
    }
    replace_link(directory, &version)?;

    for key in keys.keys() {
        match symlink(Path::new(DATA).join(key), directory.join(key)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
    }
    clear(directory, &version, |name| keys.contains_key(name))
}

fn private() -> fs::OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

/// A link of ours may stand there, nothing else.
fn refuse_foreign(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) if is_ours(path) => Ok(()),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AlreadyExists,
            format!("{} is there and was not made by Freehold", path.display()),
        )),
    }
}

fn is_ours(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.starts_with(DATA))
}

/// A new folder with the next number.
fn new_version(directory: &Path) -> io::Result<PathBuf> {
    let current = fs::read_link(directory.join(DATA)).unwrap_or_default();
    let current = current.to_str().and_then(|name| name.strip_prefix(VERSION));
    let mut number: u64 = current.and_then(|number| number.parse().ok()).unwrap_or(0);
    loop {
        number = number.wrapping_add(1);
        let name = PathBuf::from(format!("{VERSION}{number}"));
        match DirBuilder::new().mode(0o700).create(directory.join(&name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return created.map(|()| name),
        }
    }
}

fn replace_link(directory: &Path, version: &Path) -> io::Result<()> {
    let draft = directory.join(DATA_NEW);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(version, &draft)?;
    fs::rename(&draft, directory.join(DATA))
}

/// Removes links to keys that are no more, and the folders of other versions.
fn clear(directory: &Path, version: &Path, is_key: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let is_version = name
            .strip_prefix(VERSION)
            .is_some_and(|number| number.parse::<u64>().is_ok());
        if is_version && Path::new(&*name) != version {
            fs::remove_dir_all(path)?;
        } else if is_ours(&path) && !is_key(&name) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
