//! The rows of Flyway's history table, as they are read.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Version;

/// One row of `flyway_schema_history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// The order of application; the primary key.
    pub installed_rank: i32,
    /// None for repeatable migrations and for the schema row.
    pub version: Option<Version>,
    pub description: String,
    pub kind: RowKind,
    /// Path relative to the migrations folder.
    pub script: String,
    pub checksum: Option<i32>,
    pub installed_by: String,
    /// As the server writes a timestamp without zone.
    pub installed_on: String,
    pub execution_time_ms: i32,
    pub success: bool,
}

/// The `type` column. Freehold writes [`RowKind::Sql`] only, because Flyway stops at a value that it
/// does not know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum RowKind {
    Schema,
    Baseline,
    Delete,
    Sql,
    Jdbc,
    Script,
    UndoScript,
    Custom,
    SqlBaseline,
    JdbcBaseline,
    UndoSql,
    UndoJdbc,
    /// Written by something that is neither Flyway nor Freehold.
    Unknown(String),
}

impl RowKind {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Schema => "SCHEMA",
            Self::Baseline => "BASELINE",
            Self::Delete => "DELETE",
            Self::Sql => "SQL",
            Self::Jdbc => "JDBC",
            Self::Script => "SCRIPT",
            Self::UndoScript => "UNDO_SCRIPT",
            Self::Custom => "CUSTOM",
            Self::SqlBaseline => "SQL_BASELINE",
            Self::JdbcBaseline => "JDBC_BASELINE",
            Self::UndoSql => "UNDO_SQL",
            Self::UndoJdbc => "UNDO_JDBC",
            Self::Unknown(text) => text,
        }
    }

    /// Rows that no file stands behind.
    pub(crate) fn is_synthetic(&self) -> bool {
        matches!(self, Self::Schema | Self::Baseline | Self::Delete)
    }

    pub(crate) fn is_undo(&self) -> bool {
        matches!(self, Self::UndoScript | Self::UndoSql | Self::UndoJdbc)
    }

    /// Rows below whose version nothing is run or compared.
    pub(crate) fn is_baseline(&self) -> bool {
        matches!(
            self,
            Self::Baseline | Self::SqlBaseline | Self::JdbcBaseline
        )
    }
}

impl From<String> for RowKind {
    fn from(text: String) -> Self {
        match text.as_str() {
            "SCHEMA" => Self::Schema,
            "BASELINE" => Self::Baseline,
            "DELETE" => Self::Delete,
            "SQL" => Self::Sql,
            // SPRING_JDBC is the name of Flyway 5 and older.
            "JDBC" | "SPRING_JDBC" => Self::Jdbc,
            "SCRIPT" => Self::Script,
            "UNDO_SCRIPT" => Self::UndoScript,
            "CUSTOM" => Self::Custom,
            "SQL_BASELINE" | "SQL_STATE_SCRIPT" => Self::SqlBaseline,
            "JDBC_BASELINE" | "JDBC_STATE_SCRIPT" => Self::JdbcBaseline,
            "UNDO_SQL" => Self::UndoSql,
            "UNDO_JDBC" => Self::UndoJdbc,
            _ => Self::Unknown(text),
        }
    }
}

impl From<RowKind> for String {
    fn from(kind: RowKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_flyway_writes_is_known_and_aliases_are_read() {
        for text in [
            "SCHEMA",
            "BASELINE",
            "DELETE",
            "SQL",
            "JDBC",
            "SCRIPT",
            "UNDO_SCRIPT",
            "CUSTOM",
            "SQL_BASELINE",
            "JDBC_BASELINE",
            "UNDO_SQL",
            "UNDO_JDBC",
        ] {
            let kind = RowKind::from(text.to_owned());
            assert!(!matches!(kind, RowKind::Unknown(_)), "{text}");
            assert_eq!(kind.as_str(), text);
        }
        let read = |text: &str| RowKind::from(text.to_owned());
        assert_eq!(read("SPRING_JDBC"), RowKind::Jdbc);
        assert_eq!(read("SQL_STATE_SCRIPT"), RowKind::SqlBaseline);
        assert_eq!(read("JDBC_STATE_SCRIPT"), RowKind::JdbcBaseline);
        assert_eq!(read("X"), RowKind::Unknown("X".to_owned()));
    }
}
