//! `freehold apply`: manifests in, all of them accepted together or none.

use freehold_api::{Applied, ApplyOutcome, ApplyReport, ApplyRequest, Candidate, Explanation};
use freehold_model::{
    ConditionStatus, ConditionType, Conditions, Error, Kind, OperationId, Resource, ResourceKey,
    Result, Uid,
    kinds::{Access, Class, Database},
};
use freehold_plan::{
    apply::{self, ApplySet, Outcome},
    manifest::{self, Document},
    placement::Decision,
};
use freehold_store::{Batch, Range};
use freehold_workflow::NewOperation;

use super::{
    draft::{Draft, Drafted, typed},
    read::context_of,
};
use crate::{
    Caller,
    authorize::{Action, Context},
    operations::{Provision, ProvisionState},
    records::{self, CONFLICT_TRIES, store_error},
    start::Control,
    world::{class_key, is_protected},
};

/// Fields that Freehold itself sets, e.g. on accesses that a database names inline.
const OWN_MANAGER: &str = "freehold";

impl Control {
    pub async fn apply(&self, caller: &Caller, request: ApplyRequest) -> Result<ApplyReport> {
        let mut about = None;
        match self.apply_all(caller, &request, &mut about).await {
            Err(error) if !request.dry_run => Err(self
                .journal
                .refused(caller, "apply", about.as_ref(), error)
                .await),
            other => other,
        }
    }

    /// `about` becomes the resource that an error is about, so that its team finds the attempt in its
    /// log.
    async fn apply_all(
        &self,
        caller: &Caller,
        request: &ApplyRequest,
        about: &mut Option<ResourceKey>,
    ) -> Result<ApplyReport> {
        let context = manifest::Context {
            environment: Some(request.environment.clone()),
            team: request.team.clone(),
        };
        let mut documents = manifest::parse(&request.manifests, &context)?;
        documents
            .sort_by_key(|document| Kind::ALL.iter().position(|k| *k == document.resource.kind));
        self.authorize_documents(caller, request, &documents, about)
            .await?;
        for _ in 0..CONFLICT_TRIES {
            match self.try_apply(caller, request, &documents, about).await? {
                Attempt::Done(report) => return Ok(report),
                Attempt::Interfered => {}
            }
        }
        *about = None;
        Err(
            Error::conflict("others are changing the same resources again and again")
                .hint("Nothing was changed by this request. Try again."),
        )
    }

    /// Whether the caller may write what the manifests say. What comes of them together with what is
    /// there is judged again in [`Self::draft`].
    async fn authorize_documents(
        &self,
        caller: &Caller,
        request: &ApplyRequest,
        documents: &[Document],
        about: &mut Option<ResourceKey>,
    ) -> Result<()> {
        let protected = is_protected(&self.records, &request.environment).await?;
        for document in documents {
            let resource = &document.resource;
            let key = resource.key();
            *about = Some(key.clone());
            let context = Context {
                protected,
                ..context_of(Some(resource))
            };
            Self::allow(caller, Action::Apply(resource.kind), Some(&key), &context)?;
            if resource.spec.pointer("/placement/instance").is_some() {
                Self::allow(caller, Action::PinInstance, Some(&key), &context)?;
            }
        }
        *about = None;
        Ok(())
    }

    async fn try_apply(
        &self,
        caller: &Caller,
        request: &ApplyRequest,
        documents: &[Document],
        about: &mut Option<ResourceKey>,
    ) -> Result<Attempt> {
        let set = request.prune_set.clone().map(|name| ApplySet {
            name,
            environment: request.environment.clone(),
        });
        let mut draft = Draft::new(&self.records);
        let attempt = self
            .attempt(caller, request, documents, set.as_ref(), &mut draft, about)
            .await;
        if !matches!(attempt, Ok(Attempt::Done(_))) {
            for resource in &draft.marked {
                self.unmark(resource).await;
            }
        }
        attempt
    }

