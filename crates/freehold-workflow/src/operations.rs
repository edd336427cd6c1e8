//! Looking at operations, asking for them, cancelling and resuming them.

use std::{sync::Arc, time::Duration};

use freehold_model::{
    Clock, Entropy, Name, OperationId, Uid,
    kinds::{OperationEvent, OperationPhase},
};
use freehold_store::{
    Batch, DeleteMode, Error, ErrorKind, Etag, IndexValue, PutMode, Range, Scan, ScanToken,
    StoreHandle, Value, Write,
};
use futures::Stream;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    Cancellation, Claim, EventRecord, OperationRecord, WorkflowError, nudge::Nudges, record, saver,
};

/// Which operations to list. Every part that is given must match.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperationFilter {
    pub target_uid: Option<Uid>,
    pub phase: Option<OperationPhase>,
    pub verb: Option<String>,
    pub environment: Option<Name>,
    pub team: Option<Name>,
}

/// One page of a listing, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationPage {
    pub operations: Vec<OperationRecord>,
    pub next: Option<ScanToken>,
}

/// The product's view of operations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operations {
    pub(crate) store: StoreHandle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) nudges: Arc<Nudges>,
}

/// How often a record that others write too is read again before a change of it is given up.
const ATTEMPTS_MAX: u32 = 20;
/// Records read for one page of a listing before a short page is given back.
const LOOKED_AT_MAX: usize = 5_000;
/// How soon, and then how often, a watcher looks when nothing wakes it.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_secs(1);

impl Operations {
    /// For a process that runs no operations itself. Beside a runner, take [`crate::Runner::operations`].
    pub fn new(store: StoreHandle, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self::nudging(store, clock, entropy, Arc::new(Nudges::new()))
    }

    pub(crate) fn nudging(
        store: StoreHandle,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        nudges: Arc<Nudges>,
    ) -> Self {
        Self {
            store,
            clock,
            entropy,
            nudges,
        }
    }

    pub async fn get(&self, id: OperationId) -> Result<Option<OperationRecord>, WorkflowError> {
        Ok(saver::read(&self.store, id)
            .await?
            .map(|(record, _)| record))
    }

    /// What holds a target now.
    pub async fn holder(&self, target_uid: Uid) -> Result<Option<Claim>, WorkflowError> {
        let key = record::claim_key(target_uid);
        let found = self.store.get(&record::claims(), &key).await?;
        Ok(found.map(|found| found.value.decode()).transpose()?)
    }

    /// At most `limit` operations (1 to 1,000). A page may be short although `next` is there.
    pub async fn list(
        &self,
        filter: &OperationFilter,
        limit: usize,
        after: Option<ScanToken>,
    ) -> Result<OperationPage, WorkflowError> {
        let limit = limit.clamp(1, 1000);
        let mut operations = Vec::new();
        let mut scan = Scan::new(record::operations(), filter.range());
        scan.after = after;
        let mut looked_at = 0;
        loop {
            // Never more than still fit: the token then stands right after the last one taken.
            scan.limit = limit - operations.len();
            let page = self.store.scan(scan.clone()).await?;
            looked_at += page.records.len();
            for found in page.records {
                let record: OperationRecord = found.value.decode()?;
                if filter.matches(&record) {
                    operations.push(record);
                }
            }
            let next = page.next;
            if next.is_none() || operations.len() >= limit || looked_at >= LOOKED_AT_MAX {
                return Ok(OperationPage { operations, next });
            }
            scan.after = next;
        }
    }

    /// The history after a sequence (0: from the start), at most `limit` events (1 to 1,000).
    pub async fn events(
        &self,
        id: OperationId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OperationEvent>, WorkflowError> {
        let from = i64::try_from(after.saturating_add(1)).unwrap_or(i64::MAX);
        let mut scan = Scan::new(
            record::operation_events(),
            Range::IndexRange {
                index: record::INDEX_SEQUENCE.to_owned(),
                values: vec![IndexValue::Text(id.to_string())],
                from: Some(IndexValue::Integer(from)),
                to: None,
            },
        );
        scan.limit = limit.clamp(1, 1000);
        let page = self.store.scan(scan).await?;
        let events = page.records.iter().map(|found| {
            let EventRecord { event, .. } = found.value.decode()?;
            Ok(event)
        });
        events.collect()
    }

    /// The history after a sequence, as it grows; ends with the operation's last event. A stream
    /// that broke off is resumed with the sequence of the last event that arrived.
    pub fn watch(
        &self,
        id: OperationId,
        after: u64,
    ) -> impl Stream<Item = Result<OperationEvent, WorkflowError>> + Send + 'static {
        let begun = Watching {
            operations: self.clone(),
            id,
            after,
            ready: Vec::new().into_iter(),
            last: None,
        };
        futures::stream::try_unfold(begun, |mut watching| async move {
            let event = watching.next().await?;
            Ok(event.map(|event| (event, watching)))
        })
    }

