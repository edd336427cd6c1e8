//! Deleting is not losing.

use super::super::{Checks, Step, World};
use super::{as_collector, mona};
use crate::Result;

pub(super) const RETURN: Step = Step {
    title: "Delete the database, and bring it back",
    meaning: "This class quarantines: connections end and are refused, the data stays, and `undelete` works until a date.",
    run: quarantine,
};

const COUNT: &str = "SELECT count(*), count(*) FILTER (WHERE team = 'night-watch') FROM ownership";

fn quarantine(world: &mut World, checks: &mut Checks) -> Result {
    mona(world);
    let before = as_collector(world, COUNT)?.show().well()?;
    let deleted = world
        .freehold(&["delete", "database", "monitor", "--yes", "--wait"])?
        .show()
        .well()?;
    checks.contains(
        "it says until when it can come back",
        &deleted.said(),
        "until 20",
    );
    let refused = as_collector(world, COUNT)?.show();
    checks.equal(
        "nobody gets a credential meanwhile",
        &refused.code,
        &Some(4),
    );
    world
        .freehold(&["undelete", "monitor", "--wait"])?
        .show()
        .well()?;
    let after = as_collector(world, COUNT)?.show().well()?;
    checks.that("there were rows", before.stdout.trim().ends_with("|1"));
    checks.equal("every row is still there", &after.stdout, &before.stdout);
    Ok(())
}
