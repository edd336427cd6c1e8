//! The file is locked, full, damaged, somebody else's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod subjects;

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use freehold_model::{SystemClock, SystemEntropy};
use freehold_store::{
    Batch, CollectionName, CollectionSpec, ErrorKind, Filter, IndexSpec, Key, PutMode, Range,
    Result, Retry, Scan, SqliteConfig, SqliteStore, Store as _, Value,
};
use freehold_testing::disk::Tiny;
use rusqlite::Connection;

fn open(path: &Path) -> Result<SqliteStore> {
    let mut config = SqliteConfig::new(path);
    config.busy_timeout = Duration::from_millis(50);
    SqliteStore::open_with(config, Arc::new(SystemClock), Arc::new(SystemEntropy))
}

fn things() -> CollectionName {
    CollectionName::new("things").unwrap()
}

fn key(at: u32) -> Key {
    Key::new(format!("{at:05}")).unwrap()
}

fn put(at: u32, bytes: usize) -> Batch {
    let value = Value::from_text(format!("{{\"n\":{at},\"x\":\"{}\"}}", "x".repeat(bytes)));
    Batch::new().put(&things(), key(at), value.unwrap(), PutMode::Upsert)
}

#[test]
fn many_that_open_a_new_file_at_once_all_get_in() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = folder.path().join(format!("{round}.db"));
        let together = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    together.wait();
                    SqliteStore::open(&path, Arc::new(SystemClock), Arc::new(SystemEntropy))
                        .unwrap();
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_file_is_throttling_and_reads_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path).unwrap();
    store.apply(put(1, 10)).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.apply(put(2, 10)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Throttled, Retry::Later),
        "{error}"
    );
    assert!(store.get(&things(), &key(1)).await.unwrap().is_some());
    assert_eq!(store.get(&things(), &key(2)).await.unwrap(), None);
    assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::Throttled);
    other.execute_batch("ROLLBACK").unwrap();
    store.apply(put(2, 10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_changes_nothing_and_ends_when_there_is_room() {
    let disk = Tiny::new(4 << 20);
    let store = open(&disk.path().join("store.db")).unwrap();
    store.apply(put(1, 10)).await.unwrap();
    disk.fill();
    let mut written = 1;
    let error = loop {
        match store.apply(put(written + 1, 40_000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "the disk never fills");
    };
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Later),
        "{error}"
    );
    assert!(error.to_string().contains("space"), "{error}");
    for at in 1..=written {
        assert!(
            store.get(&things(), &key(at)).await.unwrap().is_some(),
            "{at} of {written}"
        );
    }
    assert_eq!(store.get(&things(), &key(written + 1)).await.unwrap(), None);
    disk.free();
    store.apply(put(written + 1, 40_000)).await.unwrap();
    let changes = store.changes(None, 10_000).await.unwrap().changes;
    assert_eq!(changes.len(), usize::try_from(written + 1).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_in_a_shared_transaction_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db")).unwrap();
    for at in 0..4 {
        store.apply(put(at, 10)).await.unwrap();
    }
    // The definition fails after it has begun to write: two records have the same text.
    let spec = CollectionSpec {
        name: things(),
        indexes: vec![IndexSpec {
            name: "one".to_owned(),
            fields: vec!["/x".to_owned()],
            unique: true,
            version: 1,
        }],
    };
    for _ in 0..10 {
        let (a, bad, b, c) = futures::join!(
            store.apply(put(1, 11)),
            store.define(spec.clone()),
            store.apply(put(2, 12)),
            store.apply(put(3, 13)),
        );
        assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
        // With 10 more bytes each they would all differ, so put one back that does not.
        if let Err(error) = bad {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        } else {
            store.drop_index(&things(), "one").await.unwrap();
        }
        store.apply(put(1, 10)).await.unwrap();
    }
    let changes = store.changes(None, 10_000).await.unwrap().changes;
    assert_eq!(changes.len(), 4 + 10 * 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_corrupt_and_the_error_says_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fs::write(
        &path,
        "this is not a database, and it is long enough to have a header".repeat(40),
    )
    .unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Corrupt, Retry::No)
    );
    assert!(error.to_string().contains("restore a backup"), "{error}");

    fs::remove_file(&path).unwrap();
    let store = open(&path).unwrap();
    for at in 0..200 {
        store.apply(put(at, 500)).await.unwrap();
    }
    store.close().await;
    let length = fs::metadata(&path).unwrap().len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(length / 2 / 4096 * 4096))
        .unwrap();
    file.write_all(&[0xA5; 40_960]).unwrap();
    drop(file);
    let store = open(&path).unwrap();
    let mut scan = Scan::new(things(), Range::All);
    scan.limit = 1_000;
    let error = store.scan(scan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(".recover"), "{error}");
}

