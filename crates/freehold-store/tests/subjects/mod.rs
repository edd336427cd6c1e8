//! The three adapters as subjects of the conformance suite and of the model test.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use freehold_model::{Secret, SystemEntropy};
use freehold_store::{
    MemoryStore, PostgresConfig, PostgresStore, SqliteStore, StoreHandle,
    conformance::{BoxFuture, Subject},
};
use freehold_testing::{clock::TestClock, postgres::Server};
use jiff::SignedDuration;
use tempfile::TempDir;

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap()
}

pub(crate) struct Memory {
    store: MemoryStore,
    clock: TestClock,
}

impl Memory {
    pub(crate) fn fresh() -> Self {
        let clock = TestClock::default();
        let store = MemoryStore::new(Arc::new(clock.clone()), Arc::new(SystemEntropy));
        Self { store, clock }
    }
}

impl Subject for Memory {
    fn open(&self) -> BoxFuture<'_, StoreHandle> {
        Box::pin(async { StoreHandle::new(self.store.clone()) })
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.advance(signed(time));
        Box::pin(async {})
    }

    fn set_clock_back(&self, by: Duration) -> bool {
        self.clock.jump(-signed(by));
        true
    }
}

/// Every `open` is a store of its own on the same file, with its own writer and readers.
pub(crate) struct Sqlite {
    folder: TempDir,
    clock: TestClock,
}

impl Sqlite {
    pub(crate) fn fresh() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: TestClock::default(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub(crate) fn store(&self) -> SqliteStore {
        let clock = Arc::new(self.clock.clone());
        SqliteStore::open(self.path(), clock, Arc::new(SystemEntropy)).unwrap()
    }
}

impl Subject for Sqlite {
    fn open(&self) -> BoxFuture<'_, StoreHandle> {
        Box::pin(async { StoreHandle::new(self.store()) })
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.advance(signed(time));
        Box::pin(async {})
    }

    fn set_clock_back(&self, by: Duration) -> bool {
        self.clock.jump(-signed(by));
        true
    }
}

pub(crate) fn config(server: &Server, schema: &str) -> PostgresConfig {
    let mut config =
        PostgresConfig::new(server.host(), server.port(), server.superuser(), "postgres");
    config.password = Some(Secret::new(server.superuser_password()));
    config.schema = schema.to_owned();
    // The machine that runs the tests may be busy.
    config.connect_timeout = Duration::from_secs(60);
    config.request_timeout = Duration::from_secs(60);
    config
}

pub(crate) async fn connect(config: PostgresConfig) -> StoreHandle {
    let store = PostgresStore::connect(config, Arc::new(SystemEntropy))
        .await
        .unwrap();
    StoreHandle::new(store)
}

/// One schema of a server; every `open` has connections of its own.
pub(crate) struct Postgres<'a> {
    pub(crate) server: &'a Server,
    pub(crate) schema: String,
}

impl Subject for Postgres<'_> {
    fn open(&self) -> BoxFuture<'_, StoreHandle> {
        let mut config = config(self.server, &self.schema);
        config.connections = 6;
        Box::pin(connect(config))
    }

    /// The server's clock is real, so time must really pass.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn soon(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn set_clock_back(&self, _: Duration) -> bool {
        false
    }
}
