//! What handlers take in: the caller, the path, the query, the body. Each refuses in our own words.

use std::{fmt, sync::Arc};

use aide::{OperationInput, generate::GenContext, openapi::Operation};
use axum::{
    Json, RequestPartsExt,
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        rejection::{BytesRejection, JsonRejection},
    },
    http::{StatusCode, header, request::Parts},
};
use freehold_control::Caller;
use freehold_model::{Code, Error, Kind, Name, ResourceKey};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::{App, failure::Refusal, pace};

/// Made here for every request; none is accepted from outside, so an id in the audit log cannot be
/// chosen by a caller.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub Arc<str>);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The caller, proven by its token. A handler that takes this cannot run without one, and it is
/// proven before any of the body is read.
pub(crate) struct Authenticated(pub Caller);

impl FromRequestParts<App> for Authenticated {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let request_id = parts
            .extensions
            .get::<RequestId>()
            .cloned()
            .expect("every request is given an id before it is routed");
        let bearer = bearer(parts)?;
        let caller = app.control.authenticate(bearer, &request_id.0).await?;
        tracing::Span::current().record("subject", caller.subject());
        Ok(Self(caller))
    }
}

fn bearer(parts: &Parts) -> Result<&str, Refusal> {
    let refuse = |message: &str| {
        let error = Error::new(Code::Unauthenticated, message);
        Refusal::from(
            error.hint("Log in with `freehold login`, or send `Authorization: Bearer TOKEN`."),
        )
    };
    let header = parts
        .headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refuse("the request carries no token"))?;
    let text = header
        .to_str()
        .map_err(|_| refuse("the Authorization header is not text"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(refuse(
            "the Authorization header is not of the form `Bearer TOKEN`",
        )),
    }
}

impl OperationInput for Authenticated {}

/// The parts of the path.
pub(crate) struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromRequestParts<App> for InPath<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Refusal> {
        let Path(value) = parts.extract::<Path<T>>().await.map_err(|rejection| {
            Error::invalid(format!("in the path: {}", rejection.body_text()))
        })?;
        Ok(Self(value))
    }
}

impl<T: JsonSchema> OperationInput for InPath<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Path::<T>::operation_input(ctx, operation);
    }
}

/// The query. Unknown parameters are refused: a misspelt filter must not list everything.
pub(crate) struct InQuery<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromRequestParts<App> for InQuery<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Refusal> {
        let Query(value) = parts.extract::<Query<T>>().await.map_err(|rejection| {
            Error::invalid(format!("in the query: {}", rejection.body_text()))
        })?;
        Ok(Self(value))
    }
}

impl<T: JsonSchema> OperationInput for InQuery<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Query::<T>::operation_input(ctx, operation);
    }
}

/// A JSON body.
pub(crate) struct InBody<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest<App> for InBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, app).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refuse_json(&rejection)),
        }
    }
}

fn refuse_json(rejection: &JsonRejection) -> Refusal {
    let status = rejection.status();
    match rejection {
        JsonRejection::MissingJsonContentType(_) => Refusal::new(
            status,
            Error::invalid("the body is not declared as JSON")
                .hint("Send `Content-Type: application/json`."),
        ),
        JsonRejection::BytesRejection(bytes) => refuse_bytes(bytes),
        // The text names the place in the document: `spec.access[0].level: unknown variant …`.
        other => Error::invalid(format!("in the body: {}", other.body_text())).into(),
    }
}

fn refuse_bytes(rejection: &BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let error = Error::new(Code::TooLarge, "the body is larger than this route accepts");
        return Refusal::from(error.hint("Send less at once: several smaller requests."));
    }
    if pace::is_too_slow(rejection) {
        let error = Error::new(Code::Unavailable, "the body came too slowly");
        let error = error.hint("Nothing was changed. Send it again over a faster connection.");
        return Refusal::new(StatusCode::REQUEST_TIMEOUT, error);
    }
    Error::invalid("the body ended before it was complete").into()
}

impl<T: JsonSchema> OperationInput for InBody<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Json::<T>::operation_input(ctx, operation);
    }
}

/// A body of bytes, up to the route's limit.
pub(crate) struct InBytes(pub Bytes);

impl FromRequest<App> for InBytes {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        match Bytes::from_request(request, app).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) => Err(refuse_bytes(&rejection)),
        }
    }
}

impl OperationInput for InBytes {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Bytes::operation_input(ctx, operation);
    }
}

/// A kind as it stands in a path: its lower-case plural.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KindName(pub Kind);

impl<'de> Deserialize<'de> for KindName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = Kind::ALL.into_iter().find(|kind| kind.plural() == text);
        found.map(Self).ok_or_else(|| {
            let known = Kind::ALL.map(Kind::plural).join(", ");
            serde::de::Error::custom(format!("{text:?} is not one of the kinds {known}"))
        })
    }
}

impl JsonSchema for KindName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KindName".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A kind's lower-case plural.",
            "enum": Kind::ALL.map(Kind::plural),
        })
    }
}

/// The path of something that belongs to an environment and a team.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct OwnedPath {
    pub environment: Name,
    pub team: Name,
    pub name: Name,
}

impl OwnedPath {
    pub(crate) fn key(self, kind: Kind) -> ResourceKey {
        ResourceKey {
            kind,
            environment: Some(self.environment),
            team: Some(self.team),
            name: self.name,
        }
    }
}
