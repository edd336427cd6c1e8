//! What has been promised on one instance.

use std::collections::BTreeMap;

use freehold_model::{Name, Uid, kinds::DatabaseLoad};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Promises room; a promise the same database held before is replaced and returned.
    pub fn add(&mut self, uid: Uid, promise: Allocated) -> Option<Allocated> {
        self.databases.insert(uid, promise)
    }

    /// Takes a promise back; `None` when there was none.
    pub fn remove(&mut self, uid: Uid) -> Option<Allocated> {
        self.databases.remove(&uid)
    }

    pub fn totals(&self) -> Totals {
        unimplemented!()
    }
}
