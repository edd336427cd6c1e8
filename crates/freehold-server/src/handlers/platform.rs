//! What those ask who keep the server running. No token: the answers name nothing of any team.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use freehold_model::{Code, Error};
use serde_json::{Value, json};

use super::{Answer, Text};
use crate::App;

/// A store that does not answer by then is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// The process runs and answers. It says nothing about the store: restarting would not help that.
pub(crate) async fn alive() -> Answer<Value> {
    Ok(Json(json!({"status": "alive"})))
}

/// The store can be read and written, and the server is not about to stop.
pub(crate) async fn ready(State(app): State<App>) -> Answer<Value> {
    if app.draining.is_cancelled() {
        let error = Error::new(Code::Unavailable, "the server is stopping");
        return Err(error.hint("Ask another server.").into());
    }
    match tokio::time::timeout(READY_TIMEOUT, app.control.ready()).await {
        Ok(ready) => ready?,
        Err(_) => {
            return Err(Error::new(Code::Unavailable, "the store does not answer").into());
        }
    }
    Ok(Json(json!({"status": "ready"})))
}

pub(crate) async fn metrics(State(app): State<App>) -> Text {
    Text(app.telemetry.render())
}

pub(crate) async fn openapi(State(app): State<App>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, app.document.clone()).into_response()
}
