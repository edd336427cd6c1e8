//! One script: its text cut into statements, and how it must be run.
//!
//! Everything that can be known without a server is decided here, before anything runs: whether the
//! bytes are text, where each statement stands, whether the script runs inside one transaction (the
//! rule) or outside (when all its statements demand it, or its `.conf` says so), and what is refused.
//!
//! A script may carry its own `BEGIN … COMMIT` when the pair encloses all of it: the runner then
//! takes that opening for its own transaction, which also holds the history row. Any other
//! transaction control would tear the script from its history row and is refused. In MySQL's dialect
//! a script with a statement that commits by itself runs outside a transaction, and may then control
//! its own.

mod config;
pub(crate) mod place;
pub(crate) mod placeholder;
mod statement;

pub use config::ScriptConfig;
pub use statement::{SplitError, Statement, StatementClass, TransactionControl, split};

use crate::{Dialect, Place, Refusal, RefusalCode, ScriptKind, ScriptName, checksum};
use place::Lines;

/// A script that may run.
#[derive(Debug, Clone)]
pub struct Script<'a> {
    pub dialect: Dialect,
    /// Path relative to the folder, `/` separated: the history table's `script`.
    pub path: &'a str,
    pub name: ScriptName,
    pub text: &'a str,
    pub checksum: i32,
    /// The statements to send. A script's own `BEGIN … COMMIT` pair is not among them.
    pub statements: Vec<Statement>,
    pub mode: Mode,
    /// What runs, but not everywhere as one might think.
    pub warnings: Vec<Warning>,
    lines: Lines,
}

/// How a script runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// In one transaction together with its history row, opened with these words.
    Transaction { opening: String },
    /// Statement by statement, and what ran stays. The history row is written first, as failed, and
    /// corrected afterwards, so that a runner that dies in between leaves a trace.
    Bare,
}

/// Something worth saying about a statement that runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Warning {
    pub file: String,
    pub place: Place,
    pub message: String,
}

impl<'a> Script<'a> {
    /// Reads a script's bytes, in which no placeholder is replaced.
    ///
    /// # Errors
    /// Every reason why the script cannot run, each with its place.
    pub fn load(
        dialect: Dialect,
        path: &'a str,
        name: &ScriptName,
        bytes: &'a [u8],
        config: ScriptConfig,
    ) -> Result<Self, Vec<Refusal>> {
        let text = decode(bytes).map_err(|refusal| vec![refusal.in_file(path)])?;
        Self::of_text(dialect, path, name, text, config)
    }

    /// Cuts a script's text, with its placeholders replaced.
    pub(crate) fn of_text(
        dialect: Dialect,
        path: &'a str,
        name: &ScriptName,
        text: &'a str,
        config: ScriptConfig,
    ) -> Result<Self, Vec<Refusal>> {
        let lines = Lines::of(text);
        let at = |offset: usize, code, reason: &str, advice: &str| {
            Refusal::new(code, reason, advice)
                .in_file(path)
                .at(lines.place(text, offset))
                .of_version(name.version().map(ToString::to_string))
        };
        let statements = split(dialect, text).map_err(|error| {
            vec![at(
                error.at,
                RefusalCode::InvalidScript,
                &error.reason,
                &error.advice,
            )]
        })?;
        let mut script = Self {
            dialect,
            path,
            name: name.clone(),
            text,
            checksum: checksum(text),
            statements,
            mode: Mode::Bare,
            warnings: Vec::new(),
            lines,
        };
        script.decide(config)?;
        Ok(script)
    }

    pub(crate) fn is_repeatable(&self) -> bool {
        self.name.kind == ScriptKind::Repeatable
    }

    /// Where a byte offset stands in the file.
    pub fn place(&self, at: usize) -> Place {
        self.lines.place(self.text, at)
    }

