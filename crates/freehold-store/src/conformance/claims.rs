//! Capabilities as claimed, and as not claimed.

use std::time::Duration;

use super::{Subject, collection, index, json, key, put, spec};
use crate::{Batch, ErrorKind, LeaseName, PutMode};

pub async fn capabilities_are_what_they_say(subject: &dyn Subject) {
    let store = subject.open().await;
    let claims = store.capabilities().clone();
    let things = collection("things");
    let refused = |result: crate::Result<()>, claimed: bool, what: &str| match result {
        Ok(()) => assert!(claimed, "{what} works and is not claimed"),
        Err(error) => {
            assert!(!claimed, "{what} is claimed and fails: {error}");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {error}");
        }
    };

    let plain = spec(&things, vec![index("plain", &["/a"], false, 1)]);
    refused(
        store.define(plain).await,
        claims.secondary_indexes,
        "an index",
    );
    let unique = spec(&things, vec![index("one", &["/b"], true, 1)]);
    refused(
        store.define(unique).await,
        claims.unique_indexes,
        "a unique index",
    );
    refused(
        store.changes(None, 1).await.map(drop),
        claims.change_feed,
        "the change feed",
    );
    let name = LeaseName::new("lease").unwrap();
    let lease = store
        .lease_acquire(&name, "me", Duration::from_secs(5))
        .await;
    refused(lease.map(drop), claims.leases, "a lease");
    let two = Batch::new()
        .put(&things, key("x"), json("1"), PutMode::Upsert)
        .put(&collection("others"), key("y"), json("1"), PutMode::Upsert);
    refused(
        store.apply(two).await.map(drop),
        claims.atomic_batches,
        "a batch of two collections",
    );

    let string = |length: usize| json(format!("\"{}\"", "x".repeat(length - 2)));
    let (most, large) = (claims.value_bytes_max, key("large"));
    put(&store, &things, &large, string(most), PutMode::Upsert)
        .await
        .unwrap();
    let found = store.get(&things, &large).await.unwrap().unwrap();
    assert_eq!(found.value.text().len(), most);
    let error = put(&store, &things, &large, string(most + 1), PutMode::Upsert)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.position()),
        (ErrorKind::TooLarge, Some(0))
    );

    let batch = |writes| {
        (0..writes).fold(Batch::new(), |batch, at| {
            batch.put(
                &things,
                key(format!("many/{at}")),
                json("1"),
                PutMode::Upsert,
            )
        })
    };
    let error = store
        .apply(batch(claims.writes_per_batch_max + 1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

pub async fn a_store_fit_for_the_control_plane_says_so(subject: &dyn Subject) {
    let store = subject.open().await;
    let claims = store.capabilities();
    let missing = claims.missing_for_control_plane();
    let durable = claims.durability >= crate::Durability::Process;
    assert_eq!(missing.contains(&"durable writes"), !durable);
    assert_eq!(missing.contains(&"leases"), !claims.leases);
    assert_eq!(missing.contains(&"a change feed"), !claims.change_feed);
}