    async fn attempt(
        &self,
        caller: &Caller,
        request: &ApplyRequest,
        documents: &[Document],
        set: Option<&ApplySet>,
        draft: &mut Draft<'_>,
        about: &mut Option<ResourceKey>,
    ) -> Result<Attempt> {
        let prepared = self
            .prepare(caller, request, documents, set, draft, about)
            .await;
        let (batch, report) = match prepared {
            Ok(prepared) => prepared,
            // What one attempt reads is not of one moment, e.g. a database that was not there yet and
            // the accesses that it had an instant later. A refusal counts if all of it still stands.
            Err(_) if draft.overtaken().await? => return Ok(Attempt::Interfered),
            Err(error) => return Err(error),
        };
        if request.dry_run || batch.writes.is_empty() {
            return Ok(Attempt::Done(report));
        }
        let most = self.store.capabilities().writes_per_batch_max;
        if batch.writes.len() > most {
            return Err(Error::new(
                freehold_model::Code::TooLarge,
                format!(
                    "these manifests need {} writes; {most} are possible at once",
                    batch.writes.len()
                ),
            )
            .hint("Apply them in several files. Nothing was changed."));
        }
        match self.store.apply(batch).await {
            Ok(_) => Ok(Attempt::Done(report)),
            Err(error) if error.is_conflict() => Ok(Attempt::Interfered),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Drafts everything that the manifests ask for: the writes, and what to tell about them.
    async fn prepare(
        &self,
        caller: &Caller,
        request: &ApplyRequest,
        documents: &[Document],
        set: Option<&ApplySet>,
        draft: &mut Draft<'_>,
        about: &mut Option<ResourceKey>,
    ) -> Result<(Batch, ApplyReport)> {
        let manager = request.manager.as_deref().unwrap_or("cli");
        for document in documents {
            *about = Some(document.resource.key());
            let resource = &document.resource;
            self.draft(draft, caller, resource, manager, request.force, set)
                .await?;
        }
        for document in documents {
            *about = Some(document.resource.key());
            self.check_references(draft, &document.resource).await?;
        }
        *about = None;
        let obsolete = self.draft_inline_accesses(draft, caller).await?;
        let pruned = match set {
            Some(set) => self.draft_prune(caller, set, documents).await?,
            None => Pruned::default(),
        };
        let mut batch = draft.batch()?;
        let mut report = ApplyReport {
            dry_run: request.dry_run,
            applied: Vec::new(),
        };
        for key in draft.order.clone() {
            let applied = self
                .follow_up(caller, request, draft, &key, &mut batch)
                .await?;
            report.applied.push(applied);
        }
        for access in obsolete {
            batch.writes.push(self.deleting(&access)?);
        }
        for resource in &pruned.released {
            batch.writes.push(records::put(resource)?);
        }
        for resource in pruned.delete {
            let key = resource.key();
            report.applied.push(pruned_report(key.clone()));
            self.journal_change(caller, "delete", &key, &[], &mut batch);
            let resource = self.mark_pruned(draft, resource, request.dry_run).await?;
            self.delete_writes(caller, &resource, &mut batch).await?;
        }
        Ok((batch, report))
    }

    /// Merges one manifest into what is there.
    ///
    /// Fields that the manifest leaves out may have been set by others, among them who an access is
    /// for. So the caller must be allowed to change what is there, and to make what comes of it.
    async fn draft(
        &self,
        draft: &mut Draft<'_>,
        caller: &Caller,
        manifest: &Resource,
        manager: &str,
        force: bool,
        set: Option<&ApplySet>,
    ) -> Result<()> {
        let key = manifest.key();
        let live: Option<Resource> = self.records.get(&key).await?;
        let action = Action::Apply(key.kind);
        if let Some(live) = &live {
            Self::allow(caller, action, Some(&key), &context_of(Some(live)))?;
            refuse_changing_what_is_going(live, &key)?;
        }
        let mut merged = apply::merge(live.as_ref(), manifest, manager, force)?;
        let context = context_of(Some(&merged.resource));
        Self::allow(caller, action, Some(&key), &context)?;
        if let Some(set) = set {
            let enrolled = set.enrol(&mut merged.resource).map_err(|other| {
                Error::conflict(format!("{key} belongs to the apply set {other}")).hint(
                    "Apply it with that set's name, or remove it from there with `--prune` first.",
                )
            })?;
            merged.write |= enrolled;
        }
        self.check_merged(&merged.resource, live.as_ref())?;
        self.finish_metadata(&mut merged.resource);
        let drafted = Drafted {
            live,
            resource: merged.resource,
            outcome: merged.outcome,
            write: merged.write,
        };
        draft.insert(key, drafted);
        Ok(())
    }

    /// Gives a new resource its identity, and kinds that nobody reconciles their condition.
    fn finish_metadata(&self, resource: &mut Resource) {
        let now = self.clock.now();
        let metadata = &mut resource.metadata;
        if metadata.uid.is_none() {
            metadata.uid = Some(Uid::generate(now, &*self.entropy));
            metadata.creation_timestamp = Some(now);
        }
        let passive = matches!(
            resource.kind,
            Kind::Environment | Kind::Team | Kind::Workload | Kind::Class
        );
        if passive {
            let generation = metadata.generation;
            let mut conditions: Conditions = resource
                .status
                .as_ref()
                .and_then(|status| serde_json::from_value(status.get("conditions")?.clone()).ok())
                .unwrap_or_default();
            let (kind, yes) = (ConditionType::Ready, ConditionStatus::True);
            conditions.set(kind, yes, "Accepted", "", now, generation);
            resource.status = Some(serde_json::json!({
                "observedGeneration": generation,
                "conditions": conditions,
            }));
        }
    }

    /// The accesses that drafted databases name inline; gives back those named no more.
    async fn draft_inline_accesses(
        &self,
        draft: &mut Draft<'_>,
        caller: &Caller,
    ) -> Result<Vec<Access>> {
        let databases: Vec<ResourceKey> = draft
            .order
            .iter()
            .filter(|key| key.kind == Kind::Database)
            .cloned()
            .collect();
        let mut obsolete = Vec::new();
        for key in databases {
            let database: Database = typed(&draft.drafted[&key].resource)?;
            let uid = database.metadata.uid.expect("drafted resources have a uid");
            let range = records::range(Kind::Access, key.environment.as_ref(), key.team.as_ref());
            let existing: Vec<Resource> = self.records.all(Kind::Access, range).await?;
            let expansion = apply::expand(&database, uid, &existing).map_err(|violations| {
                let messages: Vec<_> = violations.iter().map(|v| v.message.clone()).collect();
                Error::conflict(format!("{key}: {}", messages.join("; ")))
            })?;
            for access in &expansion.accesses {
                self.draft(draft, caller, access, OWN_MANAGER, true, None)
                    .await?;
                if draft.drafted[&access.key()].write {
                    let _: Option<Resource> = draft.lean_on(&key).await?;
                }
            }
            for gone in &expansion.obsolete {
                if let Some(access) = self.records.get(gone).await? {
                    obsolete.push(access);
                }
            }
        }
        Ok(obsolete)
    }

    async fn draft_prune(
        &self,
        caller: &Caller,
        set: &ApplySet,
        documents: &[Document],
    ) -> Result<Pruned> {
        let mut members = Vec::new();
        for kind in records::STORED {
            let range = match kind.scope() {
                freehold_model::Scope::Global | freehold_model::Scope::Team => Range::All,
                _ => records::range(kind, Some(&set.environment), None),
            };
            let all: Vec<Resource> = self.records.all(kind, range).await?;
            // Another team may use the same name for a set of its own, which is none of ours.
            let ours = |resource: &Resource| {
                let get = Action::Get(kind);
                set.contains(resource)
                    && Self::allow(caller, get, Some(&resource.key()), &Context::default()).is_ok()
            };
            members.extend(all.into_iter().filter(ours));
        }
        let applied: Vec<ResourceKey> = documents.iter().map(|d| d.resource.key()).collect();
        let prune = apply::prune(set, &members, &applied).map_err(|empty| {
            Error::invalid(empty.to_string())
                .hint("To delete all of them, use `freehold delete` on each.")
        })?;
        let member =
            |key: &ResourceKey| members.iter().find(|member| member.key() == *key).cloned();
        let mut pruned = Pruned::default();
        for key in &prune.delete {
            let context = context_of(member(key).as_ref());
            Self::allow(caller, Action::Delete(key.kind), Some(key), &context)?;
            pruned.delete.extend(member(key));
        }
        for key in &prune.release {
            let context = context_of(member(key).as_ref());
            Self::allow(caller, Action::Apply(key.kind), Some(key), &context)?;
            pruned.released.extend(member(key).map(|mut resource| {
                set.release(&mut resource);
                resource
            }));
        }
        Ok(pruned)
    }

    /// What follows from one drafted resource: its audit entry, its operation, its report.
    async fn follow_up(
        &self,
        caller: &Caller,
        request: &ApplyRequest,
        draft: &mut Draft<'_>,
        key: &ResourceKey,
        batch: &mut Batch,
    ) -> Result<Applied> {
        let drafted = draft.drafted[key].clone();
        let diff = match drafted.outcome {
            Outcome::Unchanged => String::new(),
            _ => apply::diff(drafted.live.as_ref(), Some(&drafted.resource)).text,
        };
        let mut applied = Applied {
            key: key.clone(),
            outcome: drafted.api_outcome(),
            changed: drafted.changed_paths(),
            diff,
            placement: None,
            operation: None,
        };
        if drafted.outcome != Outcome::Unchanged {
            self.journal_change(caller, "apply", key, &applied.changed, batch);
        }
        let unplaced = drafted.resource.kind == Kind::Database
            && drafted
                .resource
                .status
                .as_ref()
                .and_then(|s| s.pointer("/placement"))
                .is_none();
        if unplaced && drafted.outcome != Outcome::Unchanged {
            let database: Database = typed(&drafted.resource)?;
            if request.dry_run {
                let decision = self.decision_for(draft, &database).await?;
                applied.placement = Some(explanation(&decision, false));
            }
            if drafted.outcome == Outcome::Created {
                applied.operation = Some(self.request_provision(caller, &database, batch).await?);
            }
        }
        Ok(applied)
    }

    async fn decision_for(&self, draft: &mut Draft<'_>, database: &Database) -> Result<Decision> {
        let owner = crate::world::owner(database)?;
        let (environment, team) = (owner.environment.clone(), owner.team.clone());
        let key = class_key(&environment, &database.spec.class);
        let class: Option<Class> = draft.lean_on(&key).await?;
        let class = class.ok_or_else(|| records::not_found(&key))?;
        let placing = self
            .decide_placement(&environment, &team, database, &class)
            .await?;
        Ok(placing.decision)
    }

    async fn request_provision(
        &self,
        caller: &Caller,
        database: &Database,
        batch: &mut Batch,
    ) -> Result<OperationId> {
        let operation = Provision {
            control: self.clone(),
        };
        let uid = database.metadata.uid.expect("drafted resources have a uid");
        let new = NewOperation::of(
            &operation,
            &ProvisionState::Place,
            database.key(),
            uid,
            caller.subject(),
        )?;
        let requested = self.operations.request(&new).await?;
        batch.preconditions.extend(requested.batch.preconditions);
        batch.writes.extend(requested.batch.writes);
        Ok(requested.id)
    }

    /// The audit entry of an accepted change, and the human touch when a person made it.
    pub(crate) fn journal_change(
        &self,
        caller: &Caller,
        verb: &str,
        key: &ResourceKey,
        changed: &[String],
        batch: &mut Batch,
    ) {
        let action = format!("{}.{verb}", key.kind.as_str().to_ascii_lowercase());
        let mut entry = self.journal.by(caller, &action, Some(key));
        if !changed.is_empty() {
            entry.details = serde_json::json!({ "changed": changed });
        }
        batch.writes.push(self.journal.write(&entry));
        batch
            .writes
            .extend(self.journal.touch(caller, &action, Some(key)));
    }

    /// The environment that every control plane starts with.
    pub(crate) async fn ensure_default_environment(&self) -> Result<()> {
        let name = self.default_environment().clone();
        let key = ResourceKey {
            kind: Kind::Environment,
            environment: None,
            team: None,
            name,
        };
        if self
            .records
            .get::<serde_json::Value, serde_json::Value>(&key)
            .await?
            .is_some()
        {
            return Ok(());
        }
        let mut environment = Resource {
            api_version: freehold_model::API_VERSION.to_owned(),
            kind: Kind::Environment,
            metadata: freehold_model::Metadata::named(key.name.clone()),
            spec: serde_json::json!({}),
            status: None,
        };
        environment.metadata.generation = 1;
        self.finish_metadata(&mut environment);
        let mut entry = self.journal.internal("environment.apply", &key);
        entry.reason = "first start".to_owned();
        let batch = Batch {
            writes: vec![records::put(&environment)?, self.journal.write(&entry)],
            ..Batch::new()
        };
        match self.store.apply(batch).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(store_error(error)),
        }
    }
}

/// What becomes of the members of an apply set that its manifests name no more.
#[derive(Default)]
struct Pruned {
    delete: Vec<Resource>,
    /// They stay, because another environment's set still names them; only the label goes.
    released: Vec<Resource>,
}

enum Attempt {
    Done(ApplyReport),
    Interfered,
}

fn refuse_changing_what_is_going(live: &Resource, key: &ResourceKey) -> Result<()> {
    if live.metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    let hint = match key.kind {
        Kind::Database => "`freehold undelete` brings a quarantined database back.",
        _ => "Wait until the deletion has finished, then apply again.",
    };
    Err(Error::conflict(format!("{key} is being deleted")).hint(hint))
}

fn pruned_report(key: ResourceKey) -> Applied {
    Applied {
        key,
        outcome: ApplyOutcome::Pruned,
        changed: Vec::new(),
        diff: String::new(),
        placement: None,
        operation: None,
    }
}

/// A placement decision in the API's words.
pub(crate) fn explanation(decision: &Decision, placed: bool) -> Explanation {
    Explanation {
        chosen: decision.chosen.clone(),
        placed,
        candidates: decision
            .ranked
            .iter()
            .map(|verdict| Candidate {
                instance: verdict.instance.clone(),
                fits: verdict.fits,
                score: verdict.score,
                reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        way_out: decision.way_out.as_ref().map(ToString::to_string),
    }
}
