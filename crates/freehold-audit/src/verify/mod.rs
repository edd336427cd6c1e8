//! Checks an export offline and says where it was tampered with.
//!
//! Three nets, each catching what slips through the one before: every line must be spelled exactly
//! as the export spells it and stand in its place; every entry must have its leaf hash; the tree of
//! the leaf hashes must have the root that the next checkpoint signs. An entry that was changed is
//! found by itself. When entry *and* leaf hash were rewritten, the fault lies between two
//! checkpoints, one that holds and one that does not. Each checkpoint brings the tree's signed right
//! edge along, so the check goes on behind a damaged part and finds the next one.
//!
//! What the export alone cannot show: that it was cut off right after a checkpoint with a forged
//! end, or that whoever has the signing key rewrote it. A checkpoint that the verifier kept from
//! earlier shows both.
//!
//! The memory it needs does not grow with the log.

mod line;
mod report;

use std::io::{self, BufRead};

use crate::{
    Checkpoint, Hash, VerifyingKey,
    tree::{self, Edge},
};
use line::{Line, Lines};
pub use report::{Fault, FaultKind, KeyTrust, Report};

#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The key that the verifier trusts. Without it the export's own key is taken on first use,
    /// and the report says so.
    pub key: Option<VerifyingKey>,
    /// A checkpoint of this log that the verifier kept: finds truncation and rewriting.
    pub kept: Option<Checkpoint>,
}

/// Reads a whole export. Errors only when it cannot be read; what is wrong in it is in the report.
pub fn verify(export: impl BufRead, options: &VerifyOptions) -> io::Result<Report> {
    let mut verifier = Verifier::new(options);
    let mut lines = Lines::new(export);
    while let Some(line) = lines.next()? {
        verifier.number += 1;
        verifier.line(&line);
    }
    Ok(verifier.finish())
}

struct Verifier<'a> {
    options: &'a VerifyOptions,
    report: Report,
    /// The line at hand, from 1.
    number: u64,
    /// The index that the next entry must have.
    expected: u64,
    /// The tree of the leaf hashes so far; nothing after a gap, until a checkpoint mends it.
    tree: Option<Edge>,
    /// Entries below this stand under a signed root that holds.
    anchored: u64,
    /// Lines that could not be read since the last one that could; each may have been an entry.
    unreadable: u64,
    /// The last jump forward: which index was expected, and where its fault stands in the report.
    jump: Option<(u64, usize)>,
    /// Size of the last checkpoint that was signed.
    signed: u64,
    ended: bool,
}

impl<'a> Verifier<'a> {
    fn new(options: &'a VerifyOptions) -> Self {
        Self {
            options,
            report: Report::new(options),
            number: 0,
            expected: 0,
            tree: Some(Edge::empty()),
            anchored: 0,
            unreadable: 0,
            jump: None,
            signed: 0,
            ended: false,
        }
    }

    fn fault(&mut self, kind: FaultKind, entries: Option<(u64, u64)>, message: String) {
        let line = self.number.max(1);
        self.report.add(Fault {
            kind,
            line,
            entries,
            message,
        });
    }

    fn line(&mut self, bytes: &[u8]) {
        if self.number == 1 {
            return self.header(bytes);
        }
        if self.ended {
            let message = "a line stands after the end of the export".to_owned();
            return self.fault(FaultKind::TrailingLine, None, message);
        }
        match line::parse(bytes) {
            Line::Entry { index, leaf, entry } => self.entry(index, leaf, entry),
            Line::Checkpoint { checkpoint, peaks } => self.checkpoint(checkpoint, peaks),
            Line::End {
                entries,
                checkpoints,
            } => self.end(entries, checkpoints),
            Line::DamagedCheckpoint => {
                self.report.checkpoints += 1;
                let message = "a checkpoint is not spelled as the export spells it".to_owned();
                self.fault(FaultKind::MalformedLine, None, message);
            }
            Line::Unreadable => {
                self.unreadable += 1;
                self.tree = None;
                let message = format!(
                    "the line is not spelled as the export spells it; entry {} was expected about \
                     here",
                    self.expected
                );
                self.fault(FaultKind::MalformedLine, None, message);
            }
        }
    }