    fn decide(&mut self, config: ScriptConfig) -> Result<(), Vec<Refusal>> {
        let mut refusals: Vec<Refusal> = self
            .statements
            .iter()
            .filter_map(|statement| match statement.class {
                StatementClass::Refused { reason, advice } => {
                    Some(self.refuse(statement, RefusalCode::StatementRefused, reason, advice))
                }
                _ => None,
            })
            .collect();
        self.warnings = self
            .statements
            .iter()
            .filter_map(|statement| self.warn(statement))
            .collect();
        let all = 0..self.statements.len();
        let decided = match config.execute_in_transaction {
            Some(false) => Ok((Mode::Bare, all)),
            None if self.is_bare() || config.mixed && self.is_mixed() => Ok((Mode::Bare, all)),
            Some(true) if self.commits_by_itself() => {
                self.warnings.extend(self.warn_of_commits());
                Ok((Mode::Bare, all))
            }
            Some(true) | None => self.in_transaction(),
        };
        match decided {
            Ok((mode, kept)) if refusals.is_empty() => {
                self.mode = mode;
                self.statements.truncate(kept.end);
                self.statements.drain(..kept.start);
                Ok(())
            }
            Ok(_) => Err(refusals),
            Err(more) => {
                refusals.extend(more);
                Err(refusals)
            }
        }
    }

    /// Whether no transaction could hold the script together. MySQL does not refuse such a statement
    /// inside a transaction, it ends the transaction.
    fn commits_by_itself(&self) -> bool {
        self.dialect == Dialect::Mysql
            && self
                .statements
                .iter()
                .any(|statement| matches!(statement.class, StatementClass::NonTransactional { .. }))
    }

    /// Whether some statement cannot run in a transaction.
    fn is_mixed(&self) -> bool {
        let is_non = |statement: &Statement| {
            matches!(statement.class, StatementClass::NonTransactional { .. })
        };
        self.statements.iter().any(is_non)
    }

    /// Whether every statement that decides must run outside a transaction, and there is one.
    fn is_bare(&self) -> bool {
        if self.dialect == Dialect::Mysql {
            return self.commits_by_itself();
        }
        let mut deciding = self
            .statements
            .iter()
            .filter(|statement| statement.class != StatementClass::Setting)
            .peekable();
        deciding.peek().is_some()
            && deciding
                .all(|statement| matches!(statement.class, StatementClass::NonTransactional { .. }))
    }

