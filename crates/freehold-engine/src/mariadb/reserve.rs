//! Taking a name, and giving it up.

use freehold_model::Gate;

use super::{
    MariadbEngine,
    connect::{Connection, Row},
    plan,
    quote::Literal,
    registry::{self, Claim, RegistryRow, RowState},
};
use crate::{EngineError, Fault, Fence, Result, Stamp};

/// Takes `name` for `stamp`; the registry is made when it is missing.
pub(super) async fn reserve(
    engine: &MariadbEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    plan::check_name(name)?;
    let doing = format!("reserve {name:?}");
    let mut admin = engine.pool.lease().await?;
    if let Err(error) = registry::home(&mut admin).await {
        if !matches!(error.fault, Fault::Missing { .. }) {
            return Err(error);
        }
        gate.before("create registry").await?;
        registry::create(&mut admin).await?;
        gate.after("create registry").await?;
    }
    let claim = Claim::of(&mut admin, name, stamp, fence).await?;
    gate.before(&doing).await?;
    let row = registry::lock(&mut admin, &claim).await?;
    take(&mut admin, &claim, row, &doing).await?;
    gate.after(&doing).await?;
    registry::unlock(&mut admin, &claim).await?;
    admin.keep();
    Ok(())
}

/// Under the lock: nobody else decides about this name now.
async fn take(
    admin: &mut Connection,
    claim: &Claim,
    row: Option<RegistryRow>,
    doing: &str,
) -> Result<()> {
    let exists = database_exists(admin, &claim.name).await?;
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
            let back = match (row.state, exists) {
                (RowState::Released, true) => RowState::Created,
                (RowState::Released, false) => RowState::Reserved,
                (state, _) => state,
            };
            let renewed = RegistryRow {
                state: back,
                ..row.clone()
            };
            claim.check(Some(&renewed))?;
            let more = match back {
                _ if row.state == back => "",
                RowState::Created => ", state = 'created'",
                _ => ", state = 'reserved'",
            };
            claim.raise(admin, more, doing).await
        }
    }
}

/// Refuses a name that the server would write in another way: with `lower_case_table_names` it makes
/// `shop` of `Shop`.
async fn database_exists(admin: &mut Connection, name: &str) -> Result<bool> {
    let doing = "look for the database";
    let query = format!(
        "SELECT @@lower_case_table_names = 0; \
         SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
        Literal(name)
    );
    let sets = admin.read(&query, doing).await?;
    let first = |at: usize| {
        let set: Option<&Vec<Row>> = sets.get(at);
        set.and_then(|rows| rows.first()?.first()?.clone())
    };
    if first(0).as_deref() != Some("1") && name.to_lowercase() != name {
        let detail = format!(
            "this server keeps names in lower case (lower_case_table_names) and would change {name:?}"
        );
        return Err(EngineError::new(Fault::Invalid { detail }, doing));
    }
    Ok(first(1).is_some())
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

async fn insert(admin: &mut Connection, claim: &Claim, doing: &str) -> Result<()> {
    admin.change(&insertion(claim), doing).await
}

fn insertion(claim: &Claim) -> String {
    let stamp = &claim.stamp;
    format!(
        "INSERT INTO freehold.registry (name, control_plane, environment, team, db, uid, \
         server, epoch, actor, state) VALUES ({}, '{}', {}, {}, {}, '{}', {}, {}, {}, 'reserved')",
        Literal(&claim.name),
        stamp.control_plane,
        Literal(stamp.environment.as_str()),
        Literal(stamp.team.as_str()),
        Literal(stamp.database.as_str()),
        stamp.uid,
        Literal(&claim.server.0),
        claim.fence.epoch,
        Literal(&claim.fence.actor),
    )
}

/// The name was given up and nothing is under it any more. Accounts that the former database left
/// behind become foreign: they are refused, not inherited.
async fn replace(admin: &mut Connection, claim: &Claim, doing: &str) -> Result<()> {
    let name = Literal(&claim.name);
    let statements = format!(
        "BEGIN; DELETE FROM freehold.account WHERE db = {name}; \
         DELETE FROM freehold.registry WHERE name = {name}; {}; COMMIT",
        insertion(claim)
    );
    // An error drops the connection, and the transaction with it.
    admin.change(&statements, doing).await
}

/// Marks the row as given up. Nothing else changes; the stamp stays, so that the same owner can
/// take it back.
pub(super) async fn release(
    engine: &MariadbEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let doing = format!("release {name:?}");
    let mut admin = engine.pool.lease().await?;
    let claim = Claim::of(&mut admin, name, stamp, fence).await?;
    let row = registry::lock(&mut admin, &claim).await?;
    let released = row
        .as_ref()
        .is_some_and(|row| row.stamp == *stamp && row.state == RowState::Released);
    if !released {
        claim.check(row.as_ref())?;
        gate.before(&doing).await?;
        claim
            .raise(&mut admin, ", state = 'released'", &doing)
            .await?;
        gate.after(&doing).await?;
    }
    registry::unlock(&mut admin, &claim).await?;
    admin.keep();
    Ok(())
}
