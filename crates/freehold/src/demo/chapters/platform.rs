//! A control plane, servers, teams, tokens.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use super::super::{
    Chapter, Result, Step, checks::Checks, programs, samples::PEOPLE, stage::Stage,
};
use super::people::{admin, mona, sam};

pub(super) const CHAPTER: Chapter = Chapter {
    name: "platform",
    needs: &[programs::POSTGRES],
    steps: &[START, REGISTER],
};

const START: Step = Step {
    title: "Start a control plane",
    meaning: "One program, one SQLite file. The first start makes a key and a first token that only its user can read.",
    run: start,
};

const REGISTER: Step = Step {
    title: "Register servers, a class, two teams",
    meaning: "What the platform engineer does once. Freehold makes the two PostgreSQL servers itself here; `external` registers those you run.",
    run: register,
};

fn start(stage: &mut Stage, checks: &mut Checks) -> Result {
    PEOPLE.write_into(stage.path())?;
    let port = free_port()?;
    let settings = format!(
        "[client]\n\
         server = \"http://127.0.0.1:{port}\"\n\n\
         [server]\n\
         listen = \"127.0.0.1:{port}\"\n\
         # Looks for differences far more often than usual, because somebody is watching.\n\
         reconcile_interval_seconds = 2\n\
         drift_interval_seconds = 3\n"
    );
    stage.write("config/freehold/freehold.toml", &settings)?;
    stage.become_subject("admin", "");
    stage.start_freehold("serve", &["serve"])?;
    stage.until(
        "the control plane is ready",
        Duration::from_secs(60),
        |_| is_ready(port),
    )?;
    stage.say(&format!("     ready at http://127.0.0.1:{port}"));
    let data = stage.path().join("data/freehold");
    let mode = |name: &str| -> Option<u32> {
        use std::os::unix::fs::PermissionsExt as _;
        let facts = fs::metadata(data.join(name)).ok()?;
        Some(facts.permissions().mode() & 0o777)
    };
    for name in ["freehold.db", "key", "bootstrap-token"] {
        checks.equal(
            &format!("{name} is there and nobody else can read it"),
            &mode(name),
            &Some(0o600),
        );
    }
    stage.set("FREEHOLD_TOKEN_FILE", "data/freehold/bootstrap-token");
    let home = stage.path().display().to_string();
    let programs = stage.programs().map(|folder| folder.display().to_string());
    stage.note(&format!("cd {home}"));
    stage.note(&format!(
        "export XDG_CONFIG_HOME=$PWD/config PATH={}:$PATH",
        programs.unwrap_or_default()
    ));
    Ok(())
}

fn register(stage: &mut Stage, checks: &mut Checks) -> Result {
    admin(stage);
    stage
        .freehold(&["apply", "-f", "platform.yaml", "--wait", "--timeout", "120"])?
        .show()
        .well()?;
    let instances = stage
        .freehold(&["get", "instances", "-o", "wide"])?
        .show()
        .well()?;
    let answering = |name: &str| {
        let mut lines = instances.stdout.lines();
        lines.any(|line| line.starts_with(name) && line.contains("Answering"))
    };
    checks.that(
        "both servers were made and answer",
        answering("pg-1") && answering("pg-2"),
    );
    fs::create_dir_all(stage.path().join("tokens"))
        .map_err(|error| format!("cannot make a folder: {error}"))?;
    for subject in ["mona", "sam"] {
        let file = format!("tokens/{subject}");
        stage
            .freehold(&["token", "create", subject, "--to", &file])?
            .show()
            .well()?;
    }
    mona(stage);
    stage
        .freehold(&["apply", "-f", "monitoring.yaml"])?
        .show()
        .well()?;
    let teams = stage
        .freehold(&["get", "workloads", "-o", "name"])?
        .show()
        .well()?;
    checks.that(
        "the team's token sees the team's two programs",
        teams.stdout.lines().count() == 2,
    );
    sam(stage);
    let refused = stage
        .freehold(&["apply", "-f", "platform.yaml"])?
        .show_only(&["error", "hint"]);
    checks.that(
        "a team's token cannot change the platform",
        !refused.success,
    );
    Ok(())
}

pub(super) fn free_port() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("there is no free port: {error}"))
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
