//! Batches: modes, positions, atomicity, etags, values.

use std::time::Duration;

use super::{Subject, collection, get, index, json, key, n, put, spec};
use crate::{
    Batch, CollectionName, DeleteMode, ErrorKind, Etag, LeaseName, Precondition, PutMode,
    StoreHandle,
};

pub async fn each_mode_writes_or_refuses(subject: &dyn Subject) {
    use ErrorKind::{AlreadyExists, VersionMismatch};
    let (store, things, at) = (subject.open().await, collection("things"), key("a"));
    let other = Etag::new(1, [7; 16]);

    for (present, mode, refused) in [
        (false, PutMode::Upsert, None),
        (false, PutMode::Create, None),
        (false, PutMode::Match(other.clone()), Some(VersionMismatch)),
        (true, PutMode::Upsert, None),
        (true, PutMode::Create, Some(AlreadyExists)),
        (true, PutMode::Match(other.clone()), Some(VersionMismatch)),
    ] {
        let before = arrange(&store, &things, present).await;
        let result = put(&store, &things, &at, n(2), mode.clone()).await;
        assert_eq!(
            result.as_ref().err().map(crate::Error::kind),
            refused,
            "{present} {mode:?}"
        );
        let error_at = result.err().and_then(|error| error.position());
        assert_eq!(error_at, refused.map(|_| 0));
        let now = get(&store, &things, &at).await;
        if refused.is_some() {
            assert_eq!(
                now, before,
                "a refused write changed something: {present} {mode:?}"
            );
        } else {
            assert_eq!(now.unwrap().value, n(2));
        }
    }
    for (present, mode, refused) in [
        (false, DeleteMode::Any, None),
        (false, DeleteMode::MustExist, Some(VersionMismatch)),
        (
            false,
            DeleteMode::Match(other.clone()),
            Some(VersionMismatch),
        ),
        (true, DeleteMode::Any, None),
        (true, DeleteMode::MustExist, None),
        (true, DeleteMode::Match(other), Some(VersionMismatch)),
    ] {
        let before = arrange(&store, &things, present).await;
        let batch = Batch::new().delete(&things, at.clone(), mode.clone());
        let result = store.apply(batch).await;
        assert_eq!(
            result.as_ref().err().map(crate::Error::kind),
            refused,
            "{present} {mode:?}"
        );
        let now = get(&store, &things, &at).await;
        assert_eq!(
            now,
            before.filter(|_| refused.is_some()),
            "{present} {mode:?}"
        );
    }

    let etag = arrange(&store, &things, true).await.unwrap().etag;
    let etag = put(&store, &things, &at, n(3), PutMode::Match(etag))
        .await
        .unwrap();
    let batch = Batch::new().delete(&things, at.clone(), DeleteMode::Match(etag));
    assert_eq!(store.apply(batch).await.unwrap().etags, [None]);
}

async fn arrange(
    store: &StoreHandle,
    things: &CollectionName,
    present: bool,
) -> Option<crate::Record> {
    let at = key("a");
    if present {
        put(store, things, &at, n(1), PutMode::Upsert)
            .await
            .unwrap();
    } else {
        let batch = Batch::new().delete(things, at.clone(), DeleteMode::Any);
        store.apply(batch).await.unwrap();
    }
    get(store, things, &at).await
}

pub async fn revisions_count_and_times_move(subject: &dyn Subject) {
    let (store, things, at) = (subject.open().await, collection("things"), key("a"));
    let begin = store.now().await.unwrap();
    put(&store, &things, &at, n(1), PutMode::Create)
        .await
        .unwrap();
    let first = get(&store, &things, &at).await.unwrap();
    assert_eq!((first.etag.rev(), first.created_at), (1, first.updated_at));
    assert!(
        first.created_at >= begin,
        "{} is before {begin}",
        first.created_at
    );
    for rev in 2..=4 {
        subject.pass(Duration::from_millis(2)).await;
        let etag = put(&store, &things, &at, n(rev), PutMode::Upsert)
            .await
            .unwrap();
        let now = get(&store, &things, &at).await.unwrap();
        assert_eq!((now.etag.rev(), &now.etag), (rev, &etag));
        assert_eq!(now.created_at, first.created_at);
        assert!(now.updated_at > first.updated_at);
    }
}

