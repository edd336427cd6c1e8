//! Indexes: order, ranges, uniqueness, definitions.

use super::{Subject, collection, get, index, json, key, n, put, scans::keys_of, spec};
use crate::{
    Batch, CollectionName, DeleteMode, ErrorKind, IndexValue, PutMode, Range, StoreHandle,
};

fn prefix(index: &str, values: &[IndexValue]) -> Range {
    Range::IndexPrefix {
        index: index.to_owned(),
        values: values.to_vec(),
    }
}

async fn by_n(store: &StoreHandle, things: &CollectionName, number: i64) -> Vec<String> {
    keys_of(
        store,
        things,
        prefix("by_n", &[IndexValue::Integer(number)]),
        100,
    )
    .await
}

pub async fn an_index_orders_and_ranges(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    let two = index("two", &["/a", "/in/b"], false, 1);
    store.define(spec(&things, vec![two])).await.unwrap();
    for (at, a, b) in [
        ("07", "\"x\"", "\"\\u0000\""),
        ("06", "\"x\"", "\"\""),
        ("05", "\"x\"", "9223372036854775807"),
        ("04", "\"x\"", "-1"),
        ("03", "\"x\"", "true"),
        ("02", "\"x\"", "false"),
        ("08", "\"x\"", "\"a\""),
        ("09", "\"x\"", "\"a\\u0000\""),
        ("10", "\"x\"", "\"aa\""),
        ("11", "\"x\\u0000\"", "1"),
        ("12", "\"xx\"", "1"),
        ("01", "-9223372036854775808", "1"),
        // Outside: a field is missing or cannot stand in an index.
        ("90", "\"x\"", "null"),
        ("91", "\"x\"", "1.5"),
        ("92", "[]", "1"),
        ("93", "\"x\"", "9223372036854775808"),
    ] {
        let value = json(format!("{{\"in\":{{\"b\":{b}}},\"a\":{a}}}"));
        put(&store, &things, &key(at), value, PutMode::Create)
            .await
            .unwrap();
    }
    put(&store, &things, &key("94"), json("[1]"), PutMode::Create)
        .await
        .unwrap();

    let all: Vec<String> = (1..=12).map(|at| format!("{at:02}")).collect();
    for limit in [1, 5, 100] {
        assert_eq!(
            keys_of(&store, &things, prefix("two", &[]), limit).await,
            all
        );
    }
    let x = || IndexValue::from("x");
    assert_eq!(
        keys_of(&store, &things, prefix("two", &[x()]), 2).await,
        all[1..10]
    );
    let one = [x(), IndexValue::from("a")];
    assert_eq!(
        keys_of(&store, &things, prefix("two", &one), 2).await,
        ["08"]
    );
    let range = |from: Option<IndexValue>, to: Option<IndexValue>| Range::IndexRange {
        index: "two".to_owned(),
        values: vec![x()],
        from,
        to,
    };
    let integer = IndexValue::Integer;
    for (from, to, wanted) in [
        (None, None, &all[1..10]),
        (Some(integer(-1)), Some(IndexValue::from("")), &all[3..5]),
        (Some(integer(0)), None, &all[4..10]),
        (None, Some(integer(-1)), &all[1..3]),
        (
            Some(IndexValue::from("a")),
            Some(IndexValue::from("aa")),
            &all[7..9],
        ),
        (
            Some(IndexValue::from("b")),
            Some(IndexValue::from("a")),
            &[],
        ),
    ] {
        assert_eq!(keys_of(&store, &things, range(from, to), 2).await, wanted);
    }
    for wrong in [prefix("two", &[x(), x(), x()]), prefix("none", &[])] {
        let scan = crate::Scan::new(things.clone(), wrong);
        store.scan(scan).await.unwrap_err();
    }
}

