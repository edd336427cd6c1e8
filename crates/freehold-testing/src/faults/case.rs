//! One case: a fresh world, a worker, a fault at a point, and what came of it.

use std::{
    fmt,
    future::Future,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use freehold_model::Gate;
use tokio::runtime::{Builder, Runtime};

use super::{
    Divergence, Fault, PointId, Scenario, Snapshot, WorkError, Worker,
    keeper::{Keeper, Struck},
};

/// Which fault, where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) fault: Fault,
    pub(super) point: PointId,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.fault, self.point)
    }
}

/// How a worker's life ended.
enum Ended {
    Finished(Result<(), WorkError>),
    Killed,
    TimedOut,
    Panicked(String),
}

pub(super) fn run_undisturbed<S: Scenario>(
    scenario: &S,
    patience: Duration,
) -> Result<(Vec<PointId>, Snapshot), String> {
    let director = Director::new(scenario, patience)?;
    let keeper = Keeper::recording();
    let ended = thread::scope(|scope| {
        let worker = scope.spawn(|| live(scenario, &director.world, "worker-1", &keeper, patience));
        join(worker)
    });
    completed(ended, "the undisturbed worker")?;
    Ok((keeper.seen(), director.observe()?))
}

/// Everything that went another way than undisturbed.
pub(super) fn run<S: Scenario>(
    scenario: &S,
    case: &Case,
    reference: &Snapshot,
    patience: Duration,
) -> Vec<Divergence> {
    let mut found = Vec::new();
    let outcome = Director::new(scenario, patience)
        .and_then(|director| director.disturb(case, reference, &mut found));
    if let Err(trouble) = outcome {
        found.push(trouble);
    }
    let diverged = found.into_iter().map(|what| Divergence {
        fault: case.fault,
        point: case.point.clone(),
        what,
    });
    diverged.collect()
}

/// Builds, watches and compares one world. Its runtime keeps running beside the workers', so that
/// servers a world owns are served.
struct Director<'s, S: Scenario> {
    scenario: &'s S,
    patience: Duration,
    world: S::World,
    runtime: Runtime,
}

impl<'s, S: Scenario> Director<'s, S> {
    fn new(scenario: &'s S, patience: Duration) -> Result<Self, String> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let world = within(&runtime, patience, scenario.build())
            .ok_or("the world was not built in time")?;
        Ok(Self {
            scenario,
            patience,
            world,
            runtime,
        })
    }

    fn observe(&self) -> Result<Snapshot, String> {
        within(
            &self.runtime,
            self.patience,
            self.scenario.observe(&self.world),
        )
        .ok_or_else(|| "the world could not be observed in time".to_owned())
    }

    fn lapse(&self) -> Result<(), String> {
        let lapse = self.scenario.lapse(&self.world);
        within(&self.runtime, self.patience, lapse)
            .ok_or_else(|| "the leases did not lapse in time".to_owned())
    }

    fn disturb(
        &self,
        case: &Case,
        reference: &Snapshot,
        found: &mut Vec<String>,
    ) -> Result<(), String> {
        let (struck, strikes) = mpsc::channel();
        let (wake, woken) = mpsc::channel();
        let keeper = Keeper::striking(case.clone(), struck, woken);
        // Asleep, it waits for others who have this patience each.
        let patience = self.patience * 3;
        thread::scope(|scope| {
            let first = scope.spawn(|| self.life("worker-1", &keeper, patience));
            match strikes.recv_timeout(self.patience) {
                Ok(Struck::Asleep) => {
                    let slept = self.while_asleep(reference, found);
                    drop(wake);
                    // What the woken worker says does not matter, only what it does.
                    match join(first) {
                        Ended::Finished(_) => {}
                        ended => found.extend(completed(ended, "the woken worker").err()),
                    }
                    slept
                }
                Ok(Struck::Done) => match join(first) {
                    Ended::Killed => self.complete("the worker after the killed one"),
                    ended => completed(ended, "the disturbed worker"),
                },
                Err(_) => {
                    drop(wake);
                    completed(join(first), "the worker")?;
                    Err(
                        "the point was never reached: its name or order changes from run to run"
                            .to_owned(),
                    )
                }
            }
        })?;
        let outcome = self.observe()?;
        if let Some(difference) = reference.difference(&outcome) {
            let whose = match case.fault {
                Fault::Sleep => "after the sleeper woke up, the world",
                _ => "the world",
            };
            found.push(format!(
                "{whose} differs from the undisturbed one:\n{difference}"
            ));
        }
        Ok(())
    }

    /// Another worker completes the work while the first one stands still.
    fn while_asleep(&self, reference: &Snapshot, found: &mut Vec<String>) -> Result<(), String> {
        self.lapse()?;
        self.complete("the worker beside the sleeping one")?;
        if let Some(difference) = reference.difference(&self.observe()?) {
            found.push(format!(
                "while the worker slept, another one ended differently:\n{difference}"
            ));
        }
        Ok(())
    }

    /// A second worker, undisturbed, after all leases have lapsed.
    fn complete(&self, who: &str) -> Result<(), String> {
        self.lapse()?;
        let keeper = Keeper::recording();
        let ended = thread::scope(|scope| {
            join(scope.spawn(|| self.life("worker-2", &keeper, self.patience)))
        });
        completed(ended, who)
    }

    fn life(&self, name: &str, keeper: &Arc<Keeper>, patience: Duration) -> Ended {
        live(self.scenario, &self.world, name, keeper, patience)
    }
}

/// A worker's life, on the calling thread.
fn live<S: Scenario>(
    scenario: &S,
    world: &S::World,
    name: &str,
    keeper: &Arc<Keeper>,
    patience: Duration,
) -> Ended {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Ended::Finished(Err(error.into())),
    };
    let worker = Worker {
        name: name.to_owned(),
        gate: Gate::kept_by(Arc::clone(keeper) as Arc<_>),
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            () = keeper.kill.notified() => Ended::Killed,
            ended = scenario.work(world, worker) => Ended::Finished(ended),
            () = tokio::time::sleep(patience) => Ended::TimedOut,
        }
    });
    // What the worker left running ends with it; calls that block a thread are not waited for.
    runtime.shutdown_background();
    ended
}

fn join(worker: thread::ScopedJoinHandle<'_, Ended>) -> Ended {
    worker.join().unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Ended::Panicked(message.unwrap_or_default())
    })
}

fn completed(ended: Ended, who: &str) -> Result<(), String> {
    match ended {
        Ended::Finished(Ok(())) => Ok(()),
        Ended::Finished(Err(error)) => Err(format!("{who} failed: {}", chain(&*error))),
        Ended::Killed => Err(format!("{who} was killed, which was not asked for")),
        Ended::TimedOut => Err(format!("{who} did not complete the work in time")),
        Ended::Panicked(message) => Err(format!("{who} panicked: {message}")),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn within<T>(runtime: &Runtime, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    runtime.block_on(async { tokio::time::timeout(patience, work).await.ok() })
}
