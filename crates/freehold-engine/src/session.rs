//! One pinned connection of one login, for scripts.

use std::{future::Future, pin::Pin};

use crate::{EngineError, Result};

/// A connection that runs scripts: what a statement does to the session (settings, temporary
/// tables, transactions) stays for the next one.
pub trait ScriptSession: Send {
    /// A handle that can cancel the running statement from elsewhere.
    fn canceller(&self) -> SessionCanceller;

    /// Runs one statement. Its result rows are counted and thrown away.
    fn execute(&mut self, statement: &str) -> impl Future<Output = Result<Executed>> + Send;

    /// Runs several statements, separated by semicolons, in one message: they stop at the first that
    /// fails, and its position counts from the start of the text.
    ///
    /// A driver that sees each statement's completion says how many were done; this body does not.
    fn execute_batch(
        &mut self,
        statements: &str,
    ) -> impl Future<Output = Result<Executed, Interrupted>> + Send {
        async move {
            self.execute(statements).await.map_err(|error| Interrupted {
                completed: None,
                error,
            })
        }
    }

    /// Runs `COPY … FROM STDIN` with the given data.
    fn copy_in(
        &mut self,
        statement: &str,
        data: CopySource<'_>,
    ) -> impl Future<Output = Result<Executed>> + Send;

    /// Runs one statement with text parameters and returns its rows as text, `None` for NULL.
    fn query(
        &mut self,
        statement: &str,
        parameters: &[Option<&str>],
    ) -> impl Future<Output = Result<Vec<Vec<Option<String>>>>> + Send;

    /// Whether a transaction is open on the session: the server's own word.
    fn in_transaction(&mut self) -> impl Future<Output = Result<bool>> + Send;

    /// Notices since the last call, oldest first.
    fn take_notices(&mut self) -> Vec<String>;

    /// Puts role, settings and temporary objects back to what a new session has.
    fn reset(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// The data of a COPY block, as it stands in the script, without the closing `\.`.
#[derive(Debug, Clone, Copy)]
pub struct CopySource<'a>(pub &'a str);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Executed {
    /// Rows that the server says were affected or returned.
    pub rows: u64,
}

/// Why a batch of statements stopped, and how far it had come.
#[derive(Debug)]
pub struct Interrupted {
    /// Statements that ran to their end before the one that failed, where the driver counted them.
    /// It names the statement when the server's error carries no position, e.g. a violated constraint.
    pub completed: Option<u64>,
    pub error: EngineError,
}

/// Cancels whatever the session is running.
#[derive(Clone)]
pub struct SessionCanceller(pub std::sync::Arc<dyn Fn() -> Cancelling + Send + Sync>);

/// A cancellation under way.
pub type Cancelling = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
