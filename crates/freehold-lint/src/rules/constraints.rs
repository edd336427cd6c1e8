//! Constraints: those that look at every row when they are made, and those that are not made at all.

use super::{Hit, Step, made_name};
use crate::{
    catalogue::{
        CONSTRAINT_SCANS_TABLE, EXCLUSION_BLOCKS, FOREIGN_KEY_WITHOUT_INDEX,
        INLINE_FOREIGN_KEY_IGNORED, NOT_NULL_SCANS_TABLE, UNIQUE_BLOCKS,
        VALIDATE_IN_SAME_TRANSACTION,
    },
    change::{Column, Constraint, ConstraintKind, Effect, Preset},
};

pub(super) fn look(step: &Step<'_>, hits: &mut Vec<Hit>) {
    match &step.change.effect {
        Effect::AddConstraint { table, constraint } => {
            hits.extend(scanning(step, table, constraint));
            hits.extend(unique(step, table, constraint));
            hits.extend(without_index(step, table, constraint));
        }
        Effect::AddColumn { table, column } => {
            hits.extend(inline_ignored(step, table, column));
            hits.extend(column_constraints(step, table, column));
        }
        Effect::CreateTable { table, columns, .. } => {
            let ignored = columns
                .iter()
                .filter_map(|column| inline_ignored(step, table, column));
            hits.extend(ignored);
        }
        Effect::ValidateConstraint { table, name } => hits.extend(validation(step, table, name)),
        Effect::SetNotNull { table, column } => hits.extend(not_null(step, table, column)),
        _ => {}
    }
}

/// The other table of a foreign key is locked too; whichever is large decides.
fn scanning(step: &Step<'_>, table: &str, constraint: &Constraint) -> Option<Hit> {
    if constraint.not_valid {
        return None;
    }
    let what = match &constraint.kind {
        ConstraintKind::Check { .. } if step.is_postgres() => "CHECK",
        ConstraintKind::Foreign { .. } => "FOREIGN KEY",
        _ => return None,
    };
    let sure = step.heavy(table)?;
    let sized = step.sized(table);
    let table_sql = step.sql(table);
    if step.product().is_mysql_like() {
        if step.run.foreign_keys_off {
            return None;
        }
        let message = format!(
            "{sized} is copied row by row to check this foreign key, and takes no writes meanwhile"
        );
        let instead = format!(
            "SET foreign_key_checks = 0;\n{}, ALGORITHM=INPLACE, LOCK=NONE;\nSET foreign_key_checks = 1;",
            step.statement.trim_end()
        );
        return Some(Hit::new(&CONSTRAINT_SCANS_TABLE, sure, message).instead([instead]).advice(
            "This checks no row that exists: look for rows without a partner first, and let no new ones come.",
        ));
    }
    let (name, rest) = named(step, table, constraint);
    let message =
        format!("every row of {sized} is checked for this {what} while nobody can write to it");
    Some(Hit::new(&CONSTRAINT_SCANS_TABLE, sure, message).instead([
        format!("ALTER TABLE {table_sql} ADD CONSTRAINT {name} {rest} NOT VALID;"),
        format!("ALTER TABLE {table_sql} VALIDATE CONSTRAINT {name};"),
    ]))
}

/// The constraint's name and what follows it, with a name made up where it has none.
fn named(step: &Step<'_>, table: &str, constraint: &Constraint) -> (String, String) {
    let text = step.words();
    let words = crate::parse::words::Words::of(step.product(), text);
    let has_name = words.begin(&["add", "constraint"]);
    let from = words.tokens.get(if has_name { 3 } else { 1 });
    let rest = from.map_or("…", |token| &text[token.start..]);
    let name = constraint
        .name
        .clone()
        .unwrap_or_else(|| match &constraint.kind {
            ConstraintKind::Foreign { columns, .. } => {
                let mut parts = vec![table];
                parts.extend(columns.iter().map(String::as_str));
                made_name(&parts, "_fkey")
            }
            _ => made_name(&[table], "_check"),
        });
    (step.sql(&name), rest.trim_end().to_owned())
}

fn validation(step: &Step<'_>, table: &str, name: &str) -> Option<Hit> {
    let together = step.script.in_transaction
        && step
            .run
            .added
            .contains(&(table.to_owned(), name.to_owned()));
    if !together {
        return None;
    }
    let sure = step.heavy(table)?;
    let message =
        format!("{name} is validated under the lock under which this script has added it");
    let hit = Hit::new(&VALIDATE_IN_SAME_TRANSACTION, sure, message);
    Some(
        hit.instead([format!("{};", step.statement)])
            .advice("Move it to a later script, which has a transaction of its own."),
    )
}

fn unique(step: &Step<'_>, table: &str, constraint: &Constraint) -> Option<Hit> {
    if !step.is_postgres() {
        return None;
    }
    let (word, columns, suffix) = match &constraint.kind {
        ConstraintKind::Unique {
            columns,
            using_index: false,
        } => ("UNIQUE", columns, "_key"),
        ConstraintKind::Primary {
            columns,
            using_index: false,
        } => ("PRIMARY KEY", columns, "_pkey"),
        ConstraintKind::Exclude => return exclusion(step, table),
        _ => return None,
    };
    let sure = step.heavy(table)?;
    let mut parts = vec![table];
    if word == "UNIQUE" {
        parts.extend(columns.iter().map(String::as_str));
    }
    let name = constraint
        .name
        .clone()
        .unwrap_or_else(|| made_name(&parts, suffix));
    let (name, table_sql) = (step.sql(&name), step.sql(table));
    let message = format!(
        "nobody can use {} until the index of this {word} is built",
        step.sized(table)
    );
    let scripts = [
        format!(
            "CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table_sql} ({});",
            step.list(columns)
        ),
        format!("ALTER TABLE {table_sql} ADD CONSTRAINT {name} {word} USING INDEX {name};"),
    ];
    let hit = Hit::new(&UNIQUE_BLOCKS, sure, message).instead(scripts);
    let nullable = word == "PRIMARY KEY"
        && columns.iter().any(|column| {
            let known = step.known.table(table);
            !known.is_some_and(|known| {
                known.column(column).is_some_and(|column| column.not_null)
                    || known.proves_not_null(column)
            })
        });
    Some(if nullable {
        hit.advice("The key's columns must be NOT NULL before, or ADD PRIMARY KEY reads the whole table to see that they are.")
    } else {
        hit
    })
}

