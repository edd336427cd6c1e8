//! MariaDB 10.11 and later.
//!
//! [`MariadbEngine`] administers a server; [`MariadbSession`] runs scripts as one login.
//!
//! A request reads down the files: `connect` (bounded connections), `registry` (who owns what, and
//! the fence), `observe` and `inside` (what is there, as values), `plan` (what to do, pure), `apply`
//! (doing it). Tested with 10.11 of Debian. MySQL is refused: its accounts (`mysql.user`,
//! `caching_sha2_password`), its catalogs and its atomic DDL differ, and no test of ours has met it.
//!
//! What a server holds afterwards:
//!
//! * a database `freehold` with the registry;
//! * per database: the database, with a comment that says whose it is; an account `…@%` for each slot
//!   of each access, with direct grants; one for migrations, locked between them, which defines all
//!   views, triggers, routines and events. All accounts are ours by the registry.
//!
//! What MariaDB cannot do, and what is therefore not claimed: DDL is not transactional; there are no
//! schemas inside a database; connections are limited per login, not per database, so a database may
//! have as many as its logins together (twice as many of one access while it rotates); the time of a
//! statement can be reset by the session itself; lock times and temporary files cannot be limited per
//! account; who may drop a table may drop its database; an account has no hour at which it ends, so
//! `valid_until` takes effect with the first look after it.

mod apply;
mod connect;
mod converge;
mod errors;
mod inside;
mod inspect;
mod native;
mod observe;
mod plan;
mod quote;
mod registry;
mod render;
mod reserve;
mod session;
mod survey;
mod tls;

use std::sync::Arc;

use freehold_model::{Gate, kinds::Difference};

pub use self::{connect::Timeouts, session::MariadbSession};

use self::connect::Pool;
use crate::{
    Capabilities, ConnectTarget, ConvergeMode, DesiredDatabase, Engine, Fence, InstanceFacts,
    Result, Stamp, Survey,
};

const CAPABILITIES: Capabilities = Capabilities {
    engine: "mariadb",
    logins: true,
    transactional_ddl: false,
    schemas: false,
    extensions: false,
    table_grants: true,
    migrations: true,
    identifier_bytes_max: quote::IDENTIFIER_CHARS_MAX,
    firm_limits: &["connections"],
};

/// One MariaDB server, seen with its administrator's eyes.
pub struct MariadbEngine {
    pool: Arc<Pool>,
}

impl MariadbEngine {
    /// Connects to nothing yet. `target` names the admin login; its database is left empty, or names
    /// one that exists.
    pub fn new(target: ConnectTarget) -> Self {
        Self::with_timeouts(target, Timeouts::default())
    }

    /// With other limits than the usual ones, e.g. for a server far away.
    pub fn with_timeouts(target: ConnectTarget, timeouts: Timeouts) -> Self {
        Self {
            pool: Pool::new(target, timeouts),
        }
    }
}

/// A registry that was dropped by hand is missing, whatever statement met it.
fn noting<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        if registry::is_missing(&error) {
            registry::missing(&error.doing).because(error)
        } else {
            error
        }
    })
}

impl Engine for MariadbEngine {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn inspect(&self) -> Result<InstanceFacts> {
        inspect::inspect(self).await
    }

    async fn survey(&self) -> Result<Survey> {
        noting(survey::survey(self).await)
    }

    async fn reserve(&self, name: &str, stamp: &Stamp, fence: &Fence, gate: &Gate) -> Result<()> {
        noting(reserve::reserve(self, name, stamp, fence, gate).await)
    }

    async fn converge(
        &self,
        desired: &DesiredDatabase,
        mode: ConvergeMode,
        survey: Option<&Survey>,
        fence: &Fence,
        gate: &Gate,
    ) -> Result<Vec<Difference>> {
        noting(converge::converge(self, desired, mode, survey, fence, gate).await)
    }

    async fn disable_logins(
        &self,
        name: &str,
        stamp: &Stamp,
        logins: &[String],
        fence: &Fence,
        gate: &Gate,
    ) -> Result<()> {
        noting(converge::disable_logins(self, name, stamp, logins, fence, gate).await)
    }

    async fn release(&self, name: &str, stamp: &Stamp, fence: &Fence, gate: &Gate) -> Result<()> {
        noting(reserve::release(self, name, stamp, fence, gate).await)
    }
}
