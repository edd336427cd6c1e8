//! The directory in which all throwaway servers of one user live.
//!
//! ```text
//! <base>/freehold-testing-<uid>/
//!   lock               held while a server directory is made or leftovers are swept
//!   ports/<number>     locked by the process that uses the port
//!   templates/<key>    initialised data directories, copied for each server
//!   servers/<name>/    owner (locked by the test process), pid, log, and the server's own files
//! ```
//!
//! The base is `$TMPDIR` when it is set, else memory (`/dev/shm`) when there is plenty, else the
//! system's temporary directory. A data directory is a thousand small files; a busy disk takes a
//! second to make them, memory a few hundredths.
//!
//! Every lock is an advisory file lock, which the kernel releases when its holder dies; there is
//! nothing to clean up after a crash but directories, and the next start sweeps those.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::Account;
use crate::process;

/// Below the range from which Linux takes ports for outgoing connections, so that a server that is
/// restarted finds its port free.
const PORTS: std::ops::Range<u16> = 15_500..32_000;

#[derive(Debug)]
pub(crate) struct Area {
    root: PathBuf,
}

/// A server's directory. It is ours for as long as the lock is held.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    _owner: File,
}

/// A port that no other test takes while this is held.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _lock: File,
}

impl Area {
    pub(crate) fn open() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let root = base().join(format!("freehold-testing-{uid}"));
        for directory in [
            root.clone(),
            root.join("ports"),
            root.join("templates"),
            root.join("servers"),
        ] {
            fs::create_dir_all(&directory).unwrap_or_else(|error| {
                panic!("cannot make {}: {error}", directory.display());
            });
        }
        let owner = fs::metadata(&root)
            .expect("the directory was just made")
            .uid();
        assert!(
            owner == uid,
            "{} belongs to user {owner}, not to us",
            root.display()
        );
        // The account that runs the servers has to reach its directories.
        for directory in ["", "templates", "servers"] {
            fs::set_permissions(root.join(directory), Permissions::from_mode(0o755))
                .expect("the directory is ours");
        }
        Self { root }
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    /// Makes a server's directory, after sweeping what dead owners have left.
    pub(crate) fn home(&self, prefix: &str, account: Account) -> Home {
        let lock = open_lock(&self.root.join("lock"));
        lock.lock()
            .expect("cannot lock the area of throwaway servers");
        self.sweep();
        let path = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(self.root.join("servers"))
            .expect("cannot make a directory for a throwaway server")
            .keep();
        let owner = open_lock(&path.join("owner"));
        owner
            .try_lock()
            .expect("nobody else knows the new directory");
        account.own(&path);
        Home {
            path,
            _owner: owner,
        }
    }

    pub(crate) fn port(&self) -> Port {
        let span = usize::from(PORTS.end - PORTS.start);
        // Neighbouring process ids start far apart, so that they seldom try the same port.
        let first = (std::process::id() as usize).wrapping_mul(7919) % span;
        (0..span)
            .map(|step| PORTS.start + u16::try_from((first + step) % span).expect("below the span"))
            .find_map(|number| {
                let lock = open_lock(&self.root.join("ports").join(number.to_string()));
                lock.try_lock().ok()?;
                TcpListener::bind(("127.0.0.1", number)).ok()?;
                Some(Port {
                    number,
                    _lock: lock,
                })
            })
            .expect("no free port for a throwaway server")
    }

    /// Removes the directories whose owner is dead, and a server that may still run in them.
    /// Called with the area locked, so that no directory is seen before its owner has locked it.
    fn sweep(&self) {
        let servers = fs::read_dir(self.root.join("servers")).expect("the directory is ours");
        for home in servers.flatten().map(|entry| entry.path()) {
            let Ok(owner) = OpenOptions::new().write(true).open(home.join("owner")) else {
                // Its supervisor is removing it right now, or died while doing so.
                let _ = fs::remove_dir_all(&home);
                continue;
            };
            match owner.try_lock() {
                Ok(()) => {
                    end_server(&home);
                    let _ = rustix::mount::unmount(
                        home.join("disk"),
                        rustix::mount::UnmountFlags::DETACH,
                    );
                    let _ = fs::remove_dir_all(&home);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    panic!("cannot lock {}: {error}", home.display())
                }
            }
        }
    }
}

fn base() -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    // The size and not what is free, so that all processes choose the same.
    const PLENTY: u64 = 4 << 30;
    let plenty = rustix::fs::statvfs(MEMORY)
        .is_ok_and(|memory| memory.f_blocks.saturating_mul(memory.f_frsize) >= PLENTY);
    if std::env::var_os("TMPDIR").is_none() && plenty {
        PathBuf::from(MEMORY)
    } else {
        std::env::temp_dir()
    }
}

pub(crate) fn open_lock(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

/// Kills the server of a directory if it still runs. The process id may have been given to another
/// program since; only a process whose command line names the directory is ours.
fn end_server(home: &Path) {
    let Some(pid) = fs::read_to_string(home.join("pid"))
        .ok()
        .and_then(|file| file.trim().parse::<u32>().ok())
    else {
        return;
    };
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&command).contains(&*home.to_string_lossy()) {
        process::signal(pid, Signal::STOP);
        for child in process::children(pid) {
            process::signal(child, Signal::KILL);
        }
        process::signal(pid, Signal::KILL);
    }
}
