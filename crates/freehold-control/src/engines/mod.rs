//! From an Instance resource to its server: resolves secrets, starts local servers, keeps one
//! handle per instance.
//!
//! A handle is kept until the instance's spec changes or the server refuses our login, so that a
//! changed admin password is picked up from where the instance says it is.

mod reach;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use freehold_engine::{
    ConnectTarget, EngineError, EngineHandle, Fault, Tls,
    mariadb::MariadbEngine,
    postgres::{LocalServer, PostgresEngine},
    redis::RedisEngine,
    sqlite::SqliteEngine,
};
use freehold_model::{
    Entropy, Error, Uid,
    kinds::{External, Instance, Local, TlsMode},
};
use tokio::{sync::Mutex, time::Instant};

use self::reach::Server;
pub(crate) use self::reach::{Credential, Reach};
use crate::{
    secrets::{Confinement, SecretResolver},
    trouble::Trouble,
};

/// A server that can be acted on, and how programs get to it.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) engine: EngineHandle,
    pub(crate) reach: Reach,
}

struct Kept {
    generation: u64,
    connected: Connected,
}

pub(crate) struct Engines {
    data_dir: PathBuf,
    resolver: SecretResolver,
    entropy: Arc<dyn Entropy>,
    kept: Mutex<HashMap<Uid, Kept>>,
    /// Servers that were found unreachable a moment ago: those who come next are told so at once,
    /// instead of each waiting for the same time-out in one of the workers' places.
    down: Mutex<HashMap<Uid, (Instant, String)>>,
    /// Who makes an instance's handle, or starts or stops its server: one at a time for each, so that
    /// nobody races for a server's files or holds a second pair of connections, and a server that
    /// takes long to start holds up only those who want it.
    turns: Mutex<HashMap<Uid, Arc<Mutex<()>>>>,
}

/// Where the local servers' folders are, in the data directory.
const LOCAL_SERVERS: &str = "instances";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server that was found unreachable is taken to be so.
const DOWN_PAUSE: Duration = Duration::from_secs(3);