    /// Waits until the operation has ended and gives its record.
    pub async fn ended(&self, id: OperationId) -> Result<OperationRecord, WorkflowError> {
        let mut changed = Looking::new(&self.nudges);
        loop {
            changed.begin();
            match self.get(id).await? {
                None => return Err(WorkflowError::NotFound { id }),
                Some(record) if record.phase.is_final() => return Ok(record),
                Some(_) => {}
            }
            changed.wait().await;
        }
    }

    /// Asks to cancel. Whether it is still possible is decided by the worker between two steps, on
    /// the state as it is then; the history tells. Asking again changes nothing, and saves nothing
    /// of `also`, which otherwise is saved in the same batch.
    pub async fn cancel(
        &self,
        id: OperationId,
        by: &str,
        also: Vec<Write>,
    ) -> Result<OperationRecord, WorkflowError> {
        self.amend(
            id,
            format!("cancellation requested by {by}"),
            also,
            |record, now| {
                if record.phase.is_final() {
                    return Err(ended(record));
                }
                if record.cancellation.is_some() {
                    return Ok(false);
                }
                record.cancellation = Some(Cancellation {
                    by: by.to_owned(),
                    at: now,
                    accepted: false,
                    before: None,
                });
                record.interrupt();
                Ok(true)
            },
        )
        .await
    }

    /// Runs a parked operation again from where it stands, or ends the pause of one that retries.
    /// `also` is saved in the same batch.
    pub async fn resume(
        &self,
        id: OperationId,
        by: &str,
        also: Vec<Write>,
    ) -> Result<OperationRecord, WorkflowError> {
        self.amend(id, format!("resumed by {by}"), also, |record, _| {
            match record.phase {
                phase if phase.is_final() => return Err(ended(record)),
                OperationPhase::NeedsAttention => (record.attempts, record.panics) = (0, 0),
                OperationPhase::Waiting if record.attempts > 0 => {}
                _ => return Err(WorkflowError::NotParked { id }),
            }
            record.phase = OperationPhase::Running;
            record.due_at_ms = Some(record::AT_ONCE);
            record.hint = None;
            Ok(true)
        })
        .await
    }

    /// Removes operations that ended before a time, with their events. Returns how many. Stopped
    /// half-way, it has removed whole operations or some of one's events; the next call goes on.
    pub async fn purge(&self, ended_before: Timestamp) -> Result<u64, WorkflowError> {
        let range = Range::IndexRange {
            index: record::INDEX_FINISHED.to_owned(),
            values: vec![],
            from: None,
            to: Some(IndexValue::Integer(ended_before.as_millisecond())),
        };
        let mut purged = 0;
        loop {
            let page = self
                .store
                .scan(Scan::new(record::operations(), range.clone()))
                .await?;
            if page.records.is_empty() {
                return Ok(purged);
            }
            for found in page.records {
                let record: OperationRecord = found.value.decode()?;
                self.purge_events(record.id).await?;
                let gone =
                    Batch::new().delete(&record::operations(), record.key(), DeleteMode::Any);
                self.store.apply(gone).await?;
                purged += 1;
            }
        }
    }

    async fn purge_events(&self, id: OperationId) -> Result<(), WorkflowError> {
        let limit = self.store.capabilities().writes_per_batch_max.clamp(1, 500);
        loop {
            let mut scan = Scan::new(
                record::operation_events(),
                Range::KeyPrefix(format!("{id}/")),
            );
            scan.limit = limit;
            let page = self.store.scan(scan).await?;
            if page.records.is_empty() {
                return Ok(());
            }
            let batch = page.records.into_iter().fold(Batch::new(), |batch, found| {
                batch.delete(&record::operation_events(), found.key, DeleteMode::Any)
            });
            self.store.apply(batch).await?;
        }
    }

