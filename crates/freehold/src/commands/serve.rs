use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use freehold_control::{
    Control, KeySource, Options, Started,
    secrets::{Confinement, SecretResolver},
};
use freehold_model::{Clock, Entropy, SystemEntropy, kinds::SecretReference};
use freehold_server::{Limits, Server, Telemetry, TlsFiles};
use freehold_store::{PostgresStore, SqliteStore, StoreHandle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    failure::{Exit, Failure, Outcome},
    session::Session,
    settings::{LogFormat, ServerOverrides, ServerSettings, StoreChoice, Surroundings, store_url},
    traces::Traces,
};

/// Run a server
///
/// The first start makes everything it needs: a SQLite file, a key file and a first admin token in
/// the data directory. Settings stand in the server section of freehold.toml; docs/configuration.md
/// lists them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold serve
  freehold serve --listen 0.0.0.0:7440 --config /etc/freehold/freehold.toml --log-format json")]
pub(crate) struct Args {
    /// Address to answer on [default: 127.0.0.1:7440]
    #[arg(long, env = "FREEHOLD_LISTEN", value_name = "ADDRESS", hide_env = true)]
    listen: Option<SocketAddr>,
    /// Where the server keeps its files [default: freehold in the XDG data directory]
    #[arg(long, env = "FREEHOLD_DATA_DIR", value_name = "DIR", hide_env = true)]
    data_dir: Option<PathBuf>,
    /// Form of the log on standard error
    #[arg(long, value_enum, env = "FREEHOLD_LOG_FORMAT", hide_env = true)]
    log_format: Option<LogFormat>,
    /// What to log, e.g. `info,freehold_control=debug` [default: info]
    #[arg(long, env = "FREEHOLD_LOG", value_name = "FILTER", hide_env = true)]
    log: Option<String>,
    /// Collector of OpenTelemetry that traces go to, by OTLP over HTTP, e.g. `http://127.0.0.1:4318`
    #[arg(
        long,
        env = "FREEHOLD_TRACES_ENDPOINT",
        value_name = "URL",
        hide_env = true
    )]
    traces_endpoint: Option<String>,
}

/// How long reconcilers and operations may take to save where they are.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let overrides = ServerOverrides {
        listen: args.listen,
        data_dir: args.data_dir,
        log_format: args.log_format,
        log_filter: args.log,
        traces_endpoint: args.traces_endpoint,
    };
    let settings = ServerSettings::resolve(&session.settings, overrides)?;
    let name = own_name(&settings);
    let traces = match &settings.traces {
        Some(collector) => Some(Traces::start(collector, &name)?),
        None => None,
    };
    log_to_standard_error(&settings, traces.as_ref())?;
    let outcome = start(&settings, name, session).await;
    // Somebody who asks twice to stop waits for nothing.
    let at_once = matches!(&outcome, Err(failure) if failure.exit == Exit::Interrupted);
    if let (Some(traces), false) = (traces, at_once) {
        traces.stop().await;
    }
    outcome
}

async fn start(settings: &ServerSettings, name: String, session: &Session) -> Outcome {
    make_data_dir(&settings.data_dir, &session.settings.surroundings)?;
    let clock = session.clock();
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let store = open_store(settings, &clock, &entropy).await?;
    let options = options(settings, name)?;
    let started = Control::start(store, clock.clone(), entropy.clone(), options).await?;
    let server = Server::bind(
        server_options(settings),
        started.control.clone(),
        clock,
        entropy,
        Telemetry::install()?,
    )
    .await?;
    announce(session, settings, &started, &server);
    serve(started.control, server).await
}

/// Answers and works until a signal, then stops in order: no new requests, then no new work.
async fn serve(control: Control, server: Server) -> Outcome {
    let (answering, working) = (CancellationToken::new(), CancellationToken::new());
    let mut answers = tokio::spawn(server.serve(answering.clone()));
    let worker = {
        let (control, working) = (control.clone(), working.clone());
        async move { control.run(working).await }
    };
    let mut work = tokio::spawn(worker);
    let failure = tokio::select! {
        asked = asked_to_stop() => asked.err(),
        ended = &mut answers => Some(ended_early("answering requests", ended)),
        ended = &mut work => Some(ended_early("the work", ended)),
    };
    tracing::info!("stopping");
    answering.cancel();
    let stop = async {
        if !answers.is_finished() {
            let _ = (&mut answers).await;
        }
        working.cancel();
        if !work.is_finished() {
            let _ = tokio::time::timeout(STOP_TIMEOUT, &mut work).await;
        }
        let _ = tokio::time::timeout(STOP_TIMEOUT, control.close()).await;
    };
    tokio::select! {
        () = stop => {}
        // Asked twice: now.
        _ = asked_to_stop() => return Err(Failure::silent(Exit::Interrupted)),
    }
    tracing::info!("stopped");
    failure.map_or(Ok(()), Err)
}

async fn asked_to_stop() -> Outcome {
    let failed = |e: std::io::Error| Failure::failed("signals cannot be received").because(&e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(failed),
        _ = terminate.recv() => Ok(()),
    }
}

fn ended_early(what: &str, ended: Result<(), tokio::task::JoinError>) -> Failure {
    let failure = Failure::failed(format!("{what} ended without having been asked to"));
    match ended {
        Ok(()) => failure,
        Err(error) => failure.because(&error),
    }
}

