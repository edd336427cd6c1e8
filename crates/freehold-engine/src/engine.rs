//! One server, seen with its administrator's eyes.

use std::{any::Any, collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

use freehold_model::{Gate, ServerIdentity, kinds::Difference};

use crate::{DesiredDatabase, Fence, Result, Stamp};

/// What an engine can do, as data. The conformance suite proves what is claimed and asserts that
/// what is not claimed is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    pub engine: &'static str,
    /// Accounts exist and passwords are checked.
    pub logins: bool,
    /// DDL can be rolled back, so an effect and its fence check share a transaction.
    pub transactional_ddl: bool,
    pub schemas: bool,
    pub extensions: bool,
    /// Accesses may name single tables.
    pub table_grants: bool,
    pub migrations: bool,
    pub identifier_bytes_max: usize,
    /// Which of the limits the tenant cannot lift, by field name of `Limits`.
    pub firm_limits: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvergeMode {
    /// Repair what differs.
    Apply,
    /// Only report it.
    Observe,
    /// Repair what the migrator's login needs to do its work, or not to: the login itself, its
    /// membership of the owner, its settings, its way in and its sessions. Report the rest. For a
    /// migration of a database that is only observed.
    Migrator,
}

/// One server. Cheap to share; it holds at most two admin connections of its own.
pub trait Engine: Send + Sync + 'static {
    fn capabilities(&self) -> &Capabilities;

    /// Version, identity, size, settings. Reads only.
    fn inspect(&self) -> impl Future<Output = Result<InstanceFacts>> + Send;

    /// Everything that one query per catalog can tell about all databases and logins at once. Reads
    /// only. Makes a drift round over a thousand databases cheap.
    fn survey(&self) -> impl Future<Output = Result<Survey>> + Send;

    /// Takes a name for a database, by a registry row, before anything is created under it. Creates
    /// the registry when it is missing. Succeeds again for the same stamp; refuses a name that
    /// exists without our stamp (`NameTaken`) and a server whose identity changed (`ServerMismatch`).
    /// Records the fence's epoch.
    fn reserve(
        &self,
        name: &str,
        stamp: &Stamp,
        fence: &Fence,
        gate: &Gate,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Makes the server agree with what is desired, or says where it does not. Returns what
    /// differed. Only touches the reserved database and the logins named in it. Running it again, or
    /// after a kill at any point, ends in the same state. `survey` may be stale: it only saves work, and what it says
    /// against the database is looked at again before it is said or acted upon.
    fn converge(
        &self,
        desired: &DesiredDatabase,
        mode: ConvergeMode,
        survey: Option<&Survey>,
        fence: &Fence,
        gate: &Gate,
    ) -> impl Future<Output = Result<Vec<Difference>>> + Send;

    /// Takes logins out of use that no access names any more: no login, no right, no session. The
    /// accounts stay, because dropping one that owns objects is not safe.
    fn disable_logins(
        &self,
        name: &str,
        stamp: &Stamp,
        logins: &[String],
        fence: &Fence,
        gate: &Gate,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Marks the registry row as given up by Freehold (deletion policy Retain). The data stays.
    fn release(
        &self,
        name: &str,
        stamp: &Stamp,
        fence: &Fence,
        gate: &Gate,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceFacts {
    /// Full version, e.g. `15.20`.
    pub version: String,
    pub version_major: u32,
    /// Absent until the registry gives one to a server that has none of its own.
    pub identity: Option<ServerIdentity>,
    pub databases: u32,
    pub size_bytes: u64,
    pub connections: u32,
    /// Absent where nobody counts them.
    pub connections_max: Option<u32>,
    pub read_only: bool,
    /// Rights that the admin login lacks and Freehold needs, in words. Empty is good.
    pub missing_rights: Vec<String>,
    pub settings: BTreeMap<String, String>,
    pub extensions_available: Vec<String>,
}

/// A snapshot of the cluster-wide catalogs. The engine's own part is opaque.
#[derive(Clone)]
pub struct Survey {
    pub identity: ServerIdentity,
    pub databases: Vec<SurveyedDatabase>,
    pub engine: Arc<dyn Any + Send + Sync>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SurveyedDatabase {
    pub name: String,
    pub owner: String,
    pub size_bytes: Option<u64>,
    pub connections: u32,
    /// From the registry: whose it is. `None` means that Freehold does not manage it.
    pub stamp: Option<Stamp>,
    /// The registry row was made on this server; false on a clone.
    pub same_server: bool,
}

impl fmt::Debug for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survey")
            .field("identity", &self.identity)
            .field("databases", &self.databases)
            .finish_non_exhaustive()
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The object-safe twin of [`Engine`], implemented for every engine by one blanket impl.
pub trait DynEngine: Send + Sync + 'static {
    fn capabilities(&self) -> &Capabilities;
    fn inspect(&self) -> Boxed<'_, InstanceFacts>;
    fn survey(&self) -> Boxed<'_, Survey>;
    fn reserve<'a>(
        &'a self,
        name: &'a str,
        stamp: &'a Stamp,
        fence: &'a Fence,
        gate: &'a Gate,
    ) -> Boxed<'a, ()>;
    fn converge<'a>(
        &'a self,
        desired: &'a DesiredDatabase,
        mode: ConvergeMode,
        survey: Option<&'a Survey>,
        fence: &'a Fence,
        gate: &'a Gate,
    ) -> Boxed<'a, Vec<Difference>>;
    fn disable_logins<'a>(
        &'a self,
        name: &'a str,
        stamp: &'a Stamp,
        logins: &'a [String],
        fence: &'a Fence,
        gate: &'a Gate,
    ) -> Boxed<'a, ()>;
    fn release<'a>(
        &'a self,
        name: &'a str,
        stamp: &'a Stamp,
        fence: &'a Fence,
        gate: &'a Gate,
    ) -> Boxed<'a, ()>;
}

