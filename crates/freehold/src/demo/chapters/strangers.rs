//! The other team tries what it must not.

use super::super::{Chapter, Result, Step, checks::Checks, stage::Stage};
use super::people::{admin, mona, sam, until_logged};

pub(super) const CHAPTER: Chapter = Chapter {
    name: "strangers",
    needs: &[],
    steps: &[HIJACK],
};

const HIJACK: Step = Step {
    title: "Let the other team try to take it",
    meaning: "Every attempt is refused. Looking is answered as if the database did not exist; trying to change something stands in the log as well.",
    run: hijack,
};

const ATTEMPTS: &[&[&str]] = &[
    &["apply", "-f", "hijack.yaml"],
    &[
        "apply",
        "-f",
        "monitor.yaml",
        "--team",
        "monitoring",
        "--force",
    ],
    &["get", "database", "monitor", "--team", "monitoring"],
    &[
        "get",
        "binding",
        "monitor-collector",
        "--team",
        "monitoring",
        "-o",
        "yaml",
    ],
    &["run", "monitor", "--team", "monitoring", "--", "env"],
    &[
        "migrate",
        "apply",
        "monitor",
        "--team",
        "monitoring",
        "--dir",
        "sams",
    ],
    &[
        "delete",
        "database",
        "monitor",
        "--team",
        "monitoring",
        "--yes",
    ],
];

fn hijack(stage: &mut Stage, checks: &mut Checks) -> Result {
    mona(stage);
    let before = stage
        .freehold(&["get", "database", "monitor", "-o", "yaml"])?
        .well()?;
    let binding = stage.freehold(&[
        "binding",
        "export",
        "monitor",
        "--access",
        "monitor-collector",
        "--form",
        "json",
    ])?;
    let secret = secret_of(&binding.stdout)?;
    stage.write("sams/V1__mine.sql", "CREATE TABLE mine (id bigint);\n")?;
    sam(stage);
    for attempt in ATTEMPTS {
        let ended = stage.freehold(attempt)?.show_only(&["error:"]);
        let said = ended.said();
        let what = attempt.join(" ");
        checks.that(
            &format!("`{what}` is refused and tells nothing"),
            matches!(ended.code, Some(3 | 4))
                && !["127.0.0.1", "pg-1", "monitoring_monitor", secret.as_str()]
                    .iter()
                    .any(|leak| said.contains(leak)),
        );
    }
    let real = stage.freehold(&["get", "database", "monitor", "--team", "monitoring"])?;
    let invented = stage.freehold(&["get", "database", "monitor", "--team", "invented"])?;
    let plain = |text: &str| -> String {
        let lines = text.lines().filter(|line| !line.starts_with("request:"));
        lines
            .collect::<Vec<_>>()
            .join("\n")
            .replace("invented", "monitoring")
    };
    checks.equal(
        "the answer is the one that a team that does not exist gets",
        &plain(&real.stderr),
        &plain(&invented.stderr),
    );
    let own = stage
        .freehold(&["get", "databases", "-A", "-o", "name"])?
        .show()
        .well()?;
    checks.that(
        "of all teams' databases the team sees its own",
        own.stdout.lines().count() == 1 && own.stdout.contains("orders"),
    );
    mona(stage);
    let after = stage
        .freehold(&["get", "database", "monitor", "-o", "yaml"])?
        .well()?;
    checks.equal(
        "what the owner declared is as it was",
        &spec_of(&after.stdout),
        &spec_of(&before.stdout),
    );
    admin(stage);
    // One of them is from the beginning, when the platform's manifest was refused. `migrate apply` is not
    // among them: it asks for the database's class before it sends anything.
    until_logged(stage, ["--actor", "sam"], "refused", 4)?;
    let log = stage
        .freehold(&[
            "audit", "list", "--actor", "sam", "-o", "wide", "--limit", "20",
        ])?
        .show_only(&["INDEX", "refused"])
        .well()?;
    checks.that(
        "the attempts to change something stand in the log",
        log.stdout.matches("refused").count() >= 4,
    );
    Ok(())
}

/// The part of a resource that its owner wrote, and what identifies it.
fn spec_of(yaml: &str) -> Vec<String> {
    let lines = yaml.lines().take_while(|line| !line.starts_with("status:"));
    // The resource's version also counts what Freehold writes into the status.
    lines
        .filter(|line| !line.trim_start().starts_with("resourceVersion:"))
        .map(str::to_owned)
        .collect()
}

/// The password in an exported binding, to look for where it must not be.
fn secret_of(text: &str) -> Result<String> {
    let binding: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| format!("the binding is no JSON: {error}\n{text}"))?;
    find(&binding)
        .filter(|password| password.len() >= 16)
        .ok_or_else(|| "the binding holds no password".to_owned())
}

fn find(value: &serde_json::Value) -> Option<String> {
    let fields = value.as_object()?;
    match fields.get("password") {
        Some(serde_json::Value::String(password)) => Some(password.clone()),
        _ => fields.values().find_map(find),
    }
}
