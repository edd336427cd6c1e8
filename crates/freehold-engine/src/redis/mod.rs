//! Redis 7 and Valkey.
//!
//! [`RedisEngine`] administers a server. A request reads down the files: `connect` (bounded
//! connections), `registry` (who owns what, and the fence), `observe` (what is there, as values), `plan`
//! (what to do, pure), `rules` (what an account may), `apply` (doing it). `names` takes the place of
//! quoting: no name becomes the text of a command, but it becomes a prefix of keys and a pattern.
//!
//! What a database is: the keys and channels that begin with its name and a colon, in the numbered
//! database 0. What a server holds afterwards:
//!
//! * keys `freehold:*`, which no login of ours may touch;
//! * per database: an account for each slot of each access, confined to the prefix, and one, off and
//!   without rights, that carries a copy of the registry's row.
//!
//! Clear-text passwords are not sent; the server gets their SHA-256, which is how it keeps them. The
//! hash has no salt, so it protects long random passwords only, which ours are.
//!
//! What Redis cannot do, and what is therefore not claimed: there is no schema, so there are no migrations
//! and `owner` means little more than `readWrite`; there are no limits per account, neither for
//! connections nor memory nor time (a tenant's slow script stops everybody); a program cannot list its
//! own keys, because the commands that do list everybody's; an account has no hour at which it ends, so
//! `valid_until` takes effect with the first look after it. What a transaction did cannot be rolled
//! back, so `transactional_ddl` is not claimed, though effect and fence are one.
//!
//! Left out: clusters and sentinels (each node has accounts of its own), other numbered databases,
//! dropping.

mod apply;
mod connect;
mod converge;
mod errors;
mod inspect;
mod names;
mod observe;
mod plan;
mod registry;
mod reply;
mod reserve;
mod rules;
mod survey;
mod tls;

use std::sync::Arc;

use freehold_model::{Entropy, Gate, kinds::Difference};

pub use self::connect::Timeouts;

use self::connect::Pool;
use crate::{
    Capabilities, ConnectTarget, ConvergeMode, DesiredDatabase, Engine, Fence, InstanceFacts,
    Result, Stamp, Survey,
};

const CAPABILITIES: Capabilities = Capabilities {
    engine: "redis",
    logins: true,
    transactional_ddl: false,
    schemas: false,
    extensions: false,
    table_grants: false,
    migrations: false,
    identifier_bytes_max: names::NAME_BYTES_MAX,
    firm_limits: &[],
};

/// One Redis server, seen with its administrator's eyes.
pub struct RedisEngine {
    pool: Arc<Pool>,
    entropy: Arc<dyn Entropy>,
}

impl RedisEngine {
    /// Connects to nothing yet. `target` names the admin login; its database is not used. `entropy`
    /// gives the server its identity.
    pub fn new(target: ConnectTarget, entropy: Arc<dyn Entropy>) -> Self {
        Self::with_timeouts(target, entropy, Timeouts::default())
    }

    /// With other limits than the usual ones, e.g. for a server far away.
    pub fn with_timeouts(
        target: ConnectTarget,
        entropy: Arc<dyn Entropy>,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            pool: Pool::new(target, timeouts),
            entropy,
        }
    }

    /// What all keys and channels of a database begin with.
    ///
    /// # Errors
    /// `Invalid` for a name that no database can have.
    pub fn prefix_of(name: &str) -> Result<String> {
        Ok(names::DatabaseName::new(name)?.prefix())
    }
}

impl Engine for RedisEngine {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn inspect(&self) -> Result<InstanceFacts> {
        inspect::inspect(self).await
    }

    async fn survey(&self) -> Result<Survey> {
        survey::survey(self).await
    }

    async fn reserve(&self, name: &str, stamp: &Stamp, fence: &Fence, gate: &Gate) -> Result<()> {
        reserve::reserve(self, name, stamp, fence, gate).await
    }

    async fn converge(
        &self,
        desired: &DesiredDatabase,
        mode: ConvergeMode,
        survey: Option<&Survey>,
        fence: &Fence,
        gate: &Gate,
    ) -> Result<Vec<Difference>> {
        converge::converge(self, desired, mode, survey, fence, gate).await
    }

    async fn disable_logins(
        &self,
        name: &str,
        stamp: &Stamp,
        logins: &[String],
        fence: &Fence,
        gate: &Gate,
    ) -> Result<()> {
        converge::disable_logins(self, name, stamp, logins, fence, gate).await
    }

    async fn release(&self, name: &str, stamp: &Stamp, fence: &Fence, gate: &Gate) -> Result<()> {
        reserve::release(self, name, stamp, fence, gate).await
    }
}
