//! How programs and runners get to what an engine holds: the one place that knows the difference
//! between a server with accounts and a folder of files.

use std::path::{Path, PathBuf};

use freehold_api::{BindingTarget, FileBinding, ServerBinding};
use freehold_engine::{ConnectTarget, EngineError, Fault, sqlite::SqliteEngine};
use freehold_migrate::runner_process::RunnerTarget;
use freehold_model::{
    Secret,
    kinds::{AccessLevel, Slot},
};

use crate::trouble::Trouble;

/// A login of an access, as it is handed out.
pub(crate) struct Credential {
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) slot: Slot,
}

/// The way to an instance's databases.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    Postgres(Server),
    Mariadb(Server),
    /// A folder with a file for each database.
    Sqlite(PathBuf),
    /// A server with a prefix of keys for each database.
    Redis(Server),
}

/// A server with accounts.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// How an administrator connects; the migrator uses the same address with its own login.
    pub(crate) admin: ConnectTarget,
    /// Where workloads connect.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// libpq's word.
    pub(crate) sslmode: &'static str,
    pub(crate) ca_pem: Option<String>,
}

impl Reach {
    /// What an instance's status shows: `host:port`, or the folder.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Postgres(server) | Self::Mariadb(server) | Self::Redis(server) => {
                server.address()
            }
            Self::Sqlite(directory) => directory.display().to_string(),
        }
    }

    /// What a program gets to use the database called `name` on the server.
    pub(crate) fn binding(
        &self,
        name: &str,
        credential: Credential,
        level: AccessLevel,
    ) -> Result<BindingTarget, Trouble> {
        Ok(match self {
            Self::Postgres(server) => BindingTarget::Postgresql(server.binding(name, credential)),
            Self::Mariadb(server) => BindingTarget::Mysql(server.binding(name, credential)),
            Self::Sqlite(directory) => BindingTarget::Sqlite(FileBinding {
                path: text(&SqliteEngine::file_of(directory, name)?)?,
                read_only: level == AccessLevel::ReadOnly,
            }),
            Self::Redis(server) => BindingTarget::Redis(server.binding(name, credential)),
        })
    }

    /// What a migration runner gets.
    pub(crate) fn runner(
        &self,
        name: &str,
        login: &str,
        password: Secret,
    ) -> Result<RunnerTarget, Trouble> {
        Ok(match self {
            Self::Postgres(server) => {
                RunnerTarget::from_target(&server.migrator(name, login, password))
            }
            Self::Mariadb(server) => RunnerTarget::mariadb(&server.migrator(name, login, password)),
            Self::Sqlite(directory) => {
                RunnerTarget::sqlite(SqliteEngine::file_of(directory, name)?)
            }
            Self::Redis(_) => {
                let what = "run migrations: there is no schema to change".to_owned();
                let doing = format!("migrate {name:?}");
                return Err(EngineError::new(Fault::Unsupported { what }, doing).into());
            }
        })
    }
}

fn text(path: &Path) -> Result<String, Trouble> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!("the path {} is not valid UTF-8", path.display());
        Trouble::Control(
            freehold_model::Error::invalid(message)
                .hint("Start `freehold serve` with another --data-dir."),
        )
    })
}

impl Server {
    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn binding(&self, name: &str, credential: Credential) -> ServerBinding {
        ServerBinding {
            host: self.host.clone(),
            port: self.port,
            database: name.to_owned(),
            username: credential.username,
            password: credential.password,
            sslmode: self.sslmode.to_owned(),
            certificates: self.ca_pem.clone(),
            slot: credential.slot,
        }
    }

    fn migrator(&self, name: &str, login: &str, password: Secret) -> ConnectTarget {
        ConnectTarget {
            username: login.to_owned(),
            password: Some(password),
            database: name.to_owned(),
            ..self.admin.clone()
        }
    }
}
