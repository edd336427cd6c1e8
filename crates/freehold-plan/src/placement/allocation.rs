//! What has been promised on one instance, and how much may be.

use std::collections::BTreeMap;

use freehold_model::{
    Name, Uid,
    kinds::{Capacity, DatabaseLoad},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kept free when an instance does not say.
pub const HEADROOM_PERCENT_DEFAULT: u8 = 20;

/// The promises of one instance. Control keeps it as one record per instance and changes it in the
/// same batch as the decision, so that two deciders cannot both take the last room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    #[serde(default)]
    pub databases: BTreeMap<Uid, Allocated>,
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allocated {
    pub team: Name,
    pub database: Name,
    pub load: DatabaseLoad,
}

/// The sums, wide enough never to overflow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub databases: u64,
    pub storage_mib: u128,
    pub connections: u128,
    pub throughput: u128,
}

impl Allocation {
    /// Promises room; a promise that the same database held before is replaced and returned.
    pub fn add(&mut self, uid: Uid, promise: Allocated) -> Option<Allocated> {
        self.databases.insert(uid, promise)
    }

    /// Takes a promise back; `None` when there was none.
    pub fn remove(&mut self, uid: Uid) -> Option<Allocated> {
        self.databases.remove(&uid)
    }

    pub fn totals(&self) -> Totals {
        self.totals_without(None)
    }

    /// The sums without the promise that `uid` holds itself.
    pub fn totals_without(&self, uid: Option<Uid>) -> Totals {
        let mut totals = Totals::default();
        for (other, promise) in &self.databases {
            if Some(*other) != uid {
                totals.databases += 1;
                totals.storage_mib += u128::from(promise.load.storage_mib);
                totals.connections += u128::from(promise.load.connections);
                totals.throughput += u128::from(promise.load.throughput);
            }
        }
        totals
    }
}

/// What an instance can run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    Databases,
    Storage,
    Connections,
    Throughput,
}

impl Dimension {
    pub const ALL: [Self; 4] = [
        Self::Databases,
        Self::Storage,
        Self::Connections,
        Self::Throughput,
    ];

    /// The stable word, also in sentences.
    pub fn word(self) -> &'static str {
        match self {
            Self::Databases => "databases",
            Self::Storage => "storage",
            Self::Connections => "connections",
            Self::Throughput => "throughput",
        }
    }

    /// The field of an instance that declares it.
    pub fn field(self) -> &'static str {
        match self {
            Self::Databases => "spec.capacity.databases",
            Self::Storage => "spec.capacity.storageMib",
            Self::Connections => "spec.capacity.connections",
            Self::Throughput => "spec.capacity.throughput",
        }
    }

    pub(super) fn amount(self, amount: u128) -> String {
        match self {
            Self::Databases if amount == 1 => "1 database".to_owned(),
            Self::Databases => format!("{amount} databases"),
            Self::Storage => format!("{amount} MiB of storage"),
            Self::Connections if amount == 1 => "1 connection".to_owned(),
            Self::Connections => format!("{amount} connections"),
            Self::Throughput => format!("{amount} writes per second"),
        }
    }

    pub(super) fn declared(self, capacity: &Capacity) -> Option<u128> {
        match self {
            Self::Databases => capacity.databases.map(u128::from),
            Self::Storage => capacity.storage_mib.map(u128::from),
            Self::Connections => capacity.connections.map(u128::from),
            Self::Throughput => capacity.throughput.map(u128::from),
        }
    }

    /// The largest capacity that can be declared.
    pub(super) fn declared_max(self) -> u128 {
        match self {
            Self::Storage => (1 << 53) - 1,
            Self::Databases | Self::Connections | Self::Throughput => u128::from(u32::MAX),
        }
    }

    /// How many percent of what is declared are kept free. Databases are counted to the last one.
    pub(super) fn headroom_percent(self, capacity: &Capacity) -> u128 {
        match self {
            Self::Databases => 0,
            Self::Storage | Self::Connections | Self::Throughput => {
                let percent = capacity
                    .headroom_percent
                    .unwrap_or(HEADROOM_PERCENT_DEFAULT);
                u128::from(percent.min(100))
            }
        }
    }

    /// How much may be promised in all; `None` when the dimension is not limited.
    pub(super) fn usable(self, capacity: &Capacity) -> Option<u128> {
        let share = 100 - self.headroom_percent(capacity);
        self.declared(capacity)
            .map(|declared| declared * share / 100)
    }

    pub(super) fn need(self, load: &DatabaseLoad) -> u128 {
        match self {
            Self::Databases => 1,
            Self::Storage => u128::from(load.storage_mib),
            Self::Connections => u128::from(load.connections),
            Self::Throughput => u128::from(load.throughput),
        }
    }

    pub(super) fn of(self, totals: &Totals) -> u128 {
        match self {
            Self::Databases => u128::from(totals.databases),
            Self::Storage => totals.storage_mib,
            Self::Connections => totals.connections,
            Self::Throughput => totals.throughput,
        }
    }
}
