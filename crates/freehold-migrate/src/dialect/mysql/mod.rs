//! MySQL and MariaDB.
//!
//! Most statements that change a schema commit by themselves, so a script of them cannot be undone.
//! [`classify`] finds them, and [`server`] holds what the runner says to the server.

mod classify;
mod lexer;
pub(crate) mod server;
mod split;

pub(crate) use classify::temporary_name;
pub(crate) use split::split;

/// Modes in which quotes or backslashes mean something else. The session must have none of them.
pub(crate) const FOREIGN_MODES: &[&str] = &[
    "ANSI",
    "ANSI_QUOTES",
    "DB2",
    "MAXDB",
    "MSSQL",
    "NO_BACKSLASH_ESCAPES",
    "ORACLE",
    "POSTGRESQL",
];
