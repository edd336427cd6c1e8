//! The store in memory: for tests, for trying things out, and as the model the others are tested
//! against.
//!
//! Plain ordered maps behind one mutex. Every operation holds the lock from its first check to its
//! last write, which makes all of them linearizable by construction. The code is deliberately the
//! shortest one that keeps the promises, and shares with the other adapters only what is pure, so that
//! the model-based tests compare two implementations and not one with itself.
//!
//! A clone is another handle to the same store. Nothing survives the process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use freehold_model::{Clock, Entropy};
use jiff::Timestamp;

use crate::{
    ApplyOutcome, Batch, Capabilities, Change, ChangeKind, ChangePosition, Changes, CollectionName,
    CollectionSpec, Durability, Etag, Key, Lease, LeaseName, Page, Precondition, Record, Result,
    Scan, Store, Write,
    batch::{self, Prepared},
    index::{self, Definition, Definitions, Merge, entries_of},
    paging::Plan,
};

/// See the module's description.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    capabilities: Capabilities,
}

impl MemoryStore {
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            state: Arc::default(),
            clock,
            entropy,
            capabilities: Capabilities {
                adapter: "memory",
                durability: Durability::None,
                atomic_batches: true,
                writes_per_batch_max: batch::WRITES_PER_BATCH_MAX,
                value_bytes_max: batch::VALUE_BYTES_MAX,
                secondary_indexes: true,
                unique_indexes: true,
                linearizable_reads: true,
                change_feed: true,
                leases: true,
                change_retention: None,
                shared: false,
            },
        }
    }

    /// The state, and the time at which everything in this step happens.
    fn enter(&self) -> (MutexGuard<'_, State>, Timestamp) {
        // Every step checks before it changes anything, so a panic leaves nothing half done.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state, batch::truncate(self.clock.now()))
    }
}

type Records = BTreeMap<Vec<u8>, Record>;
/// Index, value, key.
type Entries = BTreeSet<(String, Vec<u8>, Vec<u8>)>;

#[derive(Debug, Default)]
struct State {
    definitions: Definitions,
    records: BTreeMap<CollectionName, Records>,
    entries: BTreeMap<CollectionName, Entries>,
    feed: VecDeque<(Change, Timestamp)>,
    last: u64,
    trimmed: u64,
    leases: HashMap<LeaseName, Grant>,
}

#[derive(Debug)]
struct Grant {
    holder: String,
    epoch: u64,
    until: Timestamp,
}

