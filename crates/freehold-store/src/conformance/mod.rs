//! What it takes to be a store: one function per promise, for every adapter.
//!
//! An adapter's crate implements [`Subject`] and calls [`run_all`] in a test. The functions panic when
//! a promise is broken. They hold the adapter to what its [`crate::Capabilities`] claim *and* to what
//! they do not: a store that does without leases must say `Unsupported`, not do something like it.
//!
//! What only the adapter's own tests can do stays there: killing its processes, filling its disk,
//! cutting its network. [`crash`] has the two halves of the kill test.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

mod claims;
mod closing;
mod concurrency;
pub mod crash;
mod documents;
mod feed;
mod indexes;
mod scans;
mod time;
mod writes;

use std::{future::Future, pin::Pin, time::Duration};

use crate::{
    Batch, CollectionName, CollectionSpec, Error, Etag, IndexSpec, Key, PutMode, Record, Result,
    StoreHandle, Value, Write,
};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One empty store under test.
pub trait Subject: Send + Sync {
    /// Opens the store once more, as another process would, as far as the adapter allows it.
    fn open(&self) -> BoxFuture<'_, StoreHandle>;

    /// Comes back when at least `time` has passed on the store's clock. A store with a test clock moves
    /// it; one with a clock of its own must wait.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()>;

    /// How long something lasts that a promise lets run out: long enough for what must happen before
    /// it does. Where the clock is real, a busy machine must be able to do that in time.
    fn soon(&self) -> Duration {
        Duration::from_millis(150)
    }

    /// Sets the store's clock back. `false` when the test does not rule that clock.
    fn set_clock_back(&self, by: Duration) -> bool;
}

/// A promise with its name.
pub struct Property {
    pub name: &'static str,
    pub check: for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, ()>,
}

macro_rules! properties {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// Every promise there is.
        pub const PROPERTIES: &[Property] = &[$(Property {
            name: stringify!($name),
            check: |subject| Box::pin($module::$name(subject)),
        }),*];
        $(pub use $module::$name;)*
    };
}

properties![
    claims::capabilities_are_what_they_say,
    claims::a_store_fit_for_the_control_plane_says_so,
    writes::each_mode_writes_or_refuses,
    writes::revisions_count_and_times_move,
    writes::a_batch_is_all_or_nothing,
    writes::refusals_come_in_one_order,
    writes::a_batch_that_is_wrong_in_itself_is_refused,
    writes::preconditions_look_at_what_is_not_written,
    writes::an_etag_never_comes_back,
    writes::values_are_kept_byte_for_byte,
    writes::a_large_batch_is_still_one_batch,
    scans::hostile_keys_are_ordinary_keys,
    scans::pages_neither_skip_nor_repeat_while_others_write,
    scans::filters_apply_before_the_limit,
    scans::a_token_continues_its_own_scan_only,
    indexes::an_index_orders_and_ranges,
    indexes::a_unique_index_admits_one,
    indexes::unique_values_change_hands_within_a_batch,
    indexes::definitions_merge_by_version,
    indexes::an_index_is_built_from_what_is_there,
    indexes::an_old_handle_maintains_an_index_it_never_heard_of,
    concurrency::no_update_is_lost_among_32_writers,
    concurrency::one_of_many_creators_wins,
    concurrency::one_of_many_takes_a_unique_value,
    concurrency::write_skew_is_refused,
    concurrency::a_read_sees_what_another_handle_was_told_is_done,
    concurrency::an_index_defined_amid_writes_misses_none,
    closing::a_store_that_is_closed_has_finished_what_it_began,
    feed::the_feed_tells_what_happened,
    feed::a_reconnecting_reader_misses_nothing_among_16_writers,
    feed::what_was_trimmed_is_said_to_be_gone,
    feed::a_position_from_another_store_is_refused,
    time::an_expired_record_is_absent,
    time::an_expired_unique_value_is_free,
    time::purging_announces_and_counts,
    time::a_lease_is_exclusive_and_its_epoch_grows,
    time::two_holders_are_never_both_effective,
    time::a_batch_under_a_lost_lease_changes_nothing,
    time::a_clock_that_jumps_breaks_no_promise,
    documents::a_document_is_upgraded_when_it_is_read,
    documents::the_previous_version_reads_and_writes_beside_the_new_one,
    documents::a_document_that_cannot_be_read_says_why,
    documents::concurrent_updates_of_a_document_all_count,
];

/// Runs every property on a fresh store of its own.
pub async fn run_all<S: Subject, F: Future<Output = S>>(fresh: impl Fn() -> F) {
    for property in PROPERTIES {
        tracing::info!(property = property.name, "checking");
        let subject = fresh().await;
        (property.check)(&subject).await;
    }
}

// The vocabulary of the properties.

fn collection(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn key(text: impl Into<String>) -> Key {
    Key::new(text).unwrap()
}

fn json(text: impl Into<String>) -> Value {
    Value::from_text(text.into()).unwrap()
}

fn number(value: &Value) -> u64 {
    value.decode::<serde_json::Value>().unwrap()["n"]
        .as_u64()
        .unwrap()
}

fn n(number: u64) -> Value {
    json(format!("{{\"n\":{number}}}"))
}

fn index(name: &str, fields: &[&str], unique: bool, version: u32) -> IndexSpec {
    IndexSpec {
        name: name.to_owned(),
        fields: fields.iter().map(|&field| field.to_owned()).collect(),
        unique,
        version,
    }
}

fn spec(name: &CollectionName, indexes: Vec<IndexSpec>) -> CollectionSpec {
    CollectionSpec {
        name: name.clone(),
        indexes,
    }
}

async fn put(
    store: &StoreHandle,
    collection: &CollectionName,
    at: &Key,
    value: Value,
    mode: PutMode,
) -> Result<Etag> {
    let batch = Batch::new().put(collection, at.clone(), value, mode);
    let outcome = store.apply(batch).await?;
    Ok(outcome.etags[0].clone().unwrap())
}

async fn put_until(
    store: &StoreHandle,
    collection: &CollectionName,
    at: &Key,
    value: Value,
    expires_at: jiff::Timestamp,
) -> Result<Etag> {
    let write = Write::Put {
        collection: collection.clone(),
        key: at.clone(),
        value,
        mode: PutMode::Upsert,
        expires_at: Some(expires_at),
    };
    let batch = Batch {
        preconditions: Vec::new(),
        writes: vec![write],
    };
    Ok(store.apply(batch).await?.etags[0].clone().unwrap())
}

async fn get(store: &StoreHandle, collection: &CollectionName, at: &Key) -> Option<Record> {
    store.get(collection, at).await.unwrap()
}

/// Waits for tasks and hands on their panics.
async fn join<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Conflicts are somebody else's success; under load a store may ask for patience.
fn is_passing(error: &Error) -> bool {
    error.is_conflict() || error.kind() == crate::ErrorKind::Throttled
}
