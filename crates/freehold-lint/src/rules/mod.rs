//! The rules: each looks at one change, at what was known before it, and at the script around it.
//!
//! A rule is a function from a [`Step`] to hits. It says whether it is sure: about a table whose size
//! nobody told it, it is not, and its finding is a warning at most.

mod blocking;
mod columns;
mod constraints;
mod loss;
mod names;

use std::collections::{HashMap, HashSet};

use crate::{
    Engine, Policy, Product, Script, Severity,
    catalogue::Rule,
    change::{Change, Effect},
    known::{Known, Weight},
};

/// What a rule finds.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub rule: &'static Rule,
    pub sure: bool,
    /// No worse than this, whatever the rule is.
    pub most: Severity,
    pub message: String,
    pub instead: Vec<String>,
    pub advice: Option<String>,
}

impl Hit {
    pub(crate) fn new(rule: &'static Rule, sure: bool, message: impl Into<String>) -> Self {
        Self {
            rule,
            sure,
            most: Severity::Error,
            message: message.into(),
            instead: Vec::new(),
            advice: None,
        }
    }

    /// Scripts that reach the same without the harm.
    #[must_use]
    pub(crate) fn instead<S: Into<String>>(mut self, scripts: impl IntoIterator<Item = S>) -> Self {
        self.instead = scripts.into_iter().map(Into::into).collect();
        self
    }

    #[must_use]
    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// One change in its surroundings.
pub(crate) struct Step<'a> {
    pub engine: &'a Engine,
    pub policy: &'a Policy,
    pub script: &'a Script<'a>,
    /// The whole statement, without its semicolon.
    pub statement: &'a str,
    pub change: &'a Change,
    /// Before the change.
    pub known: &'a Known,
    pub run: &'a Run,
}

/// What the script has done so far, and what it still will do.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Constraints added by it, with their tables.
    pub added: HashSet<(String, String)>,
    /// Tables that `ALTER TABLE` has locked until its transaction ends.
    pub locked: HashSet<String>,
    pub foreign_keys_off: bool,
    /// Which statement this is.
    pub index: usize,
    /// The last statement in which something takes a name, by a rename or as a new view.
    pub arriving: HashMap<String, usize>,
    /// The last statement that makes a table of a name.
    pub made: HashMap<String, usize>,
}

impl Run {
    /// Whether something will take the name of what this statement takes away.
    pub(crate) fn is_replaced(&self, table: &str) -> bool {
        self.arriving.get(table).is_some_and(|&at| at > self.index)
    }

    /// Whether something of that name will be there again: programs find it, whatever it holds.
    pub(crate) fn is_named_again(&self, table: &str) -> bool {
        self.is_replaced(table) || self.made.get(table).is_some_and(|&at| at > self.index)
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match &change.effect {
            Effect::AddConstraint { table, constraint } => {
                if let Some(name) = &constraint.name {
                    self.added.insert((table.clone(), name.clone()));
                }
                self.locked.insert(table.clone());
            }
            Effect::AddColumn { table, .. }
            | Effect::DropColumn { table, .. }
            | Effect::RenameColumn { table, .. }
            | Effect::SetType { table, .. }
            | Effect::SetNotNull { table, .. }
            | Effect::DropConstraint { table, .. } => {
                self.locked.insert(table.clone());
            }
            Effect::ForeignKeyChecks { on } => self.foreign_keys_off = !on,
            _ => {}
        }
    }
}

impl Step<'_> {
    pub(crate) fn product(&self) -> Product {
        self.engine.product
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.product() == Product::Postgres
    }

    pub(crate) fn weight(&self, table: &str) -> Weight {
        self.known.weight(table, self.policy)
    }

    /// Whether work that grows with a table would be felt; and whether that is sure.
    pub(crate) fn heavy(&self, table: &str) -> Option<bool> {
        match self.weight(table) {
            Weight::New | Weight::Small => None,
            Weight::Large { .. } => Some(true),
            Weight::Unknown => Some(false),
        }
    }

    /// Whether anybody could be using a table already.
    pub(crate) fn is_in_use(&self, table: &str) -> bool {
        self.weight(table) != Weight::New
    }

    /// The table with its size, for a message.
    pub(crate) fn sized(&self, table: &str) -> String {
        match self.weight(table) {
            Weight::Large {
                rows: Some(rows), ..
            } => format!("{table} (about {} rows)", grouped(rows)),
            Weight::Large {
                bytes: Some(bytes), ..
            } => format!("{table} ({} MB)", grouped(bytes >> 20)),
            _ => table.to_owned(),
        }
    }

    /// The words of the change.
    pub(crate) fn words(&self) -> &str {
        self.statement
            .get(self.change.at.clone())
            .unwrap_or(self.statement)
    }

    /// A name as SQL has it, in quotes where it needs them. For people to read; nothing here is sent.
    pub(crate) fn sql(&self, name: &str) -> String {
        let parts: Vec<String> = name.split('.').map(|part| self.quoted(part)).collect();
        parts.join(".")
    }

    fn quoted(&self, name: &str) -> String {
        let plain = squawk_syntax::quote::quote_ident(name);
        if plain == name {
            return plain;
        }
        if self.product().is_mysql_like() {
            return format!("`{}`", name.replace('`', "``"));
        }
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    /// Names in parentheses.
    pub(crate) fn list(&self, columns: &[String]) -> String {
        let columns: Vec<String> = columns.iter().map(|column| self.sql(column)).collect();
        columns.join(", ")
    }
}

/// `12,000,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// All that the rules say about one change.
pub(crate) fn look(step: &Step<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for rule in [
        blocking::look,
        columns::look,
        constraints::look,
        loss::look,
        names::look,
    ] {
        rule(step, &mut hits);
    }
    hits.retain(|hit| hit.rule.products.contains(&step.product()));
    hits
}

/// A name made of others, short enough for every server.
pub(crate) fn made_name(parts: &[&str], suffix: &str) -> String {
    let joined: Vec<&str> = parts
        .iter()
        .map(|part| part.rsplit('.').next().unwrap_or(part))
        .collect();
    let mut name: String = joined.join("_").chars().take(40).collect();
    name.push_str(suffix);
    name
}
