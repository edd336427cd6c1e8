//! The process between a test and its server: a shell that outlives the test process just long
//! enough to end the server and to remove its files.
//!
//! Why a shell: a parent-death signal is tied to the *thread* that started the child, and tests
//! start servers from threads that end; end of file on a pipe is tied to the process. The server
//! itself gets a parent-death signal from the shell, which has one thread.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::Account;
use crate::process;

const SCRIPT: &str = include_str!("supervisor.sh");

/// Longer than the shell gives the server before it kills it.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(crate) struct Supervisor {
    shell: Child,
    pub(crate) server: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    Keep,
    Remove,
}

impl Supervisor {
    pub(crate) fn start(home: &Path, account: Account, program: &Path, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg("freehold-testing-supervisor")
            .arg(home)
            .args(account.prefix())
            .arg(program)
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LC_ALL", "C.UTF-8")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run sh");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("standard output is piped"))
            .read_line(&mut line)
            .expect("the supervising shell says the server's process id");
        let server = line
            .trim()
            .parse()
            .expect("the supervising shell says a process id");
        Self { shell, server }
    }

    pub(crate) fn is_running(&self) -> bool {
        process::is_running(self.server)
    }

    /// Ends the server and waits until it is gone.
    pub(crate) fn end(mut self, signal: &str, files: Files) {
        let files = if files == Files::Keep {
            "keep"
        } else {
            "remove"
        };
        if let Some(mut stdin) = self.shell.stdin.take() {
            // It fails only when somebody has killed the shell; then the server is gone as well.
            let _ = writeln!(stdin, "{signal} {files}");
        }
        let ended = process::wait_until(PATIENCE, || {
            self.shell
                .try_wait()
                .expect("the shell is our child")
                .is_some()
        });
        if !ended {
            process::signal(self.server, Signal::KILL);
            let _ = self.shell.kill();
            let _ = self.shell.wait();
        }
    }
}
