//! Work on indexes and whole tables that keeps others out while it lasts.

use super::{Hit, Step};
use crate::{
    catalogue::{
        CONCURRENTLY_IN_TRANSACTION, DETACH_BLOCKS, INDEX_BLOCKS_WRITES, INDEX_DROP_BLOCKS,
        REINDEX_BLOCKS, TABLE_REWRITE_BLOCKS,
    },
    change::{Effect, Reindexed},
    parse::words::Words,
};

pub(super) fn look(step: &Step<'_>, hits: &mut Vec<Hit>) {
    match &step.change.effect {
        Effect::CreateIndex {
            table,
            concurrently: false,
            special,
            ..
        } => {
            if let Some(sure) = step.heavy(table) {
                hits.extend(index_creation(step, table, *special, sure));
            }
        }
        Effect::DropIndex {
            name,
            table: None,
            concurrently: false,
        } if step.is_postgres() => {
            // The table is known where its index was seen to be made.
            let table = step.known.table_of_index(name);
            if table.is_none_or(|table| step.heavy(table).is_some()) {
                let message = match table {
                    Some(table) => format!("DROP INDEX {name} locks {}", step.sized(table)),
                    None => format!("DROP INDEX {name} locks its table"),
                };
                let hit = Hit::new(&INDEX_DROP_BLOCKS, table.is_some(), message);
                hits.push(hit.instead([concurrent(step, "index")]));
            }
        }
        Effect::Reindex {
            what,
            concurrently: false,
        } => hits.extend(reindexing(step, what)),
        Effect::DetachPartition {
            table,
            concurrently: false,
        } if step.engine.at_least(&[14]) => {
            if let Some(sure) = step.heavy(table) {
                let message = format!(
                    "DETACH PARTITION locks {} and all its partitions",
                    step.sized(table)
                );
                let hit = Hit::new(&DETACH_BLOCKS, sure, message);
                let instead = format!(
                    "ALTER TABLE {} {} CONCURRENTLY;",
                    step.sql(table),
                    step.words()
                );
                hits.push(hit.instead([instead]));
            }
        }
        Effect::Rewrite { table, by } => {
            if let Some(sure) = step.heavy(table) {
                let message = format!("{by} writes all of {} anew", step.sized(table));
                let advice = if step.is_postgres() {
                    "Do it outside of migrations with pg_repack or pg_squeeze, which let others work meanwhile."
                } else {
                    "Use gh-ost or pt-online-schema-change, which let others work meanwhile, or make new columns in the new character set one at a time."
                };
                hits.push(Hit::new(&TABLE_REWRITE_BLOCKS, sure, message).advice(advice));
            }
        }
        _ => {}
    }
    hits.extend(concurrently_in_transaction(step));
}

fn index_creation(step: &Step<'_>, table: &str, special: bool, sure: bool) -> Option<Hit> {
    if step.is_postgres() {
        let message = format!(
            "nobody can write to {} until this index is built",
            step.sized(table)
        );
        let hit = Hit::new(&INDEX_BLOCKS_WRITES, sure, message);
        return Some(hit.instead([concurrent(step, "index")]).advice(
            "In a script of its own: Freehold runs it outside of a transaction by itself.",
        ));
    }
    // InnoDB builds ordinary indexes while others write.
    special.then(|| {
        let message = format!(
            "nobody can write to {} until this FULLTEXT or SPATIAL index is built",
            step.sized(table)
        );
        Hit::new(&INDEX_BLOCKS_WRITES, sure, message)
            .advice("Use gh-ost or pt-online-schema-change, or a time when nobody writes.")
    })
}

fn reindexing(step: &Step<'_>, what: &Reindexed) -> Option<Hit> {
    let table = match what {
        Reindexed::Table(table) => Some(table.as_str()),
        Reindexed::Index(index) => step.known.table_of_index(index),
    };
    let sure = match table {
        Some(table) => step.heavy(table)?,
        None => false,
    };
    let message = match table {
        Some(table) => format!(
            "nobody can write to {} until the rebuild is done",
            step.sized(table)
        ),
        None => "nobody can write to the index's table until the rebuild is done".to_owned(),
    };
    let word = match what {
        Reindexed::Table(_) => "table",
        Reindexed::Index(_) => "index",
    };
    Some(Hit::new(&REINDEX_BLOCKS, sure, message).instead([concurrent(step, word)]))
}

fn concurrently_in_transaction(step: &Step<'_>) -> Option<Hit> {
    let what = match &step.change.effect {
        Effect::CreateIndex {
            concurrently: true, ..
        } => "CREATE INDEX CONCURRENTLY",
        Effect::DropIndex {
            concurrently: true, ..
        } => "DROP INDEX CONCURRENTLY",
        Effect::Reindex {
            concurrently: true, ..
        } => "REINDEX CONCURRENTLY",
        Effect::DetachPartition {
            concurrently: true, ..
        } => "DETACH PARTITION CONCURRENTLY",
        _ => return None,
    };
    step.script.in_transaction.then(|| {
        let message = format!("{what} cannot run in a transaction, and this script runs in one");
        let hit = Hit::new(&CONCURRENTLY_IN_TRANSACTION, true, message);
        hit.instead([format!("{};", step.statement)]).advice(
            "Move it to a script of its own: Freehold runs that outside of a transaction by itself. \
             A .conf that says executeInTransaction=true has to go.",
        )
    })
}

/// The statement with CONCURRENTLY after a word of it.
fn concurrent(step: &Step<'_>, after: &str) -> String {
    let words = Words::of(step.product(), step.statement);
    let at = words
        .tokens
        .iter()
        .find(|token| token.is(after))
        .map_or(step.statement.len(), |token| token.end);
    let (before, rest) = step.statement.split_at(at);
    format!("{before} CONCURRENTLY{rest};")
}
