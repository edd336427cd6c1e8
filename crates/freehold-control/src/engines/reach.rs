//! How programs and runners get to what an engine holds: the one place that knows the difference
//! between a server with accounts and a folder of files.

use freehold_api::{BindingTarget, ServerBinding};
use freehold_engine::ConnectTarget;
use freehold_migrate::runner_process::RunnerTarget;
use freehold_model::{Name, Secret, kinds::Slot};

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
            Self::Postgres(server) => server.address(),
        }
    }

    /// What a program gets to use the database called `name` on the server.
    pub(crate) fn binding(&self, name: &str, credential: Credential) -> BindingTarget {
        match self {
            Self::Postgres(server) => BindingTarget::Postgresql(server.binding(name, credential)),
        }
    }

    /// What a migration runner gets.
    pub(crate) fn runner(&self, name: &str, login: &str, password: Secret) -> RunnerTarget {
        match self {
            Self::Postgres(server) => {
                RunnerTarget::from_target(&server.migrator(name, login, password))
            }
        }
    }
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

/// Whether programs log in to the engine's databases.
pub(crate) fn has_accounts(engine: &Name) -> bool {
    engine.as_str() != "sqlite"
}