impl<E: Engine> DynEngine for E {
    fn capabilities(&self) -> &Capabilities {
        Engine::capabilities(self)
    }
    fn inspect(&self) -> Boxed<'_, InstanceFacts> {
        Box::pin(Engine::inspect(self))
    }
    fn survey(&self) -> Boxed<'_, Survey> {
        Box::pin(Engine::survey(self))
    }
    fn reserve<'a>(
        &'a self,
        name: &'a str,
        stamp: &'a Stamp,
        fence: &'a Fence,
        gate: &'a Gate,
    ) -> Boxed<'a, ()> {
        Box::pin(Engine::reserve(self, name, stamp, fence, gate))
    }
    fn converge<'a>(
        &'a self,
        desired: &'a DesiredDatabase,
        mode: ConvergeMode,
        survey: Option<&'a Survey>,
        fence: &'a Fence,
        gate: &'a Gate,
    ) -> Boxed<'a, Vec<Difference>> {
        Box::pin(Engine::converge(self, desired, mode, survey, fence, gate))
    }
    fn disable_logins<'a>(
        &'a self,
        name: &'a str,
        stamp: &'a Stamp,
        logins: &'a [String],
        fence: &'a Fence,
        gate: &'a Gate,
    ) -> Boxed<'a, ()> {
        Box::pin(Engine::disable_logins(
            self, name, stamp, logins, fence, gate,
        ))
    }
    fn release<'a>(
        &'a self,
        name: &'a str,
        stamp: &'a Stamp,
        fence: &'a Fence,
        gate: &'a Gate,
    ) -> Boxed<'a, ()> {
        Box::pin(Engine::release(self, name, stamp, fence, gate))
    }
}

/// A server that can be cloned and shared between tasks. Its methods are those of [`DynEngine`].
#[derive(Clone)]
pub struct EngineHandle(Arc<dyn DynEngine>);

impl EngineHandle {
    pub fn new(engine: impl Engine) -> Self {
        Self(Arc::new(engine))
    }
}

impl std::ops::Deref for EngineHandle {
    type Target = dyn DynEngine;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
