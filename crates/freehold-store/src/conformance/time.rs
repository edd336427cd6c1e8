//! Expiry, leases, and a clock that jumps.

use std::time::Duration;

use super::{
    BoxFuture, Subject, collection, get, index, join, key, n, number, put, put_until,
    scans::keys_of, spec,
};
use crate::{
    Batch, ChangeKind, DeleteMode, ErrorKind, IndexValue, LeaseName, Precondition, PutMode, Range,
    StoreHandle,
};

const LONG: Duration = Duration::from_secs(3600);

fn one(number: u64) -> Range {
    Range::IndexPrefix {
        index: "one".to_owned(),
        values: vec![IndexValue::Integer(number.cast_signed())],
    }
}

pub async fn an_expired_record_is_absent(subject: &dyn Subject) {
    let soon = subject.soon();
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap();
    let at = key("a");
    let end = store.now().await.unwrap() + soon;
    let etag = put_until(&store, &things, &at, n(1), end).await.unwrap();
    let record = get(&store, &things, &at).await.unwrap();
    assert_eq!(
        record.expires_at.map(|t| t.as_microsecond()),
        Some(end.as_microsecond())
    );
    assert_eq!(keys_of(&store, &things, one(1), 10).await, ["a"]);

    subject.pass(soon).await;
    assert!(store.now().await.unwrap() >= end);
    assert_eq!(get(&store, &things, &at).await, None);
    assert_eq!(keys_of(&store, &things, Range::All, 10).await, [""; 0]);
    assert_eq!(keys_of(&store, &things, one(1), 10).await, [""; 0]);
    let gone = Precondition::Absent {
        collection: things.clone(),
        key: at.clone(),
    };
    store.apply(Batch::new().require(gone)).await.unwrap();
    let there = Precondition::Unchanged {
        collection: things.clone(),
        key: at.clone(),
        etag: etag.clone(),
    };
    store.apply(Batch::new().require(there)).await.unwrap_err();
    for mode in [DeleteMode::MustExist, DeleteMode::Match(etag.clone())] {
        let error = store
            .apply(Batch::new().delete(&things, at.clone(), mode))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::VersionMismatch);
    }
    put(&store, &things, &at, n(2), PutMode::Match(etag))
        .await
        .unwrap_err();
    let etag = put(&store, &things, &at, n(2), PutMode::Create)
        .await
        .unwrap();
    assert_eq!(etag.rev(), 1);
    let record = get(&store, &things, &at).await.unwrap();
    assert_eq!(
        (record.expires_at, record.created_at),
        (None, record.updated_at)
    );
    assert!(record.created_at >= end);
    assert_eq!(keys_of(&store, &things, one(1), 10).await, [""; 0]);

    // An end that has passed already, and one that is taken away.
    put_until(&store, &things, &key("b"), n(5), end)
        .await
        .unwrap();
    assert_eq!(get(&store, &things, &key("b")).await, None);
    let end = store.now().await.unwrap() + soon;
    put_until(&store, &things, &key("c"), n(6), end)
        .await
        .unwrap();
    put(&store, &things, &key("c"), n(6), PutMode::Upsert)
        .await
        .unwrap();
    subject.pass(soon).await;
    assert_eq!(get(&store, &things, &key("c")).await.unwrap().etag.rev(), 2);
}

pub async fn an_expired_unique_value_is_free(subject: &dyn Subject) {
    let soon = subject.soon();
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap();
    let end = store.now().await.unwrap() + soon;
    put_until(&store, &things, &key("old"), n(1), end)
        .await
        .unwrap();
    put(&store, &things, &key("new"), n(1), PutMode::Create)
        .await
        .unwrap_err();
    subject.pass(soon).await;
    let begin = store.changes(None, 100).await.unwrap().next;
    put(&store, &things, &key("new"), n(1), PutMode::Create)
        .await
        .unwrap();
    assert_eq!(keys_of(&store, &things, one(1), 10).await, ["new"]);
    // The old one went in the same batch, before the new one, and cannot come back.
    let changes = store.changes(Some(begin), 100).await.unwrap().changes;
    let told: Vec<(&str, bool)> = changes
        .iter()
        .map(|c| (c.key.as_str(), c.kind == ChangeKind::Delete))
        .collect();
    assert_eq!(told, [("old", true), ("new", false)]);
    put(&store, &things, &key("old"), n(1), PutMode::Create)
        .await
        .unwrap_err();
    put(&store, &things, &key("old"), n(2), PutMode::Create)
        .await
        .unwrap();
    assert_eq!(keys_of(&store, &things, one(1), 10).await, ["new"]);
}

