//! The story that the demo tells, one function per step.
//!
//! Three people type the commands: `admin` runs the platform, `mona` owns the team monitoring, `sam`
//! owns the team shop. What they apply lies in `samples/demo`.

mod access;
mod audit;
mod drift;
mod migrate;
mod place;
mod platform;
mod quarantine;
mod scripts;
mod strangers;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::world::Ended;
use super::{Step, World};
use crate::Result;

/// The steps in the order in which they are told; each builds on those before it.
pub(super) fn all() -> &'static [Step] {
    const {
        &[
            platform::START,
            platform::REGISTER,
            place::DECLARE,
            migrate::MIGRATE,
            migrate::CORRECT,
            access::USE,
            strangers::HIJACK,
            drift::REPAIR,
            quarantine::RETURN,
            audit::VERIFY,
            audit::TAMPER,
        ]
    }
}

/// The access of the collector, the program that may read and write.
const COLLECTOR: &str = "monitor-collector";

fn admin(world: &mut World) {
    world.become_subject("admin", "data/freehold/bootstrap-token");
}

fn mona(world: &mut World) {
    world.become_subject("mona", "tokens/mona");
}

fn sam(world: &mut World) {
    world.become_subject("sam", "tokens/sam");
}

/// Runs one statement as the collector would, and returns what psql said.
fn as_collector(world: &World, statement: &str) -> Result<Ended> {
    world.freehold(&[
        "run", "monitor", "--access", COLLECTOR, "--", "psql", "-XAtc", statement,
    ])
}

/// Waits until the log holds at least so many entries that a filter finds: entries are put in order
/// within about a second after what they tell of.
fn until_logged(world: &mut World, filter: [&str; 2], part: &str, count: usize) -> Result {
    let what = format!("`{}` stands in the log", filter.join(" "));
    world.until(&what, Duration::from_secs(30), |world| {
        let mut list = Command::new(world.program());
        list.args(["audit", "list"]).args(filter);
        world
            .end(&mut list)
            .is_ok_and(|ended| ended.stdout.matches(part).count() >= count)
    })
}

/// The answer of a command with `-o json`.
fn json(ended: &Ended) -> Result<Value> {
    serde_json::from_str(&ended.stdout)
        .map_err(|error| format!("this is no JSON: {error}\n{}", ended.said()))
}
