//! Taking a name, and giving it up.

use freehold_model::Gate;

use super::{
    SqliteEngine,
    connect::Directory,
    names::Folder,
    observe,
    registry::{self, Claim, Registry, RegistryRow},
};
use crate::{EngineError, Fault, Fence, Result, Stamp};

/// Takes `name` for `stamp`; the directory and its registry are made when they are missing.
pub(super) async fn reserve(
    engine: &SqliteEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let folder = Folder::new(name)?;
    registry::epoch(fence)?;
    let there = engine
        .blocking("look for the registry", |directory| {
            let path = directory.registry();
            Ok(path.symlink_metadata().is_ok())
        })
        .await?;
    if !there {
        gate.before("create registry").await?;
        engine
            .blocking("create the registry", registry::create)
            .await?;
        gate.after("create registry").await?;
    }
    let claim = Claim {
        name: name.to_owned(),
        stamp: stamp.clone(),
        fence: fence.clone(),
    };
    let doing = format!("reserve {name:?}");
    gate.before(&doing).await?;
    engine
        .blocking(&doing.clone(), {
            let doing = doing.clone();
            move |directory| {
                Registry::open(directory)?.change(&doing, |registry| {
                    take(directory, &folder, registry, &claim, &doing)
                })
            }
        })
        .await?;
    gate.after(&doing).await?;
    Ok(())
}

/// Under the registry's lock: nobody else decides about this name now.
fn take(
    directory: &Directory,
    folder: &Folder,
    registry: &Registry,
    claim: &Claim,
    doing: &str,
) -> Result<()> {
    let exists = !observe::spot(&directory.home(folder), folder)?.is_empty()
        || !observe::spot(&directory.quarantine(folder), folder)?.is_empty();
    let row = registry.row(&claim.name)?;
    match &row {
        None if exists => Err(taken(claim, None, doing)),
        None => insert(registry, claim, doing),
        Some(row) if row.stamp != claim.stamp && row.released && !exists => {
            registry.read(doing, |connection| {
                connection.execute("DELETE FROM database WHERE name = ?1", [&claim.name])
            })?;
            insert(registry, claim, doing)
        }
        Some(row) if row.stamp != claim.stamp => Err(taken(claim, Some(row), doing)),
        Some(row) => {
            let back = RegistryRow {
                released: false,
                ..row.clone()
            };
            claim.check(&registry.server()?, Some(&back))?;
            claim.raise(registry, row)?;
            registry.read(doing, |connection| {
                connection.execute(
                    "UPDATE database SET released = 0 WHERE name = ?1 AND released = 1",
                    [&claim.name],
                )
            })?;
            Ok(())
        }
    }
}

fn taken(claim: &Claim, row: Option<&RegistryRow>, doing: &str) -> EngineError {
    EngineError::new(
        Fault::NameTaken {
            name: claim.name.clone(),
            owner: row.map(|row| Box::new(row.stamp.clone())),
        },
        doing,
    )
}

fn insert(registry: &Registry, claim: &Claim, doing: &str) -> Result<()> {
    let stamp = &claim.stamp;
    let server = registry.server()?.identity();
    let epoch = registry::epoch(&claim.fence)?;
    registry.read(doing, |connection| {
        connection.execute(
            "INSERT INTO database (name, control_plane, environment, team, database, uid, server, \
             epoch, actor, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'reserved')",
            (
                &claim.name,
                stamp.control_plane.to_string(),
                stamp.environment.as_str(),
                stamp.team.as_str(),
                stamp.database.as_str(),
                stamp.uid.to_string(),
                &server.0,
                epoch,
                &claim.fence.actor,
            ),
        )
    })?;
    Ok(())
}

/// Makes sure that no older worker acts any more, and changes nothing else.
pub(super) async fn take_over(
    engine: &SqliteEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let claim = Claim {
        name: name.to_owned(),
        stamp: stamp.clone(),
        fence: fence.clone(),
    };
    let doing = "raise the epoch";
    gate.before(doing).await?;
    engine
        .blocking(doing, move |directory| {
            registry::fenced(directory, &claim, doing, |_, _| Ok(()))
        })
        .await?;
    gate.after(doing).await?;
    Ok(())
}

/// Marks the row as given up. Nothing else changes; the stamp stays, so that the same owner can
/// take it back.
pub(super) async fn release(
    engine: &SqliteEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let claim = Claim {
        name: name.to_owned(),
        stamp: stamp.clone(),
        fence: fence.clone(),
    };
    let done = engine
        .blocking("look whether it is released", {
            let claim = claim.clone();
            move |directory| is_released(directory, &claim)
        })
        .await?;
    if done {
        return Ok(());
    }
    let doing = format!("release {name:?}");
    gate.before(&doing).await?;
    engine
        .blocking(&doing.clone(), {
            let doing = doing.clone();
            move |directory| {
                registry::fenced(directory, &claim, &doing, |registry, row| {
                    registry.read(&doing, |connection| {
                        connection.execute(
                            "UPDATE database SET released = 1 WHERE name = ?1",
                            [&row.name],
                        )
                    })?;
                    Ok(())
                })
            }
        })
        .await?;
    gate.after(&doing).await?;
    Ok(())
}

fn is_released(directory: &Directory, claim: &Claim) -> Result<bool> {
    let registry = Registry::open(directory)?;
    registry
        .server()?
        .check("look at the directory's identity")?;
    let row = registry.row(&claim.name)?;
    Ok(row.is_some_and(|row| row.stamp == claim.stamp && row.released))
}