impl Store for MemoryStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn define(&self, spec: CollectionSpec) -> Result<()> {
        let (mut state, now) = self.enter();
        let stored = state.definitions.collections.get(&spec.name);
        match stored.cloned().unwrap_or_default().merge(&spec)? {
            Merge::Unchanged => Ok(()),
            Merge::Changed(definition, rebuild) => {
                state.redefine(&spec.name, definition, &rebuild, now)
            }
        }
    }

    async fn drop_index(&self, collection: &CollectionName, index: &str) -> Result<()> {
        let (mut state, now) = self.enter();
        let stored = state.definitions.collections.get(collection);
        match stored.and_then(|definition| definition.without(index)) {
            None => Ok(()),
            Some(rest) => state.redefine(collection, rest, &[index.to_owned()], now),
        }
    }

    async fn get(&self, collection: &CollectionName, key: &Key) -> Result<Option<Record>> {
        let (state, now) = self.enter();
        Ok(state.live(collection, key, now).cloned())
    }

    async fn apply(&self, batch: Batch) -> Result<ApplyOutcome> {
        let (mut state, now) = self.enter();
        let prepared = Prepared::new(
            batch,
            &self.capabilities,
            &state.definitions,
            &*self.entropy,
        )?;
        state.check(&prepared, now)?;
        state.check_unique(&prepared, now)?;
        Ok(state.write(&prepared, now))
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let (state, now) = self.enter();
        let plan = Plan::new(&scan, &state.definitions)?;
        let mut page = plan.page();
        match &plan.index {
            None => state.scan_keys(&plan, now, &mut page)?,
            Some(index) => state.scan_index(index, &plan, now, &mut page)?,
        }
        Ok(page.finish())
    }

    async fn changes(&self, after: Option<ChangePosition>, limit: usize) -> Result<Changes> {
        let (state, _) = self.enter();
        let after = after.map_or(state.trimmed, |position| position.0);
        if after < state.trimmed {
            return Err(batch::compacted(after, state.trimmed));
        }
        if after > state.last {
            return Err(batch::ahead(after, state.last));
        }
        let changes: Vec<Change> = state
            .feed
            .iter()
            .skip(usize::try_from(after - state.trimmed).unwrap_or(usize::MAX))
            .take(limit)
            .map(|(change, _)| change.clone())
            .collect();
        let next = changes.last().map_or(ChangePosition(after), |c| c.position);
        Ok(Changes { changes, next })
    }

    async fn lease_acquire(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>> {
        let (mut state, now) = self.enter();
        let until = batch::lease_end(now, holder, ttl)?;
        let old = state.leases.get(name);
        if old.is_some_and(|grant| grant.until > now && grant.holder != holder) {
            return Ok(None);
        }
        let epoch = old.map_or(0, |grant| grant.epoch) + 1;
        let holder = holder.to_owned();
        let grant = Grant {
            holder: holder.clone(),
            epoch,
            until,
        };
        state.leases.insert(name.clone(), grant);
        Ok(Some(Lease {
            name: name.clone(),
            holder,
            epoch,
            until,
            ttl,
        }))
    }

    async fn lease_renew(&self, lease: &Lease) -> Result<Lease> {
        let (mut state, now) = self.enter();
        let renewed = batch::renewed(lease, now)?;
        match state.leases.get_mut(&lease.name) {
            Some(grant) if grant.epoch == lease.epoch && grant.until > now => {
                grant.until = renewed.until;
                Ok(renewed)
            }
            _ => Err(batch::lease_lost(&lease.name, lease.epoch)),
        }
    }

    async fn lease_release(&self, lease: &Lease) -> Result<()> {
        let (mut state, _) = self.enter();
        if let Some(grant) = state.leases.get_mut(&lease.name)
            && grant.epoch == lease.epoch
        {
            // The grant stays as the memory of its epoch.
            grant.until = Timestamp::MIN;
        }
        Ok(())
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.enter().1)
    }

    async fn purge(&self, keep_changes: Duration) -> Result<u64> {
        let (mut state, now) = self.enter();
        let removed = state.remove_expired(now, |_| true);
        let oldest = now.checked_sub(keep_changes).unwrap_or(Timestamp::MIN);
        while let Some((change, at)) = state.feed.front()
            && *at <= oldest
        {
            state.trimmed = change.position.0;
            state.feed.pop_front();
        }
        Ok(removed as u64)
    }

    async fn close(&self) {}
}

fn is_live(record: &Record, now: Timestamp) -> bool {
    record.expires_at.is_none_or(|end| end > now)
}

impl State {
    fn stored(&self, collection: &CollectionName, key: &[u8]) -> Option<&Record> {
        self.records.get(collection)?.get(key)
    }

    fn live(&self, collection: &CollectionName, key: &Key, now: Timestamp) -> Option<&Record> {
        self.stored(collection, key.as_str().as_bytes())
            .filter(|record| is_live(record, now))
    }

    fn check(&self, prepared: &Prepared, now: Timestamp) -> Result<()> {
        let etag = |collection, key| self.live(collection, key, now).map(|record| &record.etag);
        let preconditions = &prepared.batch.preconditions;
        for (at, precondition) in preconditions.iter().enumerate() {
            match precondition {
                Precondition::LeaseHeld { name, epoch } => {
                    let held = self
                        .leases
                        .get(name)
                        .is_some_and(|grant| grant.epoch == *epoch && grant.until > now);
                    if !held {
                        return Err(batch::lease_lost(name, *epoch).at(at));
                    }
                }
                Precondition::Unchanged {
                    collection, key, ..
                }
                | Precondition::Absent { collection, key } => {
                    batch::holds(precondition, etag(collection, key)).map_err(|e| e.at(at))?;
                }
            }
        }
        for (at, write) in prepared.batch.writes.iter().enumerate() {
            let (collection, key) = write.target();
            write
                .permitted(etag(collection, key))
                .map_err(|e| e.at(preconditions.len() + at))?;
        }
        Ok(())
    }

