//! Reading the audit log.

use freehold_api::{AuditEntry, AuditList, AuditQuery};
use freehold_audit::{Cursor, LoggedEntry, Outcome, Query};
use freehold_model::{Error, Result};
use freehold_store::Batch;
use futures::Stream;

use crate::{
    Caller,
    authorize::{Action, AuditScope, Context},
    records::store_error,
    start::Control,
    verbs::backup::stream_of,
};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

impl Control {
    pub async fn audit_list(&self, caller: &Caller, query: AuditQuery) -> Result<AuditList> {
        let scope = if query.team.is_some() {
            AuditScope::Team
        } else {
            AuditScope::All
        };
        let context = Context {
            team: query.team.clone(),
            ..Context::default()
        };
        Self::allow(caller, Action::ReadAudit(scope), None, &context)?;
        let page = self
            .log
            .list(Query {
                actor: query.actor,
                action: query.action,
                team: query.team,
                limit: query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX),
                after: query.after.map(Cursor),
                ..Query::default()
            })
            .await
            .map_err(store_error)?;
        let items = page.entries.iter().map(shown).collect::<Result<_>>()?;
        Ok(AuditList {
            items,
            next: page.next.map(|cursor| cursor.0),
        })
    }

    /// The whole log as JSON Lines, for `freehold audit verify`.
    pub async fn audit_export(
        &self,
        caller: &Caller,
    ) -> Result<impl Stream<Item = Result<Vec<u8>>> + Send + 'static> {
        let allowed = Self::allow(caller, Action::ExportAudit, None, &Context::default());
        self.recorded(caller, "audit.export", None, allowed).await?;
        let entry = self.journal.by(caller, "audit.export", None);
        let batch = Batch {
            writes: vec![self.journal.write(&entry)],
            ..Batch::new()
        };
        self.store.apply(batch).await.map_err(store_error)?;
        let control = self.clone();
        Ok(stream_of(move |mut out| async move {
            let key = control.audit_key().clone();
            control.log.export(&key, &mut out).await.map(|_| ())
        }))
    }

    /// The newest signed checkpoint, as a note: what a third party keeps.
    pub async fn audit_checkpoint(&self, caller: &Caller) -> Result<String> {
        let allowed = Self::allow(caller, Action::ExportAudit, None, &Context::default());
        self.recorded(caller, "audit.checkpoint", None, allowed)
            .await?;
        let checkpoint = self.log.checkpoint().await.map_err(store_error)?;
        let checkpoint = checkpoint.ok_or_else(|| {
            Error::not_found("the log has no checkpoint yet").hint("Try again in a second.")
        })?;
        Ok(checkpoint.note().to_owned())
    }
}

fn shown(logged: &LoggedEntry) -> Result<AuditEntry> {
    let entry = logged
        .entry()
        .map_err(|source| Error::internal("reading an audit entry", source))?;
    let outcome = match entry.outcome {
        Outcome::Accepted => "accepted",
        Outcome::Refused { .. } => "refused",
        Outcome::Succeeded => "succeeded",
        Outcome::Failed { .. } => "failed",
    };
    Ok(AuditEntry {
        index: logged.index,
        at: entry.at,
        actor: entry.actor.subject,
        action: entry.action,
        target: entry.target,
        outcome: outcome.to_owned(),
        reason: entry.reason,
        request_id: entry.request_id.unwrap_or_default(),
        details: entry.details,
    })
}