fn log_to_standard_error(settings: &ServerSettings, traces: Option<&Traces>) -> Outcome {
    let filter = EnvFilter::try_new(&settings.log_filter).map_err(|e| {
        Failure::usage(format!("{:?} is not a log filter", settings.log_filter))
            .because(&e)
            .hint("Write it like info or info,freehold_control=debug.")
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_filter(filter)
            .boxed(),
    };
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![lines];
    layers.extend(traces.map(Traces::layer));
    let installed = tracing_subscriber::registry().with(layers).try_init();
    installed.map_err(|e| Failure::failed(format!("logging cannot be set up: {e}")))
}

/// Listed by its owner only: it holds the key and the first token. Root lets others pass through it,
/// because the local instances below it run under an account of their own.
pub(crate) fn make_data_dir(path: &Path, surroundings: &Surroundings) -> Outcome {
    let mode = if surroundings.is_root { 0o711 } else { 0o700 };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|e| {
            Failure::on_file("cannot make the data directory", path, &e)
                .hint("Choose another with --data-dir.")
        })
}

/// Opens the store that the settings name; `admin restore` comes here too.
pub(crate) async fn open_store(
    settings: &ServerSettings,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Outcome<StoreHandle> {
    match &settings.store {
        StoreChoice::Sqlite(path) => {
            let (path, clock, entropy) = (path.clone(), clock.clone(), entropy.clone());
            let shown = path.display().to_string();
            let opened =
                tokio::task::spawn_blocking(move || SqliteStore::open(&path, clock, entropy))
                    .await
                    .map_err(|e| Failure::failed("the store cannot be opened").because(&e))?;
            let store = opened.map_err(|e| {
                Failure::new(
                    Exit::Unavailable,
                    format!("the store {shown} cannot be opened"),
                )
                .because(&e)
                .hint("`freehold doctor` looks at the data directory.")
            })?;
            Ok(StoreHandle::new(store))
        }
        StoreChoice::Postgres { url, ca } => {
            let url = SecretResolver::default().resolve(url).await?;
            let read = |path: &PathBuf| {
                fs::read_to_string(path).map_err(|e| Failure::on_file("cannot read", path, &e))
            };
            let config = store_url::parse(&url, ca.as_ref().map(read).transpose()?)?;
            let place = format!("{}:{}", config.host, config.port);
            let store = PostgresStore::connect(config, entropy.clone())
                .await
                .map_err(|e| {
                    Failure::new(
                        Exit::Unavailable,
                        format!("the store at {place} cannot be opened"),
                    )
                    .because(&e)
                    .hint("`server.store.postgres` names the URL of a PostgreSQL database.")
                })?;
            Ok(StoreHandle::new(store))
        }
    }
}

/// This server's name among several on one store.
fn own_name(settings: &ServerSettings) -> String {
    settings.name.clone().unwrap_or_else(|| {
        let host = rustix::system::uname();
        format!(
            "{}:{}",
            host.nodename().to_string_lossy(),
            std::process::id()
        )
    })
}

fn options(settings: &ServerSettings, name: String) -> Outcome<Options> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::failed("this program's own file cannot be found").because(&e))?;
    let mut options = Options::new(name, settings.data_dir.clone(), program);
    if let Some(key) = &settings.key {
        options.key = key.parse::<KeySource>()?;
    }
    options.confinement = Confinement {
        private: own_files(settings),
        programs_allowed: settings.exec_references,
    };
    options.default_environment = settings.environment.clone();
    options.workers = settings.workers.unwrap_or(options.workers);
    options.reconcile_interval = settings
        .reconcile_interval
        .unwrap_or(options.reconcile_interval);
    options.drift_interval = settings.drift_interval.unwrap_or(options.drift_interval);
    Ok(options)
}

/// Beside the data directory and the key: the store, what gives its address, and the key of TLS.
fn own_files(settings: &ServerSettings) -> Vec<PathBuf> {
    let mut files = Vec::new();
    match &settings.store {
        StoreChoice::Sqlite(path) => {
            // SQLite keeps its log and its index beside the file.
            files.extend(["", "-wal", "-shm"].map(|end| {
                let mut beside = path.clone().into_os_string();
                beside.push(end);
                PathBuf::from(beside)
            }));
        }
        StoreChoice::Postgres { url, .. } => {
            files.extend(url.0.strip_prefix("file:").map(PathBuf::from));
        }
    }
    files.extend(settings.tls.as_ref().map(|(_, key)| key.clone()));
    files
}

fn server_options(settings: &ServerSettings) -> freehold_server::Options {
    freehold_server::Options {
        listen: settings.listen,
        tls: settings.tls.as_ref().map(|(certificate, key)| TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        limits: Limits::default(),
    }
}

fn announce(session: &Session, settings: &ServerSettings, started: &Started, server: &Server) {
    let out = &session.output;
    let store = match &settings.store {
        StoreChoice::Sqlite(path) => path.display().to_string(),
        StoreChoice::Postgres {
            url: SecretReference(reference),
            ..
        } => format!(
            "PostgreSQL, {}",
            reference.split(' ').next().unwrap_or_default()
        ),
    };
    if let Some(path) = &started.bootstrap_token_file {
        out.note(format!(
            "The first admin token is in {path} (only you can read it). Log in with\n\
             `freehold login`, as another user with `freehold login --token-file {path}`.",
            path = path.display()
        ));
    }
    if settings.tls.is_none() && !settings.listen.ip().is_loopback() {
        out.warn(
            "requests, tokens included, travel unencrypted: set `server.tls`, or put TLS in front",
        );
    }
    tracing::info!(address = %server.url(), %store, "ready");
    out.note(format!(
        "Freehold answers at {} (store: {store})",
        server.url()
    ));
}
