//! `freehold undelete`: a quarantined database comes back.

use freehold_api::OperationStarted;
use freehold_model::{Code, Error, ResourceKey, Result, kinds::Database};
use freehold_store::Batch;
use freehold_workflow::NewOperation;

use crate::{
    Caller,
    authorize::Action,
    operations::{Reopen, ReopenState},
    start::Control,
    world::owner,
};

impl Control {
    pub async fn database_undelete(
        &self,
        caller: &Caller,
        key: &ResourceKey,
    ) -> Result<OperationStarted> {
        match self.undelete(caller, key).await {
            Ok(started) => Ok(started),
            Err(error) => Err(self
                .journal
                .refused(caller, "database.undelete", Some(key), error)
                .await),
        }
    }

    async fn undelete(&self, caller: &Caller, key: &ResourceKey) -> Result<OperationStarted> {
        let context = self.context_of(key.environment.as_ref()).await?;
        Self::allow(caller, Action::Undelete, Some(key), &context)?;
        let database: Database = self.records.expect(key).await?;
        let quarantine = database
            .status
            .as_ref()
            .and_then(|status| status.quarantine.as_ref());
        let Some(quarantine) = quarantine else {
            return Err(Error::new(
                Code::FailedPrecondition,
                format!("{key} is not in quarantine"),
            )
            .hint("Only a database deleted under the policy Quarantine can be brought back."));
        };
        if quarantine.until < self.clock.now() {
            return Err(Error::new(
                Code::FailedPrecondition,
                format!("the quarantine of {key} ended on {}", quarantine.until),
            )
            .hint("The data is still on the server. Ask a platform engineer to hand it over."));
        }
        let operation = Reopen {
            control: self.clone(),
        };
        let uid = owner(&database)?.uid;
        let new = NewOperation::of(
            &operation,
            &ReopenState::EndQuarantine,
            key.clone(),
            uid,
            caller.subject(),
        )?;
        let requested = self.operations.request(&new).await?;
        let mut batch = Batch::new();
        self.journal_change(caller, "undelete", key, &[], &mut batch);
        let submitted = self.operations.submit(batch, requested).await?;
        Ok(OperationStarted {
            operation: submitted.id,
        })
    }
}
