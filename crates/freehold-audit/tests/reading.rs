//! Listing and proving.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use freehold_audit::{
    Actor, Cursor, Entry, InclusionProof, Log, Order, Outcome, Query, SigningKey, pending,
};
use freehold_model::{Code, SystemEntropy};
use freehold_store::{Batch, ErrorKind};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use world::{World, entry, key, name};

fn start() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// What a test knows of an entry: actor, action, target, minute.
type Fact = (usize, usize, usize, i64);

const ACTORS: [&str; 3] = ["ana", "ben", "cy"];
const ACTIONS: [&str; 2] = ["database.apply", "binding.read"];
/// What a query may ask for: an action, or a family of them.
const ASKED: [&str; 4] = ["database.apply", "binding.read", "database.", "binding."];
const TARGETS: [&str; 3] = ["orders", "stock", "users"];

fn entry_of((actor, action, target, minute): Fact) -> Entry {
    let mut entry = entry(ACTORS[actor], TARGETS[target]);
    entry.action = ACTIONS[action].to_owned();
    entry.at = start() + SignedDuration::from_mins(minute);
    if let Some(target) = &mut entry.target {
        target.team = Some(name(if actor == 0 { "shop" } else { "pay" }));
    }
    entry.team = entry.target.as_ref().and_then(|target| target.team.clone());
    entry
}

async fn log_of(facts: &[Fact]) -> Log {
    let mut world = World::new().await;
    for fact in facts {
        world::record(&world.store, &entry_of(*fact)).await;
    }
    world.pass().await;
    world.log()
}

/// All pages of a listing.
async fn listed(log: &Log, query: &Query) -> Vec<u64> {
    let mut query = query.clone();
    let mut indexes = Vec::new();
    loop {
        let page = log.list(query.clone()).await.unwrap();
        assert!(page.entries.len() <= query.limit.max(1));
        indexes.extend(page.entries.iter().map(|entry| entry.index));
        match page.next {
            None => return indexes,
            Some(next) => query.after = Some(next),
        }
    }
}

fn query() -> impl Strategy<Value = Query> {
    let actor = prop::option::of(0..ACTORS.len());
    let action = prop::option::of(0..ASKED.len());
    let target = prop::option::of((0..2usize, 0..TARGETS.len()));
    let team = prop::option::of(prop_oneof![Just("shop"), Just("pay"), Just("none")]);
    let minute = prop::option::of(-2..60i64);
    (
        actor,
        action,
        target,
        team,
        minute.clone(),
        minute,
        any::<bool>(),
        1..7usize,
    )
        .prop_map(
            |(actor, action, target, team, since, until, oldest, limit)| Query {
                actor: actor.map(|actor| ACTORS[actor].to_owned()),
                action: action.map(|action| ASKED[action].to_owned()),
                team: team.map(name),
                target: target.and_then(|(actor, target)| entry_of((actor, 0, target, 0)).target),
                since: since.map(|minute| start() + SignedDuration::from_mins(minute)),
                until: until.map(|minute| start() + SignedDuration::from_mins(minute)),
                order: if oldest {
                    Order::OldestFirst
                } else {
                    Order::NewestFirst
                },
                limit,
                after: None,
            },
        )
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = (
        0..ACTORS.len(),
        0..ACTIONS.len(),
        0..TARGETS.len(),
        0..55i64,
    );
    prop::collection::vec(fact, 0..40)
}

fn matches(query: &Query, entry: &Entry) -> bool {
    query
        .actor
        .as_ref()
        .is_none_or(|actor| *actor == entry.actor.subject)
        && query.action.as_ref().is_none_or(|asked| {
            *asked == entry.action || (asked.ends_with('.') && entry.action.starts_with(asked))
        })
        && query
            .team
            .as_ref()
            .is_none_or(|team| Some(team) == entry.team.as_ref())
        && query
            .target
            .as_ref()
            .is_none_or(|target| Some(target) == entry.target.as_ref())
        && query.since.is_none_or(|since| entry.at >= since)
        && query.until.is_none_or(|until| entry.at < until)
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_listing_gives_what_matches_once_and_in_order(facts in facts(), query in query()) {
        blocking(async {
            let log = log_of(&facts).await;
            let mut expected: Vec<(Timestamp, u64)> = Vec::new();
            for (index, fact) in facts.iter().enumerate() {
                let entry = entry_of(*fact);
                if matches(&query, &entry) {
                    expected.push((entry.at, index as u64));
                }
            }
            let by_time_alone = query.order == Order::NewestFirst
                && (query.since.is_some() || query.until.is_some())
                && query.actor.is_none() && query.action.is_none()
                && query.team.is_none() && query.target.is_none();
            if by_time_alone {
                expected.sort();
            }
            if query.order == Order::NewestFirst {
                expected.reverse();
            }
            let expected: Vec<u64> = expected.into_iter().map(|(_, index)| index).collect();
            assert_eq!(listed(&log, &query).await, expected, "{query:?}");
        });
    }
}

