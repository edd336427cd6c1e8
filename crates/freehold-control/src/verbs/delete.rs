//! `freehold delete`. Data is never dropped: a database is closed and kept or quarantined.
//!
//! What others refer to by name is deleted in two batches. One look for users and one removal would
//! not do: a manifest that names a class demands that the class's record is unchanged but does not
//! change it, so it could be saved between the look and the removal. Therefore the record is first
//! marked as going. Whoever has read it before fails on the changed record, whoever reads it now finds
//! it gone, and what was saved earlier is found by a second look. Then the record is removed, or, when
//! something does use it, the mark is taken back. A mark that outlives its deletion, because the
//! server was killed in between, is completed by the next deletion or taken back by housekeeping.

use freehold_api::DeleteReport;
use freehold_model::{
    Code, Error, Kind, OperationId, Resource, ResourceKey, Result,
    kinds::{Access, Class, Database, DeletionPolicy},
};
use freehold_store::{Batch, Range, Write};
use freehold_workflow::NewOperation;

use super::{
    draft::{Draft, typed},
    read::context_of,
};
use crate::{
    Caller,
    authorize::{Action, Context},
    operations::{Close, CloseState},
    records::{self, CONFLICT_TRIES, store_error},
    start::Control,
    world::{class_key, owner},
};

const QUARANTINE_DAYS_DEFAULT: u16 = 14;
/// What others refer to by name, and what is removed at once when nobody does.
const MARKED_FIRST: [Kind; 5] = [
    Kind::Environment,
    Kind::Team,
    Kind::Workload,
    Kind::Instance,
    Kind::Class,
];
/// A deletion takes an instant; a mark that is older than this belongs to one that was cut short.
const ABANDONED: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

impl Control {
    pub async fn resource_delete(
        &self,
        caller: &Caller,
        key: &ResourceKey,
    ) -> Result<DeleteReport> {
        match self.delete(caller, key).await {
            Ok(report) => Ok(report),
            Err(error) => {
                let action = format!("{}.delete", key.kind.as_str().to_ascii_lowercase());
                Err(self
                    .journal
                    .refused(caller, &action, Some(key), error)
                    .await)
            }
        }
    }

    async fn delete(&self, caller: &Caller, key: &ResourceKey) -> Result<DeleteReport> {
        if key.kind.is_view() {
            return Err(
                Error::invalid(format!("a {} is a view and cannot be deleted", key.kind))
                    .hint("Delete the access behind a binding; cancel an operation."),
            );
        }
        let context = self.context_of(key.environment.as_ref()).await?;
        for _ in 0..CONFLICT_TRIES {
            let found: Option<Resource> = self.records.get(key).await?;
            // To end another team's access takes what giving it took.
            let context = Context {
                subject_team: context_of(found.as_ref()).subject_team,
                ..context.clone()
            };
            Self::allow(caller, Action::Delete(key.kind), Some(key), &context)?;
            let mut resource = found.ok_or_else(|| records::not_found(key))?;
            let marks = MARKED_FIRST.contains(&key.kind);
            if marks && resource.metadata.deletion_timestamp.is_none() {
                self.refuse_if_used(&resource).await?;
                match self.mark(&resource).await? {
                    Some(marked) => resource = marked,
                    None => continue,
                }
            }
            let mut batch = Batch::new();
            self.journal_change(caller, "delete", key, &[], &mut batch);
            let writes = self.delete_writes(caller, &resource, &mut batch).await;
            if marks && writes.is_err() {
                self.unmark(&resource).await;
            }
            let (message, operation) = writes?;
            match self.store.apply(batch).await {
                Ok(_) => {
                    return Ok(DeleteReport {
                        key: key.clone(),
                        message,
                        operation,
                    });
                }
                Err(error) if error.is_conflict() => self.explain_held(&resource).await?,
                Err(error) => return Err(store_error(error)),
            }
        }
        Err(records::too_busy(key))
    }

    /// Marks a resource as going and gives it as it is then; `None` when somebody else was faster.
    async fn mark(&self, resource: &Resource) -> Result<Option<Resource>> {
        let mut going = resource.clone();
        going.metadata.deletion_timestamp = Some(self.clock.now());
        let batch = Batch {
            writes: vec![records::put(&going)?],
            ..Batch::new()
        };
        match self.store.apply(batch).await {
            Ok(_) => {}
            Err(error) if error.is_conflict() => return Ok(None),
            Err(error) => return Err(store_error(error)),
        }
        let marked: Option<Resource> = self.records.get(&going.key()).await?;
        Ok(marked.filter(|found| found.metadata.uid == going.metadata.uid))
    }

