//! What is known of the database at a point of the sequence: the snapshot, and what scripts have done since.
//!
//! This is what keeps the gates quiet. A table that the same run makes is empty for everybody else, and a
//! small one is over in no time; neither is worth a word. A table of which nothing is known counts as one in
//! use, and the finding says so by being a warning.

use std::collections::{HashMap, HashSet};

use crate::{
    Policy, Product, Snapshot,
    change::{Change, Column, Constraint, ConstraintKind, Effect, Reference},
    parse,
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    tables: HashMap<String, Table>,
    /// Which table an index belongs to.
    indexes: HashMap<String, String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    size: Size,
    columns: HashMap<String, Column>,
    /// Columns of each index, by the index's name where it has one.
    indexes: Vec<(Option<String>, Vec<String>)>,
    checks: HashMap<String, Check>,
    references: Vec<Reference>,
    /// Columns that the sequence has added: empty for everybody else.
    fresh: HashSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub not_null: Option<String>,
    pub validated: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Size {
    /// Made by the sequence that is checked.
    New,
    #[default]
    Unknown,
    Counted {
        rows: Option<u64>,
        bytes: Option<u64>,
    },
}

/// How much a table weighs for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    New,
    Small,
    Large {
        rows: Option<u64>,
        bytes: Option<u64>,
    },
    Unknown,
}

impl Known {
    pub(crate) fn of(product: Product, snapshot: Option<&Snapshot>) -> Self {
        let mut known = Self::default();
        for table in snapshot.iter().flat_map(|snapshot| &snapshot.tables) {
            let name = parse::table_name(product, table.schema.as_deref(), &table.name);
            let columns = table.columns.iter().map(|column| {
                let own = Column {
                    name: column.name.clone(),
                    data_type: parse::plain_type(&column.data_type),
                    not_null: column.not_null,
                    ..Column::default()
                };
                (column.name.clone(), own)
            });
            let referred = |table: &str| match table.split_once('.') {
                Some((schema, table)) => parse::table_name(product, Some(schema), table),
                None => parse::table_name(product, None, table),
            };
            for index in &table.indexes {
                known.indexes.insert(index.name.clone(), name.clone());
            }
            let own = Table {
                size: Size::Counted {
                    rows: table.rows,
                    bytes: table.bytes,
                },
                columns: columns.collect(),
                indexes: table
                    .indexes
                    .iter()
                    .map(|index| (Some(index.name.clone()), index.columns.clone()))
                    .collect(),
                checks: HashMap::new(),
                references: table
                    .foreign_keys
                    .iter()
                    .map(|key| Reference {
                        table: referred(&key.table),
                        cascades: key.cascades,
                    })
                    .collect(),
                fresh: HashSet::new(),
            };
            known.tables.insert(name, own);
        }
        known
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    pub(crate) fn table_of_index(&self, index: &str) -> Option<&str> {
        self.indexes.get(index).map(String::as_str)
    }

    pub(crate) fn weight(&self, table: &str, policy: &Policy) -> Weight {
        match self.tables.get(table).map(|table| table.size) {
            None
            | Some(
                Size::Unknown
                | Size::Counted {
                    rows: None,
                    bytes: None,
                },
            ) => Weight::Unknown,
            Some(Size::New) => Weight::New,
            Some(Size::Counted { rows, bytes }) => {
                let small_rows = rows.is_none_or(|rows| rows < policy.small_rows);
                let small_bytes = bytes.is_none_or(|bytes| bytes < policy.small_bytes);
                if small_rows && small_bytes {
                    Weight::Small
                } else {
                    Weight::Large { rows, bytes }
                }
            }
        }
    }

    /// How many rows a table has, where somebody counted.
    pub(crate) fn rows(&self, table: &str) -> Option<u64> {
        match self.tables.get(table)?.size {
            Size::Counted { rows, .. } => rows,
            Size::New | Size::Unknown => None,
        }
    }

    /// The tables that refer to one such that deleting there changes rows here.
    pub(crate) fn cascading_into(&self, table: &str) -> Vec<&str> {
        let mut found: Vec<&str> = self
            .tables
            .iter()
            .filter(|(name, other)| {
                name.as_str() != table
                    && other
                        .references
                        .iter()
                        .any(|reference| reference.table == table && reference.cascades)
            })
            .map(|(name, _)| name.as_str())
            .collect();
        found.sort_unstable();
        found
    }

    /// Takes a change for done. `pending` says whether it belongs to the sequence that is checked.
    pub(crate) fn apply(&mut self, change: &Change, pending: bool) {
        match &change.effect {
            Effect::CreateTable {
                table,
                columns,
                constraints,
                ..
            } => self.create(table, columns, constraints, pending),
            Effect::DropTable { table } => {
                self.tables.remove(table);
                self.indexes.retain(|_, of| of != table);
            }
            Effect::RenameTable { table, to } => {
                if let Some(own) = self.tables.remove(table) {
                    self.tables.insert(to.clone(), own);
                }
                for of in self.indexes.values_mut().filter(|of| *of == table) {
                    of.clone_from(to);
                }
            }
            Effect::CreateIndex {
                table,
                name,
                columns,
                ..
            } => {
                if let Some(name) = name {
                    self.indexes.insert(name.clone(), table.clone());
                }
                let own = self.tables.entry(table.clone()).or_default();
                own.indexes.push((name.clone(), columns.clone()));
            }
            Effect::DropIndex { name, .. } => {
                if let Some(table) = self.indexes.remove(name)
                    && let Some(own) = self.tables.get_mut(&table)
                {
                    own.indexes.retain(|(of, _)| of.as_ref() != Some(name));
                }
            }
            Effect::AddConstraint { table, constraint } => {
                self.tables
                    .entry(table.clone())
                    .or_default()
                    .constrain(constraint);
            }
            Effect::ValidateConstraint { table, name } => {
                let own = self.tables.entry(table.clone()).or_default();
                if let Some(check) = own.checks.get_mut(name) {
                    check.validated = true;
                }
            }
            Effect::DropConstraint { table, name } => {
                let own = self.tables.entry(table.clone()).or_default();
                own.checks.remove(name);
            }
            Effect::AddColumn { .. }
            | Effect::DropColumn { .. }
            | Effect::RenameColumn { .. }
            | Effect::SetType { .. }
            | Effect::SetNotNull { .. } => self.apply_to_column(&change.effect, pending),
            Effect::Reindex { .. }
            | Effect::DetachPartition { .. }
            | Effect::Rewrite { .. }
            | Effect::Truncate { .. }
            | Effect::ChangeRows { .. }
            | Effect::ForeignKeyChecks { .. } => {}
        }
    }

    fn apply_to_column(&mut self, effect: &Effect, pending: bool) {
        match effect {
            Effect::AddColumn { table, column } => {
                let own = self.tables.entry(table.clone()).or_default();
                own.add(column);
                if pending {
                    own.fresh.insert(column.name.clone());
                }
            }
            Effect::DropColumn { table, column } => {
                let own = self.tables.entry(table.clone()).or_default();
                own.columns.remove(column);
                own.fresh.remove(column);
            }
            Effect::RenameColumn { table, column, to } => {
                let own = self.tables.entry(table.clone()).or_default();
                if let Some(mut column) = own.columns.remove(column) {
                    column.name.clone_from(to);
                    own.columns.insert(to.clone(), column);
                }
            }
            Effect::SetType {
                table,
                column,
                data_type,
                not_null,
                ..
            } => {
                let own = self.tables.entry(table.clone()).or_default();
                let column = own.columns.entry(column.clone()).or_default();
                column.data_type.clone_from(data_type);
                column.not_null = not_null.unwrap_or(column.not_null);
            }
            Effect::SetNotNull { table, column } => {
                let own = self.tables.entry(table.clone()).or_default();
                own.columns.entry(column.clone()).or_default().not_null = true;
            }
            _ => {}
        }
    }

    fn create(
        &mut self,
        table: &str,
        columns: &[Column],
        constraints: &[Constraint],
        pending: bool,
    ) {
        if self.tables.contains_key(table) {
            // `IF NOT EXISTS` over a table that is there: it stays what it was.
            return;
        }
        let mut own = Table {
            size: if pending { Size::New } else { Size::Unknown },
            ..Table::default()
        };
        for column in columns {
            own.add(column);
        }
        for constraint in constraints {
            own.constrain(constraint);
        }
        self.tables.insert(table.to_owned(), own);
    }
}

impl Table {
    fn add(&mut self, column: &Column) {
        if column.primary_key || column.unique {
            self.indexes.push((None, vec![column.name.clone()]));
        }
        self.references.extend(column.references.clone());
        let mut own = column.clone();
        own.not_null |= column.primary_key;
        self.columns.insert(column.name.clone(), own);
    }

