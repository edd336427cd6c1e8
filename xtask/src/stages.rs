//! `cargo xtask test`: the stages that a change has to pass, in the order in which a failure is
//! cheapest to find, each timed, with a summary at the end.
//!
//! Nothing is skipped silently. A server that a test needs and that cannot be installed fails the
//! first stage; a stage that did not run is listed as such, and the command fails.

use std::fmt;
use std::io::{BufRead, BufReader, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::workspace::Metadata;
use crate::{Result, command, deny, install, tidy, workspace};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Run these stages only
    #[arg(value_enum)]
    stages: Vec<Stage>,

    /// How much of the fault harness to run
    #[arg(long, value_enum, default_value_t = Faults::Share)]
    faults: Faults,

    /// Go on after a stage that failed
    #[arg(long)]
    keep_going: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Faults {
    /// A share of the cases that changes with each commit
    Share,
    /// Every case there is: hours on a small machine
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Servers and tools that are missing
    Install,
    /// Formatting
    Fmt,
    /// Dependency direction, sizes, links, names
    Tidy,
    /// Bans, licences, sources of dependencies
    Deny,
    /// Warnings are errors
    Clippy,
    /// Every crate with each of its features alone
    Features,
    /// Everything that the tests use
    Build,
    /// All tests
    Test,
    /// The examples in the documentation
    Doctest,
    /// The documentation itself, warnings are errors
    Doc,
}

#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    NotRun,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(
            self.to_possible_value()
                .expect("no stage is hidden")
                .get_name(),
        )
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let root = workspace::root();
    let all = Stage::value_variants();
    let chosen: Vec<Stage> = all
        .iter()
        .copied()
        .filter(|stage| arguments.stages.is_empty() || arguments.stages.contains(stage))
        .collect();
    let mut tests = None;
    let mut report: Vec<(Stage, Outcome, Duration)> = Vec::new();
    for stage in chosen {
        let blocked = !arguments.keep_going
            && report
                .iter()
                .any(|(_, outcome, _)| !matches!(outcome, Outcome::Passed));
        if blocked {
            report.push((stage, Outcome::NotRun, Duration::ZERO));
            continue;
        }
        println!("\n=== {stage}");
        let start = Instant::now();
        let outcome = match stage.perform(&root, arguments.faults, &mut tests) {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                println!("\n{stage} failed: {error}");
                Outcome::Failed(error)
            }
        };
        report.push((stage, outcome, start.elapsed()));
    }
    summarise(&report, tests)
}

impl Stage {
    fn perform(self, root: &Path, faults: Faults, tests: &mut Option<Counts>) -> Result {
        let workspace = ["--workspace", "--all-features", "--locked"];
        match self {
            Self::Install => install::run(),
            Self::Fmt => command::run(command::cargo(root).args(["fmt", "--all", "--check"])),
            Self::Tidy => tidy::run(),
            Self::Deny => deny::run(),
            Self::Clippy => {
                command::run(command::cargo(root).arg("clippy").args(workspace).args([
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ]))
            }
            Self::Features => features(root),
            Self::Build => command::run(
                command::cargo(root)
                    .arg("build")
                    .args(workspace)
                    .arg("--all-targets"),
            ),
            Self::Test => nextest(root, &workspace, faults, tests),
            Self::Doctest => {
                command::run(command::cargo(root).args(["test", "--doc"]).args(workspace))
            }
            Self::Doc => command::run(
                command::cargo(root)
                    .arg("doc")
                    .args(workspace)
                    .arg("--no-deps")
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ),
        }
    }
}

/// Features are additive and each stands alone: a service that takes one store adapter must not
/// find that it compiles only together with another.
fn features(root: &Path) -> Result {
    let metadata = Metadata::load(root)?;
    for package in metadata.members() {
        let features: Vec<&String> = package
            .features
            .keys()
            .filter(|name| *name != "default")
            .collect();
        if features.is_empty() {
            continue;
        }
        let check = |feature: &[&str]| {
            command::run(
                command::cargo(root)
                    .args(["check", "--quiet", "--locked", "--package", &package.name])
                    .arg("--no-default-features")
                    .args(feature),
            )
        };
        check(&[])?;
        for feature in features {
            check(&["--features", feature])?;
        }
    }
    Ok(())
}

/// How many tests passed and failed, as nextest counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
}

impl Counts {
    /// Reads nextest's last line, for example
    /// `Summary [  1.250s] 31 tests run: 30 passed (1 slow), 1 failed, 1 timed out, 0 skipped`.
    fn read(line: &str) -> Option<Self> {
        let (_, results) = line
            .trim_start()
            .strip_prefix("Summary [")?
            .split_once("run: ")?;
        let mut counts = Self {
            passed: 0,
            failed: 0,
        };
        for part in results.split(", ") {
            let mut words = part.split_whitespace();
            let number: usize = words.next()?.parse().ok()?;
            match words.next()? {
                "passed" => counts.passed += number,
                "skipped" => {}
                // Failed, timed out, failed to start: whatever else there is did not pass.
                _ => counts.failed += number,
            }
        }
        Some(counts)
    }
}

