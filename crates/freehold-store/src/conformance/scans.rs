//! Scans: keys as bytes, pages, filters, tokens.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json as tree;

use super::{Subject, collection, index, json, key, n, put, spec};
use crate::{
    Batch, CollectionName, DeleteMode, ErrorKind, Filter, IndexValue, Key, PutMode, Range, Scan,
    ScanToken, StoreHandle,
};

fn hostile_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a",
        "a\0",
        "a\0b",
        "a/",
        "aa",
        "ab",
        "b",
        "A",
        "%",
        "%%",
        "_",
        "__",
        "'",
        "''",
        "\"",
        "\\",
        "';DROP TABLE records;--",
        "$1",
        "{s}",
        "\n",
        "\u{7f}",
        "é",
        "e\u{301}",
        "😀",
        "\u{FFFF}",
        "\u{10FFFE}",
        "\u{10FFFF}",
        "\u{10FFFF}\u{10FFFF}",
        "\0",
        "\0\0",
        " ",
        "a ",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push("x".repeat(Key::BYTES_MAX));
    keys.push("x".repeat(Key::BYTES_MAX - 1));
    keys.push("\u{10FFFF}".repeat(Key::BYTES_MAX / 4));
    keys
}

pub async fn hostile_keys_are_ordinary_keys(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    let by_owner = index("by_owner", &["/owner"], false, 1);
    store.define(spec(&things, vec![by_owner])).await.unwrap();
    // The same keys in a neighbour whose name begins alike must not show up.
    let neighbour = collection("things_2");
    let mut keys = hostile_keys();
    for text in &keys {
        let owner = tree!({ "owner": text.chars().take(200).collect::<String>() }).to_string();
        for at in [&things, &neighbour] {
            put(
                &store,
                at,
                &key(text.as_str()),
                json(owner.clone()),
                PutMode::Create,
            )
            .await
            .unwrap();
        }
        let found = store
            .get(&things, &key(text.as_str()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (found.key.as_str(), found.value.text()),
            (text.as_str(), owner.as_str())
        );
    }
    keys.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for limit in [1, 7, 1000] {
        assert_eq!(
            keys_of(&store, &things, Range::All, limit).await,
            keys,
            "{limit} a page"
        );
    }
    for prefix in keys
        .iter()
        .map(String::as_str)
        .chain(["", "nothing", "a\0b\0"])
    {
        let wanted: Vec<String> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect();
        let range = Range::KeyPrefix(prefix.to_owned());
        assert_eq!(
            keys_of(&store, &things, range, 3).await,
            wanted,
            "prefix {prefix:?}"
        );
    }
    for text in &keys {
        let owner: String = text.chars().take(200).collect();
        let wanted: Vec<String> = keys
            .iter()
            .filter(|key| key.chars().take(200).eq(owner.chars()))
            .cloned()
            .collect();
        let range = Range::IndexPrefix {
            index: "by_owner".to_owned(),
            values: vec![IndexValue::Text(owner)],
        };
        assert_eq!(
            keys_of(&store, &things, range, 2).await,
            wanted,
            "owner {text:?}"
        );
    }
    assert_eq!(Key::new("").unwrap_err().kind(), ErrorKind::Invalid);
    let too_long = "x".repeat(Key::BYTES_MAX + 1);
    assert_eq!(Key::new(too_long).unwrap_err().kind(), ErrorKind::TooLarge);
}

pub(super) async fn keys_of(
    store: &StoreHandle,
    things: &CollectionName,
    range: Range,
    limit: usize,
) -> Vec<String> {
    let mut scan = Scan::new(things.clone(), range);
    scan.limit = limit;
    all_keys(store, scan).await
}

async fn all_keys(store: &StoreHandle, mut scan: Scan) -> Vec<String> {
    let mut keys = Vec::new();
    loop {
        let page = store.scan(scan.clone()).await.unwrap();
        assert!(page.records.len() <= scan.limit);
        assert!(page.next.is_none() || page.records.len() == scan.limit);
        keys.extend(
            page.records
                .into_iter()
                .map(|record| record.key.as_str().to_owned()),
        );
        match page.next {
            None => return keys,
            next => scan.after = next,
        }
    }
}

pub async fn pages_neither_skip_nor_repeat_while_others_write(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    let by_n = index("by_n", &["/n"], false, 1);
    store.define(spec(&things, vec![by_n])).await.unwrap();
    let stays: BTreeSet<String> = (0..60).map(|at| format!("{at:03}/stays")).collect();
    for (at, text) in stays.iter().enumerate() {
        put(
            &store,
            &things,
            &key(text.as_str()),
            n(at as u64 / 4),
            PutMode::Create,
        )
        .await
        .unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, things, done) = (subject.open().await, things.clone(), Arc::clone(&done));
        let stays: Vec<String> = stays.iter().cloned().collect();
        tokio::spawn(async move {
            // Comes and goes between the others, and rewrites them without moving them.
            for round in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let at = round % 60;
                let comes = key(format!("{at:03}/comes"));
                let goes = key(format!("{:03}/comes", (at + 37) % 60));
                let stay = key(stays[usize::try_from(at).unwrap()].as_str());
                let batch = Batch::new()
                    .put(&things, comes, n(at % 15), PutMode::Upsert)
                    .delete(&things, goes, DeleteMode::Any)
                    .put(&things, stay, n(at / 4), PutMode::Upsert);
                store.apply(batch).await.unwrap();
            }
        })
    };
    let by_index = Range::IndexPrefix {
        index: "by_n".to_owned(),
        values: Vec::new(),
    };
    for range in [Range::All, by_index] {
        for limit in [1, 7] {
            let keys = keys_of(&store, &things, range.clone(), limit).await;
            let distinct: BTreeSet<&String> =
                keys.iter().filter(|k| k.ends_with("stays")).collect();
            let count = keys.iter().filter(|key| key.ends_with("stays")).count();
            assert_eq!(
                (distinct.len(), count),
                (60, 60),
                "{range:?}, {limit} a page"
            );
        }
    }
    done.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

