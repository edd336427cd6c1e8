//! What every request passes on its way in and out, in one function that reads in that order.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use freehold_model::{
    Code, Error, Uid,
    trace::{self, Role, TraceParent},
};
use futures::FutureExt;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::Instrument;

use crate::{
    App, failure, failure::Refusal, pace::Pace, request::RequestId, routes, telemetry::known,
};

pub(crate) fn wrap(router: Router<App>, app: App) -> Router {
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app.clone(), around))
        .with_state(app)
}

async fn no_such_path(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(200).collect();
    Error::not_found(format!("there is no {path:?} in this API"))
        .hint("GET /openapi.json lists what there is.")
        .into()
}

async fn no_such_method(request: Request) -> Refusal {
    let error = Error::invalid(format!("this path does not answer {}", request.method()))
        .hint("GET /openapi.json lists what there is.");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error)
}

async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = RequestId(
        Uid::generate(app.clock.now(), &*app.entropy)
            .to_string()
            .into(),
    );
    request.extensions_mut().insert(request_id.clone());
    let method = request.method().clone();
    let route = route_of(&request);
    let span = tracing::info_span!(
        "request",
        %request_id,
        %method,
        route,
        subject = tracing::field::Empty,
        status = tracing::field::Empty,
        otel.name = tracing::field::Empty,
        otel.kind = tracing::field::Empty,
    );
    // Whoever watches the server asks every few seconds and wants to see anything but itself.
    if !routes::PLATFORM.contains(&&*route) {
        let named = format!("{} {route}", known(&method));
        trace::begin(&span, Role::Server, &named, caller_trace(&request).as_ref());
    }
    let open = app.telemetry.request_begins();
    let response = async {
        let response = admit(&app, request, next, &route).await;
        let response = failure::write_body(response, &request_id);
        tracing::Span::current().record("status", response.status().as_u16());
        tracing::debug!(
            status = response.status().as_u16(),
            milliseconds = started.elapsed().as_millis(),
            "answered"
        );
        response
    }
    .instrument(span)
    .await;
    drop(open);
    app.telemetry
        .request_ended(&method, &route, response.status(), started.elapsed());
    with_headers(response, &request_id)
}

/// The route's pattern: a path with names in it would make a metric of every name.
fn route_of(request: &Request) -> String {
    match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        None => "none".to_owned(),
    }
}

/// The trace that the caller's own work belongs to.
fn caller_trace(request: &Request) -> Option<TraceParent> {
    let mut values = request.headers().get_all("traceparent").iter();
    match (values.next(), values.next()) {
        (Some(only), None) => TraceParent::parse(only.to_str().ok()?),
        // Two say nothing.
        _ => None,
    }
}

async fn admit(app: &App, request: Request, next: Next, route: &str) -> Response {
    // Whoever watches the server must be answered most of all when it is busy.
    if routes::PLATFORM.contains(&route) {
        return contained(next, request).await;
    }
    let Ok(permit) = app.requests.clone().try_acquire_owned() else {
        return Refusal::throttled("requests").into_response();
    };
    let limit = if routes::TRANSFERS.contains(&route) {
        app.limits.transfer_timeout
    } else {
        app.limits.request_timeout
    };
    let pace = Pace {
        patience: app.limits.body_patience,
        bytes_per_second_min: app.limits.body_bytes_per_second_min,
        whole: limit / 2,
    };
    let request = request.map(|body| pace.watch(body));
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        read(request, next, limit, permit).await
    } else {
        change(app, request, next, limit, permit).await
    }
}

/// A read ends when its client goes away.
async fn read(
    request: Request,
    next: Next,
    limit: Duration,
    permit: OwnedSemaphorePermit,
) -> Response {
    let answer = tokio::time::timeout(limit, contained(next, request)).await;
    drop(permit);
    answer.unwrap_or_else(|_| {
        let error = Error::new(Code::Unavailable, "the answer took too long to make");
        Refusal::from(error.hint("Try again; ask for less at once.")).into_response()
    })
}

/// A change is carried on when its client goes away, and when it takes longer than we answer.
async fn change(
    app: &App,
    request: Request,
    next: Next,
    limit: Duration,
    permit: OwnedSemaphorePermit,
) -> Response {
    let work = async move {
        let response = contained(next, request).await;
        drop(permit);
        response
    };
    let task = app.tasks.spawn(work.in_current_span());
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => Refusal::from(Error::internal("the request", error)).into_response(),
        Err(_) => {
            let message = "the request took longer than the server waits; it may still take effect";
            let error = Error::new(Code::Undetermined, message);
            Refusal::from(error.hint("Look with `freehold get` before you try again."))
                .into_response()
        }
    }
}

/// A panic in a handler is this request's failure and nobody else's.
async fn contained(next: Next, request: Request) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Refusal::from(Error::internal("the request", format!("panic: {text}"))).into_response()
        }
    }
}

fn with_headers(mut response: Response, request_id: &RequestId) -> Response {
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&request_id.0).expect("a UUID is a header value");
    headers.insert("x-request-id", id);
    // Answers hold secrets and private names: no cache may keep them, no browser may guess a type.
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert("x-content-type-options", nosniff);
    response
}
