//! What somebody does behind Freehold's back.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::super::world::{Ended, print_indented};
use super::super::{Checks, Step, World};
use super::{COLLECTOR, admin, json, mona, until_logged};
use crate::Result;

pub(super) const REPAIR: Step = Step {
    title: "Grant something by hand, behind its back",
    meaning: "Somebody with the server's superuser lets everybody read a table and makes an intern an owner. It is found, taken back, and written down.",
    run: repair,
};

const GRANTS: &str = "GRANT SELECT ON ownership TO PUBLIC; CREATE ROLE intern LOGIN; GRANT monitoring_monitor_owner TO intern";
/// Whether either of them still holds.
const HOLDS: &str = "SELECT has_table_privilege('intern', 'ownership', 'SELECT') OR pg_has_role('intern', 'monitoring_monitor_owner', 'MEMBER')";

fn repair(world: &mut World, checks: &mut Checks) -> Result {
    mona(world);
    let server = Server::of(world)?;
    println!("   postgres$ psql monitoring_monitor -c '{GRANTS}'");
    server.psql(world, GRANTS)?.show().well()?;
    let holds = server.psql(world, HOLDS)?.well()?;
    checks.equal("the grants hold for now", &holds.stdout.trim(), &"t");

    let mut seen = String::new();
    let waited = world.until(
        "the differences are repaired",
        Duration::from_secs(60),
        |world| {
            let words = ["describe", "database", "monitor"];
            let Ok(ended) = world.end(Command::new(world.program()).args(words)) else {
                return false;
            };
            seen = ended.said();
            seen.contains("Found and repaired")
        },
    );
    if waited.is_err() {
        print_indented(seen.lines());
    }
    waited?;
    println!("   mona$ freehold describe database monitor");
    print_indented(seen.lines().filter(|line| line.contains("Drifted")));
    checks.contains(
        "the grant to everybody is named",
        &seen,
        "PUBLIC has SELECT on table public.ownership",
    );
    checks.contains(
        "and the new owner",
        &seen,
        "\"intern\" is a member of \"monitoring_monitor_owner\"",
    );
    let holds = server.psql(world, HOLDS)?.well()?;
    checks.equal(
        "both are taken back in the server",
        &holds.stdout.trim(),
        &"f",
    );

    admin(world);
    until_logged(world, ["--action", "drift.repair"], "drift.repair", 1)?;
    world
        .freehold(&["audit", "list", "--action", "drift.repair", "--limit", "1"])?
        .show();
    let log = world
        .end(Command::new(world.program()).args([
            "audit",
            "list",
            "--action",
            "drift.repair",
            "-o",
            "json",
        ]))?
        .well()?;
    let differences = json(&log)?["items"][0]["details"]["differences"].to_string();
    checks.that(
        "the log says what was repaired",
        differences.contains("grant.extra:public.ownership:PUBLIC")
            && differences.contains("member.extra:monitoring_monitor_owner:intern"),
    );
    Ok(())
}

/// The server on which the database lies, as its superuser sees it.
struct Server {
    port: String,
    password_file: PathBuf,
}

impl Server {
    fn of(world: &World) -> Result<Self> {
        let binding = world
            .end(Command::new(world.program()).args(["get", "binding", COLLECTOR, "-o", "json"]))?
            .well()?;
        let port = json(&binding)?["status"]["port"].to_string();
        let instances = world.path().join("data/freehold/instances");
        let entries = fs::read_dir(&instances)
            .map_err(|error| format!("cannot read {}: {error}", instances.display()))?;
        let directory = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                fs::read_to_string(path.join("data/freehold.conf"))
                    .is_ok_and(|conf| conf.lines().any(|line| line == format!("port = {port}")))
            })
            .ok_or_else(|| format!("no instance listens on port {port}"))?;
        Ok(Self {
            port,
            password_file: directory.join("superuser.password"),
        })
    }

    fn psql(&self, world: &World, statements: &str) -> Result<Ended> {
        let password = fs::read_to_string(&self.password_file)
            .map_err(|error| format!("cannot read the superuser's password: {error}"))?;
        let mut psql = Command::new("psql");
        psql.args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            &self.port,
        ])
        .args([
            "-U",
            "postgres",
            "-d",
            "monitoring_monitor",
            "-c",
            statements,
        ]);
        world.end_with(&mut psql, "PGPASSWORD", password.trim())
    }
}
