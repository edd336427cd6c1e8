//! Checks an export offline and says where it was tampered with.

use std::{fmt, io::BufRead};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Checkpoint, VerifyingKey};

#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The key that the verifier trusts. Without it the export's own key is taken on first use,
    /// and the report says so.
    pub key: Option<VerifyingKey>,
    /// A checkpoint of this log that the verifier kept: finds truncation and rewriting.
    pub kept: Option<Checkpoint>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub key: Option<VerifyingKey>,
    pub key_trust: KeyTrust,
    pub entries: u64,
    pub checkpoints: u64,
    pub last_checkpoint: Option<Checkpoint>,
    pub faults: Vec<Fault>,
    /// Faults beyond those that are listed.
    pub faults_left_out: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyTrust {
    /// The verifier gave the key.
    Given,
    /// The verifier's kept checkpoint is signed by the export's key.
    KeptCheckpoint,
    /// Taken from the export itself: proves that the export fits together, not who made it.
    FirstUse,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    pub kind: FaultKind,
    /// Line of the export, from 1.
    pub line: u64,
    /// First and last entry that may be affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<(u64, u64)>,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultKind {
    Placeholder,
}

impl Report {
    /// Nothing wrong was found.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// When the last signed checkpoint was made.
    pub fn signed_at(&self) -> Option<Timestamp> {
        self.last_checkpoint.as_ref().map(|last| last.signed_at)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

/// Reads a whole export. Errors only when it cannot be read; what is wrong in it is in the report.
pub fn verify(_export: impl BufRead, _options: &VerifyOptions) -> std::io::Result<Report> {
    unimplemented!()
}
