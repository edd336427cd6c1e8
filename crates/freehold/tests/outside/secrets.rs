//! Where secrets must not be: process lists, environments, logs, files.

use std::{fs, process::Stdio};

use crate::plant::{Gate, Plant, database};

#[test]
fn no_secret_is_in_a_process_list_an_environment_a_log_or_a_file() {
    let plant = Plant::new();
    plant.pg.psql(
        "postgres",
        "ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf()",
    );
    let serving = plant.serve("data", &["--log", "trace"]);
    plant.apply(&serving, &plant.platform());
    plant.apply(&serving, &database("orders"));
    let token = fs::read_to_string(plant.path("data/bootstrap-token")).unwrap();
    let token = token.trim().rsplit('_').next().unwrap().to_owned();
    let secrets = [
        ("the token", token),
        (
            "the workload's password",
            plant.variable(&serving, "orders", "PGPASSWORD"),
        ),
        (
            "the admin's password",
            plant.pg.superuser_password().to_owned(),
        ),
    ];
    assert!(
        secrets.iter().all(|(_, secret)| secret.len() >= 16),
        "no real secrets"
    );
    let free_of_secrets = |what: &str, text: &str| {
        for (which, secret) in &secrets {
            assert!(!text.contains(secret), "{which} stands in {what}");
        }
    };

    let name = plant.variable(&serving, "orders", "PGDATABASE");
    let scripts = plant.scripts();
    let gate = Gate::close(&plant, &name);
    let mut client = plant
        .client(&serving, &["migrate", "apply", "orders", "--dir"])
        .arg(scripts)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    plant.wait_for_script();
    let (runner, arguments) = runner_of(serving.pid());
    let environment = fs::read_to_string(format!("/proc/{runner}/environ")).unwrap();
    free_of_secrets("the runner's arguments", &arguments);
    free_of_secrets("the runner's environment", &environment);
    for word in ["PASSWORD", "TOKEN", "SECRET", "PGPASS"] {
        assert!(!environment.contains(word), "{word} in {environment:?}");
    }
    let migrator = plant.pg.psql(
        "postgres",
        "SELECT DISTINCT usename FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    );
    assert_ne!(
        migrator.trim(),
        plant.pg.superuser(),
        "a script runs as the server's admin"
    );
    gate.open();
    assert!(client.wait().unwrap().success());

    free_of_secrets("the server's log", &serving.log.text());
    free_of_secrets("PostgreSQL's log", &plant.pg.log());
    serving.stop();
    for entry in fs::read_dir(plant.path("data")).unwrap() {
        let path = entry.unwrap().path();
        let own_place = path.ends_with("bootstrap-token");
        if path.is_file() && !own_place {
            let bytes = fs::read(&path).unwrap();
            free_of_secrets(
                &path.display().to_string(),
                &String::from_utf8_lossy(&bytes),
            );
        }
    }
}

/// The migration runner below a server, and its arguments.
fn runner_of(server: u32) -> (u32, String) {
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for pid in pids {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let parent = format!("PPid:\t{server}\n");
        if read("status").contains(&parent) && read("cmdline").contains("runner") {
            return (pid, read("cmdline"));
        }
    }
    panic!("the server has no runner");
}
