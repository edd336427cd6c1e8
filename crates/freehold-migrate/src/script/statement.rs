//! What one statement of a script is, as far as the runner must know.
//!
//! How a text becomes statements is its dialect's matter.

use std::ops::Range;

use crate::Dialect;

/// One statement: where it stands and what it asks of the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Byte offset of its first token in the script's text.
    pub start: usize,
    /// Byte offset after its last token, the closing semicolon not included.
    pub end: usize,
    pub class: StatementClass,
}

impl Statement {
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// Why a text cannot be cut into statements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SplitError {
    /// Byte offset where the trouble begins.
    pub at: usize,
    pub reason: String,
    pub advice: String,
}

/// The statements of a script, in order. Positions are byte offsets into `text`.
///
/// # Errors
/// A construct that is not closed, data without its end, or a command of the product's own client.
pub fn split(dialect: Dialect, text: &str) -> Result<Vec<Statement>, SplitError> {
    dialect.split(text)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementClass {
    /// Runs inside a transaction as well as outside.
    Ordinary,
    /// A setting or a look: does not decide whether a script is transactional. `SET`, `RESET`, `SHOW`.
    Setting,
    /// Changes the role the script runs as.
    RoleChange,
    /// `PREPARE name …`: leaves something in the session that a later script could trip over.
    Prepare,
    /// Makes a temporary object, which stays until the session ends.
    Temporary,
    /// `COPY … FROM STDIN`; the data's byte range, without the line `\.`.
    CopyFromStdin { data: Range<usize> },
    /// Begins, ends or marks a transaction.
    Transaction(TransactionControl),
    /// The server refuses it inside a transaction, or commits the transaction because of it.
    /// `flyway_knows` is false where Flyway would send it in one all the same.
    NonTransactional {
        what: &'static str,
        flyway_knows: bool,
    },
    /// Never runs here.
    Refused {
        reason: &'static str,
        advice: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionControl {
    /// `BEGIN` or `START TRANSACTION`.
    Begin { read_only: bool },
    /// `COMMIT` or `END`.
    Commit,
    /// `ROLLBACK` or `ABORT` of the whole transaction.
    Rollback,
    /// `… AND CHAIN`: ends one transaction and begins the next.
    Chain,
    /// `PREPARE TRANSACTION`.
    PrepareTransaction,
    /// `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`: harmless inside one transaction.
    Savepoint,
    /// `SET autocommit`: begins or ends one, as MySQL has it.
    Autocommit,
}
