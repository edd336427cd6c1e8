//! Taking a name, and giving it up.

use freehold_model::{Gate, Uid};
use redis::Value;
use tokio::time::Instant;

use super::{
    RedisEngine,
    apply::Applier,
    connect::{Connection, command, unreadable},
    names::DatabaseName,
    observe,
    registry::{self, Claim, Deed, Found, RegistryRow, RowState, Subject},
    reply,
};
use crate::{EngineError, Fault, Fence, Result, Stamp};

/// Takes `name` for `stamp`; the registry is made when it is missing.
pub(super) async fn reserve(
    engine: &RedisEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let claim = Claim::new(name, stamp, fence)?;
    let doing = format!("reserve {name:?}");
    let mut admin = engine.pool.lease().await?;
    if registry::home(&mut admin).await?.is_none() {
        gate.before("create registry").await?;
        registry::create(&mut admin, &*engine.entropy).await?;
        gate.after("create registry").await?;
    }
    let under = look_under(&mut admin, &claim).await?;
    let home = registry::home(&mut admin).await?;
    let place = admin.server.place.clone();
    let subject = Subject {
        claim: &claim,
        doing: &doing,
        watch: &[],
        look: Vec::new(),
    };
    gate.before(&doing).await?;
    let in_place = home
        .as_ref()
        .is_some_and(|home| home.identity(&place).0 == home.id);
    if under.free && in_place {
        registry::enlist(&mut admin, &claim.name).await?;
    }
    registry::transact(&mut admin, &subject, |found, _| {
        let home = found.home().or(home.as_ref()).cloned();
        let home = home.ok_or_else(|| registry::missing(&doing))?;
        let row = take(&claim, found, &under, &home, &place, &doing)?;
        Ok(Deed {
            home,
            row,
            commands: Vec::new(),
            sets_accounts: false,
            saves: false,
        })
    })
    .await?;
    gate.after(&doing).await?;
    admin.keep();
    Ok(())
}

/// What is under a name that is not ours yet.
#[derive(Debug, Default)]
struct Under {
    /// Nobody has it, or somebody who gave it up.
    free: bool,
    keys: bool,
    /// Whose accounts.
    owner: Option<Uid>,
}

/// Looks only when nobody has the name, or somebody who gave it up: it may take seconds.
async fn look_under(admin: &mut Connection, claim: &Claim) -> Result<Under> {
    let found = registry::find(admin, &claim.name).await?;
    let other = found.other_owner(&claim.stamp);
    let free = match found.row() {
        None => true,
        Some(row) => row.state == RowState::Released && other.is_some(),
    };
    if !free {
        return Ok(Under::default());
    }
    let owner = match other {
        None => None,
        Some(owner) => {
            let users = observe::all(admin).await?;
            let mut owners = users.values().flat_map(observe::User::owners);
            owners.find(|found| *found == owner.uid)
        }
    };
    Ok(Under {
        free,
        keys: keys_exist(admin, &claim.name).await?,
        owner,
    })
}

/// Goes through all keys of the server until one of this name is met.
async fn keys_exist(admin: &mut Connection, name: &DatabaseName) -> Result<bool> {
    let doing = format!("look for keys that begin with {:?}", name.prefix());
    let (pattern, limit) = (name.pattern(), admin.timeouts().search);
    let deadline = Instant::now() + limit;
    let mut cursor = "0".to_owned();
    loop {
        let asked = [command(&[
            "SCAN", &cursor, "MATCH", &pattern, "COUNT", "5000",
        ])];
        let replies = admin.read(&asked, &doing).await?;
        let Some([next, keys]) = replies.first().map(reply::list) else {
            return Err(unreadable(&doing));
        };
        if !matches!(keys, Value::Array(keys) if keys.is_empty()) {
            return Ok(true);
        }
        cursor = reply::text(next).unwrap_or_default();
        if cursor == "0" {
            return Ok(false);
        }
        if Instant::now() > deadline {
            let detail = format!(
                "there are too many keys to look at in {} s",
                limit.as_secs()
            );
            return Err(EngineError::new(Fault::Busy { detail }, doing));
        }
    }
}

/// The row that takes the name.
fn take(
    claim: &Claim,
    found: &Found,
    under: &Under,
    home: &registry::Home,
    place: &str,
    doing: &str,
) -> Result<RegistryRow> {
    let taken = |owner: Option<&Stamp>| {
        let fault = Fault::NameTaken {
            name: claim.name.as_str().to_owned(),
            owner: owner.map(|owner| Box::new(owner.clone())),
        };
        Err(EngineError::new(fault, doing))
    };
    let identity = home.identity(place);
    let fresh = RegistryRow {
        stamp: claim.stamp.clone(),
        server: identity.clone(),
        epoch: claim.fence.epoch,
        actor: claim.fence.actor.clone(),
        state: RowState::Reserved,
        unsaved: true,
    };
    if identity.0 != home.id {
        return Err(EngineError::new(
            Fault::ServerMismatch {
                expected: freehold_model::ServerIdentity(home.id.clone()),
                found: identity,
            },
            doing,
        ));
    }
    let other = found.other_owner(&claim.stamp);
    match (found.row(), other) {
        (None, _) if under.keys => taken(None),
        (None, _) => Ok(fresh),
        (Some(row), Some(_))
            if row.state == RowState::Released && !under.keys && under.owner.is_none() =>
        {
            Ok(fresh)
        }
        (Some(_), Some(owner)) => taken(Some(owner)),
        (Some(_), None) => {
            let standing = claim.check_state(found, place, |_| true)?;
            let mut row = claim.raised(&standing.row);
            if row.state == RowState::Released {
                row.state = RowState::Created;
            }
            Ok(row)
        }
    }
}

/// Marks the row as given up. Nothing else changes; the stamp stays, so that the same owner can
/// take it back.
pub(super) async fn release(
    engine: &RedisEngine,
    name: &str,
    stamp: &Stamp,
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let claim = Claim::new(name, stamp, fence)?;
    let doing = format!("release {name:?}");
    let mut admin = engine.pool.lease().await?;
    let place = admin.server.place.clone();
    let found = registry::find(&mut admin, &claim.name).await?;
    let standing = claim.check_state(&found, &place, |_| true);
    if standing
        .as_ref()
        .is_ok_and(|standing| standing.row.state == RowState::Released)
    {
        admin.keep();
        return Ok(());
    }
    let mut applier = Applier {
        admin: &mut admin,
        claim: &claim,
        gate,
    };
    applier.release(&doing).await?;
    admin.keep();
    Ok(())
}
