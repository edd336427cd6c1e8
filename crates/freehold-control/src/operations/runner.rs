//! The runner process: started for one migration, given bundle and credential on its standard
//! input, heard on its standard output.
//!
//! Its life hangs on its standard input: when that closes, because this server dropped it or died,
//! the runner cancels its statement and ends.

use std::{process::Stdio, time::Duration};

use freehold_engine::{EngineError, Fault};
use freehold_migrate::{
    HistoryRow, RunEvent, RunFailure, RunOptions, RunReport,
    runner_process::{BundleSource, RunnerInput, RunnerTarget},
};
use freehold_model::{BundleDigest, Error};
use freehold_workflow::StepContext;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
};

use super::migrate::MigrateOutcome;
use crate::{start::Control, trouble::Trouble};

/// How long a runner that was told to stop may take to roll back.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// What is kept of the runner's complaints.
const STDERR_BYTES_MAX: u64 = 16 * 1024;

/// Why a run has no outcome.
pub(super) enum RunTrouble {
    /// The bundle or the database's state does not allow it, or a script failed.
    Refused {
        message: String,
        /// What the history holds then; nothing when it could not be read.
        history: Vec<HistoryRow>,
    },
    Cancelled,
    /// The process ended without saying how, or the connection broke: what happened is in the
    /// history table, and the next run reads it.
    Lost(String),
    Server(Trouble),
}

impl From<Trouble> for RunTrouble {
    fn from(trouble: Trouble) -> Self {
        Self::Server(trouble)
    }
}

/// Runs a bundle and tells the operation's progress.
pub(super) async fn run(
    control: &Control,
    step: &StepContext,
    target: RunnerTarget,
    digest: &BundleDigest,
    bundle: Vec<u8>,
) -> Result<MigrateOutcome, RunTrouble> {
    let mut child = start(control)?;
    let stdin = child
        .stdin
        .take()
        .ok_or_else(|| lost("it has no standard input"))?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| lost("it has no standard output"))?;
    let stderr = child
        .stderr
        .take()
        .ok_or_else(|| lost("it has no standard error"))?;
    let complaints = tokio::spawn(async move {
        let mut text = String::new();
        let _ = stderr
            .take(STDERR_BYTES_MAX)
            .read_to_string(&mut text)
            .await;
        text
    });
    let input = input(control, step, target, digest, bundle.len() as u64);
    // Kept in a task of its own: a runner that reports while it still reads must not block us both.
    let feeding = tokio::spawn(feed(stdin, input, bundle));
    let mut lines = BufReader::new(stdout).lines();
    let mut last = None;
    let mut history = Vec::new();
    let mut listening = Box::pin(async {
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(event) = serde_json::from_str::<RunEvent>(&line) else {
                continue;
            };
            tell(step, &event);
            if let RunEvent::History { rows } = event {
                history = rows;
                continue;
            }
            if matches!(event, RunEvent::Finished { .. } | RunEvent::Failed { .. }) {
                last = Some(event);
            }
        }
    });
    let stopped = tokio::select! {
        biased;
        () = &mut listening => false,
        () = step.cancelled.cancelled() => true,
        () = step.stopping.cancelled() => true,
        () = step.lost.cancelled() => true,
    };
    let stdin = if stopped {
        // Dropped as well: a task that is done keeps what it gives, and the pipe with it.
        feeding.abort();
        drop(feeding);
        None
    } else {
        feeding.await.ok()
    };
    drop(stdin);
    // What it still says is heard: it may have been done already when it was told to stop.
    let ending = async {
        if stopped {
            listening.as_mut().await;
        }
        let _ = child.wait().await;
    };
    if tokio::time::timeout(STOP_GRACE, ending).await.is_err() {
        let _ = child.kill().await;
    }
    drop(listening);
    let complaints = complaints.await.unwrap_or_default();
    match last {
        Some(RunEvent::Finished { report }) => Ok(succeeded(report)),
        _ if stopped && step.cancelled.is_cancelled() => Err(RunTrouble::Cancelled),
        _ if stopped => Err(lost("this server is stopping")),
        Some(RunEvent::Failed { failure }) => Err(failed(&failure, history)),
        _ => Err(lost(complaints.trim())),
    }
}

