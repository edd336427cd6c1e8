//! Many at once.

use super::{
    Subject, collection, get, index, is_passing, join, key, n, number, put, scans::keys_of, spec,
};
use crate::{
    Batch, CollectionName, ErrorKind, IndexValue, Key, Precondition, PutMode, Range, StoreHandle,
};

/// Several handles, as of several processes, in turns.
async fn handles(subject: &dyn Subject, count: usize) -> Vec<StoreHandle> {
    let mut stores = Vec::new();
    for _ in 0..4.min(count) {
        stores.push(subject.open().await);
    }
    (0..count)
        .map(|at| stores[at % stores.len()].clone())
        .collect()
}

/// Adds one, however often others are faster.
async fn increment(store: &StoreHandle, things: &CollectionName, at: &Key) {
    loop {
        let (value, mode) = match get(store, things, at).await {
            None => (1, PutMode::Create),
            Some(record) => (number(&record.value) + 1, PutMode::Match(record.etag)),
        };
        match put(store, things, at, n(value), mode).await {
            Ok(_) => return,
            Err(error) => assert!(is_passing(&error), "{error:?}"),
        }
    }
}

pub async fn no_update_is_lost_among_32_writers(subject: &dyn Subject) {
    const EACH: u64 = 6;
    let (things, at) = (collection("things"), key("counter"));
    let writers = handles(subject, 32).await.into_iter().map(|store| {
        let (things, at) = (things.clone(), at.clone());
        async move {
            for _ in 0..EACH {
                increment(&store, &things, &at).await;
            }
        }
    });
    join(writers).await;
    let store = subject.open().await;
    let record = get(&store, &things, &at).await.unwrap();
    assert_eq!(
        (number(&record.value), record.etag.rev()),
        (32 * EACH, 32 * EACH)
    );
}

pub async fn one_of_many_creators_wins(subject: &dyn Subject) {
    let things = collection("things");
    for round in 0..5 {
        let at = key(format!("{round}"));
        let creators = handles(subject, 16)
            .await
            .into_iter()
            .enumerate()
            .map(|(me, store)| {
                let (things, at) = (things.clone(), at.clone());
                async move {
                    (
                        me as u64,
                        put(&store, &things, &at, n(me as u64), PutMode::Create).await,
                    )
                }
            });
        let results = join(creators).await;
        let won: Vec<u64> = results
            .iter()
            .filter(|(_, result)| result.is_ok())
            .map(|(me, _)| *me)
            .collect();
        assert_eq!(won.len(), 1, "{results:?}");
        for (_, result) in &results {
            let kind = result.as_ref().err().map(crate::Error::kind);
            assert!(
                matches!(kind, None | Some(ErrorKind::AlreadyExists)),
                "{result:?}"
            );
        }
        let record = get(&subject.open().await, &things, &at).await.unwrap();
        assert_eq!(number(&record.value), won[0]);
    }
}

pub async fn one_of_many_takes_a_unique_value(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap();
    for round in 0..5 {
        let takers = handles(subject, 16)
            .await
            .into_iter()
            .enumerate()
            .map(|(me, store)| {
                let things = things.clone();
                let at = key(format!("{round}/{me}"));
                async move { put(&store, &things, &at, n(round), PutMode::Create).await }
            });
        let results = join(takers).await;
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "{results:?}"
        );
        let value = IndexValue::Integer(i64::try_from(round).unwrap());
        let range = Range::IndexPrefix {
            index: "one".to_owned(),
            values: vec![value],
        };
        assert_eq!(keys_of(&store, &things, range, 10).await.len(), 1);
    }
}

/// Two doctors on call: each may leave only while the other stays.
pub async fn write_skew_is_refused(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    let (left, right) = (subject.open().await, subject.open().await);
    for round in 0..20 {
        let (a, b) = (key(format!("{round}/a")), key(format!("{round}/b")));
        let both = Batch::new()
            .put(&things, a.clone(), n(1), PutMode::Create)
            .put(&things, b.clone(), n(1), PutMode::Create);
        let etags = store.apply(both).await.unwrap().etags;
        let leave = |me: &Key, other: &Key, etag: &Option<crate::Etag>| {
            Batch::new()
                .put(&things, me.clone(), n(0), PutMode::Upsert)
                .require(Precondition::Unchanged {
                    collection: things.clone(),
                    key: other.clone(),
                    etag: etag.clone().unwrap(),
                })
        };
        let (one, two) = (leave(&a, &b, &etags[1]), leave(&b, &a, &etags[0]));
        let (one, two) = futures::join!(left.apply(one), right.apply(two));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    }
}

pub async fn a_read_sees_what_another_handle_was_told_is_done(subject: &dyn Subject) {
    let (writer, reader) = (subject.open().await, subject.open().await);
    let (things, at) = (collection("things"), key("a"));
    writer
        .define(spec(&things, vec![index("by_n", &["/n"], false, 1)]))
        .await
        .unwrap();
    for round in 0..20 {
        let etag = put(&writer, &things, &at, n(round), PutMode::Upsert)
            .await
            .unwrap();
        assert_eq!(get(&reader, &things, &at).await.unwrap().etag, etag);
        let range = Range::IndexPrefix {
            index: "by_n".to_owned(),
            values: vec![IndexValue::Integer(i64::try_from(round).unwrap())],
        };
        assert_eq!(keys_of(&reader, &things, range, 10).await, ["a"]);
        let changes = reader.changes(None, 1000).await.unwrap().changes;
        assert_eq!(
            changes.last().unwrap().kind,
            crate::ChangeKind::Put { etag }
        );
    }
}

pub async fn an_index_defined_amid_writes_misses_none(subject: &dyn Subject) {
    let things = collection("things");
    let definer = subject.open().await;
    let writers = handles(subject, 8)
        .await
        .into_iter()
        .enumerate()
        .map(|(me, store)| {
            let things = things.clone();
            async move {
                for round in 0..12 {
                    let at = key(format!("{me}/{}", round % 5));
                    put(&store, &things, &at, n(round), PutMode::Upsert)
                        .await
                        .unwrap();
                }
            }
        });
    let defining = async {
        for version in 1..=4 {
            let by_n = index("by_n", &["/n"], false, version);
            definer.define(spec(&things, vec![by_n])).await.unwrap();
        }
    };
    futures::join!(join(writers), defining);
    let mut by_index = Vec::new();
    for number in 0..12 {
        let range = Range::IndexPrefix {
            index: "by_n".to_owned(),
            values: vec![IndexValue::Integer(number)],
        };
        for at in keys_of(&definer, &things, range, 100).await {
            let record = get(&definer, &things, &key(at.as_str())).await.unwrap();
            assert_eq!(
                record.value,
                n(number.cast_unsigned()),
                "a stale entry of {at}"
            );
            by_index.push(at);
        }
    }
    by_index.sort();
    assert_eq!(by_index, keys_of(&definer, &things, Range::All, 100).await);
}
