//! Runs one script and records it.
//!
//! In a transaction, everything commits or nothing: the script's statements and its history row. So a
//! killed runner, a lost reply or a failing statement leaves either the whole script with its row or
//! no trace. What no transaction holds together is [`super::claim`]'s matter.

use std::time::Instant;

use freehold_engine::{CopySource, EngineError, Executed, Fault, ScriptSession, StatementError};

use super::{
    Around, Stop, Turn,
    event::{Observer, RunEvent},
    failure::{RunFailure, StatementFailure, advice_for, chain, is_cancellation, server_words},
    history_table::NewRow,
    lock,
    lock::Lock,
    message::{Closing, Message, Own, Piece, Spot, bare_pieces, messages, pieces},
    run_own,
    seat::Seat,
};
use crate::{Dialect, Mode, Script, Statement, StatementClass, dialect::postgresql_server};

/// More notices than this of one script are only counted.
const NOTICES_MAX: usize = 100;
const EXCERPT_CHARS: usize = 160;
/// MySQL's warning that some changed tables could not be rolled back.
const NOT_ROLLED_BACK: &str = "1196:";

/// One script on its way.
pub(super) struct Execution<'r, S, O> {
    pub(super) session: &'r mut S,
    pub(super) seat: &'r Seat,
    pub(super) stop: &'r Stop,
    pub(super) observer: &'r mut O,
    /// What is being sent: the script, or a callback before or after it.
    pub(super) script: &'r Script<'r>,
    /// What the history gets a row of; callbacks leave none.
    recorded: Option<&'r Script<'r>>,
    around: &'r Around<'r>,
    /// What puts the session back to what a new one has, before the script.
    pub(super) reset: &'r [String],
    pub(super) rank: i32,
    /// Whether this run has applied nothing yet.
    pub(super) is_first: bool,
    pub(super) lock_attempts: u32,
    pub(super) rows: u64,
    pub(super) notices: usize,
}

/// How a script ended that did not fail.
pub(super) enum Outcome {
    Done {
        rows: u64,
    },
    /// Its rank is taken: somebody else has migrated in the meantime. It did not run.
    Overtaken,
}

impl<'r, S: ScriptSession, O: Observer> Execution<'r, S, O> {
    pub(super) fn of(
        session: &'r mut S,
        seat: &'r Seat,
        stop: &'r Stop,
        observer: &'r mut O,
        turn: Turn<'r>,
    ) -> Self {
        Self {
            session,
            seat,
            stop,
            observer,
            script: turn.script,
            recorded: Some(turn.script),
            around: turn.around,
            reset: turn.reset,
            rank: turn.rank,
            is_first: turn.is_first,
            lock_attempts: 1,
            rows: 0,
            notices: 0,
        }
    }

    /// Runs the script as a callback: it leaves no row.
    pub(super) async fn call(mut self, lock_attempts: u32) -> Result<(), RunFailure> {
        self.recorded = None;
        self.lock_attempts = lock_attempts;
        match &self.script.mode {
            Mode::Transaction { opening } => {
                let opening = opening.clone();
                self.begin(&opening).await?;
                self.pieces_of(self.script).await?;
                let closing = Closing::without_row(&self.seat.restoring());
                self.send(Message::closing(&closing)).await
            }
            Mode::Bare => self.bare_callback(self.script).await,
        }
    }

    pub(super) async fn run(mut self, lock_attempts: u32) -> Result<Outcome, RunFailure> {
        self.lock_attempts = lock_attempts;
        let is_postgresql = self.seat.dialect == Dialect::Postgresql;
        let has_run = match &self.script.mode {
            Mode::Transaction { opening } if is_postgresql => {
                self.in_transaction(opening).await?;
                true
            }
            Mode::Transaction { opening } => self.in_timed_transaction(opening).await?,
            Mode::Bare => {
                for callback in &self.around.before {
                    self.bare_callback(callback).await?;
                }
                let has_run = self.claimed().await?;
                for callback in self.around.after.iter().filter(|_| has_run) {
                    self.bare_callback(callback).await?;
                }
                has_run
            }
        };
        if !has_run {
            return Ok(Outcome::Overtaken);
        }
        if self.notices > NOTICES_MAX {
            let more = self.notices - NOTICES_MAX;
            self.say(format!("… and {more} more notices")).await;
        }
        Ok(Outcome::Done { rows: self.rows })
    }

