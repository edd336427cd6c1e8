//! The change feed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Subject, collection, get, join, key, n, put, put_until};
use crate::{
    Batch, Change, ChangeKind, ChangePosition, CollectionName, DeleteMode, ErrorKind, Precondition,
    PutMode, Range, Scan, StoreHandle,
};

pub async fn the_feed_tells_what_happened(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    let nothing = store.changes(None, 10).await.unwrap();
    assert!(nothing.changes.is_empty());
    let a = put(&store, &things, &key("a"), n(1), PutMode::Create)
        .await
        .unwrap();
    let two = Batch::new()
        .put(&collection("others"), key("b"), n(1), PutMode::Upsert)
        .delete(&things, key("a"), DeleteMode::Any)
        .delete(&things, key("never"), DeleteMode::Any);
    let b = store.apply(two).await.unwrap().etags[0].clone().unwrap();
    put(&store, &things, &key("a"), n(1), PutMode::Match(a.clone()))
        .await
        .unwrap_err();

    let all = store.changes(Some(nothing.next), 10).await.unwrap();
    let told: Vec<(&str, &str, ChangeKind)> = all
        .changes
        .iter()
        .map(|c| (c.collection.as_str(), c.key.as_str(), c.kind.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("things", "a", ChangeKind::Put { etag: a }),
            ("others", "b", ChangeKind::Put { etag: b }),
            ("things", "a", ChangeKind::Delete),
        ]
    );
    assert_eq!(store.changes(None, 10).await.unwrap(), all);
    let first = store.changes(Some(nothing.next), 1).await.unwrap();
    assert_eq!(
        (&first.changes[..], first.next),
        (&all.changes[..1], all.changes[0].position)
    );
    let rest = store.changes(Some(first.next), 10).await.unwrap();
    assert_eq!(
        (&rest.changes[..], rest.next),
        (&all.changes[1..], all.next)
    );
    let end = store.changes(Some(all.next), 10).await.unwrap();
    assert_eq!((end.changes.len(), end.next), (0, all.next));
}

const WRITERS: usize = 16;
const ROUNDS: u64 = 15;

pub async fn a_reconnecting_reader_misses_nothing_among_16_writers(subject: &dyn Subject) {
    let things = collection("things");
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(subject.open().await);
    }
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|me| write(stores[me % 4].clone(), things.clone(), me));
    let writing = async {
        join(writers).await;
        done.store(true, Ordering::Relaxed);
    };
    let (told, ()) = futures::join!(follow(subject, &done), writing);

    for (at, change) in told.iter().enumerate() {
        assert_eq!(
            change.position.0,
            told[0].position.0 + at as u64,
            "a gap in positions"
        );
    }
    check_each_key(&told);
    check_causes(&told);
    // What the feed says last about each key is what is there.
    let mut last: HashMap<&str, &ChangeKind> = HashMap::new();
    for change in &told {
        last.insert(change.key.as_str(), &change.kind);
    }
    let store = subject.open().await;
    for (text, kind) in &last {
        let there = get(&store, &things, &key(*text))
            .await
            .map(|record| record.etag);
        let said = match kind {
            ChangeKind::Put { etag } => Some((*etag).clone()),
            ChangeKind::Delete => None,
        };
        assert_eq!(there, said, "{text}");
    }
    let mut scan = Scan::new(things, Range::All);
    scan.limit = 1000;
    let page = store.scan(scan).await.unwrap();
    let told_of = |record: &crate::Record| last.contains_key(record.key.as_str());
    assert!(page.records.iter().all(told_of));
}

/// Each round: first a record of its own, then another that demands it unchanged, both after each
/// other; and a record that all writers share, created, rewritten and deleted.
async fn write(store: StoreHandle, things: CollectionName, me: usize) {
    let (cause, effect) = (
        key(format!("{me:02}/cause")),
        key(format!("{me:02}/effect")),
    );
    let neighbour = key(format!("{:02}/effect", (me + 1) % WRITERS));
    for round in 0..ROUNDS {
        let etag = put(&store, &things, &cause, n(round), PutMode::Upsert)
            .await
            .unwrap();
        let batch = Batch::new()
            .put(&things, effect.clone(), n(round), PutMode::Upsert)
            .require(Precondition::Unchanged {
                collection: things.clone(),
                key: cause.clone(),
                etag,
            });
        store.apply(batch).await.unwrap();
        let shared = key(format!("shared/{}", round % 3));
        let batch = match (me as u64 + round) % 4 {
            0 => Batch::new().delete(&things, shared, DeleteMode::Any),
            _ => Batch::new().put(&things, shared, n(round), PutMode::Upsert),
        };
        // Large and small transactions commit out of the order in which they began.
        let batch = match (me as u64 + round) % 5 {
            0 => (0..20).fold(batch, |batch, at| {
                batch.put(
                    &things,
                    key(format!("{me:02}/bulk/{at}")),
                    n(round),
                    PutMode::Upsert,
                )
            }),
            1 => match get(&store, &things, &neighbour).await {
                Some(record) => batch.require(Precondition::Unchanged {
                    collection: things.clone(),
                    key: neighbour.clone(),
                    etag: record.etag,
                }),
                None => batch,
            },
            _ => batch,
        };
        if let Err(error) = store.apply(batch).await {
            assert!(error.is_conflict(), "{error:?}");
        }
    }
}

