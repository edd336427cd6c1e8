//! The lines of an export. Each has exactly one spelling: what differs from it by a byte is damaged.

use std::io::{self, BufRead, Read as _};

use serde::Deserialize;

use crate::{
    Checkpoint, Hash, VerifyingKey,
    export::{checkpoint_line, end_line, entry_prefix, header_line},
};

/// Longest line that is read; the longest honest one is far shorter.
const BYTES_MAX: u64 = 16 << 20;

/// The lines of a reader, with their line feeds, at most [`BYTES_MAX`] of each.
pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        let line = Vec::new();
        Self { reader, line }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.line.clear();
        self.read_part()?;
        if self.line.is_empty() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        // The rest of an overlong line is skipped; cut short as it is, it counts as damaged.
        let mut complete = line.len() < BYTES_MAX as usize || line.ends_with(b"\n");
        while !complete {
            self.line.clear();
            self.read_part()?;
            complete = self.line.is_empty() || self.line.ends_with(b"\n");
        }
        Ok(Some(line))
    }

    fn read_part(&mut self) -> io::Result<()> {
        let mut limited = self.reader.by_ref().take(BYTES_MAX);
        limited.read_until(b'\n', &mut self.line).map(drop)
    }
}

pub(super) enum Line<'a> {
    Entry {
        index: u64,
        leaf: Hash,
        entry: &'a [u8],
    },
    Checkpoint {
        checkpoint: Checkpoint,
        peaks: Vec<Hash>,
    },
    End {
        entries: u64,
        checkpoints: u64,
    },
    DamagedCheckpoint,
    Unreadable,
}

pub(super) fn parse(line: &[u8]) -> Line<'_> {
    if line.starts_with(b"{\"checkpoint\":") {
        checkpoint(line).unwrap_or(Line::DamagedCheckpoint)
    } else {
        entry(line)
            .or_else(|| end(line))
            .unwrap_or(Line::Unreadable)
    }
}

fn entry(line: &[u8]) -> Option<Line<'_>> {
    let digits = line.strip_prefix(b"{\"index\":")?;
    let digits = &digits[..digits.iter().position(|byte| !byte.is_ascii_digit())?];
    let index = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let leaf = line.get(entry_prefix(index, "").len() - LEAF_TO_ENTRY..)?;
    let leaf = Hash::from_base64(leaf.get(..44)?)?;
    let entry = line
        .strip_prefix(entry_prefix(index, &leaf.to_string()).as_bytes())?
        .strip_suffix(b"}\n")?;
    Some(Line::Entry { index, leaf, entry })
}

/// The length of what stands between the leaf hash and the entry.
const LEAF_TO_ENTRY: usize = "\",\"entry\":".len();

fn checkpoint(line: &[u8]) -> Option<Line<'_>> {
    #[derive(Deserialize)]
    struct Shape {
        checkpoint: Checkpoint,
        edge: Vec<Hash>,
    }
    let shape: Shape = serde_json::from_slice(line).ok()?;
    let same = checkpoint_line(&shape.checkpoint, &shape.edge).as_bytes() == line;
    same.then_some(Line::Checkpoint {
        checkpoint: shape.checkpoint,
        peaks: shape.edge,
    })
}

fn end(line: &[u8]) -> Option<Line<'_>> {
    #[derive(Deserialize)]
    struct Shape {
        end: Counts,
    }
    #[derive(Deserialize)]
    struct Counts {
        entries: u64,
        checkpoints: u64,
    }
    let Counts {
        entries,
        checkpoints,
    } = serde_json::from_slice::<Shape>(line).ok()?.end;
    let same = end_line(entries, checkpoints).as_bytes() == line;
    same.then_some(Line::End {
        entries,
        checkpoints,
    })
}

/// The key of a header, if it is one.
pub(super) fn header(line: &[u8]) -> Option<VerifyingKey> {
    #[derive(Deserialize)]
    struct Shape {
        key: VerifyingKey,
    }
    let key = serde_json::from_slice::<Shape>(line).ok()?.key;
    (header_line(&key).as_bytes() == line).then_some(key)
}