    fn constrain(&mut self, constraint: &Constraint) {
        match &constraint.kind {
            ConstraintKind::Check { not_null } => {
                if let Some(name) = &constraint.name {
                    let check = Check {
                        not_null: not_null.clone(),
                        validated: !constraint.not_valid,
                    };
                    self.checks.insert(name.clone(), check);
                }
            }
            ConstraintKind::Foreign { reference, .. } => self.references.push(reference.clone()),
            ConstraintKind::Unique { columns, .. } | ConstraintKind::Index { columns } => {
                self.indexes
                    .push((constraint.name.clone(), columns.clone()));
            }
            ConstraintKind::Primary { columns, .. } => {
                self.indexes
                    .push((constraint.name.clone(), columns.clone()));
                for column in columns {
                    self.columns.entry(column.clone()).or_default().not_null = true;
                }
            }
            ConstraintKind::Exclude => {}
        }
    }

    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    /// Whether the sequence itself has added the column.
    pub(crate) fn is_fresh(&self, column: &str) -> bool {
        self.fresh.contains(column)
    }

    /// The validated check that proves a column to hold no NULL.
    pub(crate) fn proves_not_null(&self, column: &str) -> bool {
        self.checks
            .values()
            .any(|check| check.validated && check.not_null.as_deref() == Some(column))
    }

    /// Whether some index begins with these columns, in any order.
    pub(crate) fn has_index_on(&self, columns: &[String]) -> bool {
        self.indexes.iter().any(|(_, indexed)| {
            indexed.len() >= columns.len()
                && indexed[..columns.len()]
                    .iter()
                    .all(|column| columns.contains(column))
        })
    }
}
