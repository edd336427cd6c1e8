//! Programs use the database without knowing a password.

use super::super::{Chapter, Result, Step, checks::Checks, programs, stage::Stage};
use super::people::{COLLECTOR, as_collector, mona};

pub(super) const CHAPTER: Chapter = Chapter {
    name: "access",
    needs: &[programs::PSQL],
    steps: &[USE],
};

const USE: Step = Step {
    title: "Use it without knowing a password",
    meaning: "`run` puts the credential into the program's environment. A program can do what its access says and no more: change rows, but drop no table; or read one view.",
    run: use_it,
};

fn use_it(stage: &mut Stage, checks: &mut Checks) -> Result {
    mona(stage);
    let client = stage
        .freehold(&[
            "run",
            "monitor",
            "--access",
            COLLECTOR,
            "--",
            "./collector.sh",
        ])?
        .show()
        .well()?;
    checks.contains(
        "the program wrote, and reads what it wrote",
        &client.stdout,
        "night-watch",
    );
    let drop = as_collector(stage, "DROP TABLE ownership")?.show();
    checks.that(
        "it cannot drop a table",
        !drop.success && drop.stderr.contains("must be owner of table ownership"),
    );
    let token = stage.freehold(&[
        "run",
        "monitor",
        "--access",
        COLLECTOR,
        "--",
        "sh",
        "-c",
        "env | grep -c ^PGPASSWORD; env | grep -c ^FREEHOLD_TOKEN=",
    ])?;
    checks.equal(
        "it holds its own password, and not Freehold's token",
        &token.stdout.split_whitespace().collect::<Vec<_>>(),
        &vec!["1", "0"],
    );

    stage
        .freehold(&[
            "apply",
            "-f",
            "status-page.yaml",
            "--wait",
            "--timeout",
            "60",
        ])?
        .show()
        .well()?;
    let reads = |statement: &str| {
        stage.freehold(&[
            "run",
            "monitor",
            "--access",
            "monitor-status-page",
            "--",
            "psql",
            "-XAtc",
            statement,
        ])
    };
    let read = reads("SELECT count(*) > 0 FROM owned")?.show().well()?;
    checks.equal("the status page reads its view", &read.stdout.trim(), &"t");
    let table = reads("SELECT count(*) FROM ownership")?.show();
    checks.contains("and no table behind it", &table.stderr, "permission denied");
    let write = reads("DELETE FROM ownership")?.show();
    checks.contains("and writes nothing", &write.stderr, "permission denied");
    Ok(())
}
