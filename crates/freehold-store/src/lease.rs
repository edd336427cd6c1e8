//! Leases: exclusive, for a time, on the store's clock.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Key, Result};

/// What is leased, e.g. `target/0190…`. Same rules as a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseName(Key);

impl LeaseName {
    pub fn new(text: impl Into<String>) -> Result<Self> {
        Key::new(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A lease as granted. It is lost when `until` has passed on the store's clock; a holder that cannot
/// tell asks by renewing, or lets each batch demand it ([`crate::Precondition::LeaseHeld`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub name: LeaseName,
    pub holder: String,
    /// Grows with every acquisition of this name, also by the same holder, and never repeats, not
    /// even after release. Renewing keeps it.
    pub epoch: u64,
    pub until: Timestamp,
    pub ttl: Duration,
}
