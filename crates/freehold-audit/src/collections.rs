//! The collections that the log is kept in, and the shape of their records.

use freehold_store::{CollectionName, CollectionSpec, IndexSpec, Key, Result, StoreHandle};

/// Entries that wait for the sequencer; key: entry id.
pub(crate) fn pending() -> CollectionName {
    name("audit_pending")
}

/// The log; key: index in 20 digits.
pub(crate) fn log() -> CollectionName {
    name("audit_log")
}

/// One signed checkpoint per batch; key: number in 20 digits.
pub(crate) fn checkpoints() -> CollectionName {
    name("audit_checkpoints")
}

/// One record: how far the log is and where its tree stands.
pub(crate) fn head() -> CollectionName {
    name("audit_head")
}

pub(crate) fn head_key() -> Key {
    Key::new("head").expect("a literal key")
}

/// The key of an index or of a checkpoint's number. Twenty digits hold every u64, so that keys
/// order as numbers do.
pub(crate) fn numbered(number: u64) -> Key {
    Key::new(format!("{number:020}")).expect("twenty digits are a key")
}

fn name(text: &str) -> CollectionName {
    CollectionName::new(text).expect("a literal collection name")
}

/// The log's collections, in the order in which a backup must copy them while the log goes on: what
/// the head covers is then in the log, and what it does not cover is pending or comes later in the
/// log. [`crate::settle`] puts a restored copy in order.
pub fn collections() -> Vec<CollectionName> {
    vec![head(), pending(), log(), checkpoints()]
}

/// Makes sure that the log's collections and indexes exist. Call it once at start, before anything
/// is recorded.
pub async fn define(store: &StoreHandle) -> Result<()> {
    for name in [pending(), checkpoints(), head()] {
        let indexes = Vec::new();
        store.define(CollectionSpec { name, indexes }).await?;
    }
    let name = log();
    let indexes = log_indexes();
    store.define(CollectionSpec { name, indexes }).await
}

/// All but the first end in `/order`, the negated index: ascending scans then give the newest entry
/// first.
fn log_indexes() -> Vec<IndexSpec> {
    [
        ("by_index", &["/index"] as &[&str]),
        ("by_time", &["/time", "/order"]),
        ("by_actor", &["/entry/actor/subject", "/order"]),
        ("by_action", &["/entry/action", "/order"]),
        ("by_team", &["/entry/team", "/order"]),
        ("by_target", &["/target", "/order"]),
    ]
    .into_iter()
    .map(|(name, fields)| IndexSpec {
        name: name.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        unique: false,
        version: 1,
    })
    .collect()
}
