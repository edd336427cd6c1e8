//! What a migration script may not do. Each refusal is the authorizer's (`SQLITE_AUTH`), so each of
//! these fails without it.

use freehold_engine::{Fault, ScriptSession as _};

use crate::world::{World, database, session};

async fn refused(statements: &[&str]) {
    let world = World::start();
    world.provision(&database("shop")).await;
    world.fill("shop");
    let before = files(&world);
    let mut scripts = session(&world.file("shop")).await;
    for statement in statements {
        let error = scripts.execute(statement).await.expect_err(statement);
        let Fault::Statement(words) = &error.fault else {
            panic!("{statement}: {error}");
        };
        assert_eq!(words.sqlstate, "SQLITE_AUTH", "{statement}: {error}");
        assert!(words.hint.is_some());
    }
    scripts
        .execute("INSERT INTO item VALUES (7)")
        .await
        .expect("the session goes on");
    drop(scripts);
    assert_eq!(files(&world), before, "no file came into being");
}

fn files(world: &World) -> Vec<std::path::PathBuf> {
    let parent = world.directory.parent().expect("a parent");
    let mut files: Vec<_> = [parent, &world.directory, &world.home("shop")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.to_string_lossy().contains(".db-"))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn other_files_cannot_be_attached() {
    refused(&[
        "ATTACH 'freehold-registry.db' AS r",
        "ATTACH DATABASE ':memory:' AS m",
        "ATTACH 'file:x?mode=memory' AS m",
        "ATTACH ('/tmp/' || 'x') AS e",
        "ATTACH ? AS p",
        "DETACH main",
        "EXPLAIN ATTACH 'x' AS y",
    ])
    .await;
}

#[tokio::test]
async fn the_database_cannot_be_copied_out() {
    refused(&[
        "VACUUM INTO '/tmp/freehold-stolen.db'",
        "VACUUM main INTO 'stolen.db'",
    ])
    .await;
    assert!(!std::path::Path::new("/tmp/freehold-stolen.db").exists());
}

#[tokio::test]
async fn extensions_cannot_be_loaded() {
    refused(&[
        "SELECT load_extension('/tmp/evil.so')",
        "SELECT LOAD_EXTENSION('evil', 'entry')",
        "CREATE VIEW v AS SELECT 1; SELECT coalesce(load_extension('x'), 1) FROM v",
        "SELECT fts3_tokenizer('simple', x'0102030405060708')",
    ])
    .await;
}

#[tokio::test]
async fn the_schema_cannot_be_written_by_hand() {
    refused(&[
        "PRAGMA writable_schema = ON",
        "PRAGMA writable_schema = 1",
        "PRAGMA Writable_Schema = RESET",
        "PRAGMA main.writable_schema = 'yes'",
        "PRAGMA schema_version = 7",
        "PRAGMA trusted_schema = ON",
    ])
    .await;
}

#[tokio::test]
async fn the_file_cannot_be_weakened() {
    refused(&[
        "PRAGMA journal_mode = OFF",
        "PRAGMA journal_mode = memory",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA main.journal_mode('delete')",
        "PRAGMA synchronous = OFF",
        "PRAGMA synchronous = 0",
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA application_id = 5",
        "PRAGMA page_size = 512",
        "PRAGMA mmap_size = 1000000000",
        "PRAGMA wal_autocheckpoint = 0",
        "PRAGMA journal_size_limit = 0",
        "PRAGMA cell_size_check = OFF",
    ])
    .await;
}

#[tokio::test]
async fn the_process_cannot_be_reached() {
    refused(&[
        "PRAGMA temp_store_directory = '/tmp'",
        "PRAGMA data_store_directory = '/tmp'",
        "PRAGMA hard_heap_limit = 1000",
        "PRAGMA soft_heap_limit = 1000",
        "PRAGMA threads = 64",
        "PRAGMA read_uncommitted = 1",
        "PRAGMA something_new = 1",
        "PRAGMA lock_proxy_file = 'x'",
        "CREATE VIRTUAL TABLE temp.s USING dbstat(main)",
        "CREATE VIRTUAL TABLE c USING csv(filename = '/etc/passwd')",
    ])
    .await;
}

/// What scripts do every day.
#[tokio::test]
async fn ordinary_scripts_run() {
    let world = World::start();
    world.provision(&database("shop")).await;
    let mut scripts = session(&world.file("shop")).await;
    for statement in [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = NORMAL",
        "PRAGMA busy_timeout = 60000",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA user_version = 12",
        "PRAGMA cache_size = -2000",
        "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, amount REAL)",
        "CREATE INDEX item_name ON item (lower(name))",
        "CREATE TABLE entry (item INTEGER REFERENCES item (id) ON DELETE CASCADE)",
        "CREATE VIEW names AS SELECT name FROM item",
        "CREATE TRIGGER noted AFTER INSERT ON item BEGIN INSERT INTO entry VALUES (new.id); \
         UPDATE entry SET item = item WHERE 0; END",
        "INSERT INTO item (name, amount) VALUES ('nut', 1.5), ('bolt', 2)",
        "ALTER TABLE item RENAME COLUMN amount TO price",
        "ALTER TABLE item ADD COLUMN note TEXT",
        "ALTER TABLE item DROP COLUMN note",
        "CREATE VIRTUAL TABLE words USING fts5(body)",
        "INSERT INTO words VALUES ('a nut and a bolt')",
        "CREATE VIRTUAL TABLE areas USING rtree(id, x0, x1)",
        "CREATE TEMP TABLE scratch AS SELECT * FROM item",
        "DROP TABLE scratch",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT sum(i) FROM n",
        "SELECT json_extract('{\"a\": 1}', '$.a')",
        "PRAGMA table_info(item)",
        "PRAGMA foreign_key_check",
        "PRAGMA integrity_check",
        "ANALYZE",
        "REINDEX item_name",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "RELEASE s",
        "VACUUM",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA optimize",
        "DROP VIEW names",
    ] {
        if let Err(error) = scripts.execute(statement).await {
            panic!("{statement}: {error}");
        }
    }
    let notices = scripts.take_notices();
    assert!(
        notices.len() == 1 && notices[0].contains("busy_timeout"),
        "{notices:?}"
    );
    drop(scripts);
    assert_eq!(
        world.observe(&database("shop"), 1).await.expect("looked"),
        []
    );
}