    fn header(&mut self, bytes: &[u8]) {
        let own = line::header(bytes);
        if own.is_none() {
            let message = "the first line is not the header of an audit export, or its key was \
                           changed"
                .to_owned();
            self.fault(FaultKind::Header, None, message);
        }
        if let (Some(own), Some(given)) = (&own, &self.options.key)
            && own != given
        {
            let message = format!("the export names the key {own}, you trust {given}");
            self.fault(FaultKind::WrongKey, None, message);
        }
        self.report.key = self.options.key.clone().or(own);
        let (Some(kept), Some(key)) = (&self.options.kept, &self.report.key) else {
            return;
        };
        if let Err(invalid) = kept.verify(key) {
            let message = format!("the checkpoint that you kept is not of this log: {invalid}");
            self.fault(FaultKind::KeptCheckpoint, None, message);
            self.report.kept_matches = Some(false);
        }
    }

    fn entry(&mut self, index: u64, leaf: Hash, entry: &[u8]) {
        self.place(index);
        if tree::leaf_hash(entry) != leaf {
            let message = format!("entry {index} does not have its leaf hash: it was changed");
            self.fault(FaultKind::ChangedEntry, Some((index, index)), message);
        }
        let kept_size = self.kept_size();
        let Some(tree) = &mut self.tree else { return };
        tree.append(leaf);
        if tree.size() == kept_size {
            let root = tree.root();
            self.compare_kept(kept_size, root);
        }
    }

    /// Compares an entry's index with its place.
    fn place(&mut self, index: u64) {
        let expected = self.expected;
        let jump = self.jump.take();
        let unreadable = std::mem::take(&mut self.unreadable);
        if index == expected {
            self.expected = index.saturating_add(1);
            return;
        }
        self.tree = None;
        if let Some((before, fault)) = jump
            && index == before + 1
        {
            // The entries go on as if nothing were missing: only that one line's index was changed.
            self.report.reinterpret(fault, before);
            self.expected = index.saturating_add(1);
            return;
        }
        if index < expected {
            let message = format!("entry {index} stands where entry {expected} was expected");
            return self.fault(FaultKind::MisplacedEntry, Some((index, index)), message);
        }
        self.expected = index.saturating_add(1);
        if index - expected > unreadable {
            self.missing(expected, index);
            if self.report.faults_left_out == 0 {
                self.jump = Some((expected, self.report.faults.len() - 1));
            }
        }
    }

    /// Entries `first..end` are not there.
    fn missing(&mut self, first: u64, end: u64) {
        let entries = Some((first, end - 1));
        let message = match end - first {
            1 => format!("entry {first} is missing before this line"),
            _ => format!(
                "entries {first} to {} are missing before this line",
                end - 1
            ),
        };
        self.fault(FaultKind::MissingEntries, entries, message);
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint, peaks: Vec<Hash>) {
        self.report.checkpoints += 1;
        if let Some(key) = &self.report.key
            && let Err(invalid) = checkpoint.verify(key)
        {
            let message = format!("checkpoint {} does not count: {invalid}", checkpoint.number);
            return self.fault(FaultKind::BadSignature, self.open_interval(), message);
        }
        self.checkpoint_number(checkpoint.number);
        self.checkpoint_place(&checkpoint);
        self.jump = None;
        self.unreadable = 0;
        if checkpoint.size < self.expected {
            return;
        }
        self.compare_root(&checkpoint);
        self.resume(&checkpoint, peaks);
        (self.anchored, self.signed) = (checkpoint.size, checkpoint.size);
        self.compare_kept(checkpoint.size, checkpoint.root);
        self.report.last_checkpoint = Some(checkpoint);
    }

    fn checkpoint_number(&mut self, number: u64) {
        let expected = self.report.checkpoints;
        if number == expected {
            return;
        }
        let (kind, message) = if number > expected {
            let message = format!("checkpoints {expected} to {} are missing", number - 1);
            (FaultKind::MissingCheckpoints, message)
        } else {
            let message = format!("checkpoint {number} stands where {expected} was expected");
            (FaultKind::MisplacedCheckpoint, message)
        };
        self.fault(kind, None, message);
        // A repeated checkpoint takes no number.
        self.report.checkpoints = number.max(expected - 1);
    }

