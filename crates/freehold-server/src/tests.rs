//! What every request passes, with handlers that misbehave.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    response::Response,
    routing::{get, post},
};
use freehold_control::{Control, Options as ControlOptions};
use freehold_model::{Clock, Entropy, SystemClock, SystemEntropy};
use freehold_store::{MemoryStore, StoreHandle};
use tokio::sync::Notify;
use tower::ServiceExt as _;

use crate::{App, Limits, Telemetry, surround};

async fn app(limits: Limits) -> (App, tempfile::TempDir) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let folder = tempfile::tempdir().unwrap();
    let store = StoreHandle::new(MemoryStore::new(clock.clone(), entropy.clone()));
    let options = ControlOptions::new("test", folder.path().to_owned(), PathBuf::from("/none"));
    let started = Control::start_on_any_store(store, clock.clone(), entropy.clone(), options)
        .await
        .unwrap();
    let telemetry = Telemetry::detached().unwrap();
    let app = App::new(started.control, clock, entropy, telemetry, limits);
    (app, folder)
}

fn impatient() -> Limits {
    Limits {
        request_timeout: Duration::from_millis(50),
        ..Limits::default()
    }
}

async fn ask(router: &Router, method: &str, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path);
    let response: Response = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let code = body["error"]["code"].as_str().unwrap_or_default();
    (status, code.to_owned())
}

#[tokio::test]
async fn a_panic_is_one_requests_failure() {
    let (app, _folder) = app(Limits::default()).await;
    let panics = || async { panic!("deliberate") as () };
    let routes = Router::new().route("/p", get(panics).post(panics));
    let router = surround::wrap(routes, app);
    let internal = (StatusCode::INTERNAL_SERVER_ERROR, "internal".to_owned());
    assert_eq!(ask(&router, "GET", "/p").await, internal);
    assert_eq!(ask(&router, "POST", "/p").await, internal);
}

#[tokio::test]
async fn a_slow_read_is_given_up_and_a_slow_change_is_undetermined() {
    let (app, _folder) = app(impatient()).await;
    let never = || std::future::pending::<()>();
    let router = surround::wrap(Router::new().route("/s", get(never).post(never)), app);
    let gone = (StatusCode::SERVICE_UNAVAILABLE, "unavailable".to_owned());
    assert_eq!(ask(&router, "GET", "/s").await, gone);
    let unknown = (StatusCode::GATEWAY_TIMEOUT, "undetermined".to_owned());
    assert_eq!(ask(&router, "POST", "/s").await, unknown);
}

#[tokio::test]
async fn a_change_is_finished_when_its_client_has_gone() {
    let (app, _folder) = app(Limits::default()).await;
    let (begin, go_on, finished) = (
        Arc::new(Notify::new()),
        Arc::new(Notify::new()),
        Arc::new(Notify::new()),
    );
    let signals = (begin.clone(), go_on.clone(), finished.clone());
    let handler = move || {
        let (begin, go_on, finished) = signals.clone();
        async move {
            begin.notify_one();
            go_on.notified().await;
            finished.notify_one();
        }
    };
    let router = surround::wrap(Router::new().route("/c", post(handler)), app);
    let client = tokio::spawn(async move { ask(&router, "POST", "/c").await });
    begin.notified().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    go_on.notify_one();
    finished.notified().await;
}

#[tokio::test]
async fn the_server_waits_for_changes_that_are_under_way() {
    let (app, _folder) = app(Limits::default()).await;
    let hold = Arc::new(Notify::new());
    let (begin, held) = (Arc::new(Notify::new()), hold.clone());
    let begun = begin.clone();
    let handler = move || {
        let (begin, held) = (begin.clone(), held.clone());
        async move {
            begin.notify_one();
            held.notified().await;
        }
    };
    let tasks = app.tasks.clone();
    let router = surround::wrap(Router::new().route("/c", post(handler)), app);
    let client = tokio::spawn(async move { ask(&router, "POST", "/c").await });
    begun.notified().await;
    client.abort();
    tasks.close();
    assert_eq!(tasks.len(), 1);
    hold.notify_one();
    tasks.wait().await;
}