impl Engines {
    pub(crate) fn new(
        data_dir: PathBuf,
        confinement: Confinement,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            data_dir,
            resolver: SecretResolver::for_manifests(confinement),
            entropy,
            kept: Mutex::default(),
            down: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// The server of an instance. Local servers are started when they are not running.
    pub(crate) async fn connect(&self, instance: &Instance) -> Result<Connected, Trouble> {
        let uid = instance
            .metadata
            .uid
            .ok_or_else(|| Error::internal("connecting to an instance", "it has no uid"))?;
        let generation = instance.metadata.generation;
        if let Some(known) = self.known(uid, generation).await {
            return known;
        }
        let turn = self.turn(uid).await;
        let _one_at_a_time = turn.lock().await;
        // Whoever was before us may have made it, or found that it cannot be.
        if let Some(known) = self.known(uid, generation).await {
            return known;
        }
        match self.make(instance, uid).await {
            Ok(connected) => {
                let kept = Kept {
                    generation,
                    connected: connected.clone(),
                };
                self.kept.lock().await.insert(uid, kept);
                Ok(connected)
            }
            Err(trouble) => {
                self.note(instance, &trouble).await;
                Err(trouble)
            }
        }
    }

    /// The handle that is kept, or what was found a moment ago.
    async fn known(&self, uid: Uid, generation: u64) -> Option<Result<Connected, Trouble>> {
        if let Some((since, detail)) = self.down.lock().await.get(&uid)
            && since.elapsed() < DOWN_PAUSE
        {
            let fault = Fault::Unreachable {
                detail: detail.clone(),
            };
            return Some(Err(EngineError::new(fault, "connect").into()));
        }
        let kept = self.kept.lock().await;
        let kept = kept.get(&uid).filter(|kept| kept.generation == generation);
        kept.map(|kept| Ok(kept.connected.clone()))
    }

    async fn turn(&self, uid: Uid) -> Arc<Mutex<()>> {
        self.turns.lock().await.entry(uid).or_default().clone()
    }

    /// Forgets the handle, so that the next use resolves the secrets again and restarts a local
    /// server that is gone.
    pub(crate) async fn forget(&self, uid: Uid) {
        self.kept.lock().await.remove(&uid);
    }

    /// Notes what an error says about the handle.
    pub(crate) async fn note(&self, instance: &Instance, trouble: &Trouble) {
        let Trouble::Engine(error) = trouble else {
            return;
        };
        if let (Fault::Unreachable { detail }, Some(uid)) = (&error.fault, instance.metadata.uid) {
            let mut down = self.down.lock().await;
            let since = down.get(&uid).map(|(since, _)| *since);
            if since.is_none_or(|since| since.elapsed() >= DOWN_PAUSE) {
                down.insert(uid, (Instant::now(), detail.clone()));
            }
        }
        let local = instance.spec.local.is_some();
        let stale = matches!(
            error.fault,
            Fault::Unauthenticated | Fault::ServerMismatch { .. }
        ) || (local && matches!(error.fault, Fault::Unreachable { .. }));
        if let (true, Some(uid)) = (stale, instance.metadata.uid) {
            self.forget(uid).await;
        }
    }

    /// The instances for which this machine has ever made a local server.
    pub(crate) fn local_servers(&self) -> Vec<Uid> {
        let Ok(entries) = std::fs::read_dir(self.data_dir.join(LOCAL_SERVERS)) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Stops the local server of an instance that has been deleted. Its files stay until a person
    /// removes them.
    pub(crate) async fn stop_local(&self, uid: Uid) {
        let turn = self.turn(uid).await;
        let _one_at_a_time = turn.lock().await;
        self.forget(uid).await;
        let directory = self.data_dir.join(LOCAL_SERVERS).join(uid.to_string());
        if let Err(error) = LocalServer::stop_in(&directory).await {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "the local server of a deleted instance goes on running");
        }
    }

    async fn make(&self, instance: &Instance, uid: Uid) -> Result<Connected, Trouble> {
        let spec = &instance.spec;
        match (spec.engine.as_str(), &spec.external, &spec.local) {
            ("postgres", Some(external), _) => {
                let database = external.admin_database.as_deref().unwrap_or("postgres");
                let server = self.server(instance, external, 5432, database).await?;
                Ok(Connected::postgres(server))
            }
            ("postgres", None, Some(local)) => self.local_postgres(local, uid).await,
            ("mariadb", Some(external), _) => {
                let server = self.server(instance, external, 3306, "").await?;
                Ok(Connected::mariadb(server))
            }
            ("redis", Some(external), _) => {
                let server = self.server(instance, external, 6379, "").await?;
                Ok(self.redis(server))
            }
            ("sqlite", None, Some(_)) => self.folder(uid),
            (engine, ..) => {
                let what = format!("drive a {engine} instance of this form");
                Err(EngineError::new(Fault::Unsupported { what }, "connect").into())
            }
        }
    }

    /// A server that the company runs, with its secrets resolved.
    async fn server(
        &self,
        instance: &Instance,
        external: &External,
        port: u16,
        database: &str,
    ) -> Result<Server, Trouble> {
        let password = match &external.password {
            Some(reference) => Some(self.resolver.resolve(reference).await?),
            None => None,
        };
        let ca_pem = match &external.ca {
            Some(reference) => Some(self.resolver.resolve(reference).await?.expose().to_owned()),
            None => None,
        };
        let (tls, sslmode) = match external.tls {
            TlsMode::Disable => (Tls::Disable, "disable"),
            TlsMode::Prefer => (Tls::Prefer, "prefer"),
            TlsMode::VerifyFull => (
                Tls::VerifyFull {
                    ca_pem: ca_pem.clone(),
                },
                "verify-full",
            ),
        };
        let port = external.port.unwrap_or(port);
        let workload = external.workload_endpoint.as_ref();
        Ok(Server {
            host: workload
                .map_or(&external.host, |endpoint| &endpoint.host)
                .clone(),
            port: workload.and_then(|endpoint| endpoint.port).unwrap_or(port),
            sslmode,
            ca_pem,
            admin: ConnectTarget {
                host: external.host.clone(),
                port,
                username: external.username.clone(),
                password,
                database: database.to_owned(),
                tls,
                application_name: format!("freehold/{}", instance.metadata.name),
                connect_timeout: CONNECT_TIMEOUT,
            },
        })
    }

    fn redis(&self, server: Server) -> Connected {
        let engine = RedisEngine::new(server.admin.clone(), self.entropy.clone());
        Connected {
            engine: EngineHandle::new(engine),
            reach: Reach::Redis(server),
        }
    }

    async fn local_postgres(&self, local: &Local, uid: Uid) -> Result<Connected, Trouble> {
        let directory = self.data_dir.join(LOCAL_SERVERS).join(uid.to_string());
        let major = local.version.as_deref().map(major).transpose()?;
        let server = LocalServer::ensure(&directory, major, local.port, &*self.entropy).await?;
        let admin = server.target();
        Ok(Connected::postgres(Server {
            host: admin.host.clone(),
            port: admin.port,
            sslmode: "disable",
            ca_pem: None,
            admin,
        }))
    }

    /// A folder of files on this machine. The engine makes the folder itself, with its first database.
    fn folder(&self, uid: Uid) -> Result<Connected, Trouble> {
        let parent = self.data_dir.join(LOCAL_SERVERS);
        let parent = std::fs::create_dir_all(&parent)
            .and_then(|()| std::path::absolute(&parent))
            .map_err(|source| {
                let error = Error::internal("making the folder of local instances", source);
                Trouble::Control(error)
            })?;
        let directory = parent.join(uid.to_string());
        let engine = SqliteEngine::new(directory.clone(), self.entropy.clone());
        Ok(Connected {
            engine: EngineHandle::new(engine),
            reach: Reach::Sqlite(directory),
        })
    }
}

impl Connected {
    fn postgres(server: Server) -> Self {
        Self {
            engine: EngineHandle::new(PostgresEngine::new(server.admin.clone())),
            reach: Reach::Postgres(server),
        }
    }