    /// Takes a mark back. Failing that, housekeeping will.
    pub(crate) async fn unmark(&self, marked: &Resource) {
        let key = marked.key();
        let unmarked =
            self.records
                .update::<serde_json::Value, serde_json::Value>(&key, |resource, _| {
                    resource.metadata.uid == marked.metadata.uid
                        && resource.metadata.deletion_timestamp.take().is_some()
                });
        if let Err(error) = unmarked.await {
            tracing::warn!(%key, %error, "a deletion that was refused could not be taken back");
        }
    }

    /// Takes back the marks of deletions that nobody finished.
    pub(crate) async fn unmark_abandoned(&self) -> Result<()> {
        let before = self.clock.now() - ABANDONED;
        for kind in MARKED_FIRST {
            let all: Vec<Resource> = self.records.all(kind, Range::All).await?;
            let since = |resource: &Resource| resource.metadata.deletion_timestamp;
            for resource in all
                .iter()
                .filter(|it| since(it).is_some_and(|at| at < before))
            {
                tracing::info!(key = %resource.key(), "a deletion was cut short; the resource stays");
                self.unmark(resource).await;
            }
        }
        Ok(())
    }

    /// Marks what an apply is about to prune, as [`Self::delete`] does.
    pub(super) async fn mark_pruned(
        &self,
        draft: &mut Draft<'_>,
        resource: Resource,
        dry_run: bool,
    ) -> Result<Resource> {
        let key = resource.key();
        if !MARKED_FIRST.contains(&key.kind) {
            return Ok(resource);
        }
        if draft.leans_on(&key) {
            return Err(Error::new(
                Code::FailedPrecondition,
                format!("{key} would be pruned, and the manifests still refer to it"),
            )
            .hint("Keep its manifest, or change what refers to it."));
        }
        if dry_run {
            return Ok(resource);
        }
        self.refuse_if_used(&resource).await?;
        if let Some(marked) = self.mark(&resource).await? {
            draft.marked.push(marked.clone());
            return Ok(marked);
        }
        draft.interfered = true;
        Err(records::too_busy(&key))
    }

    /// A conflict because an operation holds the database is not worth repeating.
    async fn explain_held(&self, resource: &Resource) -> Result<()> {
        let Some(uid) = resource.metadata.uid else {
            return Ok(());
        };
        let Some(claim) = self.operations.holder(uid).await? else {
            return Ok(());
        };
        let holder = claim.operation;
        Err(Error::conflict(format!(
            "{} is being worked on by operation {holder}",
            resource.key()
        ))
        .hint(format!(
            "Watch it with `freehold operation watch {holder}`, then try again."
        )))
    }

