//! PostgreSQL.

mod classify;
mod lexer;
pub(crate) mod server;
mod split;

pub(crate) use split::split;