    fn mariadb(server: Server) -> Self {
        Self {
            engine: EngineHandle::new(MariadbEngine::new(server.admin.clone())),
            reach: Reach::Mariadb(server),
        }
    }
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engines")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// The major version that a manifest asks for.
fn major(version: &str) -> Result<u32, Trouble> {
    let text = version.split('.').next().unwrap_or_default();
    text.parse().map_err(|_| {
        let error = Error::invalid(format!("{version:?} is not a PostgreSQL version"));
        Trouble::Control(error.hint("Write the major version, e.g. `version: \"17\"`."))
    })
}

#[cfg(test)]
mod tests {
    use freehold_engine::Capabilities;
    use freehold_model::{
        SystemEntropy,
        kinds::{ENGINES, EngineProfile},
    };

    use super::*;

    fn nowhere() -> ConnectTarget {
        ConnectTarget {
            host: "localhost".to_owned(),
            port: 1,
            username: "nobody".to_owned(),
            password: None,
            database: String::new(),
            tls: Tls::Disable,
            application_name: String::new(),
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    fn external(uid: Uid, password: &std::path::Path) -> Instance {
        let instance = serde_json::json!({
            "apiVersion": freehold_model::API_VERSION,
            "kind": "Instance",
            "metadata": {"name": "pg-1", "uid": uid},
            "spec": {
                "engine": "postgres",
                "external": {
                    "host": "localhost",
                    "username": "nobody",
                    "password": format!("file:{}", password.display()),
                },
            },
        });
        serde_json::from_value(instance).expect("an instance")
    }

    #[tokio::test]
    async fn all_who_come_at_once_share_one_handle_and_wait_for_no_other_instance() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let password = directory.path().join("password");
        std::fs::write(&password, "secret").expect("a file");
        let engines = Engines::new(
            directory.path().to_owned(),
            Confinement::default(),
            Arc::new(SystemEntropy),
        );
        let uid = |seed: i64| {
            let at = jiff::Timestamp::from_second(seed).expect("a time");
            Uid::generate(at, &SystemEntropy)
        };
        let (slow, asked) = (uid(1), uid(2));
        // Somebody starts another instance's server and takes long.
        let turn = engines.turn(slow).await;
        let _starting = turn.lock().await;
        let instance = external(asked, &password);
        let connecting = (0..16).map(|_| engines.connect(&instance));
        let all = futures::future::join_all(connecting);
        let all = tokio::time::timeout(Duration::from_secs(60), all).await;
        let handles: Vec<_> = all
            .expect("nobody waits for the slow one")
            .into_iter()
            .map(|connected| connected.expect("a handle").engine)
            .collect();
        let at = |handle: &EngineHandle| std::ptr::from_ref(&**handle).cast::<()>();
        assert!(handles.iter().all(|handle| at(handle) == at(&handles[0])));
    }

    #[test]
    fn what_manifests_may_ask_is_what_engines_can_do() {
        let engines = [
            EngineHandle::new(PostgresEngine::new(nowhere())),
            EngineHandle::new(MariadbEngine::new(nowhere())),
            EngineHandle::new(SqliteEngine::new("/nowhere", Arc::new(SystemEntropy))),
            EngineHandle::new(RedisEngine::new(nowhere(), Arc::new(SystemEntropy))),
        ];
        let mut known = Vec::new();
        for engine in &engines {
            let Capabilities {
                engine,
                logins,
                schemas,
                extensions,
                table_grants,
                migrations,
                firm_limits,
                ..
            } = *engine.capabilities();
            let profile = EngineProfile::of(engine).expect("a profile");
            assert_eq!(
                (
                    profile.accounts,
                    profile.schemas,
                    profile.extensions,
                    profile.table_grants,
                    profile.migrations
                ),
                (logins, schemas, extensions, table_grants, migrations),
                "{engine}"
            );
            for limit in firm_limits {
                assert!(profile.limits.contains(limit), "{engine}: {limit}");
            }
            known.push(engine);
        }
        assert_eq!(known, ENGINES);
    }
}
