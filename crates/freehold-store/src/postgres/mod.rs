//! The store in a schema of a PostgreSQL database (14 or later): for several replicas.
//!
//! **One batch is one call of one function**, `apply_v1`: one round trip, one transaction. There is
//! no client between its first lock and its commit, so a client that is stopped or killed holds
//! nothing up, and a batch is all or nothing whatever happens to whom.
//!
//! **Checks** run at READ COMMITTED under advisory locks on the names of what the batch touches
//! (exclusive for what it writes, shared for what it only checks), taken in one order by everyone
//! before the first look. Each look after that has a snapshot of its own that contains what the previous
//! holder of the lock committed. So nothing is lost, nothing is skewed, and there is no serialization
//! failure to retry.
//!
//! **The change feed** must deliver in an order in which the batches could have been committed one at
//! a time, without gaps. A sequence alone does not do that: numbers are taken before the commit and
//! become visible in any order. A counter row would, at the price of one commit at a time; waiting for
//! the cluster's oldest transaction would, until somebody leaves a transaction open anywhere in the
//! cluster. So there are two steps:
//!
//! 1. A writer inserts its changes into `outbox`, with a sequence value that it takes *after* it has
//!    taken all its locks and done all its checks, and keeps the locks until after the commit.
//! 2. A reader first runs `sequence_v1`: under one lock it moves all that it sees in `outbox` to `feed`,
//!    ordered by the sequence value, with gapless positions. It reads after that was committed.
//!
//! Why that order is right. Let batch B depend on batch A: both touch one record (write–write, or one
//! checks what the other writes) or one unique value, or B's caller knew that A was done. Then B took
//! its last lock after A had committed, because A gave its locks back after its commit became visible.
//! So B's sequence value is greater than A's, and every snapshot that contains B contains A. A reader
//! that moves B therefore moves A before B or has moved it already. What does not depend on each other
//! may be moved in either order. What is still running when a reader moves will be moved by a
//! later reader to a later position; nothing that was moved can depend on it.
//!
//! **Expiry and leases** run on the server's clock. A batch that demands a lease locks the lease's
//! row `FOR SHARE`, so the lease cannot go to another holder before the batch has committed.
//!
//! **A lost connection** during a write is `Undetermined` and never a conflict.
//!
//! Left out: connection poolers in transaction mode (the session carries settings), reads from
//! standbys. After a failover to a standby that replicates asynchronously, acknowledged writes may be
//! missing; use a synchronous standby for the control plane.

mod apply;
mod connect;
mod fault;
mod reading;
mod upkeep;

use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use deadpool_postgres::{Object, Pool};
use freehold_model::Entropy;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_postgres::{Statement, types::ToSql};

pub use self::connect::{PostgresConfig, PostgresTls};
use self::{apply::Answer, connect::Session, fault::Effect, reading::Trouble, upkeep::Wish};
use crate::{
    ApplyOutcome, Batch, Capabilities, ChangePosition, Changes, CollectionName, CollectionSpec,
    Durability, Error, ErrorKind, Key, Lease, LeaseName, Page, Record, Result, Scan, Store,
    batch::{self, Prepared},
    index::Definitions,
    paging::Plan,
    record::stored_time,
};

/// Batches that meet a deadlock with somebody outside, or a definition that keeps changing, are
/// tried this often.
const ATTEMPTS: usize = 5;
/// Calls at once, which is as good as any number: closing waits until it has all of them.
const CALLS_MAX: u32 = 1 << 20;

/// See the module's description. A clone is another handle to the same connections.
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool,
    calls: Arc<Semaphore>,
    schema: Arc<str>,
    space: i32,
    request_timeout: Duration,
    /// As this process last saw them; every use is confirmed by the server.
    definitions: Arc<RwLock<Arc<Definitions>>>,
    entropy: Arc<dyn Entropy>,
    capabilities: Arc<Capabilities>,
}

