//! The fault harness: what happens to durable work when it is disturbed at every point there is.
//!
//! Written once, applied to every operation and reconciler. A [`Scenario`] builds a fresh world,
//! runs workers on it until the work is complete, and observes the world. The harness runs it
//! undisturbed to learn its points (every save and every external effect passes the [`Gate`] before
//! and after), then runs a fresh world for every point and every [`Fault`], and compares what each
//! world looks like in the end with the undisturbed one.
//!
//! A worker is a thread with a runtime of its own. That makes the faults honest: a killed worker's
//! runtime is dropped with all its tasks and connections, a sleeping one stands still with all its
//! timers and lease renewals, as under SIGSTOP. What a worker needs (store handles, connection pools)
//! it opens inside [`Scenario::work`]; what it would share with the world would survive its kill.
//!
//! It leaves out faults of the servers themselves, and it disturbs one point per run: two faults in
//! one run would square the number of runs.

mod case;
mod clock;
mod keeper;
mod report;
mod snapshot;

use std::{
    error::Error,
    fmt,
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use freehold_model::{Gate, When};

use self::{case::Case, keeper::Keeper};
pub use self::{
    clock::JumpClock,
    report::{Divergence, Report},
    snapshot::Snapshot,
};

/// The error of a worker that could not complete its work.
pub type WorkError = Box<dyn Error + Send + Sync>;

/// A piece of work that can be run again and again on fresh worlds.
pub trait Scenario: Sync {
    /// The servers, the store's files, the clock: what outlives a worker.
    type World: Send + Sync;

    /// A fresh world with the work requested and nothing of it done.
    fn build(&self) -> impl Future<Output = Self::World>;

    /// Runs one worker until the work is complete, by whoever completes it: a worker that finds it
    /// done by another returns at once. Everything it opens, it opens here.
    fn work(
        &self,
        world: &Self::World,
        worker: Worker,
    ) -> impl Future<Output = Result<(), WorkError>>;

    /// Makes every lease that is held now lapse: moves the store's clock forward, or waits.
    fn lapse(&self, world: &Self::World) -> impl Future<Output = ()>;

    /// What counts: catalog, history, records, audit; without what may differ from run to run
    /// (times, random names, epochs, retries).
    fn observe(&self, world: &Self::World) -> impl Future<Output = Snapshot>;
}

/// What makes one worker different from another.
#[derive(Debug, Clone)]
pub struct Worker {
    pub name: String,
    pub gate: Gate,
}

/// What is done to a worker at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The worker is gone, as after kill -9; another one starts when its leases have lapsed.
    Kill,
    /// What was about to happen does not happen, and the worker hears an error.
    FailBefore,
    /// It took hold, but the worker hears an error.
    FailAfter,
    /// A step that succeeded is run again.
    RunTwice,
    /// The worker stands still past its leases while another completes the work, then wakes up. It
    /// must change nothing.
    Sleep,
}

impl Fault {
    pub const ALL: [Self; 5] = [
        Self::Kill,
        Self::FailBefore,
        Self::FailAfter,
        Self::RunTwice,
        Self::Sleep,
    ];

    /// Whether the fault means anything at a point. `step …` points surround a whole step: right
    /// after one, a fault makes it run again; its edges touch a save or an effect, where the other
    /// faults strike already.
    fn applies(self, point: &PointId) -> bool {
        let is_step = point.what.starts_with("step ");
        match self {
            Self::Kill | Self::Sleep => !is_step,
            Self::FailBefore => point.when == When::Before,
            Self::FailAfter => point.when == When::After && !is_step,
            Self::RunTwice => point.when == When::After && is_step,
        }
    }
}

/// A point as one worker passes it: the what, the side, and the how-manieth time (from 0).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PointId {
    pub what: String,
    pub when: When,
    pub occurrence: u32,
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Before => "before",
            When::After => "after",
        };
        write!(f, "{when} \"{}\"", self.what)?;
        match self.occurrence {
            0 => Ok(()),
            n => write!(f, " (time {})", n + 1),
        }
    }
}

/// What to run, and within which bounds.
#[derive(Debug, Clone)]
pub struct Options {
    pub faults: Vec<Fault>,
    /// `(k, n)`: of the cases only each n-th, from the k-th on (k from 0). The shards of one n
    /// together are all cases.
    pub shard: (usize, usize),
    /// Worlds at once.
    pub parallel: usize,
    /// For each worker, and for building and observing a world.
    pub patience: Duration,
    /// For everything. Cases that do not fit are reported, and fail the run.
    pub budget: Duration,
    /// Only cases whose name contains this text.
    pub only: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            faults: Fault::ALL.to_vec(),
            shard: (0, 1),
            parallel: 2,
            patience: Duration::from_secs(20),
            budget: Duration::from_secs(300),
            only: None,
        }
    }
}

