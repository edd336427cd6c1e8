//! `freehold demo` where it goes wrong. Continuous integration runs it where it goes well.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use freehold_testing::binary;
use serde_json::Value;
use tempfile::TempDir;

use crate::plant::{Lines, signal, until};

/// Where a demo makes its directory, so that a test sees all that it leaves behind.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        // The account that the PostgreSQL servers run as has to pass through.
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(place)
    }

    fn demo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::freehold());
        command
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", self.0.path())
            .env_remove("FREEHOLD_OUTPUT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Processes that work in the demo's directory or were told of it.
    fn processes(&self) -> Vec<String> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let told = entries.filter_map(|entry| {
            entry.file_name().to_str()?.parse::<u32>().ok()?;
            self.told_by(&entry.path())
        });
        told.collect()
    }

    fn told_by(&self, process: &Path) -> Option<String> {
        let here = self.0.path().join("freehold-demo-");
        let here = here.to_str().unwrap();
        // Whoever ends meanwhile cannot be read any more.
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let works_here = fs::read_link(process.join("cwd"))
            .is_ok_and(|folder| folder.to_string_lossy().starts_with(here));
        (works_here || command.contains(here)).then_some(command)
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        assert_eq!(self.left(), Vec::<PathBuf>::new());
    }
}

struct Telling {
    child: Child,
    story: Lines,
}

impl Telling {
    fn begin(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let story = Lines::of(child.stdout.take().unwrap());
        Self { child, story }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder like `/usr/bin`, with just these programs.
fn only(programs: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for program in programs {
        let found = std::env::split_paths(&path).map(|dir| dir.join(program));
        let found = found.into_iter().find(|file| file.is_file()).unwrap();
        symlink(found, folder.path().join(program)).unwrap();
    }
    folder
}

#[test]
fn missing_programs_are_named_with_their_packages_before_anything_is_started() {
    let place = Place::new();
    let path = only(&["sh", "setpriv"]);
    let output = place
        .demo(&["--exit"])
        .env("PATH", path.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "not installed: psql",
        "apt-get install postgresql-client",
        "cargo xtask demo",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(!said.contains("setpriv"), "it is there\n{said}");
    assert_eq!(output.stdout, b"");
    place.assert_nothing_is_left();
}

#[test]
fn a_schema_that_is_not_there_is_an_error_and_no_reason_to_take_another() {
    let place = Place::new();
    let empty = tempfile::tempdir().unwrap();
    let schema = empty.path().to_str().unwrap();
    let output = place
        .demo(&["--exit", "--schema", schema])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("schema.sql does not exist"), "{said}");
    place.assert_nothing_is_left();
}

#[test]
fn a_check_that_does_not_hold_fails_the_demo_and_is_in_its_summary() {
    let place = Place::new();
    let schema = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("schema.sql", "CREATE TABLE items (id bigint);\n"),
        ("images.sql", "SELECT 1;\n"),
        ("data.sql", "INSERT INTO items VALUES (1);\n"),
    ] {
        fs::write(schema.path().join(name), text).unwrap();
    }
    let folder = schema.path().to_str().unwrap();
    let output = place
        .demo(&["--exit", "--schema", folder, "-o", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let story = String::from_utf8(output.stderr).unwrap();
    let broken = "a schema of 30 tables or more";
    assert!(story.contains(&format!("✗ {broken}")), "{story}");
    assert!(story.contains("step 4 ("), "{story}");

    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["passed"], false);
    let outcomes: Vec<&Value> = summary["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["outcome"])
        .collect();
    assert_eq!(outcomes[..3], ["Held", "Held", "Held"]);
    assert_eq!(outcomes[3], "Failed");
    assert!(outcomes.len() > 4 && outcomes[4..].iter().all(|outcome| *outcome == "NotRun"));
    let checks = summary["steps"][3]["checks"].as_array().unwrap();
    let failed: Vec<&Value> = checks.iter().filter(|c| c["held"] == false).collect();
    assert_eq!(failed.len(), 1, "{checks:?}");
    assert_eq!(failed[0]["claim"], broken);
    place.assert_nothing_is_left();
}

/// At a moment at which both servers run and a command does.
const AMIDST: &str = "mona$ freehold apply -f monitor.yaml --wait";

#[test]
fn an_interruption_in_the_middle_leaves_nothing_behind() {
    for name in ["INT", "TERM"] {
        let place = Place::new();
        let mut telling = Telling::begin(&mut place.demo(&["--exit"]));
        telling.story.wait_for(AMIDST);
        assert!(!place.processes().is_empty());
        signal(telling.child.id(), name);
        let status = telling.child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{name}: {}", telling.story.text());
        place.assert_nothing_is_left();
    }
}

#[test]
fn a_demo_that_is_killed_leaves_nothing_behind_either() {
    let place = Place::new();
    let mut telling = Telling::begin(&mut place.demo(&["--exit"]));
    telling.story.wait_for(AMIDST);
    telling.child.kill().unwrap();
    telling.child.wait().unwrap();
    // Nobody is left to wait for those that end now.
    until("everything ends", || {
        (place.processes().is_empty() && place.left().is_empty()).then_some(())
    });
}

#[test]
fn what_is_to_be_kept_stays_and_its_servers_end() {
    let place = Place::new();
    let mut telling = Telling::begin(&mut place.demo(&["--exit", "--keep"]));
    telling.story.wait_for("━━ 3/");
    signal(telling.child.id(), "INT");
    telling.child.wait().unwrap();
    assert_eq!(place.processes(), Vec::<String>::new());
    let [kept] = &place.left()[..] else {
        panic!(
            "one directory was made, and one is kept: {:?}",
            place.left()
        );
    };
    assert!(kept.join("data/freehold/freehold.db").is_file());
}