    /// Adds to `batch` what deleting a resource takes.
    pub(crate) async fn delete_writes(
        &self,
        caller: &Caller,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(String, Option<OperationId>)> {
        match resource.kind {
            Kind::Database => self.delete_database(caller, &typed(resource)?, batch).await,
            Kind::Access => {
                let access: Access = typed(resource)?;
                if let Some(owner) = &access.metadata.owner_reference {
                    return Err(Error::conflict(format!(
                        "{} belongs to {}/{}",
                        resource.key(),
                        owner.kind.as_str().to_ascii_lowercase(),
                        owner.name
                    ))
                    .hint("Remove it from `spec.access` of the database's manifest and apply."));
                }
                batch.writes.push(self.deleting(&access)?);
                Ok((
                    "its logins are being disabled and their sessions ended".to_owned(),
                    None,
                ))
            }
            _ => {
                self.refuse_if_used(resource).await?;
                batch.writes.push(records::remove(resource)?);
                Ok(("deleted".to_owned(), None))
            }
        }
    }

    /// The write that marks an access as going; the databases reconciler finishes it.
    pub(crate) fn deleting(&self, access: &Access) -> Result<Write> {
        let mut access = access.clone();
        access
            .metadata
            .deletion_timestamp
            .get_or_insert(self.clock.now());
        records::put(&access)
    }

    async fn delete_database(
        &self,
        caller: &Caller,
        database: &Database,
        batch: &mut Batch,
    ) -> Result<(String, Option<OperationId>)> {
        let key = database.key();
        if database.metadata.deletion_timestamp.is_some() {
            return Err(Error::conflict(format!("{key} is being deleted already"))
                .hint("`freehold describe` shows how far it is."));
        }
        let owner = owner(database)?;
        let class: Class = self
            .records
            .expect(&class_key(owner.environment, &database.spec.class))
            .await?;
        let policy = database.spec.deletion_policy(&class.spec);
        let days = class
            .spec
            .quarantine_days
            .unwrap_or(QUARANTINE_DAYS_DEFAULT);
        let since = self.clock.now();
        let until = since + jiff::SignedDuration::from_hours(24 * i64::from(days));
        let operation = Close {
            control: self.clone(),
        };
        let first = CloseState::CloseConnections {
            policy,
            since,
            until,
        };
        let new = NewOperation::of(&operation, &first, key, owner.uid, caller.subject())?;
        let requested = self.operations.request(&new).await?;
        batch.preconditions.extend(requested.batch.preconditions);
        batch.writes.extend(requested.batch.writes);
        let mut going = database.clone();
        going.metadata.deletion_timestamp = Some(since);
        batch.writes.push(records::put(&going)?);
        let message = match policy {
            DeletionPolicy::Retain => {
                "connections are being closed; the data stays on the server, out of Freehold's care"
                    .to_owned()
            }
            DeletionPolicy::Quarantine => format!(
                "connections are being closed; `freehold undelete` brings it back until {until}"
            ),
        };
        Ok((message, Some(requested.id)))
    }

    /// Refuses to remove what something else still names.
    async fn refuse_if_used(&self, resource: &Resource) -> Result<()> {
        let key = resource.key();
        let name = key.name.as_str();
        let at = |pointer: &'static str| {
            move |other: &Resource| {
                other.spec.pointer(pointer).and_then(|v| v.as_str()) == Some(name)
            }
        };
        let used_by: Option<ResourceKey> = match key.kind {
            Kind::Instance => {
                let uid = resource.metadata.uid.map(|uid| uid.to_string());
                self.first(
                    Kind::Database,
                    records::range(Kind::Database, key.environment.as_ref(), None),
                    |d| {
                        let on = d
                            .status
                            .as_ref()
                            .and_then(|s| s.pointer("/placement/instanceUid"));
                        on.and_then(|v| v.as_str()) == uid.as_deref()
                    },
                )
                .await?
            }
            Kind::Class => {
                let range = records::range(Kind::Database, key.environment.as_ref(), None);
                self.first(Kind::Database, range, at("/class")).await?
            }
            Kind::Workload => {
                self.first(Kind::Access, Range::All, |access| {
                    let team = access
                        .spec
                        .pointer("/subject/team")
                        .and_then(|v| v.as_str());
                    let own = access
                        .metadata
                        .namespace
                        .as_ref()
                        .map(freehold_model::Name::as_str);
                    at("/subject/workload")(access)
                        && team.or(own) == key.team.as_ref().map(freehold_model::Name::as_str)
                })
                .await?
            }
            Kind::Team => {
                self.first_of_all(|other| other.metadata.namespace.as_ref() == Some(&key.name))
                    .await?
            }
            Kind::Environment => {
                self.first_of_all(|other| other.metadata.environment.as_ref() == Some(&key.name))
                    .await?
            }
            _ => None,
        };
        match used_by {
            None => Ok(()),
            Some(user) => Err(Error::new(
                Code::FailedPrecondition,
                format!("{key} is still used by {user}"),
            )
            .hint(format!("Delete or change {user} first."))),
        }
    }

    async fn first(
        &self,
        kind: Kind,
        range: Range,
        is_user: impl Fn(&Resource) -> bool,
    ) -> Result<Option<ResourceKey>> {
        let all: Vec<Resource> = self.records.all(kind, range).await?;
        Ok(all
            .iter()
            .find(|resource| is_user(resource))
            .map(Resource::key))
    }

    async fn first_of_all(
        &self,
        is_user: impl Fn(&Resource) -> bool,
    ) -> Result<Option<ResourceKey>> {
        for kind in records::STORED {
            if let Some(user) = self.first(kind, Range::All, &is_user).await? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }
}