impl PostgresStore {
    /// Connects, and makes the schema, its tables and functions when they are not there.
    ///
    /// Fails as `Unavailable` when the server cannot be reached, as `Config` when it refuses the login
    /// or the schema is not a store's.
    pub async fn connect(config: PostgresConfig, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let schema = connect::schema_name(&config)?;
        let store = Self {
            pool: connect::pool(&config)?,
            calls: Arc::new(Semaphore::new(CALLS_MAX as usize)),
            space: apply::space(&schema),
            schema: schema.into(),
            request_timeout: config.request_timeout,
            definitions: Arc::default(),
            entropy,
            capabilities: Arc::new(capabilities()),
        };
        let mut client = store.session().await?;
        let prepared = upkeep::prepare(&mut client, &store.schema, store.space);
        let prepared = store.at_length(Effect::None, prepared).await;
        give_back(client, prepared)?;
        store.reload().await?;
        Ok(store)
    }

    async fn session(&self) -> Result<Session> {
        let closed = |source| {
            let message = "the store is closed; nothing was changed";
            Error::new(ErrorKind::Unavailable, message).because(source)
        };
        let call = Arc::clone(&self.calls).acquire_owned().await;
        let call = call.map_err(closed)?;
        let client = self.pool.get().await.map_err(fault::pool)?;
        Ok(Session::new(client, call))
    }

    async fn client(&self) -> Result<Arc<Session>> {
        self.session().await.map(Arc::new)
    }

