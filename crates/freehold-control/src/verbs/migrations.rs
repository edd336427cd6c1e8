//! Asking for a migration and looking at what was applied.

use freehold_api::{MigrateRequest, MigrationEntry, MigrationList, MigrationRow, OperationStarted};
use freehold_migrate::{Bundle, HistoryRow, Migrations, PlanOptions, StatusEntry, plan};
use freehold_model::{
    BundleDigest, Code, Error, ResourceKey, Result,
    kinds::{Class, Database, EngineProfile},
};
use freehold_store::Batch;
use freehold_workflow::NewOperation;

use crate::{
    Caller,
    authorize::Action,
    operations::{HISTORIES, Migrate, MigrateState, RecordedHistory},
    records::{own_collection, store_error, uid_key},
    start::Control,
    world::{class_key, owner},
};

impl Control {
    pub async fn migration_submit(
        &self,
        caller: &Caller,
        key: &ResourceKey,
        request: MigrateRequest,
    ) -> Result<OperationStarted> {
        match self.submit_migration(caller, key, request).await {
            Ok(started) => Ok(started),
            Err(error) => Err(self
                .journal
                .refused(caller, "database.migrate", Some(key), error)
                .await),
        }
    }

    async fn submit_migration(
        &self,
        caller: &Caller,
        key: &ResourceKey,
        request: MigrateRequest,
    ) -> Result<OperationStarted> {
        let context = self.context_of(key.environment.as_ref()).await?;
        Self::allow(caller, Action::Migrate, Some(key), &context)?;
        let database: Database = self.records.expect(key).await?;
        if database.metadata.deletion_timestamp.is_some() {
            return Err(Error::new(
                Code::FailedPrecondition,
                format!("{key} is being deleted"),
            ));
        }
        let provisioned = database.status.as_ref().is_some_and(|status| {
            status
                .conditions
                .is_true(freehold_model::ConditionType::Provisioned)
        });
        if !provisioned {
            return Err(Error::new(
                Code::FailedPrecondition,
                format!("{key} is not provisioned yet"),
            )
            .hint("`freehold describe database` shows what it waits for."));
        }
        self.has_a_schema(&database).await?;
        self.bundle_exists(&request.bundle).await?;
        let operation = Migrate {
            control: self.clone(),
        };
        let first = MigrateState::Prepare {
            bundle: request.bundle.clone(),
        };
        let uid = owner(&database)?.uid;
        let new = NewOperation::of(&operation, &first, key.clone(), uid, caller.subject())?;
        let requested = self.operations.request(&new).await?;
        let mut entry = self.journal.by(caller, "database.migrate", Some(key));
        entry.operation = Some(requested.id);
        entry.reason = request.reason;
        entry.details = serde_json::json!({ "bundle": request.bundle });
        let mut batch = Batch {
            writes: vec![self.journal.write(&entry)],
            ..Batch::new()
        };
        batch
            .writes
            .extend(self.journal.touch(caller, "database.migrate", Some(key)));
        let submitted = self.operations.submit(batch, requested).await?;
        Ok(OperationStarted {
            operation: submitted.id,
        })
    }

    /// Refuses what no script can change, before anything is opened for one.
    async fn has_a_schema(&self, database: &Database) -> Result<()> {
        let environment = owner(database)?.environment;
        let key = class_key(environment, &database.spec.class);
        let class: Class = self.records.expect(&key).await?;
        let engine = class.spec.engine.as_str();
        if EngineProfile::of(engine).is_none_or(|profile| profile.migrations) {
            return Ok(());
        }
        let message = format!(
            "{} is of {engine}, which has no schema: there is nothing to migrate",
            database.key()
        );
        Err(Error::invalid(message))
    }

    /// The scripts of a bundle (of the last run, when none is named) against the history as the last
    /// run left it.
    pub async fn migration_status(
        &self,
        caller: &Caller,
        key: &ResourceKey,
        bundle: Option<BundleDigest>,
    ) -> Result<MigrationList> {
        let context = self.context_of(key.environment.as_ref()).await?;
        Self::allow(caller, Action::Get(key.kind), Some(key), &context)?;
        if bundle.is_some() {
            Self::allow(caller, Action::Migrate, Some(key), &context)?;
        }
        let database: Database = self.records.expect(key).await?;
        let uid = owner(&database)?.uid;
        let found = self
            .store
            .get(&own_collection(HISTORIES), &uid_key(uid))
            .await;
        let recorded: Option<RecordedHistory> = found
            .map_err(store_error)?
            .map(|record| record.value.decode().map_err(store_error))
            .transpose()?;
        let (last, rows) = recorded
            .map(|history| (history.bundle, history.rows))
            .unzip();
        let bundle = bundle.or(last);
        let entries = match &bundle {
            Some(digest) => self.entries(digest, rows.unwrap_or_default()).await?,
            None => Vec::new(),
        };
        Ok(MigrationList {
            database: key.name.clone(),
            bundle,
            entries,
        })
    }

    async fn entries(
        &self,
        digest: &BundleDigest,
        mut rows: Vec<HistoryRow>,
    ) -> Result<Vec<MigrationEntry>> {
        let bytes = self.bundle_bytes(digest).await?;
        let bundle = Bundle::open(&bytes)
            .map_err(|source| Error::internal("opening a stored bundle", source))?;
        let migrations = Migrations::resolve(&bundle).map_err(|refusals| {
            let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            Error::invalid(format!("the bundle is refused: {}", lines.join("; ")))
        })?;
        let failed: Vec<i32> = rows
            .iter()
            .filter(|row| !row.success)
            .map(|row| row.installed_rank)
            .collect();
        let plan = plan(&migrations, &mut rows, &PlanOptions::of(bundle.settings()));
        Ok(plan
            .status
            .into_iter()
            .map(|entry| shown(entry, &failed))
            .collect())
    }
}

fn shown(entry: StatusEntry, failed: &[i32]) -> MigrationEntry {
    let row = entry.installed_rank.map(|installed_rank| MigrationRow {
        installed_rank,
        installed_by: entry.installed_by.unwrap_or_default(),
        installed_on: entry.installed_on.unwrap_or_default(),
        execution_time_ms: entry.execution_time_ms.unwrap_or_default(),
        success: !failed.contains(&installed_rank),
    });
    MigrationEntry {
        version: entry.version,
        description: entry.description,
        script: entry.script,
        state: entry.state.as_str().to_owned(),
        row,
    }
}
