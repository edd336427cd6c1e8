//! Servers that lost something, were copied, are full, slow or gone; hands that changed what is ours.

use std::{
    fs,
    time::{Duration, Instant},
};

use freehold_engine::{ConvergeMode, DesiredState, EngineError, Fault};
use freehold_model::{Gate, kinds::AccessLevel};
use freehold_testing::redis::{Accounts, Login, Server};

use crate::world::{
    Session, World, access, credentials, database, engine, fence, impatient_engine, keys,
    neighbours, stamp,
};

async fn provisioned() -> World {
    let world = World::start();
    for desired in neighbours() {
        world.provision(&desired).await;
    }
    world
        .run_as("app_a", &["SET", "shop:k", "v"])
        .expect("it works");
    world
}

#[tokio::test]
async fn a_server_restarted_without_its_accounts_gets_them_again() {
    let world = provisioned().await;
    let [shop, _] = neighbours();
    world.server.restart_without_accounts();
    world
        .run_as("app_a", &["GET", "shop:k"])
        .expect_err("it is forgotten");
    let seen = world
        .observe(&shop, 1)
        .await
        .expect("the registry knows it");
    assert!(seen.iter().all(|found| !found.repaired));
    for key in [
        "registry.copy:shop",
        "login.missing:app_a",
        "login.missing:report_b",
    ] {
        assert!(keys(&seen).contains(&key), "{seen:?}");
    }
    let survey = world.engine.survey().await.expect("the rows are there");
    let surveyed = world
        .engine
        .converge(
            &shop,
            ConvergeMode::Observe,
            Some(&survey),
            &fence(1),
            &Gate::open(),
        )
        .await
        .expect("the registry knows it");
    assert_eq!(surveyed, seen);
    let found = world.apply(&shop, 1).await.expect("it is made again");
    assert!(found.iter().all(|found| found.repaired), "{found:?}");
    assert_eq!(
        world.run_as("app_a", &["GET", "shop:k"]).as_deref(),
        Ok("v")
    );
    world.server.restart();
    world
        .run_as("app_a", &["GET", "shop:k"])
        .expect("it is kept now");
    assert_eq!(world.observe(&shop, 1).await.expect("ours"), []);
}

/// Redis runs an append-only file as the account `default`: what that may not do is dropped in silence
/// when the server starts, as far as it was a transaction.
#[tokio::test]
async fn a_default_account_without_rights_is_told_of_because_transactions_are_lost_at_a_restart() {
    let world = World::start();
    world.server.run(&["ACL", "SETUSER", "default", "reset"]);
    world.server.run(&["ACL", "SAVE"]);
    let missing = world.engine.inspect().await.expect("facts").missing_rights;
    assert!(
        missing.len() == 1 && missing[0].contains("ACL SETUSER default off"),
        "{missing:?}"
    );
    let [shop, _] = neighbours();
    world.provision(&shop).await;
    let mut app = Session::open(&world.server, &credentials("app_a"));
    for line in [
        "MULTI",
        "SET shop:a 1",
        "SET shop:b 1",
        "EXEC",
        "SET shop:c 1",
    ] {
        app.say(line);
    }
    world.server.restart();
    let kept = |key: &str| world.server.run(&["EXISTS", key]) == "1";
    // When this fails, Redis has been mended, and the rule can go.
    assert_eq!(
        [kept("shop:a"), kept("shop:b"), kept("shop:c")],
        [false, false, true]
    );
    // The registry bears it.
    let survey = world.engine.survey().await.expect("the registry is there");
    assert_eq!(survey.databases.len(), 1);
    assert_eq!(world.apply(&shop, 1).await.expect("ours"), []);
    world.server.restart_without_accounts();
    let found = world.apply(&shop, 1).await.expect("the row is there");
    assert!(found.iter().all(|found| found.repaired), "{found:?}");
}

