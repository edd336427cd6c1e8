//! What the runner says to SQLite.

use crate::dialect::{Dialect, HISTORY_TABLE};

const SQLITE: Dialect = Dialect::Sqlite;

/// Schema, user, database, version. There are no users; Flyway writes an empty name.
pub(crate) const FACTS: &str = "SELECT 'main', '', \
    (SELECT file FROM pragma_database_list WHERE name = 'main'), sqlite_version()";

pub(crate) fn history_exists() -> String {
    format!(
        "SELECT COUNT(*) > 0 FROM main.sqlite_master WHERE type = 'table' AND lower(name) = {}",
        SQLITE.literal(HISTORY_TABLE)
    )
}

/// Tables that SQLite and Android keep for themselves do not count.
pub(crate) fn schema_is_empty() -> &'static str {
    "SELECT COUNT(*) = 0 FROM main.sqlite_master WHERE type IN ('table', 'view') \
     AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> 'android_metadata'"
}

/// The table exactly as Flyway makes it. Two runs may come to this at once, and one finds it made.
pub(crate) fn create_history() -> String {
    format!(
        "BEGIN IMMEDIATE;\n\
         CREATE TABLE IF NOT EXISTS {table} (\n\
         \"installed_rank\" INT NOT NULL PRIMARY KEY,\n\
         \"version\" VARCHAR(50),\n\
         \"description\" VARCHAR(200) NOT NULL,\n\
         \"type\" VARCHAR(20) NOT NULL,\n\
         \"script\" VARCHAR(1000) NOT NULL,\n\
         \"checksum\" INT,\n\
         \"installed_by\" VARCHAR(100) NOT NULL,\n\
         \"installed_on\" TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f','now')),\n\
         \"execution_time\" INT NOT NULL,\n\
         \"success\" BOOLEAN NOT NULL\n\
         );\n\
         CREATE INDEX IF NOT EXISTS \"main\".{index} ON {name} (\"success\");\n\
         COMMIT",
        table = SQLITE.history_table("main"),
        name = SQLITE.identifier(HISTORY_TABLE),
        index = SQLITE.identifier(&format!("{HISTORY_TABLE}_s_idx")),
    )
}
