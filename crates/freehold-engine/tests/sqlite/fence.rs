//! Ownership, and who may act.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use freehold_engine::{ConvergeMode, DesiredState, EngineHandle, Fault, Fence};
use freehold_model::{Gate, GateKeeper, InjectedFault, Point, When};

use crate::world::{World, converge, database, fence, keys, stamp};

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused() {
    let world = World::start();
    world.provision(&database("first")).await;
    std::fs::create_dir(world.home("legacy")).expect("made by hand");
    let error = world.reserve(&database("legacy"), 1).await;
    let error = error.expect_err("it exists");
    assert!(
        matches!(error.fault, Fault::NameTaken { owner: None, .. }),
        "{error}"
    );
    let mut theirs = database("first");
    theirs.stamp = stamp(99);
    for error in [
        world.reserve(&theirs, 9).await.err(),
        world.apply(&theirs, 9).await.err(),
        world.observe(&theirs, 9).await.err(),
    ] {
        let error = error.expect("it is taken");
        assert!(
            matches!(&error.fault, Fault::NameTaken { owner: Some(owner), .. } if **owner == stamp(1)),
            "{error}"
        );
    }

    // Something that came between the reservation and the making.
    let late = database("late");
    world.reserve(&late, 1).await.expect("free");
    std::fs::create_dir(world.home("late")).expect("made by hand");
    std::fs::write(world.file("late"), "theirs").expect("written");
    let error = world.apply(&late, 1).await.expect_err("it exists");
    assert!(
        matches!(error.fault, Fault::NameTaken { owner: None, .. }),
        "{error}"
    );
    assert_eq!(
        std::fs::read_to_string(world.file("late")).expect("untouched"),
        "theirs"
    );
}

/// Everything that a stale worker could have changed.
fn dump(world: &World) -> String {
    let rows: Vec<String> = world
        .registry()
        .prepare("SELECT name || state || released || epoch || actor || place FROM database")
        .expect("prepared")
        .query_map([], |row| row.get(0))
        .expect("queried")
        .collect::<Result<_, _>>()
        .expect("rows");
    let mut files: Vec<String> = ["databases", "quarantine", "making"]
        .iter()
        .flat_map(|place| std::fs::read_dir(world.directory.join(place)).expect("a place"))
        .map(|entry| format!("{:?}", entry.expect("an entry").path()))
        .collect();
    files.sort();
    format!("{rows:?} {files:?}")
}

#[tokio::test]
async fn a_stale_worker_changes_nothing() {
    let world = World::start();
    let mut desired = database("shop");
    world.reserve(&desired, 5).await.expect("free");
    world.apply(&desired, 5).await.expect("made");
    let before = dump(&world);
    desired.state = DesiredState::Closed;
    let other = Fence {
        epoch: 5,
        actor: "another".into(),
    };
    let (engine, gate) = (&world.engine, Gate::open());
    for (stale, ours) in [(fence(4), 4), (other, 5)] {
        let attempts = [
            engine.reserve("shop", &desired.stamp, &stale, &gate).await,
            engine
                .converge(&desired, ConvergeMode::Apply, None, &stale, &gate)
                .await
                .map(|_| ()),
            engine
                .disable_logins("shop", &desired.stamp, &[], &stale, &gate)
                .await,
            engine.release("shop", &desired.stamp, &stale, &gate).await,
        ];
        for result in attempts {
            let error = result.expect_err("refused");
            let expected = Fault::Fenced { ours, found: 5 };
            assert_eq!(error.fault, expected, "{error}");
        }
        assert_eq!(dump(&world), before);
    }
    world.apply(&desired, 5).await.expect("its owner goes on");
}

/// At one effect, another worker takes over before this one goes on.
#[derive(Debug)]
struct Overtaken {
    at: usize,
    passed: Mutex<usize>,
    other: Arc<Other>,
}

struct Other {
    engine: EngineHandle,
    desired: freehold_engine::DesiredDatabase,
}

impl std::fmt::Debug for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Other")
    }
}

