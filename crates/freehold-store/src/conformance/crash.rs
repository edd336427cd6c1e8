//! The two halves of the kill test: a process that writes until it is killed, and the look at what it
//! left.
//!
//! The adapter's test starts its own binary again as a child, which calls [`write_until_killed`] and
//! writes each acknowledged number to its standard output; kills the child (or the server) with SIGKILL
//! at some moment; opens the store again and calls [`nothing_is_torn`] with the last number it read.

use std::collections::BTreeSet;

use super::{collection, index, json, key, scans::keys_of, spec};
use crate::{
    Batch, CollectionName, DeleteMode, Error, Etag, IndexValue, PutMode, Range, StoreHandle,
};

/// Records that one batch writes, in each of two collections.
const WIDTH: u64 = 10;

fn collections() -> (CollectionName, CollectionName) {
    (collection("left"), collection("right"))
}

fn batch(number: u64) -> Batch {
    let (left, right) = collections();
    let mut batch = Batch::new();
    for at in 0..WIDTH {
        let value = json(format!("{{\"n\":{number},\"one\":\"{number}/{at}\"}}"));
        batch = batch.put(&left, key(format!("{at}")), value.clone(), PutMode::Upsert);
        batch = batch.put(
            &right,
            key(format!("{number}/{at}")),
            value,
            PutMode::Create,
        );
    }
    if let Some(old) = number.checked_sub(3) {
        for at in 0..WIDTH {
            batch = batch.delete(&right, key(format!("{old}/{at}")), DeleteMode::Any);
        }
    }
    batch
}

/// Writes batches 1, 2, 3, … and reports each when the store has acknowledged it. Ends only with the
/// error of a store that is gone.
pub async fn write_until_killed(store: &StoreHandle, mut acknowledged: impl FnMut(u64)) -> Error {
    let (left, right) = collections();
    for name in [&left, &right] {
        let indexes = vec![
            index("by_n", &["/n"], false, 1),
            index("one", &["/one"], true, 1),
        ];
        if let Err(error) = store.define(spec(name, indexes)).await {
            return error;
        }
    }
    let mut number = last_written(store).await;
    loop {
        number += 1;
        if let Err(error) = store.apply(batch(number)).await {
            return error;
        }
        acknowledged(number);
    }
}

async fn last_written(store: &StoreHandle) -> u64 {
    let (left, _) = collections();
    let record = store.get(&left, &key("0")).await.unwrap();
    record.map_or(0, |record| super::number(&record.value))
}

/// Checks that every batch up to `acknowledged` is there, and that the last one there is whole, in
/// records, indexes and feed. Returns its number.
pub async fn nothing_is_torn(store: &StoreHandle, acknowledged: u64) -> u64 {
    let (left, right) = collections();
    let last = last_written(store).await;
    assert!(
        last >= acknowledged,
        "batch {acknowledged} was acknowledged, {last} is the last there"
    );
    if last == 0 {
        return 0;
    }
    let value = IndexValue::Integer(last.cast_signed());
    let of_last = Range::IndexPrefix {
        index: "by_n".to_owned(),
        values: vec![value],
    };
    let width = usize::try_from(WIDTH).unwrap();
    assert_eq!(keys_of(store, &left, Range::All, 100).await.len(), width);
    assert_eq!(
        keys_of(store, &left, of_last.clone(), 100).await.len(),
        width
    );
    assert_eq!(keys_of(store, &right, of_last, 100).await.len(), width);
    let everything = Range::IndexPrefix {
        index: "one".to_owned(),
        values: Vec::new(),
    };
    let kept = width * usize::try_from(last.min(3)).unwrap();
    assert_eq!(keys_of(store, &right, Range::All, 1000).await.len(), kept);
    assert_eq!(keys_of(store, &right, everything, 1000).await.len(), kept);
    feed_has_all_of(store, last).await;
    last
}

/// The etag of every record that is there stands in the feed, and positions have no gap.
async fn feed_has_all_of(store: &StoreHandle, last: u64) {
    let mut told: BTreeSet<String> = BTreeSet::new();
    let mut position = None;
    let mut expected = None;
    let mut puts = 0;
    loop {
        let page = store.changes(position, 1000).await.unwrap();
        if page.changes.is_empty() {
            break;
        }
        for change in &page.changes {
            let number = change.position.0;
            assert_eq!(*expected.get_or_insert(number), number, "a gap in the feed");
            expected = Some(number + 1);
            if let crate::ChangeKind::Put { etag } = &change.kind {
                puts += 1;
                told.insert(Etag::to_string(etag));
            }
        }
        position = Some(page.next);
    }
    assert_eq!(
        puts,
        last * WIDTH * 2,
        "the feed tells of every write, once"
    );
    let (left, right) = collections();
    for name in [&left, &right] {
        for text in keys_of(store, name, Range::All, 1000).await {
            let record = store.get(name, &key(text)).await.unwrap().unwrap();
            assert!(
                told.contains(&record.etag.to_string()),
                "{record:?} is not in the feed"
            );
        }
    }
}
