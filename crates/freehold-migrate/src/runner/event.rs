//! What a run says while it goes on.

use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::{HistoryRow, RunFailure, RunReport, Warning};

/// One thing that happened. As JSON lines, this is what a runner process tells its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "event",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum RunEvent {
    Connected {
        server_version: String,
        database: String,
        schema: String,
        user: String,
    },
    /// Somebody else migrates this schema; we look again every second.
    WaitingForLock {
        attempt: u32,
        attempts: u32,
        holders: Vec<LockHolder>,
    },
    HistoryCreated {
        table: String,
    },
    /// What will run. Everything that could be refused has been looked at.
    Planned {
        applied: usize,
        pending: Vec<PlannedScript>,
        warnings: Vec<Warning>,
    },
    ScriptStarted {
        file: String,
        /// Counts from 1.
        number: usize,
        of: usize,
    },
    Progress {
        file: String,
        /// Statements done.
        statement: usize,
        statements: usize,
        /// The line that was reached.
        line: u32,
        bytes: u64,
        bytes_total: u64,
        percent: u8,
        /// Rows that the script's statements affected or returned so far.
        rows: u64,
    },
    /// The server's words, e.g. of a `RAISE NOTICE`.
    Notice {
        file: String,
        message: String,
    },
    ScriptFinished {
        file: String,
        installed_rank: i32,
        elapsed_ms: u64,
        rows: u64,
    },
    /// The history as a run that failed has left it; what finished before stays applied.
    History {
        rows: Vec<HistoryRow>,
    },
    /// The last event of a run that ended well.
    Finished {
        report: RunReport,
    },
    /// The last event of any other run.
    Failed {
        failure: RunFailure,
    },
}

/// A script that will run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedScript {
    pub file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub description: String,
    pub statements: usize,
    pub bytes: u64,
    /// False when a failure in its middle leaves what came before.
    pub in_transaction: bool,
}

/// A session that holds the migration lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockHolder {
    pub pid: i32,
    pub application: String,
    pub user: String,
}

/// Who listens to a run. The run waits until the event is taken.
pub trait Observer: Send {
    fn observe(&mut self, event: RunEvent) -> impl Future<Output = ()> + Send;
}

impl<F: FnMut(RunEvent) + Send> Observer for F {
    async fn observe(&mut self, event: RunEvent) {
        self(event);
    }
}
