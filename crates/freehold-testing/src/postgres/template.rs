//! Initialised data directories. `initdb` takes half a second, copying its result a few hundredths,
//! so it runs once per server binary, and every test process copies what it made.
//!
//! A template appears under its final name by one rename, with everything in it. A process that is
//! killed half-way leaves a directory with another name, which the next holder of the lock removes.

use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::installed::Installation;
use crate::throwaway::{Account, Area, open_lock};

/// The superuser's name in every throwaway server.
pub(super) const SUPERUSER: &str = "postgres";

/// Changes whenever what `make` does changes, so that no old template is used.
const RECIPE: u32 = 2;

/// Fast, because nobody needs the data after the machine loses power. What must survive the death
/// of the *processes* does: `synchronous_commit` stays on, so a commit is in the kernel's hands
/// before it is acknowledged. `mmap` keeps shared memory files inside the data directory, so that a
/// killed server leaves nothing in `/dev/shm`.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
synchronous_commit = on
autovacuum = off
jit = off
shared_buffers = 32MB
min_wal_size = 32MB
max_wal_size = 256MB
dynamic_shared_memory_type = mmap
password_encryption = scram-sha-256
log_destination = stderr
logging_collector = off
log_line_prefix = '%m [%p] %u@%d '
log_timezone = UTC
timezone = UTC
";

#[derive(Debug)]
pub(super) struct Template {
    data: PathBuf,
    pub(super) password: String,
}

impl Template {
    /// Finds the template of an installation, or makes it. Of many processes that need it at the
    /// same time one makes it and the others wait.
    pub(super) fn prepare(area: &Area, installed: &Installation, account: Account) -> Self {
        let key = key(installed);
        let directory = area.templates().join(&key);
        if !directory.exists() {
            let lock = open_lock(&area.templates().join(format!("{key}.lock")));
            lock.lock().expect("cannot lock the template");
            if !directory.exists() {
                make(&directory, installed, account);
            }
        }
        let password = fs::read_to_string(directory.join("password"))
            .expect("a template always has its password");
        Self {
            data: directory.join("data"),
            password,
        }
    }

    pub(super) fn copy_to(&self, data: &Path) {
        copy(&self.data, data);
    }
}

/// Copies a data directory with owners and modes. `cp` shares blocks where the file system can, and
/// leaves out the zeros of which a new log segment consists.
pub(super) fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(from)
        .arg(to)
        .output()
        .expect("cannot run cp");
    assert!(
        output.status.success(),
        "cannot copy {}: {}",
        from.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The binary's path, size and time of change: another minor version has another template.
fn key(installed: &Installation) -> String {
    let binary = installed.bin.join("postgres");
    let metadata = fs::metadata(&binary)
        .unwrap_or_else(|error| panic!("cannot look at {}: {error}", binary.display()));
    let mut hasher = DefaultHasher::new();
    (RECIPE, SETTINGS, &binary, metadata.len(), metadata.mtime()).hash(&mut hasher);
    format!("{}-{:016x}", installed.major, hasher.finish())
}

fn make(directory: &Path, installed: &Installation, account: Account) {
    let partial = directory.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir(&partial).expect("cannot make the template's directory");
    account.own(&partial);
    let password = random_hex();
    let password_file = partial.join("password");
    fs::write(&password_file, &password).expect("cannot write the template's password");
    fs::set_permissions(&password_file, Permissions::from_mode(0o600)).expect("the file is ours");
    account.own(&password_file);
    let data = partial.join("data");
    let output = account
        .command(&installed.bin.join("initdb"))
        .env("LC_ALL", "C.UTF-8")
        .args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
        ])
        .arg(format!("--username={SUPERUSER}"))
        .arg(format!("--pwfile={}", password_file.display()))
        .arg("-D")
        .arg(&data)
        .output()
        .expect("cannot run initdb");
    assert!(
        output.status.success(),
        "{}/initdb failed:\n{}{}",
        installed.bin.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    append(&data.join("postgresql.conf"), SETTINGS);
    fs::rename(&partial, directory).expect("cannot name the template");
}

/// Appends to a file without changing its owner.
pub(super) fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    file.write_all(text.as_bytes())
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

pub(super) fn random_hex() -> String {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .expect("the operating system always supplies random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
