//! Puts a restored copy of the log in order.
//!
//! A backup copies one collection after the other while the log goes on, the head first. The copy
//! may therefore hold entries and checkpoints that its head does not know of yet. The entries become
//! pending again; the checkpoints go. Nothing that was copied is lost or doubled. Entries that were
//! pending keep their order by the millisecond in which they were recorded: a copy has no change feed
//! that would know more.
//!
//! The restored log goes on from there with the same key. Whoever keeps a checkpoint that is newer
//! than the backup will be told that the log was cut off: that is the truth, and a person should
//! hear it.

use freehold_store::{Batch, DeleteMode, Key, PutMode, Result, StoreHandle, Value};
use serde::Deserialize;

use crate::{
    Log, collections,
    record::{Head, LogRecord},
};

/// Call it once after a store was restored, before any server runs on it. Returns how many entries
/// became pending again. Doing it twice, or to a log that was not restored, changes nothing more.
pub async fn settle(store: &StoreHandle) -> Result<u64> {
    let log = Log::new(store.clone());
    let head = log.head().await?;
    let (size, number) = head.as_ref().map_or((0, 0), |head| {
        (head.checkpoint.size, head.checkpoint.number)
    });
    let mut settled = 0;
    loop {
        // Each round deletes what it read, so the next one begins at the same place.
        let entries = log.records(size, u64::MAX).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            make_pending(store, &entry).await?;
            settled += 1;
        }
    }
    for number in number + 1.. {
        let key = collections::numbered(number);
        let found = store.get(&collections::checkpoints(), &key).await?;
        let Some(found) = found else { break };
        let batch = Batch::new().delete(&found.collection, key, DeleteMode::Any);
        store.apply(batch).await?;
    }
    forget_feed(store, head).await?;
    Ok(settled)
}

async fn make_pending(store: &StoreHandle, entry: &LogRecord) -> Result<()> {
    let value = Value::from_text(entry.entry.get().to_owned())?;
    let index = collections::numbered(entry.index);
    let batch = Batch::new()
        .put(
            &collections::pending(),
            pending_key(entry)?,
            value,
            PutMode::Upsert,
        )
        .delete(&collections::log(), index, DeleteMode::MustExist);
    store.apply(batch).await.map(drop)
}

/// Positions in the change feed are those of the store that the backup was taken from.
async fn forget_feed(store: &StoreHandle, head: Option<Head>) -> Result<()> {
    let Some(mut head) = head.filter(|head| head.feed.is_some()) else {
        return Ok(());
    };
    head.feed = None;
    let value = Value::encode(&head)?;
    let batch = Batch::new().put(
        &collections::head(),
        collections::head_key(),
        value,
        PutMode::Upsert,
    );
    store.apply(batch).await.map(drop)
}

/// The key under which the entry was pending: its id, or its index if it is none of ours.
fn pending_key(entry: &LogRecord) -> Result<Key> {
    #[derive(Deserialize)]
    struct Identified {
        id: String,
    }
    match serde_json::from_str::<Identified>(entry.entry.get()) {
        Ok(identified) => Key::new(identified.id),
        Err(_) => Ok(collections::numbered(entry.index)),
    }
}
