use axum::{Json, extract::State};
use freehold_api::{AuditList, AuditQuery};

use super::{Answer, Streamed, Text};
use crate::{
    App,
    failure::Refusal,
    request::{Authenticated, InQuery},
};

pub(crate) async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InQuery(query): InQuery<AuditQuery>,
) -> Answer<AuditList> {
    Ok(Json(app.control.audit_list(&caller, query).await?))
}

pub(crate) async fn export(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
) -> Result<Streamed, Refusal> {
    let lines = app.control.audit_export(&caller).await?;
    Ok(Streamed::new("application/x-ndjson", lines))
}

pub(crate) async fn checkpoint(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
) -> Result<Text, Refusal> {
    Ok(Text(app.control.audit_checkpoint(&caller).await?))
}

pub(crate) async fn backup(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
) -> Result<Streamed, Refusal> {
    let archive = app.control.backup(&caller).await?;
    Ok(Streamed::new("application/octet-stream", archive))
}
