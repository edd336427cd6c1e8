//! The SQL of one product: where its statements end, what they are, and what the runner says to it.
//!
//! [`Dialect`] is the one place that knows which engines there are. Each has a folder with the same
//! files: `lexer` (its tokens), `split` (from text to statements), `classify` (what a statement asks
//! of the runner) and `server` (the runner's own SQL). All of it is pure text; the runner sends it.

mod mysql;
mod postgresql;
mod sqlite;
pub(crate) mod token;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{SplitError, Statement};
pub(crate) use mysql::{server as mysql_server, temporary_name};
pub(crate) use postgresql::server as postgresql_server;
pub(crate) use sqlite::server as sqlite_server;

/// Flyway's table.
pub const HISTORY_TABLE: &str = "flyway_schema_history";

/// Whose SQL a script is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    #[default]
    Postgresql,
    /// MariaDB too.
    Mysql,
    Sqlite,
}

/// A name that is no dialect's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are no migrations for {0:?}; known are postgresql, mariadb, mysql and sqlite")]
pub struct UnknownDialect(pub String);

impl Dialect {
    pub const ALL: [Self; 3] = [Self::Postgresql, Self::Mysql, Self::Sqlite];

    /// The word in a bundle's manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// Whether a failing statement can undo the schema changes before it.
    pub fn has_transactional_ddl(self) -> bool {
        self != Self::Mysql
    }

    pub(crate) fn split(self, text: &str) -> Result<Vec<Statement>, SplitError> {
        match self {
            Self::Postgresql => postgresql::split(text),
            Self::Mysql => mysql::split(text),
            Self::Sqlite => sqlite::split(text),
        }
    }

    /// A name in its quotes.
    pub(crate) fn identifier(self, name: &str) -> String {
        let quote = if self == Self::Mysql { '`' } else { '"' };
        let doubled = name.replace(quote, &format!("{quote}{quote}"));
        format!("{quote}{doubled}{quote}")
    }

    /// A value as a string literal. For PostgreSQL it means the same whatever
    /// `standard_conforming_strings` says, because a script may have changed it behind our back.
    /// NUL, which no text of a server can hold, is left out.
    pub(crate) fn literal(self, text: &str) -> String {
        let doubled = text.replace('\0', "").replace('\'', "''");
        match self {
            Self::Postgresql if doubled.contains('\\') => {
                format!(" E'{}'", doubled.replace('\\', "\\\\"))
            }
            Self::Mysql => format!("'{}'", doubled.replace('\\', "\\\\")),
            Self::Postgresql | Self::Sqlite => format!("'{doubled}'"),
        }
    }

    pub(crate) fn boolean(self, value: bool) -> &'static str {
        match (self, value) {
            (Self::Postgresql, true) => "true",
            (Self::Postgresql, false) => "false",
            (_, true) => "1",
            (_, false) => "0",
        }
    }

    /// An expression as text, so that every driver hands out the same.
    pub(crate) fn as_text(self, expression: &str) -> String {
        match self {
            Self::Postgresql => format!("{expression}::text"),
            Self::Mysql => format!("CAST({expression} AS CHAR)"),
            Self::Sqlite => format!("CAST({expression} AS TEXT)"),
        }
    }

    /// The history table of a schema, quoted.
    pub(crate) fn history_table(self, schema: &str) -> String {
        format!(
            "{}.{}",
            self.identifier(schema),
            self.identifier(HISTORY_TABLE)
        )
    }

    /// How a transaction is opened that the script does not open itself. SQLite must have its write
    /// lock from the start: one that is asked for later can be refused for good.
    pub(crate) fn opening(self) -> &'static str {
        match self {
            Self::Postgresql => "BEGIN",
            Self::Mysql => "START TRANSACTION",
            Self::Sqlite => "BEGIN IMMEDIATE",
        }
    }

    /// A script's own opening, as it is sent.
    pub(crate) fn opening_of(self, own: &str) -> String {
        match self {
            Self::Sqlite if own.to_ascii_uppercase().contains("EXCLUSIVE") => {
                "BEGIN EXCLUSIVE".to_owned()
            }
            Self::Sqlite => self.opening().to_owned(),
            Self::Postgresql | Self::Mysql => own.to_owned(),
        }
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    /// From the word in a manifest, or from an instance's engine.
    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        match text {
            "postgresql" | "postgres" => Ok(Self::Postgresql),
            "mysql" | "mariadb" => Ok(Self::Mysql),
            "sqlite" => Ok(Self::Sqlite),
            _ => Err(UnknownDialect(text.to_owned())),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_inside_its_quotes() {
        let [pg, mysql, sqlite] = Dialect::ALL;
        assert_eq!(pg.identifier("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(sqlite.identifier("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(mysql.identifier("a`; DROP"), "`a``; DROP`");
        assert_eq!(pg.literal("it's"), "'it''s'");
        assert_eq!(pg.literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(mysql.literal("a\\'b"), "'a\\\\''b'");
        assert_eq!(sqlite.literal("a\\'b\0"), "'a\\''b'");
    }

    #[test]
    fn modes_that_change_quotes_are_taken_away_and_no_others() {
        assert_eq!(mysql_server::plain_modes("STRICT_TRANS_TABLES"), None);
        assert_eq!(mysql_server::plain_modes(""), None);
        assert_eq!(
            mysql_server::plain_modes("REAL_AS_FLOAT,ANSI_QUOTES,ANSI,STRICT_ALL_TABLES")
                .as_deref(),
            Some("SET SESSION sql_mode = 'REAL_AS_FLOAT,STRICT_ALL_TABLES'")
        );
    }
}
