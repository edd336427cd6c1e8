//! What is inside one database: which of the tables that accesses name exist, and in whose name its
//! programs run.
//!
//! A view, trigger, routine or event runs with the rights of its *definer*. Migrations run as the
//! migrator's account, which stays for as long as the database does, locked between migrations, so
//! what they make outlives every login slot. What somebody else defined is found here.

use std::collections::BTreeSet;

use super::{
    connect::Connection,
    quote::{Literal, list},
};
use crate::Result;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Inside {
    /// Of the tables and views that were asked for, those that are there.
    pub(super) tables: BTreeSet<String>,
    pub(super) programs: Vec<Program>,
}

/// Something that runs with its definer's rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// `view`, `trigger`, `routine` or `event`.
    pub(super) kind: String,
    pub(super) name: String,
    /// `user@host`.
    pub(super) definer: String,
}

/// Looks for programs whose definer is not `definer`, and for tables.
pub(super) async fn look(
    connection: &mut Connection,
    database: &str,
    tables: &[&str],
    definer: &str,
) -> Result<Inside> {
    let name = Literal(database);
    let definer = format!("{definer}@%");
    let not = format!("<> BINARY {}", Literal(&definer));
    // Both names must be in the condition for the server to look at these tables alone.
    let mut queries: Vec<String> = tables
        .iter()
        .map(|table| {
            format!(
                "SELECT TABLE_NAME FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = {name} AND TABLE_NAME = {}",
                Literal(table)
            )
        })
        .collect();
    queries.push(format!(
        "SELECT 'view', TABLE_NAME, DEFINER FROM information_schema.VIEWS \
         WHERE TABLE_SCHEMA = {name} AND SECURITY_TYPE = 'DEFINER' AND DEFINER {not}"
    ));
    // By the table's schema, which is the trigger's: only by that does the server look at one database.
    queries.push(format!(
        "SELECT 'trigger', TRIGGER_NAME, DEFINER FROM information_schema.TRIGGERS \
         WHERE EVENT_OBJECT_SCHEMA = {name} AND DEFINER {not}"
    ));
    queries.push(format!(
        "SELECT 'routine', name, definer FROM mysql.proc \
         WHERE db = {name} AND security_type = 'DEFINER' AND definer {not} AND type IN ({})",
        list(["FUNCTION", "PROCEDURE", "PACKAGE", "PACKAGE BODY"])
    ));
    queries.push(format!(
        "SELECT 'event', name, definer FROM mysql.event WHERE db = {name} AND definer {not}"
    ));
    let doing = format!("look inside database {database:?}");
    let mut sets = connection.read(&queries.join("; "), &doing).await?;
    let programs = sets.split_off(tables.len().min(sets.len()));
    let programs = programs.into_iter().flatten().filter_map(|row| {
        let mut values = row.into_iter().flatten();
        Some(Program {
            kind: values.next()?,
            name: values.next()?,
            definer: values.next()?,
        })
    });
    Ok(Inside {
        tables: sets.into_iter().flatten().flatten().flatten().collect(),
        programs: programs.collect(),
    })
}
