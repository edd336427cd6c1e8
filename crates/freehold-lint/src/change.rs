//! What a statement changes, in words that all engines share.
//!
//! The parsers of [`crate::parse`] translate into these values, and everything after them (what is
//! known, the rules) sees nothing else. So a rule is written once and holds for each engine where it is
//! true.

use std::ops::Range;

/// One effect of a statement; `ALTER TABLE` with three actions has three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The words of it, as byte offsets into the script.
    pub at: Range<usize>,
    pub effect: Effect,
}

/// A table's name in one spelling: folded as the engine folds it, the default schema left out.
pub(crate) type TableName = String;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    CreateTable {
        table: TableName,
        columns: Vec<Column>,
        constraints: Vec<Constraint>,
        /// `LIKE`, `AS`, `PARTITION OF`, `INHERITS`: there is more to the table than its columns here.
        derived: bool,
        temporary: bool,
    },
    DropTable {
        table: TableName,
    },
    RenameTable {
        table: TableName,
        to: TableName,
    },
    AddColumn {
        table: TableName,
        column: Column,
    },
    DropColumn {
        table: TableName,
        column: String,
    },
    RenameColumn {
        table: TableName,
        column: String,
        to: String,
    },
    /// MySQL's `MODIFY` says all of the column anew, so the type may be the one it has.
    SetType {
        table: TableName,
        column: String,
        data_type: String,
        /// PostgreSQL's `USING`: an expression decides, and the table is rewritten whatever the types are.
        converted: bool,
        /// What `MODIFY` says about NULL; `None` where the statement does not touch it.
        not_null: Option<bool>,
    },
    SetNotNull {
        table: TableName,
        column: String,
    },
    AddConstraint {
        table: TableName,
        constraint: Constraint,
    },
    ValidateConstraint {
        table: TableName,
        name: String,
    },
    DropConstraint {
        table: TableName,
        name: String,
    },
    CreateIndex {
        table: TableName,
        name: Option<String>,
        columns: Vec<String>,
        unique: bool,
        concurrently: bool,
        /// MySQL's `FULLTEXT` and `SPATIAL`, which are not built online.
        special: bool,
    },
    DropIndex {
        name: String,
        /// Where the engine's statement names it.
        table: Option<TableName>,
        concurrently: bool,
    },
    Reindex {
        what: Reindexed,
        concurrently: bool,
    },
    DetachPartition {
        table: TableName,
        concurrently: bool,
    },
    /// `CLUSTER`, `VACUUM FULL`, `CONVERT TO CHARACTER SET`: writes the whole table anew, and nobody uses it
    /// meanwhile.
    Rewrite {
        table: TableName,
        by: &'static str,
    },
    Truncate {
        table: TableName,
        cascade: bool,
    },
    /// `UPDATE` or `DELETE`.
    ChangeRows {
        table: TableName,
        verb: &'static str,
        restricted: bool,
    },
    /// MySQL's `SET foreign_key_checks`, SQLite's `PRAGMA foreign_keys`.
    ForeignKeyChecks {
        on: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reindexed {
    Table(TableName),
    Index(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    /// In lower case with single spaces.
    pub data_type: String,
    pub not_null: bool,
    pub default: Preset,
    /// `GENERATED … STORED`.
    pub stored: bool,
    /// `serial`, `IDENTITY`, `AUTO_INCREMENT`: the engine numbers rows, those that exist too.
    pub numbered: bool,
    pub primary_key: bool,
    pub unique: bool,
    pub check: bool,
    pub references: Option<Reference>,
}

/// What a column's `DEFAULT` is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Preset {
    #[default]
    None,
    Null,
    /// One value for all rows.
    Constant,
    /// A value of its own for each row; the text says which function gives it.
    PerRow(String),
    /// It calls a function of which we do not know that it gives the same for all rows.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub table: TableName,
    /// Whether deleting there changes rows here.
    pub cascades: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Constraint {
    pub name: Option<String>,
    pub kind: ConstraintKind,
    /// PostgreSQL's `NOT VALID`.
    pub not_valid: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConstraintKind {
    /// The column that it keeps from being NULL, where that is all it says.
    Check {
        not_null: Option<String>,
    },
    Foreign {
        columns: Vec<String>,
        reference: Reference,
    },
    Unique {
        columns: Vec<String>,
        using_index: bool,
    },
    Primary {
        columns: Vec<String>,
        using_index: bool,
    },
    Exclude,
    /// `ADD INDEX` of MySQL, inside a table.
    Index {
        columns: Vec<String>,
    },
}
