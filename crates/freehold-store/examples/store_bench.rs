//! The store against the bare driver, in one run: the same tables, the same statements, as many
//! commits, the same durability.
//!
//! `cargo run --release -p freehold-store --all-features --example store_bench -- FOLDER
//! [HOST PORT USER DATABASE]`. The SQLite file is made in FOLDER (put it on the disk you mean);
//! PostgreSQL is measured when a server is named, with the password from `PGPASSWORD`. Many short rounds
//! of both sides alternate. Each gives a ratio between two neighbours in time, so that what else the
//! machine does weighs on both; the median of the ratios is what counts, and the quartiles say how
//! far to trust it. `cpu` is the same ratio for the processor time of this process (Linux only):
//! what the store does more than its driver, without waiting for the disk, the server or a processor.
//!
//! What "bare" means here: an asynchronous program that uses the driver with care, and hands the same
//! to its caller (the value, its version, its times, in a scan the key). Statements are prepared once.
//!
//! * SQLite, reading: as many connections as the store has. One record is read where the caller runs,
//!   as the store does it. A scan may wait for the disk as often as it has rows, so it goes to
//!   the runtime's blocking threads, as the store's does.
//! * SQLite, writing: one connection that writers share behind a mutex, one transaction per write
//!   (`BEGIN IMMEDIATE`, look at the definitions' version, look at the record, write it, write the
//!   change, `COMMIT`), on the blocking threads too: a commit waits for the disk.
//! * The rows `sqlite, no hop` are the same without the blocking threads, which only a program may
//!   do that has nothing else to do meanwhile.
//! * PostgreSQL: a pool of the same size; to write, the transaction that one writes by hand (`BEGIN`,
//!   `SELECT … FOR UPDATE`, upsert, insert into the outbox, `COMMIT`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark, run by hand"
)]

use std::{
    env, fs,
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use deadpool_postgres::{Client, Manager, Pool};
use freehold_model::{Clock as _, Secret, SystemClock, SystemEntropy};
use freehold_store::{
    Batch, CollectionName, Key, PostgresConfig, PostgresStore, PutMode, Range, Scan, SqliteStore,
    StoreHandle, Value,
};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Semaphore;

const ROUNDS: usize = 60;
const VALUE: &str = r#"{"kind":"Database","name":"orders","spec":{"class":"standard","engine":"postgres","version":"17","team":"shop","limits":{"connections":20,"storageGb":50}},"n":12345678901234567}"#;
const CONNECTIONS: usize = 16;
/// As many as the store has by default.
const READERS: usize = 4;

/// What is measured: one operation on the `at`-th of `writers` tasks.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Apply,
    Get,
    Scan,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply (one upsert)",
            Self::Get => "get",
            Self::Scan => "scan (100 records)",
        }
    }

    fn operations(self, writers: usize) -> usize {
        match self {
            Self::Apply => 64 * if writers > 1 { 4 } else { 1 },
            Self::Get => 2_000,
            Self::Scan => 128,
        }
    }
}

const WORKS: [Work; 3] = [Work::Apply, Work::Get, Work::Scan];

fn key(at: usize) -> String {
    format!("key/{:05}", at % 1_000)
}

/// What one operation took, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    /// Processor time of all threads of this process; 0 where it is not told.
    cpu: f64,
}

