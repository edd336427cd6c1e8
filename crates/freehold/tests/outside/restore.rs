//! The control plane's own backup, and a copy of its store that is a day old.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::plant::{Plant, copy, database, until};

/// All that matters on the database server: databases, roles, rights, connection limits.
fn server_side(plant: &Plant) -> String {
    plant.pg.psql(
        "postgres",
        "SELECT datname, oid, datallowconn, datconnlimit, datacl::text FROM pg_database ORDER BY 1;
         SELECT rolname, oid, rolcanlogin, rolconnlimit, rolpassword, rolvaliduntil FROM pg_authid ORDER BY 1;
         SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members ORDER BY 1, 2",
    )
}

#[test]
fn a_backup_taken_while_others_write_is_whole_and_goes_on_elsewhere() {
    let (plant, serving) = Plant::furnished();
    let backup = plant.path("freehold.backup");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) || written == 0 {
                let team = format!(
                    "apiVersion: freehold.dev/v1alpha1\nkind: Team\nmetadata: {{name: team-{written}}}\nspec: {{}}\n"
                );
                plant.try_apply(&serving, &team, &[]).ok();
                written += 1;
            }
            written
        });
        plant
            .ask(&serving, &["admin", "backup", backup.to_str().unwrap()])
            .ok();
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
    let password = plant.variable(&serving, "orders", "PGPASSWORD");
    serving.stop();
    let before = server_side(&plant);

    let elsewhere = plant.path("elsewhere");
    let restore = ["admin", "restore", backup.to_str().unwrap(), "--data-dir"];
    let restore = [&restore[..], &[elsewhere.to_str().unwrap()]].concat();
    let told = crate::plant::said(&mut plant.command(&restore)).ok();
    assert!(told.starts_with("restored "), "{told}");
    std::fs::copy(plant.path("data/key"), plant.path("elsewhere/key")).unwrap();
    let serving = plant.serve("elsewhere", &[]);
    // Tokens, bindings and databases are those of before.
    let found = plant
        .ask(&serving, &["get", "db", "orders", "-o", "json"])
        .json();
    assert_eq!(found["metadata"]["name"], "orders");
    assert_eq!(plant.variable(&serving, "orders", "PGPASSWORD"), password);
    assert_eq!(
        server_side(&plant),
        before,
        "a restore changed a database server"
    );
    plant.apply(&serving, &database("later"));
    let psql = ["run", "later", "--", "psql", "-XAtc", "SELECT 5"];
    assert_eq!(plant.ask(&serving, &psql).ok().trim(), "5");
    serving.stop();
}

#[test]
fn a_copy_of_yesterdays_store_changes_nothing_by_itself() {
    let (plant, serving) = Plant::furnished();
    serving.stop();
    copy(&plant.path("data"), &plant.path("yesterday"));
    // Today: one more access and one more database, which yesterday's store knows nothing of.
    let serving = plant.serve("data", &[]);
    let report = "---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {name: report, namespace: shop}
spec: {}
";
    plant.apply(&serving, report);
    let today = database("orders").replace(
        "level: readWrite}]",
        "level: readWrite}, {workload: report, level: readOnly}]",
    );
    plant.apply(&serving, &today);
    plant.apply(&serving, &database("newer"));
    serving.stop();
    let before = server_side(&plant);

    let config = plant.write(
        "eager.toml",
        "[server]\nreconcile_interval_seconds = 1\ndrift_interval_seconds = 1\n",
    );
    let serving = plant.serve("yesterday", &["--config", config.to_str().unwrap()]);
    // It has looked at its databases when it says something of the one that moved on.
    let shown = until("the old store notices that the server moved on", || {
        let found = plant
            .ask(&serving, &["get", "db", "orders", "-o", "json"])
            .json();
        let conditions = found["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
        (ready["status"] != "True").then(|| found.to_string())
    });
    assert_eq!(
        server_side(&plant),
        before,
        "yesterday's store undid today: {shown}"
    );
    serving.stop();
}
