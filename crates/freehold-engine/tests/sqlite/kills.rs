//! Workers that vanish at every point, and what the next one makes of what they left.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use freehold_engine::{ConvergeMode, DesiredDatabase, DesiredState, EngineError, EngineHandle};
use freehold_model::{Gate, GateKeeper, InjectedFault, Point};
use tokio::sync::Notify;

use crate::world::{World, converge, database, fence};

/// Never lets anybody pass at one point.
#[derive(Debug)]
struct Grave {
    at: usize,
    passed: AtomicUsize,
    reached: Notify,
}

impl GateKeeper for Grave {
    fn reach(
        &self,
        _point: Point,
    ) -> Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        Box::pin(async move {
            if self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
                self.reached.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }
}

/// Reserved, opened, closed, opened, given up, taken back: every effect there is.
async fn life(
    engine: &EngineHandle,
    desired: &DesiredDatabase,
    gate: &Gate,
) -> Result<(), EngineError> {
    let (name, stamp, first) = (&desired.name, &desired.stamp, &fence(1));
    engine.reserve(name, stamp, first, gate).await?;
    for state in [DesiredState::Open, DesiredState::Closed, DesiredState::Open] {
        let mut wanted = desired.clone();
        wanted.state = state;
        engine
            .converge(&wanted, ConvergeMode::Apply, None, first, gate)
            .await?;
    }
    engine.disable_logins(name, stamp, &[], first, gate).await?;
    engine.release(name, stamp, first, gate).await?;
    engine.reserve(name, stamp, first, gate).await
}

#[tokio::test]
async fn a_worker_killed_at_any_point_is_completed_by_the_next() {
    let desired = database("shop");
    for at in 1.. {
        let world = World::start();
        let grave = Arc::new(Grave {
            at,
            passed: AtomicUsize::new(0),
            reached: Notify::new(),
        });
        let gate = Gate::kept_by(grave.clone());
        let survived = tokio::select! {
            lived = life(&world.engine, &desired, &gate) => {
                lived.expect("undisturbed");
                true
            }
            () = grave.reached.notified() => false,
        };
        let next = world.another_engine();
        life(&next, &desired, &Gate::open())
            .await
            .expect("completed");
        let left = converge(&next, &desired, ConvergeMode::Observe, 1).await;
        assert_eq!(left.expect("looked"), [], "killed at point {at}");
        let making = std::fs::read_dir(world.directory.join("making")).expect("a place");
        assert_eq!(making.count(), 0, "killed at point {at}");
        if survived {
            assert!(at > 16, "there are points to be killed at");
            return;
        }
    }
}

/// Between two gates, at the moments where files and registry disagree.
#[tokio::test]
async fn what_a_kill_inside_an_effect_leaves_is_recognised() {
    let world = World::start();
    let desired = database("shop");

    // Killed while it built the file: rubbish where files are made, nothing in the registry.
    world.reserve(&desired, 1).await.expect("free");
    let making = world.directory.join("making").join("shop");
    std::fs::create_dir(&making).expect("made");
    std::fs::write(making.join("shop.db"), "half a file").expect("written");
    world.apply(&desired, 1).await.expect("made anew");
    assert_eq!(world.observe(&desired, 1).await.expect("looked"), []);

    // Killed between the rename into place and the commit that notes it.
    world.fill("shop");
    world.registry_sql("UPDATE database SET state = 'creating'");
    let found = world.apply(&desired, 1).await.expect("noted");
    assert_eq!(crate::world::keys(&found), ["database.unfinished:shop"]);
    assert_eq!(world.kept(&world.file("shop")), Some(42));

    // Killed after the file was made and noted, before it was moved.
    world.registry_sql("UPDATE database SET state = 'creating'");
    std::fs::rename(world.home("shop"), &making).expect("moved back");
    world.apply(&desired, 1).await.expect("moved");
    assert_eq!(world.kept(&world.file("shop")), Some(42));

    // Killed while the registry was made.
    let early = World::start();
    std::fs::create_dir(&early.directory).expect("made");
    let rubbish = early.directory.join("freehold-registry.unfinished");
    std::fs::write(rubbish, "half a registry").expect("written");
    early.provision(&desired).await;
    assert!(
        !early
            .directory
            .join("freehold-registry.unfinished")
            .exists()
    );
}
