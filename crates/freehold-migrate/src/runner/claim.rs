//! Runs a script that no transaction holds together.
//!
//! Its history row goes first, with `success = false`, and is corrected at the end. So a runner that
//! is killed in the middle leaves a row that stops every later run until somebody has looked, instead
//! of a script that is run twice; to Flyway the row looks like its own of a failed script. The row
//! also claims the script's rank, which keeps a second runner out where there is no other lock.
//!
//! MySQL runs it with `autocommit = 0`, as Flyway does: what changes data stays open until the next
//! statement that commits by itself, and the last of it commits together with the corrected row.

use std::time::Instant;

use freehold_engine::{EngineError, Interrupted, ScriptSession};

use super::{
    event::Observer,
    execute::{Execution, elapsed_ms, is_lost},
    failure::{RunFailure, chain},
    message::{Closing, Message, bare_pieces, messages},
    run_own,
};
use crate::{Dialect, Statement, StatementClass};

/// Ends what a script of MySQL may have left: locked tables would keep us from the history.
const UNLOCK: &str = "UNLOCK TABLES";

impl<S: ScriptSession, O: Observer> Execution<'_, S, O> {
    /// False: our rank is taken, and the script did not run.
    pub(super) async fn claimed(&mut self) -> Result<bool, RunFailure> {
        let script = self.script;
        self.restore().await?;
        self.check_lock().await?;
        let started = Instant::now();
        if !self.claim().await? {
            return Ok(false);
        }
        for range in bare_pieces(script) {
            let last = range.end - 1;
            if let Err(stopped) = self.stop.check(Some(script.path)) {
                self.settle_failed(started).await;
                return Err(stopped);
            }
            let statement = &script.statements[range.start];
            if matches!(statement.class, StatementClass::CopyFromStdin { .. }) {
                if let Err(error) = self.copy(statement).await {
                    return Err(self.fail_copy(&error, statement, started).await);
                }
                self.progress(last).await;
                continue;
            }
            for message in messages(script, range) {
                let result = self.session.execute_batch(&message.text).await;
                self.tell_notices().await;
                match result {
                    Ok(done) => self.rows += done.rows,
                    Err(interrupted) => {
                        return Err(self.fail(&message, &interrupted, started).await);
                    }
                }
            }
            self.progress(last).await;
        }
        self.close(started).await?;
        Ok(true)
    }

    /// Writes the row, so that it is there before the first statement.
    async fn claim(&mut self) -> Result<bool, RunFailure> {
        if !self.begin(self.seat.dialect.opening()).await? {
            return Ok(false);
        }
        let row = self.row(false, "0");
        let claimed = self.session.execute_batch(&format!("{row};\nCOMMIT")).await;
        if let Err(interrupted) = claimed {
            let _ = self.session.execute("ROLLBACK").await;
            let is_next = self.seat.table.is_next(self.session, self.rank).await;
            return match is_next {
                Ok(false) => Ok(false),
                _ => Err(RunFailure::server(
                    "write the script's history row",
                    &interrupted.error,
                )),
            };
        }
        if self.seat.dialect == Dialect::Mysql {
            run_own(self.session, "SET autocommit = 0", "begin the script").await?;
        }
        Ok(true)
    }

    async fn close(&mut self, started: Instant) -> Result<(), RunFailure> {
        let is_mysql = self.seat.dialect == Dialect::Mysql;
        // What MySQL's script has left open is committed with the row.
        if !is_mysql && self.session.in_transaction().await.unwrap_or(false) {
            self.settle_failed(started).await;
            return Err(self.left_open());
        }
        let row = self.settling(true, started);
        let mut before = self.seat.restoring();
        if is_mysql {
            before.insert(0, UNLOCK);
        } else {
            before.push(self.seat.dialect.opening());
        }
        let closing = Closing::new(&before, &row);
        let message = Message::closing(&closing);
        if let Err(interrupted) = self.session.execute_batch(&message.text).await {
            return Err(self.fail(&message, &interrupted, started).await);
        }
        if is_mysql {
            run_own(self.session, "SET autocommit = 1", "end the script").await?;
        }
        Ok(())
    }

    async fn fail_copy(
        &mut self,
        error: &EngineError,
        statement: &Statement,
        started: Instant,
    ) -> RunFailure {
        if !is_lost(error) {
            self.settle_failed(started).await;
            return self.failure(error, false, |this, words| this.copy_spot(statement, words));
        }
        RunFailure::Undetermined {
            file: self.script.path.to_owned(),
            message: chain(error),
        }
    }

    async fn fail(
        &mut self,
        message: &Message<'_>,
        interrupted: &Interrupted,
        started: Instant,
    ) -> RunFailure {
        let error = &interrupted.error;
        if is_lost(error) {
            return RunFailure::Undetermined {
                file: self.script.path.to_owned(),
                message: chain(error),
            };
        }
        self.settle_failed(started).await;
        self.failure(error, false, |this, words| {
            message.locate(this.script, words, interrupted.completed)
        })
    }

    /// Undoes what is still open, and says in the row how long it took. The row says already that the
    /// script failed, so that failing to write here loses nothing else.
    async fn settle_failed(&mut self, started: Instant) {
        let row = self.settling(false, started);
        if let Err(error) = self.try_settle(&row).await {
            tracing::warn!(
                script = self.script.path,
                error = chain(&error),
                "the time that a failed script took could not be recorded in the history"
            );
        }
    }

    async fn try_settle(&mut self, row: &str) -> Result<(), EngineError> {
        let is_mysql = self.seat.dialect == Dialect::Mysql;
        if is_mysql || self.session.in_transaction().await.unwrap_or(false) {
            self.session.execute("ROLLBACK").await?;
        }
        for restoring in self.seat.restoring() {
            self.session.execute(restoring).await?;
        }
        if is_mysql {
            self.session.execute(UNLOCK).await?;
        }
        self.session.execute(row).await?;
        if is_mysql {
            self.session.execute("COMMIT").await?;
            self.session.execute("SET autocommit = 1").await?;
        }
        Ok(())
    }

    fn settling(&self, success: bool, started: Instant) -> String {
        let elapsed = elapsed_ms(started);
        self.seat.table.settle(self.rank, success, &elapsed)
    }
}
