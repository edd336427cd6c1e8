//! A directory on a disk so small that a test can fill it.
//!
//! It is a `tmpfs` of a given size, because nothing else makes real programs meet the real error
//! (ENOSPC) from the real calls. Mounting one needs root, or a mount namespace of one's own;
//! `cargo xtask test` gives the tests one when it does not run as root.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::throwaway::{Account, Area, Home};

/// A small disk, unmounted and gone when it is dropped.
#[derive(Debug)]
pub struct Tiny {
    path: PathBuf,
    _home: Home,
}

impl Tiny {
    /// A disk of `bytes`, rounded up to whole pages of 4 KiB.
    ///
    /// # Panics
    /// When this process may not mount.
    pub fn new(bytes: u64) -> Self {
        let home = Area::open().home("disk", Account::Ours);
        let path = home.path.join("disk");
        fs::create_dir(&path).expect("the directory is ours");
        rustix::mount::mount(
            "freehold-testing",
            &path,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            &*std::ffi::CString::new(format!("size={bytes}")).expect("a number has no zero byte"),
        )
        .unwrap_or_else(|error| {
            panic!(
                "cannot mount a small disk ({error}): run the tests as root, or through \
                 `cargo xtask test`, which gives them a mount namespace of their own"
            )
        });
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("the disk is ours");
        Self { path, _home: home }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that takes all the space that is left. [`Tiny::free`] removes it again.
    pub fn fill(&self) {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("cannot open the file that fills the disk");
        for size in [65_536, 4096, 1] {
            loop {
                match file.write(&vec![0; size]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("cannot fill the disk: {error}"),
                }
            }
        }
    }

    /// Gives back what [`Tiny::fill`] took.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("only a disk that was filled can be freed");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join(".ballast")
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
        if let Some(home) = self.path.parent() {
            let _ = fs::remove_dir_all(home);
        }
    }
}
