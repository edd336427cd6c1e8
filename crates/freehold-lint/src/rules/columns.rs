//! New columns, and new types of columns.

use super::{Hit, Step};
use crate::{
    Product,
    catalogue::{
        ADD_COLUMN_REFUSED, COLUMN_REWRITES_TABLE, REQUIRED_COLUMN, TYPE_CHANGE_REWRITES_TABLE,
    },
    change::{Column, Effect, Preset},
    known::Weight,
};

pub(super) fn look(step: &Step<'_>, hits: &mut Vec<Hit>) {
    match &step.change.effect {
        Effect::AddColumn { table, column } => {
            hits.extend(rewriting_column(step, table, column));
            hits.extend(required_column(step, table, column));
            hits.extend(refused_column(step, table, column));
        }
        Effect::SetType {
            table,
            column,
            data_type,
            converted,
            ..
        } => hits.extend(type_change(step, table, column, data_type, *converted)),
        _ => {}
    }
}

fn rewriting_column(step: &Step<'_>, table: &str, column: &Column) -> Option<Hit> {
    let sure = step.heavy(table)?;
    let sized = step.sized(table);
    let name = &column.name;
    if step.product() == Product::Sqlite {
        return None;
    }
    if column.stored {
        let message = format!("the stored value of {name} is computed for every row of {sized}");
        return Some(Hit::new(&COLUMN_REWRITES_TABLE, sure, message).advice(
            "Add a plain column, keep it with a trigger, and fill the rows that exist in batches; or compute it when reading.",
        ));
    }
    if column.numbered {
        let message = format!("every row of {sized} gets a number for {name}");
        let hit = Hit::new(&COLUMN_REWRITES_TABLE, sure, message);
        return Some(if step.is_postgres() {
            numbered_instead(step, table, column, hit)
        } else {
            hit.advice("Add a plain column, fill it in batches, then make it AUTO_INCREMENT with gh-ost or pt-online-schema-change.")
        });
    }
    if !step.is_postgres() {
        return None;
    }
    match &column.default {
        Preset::PerRow(function) => {
            let message = format!("{function}() gives each row of {sized} a value of its own");
            Some(filled_instead(
                step,
                table,
                column,
                Hit::new(&COLUMN_REWRITES_TABLE, sure, message),
            ))
        }
        Preset::Unknown(function) => {
            let message = format!(
                "{sized} is written anew if {function}() is volatile, as functions are unless they are declared STABLE or IMMUTABLE"
            );
            Some(filled_instead(
                step,
                table,
                column,
                Hit::new(&COLUMN_REWRITES_TABLE, false, message),
            ))
        }
        Preset::Constant if !step.engine.at_least(&[11]) => {
            let message = format!(
                "PostgreSQL before 11 writes the default of {name} into every row of {sized}"
            );
            Some(filled_instead(
                step,
                table,
                column,
                Hit::new(&COLUMN_REWRITES_TABLE, sure, message),
            ))
        }
        _ => None,
    }
}

/// Column, then default, then the rows that exist.
fn filled_instead(step: &Step<'_>, table: &str, column: &Column, hit: Hit) -> Hit {
    let (table, name) = (step.sql(table), step.sql(&column.name));
    let default = words_after(step, "default").unwrap_or("…");
    hit.instead([
        format!(
            "ALTER TABLE {table} ADD COLUMN {name} {};\nALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {default};",
            column.data_type
        ),
        format!("UPDATE {table} SET {name} = {default} WHERE {name} IS NULL;  -- in batches where the table is large"),
    ])
}

fn numbered_instead(step: &Step<'_>, table: &str, column: &Column, hit: Hit) -> Hit {
    let sequence = step.sql(&super::made_name(&[table, &column.name], "_seq"));
    let (table, name) = (step.sql(table), step.sql(&column.name));
    hit.instead([
        format!(
            "CREATE SEQUENCE {sequence};\nALTER TABLE {table} ADD COLUMN {name} bigint;\n\
             ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT nextval('{sequence}');"
        ),
        format!("UPDATE {table} SET {name} = DEFAULT WHERE {name} IS NULL;  -- in batches where the table is large"),
    ])
}

/// The expression after a word of the change, up to what cannot belong to it.
fn words_after<'s>(step: &'s Step<'_>, word: &str) -> Option<&'s str> {
    let text = step.words();
    let words = crate::parse::words::Words::of(step.product(), text);
    let from = words.tokens.iter().position(|token| token.is(word))? + 1;
    let mut depth = 0_u32;
    let mut end = words.tokens.get(from)?.start;
    for token in &words.tokens[from..] {
        let ends = [
            "not",
            "null",
            "check",
            "references",
            "unique",
            "primary",
            "constraint",
            "generated",
        ]
        .iter()
        .any(|other| token.is(other));
        if depth == 0 && ends {
            break;
        }
        if token.is_sign("(") {
            depth += 1;
        } else if token.is_sign(")") {
            depth = depth.saturating_sub(1);
        }
        end = token.end;
    }
    text.get(words.tokens[from].start..end)
}

