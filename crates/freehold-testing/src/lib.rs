//! What tests need from the outside world: throwaway servers, broken networks, full disks, and a
//! clock and a random source that a test controls.
//!
//! Nothing here is ever skipped. When a server is not installed the caller panics with a message
//! that says which command installs it, because a test that silently did nothing proves nothing.
//!
//! This crate is a dev-dependency only; `cargo xtask tidy` checks that.

pub mod binary;
#[expect(
    dead_code,
    reason = "tests search the cache; only xtask installs into it"
)]
mod cache;
pub mod certificates;
pub mod clock;
pub mod disk;
pub mod entropy;
pub mod faults;
pub mod mariadb;
pub mod pgbouncer;
pub mod postgres;
mod process;
pub mod proxy;
pub mod redis;
mod throwaway;
