//! What loses data, breaks programs that run beside the migration, or changes more rows than it should.

use super::{Hit, Step};
use crate::{
    Product,
    catalogue::{
        BACKFILL_UNDER_LOCK, CHANGE_WITHOUT_WHERE, DROP_LOSES_DATA, REBUILD_CASCADES,
        RENAME_BREAKS_READERS, TRUNCATE_LOSES_DATA,
    },
    change::Effect,
};

const DROP_ADVICE: &str = "Release programs that do not use it first. Then allow it here, with the reason: \
                           -- freehold:allow drop-loses-data until YYYY-MM-DD: unused since …";

pub(super) fn look(step: &Step<'_>, hits: &mut Vec<Hit>) {
    match &step.change.effect {
        Effect::RenameTable { table, to } => hits.extend(renamed_table(step, table, to)),
        Effect::RenameColumn { table, column, to } if is_old(step, table, column) => {
            let message = format!("programs that use {column} of {table} fail from here on");
            let hit = Hit::new(&RENAME_BREAKS_READERS, true, message);
            hits.push(hit.advice(format!(
                "Add {to} beside it and let programs write both; fill the rows that exist; drop {column} when nobody uses it."
            )));
        }
        Effect::DropTable { table } => hits.extend(dropped_table(step, table)),
        Effect::DropColumn { table, column } if is_old(step, table, column) => {
            let message = format!("all values of {column} of {} are lost", step.sized(table));
            hits.push(Hit::new(&DROP_LOSES_DATA, true, message).advice(DROP_ADVICE));
        }
        Effect::Truncate { table, cascade } if step.is_in_use(table) => {
            let message = if *cascade {
                format!(
                    "all rows of {} are lost, and all rows of every table that refers to it",
                    step.sized(table)
                )
            } else {
                format!("all rows of {} are lost", step.sized(table))
            };
            hits.push(
                Hit::new(&TRUNCATE_LOSES_DATA, true, message)
                    .advice("Delete what has to go, with a condition that says what that is."),
            );
        }
        Effect::ChangeRows {
            table,
            verb,
            restricted,
        } => changed_rows(step, table, verb, *restricted, hits),
        _ => {}
    }
}

/// What the same sequence has added nobody uses yet.
fn is_old(step: &Step<'_>, table: &str, column: &str) -> bool {
    let known = step.known.table(table);
    step.is_in_use(table) && !known.is_some_and(|known| known.is_fresh(column))
}

fn renamed_table(step: &Step<'_>, table: &str, to: &str) -> Option<Hit> {
    // A view, or another table, has the old name in the same script.
    if !step.is_in_use(table) || step.run.is_named_again(table) {
        return None;
    }
    let message = format!("programs that use {table} fail from here on");
    let hit = Hit::new(&RENAME_BREAKS_READERS, true, message);
    let rename = format!("{};", step.statement.trim_end());
    let view = format!(
        "CREATE VIEW {} AS SELECT * FROM {};",
        step.sql(table),
        step.sql(to)
    );
    Some(hit.instead([format!("{rename}\n{view}")]).advice(
        "The view serves programs that know the old name; drop it when there are none left.",
    ))
}

fn dropped_table(step: &Step<'_>, table: &str) -> Option<Hit> {
    let rebuilt = step.run.is_replaced(table);
    if rebuilt {
        return rebuild(step, table);
    }
    if !step.is_in_use(table) {
        return None;
    }
    let message = format!("all rows of {} are lost", step.sized(table));
    Some(Hit::new(&DROP_LOSES_DATA, true, message).advice(DROP_ADVICE))
}

/// SQLite's way to change a table: make a new one, copy, drop the old one, rename.
fn rebuild(step: &Step<'_>, table: &str) -> Option<Hit> {
    if step.product() != Product::Sqlite || step.run.foreign_keys_off {
        return None;
    }
    let referring = step.known.cascading_into(table);
    if referring.is_empty() {
        return None;
    }
    let message = format!(
        "dropping {table} deletes or changes the rows of {} that refer to it",
        referring.join(", ")
    );
    let text = step.script.text.trim_start_matches('\u{feff}').trim();
    let instead =
        format!("PRAGMA foreign_keys = OFF;\nBEGIN;\n{text}\nCOMMIT;\nPRAGMA foreign_keys = ON;");
    Some(Hit::new(&REBUILD_CASCADES, true, message).instead([instead]).advice(format!(
        "PRAGMA foreign_keys does nothing inside a transaction: say executeInTransaction=false in {}.conf.",
        step.script.path
    )))
}

fn changed_rows(step: &Step<'_>, table: &str, verb: &str, restricted: bool, hits: &mut Vec<Hit>) {
    let Some(sure) = step.heavy(table) else {
        return;
    };
    let sized = step.sized(table);
    if !restricted {
        let message = match verb {
            "DELETE" => format!("all rows of {sized} are deleted in one statement"),
            _ => format!("all rows of {sized} are changed in one statement"),
        };
        hits.push(Hit::new(&CHANGE_WITHOUT_WHERE, sure, message).advice(
            "Say which rows with WHERE, and do many of them in batches, each in a transaction of its own.",
        ));
    }
    if step.is_postgres() && step.script.in_transaction && step.run.locked.contains(table) {
        let message =
            format!("{sized} stays locked by the ALTER TABLE above until this {verb} is done");
        let hit = Hit::new(&BACKFILL_UNDER_LOCK, sure, message);
        hits.push(
            hit.instead([format!("{};", step.statement)])
                .advice("Move it to a later script, which has a transaction of its own."),
        );
    }
}
