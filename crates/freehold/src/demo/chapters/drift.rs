//! What somebody does behind Freehold's back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::super::{
    Chapter, Result, Step,
    checks::Checks,
    programs,
    stage::{Ended, Stage},
};
use super::people::{COLLECTOR, admin, json, mona, port_of, until_logged};

pub(super) const CHAPTER: Chapter = Chapter {
    name: "drift",
    needs: &[programs::PSQL],
    steps: &[REPAIR],
};

const REPAIR: Step = Step {
    title: "Grant something by hand, behind its back",
    meaning: "Somebody with the server's superuser lets everybody read a table and makes an intern an owner. It is found, taken back, and written down.",
    run: repair,
};

const GRANTS: &str = "GRANT SELECT ON ownership TO PUBLIC; CREATE ROLE intern LOGIN; GRANT monitoring_monitor_owner TO intern";
/// Whether either of them still holds.
const HOLDS: &str = "SELECT has_table_privilege('intern', 'ownership', 'SELECT') OR pg_has_role('intern', 'monitoring_monitor_owner', 'MEMBER')";

fn repair(stage: &mut Stage, checks: &mut Checks) -> Result {
    mona(stage);
    let server = Server::of(stage)?;
    stage.say(&format!(
        "   postgres$ psql monitoring_monitor -c '{GRANTS}'"
    ));
    server.psql(stage, GRANTS)?.show().well()?;
    let holds = server.psql(stage, HOLDS)?.well()?;
    checks.equal("the grants hold for now", &holds.stdout.trim(), &"t");

    let mut seen = String::new();
    let waited = stage.until(
        "the differences are repaired",
        Duration::from_secs(60),
        |stage| {
            let words = ["describe", "database", "monitor"];
            let Ok(ended) = stage.look(&words) else {
                return false;
            };
            seen = ended.said();
            seen.contains("Found and repaired")
        },
    );
    if waited.is_err() {
        stage.voice().indented(seen.lines());
    }
    waited?;
    stage.say("   mona$ freehold describe database monitor");
    stage
        .voice()
        .indented(seen.lines().filter(|line| line.contains("Drifted")));
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
    let holds = server.psql(stage, HOLDS)?.well()?;
    checks.equal(
        "both are taken back in the server",
        &holds.stdout.trim(),
        &"f",
    );

    admin(stage);
    until_logged(stage, ["--action", "drift.repair"], "drift.repair", 1)?;
    stage
        .freehold(&["audit", "list", "--action", "drift.repair", "--limit", "1"])?
        .show();
    let log = stage
        .look(&["audit", "list", "--action", "drift.repair", "-o", "json"])?
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
    fn of(stage: &Stage) -> Result<Self> {
        let port = port_of(stage, COLLECTOR)?;
        let instances = stage.path().join("data/freehold/instances");
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

    fn psql(&self, stage: &Stage, statements: &str) -> Result<Ended> {
        let password = fs::read_to_string(&self.password_file)
            .map_err(|error| format!("cannot read the superuser's password: {error}"))?;
        let words = [
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            &self.port,
            "-U",
            "postgres",
            "-d",
            "monitoring_monitor",
            "-c",
            statements,
        ];
        stage.run_with(("PGPASSWORD", password.trim()), "psql", &words)
    }
}
