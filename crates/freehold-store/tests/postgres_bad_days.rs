//! The network breaks, the server hangs, its disks are full, it is a standby, the login is wrong, the
//! schema is somebody else's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod subjects;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown, symlink},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use freehold_model::{Secret, SystemEntropy};
use freehold_store::{
    Batch, ChangeKind, CollectionName, CollectionSpec, Error, ErrorKind, IndexSpec, Key, LeaseName,
    PostgresConfig, PostgresStore, PutMode, Range, Result, Retry, Scan, Store as _, Value,
    conformance::{PROPERTIES, Subject as _},
};
use freehold_testing::{
    disk::Tiny,
    postgres::{Server, StopMode},
    proxy::{Tcp, Towards},
};
use subjects::{Postgres, config};

async fn connect(config: PostgresConfig) -> Result<PostgresStore> {
    PostgresStore::connect(config, Arc::new(SystemEntropy)).await
}

fn through(proxy: &Tcp, server: &Server) -> PostgresConfig {
    let mut config = config(server, "freehold");
    config.host = proxy.host().to_owned();
    config.port = proxy.port();
    config
}

fn things() -> CollectionName {
    CollectionName::new("things").unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn create(text: &str) -> Batch {
    let value = Value::from_text("1".to_owned()).unwrap();
    Batch::new().put(&things(), key(text), value, PutMode::Create)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_undetermined_and_never_a_conflict() {
    let server = Server::start();
    let proxy = Tcp::start((server.host(), server.port()));
    let store = connect(through(&proxy, &server)).await.unwrap();
    store.apply(create("a")).await.unwrap();
    proxy.cut_after(Towards::Client, 0);
    let error = store.apply(create("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undetermined, "{error}");
    let name = LeaseName::new("l").unwrap();
    let lease = store
        .lease_acquire(&name, "me", Duration::from_secs(60))
        .await;
    let kind = lease.unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::Undetermined | ErrorKind::Unavailable),
        "{kind:?}"
    );
    proxy.pass();
    // The request had arrived. Reading tells, over a new connection.
    assert!(store.get(&things(), &key("b")).await.unwrap().is_some());
    assert_eq!(
        store.apply(create("b")).await.unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_died_while_idle_is_replaced() {
    let server = Server::start();
    let proxy = Tcp::start((server.host(), server.port()));
    let store = connect(through(&proxy, &server)).await.unwrap();
    store.apply(create("a")).await.unwrap();
    for round in 0..5 {
        proxy.cut();
        assert!(
            store.get(&things(), &key("a")).await.unwrap().is_some(),
            "round {round}"
        );
    }
    server.restart();
    assert!(store.get(&things(), &key("a")).await.unwrap().is_some());
    store.apply(create("b")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_unavailable() {
    let server = Server::start();
    let proxy = Tcp::start((server.host(), server.port()));
    let store = connect(through(&proxy, &server)).await.unwrap();
    store.apply(create("a")).await.unwrap();
    proxy.refuse();
    // The first write may find its connection broken under it; after that there is none.
    let error = store.apply(create("b")).await.unwrap_err();
    assert!(!error.is_conflict(), "{error}");
    for _ in 0..3 {
        let error = store.apply(create("b")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let error = store.get(&things(), &key("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    proxy.pass();
    store.apply(create("c")).await.unwrap();
}

/// A session beside the store's.
async fn client(server: &Server) -> (tokio_postgres::Client, tokio::task::JoinHandle<()>) {
    let mut config = tokio_postgres::Config::new();
    config
        .host(server.host())
        .port(server.port())
        .user(server.superuser())
        .password(server.superuser_password())
        .dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let running = tokio::spawn(async move { connection.await.unwrap() });
    (client, running)
}

/// A server that stops answering just while a replica starts, or while it changes a definition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_holds_up_no_start_and_no_definition() {
    let server = Server::start();
    let mut config = config(&server, "freehold");
    config.request_timeout = Duration::from_secs(5);
    config.connect_timeout = Duration::from_secs(2);
    let store = connect(config.clone()).await.unwrap();
    for table in ["meta", "entries"] {
        let (holder, _connection) = client(&server).await;
        holder
            .batch_execute(&format!(
                "BEGIN; LOCK TABLE freehold.{table} IN ACCESS EXCLUSIVE MODE"
            ))
            .await
            .unwrap();
        let waits = tokio::spawn({
            let (config, store) = (config.clone(), store.clone());
            async move {
                if table == "meta" {
                    connect(config).await.map(drop)
                } else {
                    let index = IndexSpec {
                        name: "one".to_owned(),
                        fields: vec!["/n".to_owned()],
                        unique: false,
                        version: 1,
                    };
                    let (name, indexes) = (things(), vec![index]);
                    store.define(CollectionSpec { name, indexes }).await
                }
            }
        });
        let waiting = "SELECT count(*) > 0 FROM pg_stat_activity
             WHERE application_name = 'freehold-store' AND wait_event_type = 'Lock'";
        while !waits.is_finished() {
            let row = holder.query_one(waiting, &[]).await.unwrap();
            if row.get::<_, bool>(0) {
                break;
            }
        }
        server.pause();
        let ended = tokio::time::timeout(Duration::from_secs(90), waits).await;
        server.resume();
        let error = ended
            .expect("it is not held up for ever")
            .unwrap()
            .unwrap_err();
        assert_ne!(error.retry(), Retry::No, "{table}: {error}");
        holder.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_does_not_hold_the_caller() {
    let server = Server::start();
    let mut config = config(&server, "freehold");
    // Long enough for a busy machine to answer while it can.
    config.request_timeout = Duration::from_secs(3);
    config.connect_timeout = Duration::from_secs(2);
    let store = connect(config).await.unwrap();
    store.apply(create("a")).await.unwrap();
    server.pause();
    let error = store.apply(create("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undetermined, "{error}");
    let error = store.get(&things(), &key("a")).await.unwrap_err();
    let kind = error.kind();
    assert!(
        matches!(kind, ErrorKind::Unavailable | ErrorKind::Throttled),
        "{error}"
    );
    server.resume();
    loop {
        match store.get(&things(), &key("a")).await {
            Ok(record) => break assert!(record.is_some()),
            // A machine under load needs longer than this test's patience now and then.
            Err(error) => assert!(!error.is_conflict(), "{error}"),
        }
    }
}

/// Makes a file the server's own.
fn give(server: &Server, path: &Path) {
    let owner = fs::metadata(server.data_dir()).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Letters that the server cannot compress.
fn letters(seed: u32, count: usize) -> String {
    let mut state = u64::from(seed) + 1;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
                [(state >> 58) as usize],
        )
    };
    (0..count).map(next).collect()
}

fn large(at: u32) -> Batch {
    let (short, long) = (letters(at, 900), letters(at, 40_000));
    let value = Value::encode(&serde_json::json!({ "short": short, "long": long }));
    let key = key(&format!("{at:05}"));
    Batch::new().put(&things(), key, value.unwrap(), PutMode::Create)
}

/// Writes from `first` on until one is refused; which one, and how.
async fn write_until_refused(store: &PostgresStore, first: u32) -> (u32, Error) {
    for at in first..first + 1_000 {
        if let Err(error) = store.apply(large(at)).await {
            return (at, error);
        }
    }
    panic!("the disk never fills");
}

/// All keys below `end` are there, the one at `end` as it should be, and the feed tells of each once.
async fn holds_exactly(store: &PostgresStore, end: u32) {
    for at in 0..end {
        let found = store.get(&things(), &key(&format!("{at:05}"))).await;
        assert!(found.unwrap().is_some(), "{at} of {end}");
    }
    let refused = store.get(&things(), &key(&format!("{end:05}"))).await;
    assert_eq!(refused.unwrap(), None);
    let told = store.changes(None, 10_000).await.unwrap().changes;
    let told: Vec<&str> = told.iter().map(|change| change.key.as_str()).collect();
    let written: Vec<String> = (0..end).map(|at| format!("{at:05}")).collect();
    assert_eq!(told, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_tables_changes_nothing_and_ends_when_there_is_room() {
    let disk = Tiny::new(16 << 20);
    let server = Server::start();
    give(&server, disk.path());
    let place = disk.path().display();
    server.psql(
        "postgres",
        &format!("CREATE TABLESPACE tiny LOCATION '{place}'"),
    );
    server.psql(
        "postgres",
        "ALTER DATABASE postgres SET default_tablespace = tiny",
    );
    let store = connect(config(&server, "freehold")).await.unwrap();
    for at in 0..60 {
        store.apply(large(at)).await.unwrap();
    }
    disk.fill();
    let unavailable = |error: Error| {
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Unavailable, Retry::Later),
            "{error}"
        );
        assert!(error.to_string().contains("make room"), "{error}");
    };
    let (end, error) = write_until_refused(&store, 60).await;
    unavailable(error);
    // An index that is half built is not there, and a feed that cannot be written loses nothing.
    let spec = CollectionSpec {
        name: things(),
        indexes: vec![IndexSpec {
            name: "short".to_owned(),
            fields: vec!["/short".to_owned()],
            unique: false,
            version: 1,
        }],
    };
    let short = Range::IndexPrefix {
        index: "short".to_owned(),
        values: Vec::new(),
    };
    unavailable(store.define(spec.clone()).await.unwrap_err());
    let scan = Scan::new(things(), short);
    let error = store.scan(scan.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    unavailable(store.changes(None, 10).await.unwrap_err());
    // Neither is a store that is half made.
    unavailable(connect(config(&server, "another")).await.unwrap_err());
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'another'";
    assert_eq!(server.psql("postgres", made).trim(), "0");
    disk.free();
    holds_exactly(&store, end).await;
    store.define(spec).await.unwrap();
    let page = store
        .scan(Scan {
            limit: 1_000,
            ..scan
        })
        .await
        .unwrap();
    assert_eq!(page.records.len(), usize::try_from(end).unwrap());
    store.apply(large(end)).await.unwrap();
    connect(config(&server, "another")).await.unwrap();
}

/// Where the log cannot grow the server stops at once, and the answer to the batch is lost with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_log_leaves_one_batch_in_doubt_and_loses_none() {
    let disk = Tiny::new(96 << 20);
    let server = Server::start();
    server.stop(StopMode::Fast);
    let (log, moved) = (server.data_dir().join("pg_wal"), disk.path().join("pg_wal"));
    let copied = Command::new("cp").arg("-a").args([&log, &moved]).status();
    assert!(copied.unwrap().success());
    fs::remove_dir_all(&log).unwrap();
    symlink(&moved, &log).unwrap();
    server.restart();
    let store = connect(config(&server, "freehold")).await.unwrap();
    for at in 0..5 {
        store.apply(large(at)).await.unwrap();
    }
    disk.fill();
    let (end, error) = write_until_refused(&store, 5).await;
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Undetermined, Retry::AfterReading),
        "{error}"
    );
    // Until there is room it does not come back, and says no more than that.
    let error = store.apply(large(end + 1)).await.unwrap_err();
    assert!(!error.is_conflict(), "{error}");
    disk.free();
    server.restart();
    let doubtful = key(&format!("{end:05}"));
    let end = match store.get(&things(), &doubtful).await.unwrap() {
        Some(_) => end + 1,
        None => end,
    };
    holds_exactly(&store, end).await;
    store.apply(large(end)).await.unwrap();
}

/// As after a failover that went the wrong way: the address leads to a server that takes no writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_until_it_is_promoted() {
    let server = Server::start();
    let store = connect(config(&server, "freehold")).await.unwrap();
    for at in 0..3 {
        store.apply(large(at)).await.unwrap();
    }
    let signal = server.data_dir().join("standby.signal");
    fs::write(&signal, "").unwrap();
    give(&server, &signal);
    server.restart();
    let standby = |error: Error| {
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Unavailable, Retry::Later),
            "{error}"
        );
        let said = error.to_string();
        assert!(
            said.contains("standby") && said.contains("takes writes"),
            "{said}"
        );
    };
    for _ in 0..3 {
        standby(store.apply(large(3)).await.unwrap_err());
        // It may lag behind what was acknowledged, so it is not read either.
        standby(store.get(&things(), &key("00000")).await.unwrap_err());
        standby(store.changes(None, 10).await.unwrap_err());
    }
    standby(connect(config(&server, "freehold")).await.unwrap_err());
    standby(connect(config(&server, "another")).await.unwrap_err());
    assert_eq!(server.psql("postgres", "SELECT pg_promote()").trim(), "t");
    holds_exactly(&store, 3).await;
    store.apply(large(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_up_wrongly_is_said_at_once() {
    let server = Server::start();
    let kind = async |change: &dyn Fn(&mut PostgresConfig)| {
        let mut config = config(&server, "freehold");
        change(&mut config);
        let error: Error = connect(config).await.unwrap_err();
        assert!(!format!("{error:?}").contains("wrong secret"), "{error:?}");
        error.kind()
    };
    let wrong = |config: &mut PostgresConfig| config.password = Some(Secret::new("wrong secret"));
    assert_eq!(kind(&wrong).await, ErrorKind::Config);
    assert_eq!(
        kind(&|config| config.password = None).await,
        ErrorKind::Config
    );
    assert_eq!(
        kind(&|config| config.database = "nowhere".to_owned()).await,
        ErrorKind::Config
    );
    let hostile = "x\"; DROP SCHEMA public; --";
    assert_eq!(
        kind(&|config| config.schema = hostile.to_owned()).await,
        ErrorKind::Config
    );
    assert_eq!(
        kind(&|config| config.port = 1).await,
        ErrorKind::Unavailable
    );

    server.psql(
        "postgres",
        "CREATE SCHEMA theirs; CREATE TABLE theirs.a (b int)",
    );
    assert_eq!(
        kind(&|config| config.schema = "theirs".to_owned()).await,
        ErrorKind::Config
    );
    assert_eq!(
        server
            .psql(
                "postgres",
                "SELECT count(*) FROM pg_tables WHERE schemaname='theirs'"
            )
            .trim(),
        "1"
    );
    connect(config(&server, "newer")).await.unwrap();
    server.psql(
        "postgres",
        "UPDATE newer.meta SET value = 99 WHERE name = 'format'",
    );
    assert_eq!(
        kind(&|config| config.schema = "newer".to_owned()).await,
        ErrorKind::Config
    );

    // A login that may not make a schema.
    server.psql("postgres", "CREATE ROLE plain LOGIN PASSWORD 'p'");
    let plain = |config: &mut PostgresConfig| {
        config.user = "plain".to_owned();
        config.password = Some(Secret::new("p"));
    };
    assert_eq!(kind(&plain).await, ErrorKind::Config);
    // One whose schema was made for it.
    server.psql("postgres", "CREATE SCHEMA freehold AUTHORIZATION plain");
    let mut config = config(&server, "freehold");
    plain(&mut config);
    connect(config)
        .await
        .unwrap()
        .apply(create("a"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_make_one_store() {
    let server = Server::start();
    let starts = (0..8).map(|_| connect(config(&server, "freehold")));
    let stores = futures::future::try_join_all(starts).await.unwrap();
    stores[0].apply(create("a")).await.unwrap();
    for store in &stores {
        assert!(store.get(&things(), &key("a")).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_defaults_do_not_weaken_the_store() {
    let server = Server::start();
    server.psql(
        "postgres",
        "ALTER DATABASE postgres SET default_transaction_isolation = 'serializable';
         ALTER DATABASE postgres SET synchronous_commit = off;
         ALTER DATABASE postgres SET default_transaction_read_only = on;
         ALTER DATABASE postgres SET search_path = nowhere",
    );
    let subject = Postgres {
        server: &server,
        schema: "freehold".to_owned(),
    };
    let store = subject.open().await;
    store.apply(create("a")).await.unwrap();
    let isolated = PROPERTIES
        .iter()
        .find(|p| p.name == "write_skew_is_refused")
        .unwrap();
    (isolated.check)(&subject).await;
}

/// The feed waits neither for a transaction that somebody forgot, anywhere in the cluster, nor for a
/// writer that is slow to commit; and what commits late is told late and not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_waits_for_nobody_and_loses_nobody() {
    let server = Server::start();
    let store = connect(config(&server, "freehold")).await.unwrap();
    let url = server.url("postgres");
    let (mut slow, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let transaction = slow.transaction().await.unwrap();
    // What apply_v1 writes, in a transaction that has its sequence value and does not commit yet.
    transaction
        .batch_execute(
            "SELECT txid_current();
             INSERT INTO freehold.outbox (collection, key, at) VALUES ('things', 'slow', 0)",
        )
        .await
        .unwrap();
    store.apply(create("quick")).await.unwrap();
    let first = store.changes(None, 10).await.unwrap();
    let told: Vec<&str> = first
        .changes
        .iter()
        .map(|change| change.key.as_str())
        .collect();
    assert_eq!(told, ["quick"]);
    transaction.commit().await.unwrap();
    let second = store.changes(Some(first.next), 10).await.unwrap();
    assert_eq!(second.changes.len(), 1);
    assert_eq!(
        (second.changes[0].key.as_str(), &second.changes[0].kind),
        ("slow", &ChangeKind::Delete)
    );
    assert_eq!(second.next.0, first.next.0 + 1);
}

/// The promises that rest on locking, on every major version that is installed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_installed_version_keeps_the_promises_about_concurrency() {
    let wanted = [
        "write_skew_is_refused",
        "unique_values_change_hands_within_a_batch",
        "an_expired_unique_value_is_free",
        "a_lease_is_exclusive_and_its_epoch_grows",
    ];
    for version in Server::versions() {
        let server = Server::start_version(version);
        for (at, name) in wanted.iter().enumerate() {
            let property = PROPERTIES
                .iter()
                .find(|property| property.name == *name)
                .unwrap();
            let subject = Postgres {
                server: &server,
                schema: format!("v{at}"),
            };
            (property.check)(&subject).await;
        }
    }
}
