//! Whatever happens to the sequencer, each entry stands in the log once and in its order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use freehold_audit::{
    Log, Pass, Sequencer, SequencerOptions, SigningKey, VerifyOptions, settle, verify,
};
use freehold_model::{
    Clock, Gate, GateKeeper, InjectedFault, Point, SystemClock, SystemEntropy, When,
};
use freehold_store::{
    Batch, CollectionName, ErrorKind, Key, MemoryStore, PutMode, Range, Scan, SqliteStore,
    StoreHandle, Value,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tokio::sync::Notify;
use world::{
    World, entry,
    flaky::{Fate, FlakyStore},
    key, memory, record,
};

/// The subjects of all entries, in the log's order, after checking that the log is sound.
async fn logged(store: &StoreHandle) -> Vec<String> {
    let mut bytes = Vec::new();
    let log = Log::new(store.clone());
    log.export(key().verifying_key(), &mut bytes).await.unwrap();
    let options = VerifyOptions {
        key: Some(key().verifying_key().clone()),
        kept: None,
    };
    let report = verify(bytes.as_slice(), &options).unwrap();
    assert!(report.is_sound(), "{report}");
    let mut subjects = Vec::new();
    for index in 0..report.entries {
        let logged = log.get(index).await.unwrap().unwrap();
        subjects.push(logged.entry().unwrap().actor.subject);
    }
    subjects
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("s{number}")).collect()
}

/// Each a millisecond after the one before, so that their ids order as they do.
async fn record_numbered(store: &StoreHandle, from: usize, to: usize) {
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    for number in from..to {
        let mut entry = entry(&format!("s{number}"), "orders");
        entry.at = start + SignedDuration::from_millis(i64::try_from(number).unwrap());
        record(store, &entry).await;
    }
}

async fn pending(store: &StoreHandle) -> usize {
    let name = CollectionName::new("audit_pending").unwrap();
    store
        .scan(Scan::new(name, Range::All))
        .await
        .unwrap()
        .records
        .len()
}

fn sequencer(store: &StoreHandle, holder: &str, options: SequencerOptions) -> Sequencer {
    Sequencer::new(store.clone(), key(), holder, options)
}

fn short_lease() -> SequencerOptions {
    SequencerOptions {
        lease_ttl: Duration::from_millis(50),
        interval: Duration::from_millis(5),
        batch_max: 3,
        ..SequencerOptions::default()
    }
}

#[tokio::test]
async fn entries_come_in_the_order_of_their_commit_not_of_their_clocks() {
    let mut world = World::new().await;
    let start = SystemClock.now();
    for number in 0..20 {
        let mut entry = entry(&format!("s{number}"), "orders");
        // Each server's clock runs behind the one before; ids begin with the time, too.
        entry.at = start - SignedDuration::from_mins(number);
        record(&world.store, &entry).await;
    }
    assert_eq!(world.pass().await, 20);
    assert_eq!(logged(&world.store).await, numbered(20));
    assert_eq!(pending(&world.store).await, 0);
    assert_eq!(world.pass().await, 0);
}

#[tokio::test]
async fn an_entry_commits_with_its_change_or_not_at_all() {
    let mut world = World::new().await;
    let name = CollectionName::new("audit_head").unwrap();
    let refused = Batch::new().put(
        &name,
        Key::new("head").unwrap(),
        Value::encode(&0).unwrap(),
        PutMode::Match(freehold_store::Etag::new(1, [0; 16])),
    );
    let entry = entry("ana", "orders");
    let id = freehold_audit::EntryId::generate(entry.at, &SystemEntropy);
    let mut refused = refused;
    refused.writes.push(freehold_audit::pending(&entry, id));
    world.store.apply(refused).await.unwrap_err();
    assert_eq!(world.pass().await, 0);
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Applied),
        Just(Fate::RequestLost),
        Just(Fate::ReplyLost),
        Just(Fate::Late),
    ]
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Stops the sequencer at its points as told: the future ends there, as a killed process would.
#[derive(Debug)]
struct Killer(Mutex<Vec<Option<When>>>);