#[expect(clippy::too_many_lines, reason = "a table of cases with its setting")]
pub async fn a_batch_is_all_or_nothing(subject: &dyn Subject) {
    let store = subject.open().await;
    let (things, others) = (collection("things"), collection("others"));
    store
        .define(spec(&others, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap();
    put(&store, &things, &key("there"), n(1), PutMode::Create)
        .await
        .unwrap();
    put(&store, &others, &key("taken"), n(9), PutMode::Create)
        .await
        .unwrap();
    let before = store.changes(None, 100).await.unwrap().next;

    let good = |at: &str| {
        Batch::new()
            .put(&things, key(at), n(1), PutMode::Create)
            .put(&others, key(at), n(5), PutMode::Upsert)
            .put(&things, key("there"), n(2), PutMode::Upsert)
    };
    let stale = Etag::new(1, [1; 16]);
    for (batch, position, kind) in [
        (
            good("a").put(&things, key("z"), n(1), PutMode::Match(stale)),
            3,
            ErrorKind::VersionMismatch,
        ),
        (
            good("a").put(&others, key("taken"), n(1), PutMode::Create),
            3,
            ErrorKind::AlreadyExists,
        ),
        (
            good("a").put(&others, key("z"), n(9), PutMode::Create),
            3,
            ErrorKind::AlreadyExists,
        ),
        (
            good("a").delete(&things, key("z"), DeleteMode::MustExist),
            3,
            ErrorKind::VersionMismatch,
        ),
        (
            good("a").require(Precondition::Absent {
                collection: things.clone(),
                key: key("there"),
            }),
            0,
            ErrorKind::VersionMismatch,
        ),
    ] {
        let error = store.apply(batch).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.position()),
            (kind, Some(position)),
            "{error}"
        );
        for collection in [&things, &others] {
            assert_eq!(get(&store, collection, &key("a")).await, None, "{error}");
        }
        assert_eq!(
            get(&store, &things, &key("there")).await.unwrap().value,
            n(1)
        );
    }
    assert!(
        store
            .changes(Some(before), 100)
            .await
            .unwrap()
            .changes
            .is_empty()
    );

    let outcome = store
        .apply(good("a").delete(&things, key("z"), DeleteMode::Any))
        .await
        .unwrap();
    assert_eq!(outcome.etags.len(), 4);
    assert_eq!(outcome.etags[3], None);
    let changes = store.changes(Some(before), 100).await.unwrap().changes;
    assert_eq!(changes.len(), 3, "what was absent before was not deleted");
}

pub async fn refusals_come_in_one_order(subject: &dyn Subject) {
    let store = subject.open().await;
    let things = collection("things");
    store
        .define(spec(&things, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap();
    put(&store, &things, &key("there"), n(1), PutMode::Create)
        .await
        .unwrap();
    let absent = Precondition::Absent {
        collection: things.clone(),
        key: key("there"),
    };
    // A unique value, a mode and a precondition are all wrong, the earliest write by its value.
    let batch = Batch::new()
        .put(&things, key("x"), n(1), PutMode::Create)
        .put(&things, key("there"), n(2), PutMode::Create);
    let error = store
        .apply(batch.clone().require(absent))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::VersionMismatch, Some(0))
    );
    let error = store.apply(batch).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::AlreadyExists, Some(1))
    );
    let batch = Batch::new().put(&things, key("x"), n(1), PutMode::Create);
    let error = store.apply(batch).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::AlreadyExists, Some(0))
    );
    assert!(
        error.to_string().contains("\"one\""),
        "the index is not named: {error}"
    );
}

pub async fn a_batch_that_is_wrong_in_itself_is_refused(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    let twice = Batch::new()
        .put(&things, key("a"), n(1), PutMode::Upsert)
        .put(&collection("others"), key("a"), n(1), PutMode::Upsert)
        .delete(&things, key("a"), DeleteMode::Any);
    let error = store.apply(twice).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::Invalid, Some(2))
    );
    assert_eq!(get(&store, &things, &key("a")).await, None);
    assert!(store.apply(Batch::new()).await.unwrap().etags.is_empty());
}

