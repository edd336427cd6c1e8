//! What a verification found.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::VerifyOptions;
use crate::{Checkpoint, VerifyingKey};

/// Faults that are listed; the rest is counted.
const FAULTS_MAX: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The key that signatures were checked with; absent when there was none.
    pub key: Option<VerifyingKey>,
    pub key_trust: KeyTrust,
    /// Entries up to the highest index.
    pub entries: u64,
    pub checkpoints: u64,
    /// The last one with a valid signature: keep its note, and verify against it next time.
    pub last_checkpoint: Option<Checkpoint>,
    /// Whether the kept checkpoint is one of this log; absent when none was given.
    pub kept_matches: Option<bool>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<(u64, u64)>,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultKind {
    /// The first line is damaged or missing.
    Header,
    /// The export names another key than the one that is trusted.
    WrongKey,
    /// A line is not spelled as the export spells it.
    MalformedLine,
    /// An entry does not have its leaf hash.
    ChangedEntry,
    MissingEntries,
    /// An entry is repeated or out of order.
    MisplacedEntry,
    /// Entries of an interval were rewritten together with their leaf hashes.
    RewrittenEntries,
    /// A checkpoint was not signed by the log's key.
    BadSignature,
    MissingCheckpoints,
    MisplacedCheckpoint,
    /// The tree's edge beside a checkpoint is not the signed one.
    ChangedEdge,
    /// Entries stand behind the last checkpoint.
    UnsignedEntries,
    /// The export ends without its end line.
    MissingEnd,
    /// The end line counts otherwise.
    WrongEnd,
    TrailingLine,
    /// The log is shorter than the checkpoint that was kept.
    Truncated,
    /// The log is not that of the checkpoint that was kept.
    KeptCheckpoint,
}

impl Report {
    pub(super) fn new(options: &VerifyOptions) -> Self {
        let key_trust = match (&options.key, &options.kept) {
            (Some(_), _) => KeyTrust::Given,
            (None, Some(_)) => KeyTrust::KeptCheckpoint,
            (None, None) => KeyTrust::FirstUse,
        };
        Self {
            key: None,
            key_trust,
            entries: 0,
            checkpoints: 0,
            last_checkpoint: None,
            kept_matches: None,
            faults: Vec::new(),
            faults_left_out: 0,
        }
    }

    /// Nothing wrong was found.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// When the last signed checkpoint was made.
    pub fn signed_at(&self) -> Option<Timestamp> {
        self.last_checkpoint.as_ref().map(|last| last.signed_at)
    }

    pub(super) fn add(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_left_out += 1;
        }
    }

    /// What looked like a gap is one line whose index was changed.
    pub(super) fn reinterpret(&mut self, fault: usize, index: u64) {
        if let Some(fault) = self.faults.get_mut(fault) {
            fault.kind = FaultKind::MalformedLine;
            fault.entries = Some((index, index));
            fault.message = format!("the index of entry {index} was changed");
        }
    }
}

/// For a person: the verdict, what it rests on, and what to do.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, checkpoints) = (self.entries, self.checkpoints);
        if self.is_sound() {
            writeln!(
                f,
                "The log is sound: {entries} entries under {checkpoints} checkpoints."
            )?;
        } else {
            let faults = self.faults.len() as u64 + self.faults_left_out;
            let noun = if faults == 1 { "fault" } else { "faults" };
            writeln!(f, "The log was tampered with or damaged: {faults} {noun}.")?;
            for fault in &self.faults {
                writeln!(f, "  line {}: {}", fault.line, fault.message)?;
            }
            if self.faults_left_out > 0 {
                writeln!(f, "  … and {} more", self.faults_left_out)?;
            }
        }
        if let Some(last) = &self.last_checkpoint {
            let (size, at) = (last.size, last.signed_at);
            writeln!(f, "Last valid checkpoint: {size} entries, signed {at}.")?;
        }
        self.write_trust(f)
    }
}

impl Report {
    fn write_trust(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key, self.key_trust) {
            (None, _) => writeln!(f, "Signatures were not checked: the export names no key.")?,
            (Some(key), KeyTrust::Given) => writeln!(f, "Key: {key} (the one you trust).")?,
            (Some(key), KeyTrust::KeptCheckpoint) => {
                writeln!(f, "Key: {key} (named by the export).")?;
            }
            (Some(key), KeyTrust::FirstUse) => writeln!(
                f,
                "Key: {key} (taken from the export: compare it with the one that the log's owner \
                 published, and give it next time)."
            )?,
        }
        match self.kept_matches {
            Some(true) => writeln!(f, "It continues the checkpoint that you kept."),
            Some(false) => Ok(()),
            None => writeln!(
                f,
                "Without a checkpoint that you kept, entries cut off the end cannot be noticed: \
                 keep the last one."
            ),
        }
    }
}