impl GateKeeper for Overtaken {
    fn reach(
        &self,
        point: Point,
    ) -> Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        Box::pin(async move {
            let here = {
                let mut passed = self.passed.lock().expect("no panic");
                *passed += usize::from(point.when == When::Before);
                point.when == When::Before && *passed == self.at
            };
            if here {
                let Other { engine, desired } = &*self.other;
                let (stamp, second) = (&desired.stamp, fence(2));
                engine
                    .reserve(&desired.name, stamp, &second, &Gate::open())
                    .await
                    .expect("the successor takes over");
                converge(engine, desired, ConvergeMode::Apply, 2)
                    .await
                    .expect("the successor completes the work");
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_worker_that_is_overtaken_at_any_effect_changes_nothing_more() {
    let world = World::start();
    let mut overtaken = 0;
    // Making, closing, opening, repairing: the old worker wants one state, the new one the other.
    for (made, closes) in [(false, false), (true, true), (true, false)] {
        for at in 1..10 {
            let mut old = database(&format!("shop{made}{closes}{at}"));
            let mut new = old.clone();
            let states = [DesiredState::Open, DesiredState::Closed];
            (old.state, new.state) = (states[usize::from(closes)], states[usize::from(!closes)]);
            world.reserve(&old, 1).await.expect("free");
            if made {
                let mut first = new.clone();
                first.state = DesiredState::Open;
                world.apply(&first, 1).await.expect("made");
                world.apply(&new, 1).await.expect("as the new one wants it");
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(&world.directory, mode).expect("changed");
            }
            let keeper = Arc::new(Overtaken {
                at,
                passed: Mutex::new(0),
                other: Arc::new(Other {
                    engine: world.another_engine(),
                    desired: new.clone(),
                }),
            });
            let gate = Gate::kept_by(keeper.clone());
            let result = world
                .engine
                .converge(&old, ConvergeMode::Apply, None, &fence(1), &gate)
                .await;
            if *keeper.passed.lock().expect("no panic") < at {
                result.expect("undisturbed");
                break;
            }
            overtaken += 1;
            let error = result.expect_err("overtaken");
            assert!(matches!(error.fault, Fault::Fenced { .. }), "{error}");
            let left = world.apply(&new, 2).await.expect("looks");
            assert_eq!(keys(&left), Vec::<&str>::new(), "overtaken at effect {at}");
        }
    }
    assert!(overtaken >= 5, "there are effects to be overtaken at");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_making_the_registry_at_once_each_get_their_name() {
    for _ in 0..5 {
        let world = World::start();
        let wanted: Vec<_> = (0..8).map(|at| database(&format!("db{at}"))).collect();
        let (first, gate) = (fence(1), Gate::open());
        let work = wanted.iter().map(|desired| {
            let engine = world.patient_engine();
            let (first, gate) = (&first, &gate);
            async move {
                let (name, stamp) = (&desired.name, &desired.stamp);
                engine.reserve(name, stamp, first, gate).await?;
                converge(&engine, desired, ConvergeMode::Apply, 1).await
            }
        });
        for result in futures::future::join_all(work).await {
            result.expect("each has its database");
        }
        for desired in &wanted {
            assert_eq!(world.observe(desired, 1).await.expect("looked"), []);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reserving_one_name_leave_one_owner() {
    let world = World::start();
    let stamps: Vec<_> = (0..8).map(stamp).collect();
    let (first, gate) = (fence(1), Gate::open());
    let reserving = stamps.iter().map(|stamp| {
        let engine = world.patient_engine();
        let (first, gate) = (&first, &gate);
        async move { engine.reserve("shop", stamp, first, gate).await }
    });
    let results = futures::future::join_all(reserving).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        assert!(
            matches!(error.fault, Fault::NameTaken { owner: Some(_), .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_released_stays_and_can_only_be_taken_back() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    world.fill("shop");
    let gate = Gate::open();
    for _ in 0..2 {
        world
            .engine
            .release("shop", &desired.stamp, &fence(2), &gate)
            .await
            .expect("released");
    }
    let error = world.apply(&desired, 3).await.expect_err("given up");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
    let mut other = desired.clone();
    other.stamp = stamp(2);
    let error = world.reserve(&other, 9).await.expect_err("it is there");
    assert!(
        matches!(error.fault, Fault::NameTaken { owner: Some(_), .. }),
        "{error}"
    );
    world.reserve(&desired, 3).await.expect("taken back");
    assert_eq!(world.apply(&desired, 3).await.expect("as it was"), []);
    assert_eq!(world.kept(&world.file("shop")), Some(42));

    // Removed by hand after it was given up: the name is free.
    world
        .engine
        .release("shop", &desired.stamp, &fence(4), &gate)
        .await
        .expect("released");
    std::fs::remove_dir_all(world.home("shop")).expect("removed");
    world.reserve(&other, 1).await.expect("free");
    world.apply(&other, 1).await.expect("made");
    assert_eq!(world.kept(&world.file("shop")), None, "a new one is empty");
}
