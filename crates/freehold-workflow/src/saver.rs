//! Saving with certainty.
//!
//! A save is one batch: the operation's record (its etag must match), an event, the end of the claim
//! where the operation ends, the caller's records, all under the lease. The reply may be lost, and
//! a person may have asked to cancel in between. So whenever it is not clear what happened, the
//! record is read again: it carries the nonce of the last save that took hold. Ours: it is saved.
//! The former one: nothing was saved, or only a request was written; the change is applied to the
//! record as it is now and saved again. Any other: somebody else is at work here; we stop.

use std::sync::Arc;

use freehold_model::{Entropy, Gate};
use freehold_store::{
    Batch, DeleteMode, Error, ErrorKind, Etag, Precondition, PutMode, Retry, StoreHandle, Value,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    EventRecord, OperationRecord,
    backoff::Patience,
    change::{self, Change},
    held::{Held, nonce},
    record,
};

/// How a save ended.
#[derive(Debug)]
pub(crate) enum Saved {
    Yes,
    /// The lease or the record is somebody else's now.
    Lost,
    /// A record or precondition of the caller's was refused because it changed: read afresh.
    Conflict(Error),
    /// It can never be saved like this.
    Refused(Error),
}

/// An operation's record as we last knew it, and what is needed to save the next one.
pub(crate) struct Saver<'a> {
    pub(crate) store: &'a StoreHandle,
    pub(crate) gate: &'a Gate,
    pub(crate) entropy: &'a Arc<dyn Entropy>,
    pub(crate) held: &'a Held,
    pub(crate) record: OperationRecord,
    etag: Etag,
    /// The store's clock when it was last asked, and when that was.
    clock: (Timestamp, Instant),
}

/// What one attempt told us.
enum Told {
    Committed(Etag),
    /// Nothing was saved; the same may succeed a little later.
    NotYet,
    /// It may have been saved.
    Unclear,
    /// One of our own elements was refused: the record has moved.
    Moved,
    /// One of the caller's elements was refused, or it is not known whose.
    Theirs(Error),
    Lost,
    Refused(Error),
}

/// What the record says after an unclear attempt.
enum Seen {
    Saved,
    Before,
    Lost,
}

impl<'a> Saver<'a> {
    /// Reads the record. `None` when it is not there or of a newer format.
    pub(crate) async fn open(
        store: &'a StoreHandle,
        gate: &'a Gate,
        entropy: &'a Arc<dyn Entropy>,
        held: &'a Held,
        id: freehold_model::OperationId,
    ) -> Result<Option<Self>, Error> {
        let now = store.now().await?;
        let Some((record, etag)) = read(store, id).await? else {
            return Ok(None);
        };
        Ok((record.format <= record::FORMAT).then_some(Self {
            store,
            gate,
            entropy,
            held,
            record,
            etag,
            clock: (now, Instant::now()),
        }))
    }

    /// The store's time, carried on by our monotonic clock since it was last asked.
    pub(crate) fn now(&self) -> Timestamp {
        change::later(self.clock.0, self.clock.1.elapsed())
    }

    /// Asks the store for the time.
    pub(crate) async fn tick(&mut self) -> Result<Timestamp, Error> {
        self.clock = (self.store.now().await?, Instant::now());
        Ok(self.clock.0)
    }

    /// Reads the record again, for what people have written into it.
    pub(crate) async fn refresh(&mut self) -> Result<bool, Error> {
        let base = self.record.save.clone();
        Ok(match read(self.store, self.record.id).await? {
            Some((record, etag)) if record.save == base => {
                (self.record, self.etag) = (record, etag);
                true
            }
            _ => false,
        })
    }

    /// Saves a change. Does not return before it knows, except when the lease is lost. Dropping the
    /// future leaves it open whether it was saved; the next save finds out.
    pub(crate) async fn save(&mut self, change: &Change) -> Saved {
        let lost = self.held.lost().clone();
        tokio::select! {
            biased;
            () = lost.cancelled() => Saved::Lost,
            saved = self.save_until_certain(change) => saved,
        }
    }

    async fn save_until_certain(&mut self, change: &Change) -> Saved {
        const SURPRISES_MAX: u32 = 5;
        let save = nonce(&**self.entropy);
        let mut patience = Patience::default();
        let mut surprises = 0;
        loop {
            let told = self.attempt(change, &save).await;
            let theirs = match told {
                Told::Committed(etag) => {
                    self.etag = etag;
                    return Saved::Yes;
                }
                Told::Lost => return Saved::Lost,
                Told::Refused(error) => return Saved::Refused(error),
                Told::NotYet => {
                    patience.wait().await;
                    continue;
                }
                Told::Theirs(error) => Some(error),
                Told::Moved => {
                    surprises += 1;
                    None
                }
                Told::Unclear => None,
            };
            match (self.look(&save).await, theirs) {
                (Seen::Saved, _) => return Saved::Yes,
                (Seen::Lost, _) => return Saved::Lost,
                (Seen::Before, Some(error)) => return Saved::Conflict(error),
                (Seen::Before, None) if surprises > SURPRISES_MAX => {
                    return Saved::Refused(Error::corrupt(
                        "the operation's record and its history contradict each other",
                    ));
                }
                (Seen::Before, None) => patience.wait().await,
            }
        }
    }