#[tokio::test]
async fn pages_are_stable_while_entries_are_added() {
    let mut world = World::new().await;
    world.record_all(10).await;
    world.pass().await;
    let mut query = Query {
        limit: 4,
        ..Query::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = world.log().list(query.clone()).await.unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.index));
        world.record_all(3).await;
        world.pass().await;
        match page.next {
            None => break,
            Some(next) => query.after = Some(next),
        }
    }
    assert_eq!(seen, (0..10).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused() {
    let world = World::new().await;
    for text in ["", "x", "-1", "1.x", "99999999999999999999999"] {
        let query = Query {
            after: Some(Cursor(text.to_owned())),
            ..Query::default()
        };
        let error = world.log().list(query).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text:?}");
    }
}

#[tokio::test]
async fn every_entry_is_provable_and_no_other_text_is() {
    let mut world = World::with_batch_max(4).await;
    world.record_all(37).await;
    world.pass().await;
    let (log, stranger) = (
        world.log(),
        SigningKey::from_seed(world::ORIGIN, &[9; 32]).unwrap(),
    );
    assert!(log.inclusion(37).await.unwrap().is_none());
    for index in 0..37 {
        let proof = log.inclusion(index).await.unwrap().unwrap();
        proof.verify(key().verifying_key()).unwrap();
        proof.verify(stranger.verifying_key()).unwrap_err();

        let sent = serde_json::to_string(&proof).unwrap();
        let mut received: InclusionProof = serde_json::from_str(&sent).unwrap();
        received.verify(key().verifying_key()).unwrap();
        let forged = received.entry.entry.get().replace("ana", "eve");
        received.entry.entry = serde_json::value::RawValue::from_string(forged).unwrap();
        received.verify(key().verifying_key()).unwrap_err();
        received.entry.leaf =
            freehold_audit::tree::leaf_hash(received.entry.entry.get().as_bytes());
        received.verify(key().verifying_key()).unwrap_err();
    }
}

#[tokio::test]
async fn growth_is_provable_from_every_checkpoint_on() {
    let mut world = World::with_batch_max(5).await;
    let mut sizes = Vec::new();
    for entries in [1, 2, 5, 3, 8] {
        world.record_all(entries).await;
        world.pass().await;
        sizes.push(world.log().checkpoint().await.unwrap().unwrap().size);
    }
    for size in 0..25 {
        let proof = world.log().consistency(size).await.unwrap();
        assert!(proof.is_some() || !sizes.contains(&size), "{size}");
        if let Some(mut proof) = proof {
            proof.verify(key().verifying_key()).unwrap();
            proof.path.push(proof.to.root);
            proof.verify(key().verifying_key()).unwrap_err();
        }
    }
}

#[tokio::test]
async fn an_entry_reads_as_it_was_recorded_and_never_grows_too_large() {
    let mut world = World::new().await;
    let mut entry = entry("ana", "orders");
    entry.outcome = Outcome::Refused {
        code: Code::Forbidden,
    };
    entry.reason = "y".repeat(10_000);
    entry.details = serde_json::json!({ "big": 9_007_199_254_740_993_u64 });
    world::record(&world.store, &entry).await;
    let mut large = Entry::new(entry.at, Actor::anonymous(), "login", None);
    large.details = serde_json::json!({ "text": "x".repeat(100_000) });
    large.actor.subject = "é".repeat(5_000);
    large.request_id = Some("z".repeat(5_000));
    let mut batch = Batch::new();
    let id = freehold_audit::EntryId::generate(large.at, &SystemEntropy);
    batch.writes.push(pending(&large, id));
    world.store.apply(batch).await.unwrap();
    world.pass().await;

    let read = world.log().get(0).await.unwrap().unwrap().entry().unwrap();
    assert_eq!(read.outcome, entry.outcome);
    assert_eq!(read.details, entry.details);
    assert_eq!(read.target, entry.target);
    assert!(read.reason.chars().count() <= 2_001);
    let logged = world.log().get(1).await.unwrap().unwrap();
    assert!(logged.entry.get().len() < 2_000);
    assert_eq!(logged.entry().unwrap().details["leftOut"], "too large");
}
