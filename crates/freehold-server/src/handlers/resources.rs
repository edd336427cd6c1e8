use axum::{Json, extract::State};
use freehold_api::{
    ApplyReport, ApplyRequest, DeleteReport, ListQuery, ResourceList, ResourceScope,
};
use freehold_control::Control;
use freehold_model::{Code, Error, Name, Resource, ResourceKey};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Answer;
use crate::{
    App,
    request::{Authenticated, InBody, InPath, InQuery, KindName},
};

/// Manifests in one request, as text.
const MANIFEST_BYTES_MAX: usize = 5_000_000;
/// The same text inside JSON: escaping makes it longer.
pub(crate) const APPLY_BODY_BYTES_MAX: usize = 2 * MANIFEST_BYTES_MAX + 65_536;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct KindPath {
    kind: KindName,
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ResourcePath {
    kind: KindName,
    name: Name,
}

impl ResourcePath {
    fn key(self, scope: ResourceScope) -> ResourceKey {
        ResourceKey {
            kind: self.kind.0,
            environment: scope.environment,
            team: scope.team,
            name: self.name,
        }
    }
}

pub(crate) async fn apply(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InBody(request): InBody<ApplyRequest>,
) -> Answer<ApplyReport> {
    if request.manifests.len() > MANIFEST_BYTES_MAX {
        let error = Error::new(
            Code::TooLarge,
            "the manifests are larger than 5 MB together",
        );
        return Err(error.hint("Apply them in several steps.").into());
    }
    Ok(Json(app.control.apply(&caller, request).await?))
}

pub(crate) async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<KindPath>,
    InQuery(query): InQuery<ListQuery>,
) -> Answer<ResourceList> {
    let list = app.control.resource_list(&caller, path.kind.0, query);
    Ok(Json(list.await?))
}

pub(crate) async fn get(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<ResourcePath>,
    InQuery(scope): InQuery<ResourceScope>,
) -> Answer<Resource> {
    let key = path.key(scope);
    Ok(Json(app.control.resource_get(&caller, &key).await?))
}

pub(crate) async fn delete(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<ResourcePath>,
    InQuery(scope): InQuery<ResourceScope>,
) -> Answer<DeleteReport> {
    let key = path.key(scope);
    Ok(Json(app.control.resource_delete(&caller, &key).await?))
}

pub(crate) async fn schema(InPath(path): InPath<KindPath>) -> Answer<serde_json::Value> {
    Ok(Json(Control::schema(path.kind.0)))
}
