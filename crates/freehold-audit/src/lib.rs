//! A transparency log: every entry stands in one Merkle tree whose head is signed.
//!
//! Whoever changes something puts an unsequenced [`Entry`] into the same batch ([`pending`]), so a
//! change and its record commit together or not at all. One leased [`Sequencer`] moves entries into
//! the log in the order in which they were committed and signs a [`Checkpoint`] of each batch.
//! Writers therefore never queue behind the tree's head. [`Log`] reads, proves and exports;
//! [`verify`] checks an export without the server, and says where it was tampered with.
//!
//! Hashing is RFC 6962's, checkpoints are C2SP signed notes, signatures are Ed25519: a third party
//! needs none of our code to check us.
//!
//! What it leaves out: rotation of the signing key, and witnesses. A log proves what was *kept*;
//! that everything was *written* follows from the batches, and that nothing was cut off only from a
//! checkpoint that somebody else keeps.

mod checkpoint;
mod collections;
mod entry;
mod export;
mod key;
mod log;
mod proof;
mod record;
mod sequencer;
mod settle;
pub mod tree;
mod verify;

pub use checkpoint::{Checkpoint, InvalidCheckpoint};
pub use collections::{collections, define};
pub use entry::{Actor, Authentication, Entry, EntryId, Outcome, pending};
pub use export::Exported;
pub use key::{InvalidKey, SigningKey, VerifyingKey};
pub use log::{Cursor, Log, LoggedEntry, Order, Page, Query};
pub use proof::{ConsistencyProof, InclusionProof, ProofError};
pub use sequencer::{Pass, Sequencer, SequencerOptions};
pub use settle::settle;
pub use tree::Hash;
pub use verify::{Fault, FaultKind, KeyTrust, Report, VerifyOptions, verify};