    /// A person's change of a record that a worker may be writing at the same time, with its event
    /// and with what must not be saved without it.
    /// `change` says whether there is anything to write. A lost reply is settled by reading: the
    /// event that we would have written is ours by its text and time.
    async fn amend(
        &self,
        id: OperationId,
        message: String,
        also: Vec<Write>,
        change: impl Fn(&mut OperationRecord, Timestamp) -> Result<bool, WorkflowError>,
    ) -> Result<OperationRecord, WorkflowError> {
        let now = self.store.now().await?;
        let mut unheard: Option<(u64, OperationRecord)> = None;
        for _ in 0..ATTEMPTS_MAX {
            let found = saver::read(&self.store, id).await?;
            let (mut record, etag) = found.ok_or(WorkflowError::NotFound { id })?;
            if let Some((sequence, written)) = &unheard
                && self.event_is(id, *sequence, &message, now).await?
            {
                return Ok(written.clone());
            }
            if !change(&mut record, now)? {
                return Ok(record);
            }
            record.sequence += 1;
            record.updated_at = now;
            let mut batch = amendment(&record, etag, &message, now)?;
            batch.writes.extend(also.iter().cloned());
            match self.store.apply(batch).await {
                Ok(_) => {
                    self.nudges.due.notify_one();
                    self.nudges.changed();
                    return Ok(record);
                }
                Err(error) if error.is_conflict() => {}
                Err(error) if error.kind() == ErrorKind::Undetermined => {
                    unheard = Some((record.sequence, record));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(
            ErrorKind::VersionMismatch,
            format!("operation {id} keeps changing; try again"),
        )
        .into())
    }

    async fn event_is(
        &self,
        id: OperationId,
        sequence: u64,
        message: &str,
        at: Timestamp,
    ) -> Result<bool, WorkflowError> {
        let events = self.events(id, sequence.saturating_sub(1), 1).await?;
        Ok(events
            .first()
            .is_some_and(|event| event.message == message && event.at == at))
    }
}

fn ended(record: &OperationRecord) -> WorkflowError {
    let phase = match record.phase {
        OperationPhase::Succeeded => "succeeded",
        OperationPhase::Cancelled => "cancelled",
        _ => "failed",
    };
    WorkflowError::Ended {
        id: record.id,
        phase,
    }
}

fn amendment(
    record: &OperationRecord,
    etag: Etag,
    message: &str,
    now: Timestamp,
) -> Result<Batch, Error> {
    let event = EventRecord {
        operation: record.id,
        event: OperationEvent {
            sequence: record.sequence,
            at: now,
            state: record.state_name.clone(),
            message: message.to_owned(),
            progress: None,
        },
    };
    Ok(Batch::new()
        .put(
            &record::operations(),
            record.key(),
            Value::encode(record)?,
            PutMode::Match(etag),
        )
        .put(
            &record::operation_events(),
            event.key(),
            Value::encode(&event)?,
            PutMode::Create,
        ))
}

impl OperationFilter {
    /// The index that narrows most; the rest is compared record by record.
    fn range(&self) -> Range {
        let prefix = |index: &str, values: Vec<String>| Range::IndexPrefix {
            index: index.to_owned(),
            values: values.into_iter().map(IndexValue::Text).collect(),
        };
        if let Some(uid) = self.target_uid {
            return prefix(record::INDEX_TARGET, vec![uid.to_string()]);
        }
        match (&self.environment, &self.team, self.phase) {
            (Some(environment), Some(team), _) => prefix(
                record::INDEX_OWNER,
                vec![environment.as_str().to_owned(), team.as_str().to_owned()],
            ),
            (_, _, Some(phase)) => prefix(record::INDEX_PHASE, vec![format!("{phase:?}")]),
            // A target without a team is outside the owner index, so the environment alone is
            // compared record by record.
            _ => Range::All,
        }
    }

    fn matches(&self, record: &OperationRecord) -> bool {
        self.target_uid.is_none_or(|uid| uid == record.target_uid)
            && self.phase.is_none_or(|phase| phase == record.phase)
            && self.verb.as_ref().is_none_or(|verb| *verb == record.verb)
            && (self.environment.is_none() || self.environment == record.target.environment)
            && (self.team.is_none() || self.team == record.target.team)
    }
}

/// A history being watched.
struct Watching {
    operations: Operations,
    id: OperationId,
    after: u64,
    ready: std::vec::IntoIter<OperationEvent>,
    /// The last sequence there will be, once the operation has ended.
    last: Option<u64>,
}

impl Watching {
    async fn next(&mut self) -> Result<Option<OperationEvent>, WorkflowError> {
        let mut changed = Looking::new(&self.operations.nudges);
        loop {
            if let Some(event) = self.ready.next() {
                self.after = event.sequence;
                return Ok(Some(event));
            }
            if self.last.is_some_and(|last| self.after >= last) {
                return Ok(None);
            }
            changed.begin();
            // The record first: what it says of the end is then true of the events read after it.
            let record = self.operations.get(self.id).await?;
            let record = record.ok_or(WorkflowError::NotFound { id: self.id })?;
            if record.phase.is_final() {
                self.last = Some(record.sequence);
            }
            let events = self.operations.events(self.id, self.after, 200).await?;
            if events.is_empty() && self.last.is_none() {
                changed.wait().await;
            }
            if events.is_empty() && self.last.is_some() {
                // Purged while we read: there is nothing more to come.
                return Ok(None);
            }
            self.ready = events.into_iter();
        }
    }
}

/// Waits for a word of change from this process, or for its own next look: what other processes
/// write comes without a word.
struct Looking {
    changed: watch::Receiver<()>,
    pause: Duration,
}

impl Looking {
    fn new(nudges: &Nudges) -> Self {
        Self {
            changed: nudges.watch(),
            pause: LOOK_FIRST,
        }
    }

    /// From here on a change counts as news.
    fn begin(&mut self) {
        self.changed.mark_unchanged();
    }

    async fn wait(&mut self) {
        match tokio::time::timeout(self.pause, self.changed.changed()).await {
            Ok(_) => self.pause = LOOK_FIRST,
            Err(_elapsed) => self.pause = (self.pause * 2).min(LOOK_LAST),
        }
    }
}