impl GateKeeper for Killer {
    fn reach(
        &self,
        point: Point,
    ) -> Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        let mut plan = self.0.lock().unwrap();
        let kill = match plan.last() {
            Some(Some(when)) => *when == point.when,
            _ => false,
        };
        if kill || point.when == When::After {
            plan.pop();
        }
        let fault = InjectedFault {
            what: point.what,
            when: point.when,
        };
        Box::pin(async move { if kill { Err(fault) } else { Ok(()) } })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn lost_requests_lost_replies_and_late_arrivals_change_nothing(
        fates in prop::collection::vec(fate(), 0..12),
        batch_max in 1..6usize,
    ) {
        blocking(async {
            let inner = memory();
            let flaky = FlakyStore::new(inner.clone());
            freehold_audit::define(&inner).await.unwrap();
            let options = SequencerOptions { batch_max, ..SequencerOptions::default() };
            let mut sequencer = sequencer(&StoreHandle::new(flaky.clone()), "one", options);
            let tries = fates.len() + 30;
            flaky.plan(fates);
            record_numbered(&inner, 0, 10).await;
            for number in 0..tries {
                let _ = sequencer.pass().await;
                if number == 3 {
                    record_numbered(&inner, 10, 17).await;
                }
            }
            assert_eq!(logged(&inner).await, numbered(17));
            assert_eq!(pending(&inner).await, 0);
        });
    }

    #[test]
    fn a_killed_sequencer_is_followed_by_another_without_loss(
        kills in prop::collection::vec(prop::option::of(prop_oneof![Just(When::Before), Just(When::After)]), 0..10),
    ) {
        blocking(async {
            let store = memory();
            freehold_audit::define(&store).await.unwrap();
            record_numbered(&store, 0, 12).await;
            let lives = kills.len() + 2;
            let killer = Arc::new(Killer(Mutex::new(kills)));
            for life in 0..lives {
                // Each life is a new process of the same name: it takes the lease over at once.
                let options = SequencerOptions {
                    batch_max: 2,
                    gate: Gate::kept_by(killer.clone()),
                    ..SequencerOptions::default()
                };
                let _ = sequencer(&store, "one", options).pass().await;
                record_numbered(&store, 12 + life, 13 + life).await;
            }
            let mut last = sequencer(&store, "one", SequencerOptions::default());
            last.pass().await.unwrap();
            assert_eq!(logged(&store).await, numbered(12 + lives));
        });
    }
}

/// A clock that stands until it is moved.
#[derive(Debug)]
struct Hand(Mutex<Timestamp>);

impl Hand {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new("2026-03-01T12:00:00Z".parse().unwrap())))
    }

    fn forward(&self, by: SignedDuration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Holds the sequencer back before its save until it is let go.
#[derive(Debug, Default)]
struct Holder {
    reached: Notify,
    go: Notify,
}

impl GateKeeper for Holder {
    fn reach(
        &self,
        point: Point,
    ) -> Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        Box::pin(async move {
            if point.when == When::Before {
                self.reached.notify_one();
                self.go.notified().await;
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_sequencer_that_wakes_up_after_its_lease_changes_nothing() {
    let clock = Hand::new();
    let store = StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy)));
    freehold_audit::define(&store).await.unwrap();
    record_numbered(&store, 0, 5).await;
    let holder = Arc::new(Holder::default());
    let options = SequencerOptions {
        gate: Gate::kept_by(holder.clone()),
        ..SequencerOptions::default()
    };
    let mut stopped = sequencer(&store, "one", options);
    let sleeping = tokio::spawn(async move { stopped.pass().await });
    holder.reached.notified().await;

    let mut other = sequencer(&store, "two", SequencerOptions::default());
    assert_eq!(other.pass().await.unwrap(), Pass::NotHolder);
    clock.forward(SignedDuration::from_secs(6));
    assert_eq!(other.pass().await.unwrap(), Pass::Sequenced(5));
    record_numbered(&store, 5, 6).await;

    holder.go.notify_one();
    assert_eq!(sleeping.await.unwrap().unwrap(), Pass::NotHolder);
    assert_eq!(other.pass().await.unwrap(), Pass::Sequenced(1));
    assert_eq!(logged(&store).await, numbered(6));
}

#[tokio::test]
async fn a_lapsed_lease_alone_stops_a_sequencer() {
    let clock = Hand::new();
    let store = StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy)));
    freehold_audit::define(&store).await.unwrap();
    record_numbered(&store, 0, 5).await;
    let holder = Arc::new(Holder::default());
    let options = SequencerOptions {
        gate: Gate::kept_by(holder.clone()),
        ..SequencerOptions::default()
    };
    let mut stopped = sequencer(&store, "one", options);
    let sleeping = tokio::spawn(async move { stopped.pass().await });
    holder.reached.notified().await;
    clock.forward(SignedDuration::from_secs(6));
    holder.go.notify_one();
    assert_eq!(sleeping.await.unwrap().unwrap(), Pass::NotHolder);
    assert_eq!(
        pending(&store).await,
        5,
        "nobody else has moved the head, and yet nothing was saved"
    );
}

