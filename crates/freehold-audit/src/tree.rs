//! The Merkle tree of RFC 6962: hashes, the right edge, proofs. Pure.
//!
//! A tree of `size` leaves is never held. Appending needs only its right edge, the roots of the
//! complete subtrees from left to right (one per set bit of the size). Each leaf that completes
//! subtrees hands their roots out once, to be stored beside it; afterwards every proof is a handful
//! of look-ups.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// A SHA-256 hash; in JSON and in print base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::from_base64(text.as_bytes()).ok_or("not a SHA-256 hash in base64")
    }
}

impl Hash {
    /// Strict: only the one text that encodes the hash is taken.
    pub fn from_base64(text: &[u8]) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Hash(hash)
}

/// The hash of one entry.
pub fn leaf_hash(data: &[u8]) -> Hash {
    sha256(&[&[0], data])
}

/// The hash of two subtrees side by side.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], &left.0, &right.0])
}

/// The root of no leaves at all.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// The right edge of a tree: the roots of its complete subtrees, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EdgeRecord", into = "EdgeRecord")]
pub struct Edge {
    size: u64,
    peaks: Vec<Hash>,
}

#[derive(Serialize, Deserialize)]
struct EdgeRecord {
    size: u64,
    peaks: Vec<Hash>,
}

impl From<Edge> for EdgeRecord {
    fn from(edge: Edge) -> Self {
        Self {
            size: edge.size,
            peaks: edge.peaks,
        }
    }
}

impl TryFrom<EdgeRecord> for Edge {
    type Error = &'static str;
    fn try_from(record: EdgeRecord) -> Result<Self, Self::Error> {
        Self::new(record.size, record.peaks).ok_or("a tree's edge has one hash per bit of its size")
    }
}

impl Edge {
    pub fn empty() -> Self {
        Self {
            size: 0,
            peaks: Vec::new(),
        }
    }

    /// `None` when the number of peaks does not fit the size.
    pub fn new(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() as u64 == u64::from(size.count_ones())).then_some(Self { size, peaks })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf. Returns the roots of the subtrees that it completes, smallest (two leaves)
    /// first; on average one.
    pub fn append(&mut self, leaf: Hash) -> Vec<Hash> {
        let mut completed = Vec::with_capacity(self.size.trailing_ones() as usize);
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak per bit of the size");
            hash = node_hash(&left, &hash);
            completed.push(hash);
        }
        self.peaks.push(hash);
        self.size += 1;
        completed
    }

    pub fn root(&self) -> Hash {
        fold_right(&self.peaks).unwrap_or_else(empty_root)
    }
}

/// The hash over neighbouring subtrees, largest first.
pub(crate) fn fold_right(peaks: &[Hash]) -> Option<Hash> {
    peaks
        .iter()
        .rev()
        .copied()
        .reduce(|right, left| node_hash(&left, &right))
}

/// A complete subtree: `1 << level` leaves that end with the leaf `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) level: u32,
    pub(crate) last: u64,
}

/// The leaves `first..end`, as a proof's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    first: u64,
    end: u64,
}

impl Span {
    fn len(self) -> u64 {
        self.end - self.first
    }

    /// Left and right part as RFC 6962 divides them: the left is the largest power of two that is
    /// smaller than the whole.
    fn split(self) -> (Self, Self) {
        let left = largest_power_below(self.len());
        let middle = self.first + left;
        let (first, end) = (self.first, self.end);
        (Self { first, end: middle }, Self { first: middle, end })
    }

    /// The complete subtrees that it is made of, largest first.
    pub(crate) fn nodes(self) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut first = self.first;
        while first < self.end {
            let level = (self.end - first).ilog2();
            first += 1 << level;
            nodes.push(Node {
                level,
                last: first - 1,
            });
        }
        nodes
    }
}

fn largest_power_below(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The spans whose hashes prove that leaf `index` is in a tree of `size`; `index < size`.
pub(crate) fn inclusion_spans(index: u64, size: u64) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut span = Span {
        first: 0,
        end: size,
    };
    while span.len() > 1 {
        let (left, right) = span.split();
        if index < left.end {
            spans.push(right);
            span = left;
        } else {
            spans.push(left);
            span = right;
        }
    }
    spans.reverse();
    spans
}

/// The spans whose hashes prove that a tree of `from` is the beginning of one of `to`;
/// `0 < from <= to`.
pub(crate) fn consistency_spans(from: u64, to: u64) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut span = Span { first: 0, end: to };
    let mut whole = true;
    while span.end != from {
        let (left, right) = span.split();
        if from <= left.end {
            spans.push(right);
            span = left;
        } else {
            spans.push(left);
            span = right;
            whole = false;
        }
    }
    if !whole {
        spans.push(span);
    }
    spans.reverse();
    spans
}

/// The root that leaf `index` and a proof's path give for a tree of `size`; `None` when the path
/// has the wrong length. The proof holds when this is the signed root (RFC 9162, 2.1.3.2).
pub fn root_from_inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut root = leaf;
    for hash in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node_hash(hash, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node_hash(&root, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

/// The roots of both trees that a consistency proof gives, older first; `None` when the path has the
/// wrong length. The proof holds when these are the two signed roots (RFC 9162, 2.1.4.2).
pub fn roots_from_consistency(
    from: u64,
    to: u64,
    from_root: Hash,
    path: &[Hash],
) -> Option<(Hash, Hash)> {
    if from == 0 || from > to {
        return None;
    }
    if from == to {
        return path.is_empty().then_some((from_root, from_root));
    }
    let with_root: Vec<Hash>;
    let path = if from.is_power_of_two() {
        with_root = std::iter::once(from_root)
            .chain(path.iter().copied())
            .collect();
        &with_root
    } else {
        path
    };
    let (first, rest) = path.split_first()?;
    let (mut at, mut last) = (from - 1, to - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut older, mut newer) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            older = node_hash(hash, &older);
            newer = node_hash(hash, &newer);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            newer = node_hash(&newer, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some((older, newer))
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