    /// Where the server's clock cannot say how long the script took, we do. False: overtaken.
    async fn in_timed_transaction(&mut self, opening: &str) -> Result<bool, RunFailure> {
        let script = self.script;
        let started = Instant::now();
        if !self.begin(opening).await? {
            return Ok(false);
        }
        self.with_callbacks(script).await?;
        let row = self.row(true, &elapsed_ms(started));
        let closing = Closing::new(&self.seat.restoring(), &row);
        self.send(Message::closing(&closing)).await?;
        Ok(true)
    }

    /// Opens a transaction. SQLite's write lock may be another program's for a while. False: our rank
    /// is taken, and no transaction is open.
    pub(super) async fn begin(&mut self, opening: &str) -> Result<bool, RunFailure> {
        let attempts = self.lock_attempts;
        let opened =
            lock::when_free(self.session, opening, attempts, self.stop, self.observer).await;
        if let Err(error) = opened {
            self.stop.check(Some(self.script.path))?;
            return Err(if matches!(error.fault, Fault::Busy { .. }) {
                self.locked_out(&error)
            } else {
                self.abort(error, false, |_, _| Spot::Own(Own::Opening))
                    .await
            });
        }
        if self.recorded.is_none()
            || self.seat.lock != Lock::History
            || self.seat.table.is_next(self.session, self.rank).await?
        {
            return Ok(true);
        }
        run_own(self.session, "ROLLBACK", "give way to another run").await?;
        Ok(false)
    }

    fn locked_out(&self, error: &EngineError) -> RunFailure {
        if self.is_first {
            return RunFailure::Locked {
                holders: Vec::new(),
            };
        }
        RunFailure::Server {
            doing: format!("begin {}", self.script.path),
            message: format!(
                "another program keeps its lock ({}); the scripts before it stay, run again when it is done",
                chain(error)
            ),
        }
    }

    async fn in_transaction(&mut self, opening: &str) -> Result<(), RunFailure> {
        let script = self.script;
        let row = self.row(true, postgresql_server::ELAPSED_MS);
        let closing = Closing::new(&self.seat.restoring(), &row);
        let pieces = pieces(script);
        let is_alone = self.around.is_empty();
        if is_alone && matches!(pieces.as_slice(), [] | [Piece::Batch(_)]) {
            // The reset goes with the script: a round trip less, and it is in the transaction. An
            // opening that sets an isolation level must be the first statement, so there it goes ahead.
            let mut lead: Vec<&str> = Vec::new();
            if opening == Dialect::Postgresql.opening() {
                lead.extend(self.reset.iter().map(String::as_str));
            } else {
                self.restore().await?;
            }
            lead.push(opening);
            return self.send(Message::whole(script, &lead, &closing)).await;
        }
        self.restore().await?;
        self.send(Message::opening(opening)).await?;
        self.with_callbacks(script).await?;
        self.send(Message::closing(&closing)).await
    }

    /// The script between the callbacks of each script, in the transaction that is open.
    async fn with_callbacks(&mut self, script: &'r Script<'r>) -> Result<(), RunFailure> {
        for callback in &self.around.before {
            self.pieces_of(callback).await?;
        }
        self.pieces_of(script).await?;
        for callback in &self.around.after {
            self.pieces_of(callback).await?;
        }
        self.script = script;
        Ok(())
    }

    /// Sends a script's statements; places in failures are its own.
    async fn pieces_of(&mut self, script: &'r Script<'r>) -> Result<(), RunFailure> {
        self.script = script;
        for piece in pieces(script) {
            let last = match piece {
                Piece::Batch(range) => {
                    let last = range.end - 1;
                    for message in messages(script, range) {
                        self.send(message).await?;
                    }
                    last
                }
                Piece::Copy(index) => {
                    let statement = &script.statements[index];
                    if let Err(error) = self.copy(statement).await {
                        return Err(self
                            .abort(error, false, |this, words| this.copy_spot(statement, words))
                            .await);
                    }
                    index
                }
            };
            self.progress(last).await;
        }
        Ok(())
    }

