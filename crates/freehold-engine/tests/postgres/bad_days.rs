//! Servers that are down, slow, full, read-only, or have changed their mind about us.

use std::time::{Duration, Instant};

use freehold_engine::{
    EngineHandle, Fault, ScriptSession as _,
    postgres::{PostgresEngine, PostgresSession, Timeouts},
};
use freehold_model::{Gate, kinds::AccessLevel};
use freehold_testing::{
    postgres::{Server, StopMode},
    proxy,
};

use crate::world::{ANY, As, World, access, database, fence, open_migrator, target, uid};

#[tokio::test]
async fn a_server_that_is_down_is_unreachable_until_it_is_back() {
    let world = World::start(ANY, As::Superuser);
    let desired = database("shop");
    world.provision(&desired).await;
    world.server.stop(StopMode::Immediate);
    let error = world.engine.inspect().await.expect_err("down");
    assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
    let error = world.apply(&desired, 1).await.expect_err("down");
    assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
    world.server.restart();
    assert_eq!(world.apply(&desired, 1).await.expect("back"), []);
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_given_up() {
    let world = World::start(ANY, As::Superuser);
    let desired = database("shop");
    world.provision(&desired).await;
    let proxy = proxy::Tcp::start((world.server.host(), world.server.port()));
    // Long enough for a busy machine to answer while it can.
    let patience = Duration::from_secs(4);
    let mut slow = target(proxy.port(), &world.admin);
    slow.connect_timeout = patience;
    let limits = Timeouts {
        statement: patience,
        grace: Duration::from_millis(300),
        ..Timeouts::default()
    };
    let engine = EngineHandle::new(PostgresEngine::with_timeouts(slow, limits));
    engine.inspect().await.expect("it answers");
    proxy.stall();
    for _ in 0..2 {
        let began = Instant::now();
        let error = engine.inspect().await.expect_err("silent");
        assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
        // A dead idle connection, and then a new one that nobody answers.
        assert!(began.elapsed() < patience * 5);
    }
    proxy.pass();
    engine.inspect().await.expect("it answers again");
}

#[tokio::test]
async fn a_connection_cut_anywhere_leaves_what_the_next_run_completes() {
    let world = World::start(ANY, As::Superuser);
    let proxy = proxy::Tcp::start((world.server.host(), world.server.port()));
    let mut cuts = 0;
    for (at, bytes) in [500, 1_500, 3_000, 5_000, 7_000, 9_000]
        .into_iter()
        .enumerate()
    {
        let mut desired = database(&format!("shop{at}"));
        desired.stamp.uid = uid(at as u64);
        desired.accesses = vec![access(
            at as u64,
            &format!("app{at}"),
            AccessLevel::ReadWrite,
            &[],
        )];
        let engine = EngineHandle::new(PostgresEngine::new(target(proxy.port(), &world.admin)));
        world.reserve(&desired, 1).await.expect("free");
        proxy.cut_after(proxy::Towards::Server, bytes);
        let mode = freehold_engine::ConvergeMode::Apply;
        let cut = engine
            .converge(&desired, mode, None, &fence(1), &Gate::open())
            .await;
        if let Err(error) = cut {
            cuts += 1;
            assert!(
                matches!(error.fault, Fault::Undetermined | Fault::Unreachable { .. }),
                "{error}"
            );
        }
        proxy.pass();
        engine
            .converge(&desired, mode, None, &fence(2), &Gate::open())
            .await
            .expect("completed");
        assert_eq!(world.apply(&desired, 2).await.expect("as it should be"), []);
    }
    assert!(cuts >= 4, "only {cuts} of the cuts met anything");
}

#[tokio::test]
async fn births_that_cannot_enter_their_databases_do_not_wait_for_one_another() {
    let world = World::start(ANY, As::Superuser);
    let proxy = proxy::Tcp::start((world.server.host(), world.server.port()));
    let engine = EngineHandle::new(PostgresEngine::new(target(proxy.port(), &world.admin)));
    let desired: Vec<_> = (0..2)
        .map(|at| {
            let mut desired = database(&format!("shop{at}"));
            desired.stamp.uid = uid(at);
            desired
        })
        .collect();
    for desired in &desired {
        let gate = Gate::open();
        engine
            .reserve(&desired.name, &desired.stamp, &fence(1), &gate)
            .await
            .expect("free");
    }
    // The connection that is open goes on; no other comes into being.
    proxy.admit_nobody();
    let began = Instant::now();
    let (gate, first) = (Gate::open(), fence(1));
    let mode = freehold_engine::ConvergeMode::Apply;
    let births = desired
        .iter()
        .map(|desired| engine.converge(desired, mode, None, &first, &gate));
    for born in futures::future::join_all(births).await {
        let error = born.expect_err("nobody can enter");
        assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
    }
    assert!(
        began.elapsed() < Timeouts::default().turn,
        "they waited for each other until one gave up"
    );
    proxy.pass();
    for desired in &desired {
        engine
            .converge(desired, mode, None, &fence(2), &Gate::open())
            .await
            .expect("completed");
    }
}

#[tokio::test]
async fn a_read_only_server_says_so() {
    let world = World::start(ANY, As::Superuser);
    let desired = database("shop");
    world.provision(&desired).await;
    let mut more = desired.clone();
    more.schemas = vec!["more".into()];
    world.server.psql(
        "postgres",
        "ALTER SYSTEM SET default_transaction_read_only = on",
    );
    world.server.restart();
    assert!(world.engine.inspect().await.expect("inspected").read_only);
    for result in [
        world.reserve(&desired, 2).await,
        world.apply(&more, 2).await.map(|_| ()),
    ] {
        assert_eq!(result.expect_err("read-only").fault, Fault::ReadOnly);
    }
    assert_eq!(
        world.apply(&desired, 1).await.expect("looking is possible"),
        []
    );

    world.server.stop(StopMode::Fast);
    let standby = world.server.clone_files();
    standby.stop(StopMode::Fast);
    std::fs::write(standby.data_dir().join("standby.signal"), "").expect("writable");
    standby.restart();
    let engine = EngineHandle::new(PostgresEngine::new(target(standby.port(), &world.admin)));
    assert!(engine.inspect().await.expect("inspected").read_only);
    let mode = freehold_engine::ConvergeMode::Apply;
    let error = engine
        .converge(&more, mode, None, &fence(2), &Gate::open())
        .await
        .expect_err("a standby");
    assert_eq!(error.fault, Fault::ReadOnly);
}

#[tokio::test]
async fn a_server_without_free_connections_is_exhausted() {
    let server = Server::with_settings(&[
        ("max_connections", "6"),
        ("superuser_reserved_connections", "3"),
    ]);
    let world = World::around(server, As::Managed);
    world.provision(&database("shop")).await;
    world
        .server
        .psql("postgres", "CREATE ROLE hog LOGIN PASSWORD 'hog'");
    let hog = freehold_testing::postgres::Login {
        name: "hog".into(),
        password: "hog".into(),
    };
    let mut sessions = Vec::new();
    while let Ok(session) = PostgresSession::connect(&target(world.server.port(), &hog)).await {
        sessions.push(session);
    }
    let error = world.another_engine().inspect().await.expect_err("full");
    assert!(matches!(error.fault, Fault::Exhausted { .. }), "{error}");
}

#[tokio::test]
async fn a_changed_admin_password_is_said() {
    let world = World::start(ANY, As::Managed);
    world.provision(&database("shop")).await;
    world
        .server
        .psql("postgres", "ALTER ROLE managed_admin PASSWORD 'changed'");
    let error = world
        .another_engine()
        .inspect()
        .await
        .expect_err("the password is wrong");
    assert_eq!(error.fault, Fault::Unauthenticated);
    assert_eq!(error.reason(), "AdminLoginRefused");
}

#[tokio::test]
async fn an_admin_without_rights_hears_which() {
    for version in crate::world::oldest_and_newest() {
        let server = Server::start_version(version);
        server.psql("postgres", "CREATE ROLE poor LOGIN PASSWORD 'poor'");
        let poor = freehold_testing::postgres::Login {
            name: "poor".into(),
            password: "poor".into(),
        };
        let engine = EngineHandle::new(PostgresEngine::new(target(server.port(), &poor)));
        let facts = engine.inspect().await.expect("it may look");
        let missing = facts.missing_rights.join("\n");
        assert!(
            missing.contains("CREATEROLE") && missing.contains("CREATEDB"),
            "{missing}"
        );
        assert_eq!(missing.contains("template1"), version < 15, "{missing}");
        assert_eq!(facts.version_major, version);
        let error = engine
            .reserve("shop", &crate::world::stamp(1), &fence(1), &Gate::open())
            .await
            .expect_err("it may not create");
        assert!(matches!(error.fault, Fault::Denied { .. }), "{error}");

        let managed = World::around(server, As::Managed);
        let facts = managed.engine.inspect().await.expect("inspected");
        assert_eq!(facts.missing_rights, Vec::<String>::new());
        assert!(facts.size_bytes > 0 && facts.connections_max > Some(0));
        assert!(
            facts
                .extensions_available
                .iter()
                .any(|name| name == "plpgsql")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_by_others_at_the_same_time_do_not_get_in_the_way() {
    let world = World::start(ANY, As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
    open_migrator(&mut desired);
    world.provision(&desired).await;
    world
        .sql_as(&desired, "shop_migrator", "CREATE TABLE item (id int)")
        .expect("made");
    let storm: Vec<_> = (0..3)
        .map(|_| {
            let login = crate::provision::login_target(&world, "shop_migrator");
            tokio::spawn(async move {
                let mut session = PostgresSession::connect(&login).await.expect("connects");
                let mut failed = 0;
                for _ in 0..300 {
                    // They fail one another; that is the storm.
                    for statement in [
                        "GRANT SELECT ON item TO PUBLIC",
                        "REVOKE SELECT ON item FROM PUBLIC",
                    ] {
                        failed += u32::from(session.execute(statement).await.is_err());
                    }
                }
                failed
            })
        })
        .collect();
    let mut calm = false;
    while !calm {
        calm = storm.iter().all(tokio::task::JoinHandle::is_finished);
        world.server.psql(
            "shop",
            "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner GRANT SELECT ON TABLES TO PUBLIC",
        );
        world.apply(&desired, 1).await.expect("it gets through");
    }
    let failed: u32 = futures::future::join_all(storm)
        .await
        .into_iter()
        .map(|failed| failed.expect("no panic"))
        .sum();
    assert!(failed > 0, "without a storm this proves nothing");
    world.apply(&desired, 1).await.expect("it gets through");
    assert_eq!(world.observe(&desired, 1).await.expect("looked"), []);
}

#[tokio::test]
async fn much_work_at_once_takes_two_connections() {
    let world = World::start(ANY, As::Managed);
    world.provision(&database("first")).await;
    // Two, and those that a busy server has not noticed to be closed yet.
    world
        .server
        .psql("postgres", "ALTER ROLE managed_admin CONNECTION LIMIT 7");
    let gate = Gate::open();
    let first = fence(1);
    let work = (0..12).map(|at| {
        let mut desired = database(&format!("shop{at}"));
        desired.stamp.uid = uid(10 + at);
        let (world, gate, first) = (&world, &gate, &first);
        async move {
            world
                .engine
                .reserve(&desired.name, &desired.stamp, first, gate)
                .await?;
            world.apply(&desired, 1).await?;
            world.engine.inspect().await?;
            world.engine.survey().await?;
            world.observe(&desired, 1).await
        }
    });
    for result in futures::future::join_all(work).await {
        assert_eq!(result.expect("within the limit"), []);
    }
}
