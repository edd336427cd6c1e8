//! Killed with SIGKILL, client or server, at any moment: every batch is whole or absent, every
//! acknowledged one is there.
//!
//! The child is this test binary again, told by its environment what to write to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod subjects;

use std::{
    env,
    io::{BufRead, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use freehold_model::{Secret, SystemClock, SystemEntropy};
use freehold_store::{
    Batch, CollectionName, ErrorKind, Key, PostgresConfig, PutMode, SqliteStore, StoreHandle,
    Value,
    conformance::crash::{nothing_is_torn, write_until_killed},
};
use freehold_testing::postgres::Server;
use subjects::connect;

const TARGET: &str = "FREEHOLD_STORE_CRASH_TARGET";

fn open_sqlite(path: &str) -> StoreHandle {
    let store = SqliteStore::open(path, Arc::new(SystemClock), Arc::new(SystemEntropy)).unwrap();
    StoreHandle::new(store)
}

/// Does nothing in an ordinary run; as a child it writes until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(target) = env::var(TARGET) else { return };
    if let Some(path) = target.strip_prefix("count:") {
        return count(&open_sqlite(path)).await;
    }
    let store = match target.strip_prefix("sqlite:") {
        Some(path) => open_sqlite(path),
        None => {
            let parts: Vec<&str> = target.split(' ').collect();
            let port = parts[1].parse().unwrap();
            let mut config = PostgresConfig::new(parts[0], port, parts[2], "postgres");
            config.password = Some(Secret::new(parts[3]));
            connect(config).await
        }
    };
    let mut out = std::io::stdout();
    let error = write_until_killed(&store, |number| {
        writeln!(out, "acknowledged {number}").unwrap();
        out.flush().unwrap();
    })
    .await;
    writeln!(out, "ended {:?}", error.kind()).unwrap();
}

/// Adds one to a counter 25 times, whoever else does so too.
async fn count(store: &StoreHandle) {
    let (things, key) = (
        CollectionName::new("things").unwrap(),
        Key::new("n").unwrap(),
    );
    for _ in 0..25 {
        loop {
            let (value, mode) = match store.get(&things, &key).await.unwrap() {
                None => (1, PutMode::Create),
                Some(record) => (
                    record.value.decode::<u64>().unwrap() + 1,
                    PutMode::Match(record.etag),
                ),
            };
            let value = Value::encode(&value).unwrap();
            match store
                .apply(Batch::new().put(&things, key.clone(), value, mode))
                .await
            {
                Ok(_) => break,
                // Nothing was changed: another was faster, or held the file for too long.
                Err(error) => assert!(
                    error.is_conflict() || error.kind() == ErrorKind::Throttled,
                    "{error:?}"
                ),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_sqlite_file_lose_no_update() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let path = path.to_str().unwrap();
    let children: Vec<Child> = (0..4)
        .map(|_| {
            Command::new(env::current_exe().unwrap())
                .args(["--exact", "child", "--nocapture"])
                .env(TARGET, format!("count:{path}"))
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = open_sqlite(path);
    let (things, key) = (
        CollectionName::new("things").unwrap(),
        Key::new("n").unwrap(),
    );
    let record = store.get(&things, &key).await.unwrap().unwrap();
    assert_eq!(record.value.decode::<u64>().unwrap(), 100);
}

struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    acknowledged: u64,
    ended: Option<String>,
}

impl Writer {
    fn start(target: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(TARGET, target)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            acknowledged: 0,
            ended: None,
        }
    }

    /// Reads until so many more batches are acknowledged or the child has ended.
    fn follow(&mut self, more: u64) {
        let goal = self.acknowledged.saturating_add(more);
        while self.acknowledged < goal {
            let Some(Ok(line)) = self.lines.next() else {
                return;
            };
            if let Some((_, number)) = line.split_once("acknowledged ") {
                self.acknowledged = number.parse().unwrap();
            } else if let Some((_, kind)) = line.split_once("ended ") {
                self.ended = Some(kind.to_owned());
            }
        }
    }

    fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        // What it managed to say before it died counts.
        self.follow(u64::MAX);
        self.child.wait().unwrap();
        self.acknowledged
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_writer_leaves_whole_batches_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let path = path.to_str().unwrap();
    let mut last = 0;
    for round in 0..6 {
        let mut writer = Writer::start(&format!("sqlite:{path}"));
        writer.follow(3 + round * 2);
        let acknowledged = writer.kill();
        assert!(acknowledged > last, "the child wrote nothing");
        last = nothing_is_torn(&open_sqlite(path), acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_writer_leaves_whole_batches_in_postgres() {
    let server = Server::start();
    let target = target(&server);
    let mut last = 0;
    for round in 0..4 {
        let mut writer = Writer::start(&target);
        writer.follow(3 + round * 2);
        let acknowledged = writer.kill();
        assert!(acknowledged > last, "the child wrote nothing");
        let store = connect(subjects::config(&server, "freehold")).await;
        last = nothing_is_torn(&store, acknowledged).await;
    }
}

fn target(server: &Server) -> String {
    let password = server.superuser_password();
    format!(
        "{} {} {} {password}",
        server.host(),
        server.port(),
        server.superuser()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_loses_nothing_that_was_acknowledged() {
    let server = Server::start();
    let target = target(&server);
    for _ in 0..3 {
        let mut writer = Writer::start(&target);
        writer.follow(8);
        server.kill9();
        writer.follow(u64::MAX);
        let ended = writer.ended.clone();
        writer.child.wait().unwrap();
        // It was at work or about to be: it does not know, or knows that nothing was changed. Never
        // a conflict.
        let ended = ended.expect("the child says how it ended");
        assert!(
            ["Undetermined", "Unavailable"].contains(&ended.as_str()),
            "{ended}"
        );
        server.restart();
        let begin = Instant::now();
        let store = connect(subjects::config(&server, "freehold")).await;
        nothing_is_torn(&store, writer.acknowledged).await;
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