fn start(control: &Control) -> Result<Child, RunTrouble> {
    let program = &control.options.runner_program;
    Command::new(program)
        .arg("runner")
        // Nothing of this server's environment is the runner's business.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| {
            let error = Error::internal("starting the migration runner", source);
            RunTrouble::Server(Trouble::Control(error))
        })
}

fn input(
    control: &Control,
    step: &StepContext,
    target: RunnerTarget,
    digest: &BundleDigest,
    length: u64,
) -> RunnerInput {
    RunnerInput {
        operation: step.id.to_string(),
        bundle: BundleSource::Inline { length },
        digest: digest.clone(),
        target,
        options: RunOptions {
            environment: step.target.environment.as_ref().map(ToString::to_string),
            started_at: Some(control.clock.now()),
            ..RunOptions::default()
        },
    }
}

/// Writes everything and gives the pipe back, which must stay open as long as the run may go on.
async fn feed(mut stdin: ChildStdin, input: RunnerInput, bundle: Vec<u8>) -> ChildStdin {
    let written = async {
        let mut line = serde_json::to_vec(&input)?;
        line.push(b'\n');
        stdin.write_all(&line).await?;
        stdin.write_all(&bundle).await?;
        stdin.flush().await
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "the migration runner did not read its input");
    }
    stdin
}

fn tell(step: &StepContext, event: &RunEvent) {
    let progress = &step.progress;
    match event {
        RunEvent::Connected { .. }
        | RunEvent::History { .. }
        | RunEvent::Finished { .. }
        | RunEvent::Failed { .. } => {}
        RunEvent::WaitingForLock {
            attempt,
            attempts,
            holders,
        } => {
            let who: Vec<String> = holders
                .iter()
                .map(|h| format!("{} (pid {})", h.application, h.pid))
                .collect();
            let message = format!("waiting for the migration lock held by {}", who.join(", "));
            progress.report(u64::from(*attempt), u64::from(*attempts), message);
        }
        RunEvent::HistoryCreated { table } => progress.say(format!("created {table}")),
        RunEvent::Planned {
            applied, pending, ..
        } => {
            progress.say(format!(
                "{applied} scripts are applied, {} are pending",
                pending.len()
            ));
        }
        RunEvent::ScriptStarted { file, number, of } => {
            progress.report(*number as u64 - 1, *of as u64, format!("{file} started"));
        }
        RunEvent::Progress {
            file,
            statement,
            statements,
            bytes,
            bytes_total,
            line,
            ..
        } => {
            let message = format!("{file}: statement {statement} of {statements}, line {line}");
            progress.report(*bytes, *bytes_total, message);
        }
        RunEvent::Notice { file, message } => progress.say(format!("{file}: {message}")),
        RunEvent::ScriptFinished {
            file,
            elapsed_ms,
            rows,
            ..
        } => {
            progress.say(format!("{file} applied in {elapsed_ms} ms, {rows} rows"));
        }
    }
}

fn succeeded(report: RunReport) -> MigrateOutcome {
    let version = report
        .history
        .iter()
        .filter(|row| row.success)
        .filter_map(|row| row.version.clone())
        .max()
        .map(|version| version.to_string());
    MigrateOutcome::Succeeded {
        applied: u32::try_from(report.applied.len()).unwrap_or(u32::MAX),
        version,
        history: report.history,
    }
}

fn failed(failure: &RunFailure, history: Vec<HistoryRow>) -> RunTrouble {
    match failure {
        RunFailure::Cancelled { .. } => lost("it was stopped"),
        RunFailure::Connect {
            message,
            retryable: true,
        } => {
            let fault = Fault::Unreachable {
                detail: message.clone(),
            };
            RunTrouble::Server(Trouble::Engine(EngineError::new(
                fault,
                "connect the runner",
            )))
        }
        RunFailure::ConnectionLost { .. } | RunFailure::Undetermined { .. } => {
            RunTrouble::Lost(failure.to_string())
        }
        _ => RunTrouble::Refused {
            message: failure.to_string(),
            history,
        },
    }
}

fn lost(why: &str) -> RunTrouble {
    RunTrouble::Lost(format!(
        "the migration runner ended without a result: {why}"
    ))
}