/// The registry is among the keys; the accounts carry a copy of it.
#[tokio::test]
async fn flushall_loses_neither_owner_nor_epoch() {
    let world = provisioned().await;
    let [shop, other] = neighbours();
    world.apply(&shop, 1).await.expect("ours");
    let newer = world.another_engine();
    newer
        .reserve("shop", &shop.stamp, &fence(7), &Gate::open())
        .await
        .expect("a newer worker");
    let identity = world.engine.inspect().await.expect("it answers").identity;
    world.server.run(&["FLUSHALL"]);
    let facts = world.engine.inspect().await.expect("it answers");
    assert_eq!(facts.identity, identity, "it is the same server");
    // The name is still ours: nobody else gets it, and no older worker.
    let error = world
        .engine
        .reserve("shop", &stamp(9), &fence(9), &Gate::open())
        .await
        .expect_err("it has an owner");
    let by_ours = matches!(&error.fault, Fault::NameTaken { owner: Some(owner), .. } if **owner == shop.stamp);
    assert!(by_ours, "{error}");
    let error = world.apply(&shop, 1).await.expect_err("its epoch is over");
    assert!(
        matches!(error.fault, Fault::Fenced { ours: 1, found: 7 }),
        "{error}"
    );
    // It is told of, and put right.
    let survey = world.engine.survey().await.expect("the copies know");
    assert_eq!(survey.databases.len(), 2);
    assert!(
        survey
            .databases
            .iter()
            .all(|found| found.stamp.is_some() && found.same_server)
    );
    let seen = world.observe(&shop, 7).await.expect("ours");
    assert_eq!(keys(&seen), ["registry.lost:shop"]);
    let found = world.apply(&shop, 7).await.expect("restored");
    assert_eq!(keys(&found), ["registry.lost:shop"]);
    assert_eq!(world.observe(&shop, 7).await.expect("ours"), []);
    world
        .run_as("other_a", &["SET", "other:k", "v"])
        .expect("accounts work on");
    let found = world.apply(&other, 1).await.expect("restored");
    assert_eq!(keys(&found), ["registry.lost:other"]);
}

#[tokio::test]
async fn a_server_that_lost_everything_is_for_a_person() {
    let world = provisioned().await;
    let [shop, _] = neighbours();
    world.server.run(&["FLUSHALL"]);
    world.server.restart_without_accounts();
    let error = world.apply(&shop, 5).await.expect_err("nothing is known");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
    let error = world.engine.survey().await.expect_err("nothing is known");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
    assert_eq!(
        world.engine.inspect().await.expect("it answers").identity,
        None
    );
    assert_eq!(world.server.run(&["KEYS", "*"]), "", "nothing was made");
}

/// Accounts and keys of different days, e.g. after an old dump was loaded.
#[tokio::test]
async fn an_old_dump_does_not_bring_back_an_old_epoch() {
    let world = provisioned().await;
    let [shop, _] = neighbours();
    let old = world.server.run(&["HGETALL", "freehold:database:shop"]);
    world.reserve(&shop, 5).await.expect("a newer worker");
    let words: Vec<&str> = old.lines().collect();
    let mut restore = vec!["HSET", "freehold:database:shop"];
    restore.extend(&words);
    world.server.run(&restore);
    let error = world
        .apply(&shop, 4)
        .await
        .expect_err("the copy knows better");
    assert!(
        matches!(error.fault, Fault::Fenced { ours: 4, found: 5 }),
        "{error}"
    );
    let found = world.apply(&shop, 5).await.expect("put right");
    assert_eq!(keys(&found), ["registry.lost:shop"]);
    assert_eq!(world.observe(&shop, 5).await.expect("ours"), []);
}

#[tokio::test]
async fn a_copy_of_the_server_is_told_from_it_and_changed_in_nothing() {
    let world = provisioned().await;
    let [mut shop, _] = neighbours();
    let clone = World::around(world.server.clone_files());
    let before = clone.server.run(&["ACL", "LIST"]);
    shop.accesses[0].level = AccessLevel::ReadOnly;
    for error in [
        clone.apply(&shop, 9).await.expect_err("another server"),
        clone.reserve(&shop, 9).await.expect_err("another server"),
        clone
            .reserve(&database("new"), 9)
            .await
            .expect_err("another server"),
    ] {
        assert!(
            matches!(error.fault, Fault::ServerMismatch { .. }),
            "{error}"
        );
    }
    let survey = clone.engine.survey().await.expect("it can be looked at");
    assert!(survey.databases.iter().all(|found| !found.same_server));
    let ids = [&world, &clone].map(|world| world.engine.inspect());
    let [original, copy] = futures::future::join_all(ids)
        .await
        .try_into()
        .expect("two");
    assert_ne!(
        original.expect("facts").identity,
        copy.expect("facts").identity
    );
    assert_eq!(clone.server.run(&["ACL", "LIST"]), before);
    // A person says that it has moved.
    let place = format!(
        "{}:{}",
        clone.server.data_dir().display(),
        clone.server.port()
    );
    clone
        .server
        .run(&["HSET", "freehold:server", "place", &place]);
    clone.apply(&shop, 9).await.expect("it is the one");
}

