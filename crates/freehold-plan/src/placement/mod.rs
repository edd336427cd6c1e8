//! Which instance a database goes to, and why.
//!
//! [`place`] looks at every instance of the environment. First come the rules that no score can
//! outweigh (`fit`): engine, class, version, tenancy, allowed teams, cordon, hints, extensions, and
//! room in each dimension with the headroom kept free. Among those that fit, the best score wins:
//! databases to be near count most, then the team's own dedicated instance, then how much stays
//! free in the tightest dimension. Ties go to the instance with fewer databases, then to the first
//! name, so that the same facts always give the same decision, in whatever order they come.
//!
//! Nothing here guesses. An instance that was not seen is not chosen, and the verdict says so.
//! All sums are integers wide enough never to overflow; what is promised ([`Allocation`]) is what
//! counts, not what happens to be used now, so that two deciders who look at the same promises
//! decide alike. Control saves the decision and the promise in one batch.
//!
//! When nothing fits, `way_out` finds the instance that the fewest changes would make fit and says
//! which. Reasons never name another team: a verdict may be shown to any developer.

mod allocation;
mod explain;
mod fit;
mod way_out;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BTreeSet, fmt};

use freehold_model::{
    ConditionStatus, ConditionType, Name, Uid,
    kinds::{Class, ClassSpec, Database, DatabaseLoad, Instance, InstanceSpec, PlacementHints},
};

use self::fit::Blocker;
pub use self::{
    allocation::{Allocated, Allocation, Dimension, HEADROOM_PERCENT_DEFAULT, Totals},
    explain::{COLUMNS, Row, explain, rows},
    way_out::{Remedy, WayOut},
};

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
    /// `team` is the database's namespace, which a valid database always has. `class` is the one
    /// that the database names.
    pub fn new(team: Name, database: &Database, class: &Class) -> Self {
        Self {
            team,
            database: database.metadata.name.clone(),
            uid: database.metadata.uid,
            class_name: class.metadata.name.clone(),
            class: class.spec.clone(),
            load: database.spec.load(&class.spec),
            extensions: database.spec.extensions.clone(),
            hints: database.spec.placement.clone().unwrap_or_default(),
        }
    }

    /// The promise to save when the decision is taken.
    pub fn promise(&self) -> Allocated {
        Allocated {
            team: self.team.clone(),
            database: self.database.clone(),
            load: self.load,
        }
    }
}

/// One instance of the environment, as last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub name: Name,
    pub spec: InstanceSpec,
    pub reachable: ConditionStatus,
    /// The reason of that condition when it is not true: a server may answer and still be of no use.
    pub trouble: Option<String>,
    /// E.g. `15.20`; absent when never observed.
    pub version: Option<String>,
    /// What `CREATE EXTENSION` would find; absent when never observed.
    pub extensions: Option<BTreeSet<String>>,
    pub deleting: bool,
    pub allocation: Allocation,
}

impl Candidate {
    /// Reads what the instance's status says. No `Reachable` condition counts as unknown.
    pub fn new(instance: &Instance, allocation: Allocation) -> Self {
        let status = instance.status.as_ref();
        let reachable = status.and_then(|s| s.conditions.get(ConditionType::Reachable));
        Self {
            name: instance.metadata.name.clone(),
            spec: instance.spec.clone(),
            reachable: reachable.map_or(ConditionStatus::Unknown, |condition| condition.status),
            trouble: reachable
                .filter(|condition| condition.status != ConditionStatus::True)
                .map(|condition| condition.reason.clone()),
            version: status.and_then(|status| status.version.clone()),
            extensions: status.and_then(|status| status.extensions_available.clone()),
            deleting: instance.metadata.deletion_timestamp.is_some(),
            allocation,
        }
    }
}

/// Why a candidate does not fit, or why it ranks where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable word. Blocking: `engine`, `class`, `version`, `unreachable`, `unusable`, `unknown`,
    /// `deleting`, `cordon`, `tenancy`, `team`, `instance`, `avoid`, `extension`, `databases`, `storage`,
    /// `connections`, `throughput`. Ranking: `near`, `own`, `headroom`.
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
    /// Higher is better; 0 when it does not fit. 100,000 for each database to be near, 10,000 for
    /// the team's own dedicated instance, up to 1,000 for what stays free.
    pub score: i64,
    /// Never empty.
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub chosen: Option<Name>,
    /// Best first; those that do not fit come last, by name.
    pub ranked: Vec<Verdict>,
    /// Present exactly when nothing was chosen.
    pub way_out: Option<WayOut>,
}

impl Decision {
    /// The chosen one's verdict.
    pub fn best(&self) -> Option<&Verdict> {
        self.ranked.first().filter(|verdict| verdict.fits)
    }