fn required_column(step: &Step<'_>, table: &str, column: &Column) -> Option<Hit> {
    let has_none = matches!(column.default, Preset::None | Preset::Null);
    let given = column.numbered || column.stored || !has_none;
    if !column.not_null || given {
        return None;
    }
    let weight = step.weight(table);
    let empty = matches!(step.known.rows(table), Some(0));
    if weight == Weight::New || empty {
        return None;
    }
    let name = &column.name;
    let (table_sql, name_sql) = (step.sql(table), step.sql(name));
    if step.product().is_mysql_like() {
        let message = format!(
            "rows of {} get an empty string or zero for {name}, which nobody chose",
            step.sized(table)
        );
        let instead = format!(
            "ALTER TABLE {table_sql} ADD COLUMN {name_sql} {};",
            column.data_type
        );
        return Some(Hit::new(&REQUIRED_COLUMN, false, message).instead([instead]).advice(
            "Add it with a default, or without NOT NULL; fill the rows in batches, and demand a value when all programs give one.",
        ));
    }
    let sure = weight != Weight::Unknown;
    let message = format!(
        "rows of {} have no value for {name}, and the statement fails",
        step.sized(table)
    );
    let instead = format!(
        "ALTER TABLE {table_sql} ADD COLUMN {name_sql} {};",
        column.data_type
    );
    Some(Hit::new(&REQUIRED_COLUMN, sure, message).instead([instead]).advice(
        "Give it a default that is right for the rows that exist; or add it without NOT NULL, fill the rows in batches, and demand a value later.",
    ))
}

fn refused_column(step: &Step<'_>, table: &str, column: &Column) -> Option<Hit> {
    let has_rows = step.is_in_use(table) && step.known.rows(table) != Some(0);
    let (reason, sure) = if column.primary_key {
        ("a PRIMARY KEY column".to_owned(), true)
    } else if column.unique {
        ("a UNIQUE column".to_owned(), true)
    } else if column.stored && has_rows {
        (
            "a STORED column".to_owned(),
            step.weight(table) != Weight::Unknown,
        )
    } else if let Preset::PerRow(text) = &column.default
        && has_rows
    {
        (
            format!("a column whose default, {text}, is not a constant"),
            step.weight(table) != Weight::Unknown,
        )
    } else {
        return None;
    };
    let (table_sql, name) = (step.sql(table), step.sql(&column.name));
    let mut script = format!(
        "ALTER TABLE {table_sql} ADD COLUMN {name} {};",
        column.data_type
    );
    if column.unique {
        let index = step.sql(&super::made_name(&[table, &column.name], "_key"));
        script.push_str(&format!(
            "\nCREATE UNIQUE INDEX {index} ON {table_sql} ({name});"
        ));
    }
    let message = format!("SQLite cannot add {reason} to {table}");
    let hit = Hit::new(&ADD_COLUMN_REFUSED, sure, message).instead([script]);
    Some(hit.advice("Where the column has to be as it stands here, make a new table, copy the rows, drop the old one, and rename."))
}

fn type_change(
    step: &Step<'_>,
    table: &str,
    column: &str,
    data_type: &str,
    converted: bool,
) -> Option<Hit> {
    let size = step.heavy(table)?;
    let old = step
        .known
        .table(table)
        .and_then(|table| table.column(column));
    let old = old
        .map(|column| column.data_type.as_str())
        .filter(|old| !old.is_empty());
    let product = step.product();
    if let Some(old) = old
        && !converted
        && crate::column_types::keeps_rows(product, old, data_type)
    {
        return None;
    }
    let sized = step.sized(table);
    let message = match old {
        Some(old) => {
            format!("all of {sized} is written anew to make {column} {data_type} instead of {old}")
        }
        None if product.is_mysql_like() => {
            format!(
                "all of {sized} is written anew, unless {column} is {data_type} or nearly so already"
            )
        }
        None => format!(
            "all of {sized} is written anew, unless what {column} holds now is {data_type} in its bytes too"
        ),
    };
    let new = format!("{column}_new");
    let (table_sql, column_sql, new_sql) = (step.sql(table), step.sql(column), step.sql(&new));
    let hit = Hit::new(&TYPE_CHANGE_REWRITES_TABLE, size && old.is_some(), message);
    Some(hit.instead([
        format!("ALTER TABLE {table_sql} ADD COLUMN {new_sql} {data_type};"),
        format!("UPDATE {table_sql} SET {new_sql} = {column_sql} WHERE {new_sql} IS NULL;  -- in batches where the table is large"),
    ]).advice("Let programs write both columns from the first script on, and read the new one after the second; drop the old one when nobody uses it."))
}