    /// Unique indexes as they will be after the batch: what it rewrites no longer counts.
    fn check_unique(&self, prepared: &Prepared, now: Timestamp) -> Result<()> {
        let writes = &prepared.batch.writes;
        let rewritten: BTreeSet<_> = writes.iter().map(Write::target).collect();
        let mut taken = BTreeMap::new();
        for (at, write) in writes.iter().enumerate() {
            let (collection, key) = write.target();
            for entry in prepared.entries[at].iter().filter(|entry| entry.unique) {
                let in_batch = taken.insert((collection, &entry.index, &entry.value), key);
                let owner = in_batch.cloned().or_else(|| {
                    self.owners(collection, &entry.index, &entry.value)
                        .find(|owner| {
                            is_live(owner, now) && !rewritten.contains(&(collection, &owner.key))
                        })
                        .map(|owner| owner.key.clone())
                });
                if let Some(owner) = owner {
                    let position = prepared.batch.preconditions.len() + at;
                    return Err(
                        batch::unique_taken(collection, &entry.index, owner.as_str()).at(position),
                    );
                }
            }
        }
        Ok(())
    }

    fn owners<'a>(
        &'a self,
        collection: &'a CollectionName,
        index: &str,
        value: &[u8],
    ) -> impl Iterator<Item = &'a Record> {
        let from = (index.to_owned(), value.to_vec(), Vec::new());
        let (index, value) = (index.to_owned(), value.to_vec());
        self.entries
            .get(collection)
            .into_iter()
            .flat_map(move |entries| entries.range(from.clone()..))
            .take_while(move |(i, v, _)| *i == index && *v == value)
            .filter_map(move |(_, _, key)| self.stored(collection, key))
    }

    fn write(&mut self, prepared: &Prepared, now: Timestamp) -> ApplyOutcome {
        // Old entries go first, so that records of one batch may hand a unique value on.
        let mut before = Vec::with_capacity(prepared.batch.writes.len());
        for write in &prepared.batch.writes {
            let (collection, key) = write.target();
            before.push(self.take(collection, key));
        }
        let mut etags = Vec::with_capacity(before.len());
        for (at, (write, before)) in prepared.batch.writes.iter().zip(before).enumerate() {
            let Write::Put {
                collection,
                key,
                value,
                expires_at,
                ..
            } = write
            else {
                let (collection, key) = write.target();
                if before.is_some() {
                    self.announce(collection, key, ChangeKind::Delete, now);
                }
                etags.push(None);
                continue;
            };
            for entry in &prepared.entries[at] {
                if entry.unique {
                    self.evict_expired(collection, &entry.index, &entry.value, now);
                }
                let row = (entry.index.clone(), entry.value.clone(), bytes(key));
                self.entries
                    .entry(collection.clone())
                    .or_default()
                    .insert(row);
            }
            let before = before.filter(|record| is_live(record, now));
            let rev = before.as_ref().map_or(0, |record| record.etag.rev()) + 1;
            let etag = Etag::new(rev, prepared.nonces[at]);
            let record = Record {
                collection: collection.clone(),
                key: key.clone(),
                value: value.clone(),
                etag: etag.clone(),
                created_at: before.map_or(now, |record| record.created_at),
                updated_at: now,
                expires_at: expires_at.map(batch::truncate),
            };
            self.records
                .entry(collection.clone())
                .or_default()
                .insert(bytes(key), record);
            self.announce(collection, key, ChangeKind::Put { etag: etag.clone() }, now);
            etags.push(Some(etag));
        }
        ApplyOutcome { etags }
    }

    /// An expired record whose unique value is being taken is purged now. It must not come back to
    /// life with that value should the clock be set back.
    fn evict_expired(
        &mut self,
        collection: &CollectionName,
        index: &str,
        value: &[u8],
        now: Timestamp,
    ) {
        let expired: Vec<Key> = self
            .owners(collection, index, value)
            .map(|owner| owner.key.clone())
            .collect();
        for key in expired {
            self.remove(collection, &key, now);
        }
    }

    /// Expired records that `wanted` picks go as if they had been deleted, in order of expiry.
    fn remove_expired(&mut self, now: Timestamp, wanted: impl Fn(&Record) -> bool) -> usize {
        let mut expired: Vec<(Option<Timestamp>, CollectionName, Key)> = self
            .records
            .values()
            .flat_map(BTreeMap::values)
            .filter(|record| !is_live(record, now) && wanted(record))
            .map(|record| {
                (
                    record.expires_at,
                    record.collection.clone(),
                    record.key.clone(),
                )
            })
            .collect();
        expired.sort();
        for (_, collection, key) in &expired {
            self.remove(collection, key, now);
        }
        expired.len()
    }

    fn remove(&mut self, collection: &CollectionName, key: &Key, now: Timestamp) {
        self.take(collection, key);
        self.announce(collection, key, ChangeKind::Delete, now);
    }

    /// Removes a record and its entries, whether or not it is live.
    fn take(&mut self, collection: &CollectionName, key: &Key) -> Option<Record> {
        let removed = self
            .records
            .get_mut(collection)?
            .remove(key.as_str().as_bytes())?;
        if let Some(entries) = self.entries.get_mut(collection) {
            // What stands in the indexes was readable when it was put there.
            let made = entries_of(&self.definitions, collection, &removed.value);
            for entry in made.unwrap_or_default() {
                entries.remove(&(entry.index, entry.value, bytes(key)));
            }
        }
        Some(removed)
    }

    fn announce(
        &mut self,
        collection: &CollectionName,
        key: &Key,
        kind: ChangeKind,
        now: Timestamp,
    ) {
        self.last += 1;
        let change = Change {
            position: ChangePosition(self.last),
            collection: collection.clone(),
            key: key.clone(),
            kind,
        };
        self.feed.push_back((change, now));
    }

    /// Stores a definition and builds the named indexes anew (or only removes what is gone).
    fn redefine(
        &mut self,
        collection: &CollectionName,
        definition: Definition,
        rebuild: &[String],
        now: Timestamp,
    ) -> Result<()> {
        self.remove_expired(now, |record| record.collection == *collection);
        let mut entries = self.entries.get(collection).cloned().unwrap_or_default();
        entries.retain(|(index, _, _)| !rebuild.contains(index));
        let mut owners = BTreeMap::new();
        for record in self
            .records
            .get(collection)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            let made = definition
                .entries_where(record.value.text(), |name| {
                    rebuild.iter().any(|r| r == name)
                })
                .map_err(|e| index::build_refused(collection, &record.key, e))?;
            for entry in made {
                let key = bytes(&record.key);
                if entry.unique {
                    let at = (entry.index.clone(), entry.value.clone());
                    if let Some(other) = owners.insert(at, key.clone()) {
                        return Err(index::unique_build_refused(
                            collection,
                            &entry.index,
                            &other,
                            &key,
                        ));
                    }
                }
                entries.insert((entry.index, entry.value, key));
            }
        }
        self.entries.insert(collection.clone(), entries);
        self.definitions.version += 1;
        self.definitions
            .collections
            .insert(collection.clone(), definition);
        Ok(())
    }
}

