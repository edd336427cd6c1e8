//! One function per operation. Each translates a request into one verb of control and its answer
//! back, and decides nothing.

pub(crate) mod audit;
pub(crate) mod bundles;
pub(crate) mod databases;
pub(crate) mod identity;
pub(crate) mod operations;
pub(crate) mod platform;
pub(crate) mod resources;

use aide::{
    OperationOutput,
    generate::GenContext,
    openapi::{MediaType, Operation, Response as ResponseDoc, StatusCode as StatusDoc},
};
use axum::{
    Json,
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use freehold_model::Result;
use futures::{Stream, StreamExt};

use crate::failure::Refusal;

/// What a handler answers.
pub(crate) type Answer<T> = Result<Json<T>, Refusal>;

/// A text of ours.
pub(crate) struct Text(pub String);

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        (
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            self.0,
        )
            .into_response()
    }
}

impl OperationOutput for Text {
    type Inner = String;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<ResponseDoc> {
        Some(document_content("text/plain; charset=utf-8"))
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<StatusDoc>, ResponseDoc)> {
        succeeds_with(Self::operation_response(ctx, operation))
    }
}

/// A large answer that is made while it is sent. When making it fails, the connection is broken
/// off: an answer that ended properly is whole.
pub(crate) struct Streamed {
    body: Body,
    content_type: &'static str,
}

impl Streamed {
    pub(crate) fn new(
        content_type: &'static str,
        pieces: impl Stream<Item = Result<Vec<u8>>> + Send + 'static,
    ) -> Self {
        let span = tracing::Span::current();
        let pieces = pieces.inspect(move |piece| {
            if let Err(error) = piece {
                let cause = std::error::Error::source(error);
                span.in_scope(|| tracing::error!(%error, ?cause, "an answer was broken off"));
            }
        });
        let body = Body::from_stream(pieces);
        Self { body, content_type }
    }
}

impl IntoResponse for Streamed {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}

impl OperationOutput for Streamed {
    type Inner = Vec<u8>;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<ResponseDoc> {
        Some(document_content("application/octet-stream"))
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<StatusDoc>, ResponseDoc)> {
        succeeds_with(Self::operation_response(ctx, operation))
    }
}

fn document_content(content_type: &str) -> ResponseDoc {
    let mut response = ResponseDoc::default();
    response
        .content
        .insert(content_type.to_owned(), MediaType::default());
    response
}

fn succeeds_with(response: Option<ResponseDoc>) -> Vec<(Option<StatusDoc>, ResponseDoc)> {
    response
        .map(|response| vec![(Some(StatusDoc::Code(200)), response)])
        .unwrap_or_default()
}
