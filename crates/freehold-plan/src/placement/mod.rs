//! Which instance a database goes to, and why.

mod allocation;
mod explain;

use std::{collections::BTreeSet, fmt};

use freehold_model::{
    ConditionStatus, Name, Uid,
    kinds::{Class, ClassSpec, Database, DatabaseLoad, Instance, InstanceSpec, PlacementHints},
};

pub use allocation::{Allocated, Allocation, Totals};
pub use explain::{Row, explain, rows};

/// What is to be placed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementRequest {
    pub team: Name,
    pub database: Name,
    /// Its own promise, where it holds one already, is not counted against it.
    pub uid: Option<Uid>,
    pub class_name: Name,
    pub class: ClassSpec,
    pub load: DatabaseLoad,
    pub extensions: Vec<String>,
    pub hints: PlacementHints,
}

impl PlacementRequest {
    /// `team` is the database's namespace, which a valid database always has.
    pub fn new(team: Name, database: &Database, class: &Class) -> Self {
        let _ = (team, database, class);
        unimplemented!()
    }
}

/// One instance of the environment, as last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub name: Name,
    pub spec: InstanceSpec,
    pub reachable: ConditionStatus,
    /// E.g. `15.20`; absent when never observed.
    pub version: Option<String>,
    /// What `CREATE EXTENSION` would find; absent when never observed.
    pub extensions: Option<BTreeSet<String>>,
    pub deleting: bool,
    pub allocation: Allocation,
}

impl Candidate {
    pub fn new(
        instance: &Instance,
        extensions: Option<BTreeSet<String>>,
        allocation: Allocation,
    ) -> Self {
        let _ = (instance, extensions, allocation);
        unimplemented!()
    }
}

/// Why a candidate fits or does not, or ranks where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable word: `engine`, `class`, `version`, `unreachable`, `cordon`, `storage`, `near`, …
    pub key: &'static str,
    /// True when this keeps the database away.
    pub blocks: bool,
    pub message: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What was found of one candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub instance: Name,
    pub fits: bool,
    /// Higher is better; 0 when it does not fit.
    pub score: i64,
    pub reasons: Vec<Reason>,
}

/// One thing to change so that a candidate fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {}

/// The smallest change that would let the database be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    pub text: String,
    pub remedies: Vec<Remedy>,
}

impl fmt::Display for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub chosen: Option<Name>,
    /// Best first; those that do not fit come last.
    pub ranked: Vec<Verdict>,
    /// Present exactly when nothing was chosen.
    pub way_out: Option<WayOut>,
}

impl Decision {
    /// One sentence for `status.placement.reason` and messages.
    pub fn summary(&self) -> String {
        unimplemented!()
    }
}

/// Decides. The order of the candidates does not matter.
pub fn place(request: &PlacementRequest, candidates: &[Candidate]) -> Decision {
    let _ = (request, candidates);
    unimplemented!()
}
