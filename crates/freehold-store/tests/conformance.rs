//! The public suite on the three adapters of this crate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod subjects;

use std::sync::atomic::{AtomicUsize, Ordering};

use freehold_store::conformance::run_all;
use freehold_testing::postgres::Server;
use subjects::{Memory, Postgres, Sqlite};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_keeps_every_promise() {
    run_all(async || Memory::fresh()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_every_promise() {
    run_all(async || Sqlite::fresh()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_every_promise() {
    let server = Server::start();
    let count = AtomicUsize::new(0);
    run_all(async || Postgres {
        server: &server,
        schema: format!("store_{}", count.fetch_add(1, Ordering::Relaxed)),
    })
    .await;
}
