//! Why something does not run: found before anything is sent to the server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One reason not to run, where it stands, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Flyway's error code where it has one, e.g. `CHECKSUM_MISMATCH`; ours otherwise.
    pub code: RefusalCode,
    /// Path relative to the migrations folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The version in question, as the history or the file name writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub reason: String,
    /// What to do next.
    pub advice: String,
}

/// The first block are Flyway's own codes, the second is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusalCode {
    ValidateError,
    SchemaDoesNotExist,
    FailedVersionedMigration,
    FailedRepeatableMigration,
    FailedBaselineMigration,
    AppliedVersionedMigrationNotResolved,
    AppliedRepeatableMigrationNotResolved,
    ResolvedVersionedMigrationNotApplied,
    ResolvedRepeatableMigrationNotApplied,
    OutdatedRepeatableMigration,
    TypeMismatch,
    ChecksumMismatch,
    DescriptionMismatch,
    DuplicateVersionedMigration,
    DuplicateRepeatableMigration,
    NonEmptySchemaWithoutSchemaHistoryTable,

    /// The bundle is for another engine than the database.
    OtherEngine,
    /// A file's name or place is wrong.
    InvalidName,
    /// A `.sql.conf` cannot be honoured.
    InvalidConfig,
    /// The bytes are no UTF-8 text.
    InvalidEncoding,
    /// The text cannot be cut into statements, or holds a psql command.
    InvalidScript,
    /// Transaction control that Freehold cannot honour.
    TransactionControl,
    /// Statements that need a transaction beside some that cannot run in one.
    MixedTransactions,
    /// A statement that never runs here.
    StatementRefused,
    /// A `${placeholder}`, which Flyway would replace.
    Placeholder,
    /// The history table does not look as Flyway makes it.
    InvalidHistory,
}

impl RefusalCode {
    /// The code as Flyway writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidateError => "VALIDATE_ERROR",
            Self::SchemaDoesNotExist => "SCHEMA_DOES_NOT_EXIST",
            Self::FailedVersionedMigration => "FAILED_VERSIONED_MIGRATION",
            Self::FailedRepeatableMigration => "FAILED_REPEATABLE_MIGRATION",
            Self::FailedBaselineMigration => "FAILED_BASELINE_MIGRATION",
            Self::AppliedVersionedMigrationNotResolved => {
                "APPLIED_VERSIONED_MIGRATION_NOT_RESOLVED"
            }
            Self::AppliedRepeatableMigrationNotResolved => {
                "APPLIED_REPEATABLE_MIGRATION_NOT_RESOLVED"
            }
            Self::ResolvedVersionedMigrationNotApplied => {
                "RESOLVED_VERSIONED_MIGRATION_NOT_APPLIED"
            }
            Self::ResolvedRepeatableMigrationNotApplied => {
                "RESOLVED_REPEATABLE_MIGRATION_NOT_APPLIED"
            }
            Self::OutdatedRepeatableMigration => "OUTDATED_REPEATABLE_MIGRATION",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::ChecksumMismatch => "CHECKSUM_MISMATCH",
            Self::DescriptionMismatch => "DESCRIPTION_MISMATCH",
            Self::DuplicateVersionedMigration => "DUPLICATE_VERSIONED_MIGRATION",
            Self::DuplicateRepeatableMigration => "DUPLICATE_REPEATABLE_MIGRATION",
            Self::NonEmptySchemaWithoutSchemaHistoryTable => {
                "NON_EMPTY_SCHEMA_WITHOUT_SCHEMA_HISTORY_TABLE"
            }
            Self::OtherEngine => "OTHER_ENGINE",
            Self::InvalidName => "INVALID_NAME",
            Self::InvalidConfig => "INVALID_CONFIG",
            Self::InvalidEncoding => "INVALID_ENCODING",
            Self::InvalidScript => "INVALID_SCRIPT",
            Self::TransactionControl => "TRANSACTION_CONTROL",
            Self::MixedTransactions => "MIXED_TRANSACTIONS",
            Self::StatementRefused => "STATEMENT_REFUSED",
            Self::Placeholder => "PLACEHOLDER",
            Self::InvalidHistory => "INVALID_HISTORY",
        }
    }
}

impl Refusal {
    pub(crate) fn new(
        code: RefusalCode,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            code,
            file: None,
            line: None,
            column: None,
            version: None,
            reason: reason.into(),
            advice: advice.into(),
        }
    }

    #[must_use]
    pub(crate) fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.line = Some(place.line);
        self.column = Some(place.column);
        self
    }

    #[must_use]
    pub(crate) fn of_version(mut self, version: Option<impl Into<String>>) -> Self {
        self.version = version.map(Into::into);
        self
    }
}

/// `V3__orders.sql:12:5: TRANSACTION_CONTROL: <reason>. <advice>`
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        write!(
            f,
            "{}: {}. {}",
            self.code.as_str(),
            self.reason,
            self.advice
        )
    }
}

/// A place in a file as an editor shows it: both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}
