//! One method per verb. The paths here and the server's routes are compared by a test of the server.

use freehold_model::{
    BundleDigest, Kind, Name, OperationId, Resource, ResourceKey, kinds::OperationView,
};
use jiff::Timestamp;
use reqwest::{Method, header::DATE};
use serde_json::{Value, json};

use super::{Client, Download, OperationWatch, Result};
use crate::{
    ApplyReport, ApplyRequest, AuditList, AuditQuery, BindingRead, BindingSecret, BundleAccepted,
    DeleteReport, EventsQuery, Explanation, ListQuery, MigrateRequest, MigrationList,
    MigrationQuery, OperationEvents, OperationList, OperationQuery, OperationStarted, ResourceList,
    ResourceScope, TokenCreate, TokenCreated, TokenList, TokenView, VersionInfo, Whoami,
};

const NO_QUERY: [(&str, &str); 0] = [];

impl Client {
    pub async fn version(&self) -> Result<VersionInfo> {
        self.get(&["v1", "version"], &NO_QUERY).await
    }

    /// Whether the server can do its work now; unlike the other verbs it needs no token.
    pub async fn ready(&self) -> Result<Value> {
        self.get(&["readyz"], &NO_QUERY).await
    }

    /// The server's clock, if it tells it; whole seconds.
    pub async fn clock(&self) -> Result<Option<Timestamp>> {
        let request = self.request(Method::GET, &["healthz"]);
        let response = self.send(request, false).await?;
        let date = response.headers().get(DATE).and_then(|v| v.to_str().ok());
        Ok(date.and_then(|date| {
            let parsed = jiff::fmt::rfc2822::parse(date).ok()?;
            Some(parsed.timestamp())
        }))
    }

    pub async fn whoami(&self) -> Result<Whoami> {
        self.get(&["v1", "whoami"], &NO_QUERY).await
    }

    /// Like [`Client::whoami`], and recorded in the audit log.
    pub async fn login(&self) -> Result<Whoami> {
        self.post(&["v1", "login"], &json!({})).await
    }

    pub async fn apply(&self, request: &ApplyRequest) -> Result<ApplyReport> {
        self.post(&["v1", "apply"], request).await
    }

    pub async fn resource_get(&self, key: &ResourceKey) -> Result<Resource> {
        let path = ["v1", "resources", key.kind.plural(), key.name.as_str()];
        self.get(&path, &ResourceScope::of(key)).await
    }

    /// One page; follow its `next` with `query.after`.
    pub async fn resource_list(&self, kind: Kind, query: &ListQuery) -> Result<ResourceList> {
        self.get(&["v1", "resources", kind.plural()], query).await
    }

    pub async fn resource_delete(&self, key: &ResourceKey) -> Result<DeleteReport> {
        let path = ["v1", "resources", key.kind.plural(), key.name.as_str()];
        self.delete(&path, &ResourceScope::of(key)).await
    }

    pub async fn database_undelete(&self, database: &DatabasePath) -> Result<OperationStarted> {
        self.post(&database.below("databases", "undelete"), &json!({}))
            .await
    }

    pub async fn database_explain(&self, database: &DatabasePath) -> Result<Explanation> {
        self.get(&database.below("databases", "explain"), &NO_QUERY)
            .await
    }

    /// Hands out a credential. The path names the access, which is also the binding's name.
    pub async fn binding_read(
        &self,
        binding: &DatabasePath,
        request: &BindingRead,
    ) -> Result<BindingSecret> {
        self.post(&binding.below("bindings", "read"), request).await
    }

    pub async fn bundle_put(
        &self,
        digest: &BundleDigest,
        bytes: Vec<u8>,
    ) -> Result<BundleAccepted> {
        self.put_bytes(&["v1", "bundles", digest.as_str()], bytes)
            .await
    }

    pub async fn migration_submit(
        &self,
        database: &DatabasePath,
        request: &MigrateRequest,
    ) -> Result<OperationStarted> {
        self.post(&database.below("databases", "migrations"), request)
            .await
    }

    /// The history of a database, and how the scripts of a bundle stand against it.
    pub async fn migration_status(
        &self,
        database: &DatabasePath,
        bundle: Option<&BundleDigest>,
    ) -> Result<MigrationList> {
        let query = MigrationQuery {
            bundle: bundle.cloned(),
        };
        self.get(&database.below("databases", "migrations"), &query)
            .await
    }

    pub async fn operation_list(&self, query: &OperationQuery) -> Result<OperationList> {
        self.get(&["v1", "operations"], query).await
    }

    pub async fn operation_get(&self, id: OperationId) -> Result<OperationView> {
        self.get(&["v1", "operations", &id.to_string()], &NO_QUERY)
            .await
    }

    /// The events after a sequence number, as far as they exist now.
    pub async fn operation_events(&self, id: OperationId, after: u64) -> Result<OperationEvents> {
        let query = EventsQuery { after: Some(after) };
        self.get(&["v1", "operations", &id.to_string(), "events"], &query)
            .await
    }

    /// Follows an operation from the event after `after` (0: from its beginning) to its end.
    pub fn operation_watch(&self, id: OperationId, after: u64) -> OperationWatch {
        OperationWatch::new(self.clone(), id, after)
    }

    pub async fn operation_cancel(&self, id: OperationId) -> Result<OperationView> {
        self.post(&["v1", "operations", &id.to_string(), "cancel"], &json!({}))
            .await
    }

    pub async fn operation_resume(&self, id: OperationId) -> Result<OperationView> {
        self.post(&["v1", "operations", &id.to_string(), "resume"], &json!({}))
            .await
    }

    pub async fn token_create(&self, request: &TokenCreate) -> Result<TokenCreated> {
        self.post(&["v1", "tokens"], request).await
    }

    pub async fn token_list(&self) -> Result<TokenList> {
        self.get(&["v1", "tokens"], &NO_QUERY).await
    }

    pub async fn token_revoke(&self, id: &str) -> Result<TokenView> {
        self.delete(&["v1", "tokens", id], &NO_QUERY).await
    }

    pub async fn audit_list(&self, query: &AuditQuery) -> Result<AuditList> {
        self.get(&["v1", "audit"], query).await
    }

    /// The whole log as JSON Lines, for `freehold audit verify`.
    pub async fn audit_export(&self) -> Result<Download> {
        self.download(&["v1", "audit", "export"]).await
    }

    /// The signed note over the log as it is now.
    pub async fn audit_checkpoint(&self) -> Result<String> {
        self.text(&["v1", "audit", "checkpoint"]).await
    }

    /// The store and the log in one archive.
    pub async fn backup(&self) -> Result<Download> {
        self.download(&["v1", "backup"]).await
    }

    /// The JSON Schema of a manifest of this kind.
    pub async fn schema(&self, kind: Kind) -> Result<Value> {
        self.get(&["v1", "schemas", kind.plural()], &NO_QUERY).await
    }
}

/// Names a database, or something beside it, by its three parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabasePath {
    pub environment: Name,
    pub team: Name,
    pub name: Name,
}

impl DatabasePath {
    fn below<'a>(&'a self, collection: &'a str, verb: &'a str) -> [&'a str; 6] {
        [
            "v1",
            collection,
            self.environment.as_str(),
            self.team.as_str(),
            self.name.as_str(),
            verb,
        ]
    }
}