    /// A callback that no transaction holds together, or that stands beside a script that none does.
    async fn bare_callback(&mut self, callback: &'r Script<'r>) -> Result<(), RunFailure> {
        let script = std::mem::replace(&mut self.script, callback);
        for range in bare_pieces(callback) {
            for message in messages(callback, range) {
                let result = self.session.execute_batch(&message.text).await;
                self.tell_notices().await;
                if let Err(interrupted) = result {
                    return Err(self
                        .abort(interrupted.error, false, |this, words| {
                            message.locate(this.script, words, interrupted.completed)
                        })
                        .await);
                }
            }
        }
        if self.seat.dialect != Dialect::Mysql
            && self.session.in_transaction().await.unwrap_or(false)
        {
            let _ = self.session.execute("ROLLBACK").await;
            return Err(self.left_open());
        }
        self.seat.take_role(self.session).await?;
        self.script = script;
        Ok(())
    }

    /// Puts the session back in a message of its own.
    pub(super) async fn restore(&mut self) -> Result<(), RunFailure> {
        if self.reset.is_empty() {
            return Ok(());
        }
        let doing = "reset the session between two scripts";
        run_own(self.session, &self.reset.join(";\n"), doing).await
    }

    /// Sends one message of the transaction; on failure the transaction is ended.
    async fn send(&mut self, message: Message<'_>) -> Result<(), RunFailure> {
        self.check_stop().await?;
        let result = self.session.execute_batch(&message.text).await;
        self.tell_notices().await;
        match result {
            Ok(done) => {
                // The history row is none of the script's.
                self.rows += done.rows.saturating_sub(u64::from(message.commits()));
                Ok(())
            }
            Err(interrupted) => {
                let completed = interrupted.completed;
                Err(self
                    .abort(interrupted.error, message.commits(), |this, words| {
                        message.locate(this.script, words, completed)
                    })
                    .await)
            }
        }
    }

    /// Stops between two messages: the server rolls back what it has.
    async fn check_stop(&mut self) -> Result<(), RunFailure> {
        let stopped = self.stop.check(Some(self.script.path));
        if stopped.is_err() {
            let _ = self.session.execute("ROLLBACK").await;
        }
        stopped
    }

    pub(super) async fn copy(&mut self, statement: &Statement) -> Result<(), EngineError> {
        let text = &self.script.text[statement.range()];
        let StatementClass::CopyFromStdin { data } = &statement.class else {
            return Ok(());
        };
        let data = CopySource(&self.script.text[data.clone()]);
        let Executed { rows } = self.session.copy_in(text, data).await?;
        self.rows += rows;
        self.tell_notices().await;
        Ok(())
    }

    /// Ends the failed transaction and says what happened.
    async fn abort(
        &mut self,
        error: EngineError,
        committing: bool,
        locate: impl FnOnce(&Self, &StatementError) -> Spot,
    ) -> RunFailure {
        let file = self.script.path.to_owned();
        if is_lost(&error) {
            let message = chain(&error);
            return if committing {
                RunFailure::Undetermined { file, message }
            } else {
                RunFailure::ConnectionLost { file, message }
            };
        }
        let _ = self.session.execute("ROLLBACK").await;
        let is_undone = !self.has_kept_changes().await;
        self.failure(&error, is_undone, locate)
    }

    /// MySQL keeps what was written to tables without transactions, and warns of it. Then the script
    /// must not simply run again.
    async fn has_kept_changes(&mut self) -> bool {
        let warned = self.seat.dialect == Dialect::Mysql
            && self
                .session
                .take_notices()
                .iter()
                .any(|notice| notice.contains(NOT_ROLLED_BACK));
        if warned {
            self.record_failure("0").await;
        }
        warned
    }

