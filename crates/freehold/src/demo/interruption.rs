//! Ctrl-C and its kin, at any moment: between steps, while a command runs, while everything stays up.
//!
//! The command that runs at that moment is ended with everything it started: it has a process group of
//! its own, which is signalled while its leader is certainly not reaped yet, so that the number cannot
//! be anybody else's by then.

use std::{
    process::{Child, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::signal::unix::{SignalKind, signal};

use super::Result;

/// Cheap to clone; clones tell of the same interruption.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interruption(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    is_raised: bool,
    /// The leader of the group of the command that runs.
    running: Option<Pid>,
}

impl Interruption {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on.
    pub(crate) fn of_process() -> std::io::Result<Self> {
        let this = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let guard = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(guard);
        let raised = this.clone();
        let listen = async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                raised.raise();
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(listen))?;
        Ok(this)
    }

    pub(crate) fn raise(&self) {
        let mut state = self.state();
        state.is_raised = true;
        end(state.running);
        self.0.1.notify_all();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.state().is_raised
    }

    /// Blocks until it is raised.
    pub(crate) fn wait(&self) {
        let mut state = self.state();
        while !state.is_raised {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// From now on an interruption ends this child, which leads a process group of its own.
    pub(super) fn covers(&self, child: &Child) {
        let pid = pid(child);
        let mut state = self.state();
        state.running = pid;
        if state.is_raised {
            end(pid);
        }
    }

    /// Waits for the child that is covered.
    pub(super) fn reap(&self, child: &mut Child) -> Result<ExitStatus> {
        if let Some(pid) = pid(child) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while waitid(WaitId::Pid(pid), options).err() == Some(rustix::io::Errno::INTR) {}
        }
        self.state().running = None;
        child
            .wait()
            .map_err(|error| format!("cannot wait for a command: {error}"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// A group that has ended meanwhile needs no signal.
fn end(leader: Option<Pid>) {
    if let Some(leader) = leader {
        let _ = kill_process_group(leader, Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt as _, process::Command};

    use super::*;

    #[test]
    fn a_command_ends_with_all_it_started_whenever_the_interruption_comes() {
        for comes_first in [true, false] {
            let interruption = Interruption::default();
            if comes_first {
                interruption.raise();
            }
            // The inner sleep holds the pipe open for as long as it lives.
            let mut child = Command::new("sh")
                .args(["-c", "sleep 600 & wait"])
                .stdout(std::process::Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            interruption.covers(&child);
            if !comes_first {
                interruption.raise();
            }
            let mut rest = Vec::new();
            std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut rest).unwrap();
            assert!(!interruption.reap(&mut child).unwrap().success());
            interruption.wait();
        }
    }
}