/// Several sequencers and writers at once, each on its own handle.
async fn crowd(stores: Vec<StoreHandle>) {
    const EACH: u64 = 60;
    freehold_audit::define(&stores[0]).await.unwrap();
    let stop = Arc::new(tokio::sync::Notify::new());
    let sequencers: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(number, store)| {
            let sequencer = sequencer(store, &format!("server {number}"), short_lease());
            let stop = Arc::clone(&stop);
            tokio::spawn(async move { sequencer.run(stop.notified()).await })
        })
        .collect();
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(writer, store)| {
            let (store, written) = (store.clone(), Arc::clone(&written));
            tokio::spawn(async move {
                for number in 0..EACH {
                    record(&store, &entry(&format!("w{writer}-{number}"), "orders")).await;
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let total = usize::try_from(written.load(Ordering::Relaxed)).unwrap();
    while pending(&stores[0]).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in &sequencers {
        stop.notify_one();
    }
    for task in sequencers {
        task.await.unwrap();
    }
    let subjects = logged(&stores[0]).await;
    assert_eq!(subjects.len(), total);
    for writer in 0..stores.len() {
        let prefix = format!("w{writer}-");
        let own: Vec<u64> = subjects
            .iter()
            .filter_map(|subject| subject.strip_prefix(&prefix)?.parse().ok())
            .collect();
        assert_eq!(
            own,
            (0..EACH).collect::<Vec<_>>(),
            "in the order in which they were saved"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_share_one_log_in_memory() {
    let store = memory();
    crowd(vec![store.clone(), store.clone(), store]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_verifiable_within_about_a_second() {
    let world = World::new().await;
    let (store, log) = (world.store.clone(), world.log());
    let nudge = world.sequencer.nudge();
    let stop = Arc::new(Notify::new());
    let running = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move { world.sequencer.run(stop.notified()).await }
    });
    for number in 0..3 {
        let before = tokio::time::Instant::now();
        record(&store, &entry("ana", "orders")).await;
        if number > 0 {
            nudge.notify_one();
        }
        let proof = loop {
            match log.inclusion(number).await.unwrap() {
                Some(proof) => break proof,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        proof.verify(key().verifying_key()).unwrap();
        // Twice the promise, so that a busy machine does not fail the test.
        assert!(before.elapsed() < Duration::from_secs(2));
    }
    stop.notify_one();
    running.await.unwrap();
    let mut next = sequencer(&store, "two", SequencerOptions::default());
    assert_eq!(
        next.pass().await.unwrap(),
        Pass::Sequenced(0),
        "the lease was given back"
    );
}

#[tokio::test]
async fn another_signing_key_does_not_go_on_with_the_log() {
    let mut world = World::new().await;
    world.record_all(2).await;
    world.pass().await;
    world.record_all(1).await;
    let stranger = SigningKey::from_seed(world::ORIGIN, &[8; 32]).unwrap();
    let options = SequencerOptions::default();
    let mut other = Sequencer::new(world.store.clone(), stranger, "one", options);
    assert_eq!(other.pass().await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(
        pending(&world.store).await,
        1,
        "the entry waits for the right key"
    );
    let mut right = sequencer(&world.store, "one", SequencerOptions::default());
    assert_eq!(right.pass().await.unwrap(), Pass::Sequenced(1));
}

#[tokio::test]
async fn a_compacted_feed_loses_no_entry() {
    let flaky = FlakyStore::new(memory());
    let mut world = World::on(StoreHandle::new(flaky.clone())).await;
    world.record_all(3).await;
    world.pass().await;
    record_numbered(&world.store, 0, 4).await;
    *flaky.compacted.lock().unwrap() = 2;
    assert_eq!(world.pass().await, 4);
    assert_eq!(*flaky.compacted.lock().unwrap(), 0);
    record_numbered(&world.store, 4, 5).await;
    assert_eq!(world.pass().await, 1);
    let subjects = logged(&world.store).await;
    assert_eq!(subjects[3..], numbered(5));
}

#[tokio::test]
async fn what_the_feed_does_not_show_is_found_after_a_while() {
    let clock = Hand::new();
    let store = StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy)));
    let mut world = World::on(store).await;
    record_numbered(&world.store, 0, 3).await;
    // The first entry makes the head say that the feed was read to its end.
    let head = CollectionName::new("audit_head").unwrap();
    world.pass().await;
    record_numbered(&world.store, 3, 6).await;
    let found = world
        .store
        .get(&head, &Key::new("head").unwrap())
        .await
        .unwrap()
        .unwrap();
    let mut value: serde_json::Value = found.value.decode().unwrap();
    let end = world.store.changes(None, 1_000).await.unwrap().next;
    value["feed"] = serde_json::to_value(end).unwrap();
    let value = Value::encode(&value).unwrap();
    let batch = Batch::new().put(&head, Key::new("head").unwrap(), value, PutMode::Upsert);
    world.store.apply(batch).await.unwrap();

    let mut restarted = sequencer(&world.store, "one", SequencerOptions::default());
    assert_eq!(restarted.pass().await.unwrap(), Pass::Sequenced(0));
    clock.forward(SignedDuration::from_secs(61));
    let mut later = sequencer(&world.store, "one", SequencerOptions::default());
    assert_eq!(later.pass().await.unwrap(), Pass::Sequenced(3));
    assert_eq!(logged(&world.store).await, numbered(6));
}

#[tokio::test]
async fn whatever_is_pending_is_logged_even_if_it_is_none_of_ours() {
    let mut world = World::new().await;
    let name = CollectionName::new("audit_pending").unwrap();
    let texts = [
        "{\"a\": 9007199254740993,\n \"b\":\"\\n\"}",
        "[]",
        "\"text\"",
        "null",
    ];
    for (number, text) in texts.into_iter().enumerate() {
        let key = Key::new(format!("k{number}")).unwrap();
        let value = Value::from_text(text.to_owned()).unwrap();
        let batch = Batch::new().put(&name, key, value, PutMode::Create);
        world.store.apply(batch).await.unwrap();
    }
    assert_eq!(world.pass().await, 4);
    let bytes = world.export().await;
    let report = verify(bytes.as_slice(), &VerifyOptions::default()).unwrap();
    assert!(report.is_sound(), "{report}");
    let first = world.log().get(0).await.unwrap().unwrap();
    assert_eq!(
        first.entry.get(),
        "{\"a\": 9007199254740993,  \"b\":\"\\n\"}"
    );
}

/// Copies a store as a backup does: collection after collection, while the log goes on.
#[tokio::test]
async fn a_backup_taken_while_the_log_goes_on_is_restored_without_loss_or_double() {
    for steps in 0..5 {
        let mut world = World::with_batch_max(2).await;
        record_numbered(&world.store, 0, 7).await;
        world.pass().await;
        record_numbered(&world.store, 7, 10).await;
        let copy = memory();
        freehold_audit::define(&copy).await.unwrap();
        for (step, collection) in freehold_audit::collections().into_iter().enumerate() {
            if step == steps {
                world.pass().await;
            }
            let mut scan = Scan::new(collection.clone(), Range::All);
            scan.limit = 1_000;
            for record in world.store.scan(scan).await.unwrap().records {
                let batch =
                    Batch::new().put(&collection, record.key, record.value, PutMode::Create);
                copy.apply(batch).await.unwrap();
            }
        }
        settle(&copy).await.unwrap();
        assert_eq!(
            settle(&copy).await.unwrap(),
            0,
            "settling again changes nothing"
        );
        let mut restored = sequencer(&copy, "new", SequencerOptions::default());
        restored.pass().await.unwrap();
        record_numbered(&copy, 10, 11).await;
        restored.pass().await.unwrap();
        assert_eq!(
            logged(&copy).await,
            numbered(11),
            "backup cut at step {steps}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_share_one_log_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut stores = Vec::new();
    for _ in 0..3 {
        let store = SqliteStore::open(&path, Arc::new(SystemClock), Arc::new(SystemEntropy));
        stores.push(StoreHandle::new(store.unwrap()));
    }
    crowd(stores).await;
}
