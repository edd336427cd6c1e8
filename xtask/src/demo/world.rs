//! The machine as the demo sees it: the built program, a directory of its own, the processes that
//! it started. All of it is gone when the world is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// How many lines of a log are shown when a step fails.
const TAIL: usize = 40;

#[derive(Debug)]
pub(crate) struct World {
    freehold: PathBuf,
    directory: tempfile::TempDir,
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
#[expect(
    dead_code,
    reason = "the vocabulary for steps; not every story uses all of it"
)]
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[expect(
    dead_code,
    reason = "the vocabulary for steps; not every story uses all of it"
)]
impl World {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        let directory = tempfile::Builder::new()
            .prefix("freehold-demo-")
            .tempdir()
            .map_err(|error| format!("cannot make a directory for the demo: {error}"))?;
        let home = directory.path().to_string_lossy().into_owned();
        let environment = ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"]
            .map(|name| (name.to_owned(), home.clone()))
            .to_vec();
        Ok(Self {
            freehold: target.join("debug/freehold"),
            directory,
            processes: Vec::new(),
            notes: Vec::new(),
            environment,
        })
    }

    /// The demo's own directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Sets a variable for every command from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
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
        println!("   $ freehold {}", words.join(" "));
        self.end(Command::new(&self.freehold).args(words))
    }

    /// Runs any command in the demo's directory and environment, and returns how it ended.
    pub(crate) fn end(&self, command: &mut Command) -> Result<Ended> {
        let output = command
            .current_dir(self.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
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

    /// Starts `freehold` as a process that stays until the demo ends.
    pub(crate) fn start_freehold(&mut self, name: &str, words: &[&str]) -> Result {
        println!("   $ freehold {} &", words.join(" "));
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
        let child = Command::new("setpriv")
            .args(["--pdeathsig=TERM", "--"])
            .arg(program)
            .args(words)
            .current_dir(self.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
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
        let mut world = World::new(Path::new("/nowhere")).unwrap();
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
        let mut world = World::new(Path::new("/nowhere")).unwrap();
        world.start("short", Path::new("/bin/false"), &[]).unwrap();
        let error = world
            .until("never", Duration::from_secs(20), |_| false)
            .unwrap_err();
        assert!(error.starts_with("short ended"), "{error}");
    }
}