pub async fn purging_announces_and_counts(subject: &dyn Subject) {
    let soon = subject.soon();
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap();
    let end = store.now().await.unwrap() + soon;
    for at in 0..3 {
        put_until(&store, &things, &key(format!("{at}")), n(at), end)
            .await
            .unwrap();
    }
    put(&store, &things, &key("stays"), n(9), PutMode::Create)
        .await
        .unwrap();
    let later = end + LONG;
    put_until(&store, &things, &key("later"), n(10), later)
        .await
        .unwrap();
    assert_eq!(store.purge(LONG).await.unwrap(), 0);
    subject.pass(soon).await;
    put(&store, &things, &key("2"), n(2), PutMode::Upsert)
        .await
        .unwrap();
    let begin = store.changes(None, 100).await.unwrap().next;
    assert_eq!(store.purge(LONG).await.unwrap(), 2);
    assert_eq!(store.purge(LONG).await.unwrap(), 0);
    let changes = store.changes(Some(begin), 100).await.unwrap().changes;
    let mut told: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["0", "1"]);
    assert!(
        changes
            .iter()
            .all(|change| change.kind == ChangeKind::Delete)
    );
    assert_eq!(
        keys_of(&store, &things, Range::All, 10).await,
        ["2", "later", "stays"]
    );
}

pub async fn a_lease_is_exclusive_and_its_epoch_grows(subject: &dyn Subject) {
    let soon = subject.soon();
    let (store, other) = (subject.open().await, subject.open().await);
    let name = LeaseName::new("target/'%\0").unwrap();
    let acquire = async |store: &StoreHandle, who| store.lease_acquire(&name, who, LONG).await;
    let first = acquire(&store, "a").await.unwrap().unwrap();
    assert!(first.until > store.now().await.unwrap());
    assert_eq!(acquire(&other, "b").await.unwrap(), None);
    let renewed = store.lease_renew(&first).await.unwrap();
    assert_eq!(renewed.epoch, first.epoch);
    assert!(renewed.until >= first.until);
    // The same holder again: a new epoch, and the old one is void.
    let second = acquire(&other, "a").await.unwrap().unwrap();
    assert!(second.epoch > first.epoch);
    let error = store.lease_renew(&first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionMismatch);
    store.lease_release(&first).await.unwrap();
    assert_eq!(
        acquire(&store, "b").await.unwrap(),
        None,
        "an old epoch released the new one"
    );

    store.lease_release(&second).await.unwrap();
    store.lease_release(&second).await.unwrap();
    let third = acquire(&store, "b").await.unwrap().unwrap();
    assert!(third.epoch > second.epoch);
    store.lease_renew(&second).await.unwrap_err();
    store.lease_release(&third).await.unwrap();

    let short = store
        .lease_acquire(&name, "a", soon)
        .await
        .unwrap()
        .unwrap();
    assert!(short.epoch > third.epoch);
    subject.pass(soon + Duration::from_millis(1)).await;
    store.lease_renew(&short).await.unwrap_err();
    let last = acquire(&other, "b").await.unwrap().unwrap();
    assert!(last.epoch > short.epoch);
    for (who, ttl) in [
        ("", LONG),
        ("a", Duration::ZERO),
        ("a", Duration::MAX),
        ("a\0", LONG),
    ] {
        let error = store.lease_acquire(&name, who, ttl).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{who:?} {ttl:?}");
    }
}

/// The lease is the only thing that keeps the contenders apart: they read, then write without
/// looking at the etag. Should two ever be effective at once, a count gets lost.
pub async fn two_holders_are_never_both_effective(subject: &dyn Subject) {
    const CONTENDERS: usize = 6;
    const COUNTS: u64 = 5;
    let things = collection("things");
    let mut contenders: Vec<BoxFuture<'static, u64>> = Vec::new();
    for me in 0..CONTENDERS {
        let (store, things) = (subject.open().await, things.clone());
        contenders.push(Box::pin(contend(
            store,
            things,
            format!("holder {me}"),
            COUNTS,
        )));
    }
    let done = join(contenders).await;
    let total = get(&subject.open().await, &things, &key("count"))
        .await
        .unwrap();
    assert_eq!(number(&total.value), done.iter().sum::<u64>());
    assert_eq!(number(&total.value), CONTENDERS as u64 * COUNTS);
}

