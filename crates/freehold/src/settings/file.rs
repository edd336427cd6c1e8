//! `freehold.toml`: one section for the server, one for the client.
//!
//! Unknown keys are errors that name the nearest known one: a misspelt `tls` must not start a server
//! without it. [`KEYS`] is also what `docs/configuration.md` is compared with.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use freehold_model::Name;
use serde::Deserialize;

use super::Directories;
use crate::failure::{Failure, Outcome};

/// Every key there is.
pub(crate) const KEYS: &[&str] = &[
    "client.ca",
    "client.env",
    "client.server",
    "client.team",
    "server.data_dir",
    "server.drift_interval_seconds",
    "server.environment",
    "server.exec_references",
    "server.key",
    "server.listen",
    "server.log.filter",
    "server.log.format",
    "server.name",
    "server.reconcile_interval_seconds",
    "server.store.postgres",
    "server.store.postgres_ca",
    "server.store.sqlite",
    "server.tls.certificate",
    "server.tls.key",
    "server.traces.endpoint",
    "server.traces.service_name",
    "server.workers",
];

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    /// Where it was read from; absent when there is no file.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    pub server: ServerSection,
    pub client: ClientSection,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClientSection {
    pub server: Option<String>,
    pub env: Option<Name>,
    pub team: Option<Name>,
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerSection {
    pub listen: Option<SocketAddr>,
    pub name: Option<String>,
    pub data_dir: Option<PathBuf>,
    pub environment: Option<Name>,
    /// `file:`, `env:` or `exec:`.
    pub key: Option<String>,
    /// Whether manifests may name programs.
    pub exec_references: bool,
    pub store: StoreSection,
    pub tls: Option<TlsSection>,
    pub log: LogSection,
    pub traces: TracesSection,
    pub workers: Option<usize>,
    pub reconcile_interval_seconds: Option<u64>,
    pub drift_interval_seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreSection {
    pub sqlite: Option<PathBuf>,
    /// Where the connection URL is: `file:`, `env:` or `exec:`.
    pub postgres: Option<String>,
    pub postgres_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    pub format: Option<super::LogFormat>,
    pub filter: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TracesSection {
    /// The collector's address without a path: `/v1/traces` is appended.
    pub endpoint: Option<String>,
    pub service_name: Option<String>,
}

impl ConfigFile {
    /// Reads the named file, which must exist, or the usual one, which need not.
    pub(crate) fn load(named: Option<&Path>, directories: &Directories) -> Outcome<Self> {
        let usual = directories.config.join("freehold.toml");
        let path = named.unwrap_or(&usual);
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(e) => {
                let failure = Failure::on_file("cannot read the configuration", path, &e);
                return Err(Failure {
                    exit: crate::failure::Exit::Usage,
                    ..failure
                });
            }
        };
        let mut file = Self::parse(&text, path)?;
        file.path = Some(path.to_owned());
        Ok(file)
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Outcome<Self> {
        let shown = path.display();
        let broken = |message: &str| Failure::usage(format!("{shown}: {}", message.trim()));
        let table: toml::Table = toml::from_str(text).map_err(|e| broken(&e.to_string()))?;
        let mut unknown = Vec::new();
        find_unknown(&table, "", &mut unknown);
        if let Some(key) = unknown.first() {
            let line = line_of(text, key);
            let failure = Failure::usage(format!("{shown}:{line}: there is no key `{key}`"));
            let hint = match nearest(key) {
                Some(known) => format!("Did you mean `{known}`?"),
                None => format!("Known keys: {}.", KEYS.join(", ")),
            };
            return Err(failure.hint(hint));
        }
        toml::from_str(text).map_err(|e| broken(&e.to_string()))
    }
}

/// Collects the dotted names of keys that are neither known nor a section of known keys.
fn find_unknown(table: &toml::Table, prefix: &str, unknown: &mut Vec<String>) {
    for (key, value) in table {
        let name = format!("{prefix}{key}");
        let section = format!("{name}.");
        if KEYS.contains(&name.as_str()) {
            continue;
        }
        match value {
            toml::Value::Table(inner) if KEYS.iter().any(|known| known.starts_with(&section)) => {
                find_unknown(inner, &section, unknown);
            }
            _ if KEYS.iter().any(|known| known.starts_with(&section)) => {}
            _ => unknown.push(name),
        }
    }
}

/// Compares last parts first: `lisen` is near to `server.listen` wherever it stands.
fn nearest(key: &str) -> Option<&'static str> {
    let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
    KEYS.iter()
        .map(|known| {
            let whole = strsim::damerau_levenshtein(key, known);
            let part = strsim::damerau_levenshtein(&last(key), &last(known));
            (part.min(whole), whole, *known)
        })
        .min()
        .filter(|(distance, _, known)| *distance <= (last(known).len() / 3).max(1))
        .map(|(_, _, known)| known)
}

/// Where a key stands, from 1: good enough to find it with an editor.
fn line_of(text: &str, key: &str) -> usize {
    let last = key.rsplit('.').next().unwrap_or_default();
    let found = text.lines().position(|line| {
        let line = line.trim_start().trim_start_matches('[');
        let line = line
            .rsplit_once('.')
            .filter(|(before, _)| !before.contains('='))
            .map_or(line, |(_, part)| part);
        line.strip_prefix(last)
            .is_some_and(|rest| rest.trim_start().starts_with(['=', ']', '.']))
    });
    found.map_or(1, |index| index + 1)
}
