//! What the gates look at, as plain values: scripts already cut into statements, the engine, and what
//! is known of the database.
//!
//! Reading files, cutting scripts and asking servers are the caller's matter. A caller has them at hand
//! anyway: whoever is about to run the scripts has cut them and knows which of them run in a transaction.

use std::{fmt, ops::Range, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Place, Policy};

/// The scripts of one run against one database, in the order in which they run.
#[derive(Debug, Clone)]
pub struct Sequence<'a> {
    pub engine: Engine,
    pub scripts: Vec<Script<'a>>,
    /// What the database holds; without one a table of unknown size counts as one in use.
    pub snapshot: Option<&'a Snapshot>,
    /// What the runner would refuse, which the gates pass on as findings.
    pub refused: Vec<Refused>,
    pub policy: &'a Policy,
    /// Suppressions end on a date.
    pub today: jiff::civil::Date,
}

/// One script. Positions are byte offsets into `text`.
#[derive(Debug, Clone)]
pub struct Script<'a> {
    /// Relative to the folder, `/` separated.
    pub path: &'a str,
    pub text: &'a str,
    /// `None` for a repeatable one.
    pub version: Option<&'a str>,
    /// From the first token to the last, the semicolon not included. What lies outside `text`, or not
    /// between characters, is left out.
    pub statements: Vec<Range<usize>>,
    /// Whether the runner sends all of it in one transaction.
    pub in_transaction: bool,
    /// False for a script that has run: the gates learn from it and say nothing about it.
    pub pending: bool,
}

/// Why the runner would not run a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub what: Refusal,
    pub file: String,
    pub place: Option<Place>,
    pub reason: String,
    pub advice: String,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    FileName,
    /// Two files are one migration.
    Duplicate,
    Script,
}

/// A product whose SQL the gates know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Product {
    Postgres,
    Mariadb,
    Mysql,
    Sqlite,
}

impl Product {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// As people write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mariadb => "MariaDB",
            Self::Mysql => "MySQL",
            Self::Sqlite => "SQLite",
        }
    }

    /// MySQL's relatives.
    pub fn is_mysql_like(self) -> bool {
        matches!(self, Self::Mariadb | Self::Mysql)
    }

    /// The oldest version that its makers support: what it can do, newer ones can.
    fn oldest(self) -> Vec<u32> {
        match self {
            Self::Postgres => vec![14],
            Self::Mariadb => vec![10, 6],
            Self::Mysql => vec![8, 0],
            Self::Sqlite => vec![3, 35],
        }
    }
}

/// A product and its version, `postgres:15` or `mariadb:10.11.6`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    pub product: Product,
    version: Vec<u32>,
}

impl Engine {
    /// Of the oldest supported version.
    pub fn oldest(product: Product) -> Self {
        Self {
            product,
            version: product.oldest(),
        }
    }

    /// Whether it is of this version or a later one; parts that were not named count as the lowest.
    pub fn at_least(&self, version: &[u32]) -> bool {
        self.version.as_slice() >= version
    }
}

/// A text that names no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no engine; say postgres, mariadb, mysql or sqlite, and a version if you like: postgres:15"
)]
pub struct UnknownEngine(pub String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let unknown = || UnknownEngine(text.to_owned());
        let (name, version) = match text.split_once(':') {
            None => (text, None),
            Some((name, version)) => (name, Some(version)),
        };
        let product = match name {
            "postgres" | "postgresql" => Product::Postgres,
            "mariadb" => Product::Mariadb,
            "mysql" => Product::Mysql,
            "sqlite" => Product::Sqlite,
            _ => return Err(unknown()),
        };
        let Some(version) = version else {
            return Ok(Self::oldest(product));
        };
        let version: Vec<u32> = version
            .split('.')
            .map(|part| part.parse().map_err(|_| unknown()))
            .collect::<Result<_, _>>()?;
        Ok(Self { product, version })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version: Vec<String> = self.version.iter().map(ToString::to_string).collect();
        write!(f, "{}:{}", self.product.as_str(), version.join("."))
    }
}

/// What a database held at some moment: enough to know which of its tables are large, what their columns
/// are, and who refers to whom. Counts may be the server's estimates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// The highest version that the database has applied, as its history writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    pub tables: Vec<SnapshotTable>,
}

/// One table of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotTable {
    /// Left out for the schema that scripts find without naming it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    pub name: String,
    /// Rows, as the server estimates them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes with indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<SnapshotColumn>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<SnapshotIndex>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_keys: Vec<SnapshotForeignKey>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotColumn {
    pub name: String,
    /// As the server writes it: `character varying(40)`, `bigint`.
    #[serde(rename = "type")]
    pub data_type: String,
    #[serde(default)]
    pub not_null: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotIndex {
    pub name: String,
    /// In the index's order; expressions are left out.
    pub columns: Vec<String>,
    #[serde(default)]
    pub unique: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotForeignKey {
    pub columns: Vec<String>,
    /// The table referred to, `schema.table` where scripts have to name the schema.
    pub table: String,
    /// Whether deleting there deletes or changes rows here: `CASCADE`, `SET NULL`, `SET DEFAULT`.
    #[serde(default)]
    pub cascades: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_read_and_compared() {
        let engine: Engine = "postgres:15.4".parse().unwrap();
        assert!(engine.at_least(&[12]) && engine.at_least(&[15, 4]) && !engine.at_least(&[16]));
        assert_eq!(engine.to_string(), "postgres:15.4");
        let engine: Engine = "mysql".parse().unwrap();
        assert!(engine.at_least(&[8, 0]) && !engine.at_least(&[8, 0, 29]));
        for wrong in [
            "",
            "oracle",
            "postgres:",
            "postgres:x",
            "postgres:15.",
            "sqlite:3:4",
        ] {
            assert!(wrong.parse::<Engine>().is_err(), "{wrong}");
        }
    }
}