#[tokio::test]
async fn a_server_that_is_down_or_stands_still_holds_nobody_up() {
    let world = provisioned().await;
    let [shop, _] = neighbours();
    let login = world.server.admin_login();
    let impatient = impatient_engine(world.server.port(), &login);
    impatient.inspect().await.expect("it is up");
    let bounded = |error: EngineError, since: Instant| {
        let known = matches!(error.fault, Fault::Unreachable { .. } | Fault::Undetermined);
        assert!(known, "{error}");
        assert!(since.elapsed() < Duration::from_secs(20), "it took long");
    };
    world.server.pause();
    let since = Instant::now();
    bounded(impatient.inspect().await.expect_err("no answer"), since);
    bounded(impatient.survey().await.expect_err("no answer"), since);
    world.server.resume();
    impatient.inspect().await.expect("it answers again");
    world.server.kill9();
    bounded(
        world.engine.inspect().await.expect_err("nobody is there"),
        Instant::now(),
    );
    world.server.restart();
    assert_eq!(world.observe(&shop, 1).await.expect("it was kept"), []);
}

/// A full server queues no transaction, and without one nothing is changed.
#[tokio::test]
async fn a_server_that_is_full_says_so_and_changes_nothing() {
    let server = Server::builder()
        .setting("maxmemory", "6mb")
        .setting("maxmemory-policy", "noeviction")
        .start();
    let world = World::around(server);
    let [mut shop, _] = neighbours();
    world.provision(&shop).await;
    let mut filling = Session::open(&world.server, &credentials("app_a"));
    let mut n = 0;
    let refused = loop {
        let answer = filling.say(&format!("SETRANGE shop:{n} 60000 x"));
        if answer.starts_with('-') {
            break answer;
        }
        n += 1;
    };
    assert!(refused.starts_with("-OOM"), "{refused}");
    world.engine.inspect().await.expect("it can be looked at");
    world.engine.survey().await.expect("it can be looked at");
    let before = world.server.run(&["ACL", "LIST"]);
    shop.state = DesiredState::Closed;
    for error in [
        world
            .reserve(&database("new"), 1)
            .await
            .expect_err("no room"),
        world.apply(&shop, 2).await.expect_err("no room"),
    ] {
        let told =
            matches!(&error.fault, Fault::Exhausted { detail } if detail.contains("maxmemory"));
        assert!(told, "{error}");
    }
    assert_eq!(world.server.run(&["ACL", "LIST"]), before);
    world.server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    world.apply(&shop, 2).await.expect("it closes");
    assert_eq!(filling.say("GET shop:0"), "", "it is hung up");
    world.run_as("app_a", &["PING"]).expect_err("it is closed");
}

#[tokio::test]
async fn rights_given_by_hand_are_found_and_taken_back() {
    let world = provisioned().await;
    let [shop, _] = neighbours();
    for (login, rule) in [
        ("app_a", "~*"),
        ("app_a", "+keys"),
        ("app_a", "&*"),
        ("app_a", ">more"),
        ("app_a", "nopass"),
        ("app_a", "off"),
        ("app_a", "-get"),
        ("app_a", "(~* +@all)"),
        ("app_a", "clearselectors"),
        ("app_b", "on"),
        ("report_a", "~shop:*"),
    ] {
        world.server.run(&["ACL", "SETUSER", login, rule]);
        if rule == "clearselectors" {
            // Without our mark it is nobody's, and not taken.
            let error = world.observe(&shop, 1).await.expect_err("it is not ours");
            assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
            world.server.run(&["ACL", "DELUSER", login]);
            world.apply(&shop, 1).await.expect("made anew");
            continue;
        }
        let key = format!("login.differs:{login}");
        let seen = world.observe(&shop, 1).await.expect("ours");
        assert_eq!(keys(&seen), [key.as_str()], "{rule}");
        let survey = world.engine.survey().await.expect("a survey");
        let found = world
            .engine
            .converge(
                &shop,
                ConvergeMode::Apply,
                Some(&survey),
                &fence(1),
                &Gate::open(),
            )
            .await
            .expect("repaired");
        assert_eq!(keys(&found), [key.as_str()], "{rule}");
        assert!(found[0].repaired, "{found:?}");
        assert_eq!(world.observe(&shop, 1).await.expect("ours"), [], "{rule}");
    }
}