pub async fn a_unique_index_admits_one(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("by_n", &["/n"], true, 1)]))
        .await
        .unwrap();
    put(&store, &things, &key("a"), n(1), PutMode::Create)
        .await
        .unwrap();
    // Itself, another value, another type, no value, and another collection are not in the way.
    put(&store, &things, &key("a"), n(1), PutMode::Upsert)
        .await
        .unwrap();
    put(
        &store,
        &things,
        &key("b"),
        json("{\"n\":\"1\"}"),
        PutMode::Create,
    )
    .await
    .unwrap();
    for at in ["c", "d"] {
        put(&store, &things, &key(at), json("{}"), PutMode::Create)
            .await
            .unwrap();
    }
    put(
        &store,
        &collection("others"),
        &key("e"),
        n(1),
        PutMode::Create,
    )
    .await
    .unwrap();

    let second = Batch::new()
        .put(&things, key("x"), n(7), PutMode::Create)
        .put(&things, key("y"), n(1), PutMode::Create);
    let error = store.apply(second).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::AlreadyExists, Some(1))
    );
    assert!(error.to_string().contains("by_n"), "{error}");
    assert_eq!(by_n(&store, &things, 7).await, [""; 0]);
    let both = Batch::new()
        .put(&things, key("x"), n(8), PutMode::Create)
        .put(&things, key("y"), n(8), PutMode::Create);
    let error = store.apply(both).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::AlreadyExists, Some(1))
    );

    put(&store, &things, &key("a"), n(2), PutMode::Upsert)
        .await
        .unwrap();
    put(&store, &things, &key("f"), n(1), PutMode::Create)
        .await
        .unwrap();
    store
        .apply(Batch::new().delete(&things, key("f"), DeleteMode::Any))
        .await
        .unwrap();
    put(&store, &things, &key("g"), n(1), PutMode::Create)
        .await
        .unwrap();
    assert_eq!(by_n(&store, &things, 1).await, ["g"]);
}

pub async fn unique_values_change_hands_within_a_batch(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("by_n", &["/n"], true, 1)]))
        .await
        .unwrap();
    let two = |a, b| {
        Batch::new()
            .put(&things, key("a"), n(a), PutMode::Upsert)
            .put(&things, key("b"), n(b), PutMode::Upsert)
    };
    store.apply(two(1, 2)).await.unwrap();
    store.apply(two(2, 1)).await.unwrap();
    assert_eq!(
        (
            by_n(&store, &things, 1).await,
            by_n(&store, &things, 2).await
        ),
        (vec!["b".to_owned()], vec!["a".to_owned()])
    );
    let hand_over = Batch::new()
        .put(&things, key("c"), n(1), PutMode::Create)
        .delete(&things, key("b"), DeleteMode::MustExist);
    store.apply(hand_over).await.unwrap();
    assert_eq!(by_n(&store, &things, 1).await, ["c"]);
    // One that is written again with the value it has does not give it away.
    let error = store.apply(two(1, 1)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::AlreadyExists, Some(0))
    );
}

