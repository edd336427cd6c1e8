//! What the server is told, from its flags and the server section of `freehold.toml`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use freehold_model::{Name, kinds::SecretReference};
use serde::Deserialize;

use super::{Settings, Surroundings, file::TracesSection};
use crate::failure::{Failure, Outcome};

pub(crate) const DEFAULT_PORT: u16 = 7440;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What flags and variables say; stronger than the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerOverrides {
    pub listen: Option<SocketAddr>,
    pub data_dir: Option<PathBuf>,
    pub log_format: Option<LogFormat>,
    pub log_filter: Option<String>,
    pub traces_endpoint: Option<String>,
}

/// To which collector spans go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceSettings {
    /// Where they are posted to, path included.
    pub endpoint: String,
    /// Absent when the standard variables give one.
    pub service_name: Option<String>,
    /// Spans that wait to be sent; more are dropped.
    pub queue_spans: usize,
    /// How long a span waits for others to be sent with.
    pub delay: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreChoice {
    Sqlite(PathBuf),
    Postgres {
        url: SecretReference,
        ca: Option<PathBuf>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    pub listen: SocketAddr,
    pub name: Option<String>,
    pub data_dir: PathBuf,
    pub environment: Name,
    /// Absent: a file in the data directory, made at first start.
    pub key: Option<String>,
    /// Whether manifests may name programs that give a secret.
    pub exec_references: bool,
    pub store: StoreChoice,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub log_format: LogFormat,
    pub log_filter: String,
    /// Absent: nobody is told.
    pub traces: Option<TraceSettings>,
    pub workers: Option<usize>,
    pub reconcile_interval: Option<Duration>,
    pub drift_interval: Option<Duration>,
}

impl ServerSettings {
    pub(crate) fn resolve(settings: &Settings, overrides: ServerOverrides) -> Outcome<Self> {
        let section = &settings.file.server;
        let data_dir = overrides.data_dir.unwrap_or_else(|| settings.data_dir());
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|e| Failure::on_file("cannot use the data directory", &data_dir, &e))?;
        let store = match (&section.store.sqlite, &section.store.postgres) {
            (Some(_), Some(_)) => {
                return Err(Failure::usage(
                    "the configuration names two stores, `server.store.sqlite` and `server.store.postgres`",
                )
                .hint("Keep one of them."));
            }
            (Some(path), None) => StoreChoice::Sqlite(path.clone()),
            (None, Some(reference)) => StoreChoice::Postgres {
                url: SecretReference(reference.clone()),
                ca: section.store.postgres_ca.clone(),
            },
            (None, None) => StoreChoice::Sqlite(data_dir.join("freehold.db")),
        };
        let default_listen = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
        let seconds = |value: Option<u64>| value.map(|s| Duration::from_secs(s.max(1)));
        Ok(Self {
            listen: overrides
                .listen
                .or(section.listen)
                .unwrap_or(default_listen),
            name: section.name.clone(),
            environment: section
                .environment
                .clone()
                .unwrap_or_else(|| Name::new("local").expect("a valid name")),
            key: section.key.clone(),
            exec_references: section.exec_references,
            store,
            tls: section
                .tls
                .as_ref()
                .map(|tls| (tls.certificate.clone(), tls.key.clone())),
            log_format: overrides
                .log_format
                .or(section.log.format)
                .unwrap_or_default(),
            log_filter: overrides
                .log_filter
                .or_else(|| section.log.filter.clone())
                .unwrap_or_else(|| "info".to_owned()),
            traces: TraceSettings::resolve(
                overrides.traces_endpoint.as_deref(),
                &section.traces,
                &settings.surroundings,
            ),
            workers: section.workers,
            reconcile_interval: seconds(section.reconcile_interval_seconds),
            drift_interval: seconds(section.drift_interval_seconds),
            data_dir,
        })
    }
}

impl TraceSettings {
    /// A flag or `FREEHOLD_TRACES_ENDPOINT`, then OpenTelemetry's own variables, then the file. The
    /// variables that name headers, time limits, samplers and resources are read by the library.
    fn resolve(
        named: Option<&str>,
        section: &TracesSection,
        surroundings: &Surroundings,
    ) -> Option<Self> {
        // Set and empty means not set, in all of OpenTelemetry's variables.
        let variable = |name: &str| surroundings.get(name).filter(|value| !value.is_empty());
        let says = |name: &str, word: &str| {
            variable(name).is_some_and(|value| value.eq_ignore_ascii_case(word))
        };
        if says("OTEL_SDK_DISABLED", "true") || says("OTEL_TRACES_EXPORTER", "none") {
            return None;
        }
        let with_path = |base: &str| format!("{}/v1/traces", base.trim_end_matches('/'));
        let endpoint = named
            .filter(|named| !named.is_empty())
            .map(with_path)
            .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").map(str::to_owned))
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(with_path))
            .or_else(|| section.endpoint.as_deref().map(with_path))?;
        let named_elsewhere = variable("OTEL_SERVICE_NAME").is_some()
            || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| {
                all.split(',')
                    .any(|one| one.trim().starts_with("service.name="))
            });
        let service_name = section.service_name.clone();
        let service_name = service_name.unwrap_or_else(|| "freehold".to_owned());
        Some(Self {
            endpoint,
            service_name: (!named_elsewhere).then_some(service_name),
            queue_spans: parsed(variable("OTEL_BSP_MAX_QUEUE_SIZE")).unwrap_or(2048),
            delay: Duration::from_millis(
                parsed(variable("OTEL_BSP_SCHEDULE_DELAY")).unwrap_or(1000),
            ),
        })
    }
}

/// A number that cannot be read is as good as none: what watches a server must not keep it from starting.
fn parsed<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text?.trim().parse().ok()
}
