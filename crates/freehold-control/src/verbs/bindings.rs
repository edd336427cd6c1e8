//! Handing out a credential: the one verb whose answer holds a database's secret.

use freehold_api::{BindingRead, BindingSecret};
use freehold_model::{Code, Error, Kind, ResourceKey, Result, kinds::Access};
use freehold_store::Batch;

use super::read::context_of;
use crate::{
    Caller,
    authorize::Action,
    engines::Credential,
    records::store_error,
    start::Control,
    trouble::Trouble,
    world::{World, is_protected, owner},
};

impl Control {
    pub async fn binding_read(
        &self,
        caller: &Caller,
        key: &ResourceKey,
        request: BindingRead,
    ) -> Result<BindingSecret> {
        match self.hand_out(caller, key, request).await {
            Ok(secret) => Ok(secret),
            Err(error) => Err(self
                .journal
                .refused(caller, "binding.read", Some(key), error)
                .await),
        }
    }

    async fn hand_out(
        &self,
        caller: &Caller,
        key: &ResourceKey,
        request: BindingRead,
    ) -> Result<BindingSecret> {
        let access_key = ResourceKey {
            kind: Kind::Access,
            ..key.clone()
        };
        let untyped: Option<freehold_model::Resource> = self.records.get(&access_key).await?;
        let mut context = context_of(untyped.as_ref());
        context.protected = match &key.environment {
            Some(environment) => is_protected(&self.records, environment).await?,
            None => true,
        };
        Self::allow(caller, Action::ReadBinding, Some(key), &context)?;
        let access: Access = self.records.expect(&access_key).await?;
        let database = ResourceKey {
            kind: Kind::Database,
            name: access.spec.database.clone(),
            ..access_key.clone()
        };
        let world = World::read(&self.records, &self.credentials, &database).await?;
        let world = world.ok_or_else(|| not_usable(key, "its database is gone"))?;
        let secret = self.secret_of(key, &access, &world).await?;
        // The entry is saved before the secret leaves: a credential that was handed out stands in
        // the log, even if the answer is lost on its way.
        let mut entry = self.journal.by(caller, "binding.read", Some(key));
        entry.reason = request.reason;
        entry.details = serde_json::json!({
            "login": secret.target.server().map(|server| &server.username),
            "level": secret.level,
            "database": database.name,
        });
        let mut batch = Batch {
            writes: vec![self.journal.write(&entry)],
            ..Batch::new()
        };
        batch
            .writes
            .extend(self.journal.touch(caller, "binding.read", Some(key)));
        self.store.apply(batch).await.map_err(store_error)?;
        Ok(secret)
    }

    async fn secret_of(
        &self,
        key: &ResourceKey,
        access: &Access,
        world: &World,
    ) -> Result<BindingSecret> {
        if access.metadata.deletion_timestamp.is_some() {
            return Err(not_usable(key, "the access is being deleted"));
        }
        if access
            .spec
            .expires_at
            .is_some_and(|end| end <= self.clock.now())
        {
            return Err(not_usable(key, "the access has run out"));
        }
        if world.state() == freehold_engine::DesiredState::Closed {
            return Err(not_usable(key, "the database is closed"));
        }
        let uid = access.metadata.uid.unwrap_or(owner(&world.database)?.uid);
        let held = world
            .credentials
            .accesses
            .get(&uid)
            .filter(|held| held.published_at.is_some());
        let held = held.ok_or_else(|| not_usable(key, "its credentials are not published yet"))?;
        let instance = world
            .instance(&self.records)
            .await?
            .ok_or_else(|| not_usable(key, "its database is not placed yet"))?;
        let told = |trouble| match trouble {
            Trouble::Control(error) => error,
            Trouble::Engine(error) => Error::new(
                Code::Unavailable,
                format!("instance {}: {error}", instance.metadata.name),
            )
            .because(error),
        };
        let connected = self.engines.connect(&instance).await.map_err(told)?;
        let credential = Credential {
            username: held.login(held.active).to_owned(),
            password: self
                .credentials
                .open(owner(&world.database)?.uid, uid, &held.password)?,
            slot: held.active,
        };
        let level = access.spec.level;
        let target = connected
            .reach
            .binding(world.server_name()?, credential, level);
        Ok(BindingSecret {
            name: key.name.clone(),
            level,
            target: target.map_err(told)?,
        })
    }
}

fn not_usable(key: &ResourceKey, why: &str) -> Error {
    Error::new(
        Code::FailedPrecondition,
        format!("{key} cannot be used: {why}"),
    )
    .hint("`freehold describe` on the database and the access shows what they wait for.")
}
