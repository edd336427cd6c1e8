//! What the server is told, from its flags and the server section of `freehold.toml`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use freehold_model::{Name, kinds::SecretReference};
use serde::Deserialize;

use super::Settings;
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
    pub store: StoreChoice,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub log_format: LogFormat,
    pub log_filter: String,
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
            workers: section.workers,
            reconcile_interval: seconds(section.reconcile_interval_seconds),
            drift_interval: seconds(section.drift_interval_seconds),
            data_dir,
        })
    }
}
