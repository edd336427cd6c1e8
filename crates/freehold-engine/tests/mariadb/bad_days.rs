//! Servers that are down, slow, full, read-only, of the wrong kind, or have changed their mind about
//! us; TLS.

use std::time::{Duration, Instant};

use freehold_engine::{
    ConvergeMode, EngineHandle, Fault, ScriptSession as _, Tls,
    mariadb::{MariadbEngine, MariadbSession, Timeouts},
};
use freehold_model::{Gate, kinds::AccessLevel};
use freehold_testing::{
    certificates::Authority,
    mariadb::{Login, Server},
    proxy,
};

use crate::world::{As, World, access, credentials, database, fence, stamp, target, uid};

#[tokio::test]
async fn a_server_that_is_down_is_unreachable_until_it_is_back() {
    let world = World::start(As::Superuser);
    let mut desired = database("shop");
    world.provision(&desired).await;
    world.server.kill9();
    let error = world.engine.inspect().await.expect_err("down");
    assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
    let error = world.apply(&desired, 1).await.expect_err("down");
    assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
    world.server.restart();
    assert_eq!(world.apply(&desired, 1).await.expect("back"), []);
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.apply(&desired, 1).await.expect("as usual");
}

#[tokio::test]
async fn a_server_killed_in_the_middle_is_completed_after_its_restart() {
    struct Killing(std::sync::Arc<World>, std::sync::atomic::AtomicUsize);
    impl std::fmt::Debug for Killing {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Killing")
        }
    }
    impl freehold_model::GateKeeper for Killing {
        fn reach(
            &self,
            point: freehold_model::Point,
        ) -> std::pin::Pin<
            Box<dyn Future<Output = Result<(), freehold_model::InjectedFault>> + Send + '_>,
        > {
            let left = &self.1;
            let order = std::sync::atomic::Ordering::Relaxed;
            if point.when == freehold_model::When::After && left.fetch_sub(1, order) == 1 {
                self.0.server.kill9();
            }
            Box::pin(async { Ok(()) })
        }
    }
    let world = std::sync::Arc::new(World::start(As::Managed));
    for at in [1, 2, 4, 6] {
        let mut desired = database(&format!("shop{at}"));
        desired.stamp.uid = uid(at);
        desired.accesses = vec![access(at, &format!("app{at}"), AccessLevel::ReadWrite, &[])];
        world.reserve(&desired, 1).await.expect("free");
        let left = std::sync::atomic::AtomicUsize::new(usize::try_from(at).expect("small"));
        let gate = Gate::kept_by(std::sync::Arc::new(Killing(world.clone(), left)));
        let error = world
            .engine
            .converge(&desired, ConvergeMode::Apply, None, &fence(1), &gate)
            .await
            .expect_err("the server died");
        assert!(error.is_retryable(), "{error}");
        world.server.restart();
        world.apply(&desired, 1).await.expect("completed");
        assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
    }
}

/// Killed inside the message that makes accounts: some are there, some are not, none is recorded.
#[tokio::test]
async fn accounts_that_were_half_made_are_finished() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    world.provision(&desired).await;
    let birthmark = world.server.sql("SELECT birthmark FROM freehold.account");
    assert!(birthmark.starts_with('*'), "{birthmark}");
    world.server.sql(&format!(
        "UPDATE freehold.account SET state = 'making'; \
         ALTER USER shop_migrator@'%' IDENTIFIED VIA mysql_native_password USING '{birthmark}'; \
         INSERT INTO freehold.account (name, db, purpose, state, birthmark) \
         VALUES ('app_a', 'shop', 'login', 'making', '{birthmark}')"
    ));
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    let made = world.apply(&desired, 1).await.expect("finished");
    let found = crate::world::keys(&made);
    for key in [
        "account.unrecorded:shop_migrator",
        "account.missing:app_a",
        "account.missing:app_b",
    ] {
        assert!(found.contains(&key), "{key}: {found:?}");
    }
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
    assert!(world.sql_as(&desired, "app_a", "SELECT 1").is_ok());

    // An account that somebody made in between is not ours.
    world.server.sql(
        "INSERT INTO freehold.account (name, db, purpose, state, birthmark) \
         VALUES ('late_a', 'shop', 'login', 'making', '*0'); CREATE USER late_a@'%'",
    );
    desired.accesses = vec![access(2, "late", AccessLevel::ReadOnly, &[])];
    let error = world.apply(&desired, 1).await.expect_err("it is theirs");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_given_up() {
    let world = World::start(As::Superuser);
    world.provision(&database("shop")).await;
    // Long enough for a busy machine to answer while it can.
    let patience = Duration::from_secs(4);
    let mut slow = target(world.server.port(), &world.admin);
    slow.connect_timeout = patience;
    let limits = Timeouts {
        statement: patience,
        grace: Duration::from_millis(300),
        ..Timeouts::default()
    };
    let engine = EngineHandle::new(MariadbEngine::with_timeouts(slow, limits));
    engine.inspect().await.expect("it answers");
    world.server.pause();
    for _ in 0..2 {
        let began = Instant::now();
        let error = engine.inspect().await.expect_err("silent");
        assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
        assert!(began.elapsed() < patience * 5);
    }
    world.server.resume();
    engine.inspect().await.expect("it answers again");
}

