//! The one error body. Whatever goes wrong, wherever it goes wrong, becomes a [`Refusal`]; the body
//! is written at the outermost layer, where the request id is known and where it is logged once.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use aide::{
    OperationOutput,
    generate::GenContext,
    openapi::{Operation, Response as ResponseDoc, StatusCode as StatusDoc},
};
use axum::{
    Json,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use freehold_api::{Failure, FailureBody};
use freehold_model::{Code, Error};

use crate::request::RequestId;

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: Error,
    /// Where HTTP knows a narrower status than the code's own.
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
}

/// Carried from where a response is made to where its body is written.
#[derive(Clone)]
struct Carried(Arc<Refusal>);

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: Error) -> Self {
        Self {
            status: Some(status),
            ..Self::from(error)
        }
    }

    pub(crate) fn throttled(what: &str) -> Self {
        let error = Error::new(
            Code::Throttled,
            format!("the server is busy with as many {what} as it allows at once"),
        );
        Self::from(error.hint("Try again in a moment."))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let retry_after = match error.code {
            Code::Throttled => Some(Duration::from_secs(1)),
            Code::Unavailable => Some(Duration::from_secs(2)),
            _ => None,
        };
        Self {
            error,
            status: None,
            retry_after,
        }
    }
}

fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Invalid => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict => StatusCode::CONFLICT,
        Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Throttled => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Undetermined => StatusCode::GATEWAY_TIMEOUT,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status.unwrap_or_else(|| status_of(self.error.code));
        let mut response = status.into_response();
        response.extensions_mut().insert(Carried(Arc::new(self)));
        response
    }
}

/// Writes the body of a refusal, logs it, and leaves every other response as it is.
pub(crate) fn write_body(response: Response, request_id: &RequestId) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let carried = response.extensions().get::<Carried>().cloned();
    // An error that some layer below made without us still gets our body.
    let Carried(refusal) =
        carried.unwrap_or_else(|| Carried(Arc::new(Refusal::new(status, foreign(status)))));
    log(&refusal, status);
    let body = FailureBody {
        error: Failure {
            code: refusal.error.code,
            message: refusal.error.message.clone(),
            hint: refusal.error.hint.clone(),
            request_id: request_id.to_string(),
        },
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let content_type = HeaderValue::from_static("application/json");
    parts.headers.insert(header::CONTENT_TYPE, content_type);
    if let Some(pause) = refusal.retry_after {
        parts
            .headers
            .insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs()));
    }
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"freehold\"");
        parts.headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    let body = serde_json::to_vec(&body).expect("a failure is plain text fields");
    Response::from_parts(parts, Body::from(body))
}

fn foreign(status: StatusCode) -> Error {
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::NOT_FOUND => Code::NotFound,
        _ if status.is_client_error() => Code::Invalid,
        _ => Code::Internal,
    };
    let reason = status.canonical_reason().unwrap_or("unknown status");
    Error::new(code, format!("the request was answered with {reason}"))
}

/// Once, here, with the chain of causes that the caller does not see.
fn log(refusal: &Refusal, status: StatusCode) {
    let error = &refusal.error;
    let mut causes = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let separator = if causes.is_empty() { "" } else { ": " };
        write!(causes, "{separator}{inner}").expect("writing to a String cannot fail");
        cause = inner.source();
    }
    let (code, message) = (error.code, &error.message);
    if status.is_server_error() {
        tracing::error!(status = status.as_u16(), ?code, %causes, "{message}");
    } else {
        tracing::info!(status = status.as_u16(), ?code, %causes, "{message}");
    }
}

impl OperationOutput for Refusal {
    type Inner = FailureBody;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<ResponseDoc> {
        let mut response = Json::<FailureBody>::operation_response(ctx, operation)?;
        "Every refusal has this body. The status follows from the code."
            .clone_into(&mut response.description);
        Some(response)
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<StatusDoc>, ResponseDoc)> {
        Self::operation_response(ctx, operation)
            .map(|response| vec![(None, response)])
            .unwrap_or_default()
    }
}