pub async fn filters_apply_before_the_limit(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("by_a", &["/a"], false, 1)]))
        .await
        .unwrap();
    for at in 0..30 {
        let value = tree!({ "a": at % 2, "b/c": { "d": [at % 3, null] } });
        put(
            &store,
            &things,
            &key(format!("{at:02}")),
            json(value.to_string()),
            PutMode::Create,
        )
        .await
        .unwrap();
    }
    for range in [
        Range::All,
        Range::IndexPrefix {
            index: "by_a".to_owned(),
            values: vec![IndexValue::Integer(0)],
        },
    ] {
        let mut scan = Scan::new(things.clone(), range.clone());
        scan.limit = 2;
        scan.filter = Some(Filter {
            pointer: "/b~1c/d/0".to_owned(),
            equals: tree!(1),
        });
        let even = |at: &i32| range == Range::All || at % 2 == 0;
        let wanted: Vec<String> = (0..30)
            .filter(|at| at % 3 == 1)
            .filter(even)
            .map(|at| format!("{at:02}"))
            .collect();
        assert_eq!(all_keys(&store, scan.clone()).await, wanted);
        for (pointer, equals, count) in [
            (
                "/b~1c/d/1",
                tree!(null),
                if range == Range::All { 30 } else { 15 },
            ),
            ("/b~1c/d/2", tree!(null), 0),
            ("/a", tree!("0"), 0),
            ("/a", tree!(0), 15),
        ] {
            scan.filter = Some(Filter {
                pointer: pointer.to_owned(),
                equals,
            });
            assert_eq!(
                all_keys(&store, scan.clone()).await.len(),
                count,
                "{pointer}"
            );
        }
    }
    let mut scan = Scan::new(things, Range::All);
    scan.filter = Some(Filter {
        pointer: "no slash".to_owned(),
        equals: tree!(1),
    });
    assert_eq!(
        store.scan(scan).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

pub async fn a_token_continues_its_own_scan_only(subject: &dyn Subject) {
    let (store, things) = (subject.open().await, collection("things"));
    store
        .define(spec(&things, vec![index("by_n", &["/n"], false, 1)]))
        .await
        .unwrap();
    for at in 0..4 {
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
    let mut scan = Scan::new(things.clone(), Range::All);
    scan.limit = 2;
    scan.after = store.scan(scan.clone()).await.unwrap().next;
    assert!(scan.after.is_some());
    scan.limit = 3;
    let rest = store.scan(scan.clone()).await.unwrap();
    assert_eq!(
        (rest.records.len(), rest.next),
        (2, None),
        "a page may have another size"
    );

    let by_n = Range::IndexPrefix {
        index: "by_n".to_owned(),
        values: Vec::new(),
    };
    let refused = async |scan: Scan| {
        let error = store.scan(scan.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{scan:?}");
    };
    let with = |change: &dyn Fn(&mut Scan)| {
        let mut other = scan.clone();
        change(&mut other);
        other
    };
    refused(with(&|scan| scan.collection = collection("others"))).await;
    refused(with(&|scan| scan.range = Range::KeyPrefix("1".to_owned()))).await;
    refused(with(&|scan| scan.range = by_n.clone())).await;
    refused(with(&|scan| {
        scan.filter = Some(Filter {
            pointer: "/n".to_owned(),
            equals: tree!(1),
        });
    }))
    .await;
    refused(with(&|scan| {
        scan.after = Some(ScanToken("nonsense".to_owned()));
    }))
    .await;
    refused(with(&|scan| scan.limit = 0)).await;
    refused(with(&|scan| scan.limit = 1001)).await;

    // A token into an index does not outlive the rebuilding of the index.
    let mut scan = with(&|scan| {
        scan.range = by_n.clone();
        scan.after = None;
        scan.limit = 2;
    });
    scan.after = store.scan(scan.clone()).await.unwrap().next;
    store
        .define(spec(&things, vec![index("by_n", &["/m"], false, 2)]))
        .await
        .unwrap();
    refused(scan).await;
}