/// Reading does not prove again that a value is JSON; each way of using it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_somebody_damaged_is_never_taken_for_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path).unwrap();
    let raw = Connection::open(&path).unwrap();
    // Cut off in front, cut off at the end, a text that lost its quote, an object with more behind it.
    for damage in [
        "substr(value, 2)",
        "substr(value, 1, length(value) - 1)",
        "'\"lost'",
        "value || 'x'",
        "''",
    ] {
        store.apply(put(1, 10)).await.unwrap();
        raw.execute(&format!("UPDATE records SET value = {damage}"), [])
            .unwrap();
        let record = store.get(&things(), &key(1)).await.unwrap().unwrap();
        let error = record.value.decode::<serde_json::Value>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}");
        let mut page = store.scan(Scan::new(things(), Range::All)).await.unwrap();
        let record = page.records.pop().unwrap();
        assert!(serde_json::to_string(&record.value).is_err(), "{damage}");
        let mut scan = Scan::new(things(), Range::All);
        scan.filter = Some(Filter {
            pointer: "/n".to_owned(),
            equals: serde_json::json!(1),
        });
        let error = store.scan(scan).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}");
        assert!(error.to_string().contains("things/\"00001\""), "{error}");
    }
    raw.execute_batch("DROP TABLE records").unwrap();
    assert_eq!(
        store.get(&things(), &key(1)).await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(
        store.apply(put(1, 10)).await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_our_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, word: &str| {
        let error = open(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (a)")
        .unwrap();
    refused(&foreign, "another program");
    let tables = "SELECT group_concat(name) FROM sqlite_schema";
    let names: String = Connection::open(&foreign)
        .unwrap()
        .query_row(tables, [], |row| row.get(0))
        .unwrap();
    assert_eq!(names, "theirs");

    let newer = folder.path().join("newer.db");
    drop(open(&newer).unwrap());
    Connection::open(&newer)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    refused(&newer, "newer program");
    refused(&folder.path().join("no/such/folder.db"), "directory");
    refused(folder.path(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path).unwrap();
    store.apply(put(1, 10)).await.unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_others_may_read_is_shut_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let loose = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    // Made by somebody beforehand, then copied with another mode.
    fs::write(&path, "").unwrap();
    for mode in [0o644, 0o660, 0o666] {
        loose(mode);
        let store = open(&path).unwrap();
        store.apply(put(1, 10)).await.unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let now = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(now & 0o077, 0, "{:?} from {mode:o}", file.file_name());
        }
        store.close().await;
    }
}

/// What has expired goes, whatever it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_expired_record_keeps_no_other_from_being_purged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path).unwrap();
    let index = IndexSpec {
        name: "one".to_owned(),
        fields: vec!["/n".to_owned()],
        unique: true,
        version: 1,
    };
    let spec = CollectionSpec {
        name: things(),
        indexes: vec![index],
    };
    store.define(spec).await.unwrap();
    for at in 0..4 {
        store.apply(put(at, 10)).await.unwrap();
    }
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "UPDATE records SET expires = 1;
         UPDATE records SET value = '{\"n\":' WHERE key = CAST('00000' AS BLOB);
         UPDATE records SET value = x'FF00' WHERE key = CAST('00001' AS BLOB);",
    )
    .unwrap();
    assert_eq!(store.purge(Duration::from_secs(3600)).await.unwrap(), 4);
    for table in ["records", "entries"] {
        let left: i64 = raw
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(left, 0, "{table}");
    }
    // The values of the damaged are free again.
    for at in 0..4 {
        store.apply(put(at, 10)).await.unwrap();
    }
}

/// Whoever copies the file after closing must find one file, with everything in it, that nobody has
/// open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_is_one_file_that_nobody_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    for round in 0..20u32 {
        let store = open(&path).unwrap();
        let busy = (0..64).map(|at| {
            let store = store.clone();
            tokio::spawn(async move {
                store.apply(put(round * 64 + at, 2_000)).await.unwrap();
                store.scan(Scan::new(things(), Range::All)).await.unwrap();
            })
        });
        for task in busy.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        // A clone that stays behind, as in a task that nobody ended, does not keep the file open.
        let left = store.clone();
        store.close().await;
        let files: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect();
        assert_eq!(files, ["store.db"], "round {round}");
        let held = fs::read_dir("/proc/self/fd").unwrap().any(|open| {
            fs::read_link(open.unwrap().path()).is_ok_and(|target| target.starts_with(&path))
        });
        assert!(!held, "round {round}");
        assert_eq!(
            left.get(&things(), &key(0)).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        assert_eq!(
            left.apply(put(0, 1)).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        let elsewhere = folder.path().join("elsewhere.db");
        fs::rename(&path, &elsewhere).unwrap();
        fs::copy(&elsewhere, &path).unwrap();
        fs::remove_file(&elsewhere).unwrap();
    }
    let count: u32 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM records", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 20 * 64);
}
