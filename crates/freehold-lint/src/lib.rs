//! Quality gates: what a migration would do to a database in use, said before it runs.
//!
//! [`check`] takes a whole sequence of scripts, what is known of the database ([`Snapshot`]), and what the team has
//! decided ([`Policy`]), and gives a [`Report`]. It is pure: no files, no servers, no clock. From the
//! outside in:
//!
//! * `check`: the walk over scripts and statements.
//! * `parse`: from a statement's text to `Change`s, in words that all engines share; PostgreSQL through
//!   squawk's parser, MySQL, MariaDB and SQLite through sqlparser.
//! * `known`: the tables as they are at that point; what keeps new and small tables quiet.
//! * `rules`: one function for each thing that can go wrong. [`RULES`] lists them, `docs/rules/` explains them.
//! * `suppress`: comments that allow a finding until a day, for a reason.
//! * [`render`]: a report for people, SARIF, GitHub and GitLab.
//!
//! Not here: cutting scripts into statements, which whoever runs them has done
//! (`docs/adr` says why), and asking a server for a snapshot.

mod catalogue;
mod change;
mod check;
mod column_types;
mod input;
mod known;
mod parse;
mod places;
mod policy;
pub mod render;
mod report;
mod rules;
mod suppress;
mod versions;

pub use catalogue::{RULES, Rule, rule};
pub use check::check;
pub use input::{
    Engine, Product, Refusal, Refused, Script, Sequence, Snapshot, SnapshotColumn,
    SnapshotForeignKey, SnapshotIndex, SnapshotTable, UnknownEngine,
};
pub use policy::{Level, Policy, Rules, Severity};
pub use report::{Finding, Place, Report, Suppressed};
