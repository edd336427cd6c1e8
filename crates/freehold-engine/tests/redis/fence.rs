//! Who may act: two at once, one that is late, one that is not the owner.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use freehold_engine::{
    ConvergeMode, DesiredDatabase, EngineHandle, Fault, Fence, redis::RedisEngine,
};
use freehold_model::{
    Gate, GateKeeper, InjectedFault, Point, SystemEntropy, When, kinds::AccessLevel,
};
use freehold_testing::proxy::Tcp;
use futures::future::join_all;

use crate::world::{
    Session, World, access, credentials, database, engine, fence, keys, neighbours, rotate, stamp,
    target, uid,
};

#[tokio::test]
async fn many_at_once_come_to_the_same_end() {
    let world = World::start();
    let [shop, _] = neighbours();
    let workers: Vec<EngineHandle> = (0..6).map(|_| world.another_engine()).collect();
    let same = fence(1);
    let (shop, same) = (&shop, &same);
    let all = workers.iter().map(|worker| async move {
        let gate = Gate::open();
        for _ in 0..20 {
            let reserved = worker.reserve(&shop.name, &shop.stamp, same, &gate).await;
            let done = match reserved {
                Ok(()) => {
                    worker
                        .converge(shop, ConvergeMode::Apply, None, same, &gate)
                        .await
                }
                Err(error) => Err(error),
            };
            match done {
                Ok(found) => return found,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
        panic!("it never ends");
    });
    join_all(all).await;
    assert_eq!(world.observe(shop, 1).await.expect("it is ours"), []);
    world
        .run_as("app_a", &["SET", "shop:k", "v"])
        .expect("it works");
}

/// All want one name at the same moment: the server lets one of them have it.
#[tokio::test]
async fn one_of_many_gets_a_name() {
    let world = World::start();
    world.provision(&database("first")).await;
    let workers: Vec<(u64, EngineHandle)> = (10..16)
        .map(|seed| (seed, world.another_engine()))
        .collect();
    let all = workers.iter().map(|(seed, worker)| async move {
        let (stamp, fence) = (stamp(*seed), fence(1));
        worker
            .reserve("wanted", &stamp, &fence, &Gate::open())
            .await
    });
    let results = join_all(all).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        let taken = matches!(error.fault, Fault::NameTaken { owner: Some(_), .. });
        assert!(taken || error.is_retryable(), "{error}");
    }
}

/// Two databases whose logins have one name, made at the same moment.
#[tokio::test]
async fn an_account_belongs_to_one_database() {
    let world = World::start();
    for round in 0..5_u64 {
        let databases: Vec<DesiredDatabase> = (0..4_u64)
            .map(|n| {
                let mut one = database(&format!("db{round}x{n}"));
                one.stamp = stamp(100 + 10 * round + n);
                one.accesses = vec![access(n, &format!("same{round}"), AccessLevel::ReadWrite)];
                one
            })
            .collect();
        for one in &databases {
            world.reserve(one, 1).await.expect("free");
        }
        let workers: Vec<EngineHandle> = databases.iter().map(|_| world.another_engine()).collect();
        let all = databases
            .iter()
            .zip(&workers)
            .map(|(one, worker)| async move {
                let fence = fence(1);
                worker
                    .converge(one, ConvergeMode::Apply, None, &fence, &Gate::open())
                    .await
            });
        let results = join_all(all).await;
        let made = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(made, 1, "{results:?}");
        let owner = results.iter().position(Result::is_ok).expect("one");
        let login = credentials(&format!("same{round}_a"));
        for (n, one) in databases.iter().enumerate() {
            let key = format!("{}:k", one.name);
            let set = world.server.run_as(&login, &["SET", &key, "v"]);
            assert_eq!(set.is_ok(), n == owner, "{set:?}");
        }
    }
}

#[tokio::test]
async fn an_account_that_nobody_made_for_us_is_not_taken() {
    let world = World::start();
    world
        .server
        .run(&["ACL", "SETUSER", "app_b", "on", ">theirs", "~*", "+@all"]);
    let [shop, _] = neighbours();
    world.reserve(&shop, 1).await.expect("free");
    let error = world.apply(&shop, 1).await.expect_err("it is somebody's");
    assert!(matches!(&error.fault, Fault::NameTaken { name, owner: None } if name == "app_b"));
    let theirs = freehold_testing::redis::Login {
        name: "app_b".into(),
        password: "theirs".into(),
    };
    world
        .server
        .run_as(&theirs, &["PING"])
        .expect("it is as it was");
    let error = world
        .engine
        .disable_logins(
            "shop",
            &shop.stamp,
            &["app_b".into()],
            &fence(1),
            &Gate::open(),
        )
        .await
        .expect_err("nor is it closed");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
    world
        .server
        .run_as(&theirs, &["PING"])
        .expect("it is as it was");
}

/// At one point of the old worker's way, a newer one does all the work.
struct Overtaken {
    at: usize,
    when: When,
    passed: Mutex<usize>,
    engine: EngineHandle,
    desired: DesiredDatabase,
}

impl std::fmt::Debug for Overtaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overtaken")
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
                *passed += usize::from(point.when == self.when);
                point.when == self.when && *passed == self.at
            };
            if here {
                self.engine
                    .converge(
                        &self.desired,
                        ConvergeMode::Apply,
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
async fn a_worker_that_was_overtaken_changes_nothing() {
    let world = World::start();
    for when in [When::Before, When::After] {
        let mut points = 0;
        for at in 1..20_usize {
            let seed = at as u64 + if when == When::Before { 0 } else { 100 };
            let mut old = database(&format!("shop{seed}"));
            old.stamp.uid = uid(seed);
            old.accesses = vec![access(seed, &format!("app{seed}"), AccessLevel::Owner)];
            let mut new = old.clone();
            new.accesses[0].level = AccessLevel::ReadOnly;
            rotate(&mut new);
            world.reserve(&old, 1).await.expect("free");
            let keeper = Arc::new(Overtaken {
                at,
                when,
                passed: Mutex::new(0),
                engine: world.another_engine(),
                desired: new.clone(),
            });
            let gate = Gate::kept_by(keeper.clone());
            let result = world
                .engine
                .converge(&old, ConvergeMode::Apply, None, &fence(1), &gate)
                .await;
            if *keeper.passed.lock().expect("no panic") < at {
                result.expect("nobody came in between");
                break;
            }
            points += 1;
            match result {
                Err(error) => assert!(
                    matches!(error.fault, Fault::Fenced { ours: 1, found: 2 }),
                    "{error}"
                ),
                // Overtaken after its last effect, it had no more to do.
                Ok(_) => assert_eq!(when, When::After),
            }
            assert_eq!(world.observe(&new, 2).await.expect("it is the newer's"), []);
        }
        assert!(points >= 3, "{points} points");
    }
}

/// The same epoch from somebody else can only come from an old copy of the store.
#[tokio::test]
async fn an_epoch_belongs_to_one_actor() {
    let world = World::start();
    let [shop, _] = neighbours();
    world.provision(&shop).await;
    let twin = Fence {
        epoch: 1,
        actor: "another".into(),
    };
    let error = world
        .engine
        .converge(&shop, ConvergeMode::Observe, None, &twin, &Gate::open())
        .await
        .expect_err("it is not the one");
    assert!(matches!(error.fault, Fault::Fenced { ours: 1, found: 1 }));
}

/// Bytes that lie in the network while a newer worker comes do nothing when they arrive.
#[tokio::test]
async fn a_message_that_arrives_late_does_nothing() {
    let world = World::start();
    let [mut shop, _] = neighbours();
    world.provision(&shop).await;
    let proxy = Arc::new(Tcp::start(("127.0.0.1", world.server.port())));
    let login = world.server.admin_login();
    let engine = engine(proxy.port(), &login);
    shop.accesses[0].level = AccessLevel::Owner;

    #[derive(Debug)]
    struct Stall(Arc<Tcp>);
    impl GateKeeper for Stall {
        fn reach(
            &self,
            point: Point,
        ) -> Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
            if point.when == When::Before {
                self.0.stall();
            }
            Box::pin(async { Ok(()) })
        }
    }
    let stalling = Gate::kept_by(Arc::new(Stall(proxy.clone())));
    let late = tokio::spawn({
        let shop = shop.clone();
        async move {
            let fence = fence(1);
            engine
                .converge(&shop, ConvergeMode::Apply, None, &fence, &stalling)
                .await
        }
    });
    let mut newer = shop.clone();
    newer.accesses[0].level = AccessLevel::ReadOnly;
    world.apply(&newer, 2).await.expect("the successor works");
    proxy.pass();
    let error = late.await.expect("no panic").expect_err("it is too late");
    assert!(matches!(error.fault, Fault::Fenced { .. }), "{error}");
    assert_eq!(world.observe(&newer, 2).await.expect("ours"), []);
}

/// The reply to an effect is lost: nobody knows, and doing it again is right.
#[tokio::test]
async fn a_lost_reply_is_undetermined_and_can_be_done_again() {
    let world = World::start();
    let [shop, _] = neighbours();
    world.reserve(&shop, 1).await.expect("free");
    let proxy = Tcp::start(("127.0.0.1", world.server.port()));
    let login = world.server.admin_login();
    let engine = EngineHandle::new(RedisEngine::new(
        target(proxy.port(), &login),
        Arc::new(SystemEntropy),
    ));
    let mut undetermined = 0;
    let mut bytes = 4_000;
    loop {
        proxy.cut_after(freehold_testing::proxy::Towards::Client, bytes);
        let result = engine
            .converge(&shop, ConvergeMode::Apply, None, &fence(1), &Gate::open())
            .await;
        proxy.pass();
        match result {
            Ok(_) => break,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                undetermined += usize::from(error.fault == Fault::Undetermined);
            }
        }
        bytes += 97;
    }
    assert!(undetermined > 0, "a reply was lost at some point");
    assert_eq!(world.observe(&shop, 1).await.expect("ours"), []);
}

