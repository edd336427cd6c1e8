//! A PostgreSQL server that takes TLS connections only, as managed services do: registered with a
//! reference to its authority, it is provisioned, migrated and used, and never trusted for less.

use std::fs;

use freehold_testing::{certificates::Authority, postgres::Server};

use crate::plant::{Plant, Serving, database, until};

const HERE: &[&str] = &["127.0.0.1"];

fn plant(authority: &Authority) -> Plant {
    let pg = Server::builder()
        .tls_only(&authority.certificate(HERE))
        .start();
    let plant = Plant::on(pg);
    plant.write("ca.pem", &authority.pem());
    plant
}

/// The plant's manifests with another way to reach the instance.
fn platform(plant: &Plant, tls: &str) -> String {
    let manifests = plant.platform();
    assert!(manifests.contains("tls: disable"));
    manifests.replace("tls: disable", tls)
}

fn verified(plant: &Plant, ca: &str) -> String {
    let ca = plant.path(ca);
    format!("tls: verifyFull\n    ca: 'file:{}'", ca.display())
}

#[test]
fn a_server_that_insists_on_tls_is_provisioned_migrated_and_used() {
    let authority = Authority::new("the company's authority");
    let plant = plant(&authority);
    let serving = plant.serve("data", &[]);
    plant.apply(&serving, &platform(&plant, &verified(&plant, "ca.pem")));
    plant.apply(&serving, &database("orders"));

    // The runner is a process of its own and gets the authority too.
    let scripts = plant.scripts();
    let mut migrate = plant.client(&serving, &["migrate", "apply", "orders", "--dir"]);
    crate::plant::said(migrate.arg(scripts)).ok();
    let name = plant.variable(&serving, "orders", "PGDATABASE");
    plant.assert_migrated_once(&name);

    // The workload proves the server as Freehold does, with nothing said by hand.
    assert_eq!(
        plant.variable(&serving, "orders", "PGSSLMODE"),
        "verify-full"
    );
    let ca = plant.variable(&serving, "orders", "PGSSLROOTCERT");
    assert_eq!(
        fs::read_to_string(ca).unwrap().trim(),
        authority.pem().trim()
    );
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let asked = ["run", "orders", "--", "psql", "-XAtc", query];
    assert_eq!(plant.ask(&serving, &asked).ok().trim(), "t");
    let by_url = "psql -XAtc 'SELECT 1' \"$DATABASE_URL\"";
    let asked = ["run", "orders", "--", "sh", "-c", by_url];
    assert_eq!(plant.ask(&serving, &asked).ok().trim(), "1");
    serving.stop();
}

#[test]
fn a_server_that_cannot_be_proven_is_not_used_until_it_can() {
    let authority = Authority::new("the company's authority");
    let plant = plant(&authority);
    let stranger = Authority::new("the company's authority");
    plant.write("other.pem", &stranger.pem());
    let serving = plant.serve("data", &[]);
    let apply = |tls: &str| {
        let said = plant.try_apply(&serving, &platform(&plant, tls), &[]);
        assert!(said.status.success(), "{said:?}");
    };

    apply("tls: disable");
    wait_until_told(&plant, &serving, "tls: verifyFull");
    apply(&verified(&plant, "other.pem"));
    wait_until_told(&plant, &serving, "let `ca` name the certificate");
    apply(&verified(&plant, "ca.pem"));
    wait_until_told(&plant, &serving, "\"status\":\"True\"");
    serving.stop();
}

/// What the instance's readiness says.
fn wait_until_told(plant: &Plant, serving: &Serving, part: &str) {
    until(part, || {
        let instance = plant.ask(serving, &["get", "instance", "pg-1", "-o", "json"]);
        let instance = instance.json();
        let conditions = instance["status"]["conditions"].as_array()?;
        let ready = conditions.iter().find(|it| it["type"] == "Ready")?;
        ready.to_string().contains(part).then_some(())
    });
}
