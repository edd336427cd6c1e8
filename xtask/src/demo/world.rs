//! The machine as the demo sees it: the built program, a directory of its own, the processes that
//! it started. All of it is gone when the world is dropped.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// How many lines of a log are shown when a step fails.
const TAIL: usize = 40;

/// Ends the PostgreSQL servers below the demo's directory, which outlive the program that made them,
/// and removes the directory. It waits until it is told to, by the demo or, when that is killed, by
/// the kernel.
const KEEPER: &str = r#"
end() {
    trap '' TERM
    kill "$nap" 2>/dev/null
    for file in "$1"/data/freehold/instances/*/data/postmaster.pid; do
        [ -f "$file" ] && kill -INT "$(head -n 1 "$file")"
    done
    tries=0
    while [ "$tries" -lt 100 ] && ls "$1"/data/freehold/instances/*/data/postmaster.pid >/dev/null 2>&1; do
        tries=$((tries + 1))
        sleep 0.1
    done
    rm -rf "$1"
    exit
}
trap 'end "$@"' TERM
while :; do
    sleep 3600 &
    nap=$!
    wait "$nap"
done
"#;

#[derive(Debug)]
pub(crate) struct World {
    freehold: PathBuf,
    /// The checkout.
    root: PathBuf,
    directory: tempfile::TempDir,
    interrupted: Arc<AtomicBool>,
    /// Who types the commands, for the prompt.
    subject: String,
    processes: Vec<Process>,
    notes: Vec<String>,
    /// What every command of the demo gets; steps add to it what later steps need.
    environment: Vec<(String, String)>,
}

#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// What it said, on both outputs.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Shows what it said.
    pub(crate) fn show(self) -> Self {
        print_indented(self.stdout.lines().chain(self.stderr.lines()));
        self
    }

    /// Shows the lines that hold one of these parts, for output of which only a part matters here.
    pub(crate) fn show_only(self, parts: &[&str]) -> Self {
        let said = self.said();
        print_indented(
            said.lines()
                .filter(|line| parts.iter().any(|part| line.contains(part))),
        );
        self
    }

    /// Insists that it went well; what follows would make no sense without it.
    pub(crate) fn well(self) -> Result<Self> {
        if self.success {
            Ok(self)
        } else {
            Err(format!("the command failed:\n{}", self.said()))
        }
    }
}

/// Prints the output of a command below it. The server's lines may be long; the terminal wraps them.
pub(super) fn print_indented<'a>(lines: impl IntoIterator<Item = &'a str>) {
    for line in lines {
        println!("     {line}");
    }
}

