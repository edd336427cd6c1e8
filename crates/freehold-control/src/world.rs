//! One database with everything around it, read together, and what follows from it.

use freehold_engine::{
    DesiredAccess, DesiredDatabase, DesiredLogin, DesiredState, LoginState, Migrator, Stamp,
};
use freehold_model::{
    Clock, ControlPlaneId, Error, Kind, Name, ResourceKey, Result, Uid,
    kinds::{Access, Class, Database, Environment, Instance, Slot},
};
use freehold_store::{IndexValue, Range};

use crate::{
    credentials::{CredentialSet, Credentials},
    records::{INDEX_ACCESS_DATABASE, Records},
};

/// What must be known to say how a database should look on its server.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) class: Class,
    /// All accesses on the database, those that are being deleted included.
    pub(crate) accesses: Vec<Access>,
    pub(crate) credentials: CredentialSet,
}

/// Where a database's uid, environment and team are known to be present.
pub(crate) struct Owner<'a> {
    pub(crate) uid: Uid,
    pub(crate) environment: &'a Name,
    pub(crate) team: &'a Name,
}

pub(crate) fn owner(database: &Database) -> Result<Owner<'_>> {
    let metadata = &database.metadata;
    match (metadata.uid, &metadata.environment, &metadata.namespace) {
        (Some(uid), Some(environment), Some(team)) => Ok(Owner {
            uid,
            environment,
            team,
        }),
        _ => Err(Error::internal(
            "reading a database",
            "it has no uid, environment or namespace",
        )),
    }
}

pub(crate) fn class_key(environment: &Name, class: &Name) -> ResourceKey {
    ResourceKey {
        kind: Kind::Class,
        environment: Some(environment.clone()),
        team: None,
        name: class.clone(),
    }
}

pub(crate) fn instance_key(environment: &Name, instance: &Name) -> ResourceKey {
    ResourceKey {
        kind: Kind::Instance,
        environment: Some(environment.clone()),
        team: None,
        name: instance.clone(),
    }
}

impl World {
    /// Reads the database's surroundings; `None` when the database itself is gone.
    pub(crate) async fn read(
        records: &Records,
        credentials: &Credentials,
        key: &ResourceKey,
    ) -> Result<Option<Self>> {
        let Some(database) = records.get::<_, _>(key).await? else {
            return Ok(None);
        };
        let owner = owner(&database)?;
        let class = records
            .expect(&class_key(owner.environment, &database.spec.class))
            .await?;
        let accesses = accesses_on(records, owner.environment, owner.team, &key.name).await?;
        let credentials = credentials.read(owner.uid).await?;
        Ok(Some(Self {
            database,
            class,
            accesses,
            credentials,
        }))
    }

    /// The instance that the database is placed on; `None` while it is not placed.
    pub(crate) async fn instance(&self, records: &Records) -> Result<Option<Instance>> {
        let Some(status) = &self.database.status else {
            return Ok(None);
        };
        let Some(placement) = &status.placement else {
            return Ok(None);
        };
        let owner = owner(&self.database)?;
        let key = instance_key(owner.environment, &placement.instance);
        let instance: Instance = records.expect(&key).await?;
        if instance.metadata.uid == Some(placement.instance_uid) {
            return Ok(Some(instance));
        }
        Err(Error::internal(
            "finding a database's instance",
            "another one has its name now",
        ))
    }

    pub(crate) fn stamp(&self, control_plane: ControlPlaneId) -> Result<Stamp> {
        let owner = owner(&self.database)?;
        Ok(Stamp {
            control_plane,
            environment: owner.environment.clone(),
            team: owner.team.clone(),
            database: self.database.metadata.name.clone(),
            uid: owner.uid,
        })
    }

    /// The name on the server, as saved when the database was placed.
    pub(crate) fn server_name(&self) -> Result<&str> {
        let status = self.database.status.as_ref();
        status
            .and_then(|status| status.database_name.as_deref())
            .ok_or_else(|| Error::internal("reading a database", "it has no name on a server yet"))
    }

    /// How the database should look on its server now. `migrator` is the state of the migrator's
    /// login: enabled only inside a migration.
    pub(crate) fn desired(
        &self,
        control_plane: ControlPlaneId,
        state: DesiredState,
        migrator: LoginState,
        credentials: &Credentials,
        clock: &dyn Clock,
    ) -> Result<DesiredDatabase> {
        let now = clock.now();
        let owner = owner(&self.database)?;
        let mut accesses = Vec::new();
        for access in &self.accesses {
            let Some(uid) = access.metadata.uid else {
                continue;
            };
            let Some(held) = self.credentials.accesses.get(&uid) else {
                continue;
            };
            if access.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let expired = access.spec.expires_at.is_some_and(|end| end <= now);
            let open = state == DesiredState::Open && !expired;
            let mut logins = Vec::new();
            for slot in [Slot::A, Slot::B] {
                let state = if open && slot == held.active {
                    let password = credentials.open(owner.uid, uid, &held.password)?;
                    LoginState::Enabled {
                        password,
                        valid_until: access.spec.expires_at,
                    }
                } else {
                    LoginState::Disabled
                };
                logins.push(DesiredLogin {
                    slot,
                    name: held.login(slot).to_owned(),
                    state,
                });
            }
            let logins = logins.try_into().expect("there are two slots");
            let on = access.spec.targets.clone();
            accesses.push(DesiredAccess {
                uid,
                level: access.spec.level,
                on,
                logins,
            });
        }
        Ok(DesiredDatabase {
            name: self.server_name()?.to_owned(),
            stamp: self.stamp(control_plane)?,
            state,
            limits: self.database.spec.limits(&self.class.spec).clone(),
            extensions: self.database.spec.extensions.clone(),
            schemas: self.database.spec.schemas.clone(),
            accesses,
            migrator: Migrator {
                login: self.credentials.migrator_login.clone(),
                state: migrator,
            },
        })
    }

    /// Whether the database is to be reachable: not while it is quarantined or being deleted.
    pub(crate) fn state(&self) -> DesiredState {
        let quarantined = self
            .database
            .status
            .as_ref()
            .is_some_and(|s| s.quarantine.is_some());
        if quarantined || self.database.metadata.deletion_timestamp.is_some() {
            DesiredState::Closed
        } else {
            DesiredState::Open
        }
    }
}

/// All accesses on one database.
pub(crate) async fn accesses_on(
    records: &Records,
    environment: &Name,
    team: &Name,
    database: &Name,
) -> Result<Vec<Access>> {
    let values = [environment, team, database].map(|name| IndexValue::Text(name.to_string()));
    let index = INDEX_ACCESS_DATABASE.to_owned();
    records
        .all(
            Kind::Access,
            Range::IndexPrefix {
                index,
                values: values.into(),
            },
        )
        .await
}

/// Whether the environment is marked protected. A missing environment counts as protected.
pub(crate) async fn is_protected(records: &Records, environment: &Name) -> Result<bool> {
    let key = ResourceKey {
        kind: Kind::Environment,
        environment: None,
        team: None,
        name: environment.clone(),
    };
    let found: Option<Environment> = records.get(&key).await?;
    Ok(found.is_none_or(|environment| environment.spec.protected))
}
