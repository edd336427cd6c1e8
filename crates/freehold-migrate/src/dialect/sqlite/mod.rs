//! SQLite.
//!
//! Its schema changes are transactional like PostgreSQL's. There is no server, no account and no
//! advisory lock: `BEGIN IMMEDIATE` keeps a second runner out of a script, and the history, looked at
//! again inside that transaction, tells what the other one has done.

mod classify;
mod lexer;
pub(crate) mod server;
mod split;

pub(crate) use split::split;
