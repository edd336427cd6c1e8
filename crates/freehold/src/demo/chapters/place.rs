//! From eight lines to a database that can be used.

use std::fs;
use std::time::Instant;

use super::super::{Chapter, Result, Step, checks::Checks, stage::Stage};
use super::people::{json, mona, sam};

pub(super) const CHAPTER: Chapter = Chapter {
    name: "place",
    needs: &[],
    steps: &[DECLARE],
};

const DECLARE: Step = Step {
    title: "Declare a database in eight lines",
    meaning: "The team says what it needs; Freehold says where it goes and why, before and after. Dry run and real run are the same code.",
    run: declare,
};

fn declare(stage: &mut Stage, checks: &mut Checks) -> Result {
    mona(stage);
    let manifest = fs::read_to_string(stage.path().join("monitor.yaml"))
        .map_err(|error| format!("cannot read monitor.yaml: {error}"))?;
    stage.say("   mona$ cat monitor.yaml");
    stage.voice().indented(manifest.lines());
    checks.equal("eight lines", &manifest.lines().count(), &8);

    let dry = stage
        .freehold(&["apply", "-f", "monitor.yaml", "--dry-run"])?
        .show_only(&["dry run", "placed", "INSTANCE", "pg-"])
        .well()?;
    checks.contains(
        "it would be placed on pg-1",
        &dry.said(),
        "would be placed on pg-1",
    );
    checks.contains(
        "pg-2 is no candidate, and the reason is given",
        &dry.said(),
        "team `monitoring` is not among its allowed teams",
    );
    let absent = stage
        .freehold(&["get", "database", "monitor"])?
        .show_only(&["error"]);
    checks.equal("a dry run makes nothing", &absent.code, &Some(3));

    let asked = Instant::now();
    stage
        .freehold(&["apply", "-f", "monitor.yaml", "--wait", "--timeout", "120"])?
        .show()
        .well()?;
    let waited = asked.elapsed().as_secs_f64();
    let database = json(
        &stage
            .freehold(&["get", "database", "monitor", "-o", "json"])?
            .well()?,
    )?;
    let measured = database["status"]["requestToUsableSeconds"].as_f64();
    stage.say(&format!(
        "     from request to usable: {:.2} s measured by the server, {waited:.2} s until the command returned",
        measured.unwrap_or(f64::NAN)
    ));
    checks.that(
        "the time from request to usable is on record",
        measured.is_some_and(|seconds| seconds > 0.0 && seconds <= waited),
    );
    let explained = stage
        .freehold(&["explain", "database", "monitor"])?
        .show()
        .well()?;
    checks.contains(
        "it is where the dry run said",
        &explained.stdout,
        "is placed on pg-1",
    );

    sam(stage);
    stage
        .freehold(&["apply", "-f", "shop.yaml", "--wait", "--timeout", "120"])?
        .show()
        .well()?;
    let explained = stage
        .freehold(&["explain", "database", "orders"])?
        .show()
        .well()?;
    checks.that(
        "for the other team both servers were candidates, ranked by what stays free",
        explained.stdout.matches("  yes  ").count() == 2,
    );
    Ok(())
}
