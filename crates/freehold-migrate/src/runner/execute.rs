//! Runs one script and records it.
//!
//! In a transaction, everything commits or nothing: the script's statements and its history row. So a
//! killed runner, a lost reply or a failing statement leaves either the whole script with its row or
//! no trace. Outside a transaction the row comes afterwards; a failure is recorded with
//! `success = false`, as Flyway does, and stops every later run until somebody has looked.

use std::time::Instant;

use freehold_engine::{CopySource, EngineError, Executed, Fault, ScriptSession, StatementError};

use super::{
    Seat, Stop,
    event::{Observer, RunEvent},
    failure::{RunFailure, StatementFailure, advice_for, chain, server_words},
    history_table::NewRow,
    lock,
    message::{Message, Own, Piece, Spot, pieces},
    run_own,
};
use crate::{Mode, Script, Statement, StatementClass};

/// More notices than this of one script are only counted.
const NOTICES_MAX: usize = 100;
const EXCERPT_CHARS: usize = 160;
/// How a transaction is opened that the script does not open itself.
const PLAIN_OPENING: &str = "BEGIN";

/// One script on its way.
pub(super) struct Execution<'r, 'b, S, O> {
    pub(super) session: &'r mut S,
    pub(super) seat: &'r Seat,
    pub(super) stop: &'r Stop,
    pub(super) observer: &'r mut O,
    pub(super) script: &'r Script<'b>,
    /// What puts the session back to what a new one has, before the script.
    pub(super) reset: &'r [String],
    pub(super) rank: i32,
    pub(super) rows: u64,
    pub(super) notices: usize,
}

impl<S: ScriptSession, O: Observer> Execution<'_, '_, S, O> {
    pub(super) async fn run(mut self) -> Result<u64, RunFailure> {
        match &self.script.mode {
            Mode::Transaction { opening } => self.in_transaction(opening).await?,
            Mode::Bare => self.bare().await?,
        }
        if self.notices > NOTICES_MAX {
            let more = self.notices - NOTICES_MAX;
            self.say(format!("… and {more} more notices")).await;
        }
        Ok(self.rows)
    }

