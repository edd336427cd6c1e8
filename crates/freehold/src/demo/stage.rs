//! The machine as a step sees it: the program, a directory of its own, the processes that it started.
//! All of it is gone when the stage is dropped, and also when the demo is killed.
//!
//! Every process is started through `setpriv`, which has the kernel end it with the thread that
//! started it. The servers that Freehold makes outlive the program that made them on purpose; a small
//! shell script, the keeper, ends those.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Result, schema::Zabbix, voice::Voice};

/// How many lines of a log are shown when a step fails.
const TAIL: usize = 40;

/// Ends the servers and removes the directory at the end.
const KEEPER: &str = include_str!("keeper.sh");

pub(crate) struct Stage {
    freehold: PathBuf,
    zabbix: Option<Zabbix>,
    voice: Voice,
    directory: tempfile::TempDir,
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
pub(crate) struct Ended {
    pub success: bool,
    /// Absent when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    voice: Voice,
}

impl Ended {
    /// What it said, on both outputs.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Shows what it said.
    pub(crate) fn show(self) -> Self {
        self.voice
            .indented(self.stdout.lines().chain(self.stderr.lines()));
        self
    }

    /// Shows the lines that hold one of these parts, for output of which only a part matters here.
    pub(crate) fn show_only(self, parts: &[&str]) -> Self {
        let said = self.said();
        self.voice.indented(
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

impl Stage {
    pub(crate) fn new(freehold: PathBuf, zabbix: Option<Zabbix>, voice: Voice) -> Result<Self> {
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
            freehold,
            zabbix,
            voice,
            directory,
            subject: String::new(),
            processes: Vec::new(),
            notes: Vec::new(),
            environment,
        })
    }

    /// Starts what ends the servers at the end, before there are any.
    /// `keep` leaves the directory behind.
    pub(crate) fn start_keeper(&mut self, keep: bool) -> Result {
        self.directory.disable_cleanup(keep);
        let home = self.path().to_string_lossy().into_owned();
        let fate = if keep { "keep" } else { "remove" };
        let words = ["-c", KEEPER, "keeper", &home, fate];
        self.start("keeper", Path::new("/bin/sh"), &words)
    }

    pub(crate) fn voice(&self) -> &Voice {
        &self.voice
    }

    /// Tells the reader something between commands.
    pub(crate) fn say(&self, text: &str) {
        self.voice.say(text);
    }

    /// The folder that the program lies in.
    pub(crate) fn programs(&self) -> Option<&Path> {
        self.freehold.parent()
    }

    /// Zabbix's schema, where it is at hand.
    pub(crate) fn zabbix(&self) -> Option<&Zabbix> {
        self.zabbix.as_ref()
    }

    /// Who types the commands from now on, with their own token.
    pub(crate) fn become_subject(&mut self, subject: &str, token_file: &str) {
        self.subject = subject.to_owned();
        self.set("FREEHOLD_TOKEN_FILE", token_file);
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.voice.interruption().is_raised()
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

    pub(crate) fn notes(&self) -> &[String] {
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
        self.look(words)
    }

    /// Runs `freehold` without showing it: to find out whether something has come yet.
    pub(crate) fn look(&self, words: &[&str]) -> Result<Ended> {
        self.collect(&mut self.command(self.freehold.as_os_str(), words), |_| {})
    }

    /// Runs `freehold` and shows what it says while it says it.
    pub(crate) fn follow(&self, words: &[&str]) -> Result<Ended> {
        self.prompt(words);
        let mut command = self.command(self.freehold.as_os_str(), words);
        let ended = self.collect(&mut command, |line| self.voice.indented([line]))?;
        self.voice.indented(ended.stdout.lines());
        Ok(ended)
    }

    /// Runs any program with one more variable, for this command alone.
    pub(crate) fn run_with(
        &self,
        (name, value): (&str, &str),
        program: &str,
        words: &[&str],
    ) -> Result<Ended> {
        let mut command = self.command(OsStr::new(program), words);
        self.collect(command.env(name, value), |_| {})
    }

    fn prompt(&self, words: &[&str]) {
        let typed: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let typed = typed.join(" ");
        self.say(&format!("   {}$ freehold {typed}", self.subject));
    }

    /// Runs a command to its end; `heard` gets each line of its standard error as it comes.
    fn collect(&self, command: &mut Command, mut heard: impl FnMut(&str)) -> Result<Ended> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {command:?}: {error}"))?;
        let interruption = self.voice.interruption();
        interruption.covers(&child);
        let mut out = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(out) = &mut out {
                let _ = out.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let mut stderr = String::new();
        let mut err = child.stderr.take().map(BufReader::new);
        while let Some(line) = err.as_mut().and_then(next_line) {
            heard(&line);
            stderr.push_str(&line);
            stderr.push('\n');
        }
        let stdout = reader.join().unwrap_or_default();
        let status = interruption.reap(&mut child)?;
        if interruption.is_raised() {
            return Err("interrupted".to_owned());
        }
        Ok(Ended {
            success: status.success(),
            code: status.code(),
            stdout,
            stderr,
            voice: self.voice.clone(),
        })
    }

    /// A command that the kernel ends when this thread, its parent, ends: the demo's own thread, which
    /// lives as long as the demo does. Ctrl-C at the terminal is not for it but for the demo, which
    /// then ends its processes in their order.
    fn command(&self, program: &OsStr, words: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig=TERM", "--"])
            .arg(program)
            .args(words)
            .process_group(0);
        self.surround(&mut command);
        command
    }

    /// Gives a command the demo's directory and environment, and keeps the reader's own settings for
    /// Freehold and for clients of databases out of it.
    fn surround(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("FREEHOLD_") && shown != "FREEHOLD_PG_BIN_DIRS"
                || ["PG", "MYSQL_", "MARIADB_", "SQLITE_"]
                    .iter()
                    .any(|prefix| shown.starts_with(prefix))
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
        let typed = words.join(" ");
        self.say(&format!("   {}$ freehold {typed} &", self.subject));
        let program = self.freehold.clone();
        self.start(name, &program, words)
    }

    /// Starts a process that stays until the demo ends, also when the demo itself is killed.
    pub(crate) fn start(&mut self, name: &str, program: &Path, words: &[&str]) -> Result {
        let log = self.path().join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = open()
            .and_then(|out| Ok((out, open()?)))
            .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let child = self
            .command(program.as_os_str(), words)
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
    pub(crate) fn logs(&self) -> Vec<(String, String)> {
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

/// A line without its end, whatever bytes it holds.
fn next_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    match reader.read_until(b'\n', &mut line) {
        Ok(1..) => Some(
            String::from_utf8_lossy(&line)
                .trim_end_matches('\n')
                .to_owned(),
        ),
        _ => None,
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

impl Drop for Stage {
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
    use super::{
        super::{interruption::Interruption, voice::testing::captured},
        *,
    };

    fn stage() -> Stage {
        let (voice, _) = captured(&Interruption::default());
        Stage::new("/bin/sh".into(), None, voice).unwrap()
    }

    #[test]
    fn a_process_ends_with_the_stage_and_its_output_is_kept_until_then() {
        let mut stage = stage();
        let path = stage.path().to_owned();
        let words = ["-c", "echo hello; exec sleep 600"];
        stage.start("talker", Path::new("/bin/sh"), &words).unwrap();
        stage
            .until("it speaks", Duration::from_secs(20), |stage| {
                stage.logs() == [("talker".to_owned(), "hello".to_owned())]
            })
            .unwrap();
        let pid = stage.processes[0].child.id();
        drop(stage);
        assert!(!path.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn waiting_ends_when_a_process_has_ended() {
        let mut stage = stage();
        stage.start("short", Path::new("/bin/false"), &[]).unwrap();
        let error = stage
            .until("never", Duration::from_secs(20), |_| false)
            .unwrap_err();
        assert!(error.starts_with("short ended"), "{error}");
    }

    #[test]
    fn a_command_tells_how_it_ended_and_an_interrupted_one_ends_the_step() {
        let stage = stage();
        let ended = stage
            .look(&["-c", "echo out; echo err >&2; exit 3"])
            .unwrap();
        assert_eq!((ended.success, ended.code), (false, Some(3)));
        assert_eq!(
            (ended.stdout.as_str(), ended.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert!(ended.well().is_err());
        stage.voice().interruption().raise();
        let Err(error) = stage.look(&["-c", "exec sleep 600"]) else {
            panic!("it slept through");
        };
        assert_eq!(error, "interrupted");
    }

    #[test]
    fn words_are_shown_as_one_types_them() {
        assert_eq!(quoted("pg-1"), "pg-1");
        assert_eq!(quoted("SELECT 1"), "'SELECT 1'");
        assert_eq!(quoted("a = 'b'"), "\"a = 'b'\"");
    }
}
