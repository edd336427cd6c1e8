//! Deleting is not losing.

use super::super::{Chapter, Result, Step, checks::Checks, programs, stage::Stage};
use super::people::{as_collector, mona};

pub(super) const CHAPTER: Chapter = Chapter {
    name: "quarantine",
    needs: &[programs::PSQL],
    steps: &[RETURN],
};

const RETURN: Step = Step {
    title: "Delete the database, and bring it back",
    meaning: "This class quarantines: connections end and are refused, the data stays, and `undelete` works until a date.",
    run: quarantine,
};

const COUNT: &str = "SELECT count(*), count(*) FILTER (WHERE team = 'night-watch') FROM ownership";

fn quarantine(stage: &mut Stage, checks: &mut Checks) -> Result {
    mona(stage);
    let before = as_collector(stage, COUNT)?.show().well()?;
    let deleted = stage
        .freehold(&["delete", "database", "monitor", "--yes", "--wait"])?
        .show()
        .well()?;
    checks.contains(
        "it says until when it can come back",
        &deleted.said(),
        "until 20",
    );
    let refused = as_collector(stage, COUNT)?.show();
    checks.equal(
        "nobody gets a credential meanwhile",
        &refused.code,
        &Some(4),
    );
    stage
        .freehold(&["undelete", "monitor", "--wait"])?
        .show()
        .well()?;
    let after = as_collector(stage, COUNT)?.show().well()?;
    checks.that("there were rows", before.stdout.trim().ends_with("|1"));
    checks.equal("every row is still there", &after.stdout, &before.stdout);
    Ok(())
}