impl Options {
    /// The defaults, narrowed by `FREEHOLD_FAULTS_ONLY` (a part of a case's name, as a report
    /// prints it) and `FREEHOLD_FAULTS_SHARD` (`1/4` … `4/4`).
    ///
    /// # Panics
    /// When the shard cannot be read: a typo must not run nothing and pass.
    pub fn from_env() -> Self {
        let shard = std::env::var("FREEHOLD_FAULTS_SHARD").ok();
        let shard = shard.map(|text| {
            let parsed = text.split_once('/').and_then(|(k, n)| {
                let (k, n): (usize, usize) = (k.parse().ok()?, n.parse().ok()?);
                (1..=n).contains(&k).then(|| (k - 1, n))
            });
            parsed.unwrap_or_else(|| panic!("FREEHOLD_FAULTS_SHARD={text:?} is not like 1/4"))
        });
        Self {
            shard: shard.unwrap_or((0, 1)),
            only: std::env::var("FREEHOLD_FAULTS_ONLY").ok(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn only_faults(mut self, faults: &[Fault]) -> Self {
        self.faults = faults.to_vec();
        self
    }
}

/// Runs the scenario undisturbed, then once for every point and fault. Blocks; it needs no runtime
/// around it, so that it can be called from a plain `#[test]`.
pub fn check<S: Scenario>(scenario: &S, options: &Options) -> Report {
    let began = Instant::now();
    let mut report = Report::default();
    let Some((points, reference)) = learn(scenario, options, &mut report) else {
        return report;
    };
    let cases = cases(&points, options);
    report.points = points;
    report.cases = cases.len();
    let next = AtomicUsize::new(0);
    let mut ran: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..options.parallel.max(1))
            .map(|_| {
                scope.spawn(|| {
                    let mut ran = Vec::new();
                    while began.elapsed() < options.budget {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(case) = cases.get(at) else { break };
                        let found = case::run(scenario, case, &reference, options.patience);
                        ran.push((at, found));
                    }
                    ran
                })
            })
            .collect();
        let ended = lanes.into_iter().map(|lane| lane.join());
        ended
            .flat_map(|lane| lane.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    ran.sort_by_key(|(at, _)| *at);
    report.cases_run = ran.len();
    report.divergences = ran.into_iter().flat_map(|(_, found)| found).collect();
    report.took = began.elapsed();
    report
}

/// The points and the outcome of an undisturbed run. Two of them, because a scenario whose outcome
/// varies by itself proves nothing.
fn learn<S: Scenario>(
    scenario: &S,
    options: &Options,
    report: &mut Report,
) -> Option<(Vec<PointId>, Snapshot)> {
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        match case::run_undisturbed(scenario, options.patience) {
            Ok(outcome) => outcomes.push(outcome),
            Err(trouble) => {
                report.undisturbed = Some(trouble);
                return None;
            }
        }
    }
    let (_, again) = outcomes.pop()?;
    let (points, first) = outcomes.pop()?;
    if let Some(difference) = first.difference(&again) {
        report.undisturbed = Some(format!(
            "two undisturbed runs end differently, so nothing can be compared:\n{difference}"
        ));
        return None;
    }
    if points.is_empty() {
        report.undisturbed =
            Some("the work passes no gate: there is nothing to disturb".to_owned());
        return None;
    }
    Some((points, first))
}

fn cases(points: &[PointId], options: &Options) -> Vec<Case> {
    let (k, n) = options.shard;
    let all = options.faults.iter().flat_map(|&fault| {
        let at = points.iter().filter(move |point| fault.applies(point));
        at.map(move |point| Case {
            fault,
            point: point.clone(),
        })
    });
    let wanted = all.filter(|case| {
        let name = case.to_string();
        options.only.as_ref().is_none_or(|only| name.contains(only))
    });
    wanted.skip(k).step_by(n.max(1)).collect()
}

/// A gate that only listens, and what it has heard; for tests that look at the points themselves.
pub fn recording() -> (Gate, impl Fn() -> Vec<PointId>) {
    let keeper = Keeper::recording();
    let heard = std::sync::Arc::clone(&keeper);
    (Gate::kept_by(keeper), move || heard.seen())
}
