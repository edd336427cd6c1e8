use axum::{Json, extract::State};
use freehold_api::{
    BindingRead, BindingSecret, Explanation, MigrateRequest, MigrationList, MigrationQuery,
    OperationStarted,
};
use freehold_model::Kind;

use super::Answer;
use crate::{
    App,
    request::{Authenticated, InBody, InPath, InQuery, OwnedPath},
};

pub(crate) async fn undelete(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OwnedPath>,
) -> Answer<OperationStarted> {
    let key = path.key(Kind::Database);
    Ok(Json(app.control.database_undelete(&caller, &key).await?))
}

pub(crate) async fn explain(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OwnedPath>,
) -> Answer<Explanation> {
    let key = path.key(Kind::Database);
    Ok(Json(app.control.database_explain(&caller, &key).await?))
}

pub(crate) async fn migrate(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OwnedPath>,
    InBody(request): InBody<MigrateRequest>,
) -> Answer<OperationStarted> {
    let key = path.key(Kind::Database);
    let started = app.control.migration_submit(&caller, &key, request);
    Ok(Json(started.await?))
}

pub(crate) async fn migrations(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OwnedPath>,
    InQuery(query): InQuery<MigrationQuery>,
) -> Answer<MigrationList> {
    let key = path.key(Kind::Database);
    let list = app.control.migration_status(&caller, &key, query.bundle);
    Ok(Json(list.await?))
}

pub(crate) async fn read_binding(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OwnedPath>,
    InBody(request): InBody<BindingRead>,
) -> Answer<BindingSecret> {
    let key = path.key(Kind::Binding);
    Ok(Json(
        app.control.binding_read(&caller, &key, request).await?,
    ))
}
