//! PostgreSQL 14 to 18.
//!
//! [`PostgresEngine`] administers a server; [`PostgresSession`] runs scripts as one login;
//! [`LocalServer`] makes and runs a private server.
//!
//! A request reads down the files: `connect` (bounded connections), `registry` (who owns what, and
//! the fence), `observe` and `inside` (what is there, as values), `plan` (what to do, pure), `apply`
//! (doing it), `birth` (doing it for the first time, in few transactions). `docs/engines/postgres.md` says what a server holds afterwards and why.

mod apply;
mod birth;
mod connect;
mod converge;
mod errors;
mod inside;
mod inspect;
mod local;
mod names;
mod observe;
mod plan;
mod quote;
mod registry;
mod render;
mod reserve;
mod scram;
mod session;
mod survey;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};

use freehold_model::{Gate, kinds::Difference};

pub use self::{
    connect::Timeouts,
    local::{BIN_DIRS_VARIABLE, Installation, LocalServer, installed},
    session::PostgresSession,
};

use self::connect::{Lease, Permit, Pool};
use crate::{
    Capabilities, ConnectTarget, ConvergeMode, DesiredDatabase, Engine, EngineError, Fault, Fence,
    InstanceFacts, Result, Stamp, Survey,
};

const CAPABILITIES: Capabilities = Capabilities {
    engine: "postgres",
    logins: true,
    transactional_ddl: true,
    schemas: true,
    extensions: true,
    table_grants: true,
    migrations: true,
    identifier_bytes_max: quote::IDENTIFIER_BYTES_MAX,
    firm_limits: &["connections", "tempFilesMib"],
};

/// One PostgreSQL server, seen with its administrator's eyes.
pub struct PostgresEngine {
    pool: Arc<Pool>,
    /// The database that holds the registry, once it is known to.
    home: Mutex<Option<String>>,
}

impl PostgresEngine {
    /// Connects to nothing yet. `target` names the admin login and the database that its
    /// connections open.
    pub fn new(target: ConnectTarget) -> Self {
        Self::with_timeouts(target, Timeouts::default())
    }

    /// With other limits than the usual ones, e.g. for a server far away.
    pub fn with_timeouts(target: ConnectTarget, timeouts: Timeouts) -> Self {
        Self {
            pool: Pool::new(target, timeouts),
            home: Mutex::new(None),
        }
    }

    /// A connection to the registry's database, or an error that says it is not there.
    async fn registry(&self, permit: Permit) -> Result<Lease> {
        let known = self.known_home();
        if let Some(home) = known {
            return self.pool.admin(permit, &home).await;
        }
        let database = self.pool.target.database.clone();
        let lease = self.pool.admin(permit, &database).await?;
        if registry::exists(&lease).await? {
            self.remember_home(&database);
            return Ok(lease);
        }
        if registry::own_database_exists(&lease).await? {
            let permit = lease.close();
            let own = registry::OWN_DATABASE;
            let lease = self.pool.admin(permit, own).await?;
            if registry::exists(&lease).await? {
                self.remember_home(own);
                return Ok(lease);
            }
        }
        Err(EngineError::new(
            Fault::Missing {
                what: "the registry (schema freehold)".into(),
            },
            "look for the registry",
        ))
    }

    fn known_home(&self) -> Option<String> {
        self.home
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn remember_home(&self, database: &str) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(database.to_owned());
    }

    fn forget_home(&self) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is missing may have been dropped by hand: look for it anew next time.
    fn noting<T>(&self, result: Result<T>) -> Result<T> {
        let Err(mut error) = result else {
            return result;
        };
        let lost = matches!(&error.fault, Fault::Statement(s)
            if matches!(s.sqlstate.as_str(), "42P01" | "3F000"));
        if lost {
            self.forget_home();
            error.fault = Fault::Missing {
                what: "the registry (schema freehold)".into(),
            };
        }
        if matches!(error.fault, Fault::Missing { .. }) {
            self.forget_home();
        }
        Err(error)
    }
}

impl Engine for PostgresEngine {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn inspect(&self) -> Result<InstanceFacts> {
        inspect::inspect(self).await
    }

    async fn survey(&self) -> Result<Survey> {
        let surveyed = survey::survey(self).await;
        self.noting(surveyed)
    }

    async fn reserve(&self, name: &str, stamp: &Stamp, fence: &Fence, gate: &Gate) -> Result<()> {
        let reserved = reserve::reserve(self, name, stamp, fence, gate).await;
        self.noting(reserved)
    }

    async fn converge(
        &self,
        desired: &DesiredDatabase,
        mode: ConvergeMode,
        survey: Option<&Survey>,
        fence: &Fence,
        gate: &Gate,
    ) -> Result<Vec<Difference>> {
        let converged = converge::converge(self, desired, mode, survey, fence, gate).await;
        self.noting(converged)
    }

    async fn disable_logins(
        &self,
        name: &str,
        stamp: &Stamp,
        logins: &[String],
        fence: &Fence,
        gate: &Gate,
    ) -> Result<()> {
        let disabled = converge::disable_logins(self, name, stamp, logins, fence, gate).await;
        self.noting(disabled)
    }

    async fn release(&self, name: &str, stamp: &Stamp, fence: &Fence, gate: &Gate) -> Result<()> {
        let released = reserve::release(self, name, stamp, fence, gate).await;
        self.noting(released)
    }
}
