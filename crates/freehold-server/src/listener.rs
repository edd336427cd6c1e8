//! Connections: accepting, TLS, limits, and stopping.
//!
//! Stopping goes: refuse to be ready and end event streams (their clients come back elsewhere), stop
//! accepting, let open requests finish within their time, then close what is left.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use freehold_model::{Code, Error, Result};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::App;

/// A client that has not shown who it is or what it wants by then is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// After an accept failed for want of file descriptors, some must be freed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A bound server.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    app: App,
}

pub(crate) async fn bind(
    listen: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    app: App,
) -> Result<Server> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|e| cannot_listen(listen, e))?;
    let address = listener
        .local_addr()
        .map_err(|e| Error::internal("reading the listening address", e))?;
    Ok(Server {
        listener,
        address,
        acceptor,
        app,
    })
}

fn cannot_listen(listen: SocketAddr, cause: io::Error) -> Error {
    let hint = match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "Another program listens there, perhaps another `freehold serve`. Choose another address with --listen."
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need a privilege. Choose another address with --listen."
        }
        _ => "The address must be one of this machine's. Choose another with --listen.",
    };
    Error::new(
        Code::FailedPrecondition,
        format!("the server cannot listen on {listen}: {cause}"),
    )
    .hint(hint)
    .because(cause)
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://…` or `https://…`, as a client on this machine may use it.
    pub fn url(&self) -> String {
        let scheme = if self.acceptor.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// Answers until `shutdown`, then drains. Returns when every connection is closed.
    pub async fn serve(self, shutdown: CancellationToken) {
        let connections = Arc::new(Semaphore::new(self.app.limits.connections_max));
        let graceful = GracefulShutdown::new();
        let router = self.app.router();
        let upkeep = tokio::spawn(upkeep(self.app.clone()));
        while let Some((stream, permit)) = self.accept(&connections, &shutdown).await {
            let watcher = graceful.watcher();
            let (acceptor, router) = (self.acceptor.clone(), router.clone());
            tokio::spawn(async move {
                if let Err(error) = connection(stream, acceptor, router, watcher).await {
                    tracing::debug!(%error, "a connection ended badly");
                }
                drop(permit);
            });
        }
        self.app.draining.cancel();
        drop(self.listener);
        drain(&self.app, graceful).await;
        upkeep.abort();
    }

    async fn accept(
        &self,
        connections: &Arc<Semaphore>,
        shutdown: &CancellationToken,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        loop {
            let next = async {
                // Beyond the limit clients wait in the kernel's queue, which is bounded too.
                let permit = connections.clone().acquire_owned().await;
                let permit = permit.expect("the semaphore is never closed");
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = shutdown.cancelled() => return None,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => return Some((stream, permit)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn drain(app: &App, graceful: GracefulShutdown) {
    app.tasks.close();
    let finished = async {
        graceful.shutdown().await;
        app.tasks.wait().await;
    };
    if tokio::time::timeout(app.limits.drain_timeout, finished)
        .await
        .is_err()
    {
        tracing::warn!("some requests did not finish in time and were cut off");
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(acceptor) = acceptor else {
        return answer(stream, router, watcher).await;
    };
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    answer(stream, router, watcher).await
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    watcher: Watcher,
) -> io::Result<()> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(64);
    let connection = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .into_owned();
    watcher.watch(connection).await.map_err(io::Error::other)
}

async fn upkeep(app: App) {
    let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tick.tick().await;
        app.telemetry.upkeep();
    }
}