    fn in_transaction(&self) -> Result<(Mode, std::ops::Range<usize>), Vec<Refusal>> {
        let mut refusals = Vec::new();
        let enclosed = self.enclosing_pair();
        for (index, statement) in self.statements.iter().enumerate() {
            if let StatementClass::NonTransactional { what, .. } = statement.class {
                refusals.push(self.refuse(
                    statement,
                    RefusalCode::MixedTransactions,
                    &format!("{what} cannot run in a transaction, and other statements of the script need one"),
                    "Move it to a script of its own, or say executeInTransaction=false in the script's .sql.conf.",
                ));
            }
            let is_pair = enclosed.is_some() && (index == 0 || index + 1 == self.statements.len());
            if is_pair {
                continue;
            }
            if let Some(reason) = torn_by(&statement.class) {
                refusals.push(self.refuse(
                    statement,
                    RefusalCode::TransactionControl,
                    reason,
                    "Remove it: every script runs in a transaction of its own, together with its history row. Only one BEGIN … COMMIT around the whole script may stay. To run outside a transaction, say executeInTransaction=false in the script's .sql.conf.",
                ));
            }
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        Ok(match enclosed {
            None => (
                Mode::Transaction {
                    opening: self.dialect.opening().to_owned(),
                },
                0..self.statements.len(),
            ),
            Some(opening) => (Mode::Transaction { opening }, 1..self.statements.len() - 1),
        })
    }

    /// The opening's own words, when the script is one `BEGIN … COMMIT` from end to end.
    fn enclosing_pair(&self) -> Option<String> {
        let (first, last) = (self.statements.first()?, self.statements.last()?);
        let opens = StatementClass::Transaction(TransactionControl::Begin { read_only: false });
        let closes = StatementClass::Transaction(TransactionControl::Commit);
        (first.class == opens && last.class == closes)
            .then(|| self.dialect.opening_of(&self.text[first.range()]))
    }

    /// Whether a script after this one could find something of it in the session: settings, prepared
    /// statements, temporary tables, variables. Only statements that surely leave nothing are none.
    pub(crate) fn leaves_traces(&self) -> bool {
        self.statements.iter().any(|statement| {
            let leaves = !matches!(
                statement.class,
                StatementClass::Ordinary
                    | StatementClass::NonTransactional { .. }
                    | StatementClass::Transaction(
                        TransactionControl::Begin { .. }
                            | TransactionControl::Commit
                            | TransactionControl::Rollback
                            | TransactionControl::Savepoint
                    )
            );
            let may_leave = matches!(
                statement.class,
                StatementClass::NonTransactional {
                    what: "CALL"
                        | "EXECUTE"
                        | "LOCK TABLES"
                        | "a compound statement"
                        | "PRAGMA foreign_keys",
                    ..
                }
            );
            // An at sign is a variable where it stands outside strings.
            let has_variable = self.dialect == Dialect::Mysql
                && self.text.as_bytes()[statement.range()].contains(&b'@');
            leaves || may_leave || has_variable
        })
    }

    fn refuse(
        &self,
        statement: &Statement,
        code: RefusalCode,
        reason: &str,
        advice: &str,
    ) -> Refusal {
        Refusal::new(code, reason, advice)
            .in_file(self.path)
            .at(self.place(statement.start))
            .of_version(self.name.version().map(ToString::to_string))
    }

    fn warn_of_commits(&self) -> Option<Warning> {
        let statement = self
            .statements
            .iter()
            .find(|statement| matches!(statement.class, StatementClass::NonTransactional { .. }))?;
        let StatementClass::NonTransactional { what, .. } = statement.class else {
            return None;
        };
        Some(Warning {
            file: self.path.to_owned(),
            place: self.place(statement.start),
            message: format!(
                "{what} commits whatever transaction it runs in, so the script cannot be undone although its .sql.conf says executeInTransaction=true"
            ),
        })
    }

    fn warn(&self, statement: &Statement) -> Option<Warning> {
        let message = match statement.class {
            StatementClass::RoleChange => {
                "what this script makes after the change of role belongs to that role; the next script starts with the database's owner again".to_owned()
            }
            StatementClass::NonTransactional {
                what,
                flyway_knows: false,
            } => format!(
                "Flyway does not know that {what} cannot run in a transaction; to run this script with Flyway too, say executeInTransaction=false in its .sql.conf"
            ),
            _ => return None,
        };
        Some(Warning {
            file: self.path.to_owned(),
            place: self.place(statement.start),
            message,
        })
    }
}

/// Why a statement would tear the script from its history row.
fn torn_by(class: &StatementClass) -> Option<&'static str> {
    let StatementClass::Transaction(control) = class else {
        return None;
    };
    Some(match control {
        TransactionControl::Savepoint => return None,
        TransactionControl::Begin { read_only: true } => {
            "a read-only transaction cannot hold the script's history row"
        }
        TransactionControl::Begin { .. } => {
            "this BEGIN and its end do not enclose the whole script"
        }
        TransactionControl::Commit => {
            "this COMMIT does not stand at the end of a script that starts with BEGIN"
        }
        TransactionControl::Rollback => {
            "this ROLLBACK would undo the script and leave it marked as done"
        }
        TransactionControl::Chain => "AND CHAIN ends the script's transaction in its middle",
        TransactionControl::PrepareTransaction => {
            "PREPARE TRANSACTION takes the transaction away from the session"
        }
        TransactionControl::Autocommit => {
            "SET autocommit begins or ends the transaction that the script runs in"
        }
    })
}

pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Refusal> {
    let refuse = |at: usize, reason: String, advice: &str| {
        let valid = String::from_utf8_lossy(&bytes[..at]);
        let place = Lines::of(&valid).place(&valid, valid.len());
        Err(Refusal::new(RefusalCode::InvalidEncoding, reason, advice).at(place))
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return refuse(0, "the file is UTF-16".to_owned(), "Save it as UTF-8.");
    }
    match std::str::from_utf8(bytes) {
        Err(error) => refuse(
            error.valid_up_to(),
            format!("the byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]),
            "Save the file as UTF-8; Latin-1 and Windows-1252 text must be converted.",
        ),
        Ok(text) => match bytes.iter().position(|&byte| byte == 0) {
            Some(at) => refuse(
                at,
                "there is a NUL byte, which no SQL text can hold".to_owned(),
                "Remove it; the file may be binary or UTF-16.",
            ),
            None => Ok(text),
        },
    }
}
