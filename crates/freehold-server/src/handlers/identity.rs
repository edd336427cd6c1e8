use axum::{Json, extract::State};
use freehold_api::{TokenCreate, TokenCreated, TokenList, TokenView, VersionInfo, Whoami};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Answer;
use crate::{
    App,
    request::{Authenticated, InBody, InPath},
};

#[derive(Deserialize, JsonSchema)]
pub(crate) struct TokenPath {
    id: String,
}

pub(crate) async fn version(State(app): State<App>) -> Answer<VersionInfo> {
    Ok(Json(app.control.version()))
}

pub(crate) async fn whoami(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
) -> Answer<Whoami> {
    Ok(Json(app.control.whoami(&caller).await?))
}

pub(crate) async fn login(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
) -> Answer<Whoami> {
    Ok(Json(app.control.login(&caller).await?))
}

pub(crate) async fn token_create(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InBody(request): InBody<TokenCreate>,
) -> Answer<TokenCreated> {
    Ok(Json(app.control.token_create(&caller, request).await?))
}

pub(crate) async fn token_list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
) -> Answer<TokenList> {
    Ok(Json(app.control.token_list(&caller).await?))
}

pub(crate) async fn token_revoke(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<TokenPath>,
) -> Answer<TokenView> {
    Ok(Json(app.control.token_revoke(&caller, &path.id).await?))
}
