//! The logins of a database and their passwords: chosen and saved, sealed, before they are used.
//!
//! One record per database holds the logins of all its accesses, so that one read gives all that
//! converging needs and one write changes it consistently. A login that no access names any more
//! stays listed as retired until the server has confirmed that it is out of use.

use std::{collections::BTreeMap, sync::Arc};

use freehold_model::{
    Entropy, Name, Result, Secret, Uid,
    kinds::{Access, Slot},
};
use freehold_plan::naming;
use freehold_store::{
    Batch, CollectionName, CollectionSpec, Etag, PutMode, StoreHandle, Value, Write,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    records::{own_collection, store_error, uid_key},
    secrets::{Place, Sealed, Sealer, generate_password},
    world::{World, owner},
};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CredentialSet {
    #[serde(default)]
    pub(crate) migrator_login: String,
    #[serde(default)]
    pub(crate) accesses: BTreeMap<Uid, AccessCredential>,
    /// Logins of accesses that are gone, still to be disabled on the server.
    #[serde(default)]
    pub(crate) retired: Vec<String>,
    #[serde(skip)]
    etag: Option<Etag>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessCredential {
    pub(crate) login_a: String,
    pub(crate) login_b: String,
    pub(crate) active: Slot,
    /// The active login's password.
    pub(crate) password: Sealed,
    /// When the server first accepted it; absent until then, and nothing is handed out before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) published_at: Option<Timestamp>,
}

impl AccessCredential {
    pub(crate) fn login(&self, slot: Slot) -> &str {
        match slot {
            Slot::A => &self.login_a,
            Slot::B => &self.login_b,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) store: StoreHandle,
    pub(crate) sealer: Sealer,
    pub(crate) entropy: Arc<dyn Entropy>,
}

pub(crate) fn credentials_collection() -> CollectionName {
    own_collection("credentials")
}

fn place(database: Uid, access: Uid) -> Place {
    Place::new("credentials", &database.to_string(), &access.to_string())
}

impl Credentials {
    pub(crate) async fn define(&self) -> Result<()> {
        let spec = CollectionSpec {
            name: credentials_collection(),
            indexes: vec![],
        };
        self.store.define(spec).await.map_err(store_error)
    }

    pub(crate) async fn read(&self, database: Uid) -> Result<CredentialSet> {
        let found = self
            .store
            .get(&credentials_collection(), &uid_key(database))
            .await;
        let Some(record) = found.map_err(store_error)? else {
            return Ok(CredentialSet::default());
        };
        let mut set: CredentialSet = record.value.decode().map_err(store_error)?;
        set.etag = Some(record.etag);
        Ok(set)
    }

    pub(crate) fn open(&self, database: Uid, access: Uid, sealed: &Sealed) -> Result<Secret> {
        self.sealer.open(&place(database, access), sealed)
    }

    /// Adds what the accesses of `world` need and retires what they no longer name. `None` when
    /// nothing changed. The write must be saved before anything in it is used.
    pub(crate) fn complete(&self, world: &mut World) -> Result<Option<Write>> {
        let owner = owner(&world.database)?;
        let (uid, environment, team) = (owner.uid, owner.environment.clone(), owner.team.clone());
        let before = world.credentials.clone();
        let set = &mut world.credentials;
        if set.migrator_login.is_empty() {
            let database = &world.database.metadata.name;
            set.migrator_login = naming::migrator_login_name(&environment, &team, database);
        }
        let wanted: Vec<&Access> = world
            .accesses
            .iter()
            .filter(|a| a.metadata.deletion_timestamp.is_none())
            .collect();
        for access in &wanted {
            let Some(access_uid) = access.metadata.uid else {
                continue;
            };
            set.accesses.entry(access_uid).or_insert_with(|| {
                self.make(uid, access_uid, &environment, &team, &access.metadata.name)
            });
        }
        let gone: Vec<Uid> = set
            .accesses
            .keys()
            .filter(|held| {
                !wanted
                    .iter()
                    .any(|access| access.metadata.uid == Some(**held))
            })
            .copied()
            .collect();
        for held in gone {
            if let Some(credential) = set.accesses.remove(&held) {
                set.retired.extend([credential.login_a, credential.login_b]);
            }
        }
        if *set == before {
            Ok(None)
        } else {
            self.write(uid, set).map(Some)
        }
    }

    fn make(
        &self,
        database: Uid,
        access: Uid,
        environment: &Name,
        team: &Name,
        name: &Name,
    ) -> AccessCredential {
        let login = |slot| naming::login_name(environment, team, name, access, slot);
        AccessCredential {
            login_a: login(Slot::A),
            login_b: login(Slot::B),
            active: Slot::A,
            password: self
                .sealer
                .seal(&place(database, access), &generate_password(&*self.entropy)),
            published_at: None,
        }
    }

    /// The write that saves a set over what was read.
    pub(crate) fn write(&self, database: Uid, set: &CredentialSet) -> Result<Write> {
        Ok(Write::Put {
            collection: credentials_collection(),
            key: uid_key(database),
            value: Value::encode(set).map_err(store_error)?,
            mode: set.etag.clone().map_or(PutMode::Create, PutMode::Match),
            expires_at: None,
        })
    }

    /// The write that forgets a database's credentials.
    pub(crate) fn forget(database: Uid) -> Write {
        Write::Delete {
            collection: credentials_collection(),
            key: uid_key(database),
            mode: freehold_store::DeleteMode::Any,
        }
    }
}

impl CredentialSet {
    /// Marks the credentials that the server has accepted, and the retired ones as gone; true when that
    /// changed something.
    pub(crate) fn publish(
        &mut self,
        now: Timestamp,
        accepted: impl Fn(&AccessCredential) -> bool,
    ) -> bool {
        let mut changed = !self.retired.is_empty();
        self.retired.clear();
        for credential in self.accesses.values_mut() {
            if credential.published_at.is_none() && accepted(credential) {
                credential.published_at = Some(now);
                changed = true;
            }
        }
        changed
    }
}

/// One write alone in a batch.
pub(crate) fn batch_of(writes: impl IntoIterator<Item = Write>) -> Batch {
    Batch {
        writes: writes.into_iter().collect(),
        ..Batch::new()
    }
}
