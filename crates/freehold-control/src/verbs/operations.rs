//! Watching, cancelling and resuming operations.

use freehold_api::{OperationEvents, OperationList, OperationQuery};
use freehold_model::{
    Error, Kind, Metadata, Name, OperationId, Resource, ResourceKey, Result, kinds::OperationView,
};
use freehold_store::ScanToken;
use freehold_workflow::{OperationFilter, OperationRecord};

use crate::{
    Caller,
    authorize::{Action, Context},
    records,
    start::Control,
};

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 500;
const EVENTS_PER_ANSWER: usize = 1000;

impl Control {
    pub async fn operation_list(
        &self,
        caller: &Caller,
        query: OperationQuery,
    ) -> Result<OperationList> {
        let context = Context {
            team: query.team.clone(),
            ..Context::default()
        };
        Self::allow(caller, Action::List(Kind::Operation), None, &context)?;
        let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let target_uid = match (&query.database, &query.environment, &query.team) {
            (Some(name), Some(environment), Some(team)) => {
                let key = ResourceKey {
                    kind: Kind::Database,
                    environment: Some(environment.clone()),
                    team: Some(team.clone()),
                    name: name.clone(),
                };
                let found: Option<Resource> = self.records.get(&key).await?;
                found.ok_or_else(|| records::not_found(&key))?.metadata.uid
            }
            (Some(_), ..) => {
                return Err(Error::invalid(
                    "a database is named by environment, team and name",
                ));
            }
            (None, ..) => None,
        };
        let filter = OperationFilter {
            target_uid,
            environment: query.environment,
            team: query.team,
            ..OperationFilter::default()
        };
        let mut list = OperationList {
            items: Vec::new(),
            next: query.after,
        };
        loop {
            let after = list.next.take().map(ScanToken);
            let page = self
                .operations
                .list(&filter, limit - list.items.len(), after)
                .await?;
            list.items.extend(
                page.operations
                    .iter()
                    .filter(|record| !query.open || !record.phase.is_final())
                    .filter(|record| may_see(caller, record))
                    .map(view),
            );
            list.next = page.next.map(|token| token.0);
            if list.next.is_none() || list.items.len() >= limit {
                return Ok(list);
            }
        }
    }

    pub async fn operation_get(&self, caller: &Caller, id: OperationId) -> Result<OperationView> {
        self.visible_operation(caller, id)
            .await
            .map(|record| view(&record))
    }

    /// Events after a sequence number, and the operation as it is now. The operation is read first,
    /// so that an answer whose operation has ended is followed by no more than it shows.
    pub async fn operation_events(
        &self,
        caller: &Caller,
        id: OperationId,
        after: u64,
    ) -> Result<OperationEvents> {
        let record = self.visible_operation(caller, id).await?;
        let events = self.operations.events(id, after, EVENTS_PER_ANSWER).await?;
        Ok(OperationEvents {
            events,
            operation: view(&record),
        })
    }

    pub async fn operation_cancel(
        &self,
        caller: &Caller,
        id: OperationId,
    ) -> Result<OperationView> {
        self.change_operation(caller, id, Change::Cancel).await
    }

    pub async fn operation_resume(
        &self,
        caller: &Caller,
        id: OperationId,
    ) -> Result<OperationView> {
        self.change_operation(caller, id, Change::Resume).await
    }

    async fn visible_operation(&self, caller: &Caller, id: OperationId) -> Result<OperationRecord> {
        let found = self.operations.get(id).await?;
        found
            .filter(|record| may_see(caller, record))
            .ok_or_else(|| no_operation(id))
    }

    async fn change_operation(
        &self,
        caller: &Caller,
        id: OperationId,
        change: Change,
    ) -> Result<OperationView> {
        let found = self.operations.get(id).await?;
        // The team learns of attempts on its operations by those who may not even see them.
        let target = found.as_ref().map(|record| record.target.clone());
        let changed = async {
            let record = found
                .filter(|record| may_see(caller, record))
                .ok_or_else(|| no_operation(id))?;
            self.change_visible(caller, &record, change).await
        };
        let changed = changed.await;
        self.recorded(caller, change.action(), target.as_ref(), changed)
            .await
    }

    /// The change and its entry in the log, in one batch.
    async fn change_visible(
        &self,
        caller: &Caller,
        record: &OperationRecord,
        change: Change,
    ) -> Result<OperationView> {
        let (id, target, action) = (record.id, &record.target, change.action());
        let context = self.context_of(target.environment.as_ref()).await?;
        Self::allow(caller, Action::CancelOperation, Some(target), &context)?;
        let mut entry = self.journal.by(caller, action, Some(target));
        entry.operation = Some(id);
        let mut also = vec![self.journal.write(&entry)];
        also.extend(self.journal.touch(caller, action, Some(target)));
        let by = caller.subject();
        let changed = match change {
            Change::Cancel => self.operations.cancel(id, by, also).await?,
            Change::Resume => self.operations.resume(id, by, also).await?,
        };
        Ok(view(&changed))
    }
}

/// What people do to operations.
#[derive(Debug, Clone, Copy)]
enum Change {
    Cancel,
    Resume,
}

impl Change {
    fn action(self) -> &'static str {
        match self {
            Self::Cancel => "operation.cancel",
            Self::Resume => "operation.resume",
        }
    }
}

fn may_see(caller: &Caller, record: &OperationRecord) -> bool {
    let key = &record.target;
    Control::allow(
        caller,
        Action::Get(key.kind),
        Some(key),
        &Context::default(),
    )
    .is_ok()
}

fn no_operation(id: OperationId) -> Error {
    Error::not_found(format!("there is no operation {id}"))
        .hint("`freehold operation list` shows those you may see.")
}

/// An operation's record as the read-only Operation kind.
fn view(record: &OperationRecord) -> OperationView {
    let name = Name::new(format!("op-{}", record.id)).expect("op- and a uuid are a name");
    let mut metadata = Metadata::named(name);
    metadata.environment.clone_from(&record.target.environment);
    metadata.namespace.clone_from(&record.target.team);
    metadata.creation_timestamp = Some(record.created_at);
    Resource {
        api_version: freehold_model::API_VERSION.to_owned(),
        kind: Kind::Operation,
        metadata,
        spec: record.view(),
        status: record.output.clone(),
    }
}
