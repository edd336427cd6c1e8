//! The log, verified without the server, and tampered with.

use std::fs;
use std::path::Path;

use super::super::{Chapter, Result, Step, checks::Checks, stage::Stage};
use super::people::{admin, until_logged};

pub(super) const CHAPTER: Chapter = Chapter {
    name: "audit",
    needs: &[],
    steps: &[VERIFY, TAMPER],
};

const VERIFY: Step = Step {
    title: "Export the log and verify it offline",
    meaning: "Everything above stands in it. Who holds a copy and the log's public key needs neither the server nor trust in whoever runs it.",
    run: verify,
};

const TAMPER: Step = Step {
    title: "Tamper with the log, and be caught",
    meaning: "One changed byte is found and located. A log cut off cleanly looks sound by itself, which is why somebody else keeps a checkpoint.",
    run: tamper,
};

/// An address at which nobody answers: what needs the server fails.
const NOWHERE: &str = "http://127.0.0.1:1";

fn verify(stage: &mut Stage, checks: &mut Checks) -> Result {
    admin(stage);
    until_logged(stage, ["--action", "database.reopen"], "succeeded", 1)?;
    stage
        .freehold(&["audit", "list", "--limit", "12"])?
        .show()
        .well()?;
    stage
        .freehold(&["audit", "checkpoint", "--to", "kept.txt"])?
        .show()
        .well()?;
    stage
        .freehold(&["audit", "export", "--to", "audit.jsonl"])?
        .show()
        .well()?;
    let text = read(stage, "audit.jsonl")?;
    for action in [
        "instance.apply",
        "token.create",
        "database.provision",
        "database.migrate",
        "binding.read",
        "drift.repair",
        "database.undelete",
    ] {
        checks.contains(
            &format!("{action} is in it"),
            &text,
            &format!("\"action\":\"{action}\""),
        );
    }
    for (name, file) in [
        ("the key-encryption key", "data/freehold/key"),
        ("a token", "tokens/mona"),
    ] {
        let secret = read(stage, file)?;
        let secret = secret.trim();
        checks.that(
            &format!("{name} is not"),
            secret.len() > 16 && !text.contains(secret),
        );
    }
    let gone = stage.freehold(&["--server", NOWHERE, "get", "databases"])?;
    checks.equal("nobody answers at that address", &gone.code, &Some(6));
    stage.set("FREEHOLD_TOKEN_FILE", "");
    let sound = stage
        .freehold(&[
            "--server",
            NOWHERE,
            "audit",
            "verify",
            "audit.jsonl",
            "--checkpoint",
            "kept.txt",
        ])?
        .show();
    checks.that(
        "the log verifies, without server and token",
        sound.success && sound.stdout.contains("The log is sound"),
    );
    Ok(())
}

fn tamper(stage: &mut Stage, checks: &mut Checks) -> Result {
    let text = read(stage, "audit.jsonl")?;
    let (changed, line, index) = change_a_byte(&text)?;
    stage.write("changed.jsonl", &changed)?;
    stage.say(&format!(
        "   In a copy, somebody makes the repair's actor `{}`.",
        who_instead()
    ));
    let caught = stage
        .freehold(&["audit", "verify", "changed.jsonl"])?
        .show();
    checks.equal("the changed copy fails", &caught.code, &Some(1));
    checks.contains(
        &format!("and the fault is located: line {line}, entry {index}"),
        &caught.said(),
        &format!("line {line}: entry {index} "),
    );

    stage.write("short.jsonl", &cut(&text)?)?;
    stage
        .say("   In another, somebody cuts the last entries off and writes an end line that fits.");
    let alone = stage.freehold(&["audit", "verify", "short.jsonl"])?.show();
    checks.that("by itself the shortened log looks sound", alone.success);
    let against = stage
        .freehold(&["audit", "verify", "short.jsonl", "--checkpoint", "kept.txt"])?
        .show();
    checks.equal(
        "against the checkpoint that was kept it does not",
        &against.code,
        &Some(1),
    );
    admin(stage);
    take_leave(stage);
    Ok(())
}

/// One letter of the actor of the last repair, in place; with it the line and the entry.
fn change_a_byte(text: &str) -> Result<(String, usize, String)> {
    let found = (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.contains("\"action\":\"drift.repair\""))
        .last();
    let (number, line) = found.ok_or("the export holds no repair")?;
    let altered = line.replacen(
        "\"subject\":\"freehold\"",
        &format!("\"subject\":\"{}\"", who_instead()),
        1,
    );
    if altered.len() != line.len() || altered == line {
        return Err("the entry has no actor to change".to_owned());
    }
    let index = line
        .split_once("\"index\":")
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
        .ok_or("the entry has no index")?;
    Ok((text.replacen(line, &altered, 1), number, index))
}

/// `freehold` with one byte changed.
const fn who_instead() -> &'static str {
    "freeholt"
}

/// The export up to an earlier checkpoint, with an end line that agrees with it.
fn cut(text: &str) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let checkpoints: Vec<usize> = (0..lines.len())
        .filter(|at| lines[*at].starts_with("{\"checkpoint\":"))
        .collect();
    let [.., earlier, _, _] = checkpoints.as_slice() else {
        return Err("the log has too few checkpoints to cut it".to_owned());
    };
    let kept = &lines[..=*earlier];
    let count = |beginning: &str| {
        kept.iter()
            .filter(|line| line.starts_with(beginning))
            .count()
    };
    let end = format!(
        "{{\"end\":{{\"entries\":{},\"checkpoints\":{}}}}}",
        count("{\"index\":"),
        count("{\"checkpoint\":")
    );
    Ok(format!("{}\n{end}\n", kept.join("\n")))
}

/// What the reader may try while everything stays up.
fn take_leave(stage: &mut Stage) {
    for note in [
        "export FREEHOLD_TOKEN_FILE=$PWD/tokens/mona      # the team monitoring; sam is of the team shop",
        "freehold get databases -o wide",
        "freehold describe database monitor",
        "freehold connect monitor --access monitor-collector",
        "freehold migrate status monitor",
        "FREEHOLD_TOKEN_FILE=$PWD/data/freehold/bootstrap-token freehold audit list    # the platform engineer",
    ] {
        stage.note(note);
    }
}

fn read(stage: &Stage, name: &str) -> Result<String> {
    let path: &Path = &stage.path().join(name);
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