#[tokio::test]
async fn a_connection_cut_anywhere_leaves_what_the_next_run_completes() {
    let world = World::start(As::Superuser);
    let proxy = proxy::Tcp::start((world.server.host(), world.server.port()));
    let mut cuts = 0;
    for (at, bytes) in [800, 3_000, 5_000, 6_500, 8_000, 10_000, 14_000]
        .into_iter()
        .enumerate()
    {
        let at = at as u64;
        let mut desired = database(&format!("shop{at}"));
        desired.stamp.uid = uid(at);
        desired.accesses = vec![access(at, &format!("app{at}"), AccessLevel::ReadWrite, &[])];
        let engine = EngineHandle::new(MariadbEngine::new(target(proxy.port(), &world.admin)));
        world.reserve(&desired, 1).await.expect("free");
        proxy.cut_after(proxy::Towards::Server, bytes);
        let mode = ConvergeMode::Apply;
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
    assert!(cuts >= 4, "{cuts} connections were cut");
}

#[tokio::test]
async fn a_read_only_server_says_so() {
    let world = World::start(As::Managed);
    let desired = database("shop");
    world.provision(&desired).await;
    let mut more = desired.clone();
    more.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.server.sql("SET GLOBAL read_only = ON");
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
}

#[tokio::test]
async fn a_server_without_free_connections_is_exhausted() {
    let server = Server::with_settings(&[("max_connections", "10")]);
    let world = World::around(server, As::Managed);
    world.provision(&database("shop")).await;
    world.server.sql("CREATE USER hog IDENTIFIED BY 'hog'");
    let hog = Login {
        name: "hog".into(),
        password: "hog".into(),
    };
    let mut sessions = Vec::new();
    while let Ok(session) = MariadbSession::connect(&target(world.server.port(), &hog)).await {
        sessions.push(session);
    }
    assert!(!sessions.is_empty());
    // A connection that was just refused counts for a moment: each engine that still gets in stays, until
    // none does, the one that is kept for administrators included.
    let mut engines = Vec::new();
    let error = loop {
        let engine = world.another_engine();
        match engine.inspect().await {
            Ok(_) => engines.push(engine),
            Err(error) => break error,
        }
        assert!(engines.len() < 20, "there is no end");
    };
    assert!(matches!(error.fault, Fault::Exhausted { .. }), "{error}");
    drop((sessions, engines));
}

#[tokio::test]
async fn a_changed_admin_password_is_said() {
    let world = World::start(As::Managed);
    world.provision(&database("shop")).await;
    world
        .server
        .sql("SET PASSWORD FOR managed_admin@'%' = PASSWORD('changed')");
    for lock in ["", "ALTER USER managed_admin@'%' ACCOUNT LOCK"] {
        if !lock.is_empty() {
            world.server.sql(lock);
        }
        let error = world
            .another_engine()
            .inspect()
            .await
            .expect_err("the login is refused");
        assert_eq!(error.fault, Fault::Unauthenticated);
        assert_eq!(error.reason(), "AdminLoginRefused");
    }
}

#[tokio::test]
async fn an_admin_without_rights_hears_which() {
    let server = Server::start();
    server.sql("CREATE USER poor IDENTIFIED BY 'poor'");
    let poor = Login {
        name: "poor".into(),
        password: "poor".into(),
    };
    let engine = EngineHandle::new(MariadbEngine::new(target(server.port(), &poor)));
    let facts = engine.inspect().await.expect("it may look");
    let missing = facts.missing_rights.join("\n");
    for right in [
        "CREATE USER",
        "PROCESS",
        "CONNECTION ADMIN",
        "TRIGGER",
        "GRANT OPTION",
    ] {
        assert!(missing.contains(right), "{right}: {missing}");
    }
    let error = engine
        .reserve("shop", &stamp(1), &fence(1), &Gate::open())
        .await
        .expect_err("it may not create");
    assert!(matches!(error.fault, Fault::Denied { .. }), "{error}");

    let managed = World::around(server, As::Managed);
    let facts = managed.engine.inspect().await.expect("inspected");
    assert_eq!(facts.missing_rights, Vec::<String>::new());
    assert!(facts.size_bytes > 0 && facts.connections_max > Some(0));
    assert_eq!((facts.version_major, facts.read_only), (10, false));
}

/// A managed service that gives no CONNECTION ADMIN: everything but ending sessions.
#[tokio::test]
async fn an_admin_that_may_not_end_sessions_says_so_and_closes_the_door_first() {
    let server = Server::start();
    let admin = server.create_managed_admin("");
    let engine = EngineHandle::new(MariadbEngine::new(target(server.port(), &admin)));
    let facts = engine.inspect().await.expect("inspected");
    assert_eq!(facts.missing_rights.len(), 1, "{:?}", facts.missing_rights);
    assert!(facts.missing_rights[0].contains("CONNECTION ADMIN"));
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
    let gate = Gate::open();
    engine
        .reserve("shop", &desired.stamp, &fence(1), &gate)
        .await
        .expect("free");
    let mode = ConvergeMode::Apply;
    engine
        .converge(&desired, mode, None, &fence(1), &gate)
        .await
        .expect("made");
    let mut session = MariadbSession::connect(&target(server.port(), &credentials("app_a")))
        .await
        .expect("it is open");
    crate::world::rotate(&mut desired);
    let error = engine
        .converge(&desired, mode, None, &fence(1), &gate)
        .await
        .expect_err("it may not end the session");
    assert!(
        matches!(&error.fault, Fault::Denied { missing } if missing.contains("CONNECTION ADMIN")),
        "{error}"
    );
    let again = MariadbSession::connect(&target(server.port(), &credentials("app_a"))).await;
    assert!(again.is_err(), "the door is closed nevertheless");
    // An overtaken worker is ended all the same: it is the admin's own session.
    session.execute("SELECT 1").await.expect("still there");
    server.sql("GRANT CONNECTION ADMIN ON *.* TO managed_admin@'%'");
    let engine = EngineHandle::new(MariadbEngine::new(target(server.port(), &admin)));
    engine
        .converge(&desired, mode, None, &fence(1), &gate)
        .await
        .expect("now it may");
    assert!(session.execute("SELECT 1").await.is_err(), "it was ended");
}

/// Without PROCESS it would see no sessions, and believe that there are none.
#[tokio::test]
async fn an_admin_that_sees_no_sessions_is_refused() {
    let server = Server::start();
    let admin = server.create_managed_admin("CONNECTION ADMIN");
    server.sql("REVOKE PROCESS ON *.* FROM managed_admin@'%'");
    let engine = EngineHandle::new(MariadbEngine::new(target(server.port(), &admin)));
    let facts = engine.inspect().await.expect("it may look");
    assert!(facts.missing_rights.concat().contains("PROCESS"));
    let error = engine
        .reserve("shop", &stamp(1), &fence(1), &Gate::open())
        .await
        .expect_err("refused");
    assert!(
        matches!(&error.fault, Fault::Denied { missing } if missing.contains("PROCESS")),
        "{error}"
    );
}

/// The server's word about itself is all that is needed to try this.
#[tokio::test]
async fn what_is_not_supported_is_refused() {
    for (version, words) in [
        ("9.7.4-mysql", "MySQL"),
        ("10.6.20-MariaDB", "10.11 and later"),
    ] {
        let server = Server::with_settings(&[("version", version)]);
        let login = server.superuser_login();
        let engine = EngineHandle::new(MariadbEngine::new(target(server.port(), &login)));
        let error = engine.inspect().await.expect_err("refused");
        assert!(
            matches!(&error.fault, Fault::Unsupported { what } if what.contains(words)),
            "{version}: {error}"
        );
    }
}

#[tokio::test]
async fn tls_is_verified_when_asked() {
    let authority = Authority::new("the test's authority");
    let server = Server::builder()
        .tls(&authority.certificate(&["127.0.0.1"]))
        .setting("require_secure_transport", "ON")
        .start();
    let login = server.superuser_login();
    // The helper's own client speaks TLS by itself only when told; the engine is what is tested.
    let with = |tls: Tls| {
        let mut target = target(server.port(), &login);
        target.tls = tls;
        target
    };
    let right = Tls::VerifyFull {
        ca_pem: Some(authority.pem()),
    };
    for tls in [right.clone(), Tls::Prefer] {
        let mut session = MariadbSession::connect(&with(tls))
            .await
            .expect("encrypted");
        let cipher = "SHOW STATUS LIKE 'Ssl_cipher'";
        let rows = session.query(cipher, &[]).await.expect("asked");
        assert!(
            rows[0][1]
                .as_deref()
                .is_some_and(|cipher| !cipher.is_empty()),
            "{rows:?}"
        );
    }
    let engine = EngineHandle::new(MariadbEngine::new(with(right.clone())));
    engine
        .reserve("shop", &stamp(1), &fence(1), &Gate::open())
        .await
        .expect("administered over TLS");
    let stranger = Authority::new("somebody else");
    let wrong = Tls::VerifyFull {
        ca_pem: Some(stranger.pem()),
    };
    let mut named = with(right);
    named.host = "localhost".into();
    for (refused, words) in [
        (with(wrong), "`ca`"),
        (named, "`host`"),
        // The server says no more than this to who comes unencrypted.
        (with(Tls::Disable), "refused the login"),
    ] {
        let error = MariadbSession::connect(&refused)
            .await
            .err()
            .expect("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
    let nothing = Tls::VerifyFull {
        ca_pem: Some(String::new()),
    };
    let error = MariadbSession::connect(&with(nothing))
        .await
        .err()
        .expect("refused");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");

    // `Prefer` also takes a server that offers none.
    let plain = Server::start();
    let mut target = target(plain.port(), &plain.superuser_login());
    target.tls = Tls::Prefer;
    MariadbSession::connect(&target).await.expect("plain");
    target.tls = Tls::VerifyFull {
        ca_pem: Some(authority.pem()),
    };
    assert!(MariadbSession::connect(&target).await.is_err());
}