/// The commit, by which the fault harness chooses its share. A tree without one chooses by the day.
fn head(root: &Path) -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(root)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn nextest(root: &Path, workspace: &[&str], faults: Faults, tests: &mut Option<Counts>) -> Result {
    let cargo = command::cargo(root);
    let mut command = match namespace() {
        Some(mut words) => {
            let mut command = Command::new(words.remove(0));
            command
                .args(words)
                .arg(cargo.get_program())
                .current_dir(root);
            command
        }
        None => cargo,
    };
    command
        .args(["nextest", "run"])
        .args(workspace)
        .args(["--no-fail-fast", "--no-tests=fail"]);
    match faults {
        Faults::All => {
            command.args(["--profile", "faults"]);
            command.env("FREEHOLD_FAULTS", "all");
        }
        Faults::Share => {
            if std::env::var_os("FREEHOLD_FAULTS_TURN").is_none()
                && let Some(commit) = head(root)
            {
                command.env("FREEHOLD_FAULTS_TURN", commit);
            }
        }
    }
    if std::io::stderr().is_terminal() {
        command.args(["--color", "always"]);
    }
    println!("$ {}", command::shown(&command));
    // Nextest speaks on standard error; it is passed on as it comes, and its last line is kept.
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run the tests: {error}"))?;
    let stderr = child.stderr.take().ok_or("standard error was piped")?;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read the tests' output: {error}"))?;
        let text = String::from_utf8_lossy(&line);
        *tests = Counts::read(&without_colours(&text)).or(*tests);
        println!("{text}");
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for the tests: {error}"))?;
    match *tests {
        _ if !status.success() => Err(format!("the tests failed ({status})")),
        None => Err("nextest ended well and printed no summary".to_owned()),
        Some(_) => Ok(()),
    }
}

/// Tests that fill a disk mount a small one. Who is not root gets a mount namespace for that, in
/// which the user stays the same. Where the kernel forbids it those tests fail and say so.
fn namespace() -> Option<Vec<String>> {
    const WORDS: [&str; 5] = [
        "unshare",
        "--user",
        "--map-current-user",
        "--keep-caps",
        "--mount",
    ];
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let works = command::succeeds(Command::new(WORDS[0]).args(&WORDS[1..]).arg("true"));
    works.then(|| WORDS.map(str::to_owned).to_vec())
}

fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain + rest
}

fn summarise(report: &[(Stage, Outcome, Duration)], tests: Option<Counts>) -> Result {
    println!("\n=== summary");
    for (stage, outcome, took) in report {
        let (word, why) = match outcome {
            Outcome::Passed => ("ok", ""),
            Outcome::Failed(error) => ("FAILED", error.lines().next().unwrap_or("")),
            Outcome::NotRun => ("not run", ""),
        };
        println!("{stage:<10}{word:<9}{:>7.1} s  {why}", took.as_secs_f64());
    }
    let total: Duration = report.iter().map(|(_, _, took)| *took).sum();
    println!("{:<19}{:>7.1} s", "total", total.as_secs_f64());
    let failed: Vec<String> = report
        .iter()
        .filter(|(_, outcome, _)| !matches!(outcome, Outcome::Passed))
        .map(|(stage, _, _)| stage.to_string())
        .collect();
    if !failed.is_empty() {
        println!("\nerror: not passed: {}", failed.join(", "));
    }
    if let Some(Counts { passed, failed }) = tests {
        println!("{passed} passed, {failed} failed");
    }
    let _ = std::io::stdout().flush();
    if failed.is_empty() {
        return Ok(());
    }
    // Said above already, in the order that a reader of the last lines expects.
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_nextest_says_at_the_end() {
        let read = |line| Counts::read(line).map(|counts| (counts.passed, counts.failed));
        assert_eq!(
            read("     Summary [  13.672s] 31 tests run: 31 passed, 0 skipped"),
            Some((31, 0))
        );
        assert_eq!(
            read(
                "     Summary [   1.2s] 9/12 tests run: 5 passed (1 slow), 2 failed, 1 timed out, 1 exec failed, 3 skipped"
            ),
            Some((5, 4))
        );
        assert_eq!(
            read("        PASS [   0.007s] a test that talks of a Summary ["),
            None
        );
    }

    #[test]
    fn colours_do_not_hide_the_summary() {
        let coloured = "\u{1b}[32;1m     Summary\u{1b}[0m [ 0.1s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m skipped";
        assert_eq!(
            Counts::read(&without_colours(coloured)),
            Some(Counts {
                passed: 2,
                failed: 0
            })
        );
    }
}