/// A survey and a look at one database say the same, in all the server's spellings.
#[tokio::test]
async fn a_survey_sees_what_a_look_sees() {
    let world = provisioned().await;
    world
        .server
        .run(&["ACL", "SETUSER", "app_b", "on", "~x*", "(~y +get)"]);
    for desired in neighbours() {
        let survey = world.engine.survey().await.expect("a survey");
        let surveyed = world
            .engine
            .converge(
                &desired,
                ConvergeMode::Observe,
                Some(&survey),
                &fence(1),
                &Gate::open(),
            )
            .await
            .expect("ours");
        assert_eq!(surveyed, world.observe(&desired, 1).await.expect("ours"));
    }
}

#[tokio::test]
async fn accounts_of_nobody_that_reach_a_database_are_told_of() {
    let world = provisioned().await;
    let [shop, other] = neighbours();
    world
        .server
        .run(&["ACL", "SETUSER", "legacy", "on", ">x", "~sh*", "+@all"]);
    let seen = world.apply(&shop, 1).await.expect("ours");
    assert_eq!(keys(&seen), ["access.foreign:legacy:shop"]);
    assert!(!seen[0].repaired);
    assert_eq!(world.apply(&other, 1).await.expect("ours"), []);
    let legacy = Login {
        name: "legacy".into(),
        password: "x".into(),
    };
    world
        .server
        .run_as(&legacy, &["GET", "shop:k"])
        .expect("it was left alone");
}

#[tokio::test]
async fn a_server_that_cannot_keep_accounts_is_told_of() {
    let world = World::around(Server::builder().accounts(Accounts::Nowhere).start());
    let [shop, _] = neighbours();
    world.provision(&shop).await;
    let seen = world.apply(&shop, 1).await.expect("ours");
    assert_eq!(keys(&seen), ["accounts.volatile:shop"]);
    // With an ACL file that it may not write.
    let world = provisioned().await;
    let folder = world.server.data_dir();
    let usual = fs::metadata(&folder).expect("it is there").permissions();
    let moved = folder.join("away.acl");
    fs::rename(folder.join("users.acl"), &moved).expect("it is there");
    fs::create_dir(folder.join("users.acl")).expect("a folder in its place");
    let [mut shop, _] = neighbours();
    shop.accesses[0].level = AccessLevel::ReadOnly;
    let seen = world.apply(&shop, 1).await.expect("the rest is done");
    let found = seen
        .iter()
        .find(|found| found.key == "accounts.unsaved:shop");
    assert!(found.is_some_and(|found| !found.repaired), "{seen:?}");
    world
        .run_as("app_a", &["SET", "shop:k", "x"])
        .expect_err("it is lowered all the same");
    fs::remove_dir(folder.join("users.acl")).expect("it is ours");
    fs::rename(moved, folder.join("users.acl")).expect("it is there");
    fs::set_permissions(&folder, usual).expect("it is ours");
    assert_eq!(world.apply(&shop, 1).await.expect("saved now"), []);
    world.server.restart();
    world
        .run_as("app_a", &["SET", "shop:k", "x"])
        .expect_err("it is kept");
    assert_eq!(world.observe(&shop, 1).await.expect("ours"), []);
}