    fn checkpoint_place(&mut self, checkpoint: &Checkpoint) {
        let size = checkpoint.size;
        if size < self.expected {
            let number = checkpoint.number;
            let message = format!(
                "checkpoint {number} covers {size} entries but stands behind entry {}",
                self.expected - 1
            );
            self.fault(FaultKind::MisplacedCheckpoint, None, message);
        } else if size > self.expected {
            if size - self.expected > self.unreadable {
                self.missing(self.expected, size);
            }
            self.tree = None;
            self.expected = size;
        }
    }

    /// Whether the leaf hashes up to here have the root that is signed.
    fn compare_root(&mut self, checkpoint: &Checkpoint) {
        let Some(tree) = &self.tree else { return };
        if tree.root() == checkpoint.root {
            return;
        }
        let interval = self.open_interval();
        let (first, last) = interval.unwrap_or((0, 0));
        let message = format!(
            "entries {first} to {last} are not what checkpoint {} signed on {}: at least one of \
             them was rewritten together with its leaf hash",
            checkpoint.number, checkpoint.signed_at
        );
        self.fault(FaultKind::RewrittenEntries, interval, message);
        self.tree = None;
    }

    /// The entries since the last root that holds.
    fn open_interval(&self) -> Option<(u64, u64)> {
        (self.anchored < self.expected).then(|| (self.anchored, self.expected - 1))
    }

    /// Goes on from the signed right edge.
    fn resume(&mut self, checkpoint: &Checkpoint, peaks: Vec<Hash>) {
        let edge = Edge::new(checkpoint.size, peaks);
        match edge.filter(|edge| edge.root() == checkpoint.root) {
            Some(edge) => self.tree = Some(edge),
            None => {
                let message = format!(
                    "the edge beside checkpoint {} does not hash to the signed root",
                    checkpoint.number
                );
                self.fault(FaultKind::ChangedEdge, None, message);
            }
        }
    }

    fn kept_size(&self) -> u64 {
        self.options.kept.as_ref().map_or(0, |kept| kept.size)
    }

    fn compare_kept(&mut self, size: u64, root: Hash) {
        let Some(kept) = &self.options.kept else {
            return;
        };
        if kept.size != size || self.report.kept_matches.is_some() {
            return;
        }
        let matches = kept.root == root;
        self.report.kept_matches = Some(matches);
        if !matches {
            let message = format!(
                "the first {size} entries are not those of the checkpoint that you kept: the log \
                 was rewritten after {}",
                kept.signed_at
            );
            let entries = Some((0, size.saturating_sub(1)));
            self.fault(FaultKind::KeptCheckpoint, entries, message);
        }
    }

    fn end(&mut self, entries: u64, checkpoints: u64) {
        self.ended = true;
        if entries != self.expected || checkpoints != self.report.checkpoints {
            let message = format!(
                "the end speaks of {entries} entries and {checkpoints} checkpoints, here are {} \
                 and {}",
                self.expected, self.report.checkpoints
            );
            self.fault(FaultKind::WrongEnd, None, message);
        }
    }

    fn finish(mut self) -> Report {
        if self.number == 0 {
            let message = "the export is empty: not even a header".to_owned();
            self.fault(FaultKind::Header, None, message);
        }
        if !self.ended {
            let message = format!(
                "the export was cut off: it has no end line after entry {}",
                self.expected
                    .checked_sub(1)
                    .map_or("none".to_owned(), |last| last.to_string())
            );
            self.fault(FaultKind::MissingEnd, None, message);
        }
        if self.expected > self.signed {
            let entries = Some((self.signed, self.expected - 1));
            let message = format!("entries {} and later are under no checkpoint", self.signed);
            self.fault(FaultKind::UnsignedEntries, entries, message);
        }
        self.report.entries = self.expected;
        self.finish_kept();
        self.report
    }

    fn finish_kept(&mut self) {
        let Some(kept) = &self.options.kept else {
            return;
        };
        if self.report.kept_matches.is_some() {
            return;
        }
        self.report.kept_matches = Some(false);
        let (kind, entries, message) = if self.expected < kept.size {
            let message = format!(
                "the log has {} entries, but the checkpoint that you kept signs {}: it was cut off",
                self.expected, kept.size
            );
            let entries = Some((self.expected, kept.size - 1));
            (FaultKind::Truncated, entries, message)
        } else {
            let message = "the checkpoint that you kept could not be compared, because the export \
                           is damaged about there"
                .to_owned();
            (FaultKind::KeptCheckpoint, None, message)
        };
        self.fault(kind, entries, message);
    }
}
