//! Taking a name, and giving it up.

use freehold_model::{Gate, ServerIdentity};

use super::{
    PostgresEngine,
    connect::{Connection, Lease, Permit},
    quote::{Identifier, Literal},
    registry::{self, Claim, RowState},
};
use crate::{EngineError, Fault, Fence, Result, Stamp};

/// Takes `name` for `stamp`; the registry is made when it is missing.
pub(super) async fn reserve(
    engine: &PostgresEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    Identifier::new(name)?;
    let doing = format!("reserve {name:?}");
    let permit = engine.pool.permit(1).await?;
    let admin = match engine.registry(permit).await {
        Ok(admin) => admin,
        Err(error) if matches!(error.fault, Fault::Missing { .. }) => {
            gate.before("create registry").await?;
            let admin = create_registry(engine).await?;
            gate.after("create registry").await?;
            admin
        }
        Err(error) => return Err(error),
    };
    let claim = Claim {
        name: name.to_owned(),
        stamp: stamp.clone(),
        server: identity(&admin).await?,
        fence: fence.clone(),
    };
    gate.before(&doing).await?;
    registry::lock(&admin, &claim).await?;
    take(&admin, &claim, &doing).await?;
    gate.after(&doing).await?;
    registry::unlock(&admin, name).await?;
    admin.keep();
    Ok(())
}

/// The server's identity, which a registry's presence guarantees.
pub(super) async fn identity(admin: &Connection) -> Result<ServerIdentity> {
    admin.identity().await?.cloned().ok_or_else(|| {
        EngineError::new(
            Fault::Missing {
                what: "the registry's row of the server".into(),
            },
            "read the server's identity",
        )
    })
}

async fn create_registry(engine: &PostgresEngine) -> Result<Lease> {
    let permit: Permit = engine.pool.permit(1).await?;
    let database = engine.pool.target.database.clone();
    let admin = engine.pool.admin(permit, &database).await?;
    let rows = admin
        .read(
            "SELECT has_database_privilege(current_database(), 'CREATE')",
            &[],
            "look where the registry may be made",
        )
        .await?;
    let may_create: bool = rows.first().is_some_and(|row| row.get(0));
    if may_create && !registry::own_database_exists(&admin).await? {
        registry::create(&admin).await?;
        engine.remember_home(&database);
        return Ok(admin);
    }
    registry::create_own_database(&admin).await?;
    let permit = admin.close();
    let own = registry::OWN_DATABASE;
    let admin = engine.pool.admin(permit, own).await?;
    registry::create(&admin).await?;
    engine.remember_home(own);
    Ok(admin)
}

/// Under the row's lock: nobody else decides about this name now.
async fn take(admin: &Connection, claim: &Claim, doing: &str) -> Result<()> {
    let (row, exists) = claim.row_and_database(admin).await?;
    let ours = row.as_ref().is_some_and(|row| row.stamp == claim.stamp);
    let given_up = row
        .as_ref()
        .is_some_and(|row| row.state == RowState::Released && !exists && !ours);
    match &row {
        None if exists => Err(taken(claim, None, doing)),
        None => insert(admin, claim, doing).await,
        Some(_) if given_up => replace(admin, claim, doing).await,
        Some(row) if !ours => Err(taken(claim, Some(row.stamp.clone()), doing)),
        Some(row) => {
            let back = registry::RegistryRow {
                state: match (row.state, row.database_oid) {
                    (RowState::Released, Some(_)) => RowState::Created,
                    (RowState::Released, None) => RowState::Reserved,
                    (state, _) => state,
                },
                ..row.clone()
            };
            claim.check(Some(&back))?;
            renew(admin, claim, row.state, doing).await
        }
    }
}

fn taken(claim: &Claim, owner: Option<Stamp>, doing: &str) -> EngineError {
    EngineError::new(
        Fault::NameTaken {
            name: claim.name.clone(),
            owner: owner.map(Box::new),
        },
        doing,
    )
}

async fn insert(admin: &Connection, claim: &Claim, doing: &str) -> Result<()> {
    admin.change(&insertion(claim)?, doing).await
}

fn insertion(claim: &Claim) -> Result<String> {
    let stamp = &claim.stamp;
    Ok(format!(
        "INSERT INTO freehold.registry (name, control_plane, environment, team, database, uid, \
         server, epoch, actor, state) VALUES ({}, '{}', {}, {}, {}, '{}', {}, {}, {}, 'reserved')",
        Literal::new(&claim.name)?,
        stamp.control_plane,
        Literal::new(stamp.environment.as_str())?,
        Literal::new(stamp.team.as_str())?,
        Literal::new(stamp.database.as_str())?,
        stamp.uid,
        Literal::new(&claim.server.0)?,
        registry::epoch(&claim.fence)?,
        Literal::new(&claim.fence.actor)?,
    ))
}

/// The name was given up and nothing is under it any more. Roles that the former database left
/// behind become foreign: they are refused, not inherited.
async fn replace(admin: &Connection, claim: &Claim, doing: &str) -> Result<()> {
    let name = Literal::new(&claim.name)?;
    let statements = format!(
        "BEGIN; DELETE FROM freehold.role WHERE database = {name}; \
         DELETE FROM freehold.registry WHERE name = {name}; {}; COMMIT",
        insertion(claim)?
    );
    let result = admin.change(&statements, doing).await;
    if result.is_err() {
        admin.roll_back().await;
    }
    result
}

async fn renew(admin: &Connection, claim: &Claim, from: RowState, doing: &str) -> Result<()> {
    let name = Literal::new(&claim.name)?;
    let revive = if from == RowState::Released {
        format!(
            "UPDATE freehold.registry SET state = CASE WHEN database_oid IS NULL THEN 'reserved' \
             ELSE 'created' END WHERE name = {name} AND state = 'released'; "
        )
    } else {
        String::new()
    };
    let statements = format!("BEGIN; {revive}{}; COMMIT", claim.hold()?);
    let result = admin.change(&statements, doing).await;
    if result.is_err() {
        admin.roll_back().await;
    }
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(claim.explain(admin, error).await),
    }
}

/// Marks the row as given up. Nothing else changes; the stamp stays, so that the same owner can
/// take it back.
pub(super) async fn release(
    engine: &PostgresEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let doing = format!("release {name:?}");
    let permit = engine.pool.permit(1).await?;
    let admin = engine.registry(permit).await?;
    let claim = Claim {
        name: name.to_owned(),
        stamp: stamp.clone(),
        server: identity(&admin).await?,
        fence: fence.clone(),
    };
    registry::lock(&admin, &claim).await?;
    let row = claim.row(&admin).await?;
    let released = row
        .as_ref()
        .is_some_and(|row| row.stamp == *stamp && row.state == RowState::Released);
    if !released {
        claim.check(row.as_ref())?;
        gate.before(&doing).await?;
        let literal = Literal::new(name)?;
        let statements = format!(
            "BEGIN; {}; UPDATE freehold.registry SET state = 'released' WHERE name = {literal}; COMMIT",
            claim.hold()?
        );
        let result = admin.change(&statements, &doing).await;
        if let Err(error) = result {
            admin.roll_back().await;
            return Err(claim.explain(&admin, error).await);
        }
        gate.after(&doing).await?;
    }
    registry::unlock(&admin, name).await?;
    admin.keep();
    Ok(())
}
