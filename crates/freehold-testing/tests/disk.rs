//! A tiny disk is really full, and really gone afterwards.

use std::fs;
use std::io::ErrorKind;

use freehold_testing::disk::Tiny;

#[test]
fn a_full_disk_refuses_the_next_byte_and_takes_it_after_space_was_freed() {
    let disk = Tiny::new(256 * 1024);
    let path = disk.path().join("file");
    fs::write(&path, "before").unwrap();
    disk.fill();
    let error = fs::write(disk.path().join("other"), "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    disk.free();
    fs::write(disk.path().join("other"), "x").unwrap();
    let path = disk.path().to_owned();
    drop(disk);
    assert!(!path.exists());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(path.to_str().unwrap()), "{mounts}");
}