/// Reads in small pieces, each few with a new handle, until the writers are done and nothing is left.
async fn follow(subject: &dyn Subject, done: &AtomicBool) -> Vec<Change> {
    let (mut told, mut position): (Vec<Change>, Option<ChangePosition>) = (Vec::new(), None);
    let mut reads = 0usize;
    loop {
        let finished = done.load(Ordering::Relaxed);
        let store = subject.open().await;
        for _ in 0..5 {
            reads += 1;
            let limit = 1 + reads * 7 % 40;
            let changes = store.changes(position, limit).await.unwrap();
            assert!(changes.changes.len() <= limit);
            let empty = changes.changes.is_empty();
            position = Some(changes.next);
            told.extend(changes.changes);
            if empty && finished {
                return told;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Per key, revisions come one after the other, from one after each deletion.
fn check_each_key(told: &[Change]) {
    let mut revs: HashMap<&str, u64> = HashMap::new();
    for change in told {
        let rev = revs.entry(change.key.as_str()).or_default();
        match &change.kind {
            ChangeKind::Put { etag } => {
                assert_eq!(etag.rev(), *rev + 1, "{change:?}");
                *rev += 1;
            }
            ChangeKind::Delete => {
                assert!(*rev > 0, "a deletion of what was not there: {change:?}");
                *rev = 0;
            }
        }
    }
}

/// An effect stands after its cause and before the next cause.
fn check_causes(told: &[Change]) {
    let mut counts: HashMap<(&str, &str), u64> = HashMap::new();
    for change in told {
        let Some((writer, what @ ("cause" | "effect"))) = change.key.as_str().split_once('/')
        else {
            continue;
        };
        *counts.entry((writer, what)).or_default() += 1;
        let (cause, effect) = (
            counts.get(&(writer, "cause")).copied().unwrap_or(0),
            counts.get(&(writer, "effect")).copied().unwrap_or(0),
        );
        assert!(cause == effect || cause == effect + 1, "{change:?}");
    }
    assert_eq!(counts.len(), 2 * WRITERS);
    assert!(counts.values().all(|count| *count == ROUNDS), "{counts:?}");
}

pub async fn what_was_trimmed_is_said_to_be_gone(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    for at in 0..5 {
        put(
            &store,
            &things,
            &key(format!("{at}")),
            n(at),
            PutMode::Create,
        )
        .await
        .unwrap();
    }
    let five = store.changes(None, 10).await.unwrap();
    // Young changes stay.
    store.purge(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(store.changes(None, 10).await.unwrap(), five);
    subject.pass(Duration::from_millis(20)).await;
    store.purge(Duration::from_millis(10)).await.unwrap();
    let error = store
        .changes(Some(five.changes[2].position), 10)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted);
    // Who had read everything goes on; who begins anew begins after what is gone.
    for after in [None, Some(five.next)] {
        let nothing = store.changes(after, 10).await.unwrap();
        assert_eq!((nothing.changes.len(), nothing.next), (0, five.next));
    }
    put(&store, &things, &key("0"), n(9), PutMode::Upsert)
        .await
        .unwrap();
    let next = store.changes(Some(five.next), 10).await.unwrap();
    assert_eq!(next.changes.len(), 1);
    assert!(next.next > five.next, "positions never start again");
    // Records are not changes: they are all still there.
    assert!(get(&store, &things, &key("4")).await.is_some());
}

pub async fn a_position_from_another_store_is_refused(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    let at = key("a");
    let later = store.now().await.unwrap() + Duration::from_secs(60);
    put_until(&store, &things, &at, n(1), later).await.unwrap();
    let end = store.changes(None, 10).await.unwrap().next;
    for ahead in [end.0 + 1, u64::MAX] {
        let error = store
            .changes(Some(ChangePosition(ahead)), 10)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    }
}
