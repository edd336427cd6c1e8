//! The HTTP API.
//!
//! A request goes: listener (TLS, limits on connections) → `surround` (request id, span, shedding
//! of load, time limit, panics, the one error body, metrics) → route → handler → `Control`. Handlers
//! only translate: what may be done and how is decided in `freehold-control`, in one place for every
//! way in.
//!
//! The routes and the OpenAPI document are made from one list (`routes`), with schemas taken from
//! the handlers' own signatures, so the document cannot promise what the server does not do. It is
//! committed as `openapi/freehold.json` and compared by a test.
//!
//! Requests that change something run in a task of their own: a client that hangs up does not stop
//! them half way. What a time limit cuts off is answered as undetermined, never as failed.
//!
//! What it leaves out: sessions and cookies (tokens only), and the reloading of certificates.

mod events;
mod failure;
mod handlers;
mod listener;
mod pace;
mod request;
mod routes;
mod surround;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, body::Bytes};
use freehold_control::Control;
use freehold_model::{Clock, Entropy, Result};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use handlers::platform::Readiness;
pub use listener::Server;
pub use routes::document;
pub use telemetry::Telemetry;

/// What the server is told from outside, as plain values.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    pub tls: Option<TlsFiles>,
    pub limits: Limits,
}

/// PEM files: the certificate chain, own certificate first, and its private key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Every queue and every wait is bounded; these are the bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections_max: usize,
    /// Requests being answered at once; what comes beyond is refused with 429.
    pub requests_max: usize,
    /// Bundles being received at once: each may hold 256 MiB of memory.
    pub uploads_max: usize,
    /// Event streams open at once.
    pub streams_max: usize,
    pub request_timeout: Duration,
    /// How long a body may take before its first byte, and how fast it must come from there on. It
    /// is let go also when it has taken half of the request's time.
    pub body_patience: Duration,
    pub body_bytes_per_second_min: u32,
    /// For bundles, exports and backups.
    pub transfer_timeout: Duration,
    /// An event stream is ended after this long; the client comes back and proves itself again.
    pub stream_lifetime: Duration,
    /// How long requests may take to finish once the server has been asked to stop.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            requests_max: 128,
            uploads_max: 4,
            streams_max: 256,
            request_timeout: Duration::from_secs(60),
            body_patience: Duration::from_secs(15),
            body_bytes_per_second_min: 16 * 1024,
            transfer_timeout: Duration::from_secs(600),
            stream_lifetime: Duration::from_secs(900),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// What handlers share.
#[derive(Clone)]
struct App(Arc<Shared>);

struct Shared {
    control: Control,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    telemetry: Telemetry,
    document: Bytes,
    limits: Limits,
    /// What the last look at the store told.
    readiness: Readiness,
    requests: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Cancelled when the server has been asked to stop.
    draining: CancellationToken,
    /// Requests that finish even when their client has gone.
    tasks: TaskTracker,
}

impl std::ops::Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    fn new(
        control: Control,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        telemetry: Telemetry,
        limits: Limits,
    ) -> Self {
        Self(Arc::new(Shared {
            control,
            clock,
            entropy,
            telemetry,
            document: routes::document().into(),
            readiness: Readiness::default(),
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            uploads: Arc::new(Semaphore::new(limits.uploads_max)),
            streams: Arc::new(Semaphore::new(limits.streams_max)),
            limits,
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    fn router(&self) -> Router {
        surround::wrap(routes::router(), self.clone())
    }
}

impl Server {
    /// Opens the listening socket; [`Server::serve`] answers on it.
    ///
    /// Fails with `FailedPrecondition` when the address is in use or may not be opened, with
    /// `Invalid` when the TLS files cannot be used.
    pub async fn bind(
        options: Options,
        control: Control,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        telemetry: Telemetry,
    ) -> Result<Self> {
        let acceptor = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let app = App::new(control, clock, entropy, telemetry, options.limits);
        listener::bind(options.listen, acceptor, app).await
    }
}
