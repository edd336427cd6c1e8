//! Ownership, and who may act.

use std::sync::{Arc, Mutex};

use freehold_engine::{EngineHandle, Fault, postgres::PostgresEngine};
use freehold_model::{
    Gate, GateKeeper, InjectedFault, Point, ServerIdentity, When, kinds::AccessLevel,
};
use freehold_testing::postgres::Server;

use crate::world::{ANY, As, BOTH, World, access, database, fence, stamp, target, uid};

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused() {
    for version in [ANY] {
        let world = World::start(version, As::Managed);
        world.server.psql("postgres", "CREATE DATABASE legacy");
        let error = world
            .reserve(&database("legacy"), 1)
            .await
            .expect_err("it exists");
        assert!(
            matches!(error.fault, Fault::NameTaken { owner: None, .. }),
            "{error}"
        );

        let ours = database("shop");
        world.reserve(&ours, 1).await.expect("free");
        world.reserve(&ours, 1).await.expect("ours again");
        let mut theirs = database("shop");
        theirs.stamp = stamp(99);
        let error = world.reserve(&theirs, 9).await.expect_err("it is taken");
        assert!(
            matches!(&error.fault, Fault::NameTaken { owner: Some(owner), .. } if **owner == ours.stamp),
            "{error}"
        );
        let error = world.apply(&theirs, 9).await.expect_err("it is taken");
        assert!(
            matches!(error.fault, Fault::NameTaken { owner: Some(_), .. }),
            "{error}"
        );

        // A role of the name that we would use is somebody's.
        let mut shadowed = database("den");
        shadowed.stamp.uid = uid(5);
        world.server.psql("postgres", "CREATE ROLE den_owner LOGIN");
        world.reserve(&shadowed, 1).await.expect("free");
        let error = world
            .apply(&shadowed, 1)
            .await
            .expect_err("the role is taken");
        assert!(
            matches!(&error.fault, Fault::NameTaken { name, .. } if name == "den_owner"),
            "{error}"
        );
        assert_eq!(
            world
                .server
                .psql(
                    "postgres",
                    "SELECT count(*) FROM pg_database WHERE datname = 'den'"
                )
                .trim(),
            "0"
        );

        // So is a login of another database of ours.
        let mut thief = database("thief");
        thief.stamp.uid = uid(6);
        thief.accesses = vec![access(1, "app", AccessLevel::Owner, &[])];
        let mut victim = ours.clone();
        victim.accesses = vec![access(2, "app", AccessLevel::ReadOnly, &[])];
        world.apply(&victim, 1).await.expect("made");
        world.reserve(&thief, 1).await.expect("free");
        let error = world
            .apply(&thief, 1)
            .await
            .expect_err("the login is taken");
        assert!(
            matches!(&error.fault, Fault::NameTaken { name, .. } if name == "app_a"),
            "{error}"
        );

        // A role that was dropped and made again by hand is not the one that we made.
        world.server.psql(
            "postgres",
            "DROP OWNED BY app_b; DROP ROLE app_b; CREATE ROLE app_b SUPERUSER",
        );
        let error = world
            .apply(&victim, 1)
            .await
            .expect_err("it is another role");
        assert!(
            matches!(&error.fault, Fault::NameTaken { name, .. } if name == "app_b"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_stale_worker_changes_nothing() {
    for version in [ANY] {
        let world = World::start(version, As::Superuser);
        let mut desired = database("shop");
        desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
        world.reserve(&desired, 5).await.expect("free");
        world.apply(&desired, 5).await.expect("made");
        let gate = Gate::open();
        let before = dump(&world.server);
        desired.accesses.clear();
        let old = fence(4);
        let attempts = [
            world
                .engine
                .reserve("shop", &desired.stamp, &old, &gate)
                .await
                .err(),
            world.apply(&desired, 4).await.err(),
            world
                .engine
                .disable_logins("shop", &desired.stamp, &["app_a".into()], &old, &gate)
                .await
                .err(),
            world
                .engine
                .release("shop", &desired.stamp, &old, &gate)
                .await
                .err(),
        ];
        for error in attempts {
            let error = error.expect("refused");
            assert!(
                matches!(error.fault, Fault::Fenced { ours: 4, found: 5 }),
                "{error}"
            );
        }
        assert_eq!(dump(&world.server), before);
    }
}

/// Two workers have one epoch when the store was copied back between them.
#[tokio::test]
async fn the_same_epoch_from_somebody_else_changes_nothing() {
    let world = World::start(ANY, As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.reserve(&desired, 5).await.expect("free");
    world.apply(&desired, 5).await.expect("made");
    let before = dump(&world.server);
    desired.accesses.clear();
    let other = freehold_engine::Fence {
        epoch: 5,
        actor: "another".into(),
    };
    let (engine, mode) = (&world.engine, freehold_engine::ConvergeMode::Apply);
    let error = engine
        .converge(&desired, mode, None, &other, &Gate::open())
        .await
        .err();
    let error = error.expect("refused");
    assert!(
        matches!(error.fault, Fault::Fenced { ours: 5, found: 5 }),
        "{error}"
    );
    assert_eq!(dump(&world.server), before);
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
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        Box::pin(async move {
            let here = {
                let mut passed = self.passed.lock().expect("no panic");
                if point.when == When::Before && point.what != "create registry" {
                    *passed += 1;
                }
                point.when == When::Before && *passed == self.at
            };
            if here {
                let Other { engine, desired } = &*self.other;
                engine
                    .converge(
                        desired,
                        freehold_engine::ConvergeMode::Apply,
                        None,
                        &fence(2),
                        &Gate::open(),
                    )
                    .await
                    .expect("the successor completes the work");
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_worker_that_is_overtaken_while_it_makes_a_database_changes_nothing_more() {
    overtaken_at_every_effect(false, 4).await;
}

#[tokio::test]
async fn a_worker_that_is_overtaken_while_it_repairs_one_changes_nothing_more() {
    overtaken_at_every_effect(true, 5).await;
}

async fn overtaken_at_every_effect(made_before: bool, effects_min: u64) {
    let world = World::start(15, As::Managed);
    for at in 1..40 {
        let mut old = database(&format!("shop{at}"));
        old.stamp.uid = uid(at);
        old.schemas = vec!["old".into()];
        old.accesses = vec![access(at, &format!("app{at}"), AccessLevel::ReadWrite, &[])];
        let mut new = old.clone();
        new.schemas = vec!["new".into()];
        new.accesses[0].level = AccessLevel::ReadOnly;
        world.reserve(&old, 1).await.expect("free");
        if made_before {
            let mut bare = old.clone();
            bare.schemas.clear();
            bare.accesses.clear();
            world.apply(&bare, 1).await.expect("made");
        }
        let keeper = Arc::new(Overtaken {
            at: usize::try_from(at).expect("small"),
            passed: Mutex::new(0),
            other: Arc::new(Other {
                engine: world.another_engine(),
                desired: new.clone(),
            }),
        });
        let gate = Gate::kept_by(keeper.clone());
        let result = world
            .engine
            .converge(
                &old,
                freehold_engine::ConvergeMode::Apply,
                None,
                &fence(1),
                &gate,
            )
            .await;
        if *keeper.passed.lock().expect("no panic") < usize::try_from(at).expect("small") {
            assert!(at > effects_min, "there are effects to be overtaken at");
            result.expect("undisturbed");
            return;
        }
        assert!(result.is_err(), "overtaken at effect {at}");
        let error = world.apply(&old, 1).await.expect_err("still overtaken");
        assert!(matches!(error.fault, Fault::Fenced { .. }), "{error}");
        let left = world.apply(&new, 2).await.expect("looks");
        let left: Vec<_> = left.iter().map(|found| &found.key).collect();
        assert!(left.is_empty(), "overtaken at effect {at}: {left:?}");
    }
    panic!("a converge has a bounded number of effects");
}

#[tokio::test]
async fn two_control_planes_create_the_registry_at_once() {
    for version in [ANY] {
        for admin in BOTH {
            let world = World::start(version, admin);
            let wanted: Vec<_> = (0..6)
                .map(|at| {
                    let mut desired = database(&format!("db{at}"));
                    desired.stamp = stamp(at);
                    desired
                })
                .collect();
            let engines: Vec<_> = wanted.iter().map(|_| world.another_engine()).collect();
            let (first, gate) = (fence(1), Gate::open());
            let reserving = wanted.iter().zip(&engines).map(|(desired, engine)| {
                engine.reserve(&desired.name, &desired.stamp, &first, &gate)
            });
            for result in futures::future::join_all(reserving).await {
                result.expect("each has its name");
            }
        }
    }
}

#[tokio::test]
async fn many_reserving_one_name_leave_one_owner() {
    let world = World::start(15, As::Superuser);
    let stamps: Vec<_> = (0..8).map(stamp).collect();
    let engines: Vec<_> = stamps.iter().map(|_| world.another_engine()).collect();
    let (first, gate) = (fence(1), Gate::open());
    let reserving = stamps
        .iter()
        .zip(&engines)
        .map(|(stamp, engine)| engine.reserve("shop", stamp, &first, &gate));
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
async fn a_server_with_another_identity_is_left_alone() {
    for version in [ANY] {
        let world = World::start(version, As::Superuser);
        let desired = database("shop");
        world.provision(&desired).await;
        world
            .server
            .psql("postgres", "UPDATE freehold.registry SET server = '4711'");
        let mut wanted = desired.clone();
        wanted.schemas = vec!["more".into()];
        let results = [
            world.reserve(&desired, 2).await.err(),
            world.apply(&wanted, 2).await.err(),
            world.observe(&desired, 2).await.err(),
        ];
        for error in results {
            let error = error.expect("refused");
            assert!(
                matches!(&error.fault, Fault::ServerMismatch { expected, .. } if *expected == ServerIdentity("4711".into())),
                "{error}"
            );
        }
        let survey = world.engine.survey().await.expect("a survey");
        let shop = survey
            .databases
            .iter()
            .find(|found| found.name == "shop")
            .expect("listed");
        assert!(!shop.same_server);
        assert_eq!(
            world
                .server
                .psql(
                    "shop",
                    "SELECT count(*) FROM pg_namespace WHERE nspname = 'more'"
                )
                .trim(),
            "0"
        );
    }
}

#[tokio::test]
async fn a_clone_that_is_made_a_server_of_its_own_is_left_alone() {
    let world = World::start(15, As::Superuser);
    let desired = database("shop");
    world.provision(&desired).await;
    world
        .server
        .stop(freehold_testing::postgres::StopMode::Fast);
    let clone = world.server.clone_files();
    let original = clone.psql(
        "postgres",
        "SELECT system_identifier FROM pg_control_system()",
    );
    // A file copy has the same identity: what tells it apart is its address, which is the caller's.
    let same = EngineHandle::new(PostgresEngine::new(target(clone.port(), &world.admin)));
    let facts = same.inspect().await.expect("inspected");
    let identity = facts.identity.expect("the server's own");
    assert_eq!(identity.0, original.trim());
}

#[tokio::test]
async fn a_database_dropped_by_hand_is_not_made_again() {
    for version in [ANY] {
        let world = World::start(version, As::Superuser);
        let desired = database("shop");
        world.provision(&desired).await;
        world.server.psql("postgres", "DROP DATABASE shop");
        for result in [
            world.apply(&desired, 2).await,
            world.observe(&desired, 2).await,
        ] {
            let error = result.expect_err("a person decides");
            assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
        }
        world.server.psql("postgres", "CREATE DATABASE shop");
        let error = world
            .apply(&desired, 2)
            .await
            .expect_err("it is another one");
        assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");

        world
            .server
            .psql("postgres", "DROP SCHEMA freehold CASCADE");
        let error = world
            .apply(&desired, 2)
            .await
            .expect_err("the registry is gone");
        assert!(
            matches!(&error.fault, Fault::Missing { what } if what.contains("registry")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_released_stays_and_can_only_be_taken_back() {
    for version in [ANY] {
        let world = World::start(version, As::Managed);
        let desired = database("shop");
        world.provision(&desired).await;
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
        let error = world
            .reserve(&other, 9)
            .await
            .expect_err("the data is there");
        assert!(
            matches!(error.fault, Fault::NameTaken { owner: Some(_), .. }),
            "{error}"
        );

        world.reserve(&desired, 3).await.expect("taken back");
        assert_eq!(world.apply(&desired, 3).await.expect("as it was"), []);

        // Dropped by hand after it was given up: the name is free, its old roles are nobody's.
        world
            .engine
            .release("shop", &desired.stamp, &fence(4), &gate)
            .await
            .expect("released");
        world.server.psql("postgres", "DROP DATABASE shop");
        world.reserve(&other, 1).await.expect("free");
        let error = world
            .apply(&other, 1)
            .await
            .expect_err("old roles are not inherited");
        assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
    }
}

/// Everything that a stale worker could have changed.
fn dump(server: &Server) -> String {
    server.psql(
        "postgres",
        "SELECT name, state, epoch FROM freehold.registry;
         SELECT rolname, rolcanlogin, rolpassword FROM pg_authid ORDER BY 1;
         SELECT roleid::regrole, member::regrole FROM pg_auth_members ORDER BY 1, 2;
         SELECT datname, datacl, datconnlimit FROM pg_database ORDER BY 1",
    )
}
