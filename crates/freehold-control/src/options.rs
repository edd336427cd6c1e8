//! How one server of the control plane is set up.

use std::{path::PathBuf, time::Duration};

use freehold_model::{Gate, Name};

use crate::secrets::{Confinement, KeySource};

#[derive(Debug, Clone)]
pub struct Options {
    /// This server's name among several, e.g. `host:pid`; holds leases.
    pub name: String,
    /// Where local instances, the token file and scratch files live.
    pub data_dir: PathBuf,
    /// Where the key-encryption key is.
    pub key: KeySource,
    /// What manifests may not name as secrets, beside the data directory and the key.
    pub confinement: Confinement,
    /// Made at first start.
    pub default_environment: Name,
    /// The program that is started as `PROGRAM runner` for each migration.
    pub runner_program: PathBuf,
    /// Operations driven at once.
    pub workers: usize,
    /// How often instances are looked at.
    pub reconcile_interval: Duration,
    /// How often every database is compared with what is declared.
    pub drift_interval: Duration,
    /// How long a silent worker keeps its target.
    pub lease_ttl: Duration,
    /// The pause after an operation's first failed attempt; it doubles from there.
    pub retry_first: Duration,
    /// How long a database is left alone after trouble, unless its declaration changes.
    pub trouble_pause: Duration,
    /// Closed by tests.
    pub gate: Gate,
}

impl Options {
    /// What manifests may not name as secrets.
    pub(crate) fn confined(&self) -> Confinement {
        let mut confinement = self.confinement.clone();
        confinement.private.push(self.data_dir.clone());
        if let KeySource::File { path, .. } = &self.key {
            confinement.private.push(path.clone());
        }
        confinement
    }

    /// Settings that suit one server for a small company.
    pub fn new(name: impl Into<String>, data_dir: PathBuf, runner_program: PathBuf) -> Self {
        Self {
            name: name.into(),
            key: KeySource::File {
                path: data_dir.join("key"),
                generate: true,
            },
            data_dir,
            confinement: Confinement::default(),
            default_environment: Name::new("local").expect("a valid name"),
            runner_program,
            workers: 64,
            reconcile_interval: Duration::from_secs(15),
            drift_interval: Duration::from_secs(300),
            lease_ttl: Duration::from_secs(30),
            retry_first: Duration::from_secs(1),
            trouble_pause: Duration::from_secs(15),
            gate: Gate::open(),
        }
    }
}
