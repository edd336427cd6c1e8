//! An end that waits for what was begun.

use std::sync::Arc;

use futures::future::join;
use tokio::sync::Notify;

use super::{Subject, collection, get, key, n, put};
use crate::{Durability, ErrorKind, PutMode, Range, Scan};

/// What was acknowledged before the end is there, what was refused is not, and nothing is in doubt.
pub async fn a_store_that_is_closed_has_finished_what_it_began(subject: &dyn Subject) {
    const WRITERS: usize = 8;
    let store = subject.open().await;
    if store.capabilities().durability == Durability::None {
        // It holds nothing that could be closed, and loses nothing by it.
        let (things, at) = (collection("things"), key("a"));
        put(&store, &things, &at, n(1), PutMode::Create)
            .await
            .unwrap();
        store.close().await;
        assert!(get(&subject.open().await, &things, &at).await.is_some());
        return;
    }
    let begun = Arc::new(Notify::new());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, begun) = (store.clone(), Arc::clone(&begun));
            tokio::spawn(async move {
                let things = collection("things");
                for number in 0.. {
                    let at = key(format!("{writer}/{number:06}"));
                    let read = store.get(&things, &at);
                    let written = put(&store, &things, &at, n(1), PutMode::Create);
                    let (read, written) = join(read, written).await;
                    if let Err(error) = read {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    }
                    match written {
                        Ok(_) => begun.notify_one(),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                            return number;
                        }
                    }
                }
                unreachable!("the store is closed before the numbers end");
            })
        })
        .collect();
    begun.notified().await;
    // Two ask for the end at once; both wait for it.
    join(store.close(), store.clone().close()).await;
    let again = subject.open().await;
    let things = collection("things");
    for (writer, task) in writers.into_iter().enumerate() {
        let acknowledged = task.await.unwrap();
        let mut scan = Scan::new(things.clone(), Range::KeyPrefix(format!("{writer}/")));
        let mut found = 0;
        loop {
            let page = again.scan(scan.clone()).await.unwrap();
            found += page.records.len();
            scan.after = page.next;
            if scan.after.is_none() {
                break;
            }
        }
        assert_eq!(found, acknowledged, "of writer {writer}");
    }
    let refused = store.scan(Scan::new(things, Range::All)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    store.close().await;
}