async fn contend(
    store: StoreHandle,
    things: crate::CollectionName,
    me: String,
    counts: u64,
) -> u64 {
    let name = LeaseName::new("the one").unwrap();
    let mut done = 0;
    while done < counts {
        let Some(lease) = store.lease_acquire(&name, &me, LONG).await.unwrap() else {
            tokio::task::yield_now().await;
            continue;
        };
        let before = get(&store, &things, &key("count"))
            .await
            .map_or(0, |r| number(&r.value));
        tokio::task::yield_now().await;
        let held = Precondition::LeaseHeld {
            name: name.clone(),
            epoch: lease.epoch,
        };
        let batch = Batch::new()
            .put(&things, key("count"), n(before + 1), PutMode::Upsert)
            .require(held);
        store.apply(batch).await.unwrap();
        done += 1;
        store.lease_release(&lease).await.unwrap();
    }
    done
}

/// A holder that was paused past its lease wakes up and writes.
pub async fn a_batch_under_a_lost_lease_changes_nothing(subject: &dyn Subject) {
    let soon = subject.soon();
    let (paused, other) = (subject.open().await, subject.open().await);
    let (things, name) = (collection("things"), LeaseName::new("l").unwrap());
    let write = |number, epoch| {
        let name = name.clone();
        Batch::new()
            .put(&things, key("a"), n(number), PutMode::Upsert)
            .require(Precondition::LeaseHeld { name, epoch })
    };
    let lease = paused
        .lease_acquire(&name, "paused", soon)
        .await
        .unwrap()
        .unwrap();
    paused.apply(write(1, lease.epoch)).await.unwrap();
    subject.pass(soon + Duration::from_millis(1)).await;
    // Lost by time alone, before anybody else has taken it.
    let error = paused.apply(write(2, lease.epoch)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::VersionMismatch, Some(0))
    );
    let next = other
        .lease_acquire(&name, "other", LONG)
        .await
        .unwrap()
        .unwrap();
    paused.apply(write(3, lease.epoch)).await.unwrap_err();
    other.apply(write(4, next.epoch)).await.unwrap();
    paused.apply(write(5, lease.epoch)).await.unwrap_err();
    paused.lease_release(&lease).await.unwrap();
    other.apply(write(6, next.epoch)).await.unwrap();
    let record = get(&other, &things, &key("a")).await.unwrap();
    assert_eq!((number(&record.value), record.etag.rev()), (6, 3));
}

/// Where the test rules the clock, it jumps forward over everything and back again.
pub async fn a_clock_that_jumps_breaks_no_promise(subject: &dyn Subject) {
    let soon = subject.soon();
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap();
    let name = LeaseName::new("l").unwrap();
    let end = store.now().await.unwrap() + soon;
    put_until(&store, &things, &key("old"), n(1), end)
        .await
        .unwrap();
    let first = store
        .lease_acquire(&name, "a", soon)
        .await
        .unwrap()
        .unwrap();
    let begin = store.changes(None, 100).await.unwrap().next;
    subject.pass(soon * 2).await;
    put(&store, &things, &key("new"), n(1), PutMode::Create)
        .await
        .unwrap();
    let second = store
        .lease_acquire(&name, "b", soon)
        .await
        .unwrap()
        .unwrap();
    let jumped = subject.set_clock_back(soon * 2);

    // The epoch that was overtaken stays void, though its time seems to have come again.
    let held = |epoch| Precondition::LeaseHeld {
        name: name.clone(),
        epoch,
    };
    store
        .apply(Batch::new().require(held(first.epoch)))
        .await
        .unwrap_err();
    store.lease_renew(&first).await.unwrap_err();
    store
        .apply(Batch::new().require(held(second.epoch)))
        .await
        .unwrap();
    // The unique value has one owner, and the expired record does not come back to life with it.
    assert_eq!(keys_of(&store, &things, one(1), 10).await, ["new"]);
    assert_eq!(get(&store, &things, &key("old")).await, None);
    put(&store, &things, &key("third"), n(1), PutMode::Create)
        .await
        .unwrap_err();
    // The feed goes on, and trimming it leaves no hole before the young.
    put(&store, &things, &key("new"), n(2), PutMode::Upsert)
        .await
        .unwrap();
    let told = store.changes(Some(begin), 100).await.unwrap();
    assert_eq!(told.changes.len(), 3);
    assert!(
        told.changes
            .windows(2)
            .all(|two| two[0].position < two[1].position)
    );
    store.purge(soon / 2).await.unwrap();
    match store.changes(Some(begin), 100).await {
        Ok(rest) => assert_eq!(rest, told),
        Err(error) => {
            assert!(!jumped, "a young change was trimmed");
            assert_eq!(error.kind(), ErrorKind::Compacted);
        }
    }
}
