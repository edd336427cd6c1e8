//! Connections: configuration, TLS, session settings, the pool.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use freehold_model::Secret;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::{NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{CollectionName, Error, ErrorKind, Result};

/// How to reach the server that keeps the store.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// A host name, an address, or the directory of a Unix socket (starting with `/`).
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    /// The schema that holds the store; made when it is not there. Same rules as a collection name.
    /// Several stores may share a database.
    pub schema: String,
    pub tls: PostgresTls,
    /// Connections at most.
    pub connections: usize,
    /// For a connection to be made or to become free.
    pub connect_timeout: Duration,
    /// For one call. A write that has no answer by then is `Undetermined`.
    pub request_timeout: Duration,
}

/// Whether the connection is encrypted and the server proven.
#[derive(Debug, Clone)]
pub enum PostgresTls {
    /// In clear: a Unix socket, the same machine, or a private network that is trusted.
    Off,
    /// The server must show a certificate for `host` that one of these authorities signed (PEM).
    Verified { authorities: String },
}

impl PostgresConfig {
    pub fn new(
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
        database: impl Into<String>,
    ) -> Self {
        Self {
            host: host.into(),
            port,
            user: user.into(),
            password: None,
            database: database.into(),
            schema: "freehold".to_owned(),
            tls: PostgresTls::Off,
            connections: 16,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// A connection in the hands of one call.
pub(super) struct Session {
    client: Client,
    /// Given back after the connection was.
    _call: OwnedSemaphorePermit,
}

impl Session {
    pub(super) fn new(client: Client, call: OwnedSemaphorePermit) -> Self {
        Self {
            client,
            _call: call,
        }
    }

    pub(super) fn into_client(self) -> Client {
        self.client
    }
}

impl Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// The session belongs to the store alone, so it may say what the store needs, whatever the server's
/// defaults are. Every access of ours is a point or an ordered range over a key, so the planner is
/// told not to look for anything else: a plan made while a table was empty would otherwise stay in use
/// while it grows. A standby is refused: it may lag behind what was acknowledged.
fn session(request_timeout: Duration) -> String {
    format!(
        "DO $$ BEGIN IF pg_is_in_recovery() THEN
             RAISE 'this server is a standby' USING ERRCODE = '25006';
         END IF; END $$;
         SET default_transaction_isolation = 'read committed';
         SET default_transaction_read_only = off;
         SET synchronous_commit = on;
         SET statement_timeout = {};
         SET idle_in_transaction_session_timeout = {};
         SET search_path = pg_catalog;
         SET jit = off;
         SET enable_seqscan = off;
         SET enable_bitmapscan = off;
         SET enable_hashjoin = off;
         SET enable_mergejoin = off;
         SET plan_cache_mode = force_generic_plan;",
        request_timeout.as_millis(),
        request_timeout.as_millis(),
    )
}

pub(super) fn schema_name(config: &PostgresConfig) -> Result<String> {
    CollectionName::new(config.schema.as_str())
        .map(String::from)
        .map_err(|source| {
            Error::new(
                ErrorKind::Config,
                format!(
                    "{:?} cannot be the store's schema: 1 to 48 of a-z, 0-9 and _, starting with a \
                     letter",
                    config.schema
                ),
            )
            .because(source)
        })
}

pub(super) fn pool(config: &PostgresConfig) -> Result<Pool> {
    let mut target = tokio_postgres::Config::new();
    target
        .host(&config.host)
        .port(config.port)
        .user(&config.user)
        .dbname(&config.database)
        .application_name("freehold-store")
        .connect_timeout(config.connect_timeout)
        .tcp_user_timeout(config.request_timeout)
        .keepalives_idle(Duration::from_secs(30));
    if let Some(password) = &config.password {
        target.password(password.expose());
    }
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match &config.tls {
        PostgresTls::Off => {
            target.ssl_mode(SslMode::Disable);
            Manager::from_config(target, NoTls, recycling)
        }
        PostgresTls::Verified { authorities } => {
            target.ssl_mode(SslMode::Require);
            let connector = MakeRustlsConnect::new(tls(authorities)?);
            Manager::from_config(target, connector, recycling)
        }
    };
    let settings: Arc<str> = session(config.request_timeout).into();
    let patience = config.connect_timeout;
    Pool::builder(manager)
        .max_size(config.connections.max(1))
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(config.connect_timeout))
        .create_timeout(Some(config.connect_timeout))
        .post_create(Hook::async_fn(move |client, _| {
            let settings = Arc::clone(&settings);
            Box::pin(async move {
                // The pool does not count this as a part of connecting.
                match tokio::time::timeout(patience, client.batch_execute(&settings)).await {
                    Ok(set) => set.map_err(HookError::Backend),
                    Err(_) => Err(HookError::message("no answer in time")),
                }
            })
        }))
        .build()
        .map_err(|source| {
            Error::new(
                ErrorKind::Config,
                "the store's connection pool cannot be made",
            )
            .because(source)
        })
}

fn tls(authorities: &str) -> Result<ClientConfig> {
    let refuse = |what: &str| Error::new(ErrorKind::Config, format!("the store's TLS: {what}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        let certificate =
            certificate.map_err(|e| refuse("the authorities are not PEM").because(e))?;
        roots
            .add(certificate)
            .map_err(|e| refuse("an authority's certificate cannot be used").because(e))?;
    }
    if roots.is_empty() {
        return Err(refuse(
            "no authority is given; name the PEM file of the server's CA",
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| refuse("no protocol version is usable").because(e))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
