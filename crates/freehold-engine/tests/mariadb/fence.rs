//! Ownership, and who may act.

use std::sync::{Arc, Mutex};

use freehold_engine::{
    ConvergeMode, DesiredDatabase, EngineHandle, Fault, Fence, ScriptSession as _,
    mariadb::{MariadbEngine, MariadbSession},
};
use freehold_model::{
    Gate, GateKeeper, InjectedFault, Point, ServerIdentity, When, kinds::AccessLevel,
};
use freehold_testing::mariadb::Server;

use crate::world::{As, World, access, database, fence, stamp, target, uid};

#[tokio::test]
async fn a_database_made_by_hand_after_the_reservation_is_not_taken_over() {
    let world = World::start(As::Superuser);
    let desired = database("shop");
    world.reserve(&desired, 1).await.expect("free");
    world.server.sql("CREATE DATABASE shop");
    let error = world.apply(&desired, 1).await.expect_err("it is theirs");
    assert!(
        matches!(error.fault, Fault::NameTaken { owner: None, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_stale_worker_changes_nothing() {
    let world = World::start(As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.reserve(&desired, 5).await.expect("free");
    world.apply(&desired, 5).await.expect("made");
    let gate = Gate::open();
    let before = dump(&world.server);
    desired.accesses[0].level = AccessLevel::Owner;
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

/// Two workers have one epoch when the store was copied back between them.
#[tokio::test]
async fn the_same_epoch_from_somebody_else_changes_nothing() {
    let world = World::start(As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.reserve(&desired, 5).await.expect("free");
    world.apply(&desired, 5).await.expect("made");
    let before = dump(&world.server);
    desired.accesses[0].level = AccessLevel::Owner;
    let other = Fence {
        epoch: 5,
        actor: "another".into(),
    };
    let error = world
        .engine
        .converge(&desired, ConvergeMode::Apply, None, &other, &Gate::open())
        .await
        .expect_err("refused");
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
    when: When,
    passed: Mutex<usize>,
    other: Arc<Other>,
}

struct Other {
    engine: EngineHandle,
    desired: DesiredDatabase,
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
                *passed += usize::from(point.when == self.when);
                point.when == self.when && *passed == self.at
            };
            if here {
                let Other { engine, desired } = &*self.other;
                engine
                    .converge(desired, ConvergeMode::Apply, None, &fence(2), &Gate::open())
                    .await
                    .expect("the successor completes the work");
            }
            Ok(())
        })
    }
}

async fn overtaken(when: When) {
    let world = World::start(As::Managed);
    for at in 1..60_usize {
        let seed = at as u64;
        let mut old = database(&format!("shop{at}"));
        old.stamp.uid = uid(seed);
        old.limits.connections = Some(7);
        old.accesses = vec![access(seed, &format!("app{at}"), AccessLevel::Owner, &[])];
        let mut new = old.clone();
        new.limits.connections = Some(3);
        new.accesses[0].level = AccessLevel::ReadOnly;
        world.reserve(&old, 1).await.expect("free");
        let keeper = Arc::new(Overtaken {
            at,
            when,
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
            assert!(at > 6, "there are effects to be overtaken at");
            result.expect("undisturbed");
            return;
        }
        assert!(result.is_err(), "overtaken at effect {at}");
        let error = world.apply(&old, 1).await.expect_err("still overtaken");
        assert!(matches!(error.fault, Fault::Fenced { .. }), "{error}");
        let left = world.apply(&new, 2).await.expect("looks");
        assert_eq!(crate::world::keys(&left), [""; 0], "at effect {at}");
    }
    panic!("a converge has a bounded number of effects");
}

#[tokio::test]
async fn a_worker_that_is_overtaken_before_any_effect_changes_nothing_more() {
    overtaken(When::Before).await;
}

#[tokio::test]
async fn a_worker_that_is_overtaken_after_any_effect_changes_nothing_more() {
    overtaken(When::After).await;
}

/// DDL is under way in the server when the successor comes: it waits for somebody's lock.
#[tokio::test]
async fn a_statement_under_way_happens_before_the_successor_looks_or_never() {
    let world = World::start(As::Managed);
    let mut old = database("shop");
    old.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.provision(&old).await;
    world.migrate(&old, 1, "CREATE TABLE t (i int)").await;
    let new = old.clone();
    old.accesses[0].level = AccessLevel::Owner;
    world.server.sql("ALTER DATABASE shop COMMENT 'by hand'");

    let superuser = target(world.server.port(), &world.server.superuser_login());
    let mut blocker = MariadbSession::connect(&superuser).await.expect("connects");
    let mut watcher = MariadbSession::connect(&superuser).await.expect("connects");
    // Whoever alters the database waits for this one.
    blocker
        .execute("LOCK TABLES shop.t WRITE")
        .await
        .expect("locked");
    let (engine, stale) = (world.another_engine(), old.clone());
    let worker = tokio::spawn(async move {
        engine
            .converge(&stale, ConvergeMode::Apply, None, &fence(1), &Gate::open())
            .await
    });
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
        WHERE INFO LIKE 'ALTER DATABASE%' AND STATE LIKE 'Waiting%'";
    while watcher.query(waiting, &[]).await.expect("asked") != [[Some("1".to_owned())]] {
        assert!(!worker.is_finished(), "it is to be held up");
    }
    let (engine, wanted) = (world.another_engine(), new.clone());
    let successor = tokio::spawn(async move {
        engine
            .converge(&wanted, ConvergeMode::Apply, None, &fence(2), &Gate::open())
            .await
    });
    // The successor ends the old worker's session although its statement is stuck.
    let error = worker.await.expect("no panic").expect_err("it was ended");
    assert_eq!(error.fault, Fault::Undetermined, "{error}");
    blocker.execute("UNLOCK TABLES").await.expect("unlocked");
    let done = successor.await.expect("no panic");
    done.expect("the successor completes the work");
    assert_eq!(world.apply(&new, 2).await.expect("as it should be"), []);
    let error = world.apply(&old, 1).await.expect_err("overtaken");
    assert!(matches!(error.fault, Fault::Fenced { .. }), "{error}");
}

/// A worker that lost its connection half-open comes back with the same epoch: its own old session
/// stands in its way.
#[tokio::test]
async fn a_worker_is_not_kept_out_by_its_own_dead_session() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    world.provision(&desired).await;
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    let proxy = freehold_testing::proxy::Tcp::start((world.server.host(), world.server.port()));
    let limits = freehold_engine::mariadb::Timeouts {
        // Long enough for every statement before the network stalls, also on a busy machine.
        statement: std::time::Duration::from_secs(3),
        grace: std::time::Duration::from_secs(1),
        ..freehold_engine::mariadb::Timeouts::default()
    };
    let engine = MariadbEngine::with_timeouts(target(proxy.port(), &world.admin), limits);
    let engine = EngineHandle::new(engine);
    #[derive(Debug)]
    struct Stall(freehold_testing::proxy::Tcp);
    impl GateKeeper for Stall {
        fn reach(
            &self,
            point: Point,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>>
        {
            if point.when == When::Before {
                self.0.stall();
            }
            Box::pin(async { Ok(()) })
        }
    }
    let stalling = Gate::kept_by(Arc::new(Stall(proxy)));
    let error = engine
        .converge(&desired, ConvergeMode::Apply, None, &fence(1), &stalling)
        .await
        .expect_err("nothing is answered any more");
    assert_eq!(error.fault, Fault::Undetermined, "{error}");
    world
        .apply(&desired, 1)
        .await
        .expect("the same worker, connected anew");
}

/// The lock's name is a secret, because anybody may hold any lock.
#[tokio::test]
async fn a_tenant_does_not_learn_the_name_of_the_lock() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::Owner, &[])];
    world.provision(&desired).await;
    for sql in [
        "SELECT * FROM freehold.server",
        "SHOW CREATE TABLE freehold.server",
        "SELECT lock_secret FROM freehold.server",
    ] {
        world
            .sql_as(&desired, "app_a", sql)
            .expect_err("it is not for tenants");
    }
    let seen = world.sql_as(&desired, "app_a", "SHOW FULL PROCESSLIST");
    assert!(!seen.expect("its own").contains("GET_LOCK"));
}

#[tokio::test]
async fn two_control_planes_create_the_registry_at_once() {
    for admin in [As::Superuser, As::Managed] {
        let world = World::start(admin);
        let wanted: Vec<_> = (0..6)
            .map(|at| {
                let mut desired = database(&format!("db{at}"));
                desired.stamp = stamp(at);
                desired
            })
            .collect();
        let engines: Vec<_> = wanted.iter().map(|_| world.another_engine()).collect();
        let (first, gate) = (fence(1), Gate::open());
        let reserving = wanted
            .iter()
            .zip(&engines)
            .map(|(desired, engine)| engine.reserve(&desired.name, &desired.stamp, &first, &gate));
        for result in futures::future::join_all(reserving).await {
            result.expect("each has its name");
        }
        assert_eq!(
            world.server.sql("SELECT COUNT(*) FROM freehold.server"),
            "1"
        );
    }
}

#[tokio::test]
async fn many_reserving_one_name_leave_one_owner() {
    let world = World::start(As::Superuser);
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

/// Many databases on one server at once, two connections per engine.
#[tokio::test]
async fn databases_are_made_side_by_side_with_two_connections() {
    let world = World::start(As::Managed);
    let wanted: Vec<_> = (0..10)
        .map(|at| {
            let mut desired = database(&format!("db{at}"));
            desired.stamp = stamp(at);
            desired.accesses = vec![access(at, &format!("app{at}"), AccessLevel::ReadWrite, &[])];
            desired
        })
        .collect();
    for desired in &wanted {
        world.reserve(desired, 1).await.expect("free");
    }
    let making = wanted.iter().map(|desired| world.apply(desired, 1));
    for result in futures::future::join_all(making).await {
        result.expect("made");
    }
    let admin = &world.admin.name;
    let query =
        format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{admin}'");
    let connections: u32 = world.server.sql(&query).parse().expect("a number");
    assert!(connections <= 2, "{connections}");
}

/// Two of the same worker, as after a lost answer, and a change of the wanted level under way.
#[tokio::test]
async fn many_workers_on_one_database_end_in_one_state() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
    world.reserve(&desired, 1).await.expect("free");
    let engines: Vec<_> = (0..5).map(|_| world.another_engine()).collect();
    let (same, gate) = (fence(1), Gate::open());
    let working = engines
        .iter()
        .map(|engine| engine.converge(&desired, ConvergeMode::Apply, None, &same, &gate));
    for result in futures::future::join_all(working).await {
        if let Err(error) = result {
            assert!(error.is_retryable(), "{error}");
        }
    }
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
}

#[tokio::test]
async fn a_clone_changes_nothing_until_a_person_says_so() {
    let world = World::start(As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.provision(&desired).await;
    let original = world.engine.inspect().await.expect("inspected").identity;
    let clone = world.server.clone_files();
    let engine = MariadbEngine::new(target(clone.port(), &world.admin));
    let engine = EngineHandle::new(engine);
    let found = engine.inspect().await.expect("inspected").identity;
    assert_ne!(found, original, "it says that it is another server");
    let before = dump(&clone);
    let mut more = desired.clone();
    more.accesses[0].level = AccessLevel::Owner;
    let (gate, fence) = (Gate::open(), fence(2));
    let name = "shop";
    let retired = ["app_a".to_owned()];
    let errors = [
        engine
            .reserve(name, &desired.stamp, &fence, &gate)
            .await
            .err(),
        engine
            .converge(&more, ConvergeMode::Apply, None, &fence, &gate)
            .await
            .err(),
        engine
            .disable_logins(name, &desired.stamp, &retired, &fence, &gate)
            .await
            .err(),
        engine
            .release(name, &desired.stamp, &fence, &gate)
            .await
            .err(),
    ];
    for error in errors {
        let error = error.expect("refused");
        let Fault::ServerMismatch {
            expected,
            found: told,
        } = &error.fault
        else {
            panic!("{error}");
        };
        assert_eq!(
            (Some(expected), Some(told)),
            (original.as_ref(), found.as_ref())
        );
    }
    assert_eq!(dump(&clone), before);
    let survey = engine.survey().await.expect("a survey");
    let shop = survey.databases.iter().find(|found| found.name == name);
    assert!(!shop.expect("listed").same_server);

    // The documented way out.
    let accept = format!(
        "UPDATE freehold.registry SET server = '{}'",
        found.expect("it has one").0
    );
    clone.sql(&accept);
    engine
        .converge(&more, ConvergeMode::Apply, None, &fence, &gate)
        .await
        .expect("accepted");
    // A restart is no other server.
    world.server.restart();
    let again = world.another_engine().inspect().await;
    assert_eq!(again.expect("inspected").identity, original);
}

#[tokio::test]
async fn a_server_with_another_identity_is_left_alone() {
    let world = World::start(As::Superuser);
    let desired = database("shop");
    world.provision(&desired).await;
    world
        .server
        .sql("UPDATE freehold.registry SET server = '4711'");
    let results = [
        world.reserve(&desired, 2).await.err(),
        world.apply(&desired, 2).await.err(),
        world.observe(&desired, 2).await.err(),
    ];
    for error in results {
        let error = error.expect("refused");
        assert!(
            matches!(&error.fault, Fault::ServerMismatch { expected, .. } if *expected == ServerIdentity("4711".into())),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_database_dropped_by_hand_is_not_made_again() {
    let world = World::start(As::Superuser);
    let desired = database("shop");
    world.provision(&desired).await;
    world.server.sql("DROP DATABASE shop");
    for result in [
        world.apply(&desired, 2).await,
        world.observe(&desired, 2).await,
    ] {
        let error = result.expect_err("a person decides");
        assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
    }
    world.server.sql("DROP DATABASE freehold");
    let error = world
        .apply(&desired, 2)
        .await
        .expect_err("the registry is gone");
    assert!(
        matches!(&error.fault, Fault::Missing { what } if what.contains("registry")),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_released_stays_and_can_only_be_taken_back() {
    let world = World::start(As::Managed);
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

    // Dropped by hand after it was given up: the name is free, its old accounts are nobody's.
    world
        .engine
        .release("shop", &desired.stamp, &fence(4), &gate)
        .await
        .expect("released");
    world.server.sql("DROP DATABASE shop");
    world.reserve(&other, 1).await.expect("free");
    let error = world
        .apply(&other, 1)
        .await
        .expect_err("old accounts are not inherited");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
}

/// Everything that a stale worker could have changed.
fn dump(server: &Server) -> String {
    server.sql(
        "SELECT name, state, epoch, actor FROM freehold.registry ORDER BY 1;
         SELECT name, db, state, stale_sessions FROM freehold.account ORDER BY 1;
         SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2;
         SELECT * FROM mysql.db ORDER BY Db, User;
         SELECT Db, User, Table_name, Table_priv FROM mysql.tables_priv ORDER BY 1, 2, 3;
         SELECT SCHEMA_NAME, SCHEMA_COMMENT FROM information_schema.SCHEMATA ORDER BY 1",
    )
}