    async fn in_transaction(&mut self, opening: &str) -> Result<(), RunFailure> {
        let script = self.script;
        // The script's own time, by the server's clock; the transaction began with it.
        let row = self.row(
            true,
            "LEAST(EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()) * 1000, 2147483647)::int",
        );
        // The script may have changed its role in ways that its text does not show.
        let closing = format!(
            "RESET SESSION AUTHORIZATION;\n{};\n{row};\nCOMMIT",
            self.seat.role
        );
        let pieces = pieces(script);
        if matches!(pieces.as_slice(), [] | [Piece::Batch(_)]) {
            // The reset goes with the script: a round trip less, and it is in the transaction. An
            // opening that sets an isolation level must be the first statement, so there it goes ahead.
            let mut lead: Vec<&str> = Vec::new();
            if opening == PLAIN_OPENING {
                lead.extend(self.reset.iter().map(String::as_str));
            } else {
                self.restore().await?;
            }
            lead.push(opening);
            return self.send(Message::whole(script, &lead, &closing)).await;
        }
        self.restore().await?;
        self.send(Message::opening(opening)).await?;
        for piece in pieces {
            let last = match piece {
                Piece::Batch(range) => {
                    let last = range.end - 1;
                    self.send(Message::plain(script, range)).await?;
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
        self.send(Message::closing(&closing)).await
    }

    /// Puts the session back in a message of its own.
    async fn restore(&mut self) -> Result<(), RunFailure> {
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
                self.rows += done.rows;
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

    async fn copy(&mut self, statement: &Statement) -> Result<(), EngineError> {
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
        self.failure(&error, true, locate)
    }

    /// Statement by statement, outside a transaction.
    async fn bare(&mut self) -> Result<(), RunFailure> {
        let script = self.script;
        self.restore().await?;
        if !lock::is_held(self.session, self.seat.lock_id).await? {
            return Err(RunFailure::Server {
                doing: format!("run {} outside a transaction", script.path),
                message: "a script before it gave up the migration lock (pg_advisory_unlock_all?), so another migration may be running; run again".to_owned(),
            });
        }
        let started = Instant::now();
        for (index, statement) in script.statements.iter().enumerate() {
            self.stop.check(Some(script.path))?;
            let text = &script.text[statement.range()];
            let done = match statement.class {
                StatementClass::CopyFromStdin { .. } => self.copy(statement).await,
                _ => self
                    .session
                    .execute(text)
                    .await
                    .map(|done| self.rows += done.rows),
            };
            self.tell_notices().await;
            if let Err(error) = done {
                return Err(self.fail_bare(&error, statement, started).await);
            }
            self.progress(index).await;
        }
        self.close_bare(started).await
    }

    async fn close_bare(&mut self, started: Instant) -> Result<(), RunFailure> {
        let left_open = self.session.in_transaction().await.unwrap_or(false);
        if left_open {
            let _ = self.session.execute("ROLLBACK").await;
            self.record_failure(started).await;
            return Err(RunFailure::Statement(Box::new(StatementFailure {
                excerpt: String::new(),
                message: "the script ends inside a transaction that it began".to_owned(),
                rolled_back: false,
                advice: format!("Add the missing COMMIT. {}", left_behind(false)),
                ..self.blank_failure()
            })));
        }
        self.seat.take_role(self.session).await?;
        let row = self.row(true, &elapsed_ms(started));
        self.session.execute(&row).await.map(drop).map_err(|error| {
            if is_lost(&error) {
                return RunFailure::Undetermined {
                    file: self.script.path.to_owned(),
                    message: chain(&error),
                };
            }
            self.failure(&error, false, |_, _| Spot::Own(Own::HistoryRow))
        })
    }

    async fn fail_bare(
        &mut self,
        error: &EngineError,
        statement: &Statement,
        started: Instant,
    ) -> RunFailure {
        if is_lost(error) {
            return RunFailure::Undetermined {
                file: self.script.path.to_owned(),
                message: chain(error),
            };
        }
        if self.session.in_transaction().await.unwrap_or(false) {
            let _ = self.session.execute("ROLLBACK").await;
        }
        self.record_failure(started).await;
        self.failure(error, false, |this, words| {
            if matches!(statement.class, StatementClass::CopyFromStdin { .. }) {
                return this.copy_spot(statement, words);
            }
            let script = this.script;
            let text = &script.text[statement.range()];
            let inside = words.position.map_or(0, |position| {
                crate::script::place::byte_offset(text, position)
            });
            Spot::At(statement.start + inside)
        })
    }

    /// The row that stops later runs until somebody has looked.
    async fn record_failure(&mut self, started: Instant) {
        if self.seat.take_role(self.session).await.is_ok() {
            let row = self.row(false, &elapsed_ms(started));
            if let Err(error) = self.session.execute(&row).await {
                tracing::warn!(
                    script = self.script.path,
                    error = chain(&error),
                    "a failed script could not be recorded in the history"
                );
            }
        }
    }

    fn row(&self, success: bool, execution_time: &str) -> String {
        let row = NewRow {
            rank: self.rank,
            installed_by: &self.seat.installed_by,
            success,
            execution_time,
        };
        self.seat.table.insert(self.script, &row)
    }

    /// The server says which line of the data it did not like.
    fn copy_spot(&self, statement: &Statement, words: &StatementError) -> Spot {
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

    fn failure(
        &self,
        error: &EngineError,
        rolled_back: bool,
        locate: impl FnOnce(&Self, &StatementError) -> Spot,
    ) -> RunFailure {
        let words = server_words(error);
        if words.sqlstate == "57014" && self.stop.is_stopped() {
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
        let advice = advice_for(&words, at_psql_variable);
        RunFailure::Statement(Box::new(StatementFailure {
            sqlstate: (!words.sqlstate.is_empty()).then_some(words.sqlstate),
            message: words.message,
            detail: words.detail,
            hint: words.hint,
            context: words.context,
            rolled_back,
            advice: format!("{advice} {}", left_behind(rolled_back)),
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

    async fn progress(&mut self, last: usize) {
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

    async fn tell_notices(&mut self) {
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

fn is_lost(error: &EngineError) -> bool {
    matches!(error.fault, Fault::Undetermined | Fault::Unreachable { .. })
}

fn left_behind(rolled_back: bool) -> &'static str {
    if rolled_back {
        "The script was rolled back as a whole; the scripts before it stay."
    } else {
        "The script runs outside a transaction: what it did before stays, and the history marks it as failed. Undo or finish it by hand, delete its row with success = false from the history table, then run again. A failed CREATE INDEX CONCURRENTLY leaves an invalid index; drop it first."
    }
}

fn elapsed_ms(started: Instant) -> String {
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