pub async fn definitions_merge_by_version(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    let define = async |indexes| store.define(spec(&things, indexes)).await;
    define(vec![index("by_n", &["/n"], false, 2)])
        .await
        .unwrap();
    put(
        &store,
        &things,
        &key("a"),
        json(r#"{"n":1,"m":2}"#),
        PutMode::Create,
    )
    .await
    .unwrap();
    // Again, without it, an older version, another index: it stays as it is.
    define(vec![index("by_n", &["/n"], false, 2)])
        .await
        .unwrap();
    define(vec![]).await.unwrap();
    define(vec![index("by_n", &["/m"], false, 1)])
        .await
        .unwrap();
    define(vec![index("by_m", &["/m"], false, 1)])
        .await
        .unwrap();
    assert_eq!(by_n(&store, &things, 1).await, ["a"]);
    // The same version with other fields or another promise is a mistake.
    for wrong in [
        index("by_n", &["/m"], false, 2),
        index("by_n", &["/n"], true, 2),
    ] {
        assert_eq!(
            define(vec![wrong]).await.unwrap_err().kind(),
            ErrorKind::Config
        );
    }
    define(vec![index("by_n", &["/m"], false, 3)])
        .await
        .unwrap();
    assert_eq!(
        (
            by_n(&store, &things, 1).await,
            by_n(&store, &things, 2).await
        ),
        (vec![], vec!["a".to_owned()])
    );
    for wrong in [
        index("No", &["/a"], false, 1),
        index("no", &[], false, 1),
        index("no", &["a"], false, 1),
    ] {
        assert_eq!(
            define(vec![wrong]).await.unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }

    store.drop_index(&things, "by_n").await.unwrap();
    store.drop_index(&things, "by_n").await.unwrap();
    store
        .drop_index(&collection("nowhere"), "by_n")
        .await
        .unwrap();
    // A replica of yesterday's program does not bring it back; a new version does.
    define(vec![index("by_n", &["/m"], false, 3)])
        .await
        .unwrap();
    let scan = crate::Scan::new(things.clone(), prefix("by_n", &[]));
    assert_eq!(
        store.scan(scan).await.unwrap_err().kind(),
        ErrorKind::Config
    );
    define(vec![index("by_n", &["/n"], false, 4)])
        .await
        .unwrap();
    assert_eq!(by_n(&store, &things, 1).await, ["a"]);
}

pub async fn an_index_is_built_from_what_is_there(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    for hundred in 0..12u64 {
        let batch = (0..100)
            .map(|at| hundred * 100 + at)
            .fold(Batch::new(), |batch, at| {
                batch.put(&things, key(format!("{at:04}")), n(at / 2), PutMode::Create)
            });
        store.apply(batch).await.unwrap();
    }
    store
        .define(spec(&things, vec![index("by_n", &["/n"], false, 1)]))
        .await
        .unwrap();
    assert_eq!(by_n(&store, &things, 599).await, ["1198", "1199"]);
    assert_eq!(
        keys_of(&store, &things, prefix("by_n", &[]), 500)
            .await
            .len(),
        1200
    );

    let error = store
        .define(spec(&things, vec![index("one", &["/n"], true, 1)]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(
        error.to_string().contains("0000") && error.to_string().contains("one"),
        "{error}"
    );
    // What could not be built is not there, and nothing else has changed.
    put(&store, &things, &key("x"), n(0), PutMode::Create)
        .await
        .unwrap();
    assert_eq!(by_n(&store, &things, 0).await, ["0000", "0001", "x"]);
}

pub async fn an_old_handle_maintains_an_index_it_never_heard_of(subject: &dyn Subject) {
    let (old, new) = (subject.open().await, subject.open().await);
    let things = collection("things");
    old.define(spec(&things, vec![])).await.unwrap();
    put(&old, &things, &key("a"), n(1), PutMode::Create)
        .await
        .unwrap();
    new.define(spec(&things, vec![index("by_n", &["/n"], true, 1)]))
        .await
        .unwrap();
    put(&old, &things, &key("b"), n(2), PutMode::Create)
        .await
        .unwrap();
    put(&old, &things, &key("a"), n(3), PutMode::Upsert)
        .await
        .unwrap();
    let error = put(&old, &things, &key("c"), n(2), PutMode::Create)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::AlreadyExists, Some(0))
    );
    for store in [&old, &new] {
        for (number, wanted) in [(1, vec![]), (2, vec!["b"]), (3, vec!["a"])] {
            assert_eq!(by_n(store, &things, number).await, wanted);
        }
    }
    new.define(spec(&things, vec![index("by_n", &["/m"], false, 2)]))
        .await
        .unwrap();
    put(
        &old,
        &things,
        &key("c"),
        json(r#"{"n":2,"m":5}"#),
        PutMode::Create,
    )
    .await
    .unwrap();
    old.apply(Batch::new().delete(&things, key("b"), DeleteMode::Any))
        .await
        .unwrap();
    assert_eq!(by_n(&new, &things, 5).await, ["c"]);
    new.drop_index(&things, "by_n").await.unwrap();
    put(&old, &things, &key("d"), n(2), PutMode::Create)
        .await
        .unwrap();
    assert_eq!(get(&new, &things, &key("d")).await.unwrap().value, n(2));
}