fn exclusion(step: &Step<'_>, table: &str) -> Option<Hit> {
    let sure = step.heavy(table)?;
    let message = format!(
        "nobody can use {} until the index of this EXCLUDE is built",
        step.sized(table)
    );
    Some(Hit::new(&EXCLUSION_BLOCKS, sure, message).advice(
        "Make a new table with the constraint, copy the rows in batches while a trigger carries new ones over, and rename.",
    ))
}

fn not_null(step: &Step<'_>, table: &str, column: &str) -> Option<Hit> {
    if !step.is_postgres() {
        return None;
    }
    let sure = step.heavy(table)?;
    let known = step.known.table(table);
    let proven = known.is_some_and(|known| {
        (known.proves_not_null(column) && step.engine.at_least(&[12]))
            || known.column(column).is_some_and(|column| column.not_null)
    });
    if proven {
        return None;
    }
    let name = step.sql(&made_name(&[table, column], "_not_null"));
    let (table_sql, column_sql) = (step.sql(table), step.sql(column));
    let message = format!(
        "every row of {} is read to see that {column} is not NULL, while nobody can use the table",
        step.sized(table)
    );
    Some(Hit::new(&NOT_NULL_SCANS_TABLE, sure, message).instead([
        format!("ALTER TABLE {table_sql} ADD CONSTRAINT {name} CHECK ({column_sql} IS NOT NULL) NOT VALID;"),
        format!("ALTER TABLE {table_sql} VALIDATE CONSTRAINT {name};"),
        format!("ALTER TABLE {table_sql} ALTER COLUMN {column_sql} SET NOT NULL;\nALTER TABLE {table_sql} DROP CONSTRAINT {name};"),
    ]))
}

/// Only where the table's columns and indexes are known: otherwise the index may well be there.
fn without_index(step: &Step<'_>, table: &str, constraint: &Constraint) -> Option<Hit> {
    let ConstraintKind::Foreign { columns, reference } = &constraint.kind else {
        return None;
    };
    if step.heavy(table) != Some(true)
        || columns.is_empty()
        || step.known.table(table)?.has_index_on(columns)
    {
        return None;
    }
    let index = step.sql(&made_name(&[table, &columns.join("_")], "_idx"));
    let message = format!(
        "no index of {} begins with {}, so deleting from {} reads all of it",
        step.sized(table),
        columns.join(", "),
        reference.table
    );
    let instead = format!(
        "CREATE INDEX CONCURRENTLY {index} ON {} ({});",
        step.sql(table),
        step.list(columns)
    );
    Some(
        Hit::new(&FOREIGN_KEY_WITHOUT_INDEX, true, message)
            .instead([instead])
            .advice("Make the index in a script before the foreign key."),
    )
}

/// MySQL 9.0 and MariaDB honour it.
fn inline_ignored(step: &Step<'_>, table: &str, column: &Column) -> Option<Hit> {
    let reference = column.references.as_ref()?;
    if step.engine.at_least(&[9]) {
        return None;
    }
    let message = format!(
        "{} of {table} will not be a foreign key to {}",
        column.name, reference.table
    );
    let hit = Hit::new(&INLINE_FOREIGN_KEY_IGNORED, true, message);
    Some(hit.advice(format!(
        "Say it for the table: FOREIGN KEY ({}) REFERENCES {} (…).",
        step.sql(&column.name),
        step.sql(&reference.table)
    )))
}

/// `ADD COLUMN a bigint UNIQUE`: what it costs beyond the column.
fn column_constraints(step: &Step<'_>, table: &str, column: &Column) -> Option<Hit> {
    if !step.is_postgres() {
        return None;
    }
    let sure = step.heavy(table)?;
    let (table_sql, name) = (step.sql(table), step.sql(&column.name));
    if column.unique || column.primary_key {
        let index = step.sql(&made_name(&[table, &column.name], "_key"));
        let message = format!(
            "nobody can use {} until the index of {} is built",
            step.sized(table),
            column.name
        );
        return Some(Hit::new(&UNIQUE_BLOCKS, sure, message).instead([
            format!(
                "ALTER TABLE {table_sql} ADD COLUMN {name} {};",
                column.data_type
            ),
            format!("CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table_sql} ({name});"),
            format!("ALTER TABLE {table_sql} ADD CONSTRAINT {index} UNIQUE USING INDEX {index};"),
        ]));
    }
    // A new column without a value satisfies both a CHECK and a foreign key, and PostgreSQL knows it for
    // the foreign key only.
    let scans = column.check
        || (column.references.is_some() && !matches!(column.default, Preset::None | Preset::Null));
    if !scans {
        return None;
    }
    let what = if column.check { "CHECK" } else { "REFERENCES" };
    let message = format!(
        "every row of {} is checked for this {what} while nobody can use the table",
        step.sized(table)
    );
    Some(Hit::new(&CONSTRAINT_SCANS_TABLE, sure, message).advice(
        "Add the column alone; then the constraint for the table with NOT VALID, and validate it in a later script.",
    ))
}
