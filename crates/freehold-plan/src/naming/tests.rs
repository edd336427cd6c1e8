use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Names that press on every rule: short ones of few letters, so that joins nearly meet, reserved
/// ones, and ones at the limits of length.
fn names() -> impl Strategy<Value = Name> {
    let texts = prop_oneof![
        "[ab]([ab-]{0,3}[ab])?",
        "(pg|freehold|freehold-x|local|postgres|template0|a|b|owner|migrator|public|xa)",
        "[a-z]([a-z0-9-]{0,61}[a-z0-9])?",
        "a{50,63}",
        "a{17}-{0,10}[ab]",
        "[a-c]{20}(x|y)",
    ];
    texts.prop_filter_map("a name", |text| Name::new(text).ok())
}

fn uids() -> impl Strategy<Value = Uid> {
    (0u128..1000, 0u128..4).prop_map(|(high, low)| {
        let text = format!("{:032x}", (high << 90) | low);
        text.parse().unwrap()
    })
}

type Inputs = (Name, Name, Name, Uid, Slot);

fn inputs() -> impl Strategy<Value = Inputs> {
    let slots = prop_oneof![Just(Slot::A), Just(Slot::B)];
    (names(), names(), names(), uids(), slots)
}

fn is_taken_by_the_server(text: &str) -> bool {
    ["postgres", "template0", "template1", "public", "none"].contains(&text)
        || text.starts_with("pg_")
        || text.starts_with("freehold")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn different_things_never_get_one_name(all in prop::collection::vec(inputs(), 2..60)) {
        let mut databases: HashMap<String, (Name, Name, Name)> = HashMap::new();
        let mut roles: HashMap<String, String> = HashMap::new();
        for (environment, team, third, uid, slot) in all {
            let place = (environment.clone(), team.clone(), third.clone());
            let database = database_name(&environment, &team, &third);
            let before = databases.insert(database, place.clone());
            prop_assert!(before.is_none_or(|before| before == place));

            let login = login_name(&environment, &team, &third, uid, slot);
            let whose = format!("login {place:?} {uid} {slot:?}");
            let before = roles.insert(login, whose.clone());
            prop_assert!(before.is_none_or(|before| before == whose));

            let migrator = migrator_login_name(&environment, &team, &third);
            let whose = format!("migrator {place:?}");
            let before = roles.insert(migrator, whose.clone());
            prop_assert!(before.is_none_or(|before| before == whose));
        }
    }

    #[test]
    fn every_name_is_short_enough_readable_and_free((environment, team, third, uid, slot) in inputs()) {
        let database = database_name(&environment, &team, &third);
        let login = login_name(&environment, &team, &third, uid, slot);
        let migrator = migrator_login_name(&environment, &team, &third);
        prop_assert!(database.len() <= DATABASE_NAME_BYTES_MAX, "{}", database);
        for text in [&database, &login, &migrator] {
            prop_assert!(text.len() <= LOGIN_NAME_BYTES_MAX, "{}", text);
            prop_assert!(!is_taken_by_the_server(text), "{}", text);
            let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
            prop_assert!(text.bytes().all(plain), "{}", text);
        }
    }

    /// The inverse exists: a name that was not cut gives its parts back.
    #[test]
    fn a_name_that_was_not_cut_can_be_read_back(environment in names(), team in names(), third in names()) {
        let made = database_name(&environment, &team, &third);
        prop_assume!(!made.contains("__"));
        let parts: Vec<&str> = made.strip_prefix('_').unwrap_or(&made).split('_').collect();
        let read = match parts.as_slice() {
            [team, third] => (UNNAMED_ENVIRONMENT, *team, *third),
            [environment, team, third] => (*environment, *team, *third),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(read, (environment.as_str(), team.as_str(), third.as_str()));
    }
}

#[test]
fn names_read_as_a_person_would_write_them() {
    let uid = "0190f3a0-0000-7000-8000-000000000001".parse().unwrap();
    let (local, prod) = (name("local"), name("prod"));
    let (shop, orders, api) = (name("shop"), name("orders"), name("orders-api"));
    assert_eq!(database_name(&local, &shop, &orders), "shop_orders");
    assert_eq!(database_name(&prod, &shop, &orders), "prod_shop_orders");
    assert_eq!(
        migrator_login_name(&prod, &shop, &orders),
        "prod_shop_orders_migrator"
    );
    let a = login_name(&local, &shop, &api, uid, Slot::A);
    let b = login_name(&local, &shop, &api, uid, Slot::B);
    assert!(
        a.starts_with("shop_orders-api_x") && a.ends_with("_a"),
        "{a}"
    );
    assert_eq!(a.strip_suffix("_a"), b.strip_suffix("_b"));
}

#[test]
fn pairs_that_a_careless_join_would_merge_stay_apart() {
    let pairs = [
        // `local` is left out, so an environment of another name must show.
        (("local", "a", "b"), ("a", "a", "b")),
        (("local", "a-b", "c"), ("local", "a", "b-c")),
        (("a", "b", "c"), ("local", "a-b", "c")),
        (("local", "pg", "x"), ("local", "x-pg", "x")),
        (("pg", "pg", "pg"), ("local", "pg", "pg")),
    ];
    for ((e1, t1, d1), (e2, t2, d2)) in pairs {
        let left = database_name(&name(e1), &name(t1), &name(d1));
        let right = database_name(&name(e2), &name(t2), &name(d2));
        assert_ne!(left, right);
    }
    assert_eq!(
        database_name(&name("local"), &name("pg"), &name("x")),
        "_pg_x"
    );
    assert_eq!(
        database_name(&name("local"), &name("freehold"), &name("x")),
        "_freehold_x"
    );
}

#[test]
fn long_names_that_differ_only_in_their_last_letter_stay_apart() {
    let team = name(&"t".repeat(63));
    let (one, two) = (
        format!("{}a", "d".repeat(62)),
        format!("{}b", "d".repeat(62)),
    );
    let left = database_name(&name("local"), &team, &name(&one));
    let right = database_name(&name("local"), &team, &name(&two));
    assert_ne!(left, right);
    assert!(left.contains("__") && left.len() <= DATABASE_NAME_BYTES_MAX);
}

/// Names are kept on servers for years: this fails when a change would give an existing access or
/// database a new name.
#[test]
fn names_never_change() {
    let uid = "0190f3a0-0000-7000-8000-000000000001".parse().unwrap();
    let long = name(&"n".repeat(63));
    let names = [
        login_name(&name("prod"), &name("shop"), &name("api"), uid, Slot::B),
        database_name(&name("prod"), &long, &long),
        login_name(&name("prod"), &long, &long, uid, Slot::A),
    ];
    assert_eq!(names.join("\n"), PINNED.trim());
}

const PINNED: &str = "
prod_shop_api_xmjr4edrdc_b
prod_nnnnnnnnnnnnnnn__1x1kd2bzxbr8gg0v727x61bw68
prod_nnnnnnnnnnnnnnnnnnnnnnnnnnnn__ztpdyf9fzmp2f41c54jk9ndf93_a
";