fn bytes(key: &Key) -> Vec<u8> {
    key.as_str().as_bytes().to_vec()
}

mod reading {
    use super::{Plan, Result, State, Timestamp, is_live};
    use crate::paging::PageBuilder;

    impl State {
        pub(super) fn scan_keys(
            &self,
            plan: &Plan<'_>,
            now: Timestamp,
            page: &mut PageBuilder<'_>,
        ) -> Result<()> {
            let Some(records) = self.records.get(plan.collection()) else {
                return Ok(());
            };
            for (key, record) in records.range(plan.from.clone()..) {
                if plan.to.as_ref().is_some_and(|to| key >= to) {
                    return Ok(());
                }
                let fresh = plan.after.as_ref().is_none_or(|after| *key > after.key);
                if fresh && is_live(record, now) && !page.offer(record.clone(), &[])? {
                    return Ok(());
                }
            }
            Ok(())
        }

        pub(super) fn scan_index(
            &self,
            index: &str,
            plan: &Plan<'_>,
            now: Timestamp,
            page: &mut PageBuilder<'_>,
        ) -> Result<()> {
            let Some(entries) = self.entries.get(plan.collection()) else {
                return Ok(());
            };
            let first = (index.to_owned(), plan.from.clone(), Vec::new());
            for (name, value, key) in entries.range(first..) {
                if name != index || plan.to.as_ref().is_some_and(|to| value >= to) {
                    return Ok(());
                }
                let fresh = |place: &crate::token::Place| (value, key) > (&place.value, &place.key);
                let record = self
                    .stored(plan.collection(), key)
                    .filter(|r| is_live(r, now));
                if plan.after.as_ref().is_none_or(fresh)
                    && let Some(record) = record
                    && !page.offer(record.clone(), value)?
                {
                    return Ok(());
                }
            }
            Ok(())
        }
    }
}