/// The processor time of this process's threads so far, in microseconds.
fn cpu() -> f64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return 0.0;
    };
    let nanos = threads.filter_map(|thread| {
        let told = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        told.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e3
}

/// Runs the operations spread over tasks and returns what one of them took.
async fn time<F>(
    operations: usize,
    writers: usize,
    one: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Cost
where
    F: Future<Output = ()> + Send,
{
    let one = Arc::new(one);
    let (begin, cpu_before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..writers)
        .map(|task| {
            let one = Arc::clone(&one);
            tokio::spawn(async move {
                for at in (task..operations).step_by(writers) {
                    one(at * 7).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let wall = begin.elapsed().as_secs_f64() * 1e6;
    let operations = f64::from(u32::try_from(operations).unwrap());
    Cost {
        wall: wall / operations,
        cpu: (cpu() - cpu_before) / operations,
    }
}

async fn store_time(store: &StoreHandle, work: Work, writers: usize) -> Cost {
    let store = store.clone();
    let things = CollectionName::new("things").unwrap();
    time(work.operations(writers), writers, move |at| {
        let (store, things) = (store.clone(), things.clone());
        async move {
            match work {
                Work::Apply => {
                    let value = Value::from_text(VALUE.to_owned()).unwrap();
                    let batch = Batch::new().put(
                        &things,
                        Key::new(key(at)).unwrap(),
                        value,
                        PutMode::Upsert,
                    );
                    store.apply(batch).await.unwrap();
                }
                Work::Get => {
                    let record = store
                        .get(&things, &Key::new(key(at)).unwrap())
                        .await
                        .unwrap();
                    assert!(record.is_some());
                }
                Work::Scan => {
                    let scan = Scan::new(things, Range::KeyPrefix("key/".to_owned()));
                    assert_eq!(store.scan(scan).await.unwrap().records.len(), 100);
                }
            }
        }
    })
    .await
}

/// The columns of a record, taken out of a row as the bare driver gives them.
type Row = (String, i64, Vec<u8>, i64, i64, Option<i64>);

struct BareSqlite {
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl BareSqlite {
    fn open(path: &Path) -> Self {
        let connection = || {
            let connection = Connection::open(path).unwrap();
            connection
                .execute_batch(
                    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                     PRAGMA cache_size = -16384",
                )
                .unwrap();
            connection
        };
        Self {
            writer: Mutex::new(connection()),
            readers: Mutex::new((0..READERS).map(|_| connection()).collect()),
            permits: Semaphore::new(READERS),
        }
    }

    async fn call(self: Arc<Self>, work: Work, at: usize, hops: bool) {
        if !hops || work == Work::Get {
            return self.run(work, at);
        }
        let run = move |bare: Arc<Self>| tokio::task::spawn_blocking(move || bare.run(work, at));
        if work == Work::Scan {
            let _permit = self.permits.acquire().await.unwrap();
            run(Arc::clone(&self)).await.unwrap();
        } else {
            run(self).await.unwrap();
        }
    }

    fn run(&self, work: Work, at: usize) {
        if work == Work::Apply {
            return Self::apply(&self.writer.lock().unwrap(), &key(at));
        }
        let connection = self.readers.lock().unwrap().pop().unwrap();
        Self::read(&connection, work, at);
        self.readers.lock().unwrap().push(connection);
    }

    fn read(connection: &Connection, work: Work, at: usize) {
        let now = SystemClock.now().as_microsecond();
        match work {
            Work::Apply => unreachable!("writing has a connection of its own"),
            Work::Get => {
                let row: Option<Row> = connection
                    .prepare_cached(
                        "SELECT value, rev, nonce, created, updated, expires FROM records
                         WHERE collection = ? AND key = ? AND (expires IS NULL OR expires > ?)",
                    )
                    .unwrap()
                    .query_row(params!["things", key(at).as_bytes(), now], Self::row)
                    .optional()
                    .unwrap();
                assert!(row.is_some());
            }
            Work::Scan => {
                let mut statement = connection
                    .prepare_cached(
                        "SELECT value, rev, nonce, created, updated, expires, key FROM records
                         WHERE collection = ? AND key >= ? AND key < ?
                         AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT 101",
                    )
                    .unwrap();
                let rows: Vec<(Row, Vec<u8>)> = statement
                    .query_map(params!["things", b"key/", b"key0", now], |row| {
                        Ok((Self::row(row)?, row.get(6)?))
                    })
                    .unwrap()
                    .map(Result::unwrap)
                    .collect();
                assert_eq!(rows.len(), 101);
            }
        }
    }

    fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
        ))
    }

    fn apply(connection: &Connection, key: &str) {
        let run = |sql: &str| {
            connection
                .prepare_cached(sql)
                .unwrap()
                .execute([])
                .map(drop)
                .unwrap();
        };
        run("BEGIN IMMEDIATE");
        let _: i64 = connection
            .prepare_cached("SELECT value FROM meta WHERE name = 'definitions'")
            .unwrap()
            .query_row([], |row| row.get(0))
            .unwrap();
        let (id, rev): (i64, i64) = connection
            .prepare_cached(
                "SELECT id, rev, nonce, created, expires FROM records
                 WHERE collection = ? AND key = ?",
            )
            .unwrap()
            .query_row(params!["things", key.as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        let nonce = [7u8; 16];
        connection
            .prepare_cached(
                "UPDATE records SET value = ?, rev = ?, nonce = ?, created = ?, updated = ?,
                 expires = ? WHERE id = ?",
            )
            .unwrap()
            .execute(params![VALUE, rev + 1, nonce, 1, 1, None::<i64>, id])
            .unwrap();
        connection
            .prepare_cached(
                "INSERT INTO feed (collection, key, rev, nonce, at) VALUES (?, ?, ?, ?, ?)",
            )
            .unwrap()
            .execute(params!["things", key.as_bytes(), rev + 1, nonce, 1])
            .unwrap();
        run("COMMIT");
    }
}

async fn bare_sqlite_time(bare: &Arc<BareSqlite>, work: Work, writers: usize, hops: bool) -> Cost {
    let bare = Arc::clone(bare);
    time(work.operations(writers), writers, move |at| {
        Arc::clone(&bare).call(work, at, hops)
    })
    .await
}

async fn bare_postgres_time(pool: &Pool, work: Work, writers: usize) -> Cost {
    let pool = pool.clone();
    time(work.operations(writers), writers, move |at| {
        let pool = pool.clone();
        async move {
            let mut client = pool.get().await.unwrap();
            let key = key(at).into_bytes();
            match work {
                Work::Apply => bare_apply(&mut client, &key).await,
                Work::Get => {
                    let sql = format!("{BARE_COLUMNS} AND r.key = $2");
                    let statement = client.prepare_cached(&sql).await.unwrap();
                    let row = client
                        .query_one(&statement, &[&"things", &key])
                        .await
                        .unwrap();
                    assert_eq!(bare_row(&row).0, VALUE);
                }
                Work::Scan => {
                    let sql = format!(
                        "{BARE_COLUMNS} AND r.key >= $2 AND r.key < $3 ORDER BY r.key LIMIT 101"
                    );
                    let statement = client.prepare_cached(&sql).await.unwrap();
                    let (from, to) = (&b"key/"[..], &b"key0"[..]);
                    let rows = client
                        .query(&statement, &[&"things", &from, &to])
                        .await
                        .unwrap();
                    let rows: Vec<(Row, Vec<u8>)> =
                        rows.iter().map(|row| (bare_row(row), row.get(6))).collect();
                    assert_eq!(rows.len(), 101);
                }
            }
        }
    })
    .await
}

const BARE_COLUMNS: &str = "SELECT r.value, r.rev, r.nonce, r.created, r.updated, r.expires, r.key
    FROM bench.records r WHERE r.collection = $1
    AND (r.expires IS NULL OR r.expires > bench.now_v1())";

fn bare_row(row: &tokio_postgres::Row) -> Row {
    (
        row.get(0),
        row.get(1),
        row.get(2),
        row.get(3),
        row.get(4),
        row.get(5),
    )
}

async fn bare_apply(client: &mut Client, key: &[u8]) {
    let look = "SELECT rev, nonce, created, expires FROM bench.records
        WHERE collection = $1 AND key = $2 FOR UPDATE";
    let look = client.prepare_cached(look).await.unwrap();
    let write = "INSERT INTO bench.records (collection, key, value, rev, nonce, created, updated)
        VALUES ($1, $2, $3, $4, $5, 1, 1)
        ON CONFLICT (collection, key) DO UPDATE SET value = $3, rev = $4, nonce = $5, updated = 1";
    let write = client.prepare_cached(write).await.unwrap();
    let tell =
        "INSERT INTO bench.outbox (collection, key, rev, nonce, at) VALUES ($1, $2, $3, $4, 1)";
    let tell = client.prepare_cached(tell).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let row = transaction
        .query_one(&look, &[&"things", &key])
        .await
        .unwrap();
    let (rev, nonce) = (row.get::<_, i64>(0) + 1, vec![7u8; 16]);
    transaction
        .execute(&write, &[&"things", &key, &VALUE, &rev, &nonce])
        .await
        .unwrap();
    transaction
        .execute(&tell, &[&"things", &key, &rev, &nonce])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
}

async fn fill(store: &StoreHandle) {
    let things = CollectionName::new("things").unwrap();
    let batch = (0..1_000).fold(Batch::new(), |batch, at| {
        let value = Value::from_text(VALUE.to_owned()).unwrap();
        batch.put(&things, Key::new(key(at)).unwrap(), value, PutMode::Upsert)
    });
    store.apply(batch).await.unwrap();
}

/// The value below which this share of the values lies.
fn quantile(values: &[f64], share: (usize, usize)) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * share.0 / share.1]
}

/// Alternates both sides and prints one line.
async fn compare<A, B>(
    adapter: &str,
    work: Work,
    writers: usize,
    bare: impl Fn() -> A,
    store: impl Fn() -> B,
) where
    A: Future<Output = Cost>,
    B: Future<Output = Cost>,
{
    bare().await;
    store().await;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Whoever comes second finds the caches as the first left them, so they take turns in that too.
        if round % 2 == 0 {
            left.push(bare().await);
            right.push(store().await);
        } else {
            right.push(store().await);
            left.push(bare().await);
        }
    }
    let ratios = |of: fn(&Cost) -> f64| -> Vec<f64> {
        let pairs = right.iter().zip(&left);
        pairs.map(|(store, bare)| of(store) / of(bare)).collect()
    };
    let walls = |side: &[Cost]| side.iter().map(|cost| cost.wall).collect::<Vec<f64>>();
    let (wall, cpu) = (ratios(|cost| cost.wall), ratios(|cost| cost.cpu));
    println!(
        "{adapter:<14} {:<20} {writers:>7} {:>12.1} {:>12.1} {:>8.2} {:>6.2} - {:.2} {:>6.2}",
        work.name(),
        quantile(&walls(&left), (1, 2)),
        quantile(&walls(&right), (1, 2)),
        quantile(&wall, (1, 2)),
        quantile(&wall, (1, 4)),
        quantile(&wall, (3, 4)),
        quantile(&cpu, (1, 2)),
    );
}

async fn sqlite(folder: &Path) {
    let path = folder.join("store-bench.db");
    let store = SqliteStore::open(&path, Arc::new(SystemClock), Arc::new(SystemEntropy)).unwrap();
    let store = StoreHandle::new(store);
    fill(&store).await;
    let bare = Arc::new(BareSqlite::open(&path));
    for (adapter, hops) in [("sqlite", true), ("sqlite, no hop", false)] {
        for work in WORKS {
            if !hops && work == Work::Get {
                continue;
            }
            for writers in [1, 32] {
                compare(
                    adapter,
                    work,
                    writers,
                    || bare_sqlite_time(&bare, work, writers, hops),
                    || store_time(&store, work, writers),
                )
                .await;
            }
        }
    }
}

async fn postgres(arguments: &[String]) {
    let [host, port, user, database] = arguments else {
        assert!(
            arguments.is_empty(),
            "a server is named by HOST PORT USER DATABASE, and its password by PGPASSWORD"
        );
        println!("{:<14} not measured: no server was named", "postgres");
        return;
    };
    let password = env::var("PGPASSWORD").unwrap_or_default();
    let mut config = PostgresConfig::new(host, port.parse().unwrap(), user, database);
    config.password = Some(Secret::new(password.as_str()));
    config.schema = "bench".to_owned();
    config.connections = CONNECTIONS;
    let store = PostgresStore::connect(config, Arc::new(SystemEntropy))
        .await
        .unwrap();
    let store = StoreHandle::new(store);
    fill(&store).await;
    let mut target = tokio_postgres::Config::new();
    target
        .host(host)
        .port(port.parse().unwrap())
        .user(user)
        .password(&password)
        .dbname(database);
    let manager = Manager::new(target, tokio_postgres::NoTls);
    let pool = Pool::builder(manager)
        .max_size(CONNECTIONS)
        .build()
        .unwrap();
    for work in WORKS {
        for writers in [1, 32] {
            compare(
                "postgres",
                work,
                writers,
                || bare_postgres_time(&pool, work, writers),
                || store_time(&store, work, writers),
            )
            .await;
        }
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let folder = arguments.first().map_or_else(env::temp_dir, PathBuf::from);
    println!(
        "{:<14} {:<20} {:>7} {:>12} {:>12} {:>8} {:>13} {:>6}",
        "adapter", "work", "writers", "bare µs/op", "store µs/op", "ratio", "quartiles", "cpu"
    );
    let folder = tempfile::tempdir_in(folder).unwrap();
    sqlite(folder.path()).await;
    postgres(arguments.get(1..).unwrap_or_default()).await;
}