    fn known(&self) -> Arc<Definitions> {
        Arc::clone(
            &self
                .definitions
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    async fn reload(&self) -> Result<Arc<Definitions>> {
        let schema = &*self.schema;
        let load =
            |client: Arc<Session>| async move { upkeep::load_definitions(&client, schema).await };
        let fresh = self.read(load).await?;
        let fresh = Arc::new(fresh);
        *self
            .definitions
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(fresh)
    }

    /// Runs a read; a connection that turns out to be dead is replaced once.
    async fn read<T, F>(&self, read: impl Fn(Arc<Session>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut fresh = false;
        loop {
            let client = self.client().await?;
            match self.answer(Effect::None, client, &read).await {
                Err(error) if error.kind() == ErrorKind::Unavailable && !fresh => fresh = true,
                result => return result,
            }
        }
    }

    async fn write<T, F>(&self, write: impl Fn(Arc<Session>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let client = self.client().await?;
        self.answer(Effect::Write, client, &write).await
    }

    /// Runs one call within the time that calls have. A connection that did not answer may still be
    /// at work and is not used again.
    async fn answer<T, F>(
        &self,
        effect: Effect,
        client: Arc<Session>,
        call: &impl Fn(Arc<Session>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let work = call(Arc::clone(&client));
        match tokio::time::timeout(self.request_timeout, work).await {
            Ok(result) => result.map_err(|trouble| settle(effect, trouble)),
            Err(_) => {
                discard(client);
                Err(fault::timed_out(effect))
            }
        }
    }

    /// Runs what takes as long as it takes, such as building an index or waiting for another replica
    /// that does so: for as long as the server answers somebody else meanwhile.
    async fn at_length(
        &self,
        effect: Effect,
        work: impl Future<Output = Result<(), Trouble>> + Send,
    ) -> Result<()> {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(self.request_timeout, &mut work).await {
                return done.map_err(|trouble| settle(effect, trouble));
            }
            let alive = self.read(|client| async move {
                client.batch_execute("").await?;
                Ok(())
            });
            if let Err(error) = alive.await
                && error.kind() == ErrorKind::Unavailable
            {
                return Err(fault::timed_out(effect));
            }
        }
    }

    async fn redefine(&self, wish: Wish<'_>) -> Result<()> {
        if wish.is_granted(&*self.reload().await?)? {
            return Ok(());
        }
        let mut client = self.session().await?;
        let redefined = upkeep::redefine(&mut client, &self.schema, self.space, &wish);
        let redefined = self.at_length(Effect::Write, redefined).await;
        give_back(client, redefined)?;
        self.reload().await.map(drop)
    }

    async fn lease_row(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<(i64, i64)>> {
        let sql = &sql.replace("{s}", &self.schema);
        self.write(|client| async move {
            let statement = client.prepare_cached(sql).await?;
            let row = client.query_opt(&statement, values).await?;
            Ok(row.map(|row| (row.get(0), row.get(1))))
        })
        .await
    }
}

/// Ends a connection instead of giving it back.
fn discard(client: Arc<Session>) {
    if let Some(session) = Arc::into_inner(client) {
        drop(Object::take(session.into_client()));
    }
}

/// Keeps a connection only when its work succeeded: one that was given up may still be at it.
fn give_back(client: Session, outcome: Result<()>) -> Result<()> {
    if outcome.is_err() {
        drop(Object::take(client.into_client()));
    }
    outcome
}

fn settle(effect: Effect, trouble: Trouble) -> Error {
    match trouble {
        Trouble::Server(source) => fault::translate(effect, source),
        Trouble::Content(error) => error,
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        adapter: "postgres",
        durability: Durability::Power,
        atomic_batches: true,
        writes_per_batch_max: batch::WRITES_PER_BATCH_MAX,
        value_bytes_max: batch::VALUE_BYTES_MAX,
        secondary_indexes: true,
        unique_indexes: true,
        linearizable_reads: true,
        change_feed: true,
        leases: true,
        change_retention: None,
        shared: true,
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PostgresStore").field(&self.schema).finish()
    }
}

impl Store for PostgresStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn define(&self, spec: CollectionSpec) -> Result<()> {
        self.redefine(Wish::Define(&spec)).await
    }

    async fn drop_index(&self, collection: &CollectionName, index: &str) -> Result<()> {
        self.redefine(Wish::Drop(collection, index)).await
    }

    async fn get(&self, collection: &CollectionName, key: &Key) -> Result<Option<Record>> {
        let schema = &*self.schema;
        self.read(|client| async move { reading::get(&client, schema, collection, key).await })
            .await
    }

    async fn apply(&self, batch: Batch) -> Result<ApplyOutcome> {
        let mut definitions = self.known();
        let mut prepared = Prepared::new(batch, &self.capabilities, &definitions, &*self.entropy)?;
        let mut victims = Vec::new();
        let sql = apply::CALL.replace("{s}", &self.schema);
        for _ in 0..ATTEMPTS {
            // Preparing changes nothing, so a connection that turns out to be dead here is no riddle.
            let (client, statement) = self.prepared(&sql).await?;
            let (statement, space) = (&statement, self.space);
            let (batch, known, evict) = (&prepared, &definitions, &victims);
            let call = |client: Arc<Session>| async move {
                Ok(apply::call(&client, statement, space, batch, known, evict).await)
            };
            match self.answer(Effect::Write, client, &call).await? {
                Err(source) if fault::is_rerunnable(&source) => {}
                Err(source) => return Err(fault::translate(Effect::Write, source)),
                Ok(answer) => match answer? {
                    Answer::Done(outcome) => return Ok(outcome),
                    Answer::Stale => {
                        definitions = self.reload().await?;
                        prepared.extract(&definitions)?;
                    }
                    Answer::Evict(collection, key) => victims.push((collection, key)),
                },
            }
        }
        Err(Error::new(
            ErrorKind::Throttled,
            format!("the batch met others {ATTEMPTS} times; nothing was changed, try again"),
        ))
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let mut definitions = self.known();
        for _ in 0..ATTEMPTS {
            let plan = match Plan::new(&scan, &definitions) {
                // An index that we have not heard of yet.
                Err(error) if error.kind() == ErrorKind::Config => {
                    definitions = self.reload().await?;
                    Plan::new(&scan, &definitions)?
                }
                plan => plan?,
            };
            let (schema, plan, known) = (&*self.schema, &plan, &definitions);
            let read = |client: Arc<Session>| async move {
                reading::scan(&client, schema, plan, known).await
            };
            let page = self.read(read).await?;
            match page {
                Some(page) => return Ok(page),
                None => definitions = self.reload().await?,
            }
        }
        Err(Error::new(
            ErrorKind::Throttled,
            "the definitions kept changing during the scan; try again",
        ))
    }

    async fn changes(&self, after: Option<ChangePosition>, limit: usize) -> Result<Changes> {
        let (schema, space) = (&*self.schema, self.space);
        let read = |client: Arc<Session>| async move {
            reading::changes(&client, schema, space, after, limit).await
        };
        self.read(read).await
    }

    async fn lease_acquire(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>> {
        batch::lease_end(Timestamp::UNIX_EPOCH, holder, ttl)?;
        let granted = self
            .lease_row(
                "INSERT INTO {s}.leases AS l (name, holder, epoch, until)
                 VALUES ($1, $2, 1, {s}.now_v1() + $3)
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = l.epoch + 1,
                    until = {s}.now_v1() + $3
                 WHERE l.until <= {s}.now_v1() OR l.holder = excluded.holder
                 RETURNING epoch, until",
                &[&name.as_str().as_bytes(), &holder, &micros(ttl)],
            )
            .await?;
        granted
            .map(|(epoch, until)| {
                Ok(Lease {
                    name: name.clone(),
                    holder: holder.to_owned(),
                    epoch: epoch.cast_unsigned(),
                    until: stored_time(until)?,
                    ttl,
                })
            })
            .transpose()
    }

    async fn lease_renew(&self, lease: &Lease) -> Result<Lease> {
        batch::renewed(lease, Timestamp::UNIX_EPOCH)?;
        let renewed = self
            .lease_row(
                "UPDATE {s}.leases SET until = {s}.now_v1() + $3
                 WHERE name = $1 AND epoch = $2 AND until > {s}.now_v1() RETURNING epoch, until",
                &[
                    &lease.name.as_str().as_bytes(),
                    &apply::number(lease.epoch),
                    &micros(lease.ttl),
                ],
            )
            .await?;
        match renewed {
            Some((_, until)) => Ok(Lease {
                until: stored_time(until)?,
                ..lease.clone()
            }),
            None => Err(batch::lease_lost(&lease.name, lease.epoch)),
        }
    }

    async fn lease_release(&self, lease: &Lease) -> Result<()> {
        // The row stays as the memory of its epoch.
        self.lease_row(
            "UPDATE {s}.leases SET until = 0 WHERE name = $1 AND epoch = $2 RETURNING epoch, until",
            &[&lease.name.as_str().as_bytes(), &apply::number(lease.epoch)],
        )
        .await
        .map(drop)
    }

    async fn now(&self) -> Result<Timestamp> {
        let sql = &format!("SELECT {}.now_v1()", self.schema);
        let read = |client: Arc<Session>| async move {
            let statement = client.prepare_cached(sql).await?;
            Ok(client.query_one(&statement, &[]).await?.get(0))
        };
        stored_time(self.read(read).await?)
    }

    async fn purge(&self, keep_changes: Duration) -> Result<u64> {
        let (schema, space) = (&*self.schema, self.space);
        let expired = |client: Arc<Session>| async move {
            upkeep::purge_expired(&client, schema, space).await
        };
        let trim = |client: Arc<Session>| async move {
            upkeep::trim_feed(&client, schema, space, keep_changes).await
        };
        let mut removed = 0;
        loop {
            let (found, gone) = self.write(expired).await?;
            removed += gone;
            if found < usize::try_from(upkeep::CHUNK).unwrap_or(usize::MAX) {
                break;
            }
        }
        // What nobody has read yet gets its positions here, and its age counts from its commit.
        self.changes(None, 1).await?;
        while self.write(trim).await? == i64::from(upkeep::CHUNK) {}
        Ok(removed)
    }

    async fn close(&self) {
        if let Ok(_all) = self.calls.acquire_many(CALLS_MAX).await {
            self.calls.close();
        }
        // Nobody uses a connection any more. The driver tells the server that each one ends.
        self.pool.close();
    }
}

impl PostgresStore {
    /// A connection that has just prepared the statement; one that turns out to be dead is replaced
    /// once.
    async fn prepared(&self, sql: &str) -> Result<(Arc<Session>, Statement)> {
        let mut fresh = false;
        loop {
            let client = self.client().await?;
            let prepare =
                |client: Arc<Session>| async move { Ok(client.prepare_cached(sql).await?) };
            let error = match self
                .answer(Effect::None, Arc::clone(&client), &prepare)
                .await
            {
                Ok(statement) => return Ok((client, statement)),
                Err(error) => error,
            };
            discard(client);
            if fresh || error.kind() != ErrorKind::Unavailable {
                return Err(error);
            }
            fresh = true;
        }
    }
}

fn micros(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX)
}