impl World {
    pub(super) fn new(root: &Path, interrupted: Arc<AtomicBool>) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        let directory = tempfile::Builder::new()
            .prefix("freehold-demo-")
            .tempdir()
            .map_err(|error| format!("cannot make a directory for the demo: {error}"))?;
        // The account that the PostgreSQL servers run as has to pass through; it cannot look around.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711))
            .map_err(|error| format!("cannot open the demo's directory: {error}"))?;
        let home = directory.path().to_string_lossy().into_owned();
        let environment = [
            ("HOME", ""),
            ("XDG_DATA_HOME", "/data"),
            ("XDG_CONFIG_HOME", "/config"),
            ("XDG_STATE_HOME", "/state"),
            ("XDG_CACHE_HOME", "/cache"),
        ]
        .map(|(name, below)| (name.to_owned(), format!("{home}{below}")))
        .to_vec();
        Ok(Self {
            freehold: target.join("debug/freehold"),
            root: root.to_owned(),
            directory,
            interrupted,
            subject: String::new(),
            processes: Vec::new(),
            notes: Vec::new(),
            environment,
        })
    }

    /// Starts what ends the servers at the end, before there are any.
    pub(super) fn start_keeper(&mut self) -> Result {
        let home = self.path().to_string_lossy().into_owned();
        self.start(
            "keeper",
            Path::new("/bin/sh"),
            &["-c", KEEPER, "keeper", &home],
        )
    }

    /// The built program.
    pub(crate) fn program(&self) -> &Path {
        &self.freehold
    }

    /// A folder of the checkout.
    pub(crate) fn source(&self, folder: &str) -> PathBuf {
        self.root.join(folder)
    }

    /// Who types the commands from now on, with their own token.
    pub(crate) fn become_subject(&mut self, subject: &str, token_file: &str) {
        self.subject = subject.to_owned();
        self.set("FREEHOLD_TOKEN_FILE", token_file);
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// The demo's own directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Sets a variable for every command from now on; an empty one is taken away.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Something the reader can use while everything stays up: an address, a command.
    pub(crate) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Writes a file of the demo, shows it, and returns its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| format!("cannot make a folder: {error}"))?;
        }
        fs::write(&path, content).map_err(|error| format!("cannot write {name}: {error}"))?;
        Ok(path)
    }

    /// Runs `freehold` with the words that a person would type, shown as such.
    pub(crate) fn freehold(&self, words: &[&str]) -> Result<Ended> {
        self.prompt(words);
        self.end(Command::new(&self.freehold).args(words))
    }

    /// Runs `freehold` and shows what it says while it says it.
    pub(crate) fn follow(&self, words: &[&str]) -> Result<Ended> {
        self.prompt(words);
        let mut command = Command::new(&self.freehold);
        self.surround(command.args(words));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run freehold: {error}"))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut out) = out {
                let _ = out.read_to_string(&mut text);
            }
            text
        });
        let mut stderr = String::new();
        for line in err.map(BufReader::new).into_iter().flat_map(BufRead::lines) {
            let line = line.unwrap_or_default();
            print_indented([line.as_str()]);
            stderr.push_str(&line);
            stderr.push('\n');
        }
        let stdout = reader.join().unwrap_or_default();
        print_indented(stdout.lines());
        let status = child
            .wait()
            .map_err(|error| format!("cannot wait for freehold: {error}"))?;
        Ok(Ended {
            success: status.success(),
            code: status.code(),
            stdout,
            stderr,
        })
    }

    fn prompt(&self, words: &[&str]) {
        let typed: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        println!("   {}$ freehold {}", self.subject, typed.join(" "));
    }

    /// Runs any command in the demo's directory and environment, and returns how it ended.
    pub(crate) fn end(&self, command: &mut Command) -> Result<Ended> {
        self.surround(command);
        Self::collect(command)
    }

    /// The same with one more variable, for this command alone.
    pub(crate) fn end_with(&self, command: &mut Command, name: &str, value: &str) -> Result<Ended> {
        self.surround(command);
        Self::collect(command.env(name, value))
    }

    fn collect(command: &mut Command) -> Result<Ended> {
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
        Ok(Ended {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Gives a command the demo's directory and environment, and keeps the reader's own settings for
    /// Freehold and PostgreSQL out of it.
    fn surround(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("FREEHOLD_") && shown != "FREEHOLD_PG_BIN_DIRS"
                || shown.starts_with("PG")
            {
                command.env_remove(name);
            }
        }
        let ours = self.environment.iter();
        command
            .current_dir(self.path())
            .envs(ours.map(|(name, value)| (name, value)));
    }

    /// Starts `freehold` as a process that stays until the demo ends.
    pub(crate) fn start_freehold(&mut self, name: &str, words: &[&str]) -> Result {
        println!("   {}$ freehold {} &", self.subject, words.join(" "));
        let program = self.freehold.clone();
        self.start(name, &program, words)
    }

    /// Starts a process that stays until the demo ends, also when the demo itself is killed: the
    /// kernel then ends it, because this thread, its parent, lives as long as the demo does.
    pub(crate) fn start(&mut self, name: &str, program: &Path, words: &[&str]) -> Result {
        let log = self.path().join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = open()
            .and_then(|out| Ok((out, open()?)))
            .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig=TERM", "--"])
            .arg(program)
            .args(words);
        self.surround(&mut command);
        // Ctrl-C at the terminal is for the demo, which then ends its processes in their order.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        self.processes.push(Process {
            name: name.to_owned(),
            child,
            log,
        });
        Ok(())
    }

    /// Waits until something holds, looking ten times a second. A process of the demo that ends
    /// meanwhile ends the wait as well.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Result {
        let deadline = Instant::now() + limit;
        while !holds(self) {
            if self.is_interrupted() {
                return Err("interrupted".to_owned());
            }
            for process in &mut self.processes {
                if let Ok(Some(status)) = process.child.try_wait() {
                    return Err(format!("{} ended ({status}) before {what}", process.name));
                }
            }
            if Instant::now() > deadline {
                return Err(format!("waited {} s in vain: {what}", limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The ends of all logs.
    pub(super) fn logs(&self) -> Vec<(String, String)> {
        let tail = |process: &Process| {
            let text = fs::read(&process.log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            (
                process.name.clone(),
                lines[lines.len().saturating_sub(TAIL)..].join("\n"),
            )
        };
        self.processes.iter().map(tail).collect()
    }
}

/// A word as one types it in a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if word.contains('\'') {
        format!("\"{word}\"")
    } else {
        format!("'{word}'")
    }
}

impl Drop for World {
    /// Ends the processes, last started first, and gives each time to end its own.
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            if let Some(pid) = i32::try_from(process.child.id())
                .ok()
                .and_then(Pid::from_raw)
                && matches!(process.child.try_wait(), Ok(None))
            {
                let _ = kill_process(pid, Signal::TERM);
                let deadline = Instant::now() + Duration::from_secs(15);
                while matches!(process.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(20));
                }
                let _ = process.child.kill();
                let _ = process.child.wait();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_the_world_and_its_output_is_kept_until_then() {
        let mut world = World::new(Path::new("/nowhere"), Arc::default()).unwrap();
        let path = world.path().to_owned();
        world
            .start(
                "talker",
                Path::new("/bin/sh"),
                &["-c", "echo hello; exec sleep 600"],
            )
            .unwrap();
        world
            .until("it speaks", Duration::from_secs(20), |world| {
                world.logs() == [("talker".to_owned(), "hello".to_owned())]
            })
            .unwrap();
        let pid = world.processes[0].child.id();
        drop(world);
        assert!(!path.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn waiting_ends_when_a_process_has_ended() {
        let mut world = World::new(Path::new("/nowhere"), Arc::default()).unwrap();
        world.start("short", Path::new("/bin/false"), &[]).unwrap();
        let error = world
            .until("never", Duration::from_secs(20), |_| false)
            .unwrap_err();
        assert!(error.starts_with("short ended"), "{error}");
    }
}
