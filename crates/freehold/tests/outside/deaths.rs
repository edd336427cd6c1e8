//! A client or a server dies in the middle of a migration.

use std::process::Stdio;

use crate::plant::{Gate, Plant, Serving};

/// A migration that stands in the middle of its second script, and who asked for it.
fn half_way(plant: &Plant, serving: &Serving, database: &str) -> (Gate, std::process::Child) {
    let scripts = plant.scripts();
    let gate = Gate::close(plant, database);
    let client = plant
        .client(serving, &["migrate", "apply", "orders", "--dir"])
        .arg(scripts)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    plant.wait_for_script();
    (gate, client)
}

/// The id of the database's newest migration.
fn migration(plant: &Plant, serving: &Serving) -> String {
    let list = plant
        .ask(serving, &["operation", "list", "-o", "json"])
        .json();
    let all = list["items"].as_array().unwrap();
    let migrations: Vec<_> = all
        .iter()
        .filter(|operation| operation["spec"].to_string().contains("igrate"))
        .collect();
    assert_eq!(migrations.len(), 1, "{list:#}");
    let name = migrations[0]["metadata"]["name"].as_str().unwrap();
    name.trim_start_matches("op-").to_owned()
}

#[test]
fn a_closed_laptop_does_not_stop_a_migration() {
    let (plant, serving) = Plant::furnished();
    let database = plant.variable(&serving, "orders", "PGDATABASE");
    let (gate, mut client) = half_way(&plant, &serving, &database);
    client.kill().unwrap();
    client.wait().unwrap();
    gate.open();
    let id = migration(&plant, &serving);
    plant.ask(&serving, &["operation", "watch", &id]).ok();
    plant.assert_migrated_once(&database);
    serving.stop();
}

#[test]
fn a_server_killed_in_a_script_leaves_each_script_done_once() {
    let (plant, serving) = Plant::furnished();
    let database = plant.variable(&serving, "orders", "PGDATABASE");
    let (gate, mut client) = half_way(&plant, &serving, &database);
    let id = migration(&plant, &serving);
    let address = serving.address();
    serving.kill9();
    let serving = plant.serve_at(&address, "data", &[]);
    gate.open();
    plant.ask(&serving, &["operation", "watch", &id]).ok();
    // The client, which was never told that its server had died, sees it through.
    assert!(client.wait().unwrap().success());
    plant.assert_migrated_once(&database);
    serving.stop();
}
