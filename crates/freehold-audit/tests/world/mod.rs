//! A store with a log, and the hands that write into it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses its part of this"
)]

pub mod flaky;

use std::sync::Arc;

use freehold_audit::{
    Actor, Entry, EntryId, Log, Pass, Sequencer, SequencerOptions, SigningKey, pending,
};
use freehold_model::{Clock, Kind, Name, ResourceKey, SystemClock, SystemEntropy};
use freehold_store::{Batch, MemoryStore, StoreHandle};

pub const ORIGIN: &str = "freehold.test/audit";

pub fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

pub fn memory() -> StoreHandle {
    StoreHandle::new(MemoryStore::new(
        Arc::new(SystemClock),
        Arc::new(SystemEntropy),
    ))
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// `subject` applied the team's database of the same name.
pub fn entry(subject: &str, target: &str) -> Entry {
    let target = ResourceKey {
        kind: Kind::Database,
        environment: Some(name("prod")),
        team: Some(name("shop")),
        name: name(target),
    };
    let actor = Actor::token(&name(subject), "tokenid");
    Entry::new(SystemClock.now(), actor, "database.apply", Some(target))
}

pub async fn record(store: &StoreHandle, entry: &Entry) {
    let mut batch = Batch::new();
    let id = EntryId::generate(entry.at, &SystemEntropy);
    batch.writes.push(pending(entry, id));
    store.apply(batch).await.unwrap();
}

pub struct World {
    pub store: StoreHandle,
    pub sequencer: Sequencer,
    recorded: u64,
}

impl World {
    pub async fn new() -> Self {
        Self::build(memory(), key(), SequencerOptions::default()).await
    }

    pub async fn on(store: StoreHandle) -> Self {
        Self::build(store, key(), SequencerOptions::default()).await
    }

    pub async fn with_batch_max(batch_max: usize) -> Self {
        let options = SequencerOptions {
            batch_max,
            ..SequencerOptions::default()
        };
        Self::build(memory(), key(), options).await
    }

    pub async fn with_key(key: SigningKey) -> Self {
        Self::build(memory(), key, SequencerOptions::default()).await
    }

    async fn build(store: StoreHandle, key: SigningKey, options: SequencerOptions) -> Self {
        freehold_audit::define(&store).await.unwrap();
        let sequencer = Sequencer::new(store.clone(), key, "one", options);
        let recorded = 0;
        Self {
            store,
            sequencer,
            recorded,
        }
    }

    pub fn log(&self) -> Log {
        Log::new(self.store.clone())
    }

    pub async fn record_all(&mut self, entries: u64) {
        for _ in 0..entries {
            self.recorded += 1;
            record(&self.store, &entry("ana", &format!("db{}", self.recorded))).await;
        }
    }

    pub async fn pass(&mut self) -> u64 {
        match self.sequencer.pass().await.unwrap() {
            Pass::Sequenced(entries) => entries,
            Pass::NotHolder => panic!("another sequencer holds the lease"),
        }
    }

    pub async fn export(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.log()
            .export(key().verifying_key(), &mut bytes)
            .await
            .unwrap();
        bytes
    }
}
