//! Three servers on one store. While they provision and migrate, one is killed and one sleeps past
//! its leases and wakes up again: nothing is lost, and nothing happens twice.
//!
//! The sleeper's leases are ended in the store's own table, as the store's clock would have done half
//! a minute later. The moments come from a fixed seed; what runs between them does not.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::plant::{Plant, Serving, database, until};

const DATABASES: usize = 9;

fn member(plant: &Plant, name: &str) -> Serving {
    // The first start makes the key where its data is; the others are told where that is.
    let config = plant.write(
        &format!("{name}.toml"),
        &format!(
            "[server]\nname = {name:?}\n{}store = {{ postgres = 'file:{}' }}\n",
            match name {
                "data" => String::new(),
                _ => format!("key = 'file:{}'\n", plant.path("data/key").display()),
            },
            plant.path("store-url").display(),
        ),
    );
    plant.serve(name, &["--config", config.to_str().unwrap()])
}

#[test]
fn three_servers_lose_nothing_and_do_nothing_twice_when_one_dies_and_one_sleeps() {
    let plant = Plant::new();
    let store = freehold_testing::postgres::Server::start();
    store.psql("postgres", "CREATE DATABASE store");
    plant.write(
        "store-url",
        &format!("{}?sslmode=disable", store.url("store")),
    );
    // The first server's data directory is where the plant looks for the first token.
    let first = member(&plant, "data");
    let others = ["second", "third"].map(|name| {
        fs::create_dir_all(plant.path(name)).unwrap();
        member(&plant, name)
    });
    let [second, third] = others;
    plant.apply(&first, &plant.platform());

    let mut seed = 0x5eed_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let (sleeps_at, dies_at) = (1 + next(3), 4 + next(3));
    let servers = [&first, &second, &third];
    let (mut alive, mut dead) = (3, None);
    for number in 0..DATABASES {
        if number as u64 == sleeps_at {
            third.signal("STOP");
            alive = 2;
        }
        let server = servers[number % alive];
        let accepted = plant.try_apply(server, &database(&format!("d{number}")), &[]);
        assert!(accepted.status.success(), "{accepted:?}");
        if number as u64 == dies_at {
            second.signal("KILL");
            dead = Some(number);
            alive = 1;
        }
    }
    assert!(dead.is_some(), "nobody died");
    store.psql("store", "UPDATE freehold.leases SET until = 0 WHERE holder LIKE '%third%' OR holder LIKE '%second%'");
    let script = plant.write("once/V1__once.sql", "CREATE TABLE once (id bigint);\n");
    let folder = script.parent().unwrap().to_str().unwrap().to_owned();
    for number in 0..DATABASES {
        let name = format!("d{number}");
        usable(&plant, &first, &name);
        if number == DATABASES / 2 {
            third.signal("CONT");
        }
        plant
            .ask(&first, &["migrate", "apply", &name, "--dir", &folder])
            .ok();
    }
    // The sleeper serves again, and says the same as the other.
    usable(&plant, &third, "d0");

    let query =
        "SELECT count(*), count(DISTINCT uid), bool_and(state = 'created') FROM freehold.registry";
    let registry = registry_database(&plant);
    assert_eq!(
        plant.pg.psql(&registry, query).trim(),
        format!("{DATABASES}|{DATABASES}|t")
    );
    let roles = "SELECT count(*) FROM freehold.role GROUP BY database";
    let roles = plant.pg.psql(&registry, roles);
    let roles: Vec<_> = roles.lines().collect();
    assert_eq!(roles.len(), DATABASES);
    assert!(roles.iter().all(|count| count == &roles[0]), "{roles:?}");
    let made = "SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'";
    assert_eq!(
        plant.pg.psql("postgres", made).trim(),
        DATABASES.to_string()
    );
    let left = "SELECT count(*) FROM pg_roles r WHERE rolname LIKE 'shop%' \
                AND NOT EXISTS (SELECT FROM freehold.role k WHERE k.name = r.rolname)";
    assert_eq!(
        plant.pg.psql(&registry, left).trim(),
        "0",
        "roles that nobody knows"
    );
    assert_log_is_sound_and_tells_all_once(&plant, &first);
    third.stop();
    first.stop();
}

fn usable(plant: &Plant, server: &Serving, name: &str) {
    let psql = ["run", name, "--", "psql", "-XAtc", "SELECT 7"];
    until(name, || {
        let said = plant.ask(server, &psql);
        (said.status.success() && said.out.trim() == "7").then_some(())
    });
}

fn registry_database(plant: &Plant) -> String {
    let all = plant.pg.psql(
        "postgres",
        "SELECT datname FROM pg_database WHERE datallowconn",
    );
    let holds = "SELECT to_regclass('freehold.registry') IS NOT NULL";
    let found = all
        .lines()
        .find(|name| plant.pg.psql(name, holds).trim() == "t");
    found.expect("a registry").to_owned()
}

fn assert_log_is_sound_and_tells_all_once(plant: &Plant, server: &Serving) {
    let file = plant.path("audit.jsonl");
    let export = ["audit", "export", "--to", file.to_str().unwrap()];
    plant.ask(server, &export).ok();
    let verify = ["audit", "verify", file.to_str().unwrap()];
    plant.ask(server, &verify).ok();
    let list = ["audit", "list", "--limit", "1000", "-o", "json"];
    let list = plant.ask(server, &list).json();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for entry in list["items"].as_array().unwrap() {
        let ends = matches!(entry["outcome"].as_str(), Some("succeeded" | "failed"));
        if ends {
            let of = |key: &str| entry.get(key).map(Value::to_string).unwrap_or_default();
            let what = format!("{} {} {}", of("action"), of("target"), of("details"));
            *outcomes.entry(what).or_default() += 1;
        }
    }
    let twice: Vec<_> = outcomes.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:#?}");
    // Each database was provisioned and migrated.
    assert!(outcomes.len() >= 2 * DATABASES, "{outcomes:#?}");
}
