//! The fault harness about itself: it must not pass what it could not judge.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use freehold_testing::faults::{self, Fault, Options, Scenario, Snapshot, WorkError, Worker};

/// Three effects in a row, each looked for before it is made; plus what a test adds.
struct Counts {
    trait_of: Trait,
    /// Worlds built so far.
    worlds: AtomicU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trait {
    Sound,
    EndsDifferentlyEachTime,
    PassesNoGate,
    /// The points are called differently in each world.
    RenamesPoints,
    PanicsWhenAnEffectFails,
    HangsWhenAnEffectFails,
    FailsUndisturbed,
}

struct World {
    number: u32,
    made: [AtomicU32; 3],
}

impl Counts {
    fn with(trait_of: Trait) -> Self {
        Self {
            trait_of,
            worlds: AtomicU32::new(0),
        }
    }
}

impl Scenario for Counts {
    type World = World;

    async fn build(&self) -> World {
        World {
            number: self.worlds.fetch_add(1, Ordering::SeqCst),
            made: Default::default(),
        }
    }

    async fn work(&self, world: &World, worker: Worker) -> Result<(), WorkError> {
        if self.trait_of == Trait::FailsUndisturbed {
            return Err("no such server".into());
        }
        for (made, at) in world.made.iter().zip(0..) {
            while made.load(Ordering::SeqCst) == 0 {
                let what = match self.trait_of {
                    Trait::RenamesPoints => format!("make {at} of world {}", world.number),
                    _ => format!("make {at}"),
                };
                if self.trait_of != Trait::PassesNoGate
                    && let Err(fault) = worker.gate.before(what.as_str()).await
                {
                    match self.trait_of {
                        Trait::PanicsWhenAnEffectFails => panic!("{fault}"),
                        Trait::HangsWhenAnEffectFails => std::future::pending().await,
                        _ => continue,
                    }
                }
                // Like a real server's: made once, whoever asks.
                let _ = made.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
                if self.trait_of != Trait::PassesNoGate {
                    let _ = worker.gate.after(what).await;
                }
            }
        }
        Ok(())
    }

    async fn lapse(&self, _: &World) {}

    async fn observe(&self, world: &World) -> Snapshot {
        let made = world.made.iter().map(|made| made.load(Ordering::SeqCst));
        let snapshot = Snapshot::new().ordered("made", made);
        match self.trait_of {
            Trait::EndsDifferentlyEachTime => snapshot.ordered("world", [world.number]),
            _ => snapshot,
        }
    }
}

fn options() -> Options {
    Options {
        patience: Duration::from_millis(300),
        ..Options::default()
    }
}

#[test]
fn sound_work_is_clean_and_every_point_meets_every_fault_that_fits() {
    let report = faults::check(&Counts::with(Trait::Sound), &Options::default());
    report.assert_clean();
    // Six points: killed at each, asleep at each, failed before three and after three.
    assert_eq!((report.points.len(), report.cases), (6, 18));
}

#[test]
fn shards_together_are_all_cases_and_no_case_twice() {
    let scenario = Counts::with(Trait::Sound);
    let cases = (0..4).map(|k| {
        let options = Options {
            shard: (k, 4),
            ..Options::default()
        };
        let report = faults::check(&scenario, &options);
        report.assert_clean();
        report.cases
    });
    assert_eq!(cases.collect::<Vec<_>>(), [5, 5, 4, 4]);
}

#[test]
fn a_world_that_ends_differently_by_itself_is_no_reference() {
    let report = faults::check(&Counts::with(Trait::EndsDifferentlyEachTime), &options());
    assert!(!report.is_clean());
    let text = report.to_string();
    assert!(
        text.contains("two undisturbed runs end differently"),
        "{text}"
    );
    assert!(text.contains("world:\n      - 0\n      + 1"), "{text}");
}

#[test]
fn work_that_passes_no_gate_or_fails_undisturbed_proves_nothing() {
    let report = faults::check(&Counts::with(Trait::PassesNoGate), &options());
    assert!(!report.is_clean());
    assert!(report.to_string().contains("passes no gate"), "{report}");
    let report = faults::check(&Counts::with(Trait::FailsUndisturbed), &options());
    assert!(!report.is_clean());
    assert!(
        report
            .to_string()
            .contains("the undisturbed worker failed: no such server"),
        "{report}"
    );
}

#[test]
fn points_that_change_their_names_are_reported_and_not_passed_over() {
    let one_fault = options().only_faults(&[Fault::FailBefore]);
    let report = faults::check(&Counts::with(Trait::RenamesPoints), &one_fault);
    assert_eq!(report.divergences.len(), 3, "{report}");
    for divergence in report.divergences {
        assert!(divergence.what.contains("never reached"), "{divergence}");
    }
}

#[test]
fn a_worker_that_panics_or_hangs_on_a_fault_is_reported() {
    let one_fault = options().only_faults(&[Fault::FailBefore]);
    let report = faults::check(&Counts::with(Trait::PanicsWhenAnEffectFails), &one_fault);
    assert_eq!(report.divergences.len(), 3);
    assert!(
        report
            .to_string()
            .contains("the disturbed worker panicked: injected fault"),
        "{report}"
    );
    let report = faults::check(&Counts::with(Trait::HangsWhenAnEffectFails), &one_fault);
    assert_eq!(report.divergences.len(), 3);
    assert!(
        report
            .to_string()
            .contains("did not complete the work in time"),
        "{report}"
    );
}

#[test]
fn a_run_that_does_not_fit_its_budget_or_selects_nothing_is_not_clean() {
    let hurried = Options {
        budget: Duration::ZERO,
        ..Options::default()
    };
    let report = faults::check(&Counts::with(Trait::Sound), &hurried);
    assert!(!report.is_clean());
    assert!(report.to_string().contains("0 of 18 cases run"), "{report}");
    assert!(
        report.to_string().contains("the budget ran out"),
        "{report}"
    );
    let nothing = Options {
        only: Some("no such point".to_owned()),
        ..Options::default()
    };
    let report = faults::check(&Counts::with(Trait::Sound), &nothing);
    assert!(!report.is_clean());
    assert!(
        report.to_string().contains("no case was selected"),
        "{report}"
    );
}
