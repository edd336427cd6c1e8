//! The three people who type the commands, and what they ask again and again.
//!
//! `admin` runs the platform, `mona` owns the team monitoring, `sam` owns the team shop.

use std::time::Duration;

use serde_json::Value;

use super::super::{
    Result,
    stage::{Ended, Stage},
};

/// The access of the collector, the program that may read and write.
pub(super) const COLLECTOR: &str = "monitor-collector";

pub(super) fn admin(stage: &mut Stage) {
    stage.become_subject("admin", "data/freehold/bootstrap-token");
}

pub(super) fn mona(stage: &mut Stage) {
    stage.become_subject("mona", "tokens/mona");
}

pub(super) fn sam(stage: &mut Stage) {
    stage.become_subject("sam", "tokens/sam");
}

/// Runs one statement as the collector would, and returns what psql said.
pub(super) fn as_collector(stage: &Stage, statement: &str) -> Result<Ended> {
    stage.freehold(&[
        "run", "monitor", "--access", COLLECTOR, "--", "psql", "-XAtc", statement,
    ])
}

/// Waits until the log holds at least so many entries that a filter finds: entries are put in order
/// within about a second after what they tell of.
pub(super) fn until_logged(
    stage: &mut Stage,
    filter: [&str; 2],
    part: &str,
    count: usize,
) -> Result {
    let what = format!("`{}` stands in the log", filter.join(" "));
    stage.until(&what, Duration::from_secs(30), |stage| {
        let [name, value] = filter;
        stage
            .look(&["audit", "list", name, value])
            .is_ok_and(|ended| ended.stdout.matches(part).count() >= count)
    })
}

/// The port at which an access finds its server.
pub(super) fn port_of(stage: &Stage, access: &str) -> Result<String> {
    let binding = stage
        .look(&["get", "binding", access, "-o", "json"])?
        .well()?;
    let binding = json(&binding)?;
    let address = binding["status"]["address"].as_str().unwrap_or_default();
    match address.rsplit_once(':') {
        Some((_, port)) => Ok(port.to_owned()),
        None => Err(format!(
            "the binding of {access} names no port: {address:?}"
        )),
    }
}

/// The answer of a command with `-o json`.
pub(super) fn json(ended: &Ended) -> Result<Value> {
    serde_json::from_str(&ended.stdout)
        .map_err(|error| format!("this is no JSON: {error}\n{}", ended.said()))
}