    /// One attempt, between its fault points. On success the new record is ours.
    async fn attempt(&mut self, change: &Change, save: &str) -> Told {
        let (record, event) = change::applied(&self.record, change, self.now(), save);
        let (batch, ours) = match self.batch(&record, event, change) {
            Ok(batch) => batch,
            Err(error) => return Told::Refused(error),
        };
        let point = change.point(&self.record);
        if let Some(point) = &point
            && self.gate.before(point.as_str()).await.is_err()
        {
            return Told::NotYet;
        }
        let outcome = match self.store.apply(batch).await {
            Ok(outcome) => outcome,
            Err(error) => return told(error, &ours),
        };
        if let Some(point) = point
            && self.gate.after(point).await.is_err()
        {
            return Told::Unclear;
        }
        match outcome.etags.into_iter().next().flatten() {
            Some(etag) => {
                self.record = record;
                Told::Committed(etag)
            }
            None => Told::Unclear,
        }
    }

    /// The batch, and which of its positions are ours.
    fn batch(
        &self,
        record: &OperationRecord,
        event: Option<freehold_model::kinds::OperationEvent>,
        change: &Change,
    ) -> Result<(Batch, Ours), Error> {
        let mut batch = Batch::new().require(self.held.precondition()).put(
            &record::operations(),
            record.key(),
            Value::encode(record)?,
            PutMode::Match(self.etag.clone()),
        );
        if let Some(event) = event {
            let operation = record.id;
            let event = EventRecord { operation, event };
            batch = batch.put(
                &record::operation_events(),
                event.key(),
                Value::encode(&event)?,
                PutMode::Create,
            );
        }
        if record.phase.is_final() {
            let claim = record::claim_key(record.target_uid);
            batch = batch.delete(&record::claims(), claim, DeleteMode::Any);
        }
        let ours = Ours {
            preconditions: change.also.preconditions.len() + 1,
            writes: batch.writes.len(),
        };
        batch
            .preconditions
            .extend(change.also.preconditions.iter().cloned());
        batch.writes.extend(change.also.writes.iter().cloned());
        Ok((batch, ours))
    }

    /// Reads until the store answers what became of a save.
    async fn look(&mut self, save: &str) -> Seen {
        let mut patience = Patience::default();
        loop {
            match read(self.store, self.record.id).await {
                Ok(Some((record, etag))) if record.save == save => {
                    (self.record, self.etag) = (record, etag);
                    return Seen::Saved;
                }
                Ok(Some((record, etag))) if record.save == self.record.save => {
                    (self.record, self.etag) = (record, etag);
                    return Seen::Before;
                }
                Ok(_) => return Seen::Lost,
                Err(error) if error.retry() == Retry::No => {
                    tracing::error!(operation = %self.record.id, %error, "an operation's record cannot be read");
                    return Seen::Lost;
                }
                Err(_) => patience.wait().await,
            }
        }
    }
}

/// How many of a batch's leading elements are ours: the lease comes first among the preconditions.
struct Ours {
    /// All preconditions, the caller's included: positions count them before writes.
    preconditions: usize,
    writes: usize,
}

fn told(error: Error, ours: &Ours) -> Told {
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::VersionMismatch => match error.position() {
            Some(0) => Told::Lost,
            Some(at) if at >= ours.preconditions && at - ours.preconditions < ours.writes => {
                Told::Moved
            }
            _ => Told::Theirs(error),
        },
        ErrorKind::Unavailable | ErrorKind::Throttled => Told::NotYet,
        ErrorKind::Undetermined => Told::Unclear,
        _ => Told::Refused(error),
    }
}

/// An operation's record and etag.
pub(crate) async fn read(
    store: &StoreHandle,
    id: freehold_model::OperationId,
) -> Result<Option<(OperationRecord, Etag)>, Error> {
    let found = store
        .get(&record::operations(), &record::operation_key(id))
        .await?;
    found
        .map(|found| Ok((found.value.decode()?, found.etag)))
        .transpose()
}

/// Whether a precondition is about the claim on a target.
pub(crate) fn claim_absent(target_uid: freehold_model::Uid) -> Precondition {
    Precondition::Absent {
        collection: record::claims(),
        key: record::claim_key(target_uid),
    }
}
