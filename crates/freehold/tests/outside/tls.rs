//! TLS by an authority of one's own, and a watch that outlives its server.

use std::{path::Path, process::Stdio};

use crate::plant::{Gate, Lines, Plant, said};

#[test]
fn a_server_with_a_certificate_is_trusted_through_its_authority_only() {
    let plant = Plant::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../freehold-server/tests/tls");
    let config = plant.write(
        "tls.toml",
        &format!(
            "[server.tls]\ncertificate = {:?}\nkey = {:?}\n",
            folder.join("server.pem"),
            folder.join("server.key")
        ),
    );
    let serving = plant.serve("data", &["--config", config.to_str().unwrap()]);
    assert!(serving.url.starts_with("https://"), "{}", serving.url);
    let port = serving.address().rsplit(':').next().unwrap().to_owned();
    let url = format!("https://localhost:{port}");
    let ca = folder.join("ca.pem");
    let ask = |more: &[&str]| {
        let arguments = [&["get", "environments", "--server", &url], more].concat();
        let mut command = plant.client(&serving, &arguments);
        said(command.env_remove("FREEHOLD_SERVER"))
    };
    ask(&["--ca", ca.to_str().unwrap()]).ok();
    let untrusted = ask(&[]);
    assert_eq!(untrusted.code(), 6, "{untrusted:?}");
    serving.stop();
}

#[test]
fn a_watch_goes_on_when_its_server_comes_back() {
    let (plant, serving) = Plant::furnished();
    let database = plant.variable(&serving, "orders", "PGDATABASE");
    let scripts = plant.scripts();
    let gate = Gate::close(&plant, &database);
    let started = [
        "migrate",
        "apply",
        "orders",
        "--no-wait",
        "-o",
        "json",
        "--dir",
    ];
    let mut start = plant.client(&serving, &started);
    let started = said(start.arg(scripts)).json();
    let id = started["operation"].as_str().unwrap();
    plant.wait_for_script();
    let mut watch = plant
        .client(&serving, &["operation", "watch", id])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Lines::of(watch.stderr.take().unwrap());
    let results = Lines::of(watch.stdout.take().unwrap());
    results.wait_for("V2__slow.sql");
    let address = serving.address();
    serving.kill9();
    let serving = plant.serve_at(&address, "data", &[]);
    gate.open();
    let status = watch.wait().unwrap();
    assert!(status.success(), "{}{}", lines.text(), results.text());
    // What came before the break is not told again.
    let told = results.text();
    assert_eq!(
        told.lines()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        told.lines().count(),
        "{told}"
    );
    plant.assert_migrated_once(&database);
    serving.stop();
}