    /// A script outside a transaction needs the lock more than any other.
    pub(super) async fn check_lock(&mut self) -> Result<(), RunFailure> {
        if lock::is_held(self.session, &self.seat.lock).await? {
            return Ok(());
        }
        Err(RunFailure::Server {
            doing: format!("run {} outside a transaction", self.script.path),
            message: "a script before it gave up the migration lock (pg_advisory_unlock_all? RELEASE_ALL_LOCKS?), so another migration may be running; run again".to_owned(),
        })
    }

    pub(super) fn left_open(&self) -> RunFailure {
        RunFailure::Statement(Box::new(StatementFailure {
            message: "the script ends inside a transaction that it began".to_owned(),
            advice: format!(
                "Add the missing COMMIT. {}",
                left_behind(false, self.seat.dialect)
            ),
            ..self.blank_failure()
        }))
    }

    /// The row that stops later runs until somebody has looked.
    async fn record_failure(&mut self, execution_time: &str) {
        if self.recorded.is_some() && self.seat.take_role(self.session).await.is_ok() {
            let row = self.row(false, execution_time);
            if let Err(error) = self.session.execute(&row).await {
                tracing::warn!(
                    script = self.script.path,
                    error = chain(&error),
                    "a failed script could not be recorded in the history"
                );
            }
        }
    }

    pub(super) fn row(&self, success: bool, execution_time: &str) -> String {
        let row = NewRow {
            rank: self.rank,
            installed_by: &self.seat.installed_by,
            success,
            execution_time,
        };
        let script = self.recorded.unwrap_or(self.script);
        self.seat.table.insert(script, &row)
    }

    /// The server says which line of the data it did not like.
    pub(super) fn copy_spot(&self, statement: &Statement, words: &StatementError) -> Spot {
        let StatementClass::CopyFromStdin { data } = &statement.class else {
            return Spot::At(statement.start);
        };
        let line = words.context.as_deref().and_then(|context| {
            let (_, rest) = context.split_once("COPY ")?.1.split_once(", line ")?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<usize>().ok()?.checked_sub(1)
        });
        let text = &self.script.text[data.clone()];
        let at = line
            .and_then(|line| text.split_inclusive('\n').nth(line))
            .map(|found| data.start + (found.as_ptr() as usize - text.as_ptr() as usize));
        match (at, words.position) {
            (Some(at), _) => Spot::At(at),
            (None, Some(position)) => {
                let text = &self.script.text[statement.range()];
                Spot::At(statement.start + crate::script::place::byte_offset(text, position))
            }
            (None, None) => Spot::At(statement.start),
        }
    }

    pub(super) fn failure(
        &self,
        error: &EngineError,
        rolled_back: bool,
        locate: impl FnOnce(&Self, &StatementError) -> Spot,
    ) -> RunFailure {
        let words = server_words(error);
        if is_cancellation(&words) && self.stop.is_stopped() {
            return RunFailure::Cancelled {
                file: Some(self.script.path.to_owned()),
            };
        }
        let spot = locate(self, &words);
        let text = self.script.text;
        let mut failure = self.blank_failure();
        let mut at_psql_variable = false;
        match spot {
            Spot::At(at) => {
                let place = self.script.place(at);
                failure.line = Some(place.line);
                failure.column = Some(place.column);
                failure.excerpt = excerpt(text, at);
                at_psql_variable = text[at..].starts_with(':');
            }
            Spot::Between(first, last) => {
                failure.line = Some(self.script.place(first).line);
                failure.line_last = Some(self.script.place(last).line);
                failure.excerpt = excerpt(text, first);
            }
            Spot::Own(own) => {
                failure.excerpt = match own {
                    Own::Opening => "(beginning the script's transaction)",
                    Own::Restore => "(taking the owner's role again)",
                    Own::HistoryRow => "(writing the script's history row)",
                    Own::Commit => "(committing the script; deferred constraints are checked here)",
                }
                .to_owned();
            }
        }
        let is_postgresql = self.seat.dialect == Dialect::Postgresql;
        let advice = advice_for(&words, at_psql_variable && is_postgresql);
        RunFailure::Statement(Box::new(StatementFailure {
            sqlstate: (!words.sqlstate.is_empty()).then_some(words.sqlstate),
            message: words.message,
            detail: words.detail,
            hint: words.hint,
            context: words.context,
            rolled_back,
            advice: format!("{advice} {}", left_behind(rolled_back, self.seat.dialect)),
            ..failure
        }))
    }

