//! The built program from outside: real processes, real signals, a real PostgreSQL, and nothing known
//! of the inside but what the documents say.
//!
//! Nothing here sleeps: every wait is for the thing itself (a line of a log, a lock that somebody
//! waits for, a command that says so), with a limit that is long because machines are busy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail this way"
)]

mod audit;
mod crowd;
mod deaths;
mod demo;
mod first_start;
mod plant;
mod postgres_tls;
mod restore;
mod secrets;
mod tls;
mod traces;
mod waiting;
