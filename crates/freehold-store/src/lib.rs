//! Versioned JSON records behind one small interface.
//!
//! A program codes against [`Store`] (or the shared handle [`StoreHandle`]) and picks the store by
//! configuration. Every adapter gives the same promises, proven by the public `conformance` suite;
//! where stores differ, [`Capabilities`] says so as data.
//!
//! * A record is JSON kept as raw text, so integers above 2^53 survive, with an [`Etag`] that is
//!   ours: its nonce is fresh for every attempt and never repeats, not even after delete and
//!   re-create.
//! * One write primitive, [`Store::apply`]: puts, deletes and checks across collections, all or
//!   nothing. There is no read-then-write transaction to hold open.
//! * Index definitions are data in the store. A replica of yesterday's program maintains an index
//!   that it has never heard of, because it reads the definition before it writes.
//! * [`Store::changes`] delivers what was committed, in an order in which it could have been
//!   committed one at a time, without gaps for a reader that reconnects.
//! * Leases run on the store's clock and carry an epoch that only grows. A batch may demand that a
//!   lease is still held, which makes it a fence for the store's own records.
//!
//! Adapters are cargo features: `memory` (default), `sqlite`, `postgres`.

mod batch;
mod capability;
mod change;
mod collection;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod handle;
mod index;
mod lease;
#[cfg(feature = "memory")]
mod memory;
mod paging;
mod pointer;
#[cfg(feature = "postgres")]
mod postgres;
mod record;
mod scan;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod token;

pub use capability::{Capabilities, Durability};
pub use change::{Change, ChangeKind, ChangePosition, Changes};
pub use collection::{Collection, Document, Stored, StoredPage};
pub use error::{Error, ErrorKind, Result, Retry};
pub use handle::{DynStore, StoreHandle};
pub use lease::{Lease, LeaseName};
#[cfg(feature = "memory")]
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresConfig, PostgresStore, PostgresTls};
pub use record::{CollectionName, Etag, Key, Record, Value};
pub use scan::{Filter, IndexValue, Page, Range, Scan, ScanToken};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteConfig, SqliteStore};
pub use store::{
    ApplyOutcome, Batch, CollectionSpec, DeleteMode, IndexSpec, Precondition, PutMode, Store, Write,
};