    fn blank_failure(&self) -> StatementFailure {
        StatementFailure {
            file: self.script.path.to_owned(),
            line: None,
            column: None,
            line_last: None,
            excerpt: String::new(),
            sqlstate: None,
            message: String::new(),
            detail: None,
            hint: None,
            context: None,
            rolled_back: false,
            advice: String::new(),
        }
    }

    pub(super) async fn progress(&mut self, last: usize) {
        let script = self.script;
        let statement = &script.statements[last];
        let at = match &statement.class {
            StatementClass::CopyFromStdin { data } => data.end,
            _ => statement.end,
        };
        let total = script.text.len().max(1);
        self.observer
            .observe(RunEvent::Progress {
                file: script.path.to_owned(),
                statement: last + 1,
                statements: script.statements.len(),
                line: script.place(at).line,
                bytes: at as u64,
                bytes_total: total as u64,
                percent: u8::try_from(at * 100 / total).unwrap_or(100),
                rows: self.rows,
            })
            .await;
    }

    pub(super) async fn tell_notices(&mut self) {
        for notice in self.session.take_notices() {
            self.notices += 1;
            if self.notices <= NOTICES_MAX {
                self.say(notice).await;
            }
        }
    }

    async fn say(&mut self, message: String) {
        let file = self.script.path.to_owned();
        self.observer
            .observe(RunEvent::Notice { file, message })
            .await;
    }
}

pub(super) fn is_lost(error: &EngineError) -> bool {
    matches!(error.fault, Fault::Undetermined | Fault::Unreachable { .. })
}

fn left_behind(rolled_back: bool, dialect: Dialect) -> &'static str {
    match (rolled_back, dialect) {
        (true, _) => "The script was rolled back as a whole; the scripts before it stay.",
        (false, Dialect::Postgresql) => {
            "The script runs outside a transaction: what it did before stays, and the history marks it as failed. Undo or finish it by hand, delete its row with success = false from the history table, then run again. A failed CREATE INDEX CONCURRENTLY leaves an invalid index; drop it first."
        }
        (false, Dialect::Mysql) => {
            "What it changed before this in the schema, or in tables without transactions, stays, and the history marks it as failed. Undo or finish it by hand, delete its row with success = 0 from the history table (or run flyway repair), then run again."
        }
        (false, Dialect::Sqlite) => {
            "The script runs outside a transaction: what it did before stays, and the history marks it as failed. Undo or finish it by hand, delete its row with success = 0 from the history table (or run flyway repair), then run again."
        }
    }
}

pub(super) fn elapsed_ms(started: Instant) -> String {
    let elapsed = started.elapsed().as_millis();
    i32::try_from(elapsed).unwrap_or(i32::MAX).to_string()
}

/// The line around an offset, cut to what fits on a screen.
fn excerpt(text: &str, at: usize) -> String {
    let at = at.min(text.len());
    let line_start = text[..at].rfind('\n').map_or(0, |found| found + 1);
    let line_end = text[at..]
        .find(['\n', '\r'])
        .map_or(text.len(), |found| at + found);
    let before = text[line_start..at].chars().count();
    let skipped = before.saturating_sub(EXCERPT_CHARS / 2);
    let shown: String = text[line_start..line_end]
        .chars()
        .skip(skipped)
        .take(EXCERPT_CHARS)
        .collect();
    let cut_before = if skipped > 0 { "…" } else { "" };
    let total = text[line_start..line_end].chars().count();
    let cut_after = if skipped + EXCERPT_CHARS < total {
        "…"
    } else {
        ""
    };
    format!("{cut_before}{}{cut_after}", shown.trim_end())
}