#[tokio::test]
async fn sessions_of_a_closed_login_end_at_once() {
    let world = World::start();
    let [mut shop, _] = neighbours();
    world.provision(&shop).await;
    let mut idle = Session::open(&world.server, &credentials("app_a"));
    let mut listening = Session::open(&world.server, &credentials("app_a"));
    let mut reading = Session::open(&world.server, &credentials("report_a"));
    assert_eq!(listening.say("SUBSCRIBE shop:c"), "subscribe shop:c :1");
    rotate(&mut shop);
    let found = world.apply(&shop, 1).await.expect("rotated");
    assert!(keys(&found).contains(&"login.differs:app_a"), "{found:?}");
    assert_eq!(idle.say("PING"), "", "it is hung up");
    assert_eq!(listening.hear(), "", "it is hung up");
    assert_eq!(reading.say("GET shop:k"), "$-1", "others stay");
    let mut next = Session::open(&world.server, &credentials("app_b"));
    assert_eq!(next.say("SET shop:k v"), "+OK");
    let retired = ["report_a".to_owned()];
    world
        .engine
        .disable_logins("shop", &shop.stamp, &retired, &fence(1), &Gate::open())
        .await
        .expect("it is closed");
    assert_eq!(reading.say("GET shop:k"), "", "it is hung up");
}