#[tokio::test]
async fn what_makes_accounts_pointless_is_a_missing_right() {
    let world = provisioned().await;
    let missing = world.engine.inspect().await.expect("facts").missing_rights;
    assert_eq!(missing, [] as [String; 0]);
    world
        .server
        .run(&["ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all"]);
    let missing = world.engine.inspect().await.expect("facts").missing_rights;
    assert!(
        missing.len() == 1 && missing[0].contains("default"),
        "{missing:?}"
    );
    world.server.run(&["ACL", "SETUSER", "default", "off"]);
    let half = [
        "ACL",
        "SETUSER",
        "half",
        "on",
        ">x",
        "~*",
        "+@all",
        "-acl|setuser",
        "-client|kill",
    ];
    world.server.run(&half);
    let login = Login {
        name: "half".into(),
        password: "x".into(),
    };
    let engine = engine(world.server.port(), &login);
    let missing = engine.inspect().await.expect("facts").missing_rights;
    assert!(
        missing.len() == 1
            && missing[0].contains("ACL SETUSER")
            && missing[0].contains("CLIENT KILL"),
        "{missing:?}"
    );
    let [shop, _] = neighbours();
    let error = engine
        .converge(&shop, ConvergeMode::Apply, None, &fence(1), &Gate::open())
        .await
        .expect_err("it may not");
    assert!(matches!(error.fault, Fault::Denied { .. }), "{error}");
    let wrong = Login {
        name: "admin".into(),
        password: "wrong".into(),
    };
    let error = crate::world::engine(world.server.port(), &wrong)
        .inspect()
        .await;
    assert_eq!(error.expect_err("wrong").fault, Fault::Unauthenticated);
}

#[tokio::test]
async fn replicas_and_clusters_are_not_administered() {
    let world = provisioned().await;
    let replica = Server::start();
    let login = world.server.admin_login();
    for (name, value) in [("masteruser", &login.name), ("masterauth", &login.password)] {
        replica.run(&["CONFIG", "SET", name, value]);
    }
    replica.run(&["REPLICAOF", "127.0.0.1", &world.server.port().to_string()]);
    let replica = World::around(replica);
    let facts = replica.engine.inspect().await.expect("facts");
    assert!(facts.read_only);
    let error = replica
        .reserve(&database("new"), 1)
        .await
        .expect_err("read-only");
    let known = matches!(error.fault, Fault::ReadOnly | Fault::ServerMismatch { .. });
    assert!(known, "{error}");
    let cluster = Server::builder().setting("cluster-enabled", "yes").start();
    let error = World::around(cluster)
        .engine
        .inspect()
        .await
        .expect_err("a cluster");
    assert!(matches!(error.fault, Fault::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn sizes_are_estimated_by_prefix() {
    let world = provisioned().await;
    for n in 0..50 {
        world
            .server
            .run(&["SETRANGE", &format!("other:{n}"), "99999", "x"]);
    }
    let size = |name: &str, survey: &freehold_engine::Survey| {
        let found = survey.databases.iter().find(|found| found.name == name);
        found.and_then(|found| found.size_bytes).expect("a size")
    };
    let survey = world.engine.survey().await.expect("a survey");
    let other = size("other", &survey);
    assert!((5_000_000..7_500_000).contains(&other), "{other}");
    assert!(size("shop", &survey) < 1_000);
    // Beyond what one survey looks at, a part stands for the whole.
    world.server.run(&[
        "EVAL",
        "for i = 1, 60000 do redis.call('SET', 'shop:' .. i, string.rep('x', 100)) end",
        "0",
    ]);
    let survey = world.engine.survey().await.expect("a survey");
    let shop = size("shop", &survey);
    let exact = 60_000 * 170;
    assert!((exact / 2..exact * 2).contains(&shop), "{shop}");
}

/// The database's own hours.
#[tokio::test]
async fn a_login_that_has_run_out_is_closed_with_the_next_look() {
    use freehold_engine::LoginState;
    use jiff::Timestamp;

    let world = World::start();
    let mut shop = database("shop");
    shop.accesses = vec![access(1, "app", AccessLevel::ReadWrite)];
    let until = |shop: &mut freehold_engine::DesiredDatabase, at: Timestamp| {
        if let LoginState::Enabled { valid_until, .. } = &mut shop.accesses[0].logins[0].state {
            *valid_until = Some(at);
        }
    };
    until(&mut shop, Timestamp::MAX);
    world.provision(&shop).await;
    world
        .run_as("app_a", &["GET", "shop:k"])
        .expect("its time is not over");
    until(&mut shop, Timestamp::UNIX_EPOCH);
    let found = world.apply(&shop, 1).await.expect("it ends");
    assert_eq!(keys(&found), ["login.differs:app_a"]);
    world
        .run_as("app_a", &["GET", "shop:k"])
        .expect_err("its time is over");
    assert_eq!(world.observe(&shop, 1).await.expect("ours"), []);
}
