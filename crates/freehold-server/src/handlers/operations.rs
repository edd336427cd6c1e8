use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use freehold_api::{EventsQuery, OperationList, OperationQuery};
use freehold_model::{Error, OperationId, kinds::OperationView};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Answer;
use crate::{
    App, events,
    failure::Refusal,
    request::{Authenticated, InPath, InQuery},
};

#[derive(Deserialize, JsonSchema)]
pub(crate) struct OperationPath {
    id: OperationId,
}

pub(crate) async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InQuery(query): InQuery<OperationQuery>,
) -> Answer<OperationList> {
    Ok(Json(app.control.operation_list(&caller, query).await?))
}

pub(crate) async fn get(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OperationPath>,
) -> Answer<OperationView> {
    Ok(Json(app.control.operation_get(&caller, path.id).await?))
}

/// JSON of what there is, or, when the client accepts it, a stream of what comes.
pub(crate) async fn events(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OperationPath>,
    InQuery(query): InQuery<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let after = match last_event_id(&headers)? {
        Some(last) => last,
        None => query.after.unwrap_or(0),
    };
    if wants_stream(&headers) {
        let stream = events::stream(app, caller, path.id, after).await?;
        return Ok(stream.into_response());
    }
    let events = app.control.operation_events(&caller, path.id, after);
    Ok(Json(events.await?).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().map(str::trim) == Some("text/event-stream"))
}

/// Where a stream that broke off had come to.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let refuse = || Error::invalid("the Last-Event-ID header is not a sequence number of ours");
    number.map(Some).ok_or_else(refuse)
}

pub(crate) async fn cancel(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OperationPath>,
) -> Answer<OperationView> {
    Ok(Json(app.control.operation_cancel(&caller, path.id).await?))
}

pub(crate) async fn resume(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<OperationPath>,
) -> Answer<OperationView> {
    Ok(Json(app.control.operation_resume(&caller, path.id).await?))
}