pub async fn preconditions_look_at_what_is_not_written(subject: &dyn Subject) {
    let store = subject.open().await;
    let (things, others) = (collection("things"), collection("others"));
    let etag = put(&store, &others, &key("guard"), n(1), PutMode::Create)
        .await
        .unwrap();
    let write = |number| Batch::new().put(&things, key("a"), n(number), PutMode::Upsert);
    let unchanged = |etag: &Etag| Precondition::Unchanged {
        collection: others.clone(),
        key: key("guard"),
        etag: etag.clone(),
    };
    store
        .apply(write(1).require(unchanged(&etag)))
        .await
        .unwrap();
    let newer = put(&store, &others, &key("guard"), n(1), PutMode::Upsert)
        .await
        .unwrap();
    let error = store
        .apply(write(2).require(unchanged(&etag)))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::VersionMismatch, Some(0))
    );
    // Checks alone are a batch too, and a key may be checked and written.
    store
        .apply(Batch::new().require(unchanged(&newer)))
        .await
        .unwrap();
    let both = Batch::new()
        .put(&others, key("guard"), n(2), PutMode::Upsert)
        .require(unchanged(&newer));
    store.apply(both.clone()).await.unwrap();
    store.apply(both).await.unwrap_err();
    assert_eq!(get(&store, &things, &key("a")).await.unwrap().value, n(1));

    let name = LeaseName::new("l").unwrap();
    let lease = store
        .lease_acquire(&name, "me", Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    let held = |epoch| Precondition::LeaseHeld {
        name: name.clone(),
        epoch,
    };
    store
        .apply(write(3).require(held(lease.epoch)))
        .await
        .unwrap();
    for wrong in [0, lease.epoch + 1, u64::MAX] {
        let error = store
            .apply(write(4).require(held(wrong)))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.position()),
            (ErrorKind::VersionMismatch, Some(0))
        );
    }
    store.lease_release(&lease).await.unwrap();
    store
        .apply(write(4).require(held(lease.epoch)))
        .await
        .unwrap_err();
}

pub async fn an_etag_never_comes_back(subject: &dyn Subject) {
    let (store, things, at) = (subject.open().await, collection("things"), key("a"));
    let mut seen = Vec::new();
    for _ in 0..8 {
        let etag = put(&store, &things, &at, n(1), PutMode::Create)
            .await
            .unwrap();
        assert_eq!(
            etag.rev(),
            1,
            "a record that is created anew counts from one"
        );
        assert!(!seen.contains(&etag));
        for old in &seen {
            let old = PutMode::Match(Etag::clone(old));
            let error = put(&store, &things, &at, n(2), old).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::VersionMismatch);
        }
        seen.push(etag.clone());
        let batch = Batch::new().delete(&things, at.clone(), DeleteMode::Match(etag));
        store.apply(batch).await.unwrap();
    }
}

pub async fn values_are_kept_byte_for_byte(subject: &dyn Subject) {
    let (store, things, at) = (subject.open().await, collection("things"), key("a"));
    store
        .define(spec(&things, vec![index("i", &["/n"], false, 1)]))
        .await
        .unwrap();
    for text in [
        "9007199254740993",
        r#"{"n":9223372036854775807,"m":-9223372036854775808}"#,
        r#"{"n":18446744073709551615,"m":340282366920938463463374607431768211456}"#,
        r#"{"n":1.0,"e":1e400,"f":-0,"g":0.1000}"#,
        "{ \"b\" : 1 ,\n \"a\" : [ ] }",
        r#"{"n":1,"n":2}"#,
        r#""\u0000 \u00e9 é 😀 ' \" \\ %""#,
        "null",
    ] {
        put(&store, &things, &at, json(text), PutMode::Upsert)
            .await
            .unwrap();
        assert_eq!(get(&store, &things, &at).await.unwrap().value.text(), text);
    }
}

pub async fn a_large_batch_is_still_one_batch(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap();
    let claimed = store.capabilities().writes_per_batch_max as u64;
    let others = collection("others");
    let whole = (0..claimed).fold(Batch::new(), |batch, at| {
        batch.put(&others, key(format!("{at}")), n(at), PutMode::Create)
    });
    let outcome = store.apply(whole).await.unwrap();
    assert_eq!(outcome.etags.len() as u64, claimed);
    let most = claimed.min(1_000);
    let batch = |offset: u64| {
        (0..most).fold(Batch::new(), |batch, at| {
            batch.put(
                &things,
                key(format!("{at}")),
                n(at + offset),
                PutMode::Upsert,
            )
        })
    };
    store.apply(batch(0)).await.unwrap();
    // Every record takes its neighbour's value.
    let outcome = store.apply(batch(1)).await.unwrap();
    assert!(
        outcome
            .etags
            .iter()
            .all(|etag| etag.as_ref().unwrap().rev() == 2)
    );
    let bad = batch(2).put(&things, key("extra"), n(most + 1), PutMode::Create);
    let mut bad = Batch {
        writes: bad.writes.into_iter().skip(1).collect(),
        ..Batch::new()
    };
    let error = store.apply(bad.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    bad.writes.pop();
    store.apply(bad).await.unwrap();
}