    /// One sentence for `status.placement.reason` and messages.
    pub fn summary(&self) -> String {
        let all = self.ranked.len();
        let fit = self.ranked.iter().filter(|verdict| verdict.fits).count();
        if let Some(best) = self.best() {
            let why: Vec<_> = best.reasons.iter().map(Reason::to_string).collect();
            let among = match (fit, all) {
                (1, 1) => "the only instance".to_owned(),
                (1, _) => format!("the only one of {all} that fits"),
                _ => format!("the best of {fit} that fit, out of {all}"),
            };
            format!("{}, {among}: {}", best.instance, why.join("; "))
        } else {
            let way_out = self
                .way_out
                .as_ref()
                .map(|it| it.text.as_str())
                .unwrap_or_default();
            match all {
                0 => format!("there is no instance: {way_out}"),
                1 => format!("the only instance does not fit: {way_out}"),
                _ => format!("none of {all} instances fits: {way_out}"),
            }
        }
    }
}

const POINTS_NEAR: i64 = 100_000;
const POINTS_OWN: i64 = 10_000;

/// Decides. The order of the candidates does not matter; each name stands once.
pub fn place(request: &PlacementRequest, candidates: &[Candidate]) -> Decision {
    let mut fitting: Vec<(u64, Verdict)> = Vec::new();
    let mut blocked: Vec<(&Candidate, Vec<Blocker>)> = Vec::new();
    for candidate in candidates {
        let blockers = fit::blockers(request, candidate);
        if blockers.is_empty() {
            let databases = candidate.allocation.totals_without(request.uid).databases;
            fitting.push((databases, rank(request, candidate)));
        } else {
            blocked.push((candidate, blockers));
        }
    }
    fitting.sort_by(|(left_databases, left), (right_databases, right)| {
        let left = (Reverse(left.score), left_databases, &left.instance);
        left.cmp(&(Reverse(right.score), right_databases, &right.instance))
    });
    blocked.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));

    let chosen = fitting.first().map(|(_, verdict)| verdict.instance.clone());
    let way_out = match chosen {
        Some(_) => None,
        None => Some(way_out::find(request, &blocked)),
    };
    let refused = blocked.iter().map(|(candidate, blockers)| Verdict {
        instance: candidate.name.clone(),
        fits: false,
        score: 0,
        reasons: blockers
            .iter()
            .map(|it| it.reason(request, candidate))
            .collect(),
    });
    let ranked = fitting
        .into_iter()
        .map(|(_, verdict)| verdict)
        .chain(refused)
        .collect();
    Decision {
        chosen,
        ranked,
        way_out,
    }
}

/// Scores a candidate that fits.
fn rank(request: &PlacementRequest, candidate: &Candidate) -> Verdict {
    let mut reasons = Vec::new();
    let mut say = |key, message: String| {
        reasons.push(Reason {
            key,
            blocks: false,
            message,
        });
    };
    let near = neighbours(request, candidate, &request.hints.near);
    if !near.is_empty() {
        say("near", format!("holds {}, to be near", near.join(" and ")));
    }
    let own = fit::is_own(request, candidate);
    if own {
        say(
            "own",
            "is the team's own dedicated instance already".to_owned(),
        );
    }
    let (free, message) = headroom(request, candidate);
    say("headroom", message);
    let near_points = POINTS_NEAR.saturating_mul(i64::try_from(near.len()).unwrap_or(i64::MAX));
    let own_points = if own { POINTS_OWN } else { 0 };
    Verdict {
        instance: candidate.name.clone(),
        fits: true,
        score: near_points.saturating_add(own_points + free),
        reasons,
    }
}

/// Which of `names`, databases of the request's team, the candidate holds. Each counts once.
fn neighbours(request: &PlacementRequest, candidate: &Candidate, names: &[Name]) -> Vec<String> {
    let names: BTreeSet<&Name> = names.iter().collect();
    let holds = |name: &Name| {
        candidate.allocation.databases.iter().any(|(uid, promise)| {
            Some(*uid) != request.uid && promise.team == request.team && promise.database == *name
        })
    };
    names
        .into_iter()
        .filter(|name| holds(name))
        .map(Name::to_string)
        .collect()
}

/// How many thousandths of the tightest dimension stay free after placing, and that in words.
fn headroom(request: &PlacementRequest, candidate: &Candidate) -> (i64, String) {
    let used = candidate.allocation.totals_without(request.uid);
    let tightest = Dimension::ALL
        .into_iter()
        .filter_map(|dimension| {
            let usable = dimension.usable(&candidate.spec.capacity)?;
            let after = dimension.of(&used) + dimension.need(&request.load);
            let free = usable.saturating_sub(after) * 1000;
            // Placing where nothing is promised at all leaves nothing free.
            let thousandths = free.checked_div(usable).unwrap_or(0);
            Some((i64::try_from(thousandths).unwrap_or(1000), dimension))
        })
        .min();
    match tightest {
        None => (
            1000,
            "no capacity is declared, so there is always room".to_owned(),
        ),
        Some((free, dimension)) => {
            let percent = format!("{}.{} %", free / 10, free % 10);
            let word = dimension.word();
            (
                free,
                format!("leaves {percent} of its {word} free, its tightest dimension"),
            )
        }
    }
}
