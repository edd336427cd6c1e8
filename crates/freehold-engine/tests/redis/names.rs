//! Names that mean something to the server, and names that nearly are others.

use freehold_engine::Fault;
use freehold_model::kinds::AccessLevel;
use freehold_testing::redis::{Accounts, Server};

use crate::world::{World, access, credentials, database, stamp};

/// Each of these is a pattern to the server, or part of one, unless it is escaped. Each reaches its own
/// keys and none of the others'.
const HOSTILE: &[&str] = &[
    "*", "**", "a*", "a?", "a[b]", "a[^b]", "[a-z]*", "ab", "a\\", "a\\*", "^ab", "aé", "a(b)",
    "(a", "a)", "#a", "~a", "%R~a", "&a", "+@all", "on", "nopass", "allkeys", "a=b", "-@all", "A*",
    "a{b}", "$a", "a,b",
];

async fn every_name_is_itself(accounts: Accounts) {
    let world = World::around(Server::builder().accounts(accounts).start());
    let mut databases = Vec::new();
    for (n, name) in HOSTILE.iter().enumerate() {
        let mut one = database(name);
        one.stamp = stamp(50 + n as u64);
        one.accesses = vec![access(
            n as u64,
            &format!("login{n}"),
            AccessLevel::ReadWrite,
        )];
        world.provision(&one).await;
        databases.push(one);
    }
    // What is kept must be read again as it was meant.
    world.server.restart();
    for (n, name) in HOSTILE.iter().enumerate() {
        let login = credentials(&format!("login{n}_a"));
        for other in HOSTILE {
            let key = format!("{other}:k");
            let set = world.server.run_as(&login, &["SET", &key, "v"]);
            assert_eq!(set.is_ok(), name == other, "{name} sets {key}: {set:?}");
            let said = world.server.run_as(&login, &["PUBLISH", &key, "v"]);
            assert_eq!(
                said.is_ok(),
                name == other,
                "{name} publishes on {key}: {said:?}"
            );
        }
    }
    for one in &databases {
        assert_eq!(
            world.observe(one, 1).await.expect("it is ours"),
            [],
            "{}",
            one.name
        );
    }
    let survey = world.engine.survey().await.expect("a survey");
    let mut found: Vec<&str> = survey.databases.iter().map(|d| d.name.as_str()).collect();
    let mut expected = HOSTILE.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_name_is_itself_in_an_acl_file() {
    every_name_is_itself(Accounts::InAclFile).await;
}

#[tokio::test]
async fn every_name_is_itself_in_a_configuration_file() {
    every_name_is_itself(Accounts::InConfiguration).await;
}

#[tokio::test]
async fn names_that_cannot_be_kept_are_refused_with_the_reason() {
    let world = World::start();
    for (name, why) in [
        ("", "empty"),
        ("a b", "access list"),
        ("a\nb", "access list"),
        ("a\u{a0}b", "access list"),
        ("it's", "access list"),
        ("a\"b", "access list"),
        ("a:b", "colon"),
        ("freehold", "registry"),
        ("FREEHOLD", "registry"),
        (&"x".repeat(65), "longer"),
    ] {
        let error = world.reserve(&database(name), 1).await.expect_err(name);
        let Fault::Invalid { detail } = &error.fault else {
            panic!("{name}: {error}");
        };
        assert!(detail.contains(why), "{detail}");
    }
    let mut shop = database("shop");
    for login in ["default", "freehold:database:x", "a b", "", "a'b"] {
        shop.accesses = vec![access(1, "app", AccessLevel::ReadWrite)];
        shop.accesses[0].logins[1].name = login.into();
        let error = world.apply(&shop, 1).await.expect_err(login);
        assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    }
    assert_eq!(world.server.run(&["KEYS", "*"]), "", "nothing was written");
}

#[tokio::test]
async fn a_name_whose_keys_exist_is_taken() {
    let world = World::start();
    world.server.run(&["SET", "legacy:session:1", "x"]);
    world.server.run(&["SET", "shopping:k", "x"]);
    let error = world
        .reserve(&database("legacy"), 1)
        .await
        .expect_err("there are keys");
    assert!(
        matches!(error.fault, Fault::NameTaken { owner: None, .. }),
        "{error}"
    );
    world.reserve(&database("shop"), 1).await.expect("nobody's");
}

#[tokio::test]
async fn a_name_that_was_given_up_is_free_when_nothing_is_under_it() {
    use freehold_model::Gate;

    let world = World::start();
    let old = database("old");
    world.provision(&old).await;
    world
        .engine
        .release("old", &old.stamp, &crate::world::fence(1), &Gate::open())
        .await
        .expect("it is given up");
    world.server.run(&["SET", "old:k", "x"]);
    let mut new = database("old");
    new.stamp = stamp(2);
    let error = world.reserve(&new, 1).await.expect_err("there are keys");
    assert!(
        matches!(error.fault, Fault::NameTaken { owner: Some(_), .. }),
        "{error}"
    );
    world.server.run(&["DEL", "old:k"]);
    world.reserve(&new, 1).await.expect("nothing is there");
    let error = world.apply(&old, 1).await.expect_err("it is another's");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
}
