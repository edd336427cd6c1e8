//! What those ask who keep the server running. No token: the answers name nothing of any team.

use std::{future::Future, time::Duration};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use freehold_model::{Code, Error};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{Answer, Text};
use crate::App;

/// A store that does not answer by then is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an answer about the store counts. Anybody may ask, and each look writes to the store.
const READY_FOR: Duration = Duration::from_secs(1);

/// The last look at the store: when, and what was wrong. Whoever asks while one is under way waits
/// for its answer.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<Look>>);

#[derive(Debug)]
struct Look {
    at: Instant,
    fault: Option<(Code, String)>,
}

impl Readiness {
    async fn of<L>(&self, look: impl FnOnce() -> L) -> Result<(), Error>
    where
        L: Future<Output = Result<(), Error>>,
    {
        let mut last = self.0.lock().await;
        let fresh = last
            .take()
            .filter(|look: &Look| look.at.elapsed() < READY_FOR);
        let look = match fresh {
            Some(fresh) => fresh,
            None => {
                let fault = match tokio::time::timeout(READY_TIMEOUT, look()).await {
                    Ok(seen) => seen.err().map(|error| (error.code, error.message)),
                    Err(_) => Some((Code::Unavailable, "the store does not answer".to_owned())),
                };
                let at = Instant::now();
                Look { at, fault }
            }
        };
        let fault = look.fault.clone();
        *last = Some(look);
        match fault {
            None => Ok(()),
            Some((code, message)) => Err(Error::new(code, message)),
        }
    }
}

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
    app.readiness.of(|| app.control.ready()).await?;
    Ok(Json(json!({"status": "ready"})))
}

pub(crate) async fn metrics(State(app): State<App>) -> Text {
    Text(app.telemetry.render())
}

pub(crate) async fn openapi(State(app): State<App>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, app.document.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_store_is_looked_at_once_a_second_however_many_ask() {
        let (readiness, looks) = (Readiness::default(), AtomicUsize::new(0));
        let look = || async {
            looks.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err(Error::new(Code::Unavailable, "it is down"))
        };
        let began = Instant::now();
        let asks = (0..100).map(|_| readiness.of(look));
        for answer in futures::future::join_all(asks).await {
            assert_eq!(answer.unwrap_err().message, "it is down");
        }
        let most = 1 + began.elapsed().as_secs() as usize;
        assert!(looks.load(Ordering::Relaxed) <= most);
        // What was seen is not believed for ever.
        let seen = looks.load(Ordering::Relaxed);
        let again = async {
            while looks.load(Ordering::Relaxed) == seen {
                let _ = readiness.of(look).await;
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), again)
            .await
            .expect("it is looked at again");
    }
}
