//! Look, plan, act, look again.
//!
//! A pass first looks without any lock, by the survey where there is one: most passes find nothing
//! and end there. Only when something must be done does it take the database's lock, look again under
//! it, and act until the plan is empty.

use std::collections::BTreeSet;

use freehold_model::{Gate, kinds::Difference};

use super::{
    MariadbEngine,
    apply::Applier,
    connect::{Connection, Lease},
    inside::{self, Inside},
    observe::{self, Cluster, Scope},
    plan::{self, AccountChange, Action, Goal, On, Why},
    quote::{Account, Pattern},
    registry::{self, Claim, RowState},
    survey::Surveyed,
};
use crate::{ConvergeMode, DesiredDatabase, EngineError, Fault, Fence, Result, Stamp, Survey};

/// Looks and repairs in one pass. Two suffice for a database that is made and then entered; more
/// are for what changes under our hands.
const ROUNDS_MAX: usize = 6;

pub(super) async fn converge(
    engine: &MariadbEngine,
    desired: &DesiredDatabase,
    mode: ConvergeMode,
    survey: Option<&Survey>,
    fence: &Fence,
    gate: &Gate,
) -> Result<Vec<Difference>> {
    let goal = Goal::new(desired)?;
    let mut admin = engine.pool.lease().await?;
    let claim = Claim::of(&mut admin, &desired.name, &desired.stamp, fence).await?;
    if mode == ConvergeMode::Apply && survey.is_none() {
        let row = claim.row(&mut admin).await?;
        claim.check(row.as_ref())?;
        // There is work for certain, so the look without a lock is saved.
        if row.is_some_and(|row| row.state != RowState::Created) {
            let pass = Pass { goal: &goal, mode };
            return repair(admin, &pass, &claim, gate).await;
        }
    }
    let surveyed = survey
        .filter(|survey| survey.identity == claim.server)
        .and_then(|survey| survey.engine.downcast_ref::<Surveyed>());
    let mut decided = decide(&mut admin, &goal, &claim, surveyed).await;
    if surveyed.is_some() && is_doubtful(&decided) {
        decided = decide(&mut admin, &goal, &claim, None).await;
    }
    let actions = decided?;
    let pass = Pass { goal: &goal, mode };
    if !actions.iter().any(|action| pass.may_do(action)) {
        let told = actions.iter().filter(|action| !action.is_silent());
        let unrepaired = told.map(|action| action.difference(&desired.name));
        let unrepaired = distinct(unrepaired);
        admin.keep();
        return Ok(unrepaired);
    }
    repair(admin, &pass, &claim, gate).await
}

/// What a look without the lock finds to do.
async fn decide(
    admin: &mut Connection,
    goal: &Goal<'_>,
    claim: &Claim,
    surveyed: Option<&Surveyed>,
) -> Result<Vec<Action>> {
    let name = &goal.desired.name;
    let seen = match surveyed {
        Some(surveyed) => surveyed.part(name, &goal.login_names()),
        None => look(admin, goal).await?,
    };
    claim.check(seen.rows.get(name))?;
    let within = look_inside(admin, goal, &seen).await?;
    plan::plan(goal, &seen, within.as_ref())
}

/// A survey may be older than the caller's right to the database: what it says against the database
/// may be what another holder has just ended. A server that does not answer is not asked again.
fn is_doubtful(decided: &Result<Vec<Action>>) -> bool {
    match decided {
        Ok(actions) => !actions.is_empty(),
        Err(error) => !error.is_retryable(),
    }
}

/// Takes the lock and acts. An error drops the connection, and the lock with it.
async fn repair(
    mut admin: Lease,
    pass: &Pass<'_>,
    claim: &Claim,
    gate: &Gate,
) -> Result<Vec<Difference>> {
    registry::take_over(&mut admin, claim).await?;
    let found = act(&mut admin, pass, claim, gate).await?;
    registry::unlock(&mut admin, claim).await?;
    admin.keep();
    Ok(found)
}

/// What a pass aims at, and how much of the way there it may go.
struct Pass<'a> {
    goal: &'a Goal<'a>,
    mode: ConvergeMode,
}

impl Pass<'_> {
    fn may_do(&self, action: &Action) -> bool {
        let meant = match self.mode {
            ConvergeMode::Apply => true,
            ConvergeMode::Observe => false,
            ConvergeMode::Migrator => action.serves(&self.goal.desired.migrator.login),
        };
        meant && !matches!(action, Action::Report { .. })
    }
}

/// One finding of each key, the first.
fn distinct(differences: impl IntoIterator<Item = Difference>) -> Vec<Difference> {
    let mut keys = BTreeSet::new();
    differences
        .into_iter()
        .filter(|difference| keys.insert(difference.key.clone()))
        .collect()
}

async fn look(admin: &mut Connection, goal: &Goal<'_>) -> Result<Cluster> {
    let logins = goal.login_names();
    let scope = Scope::Of {
        database: &goal.desired.name,
        logins: &logins,
    };
    observe::cluster(admin, &scope).await
}

/// What is inside, when there is a database of ours.
async fn look_inside(
    admin: &mut Connection,
    goal: &Goal<'_>,
    seen: &Cluster,
) -> Result<Option<Inside>> {
    let name = &goal.desired.name;
    let created = seen
        .rows
        .get(name)
        .is_some_and(|row| row.state == RowState::Created);
    if !created || !seen.databases.contains_key(name) {
        return Ok(None);
    }
    let (tables, definer) = (goal.tables(), &goal.desired.migrator.login);
    inside::look(admin, name, &tables, definer).await.map(Some)
}

/// Repairs under the lock.
async fn act(
    admin: &mut Connection,
    pass: &Pass<'_>,
    claim: &Claim,
    gate: &Gate,
) -> Result<Vec<Difference>> {
    let goal = pass.goal;
    let name = &goal.desired.name;
    let mut found = Vec::new();
    let mut refused = BTreeSet::new();
    for round in 0.. {
        let seen = look(admin, goal).await?;
        let within = look_inside(admin, goal, &seen).await?;
        let actions = plan::plan(goal, &seen, within.as_ref())?;
        let (open, rest): (Vec<Action>, Vec<Action>) = actions.into_iter().partition(|action| {
            pass.may_do(action) && !refused.contains(&action.difference(name).key)
        });
        if open.is_empty() || round == ROUNDS_MAX {
            let reported = rest
                .iter()
                .filter(|action| !pass.may_do(action) && !action.is_silent())
                .chain(&open);
            found.extend(reported.map(|action| action.difference(name)));
            break;
        }
        let mut applier = Applier { admin, claim, gate };
        let applied = applier.run(&open, Some(goal.desired)).await?;
        found.extend(applied.differences);
        refused.extend(applied.refused);
    }
    Ok(settled(found))
}

/// One finding of each key: unrepaired when any look said so last.
fn settled(found: Vec<Difference>) -> Vec<Difference> {
    let mut settled: Vec<Difference> = Vec::new();
    for difference in found {
        match settled.iter_mut().find(|known| known.key == difference.key) {
            Some(known) => known.repaired = difference.repaired,
            None => settled.push(difference),
        }
    }
    settled
}

/// No login, no right, no session for logins that nothing names any more.
pub(super) async fn disable_logins(
    engine: &MariadbEngine,
    name: &str,
    stamp: &Stamp,
    logins: &[String],
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let mut admin = engine.pool.lease().await?;
    let claim = Claim::of(&mut admin, name, stamp, fence).await?;
    registry::take_over(&mut admin, &claim).await?;
    let scope = Scope::Of {
        database: name,
        logins,
    };
    // Twice at least: what takes effect now, and another look for sessions that slipped in.
    for _ in 0..ROUNDS_MAX {
        let seen = observe::cluster(&mut admin, &scope).await?;
        let actions = disabling(&seen, name, logins)?;
        if actions.is_empty() {
            break;
        }
        let mut applier = Applier {
            admin: &mut admin,
            claim: &claim,
            gate,
        };
        let applied = applier.run(&actions, None).await?;
        let mut refused = applied
            .differences
            .into_iter()
            .filter(|found| !found.repaired);
        if let Some(difference) = refused.next() {
            let missing = difference.message;
            let doing = format!("disable logins of {name:?}");
            return Err(EngineError::new(Fault::Denied { missing }, doing));
        }
    }
    registry::unlock(&mut admin, &claim).await?;
    admin.keep();
    Ok(())
}

/// What is still to be taken from logins.
fn disabling(seen: &Cluster, database: &str, logins: &[String]) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    for login in logins {
        let Some(facts) = seen.login(login) else {
            continue;
        };
        let known = seen.registered.get(login);
        if known.is_none_or(|known| known.database != database) {
            return Err(EngineError::new(
                Fault::NameTaken {
                    name: login.clone(),
                    owner: None,
                },
                format!("disable logins of {database:?}"),
            ));
        }
        if !facts.locked {
            actions.push(Action::AlterAccount {
                login: login.clone(),
                changes: vec![AccountChange::Lock(true)],
            });
        }
        let before = actions.len();
        rights_of(seen, database, login, &mut actions)?;
        let taken = actions.len() > before;
        let count = seen.sessions.get(login).copied().unwrap_or(0);
        if count > 0 || taken || known.is_some_and(|known| known.stale_sessions) {
            actions.push(Action::EndSessions {
                login: login.clone(),
                count,
                why: Why::Disabled,
            });
        }
    }
    Ok(actions)
}

/// Everything that a login may do anywhere.
fn rights_of(seen: &Cluster, database: &str, login: &str, actions: &mut Vec<Action>) -> Result<()> {
    let ours = Pattern::of(database)?;
    let grants = seen
        .database_grants
        .iter()
        .filter(|grant| grant.to.user == *login && grant.to.host == "%");
    for grant in grants {
        let on = if grant.pattern == ours.as_str() {
            On::Database
        } else {
            On::Pattern(grant.pattern.clone())
        };
        actions.push(Action::Revoke {
            on,
            from: grant.to.clone(),
            privileges: grant.privileges.clone(),
            ends: true,
        });
    }
    let is_login = |account: &Account| account.user == *login && account.host == "%";
    let mut revoke = |on: On, privileges: &BTreeSet<String>| {
        if !privileges.is_empty() {
            actions.push(Action::Revoke {
                on,
                from: Account::from_catalog(login, "%"),
                privileges: privileges.clone(),
                ends: false,
            });
        }
    };
    for grant in seen.table_grants.iter().filter(|grant| is_login(&grant.to)) {
        let (database, table) = (grant.database.clone(), grant.table.clone());
        revoke(On::Table { database, table }, &grant.privileges);
    }
    for grant in seen
        .column_grants
        .iter()
        .filter(|grant| is_login(&grant.to))
    {
        let on = On::Column {
            database: grant.database.clone(),
            table: grant.table.clone(),
            column: grant.column.clone(),
        };
        revoke(on, &grant.privileges);
    }
    for grant in seen
        .routine_grants
        .iter()
        .filter(|grant| is_login(&grant.to))
    {
        let on = On::Routine {
            database: grant.database.clone(),
            routine: grant.routine.clone(),
            kind: grant.kind.clone(),
        };
        revoke(on, &grant.privileges);
    }
    if let Some(facts) = seen.login(login).filter(|facts| facts.global != 0) {
        actions.push(Action::Revoke {
            on: On::Server,
            from: facts.account.clone(),
            privileges: BTreeSet::new(),
            ends: true,
        });
    }
    for grant in &seen.roles {
        if grant.to.user == *login && grant.to.host == "%" {
            actions.push(Action::RevokeRole {
                role: grant.role.clone(),
                from: grant.to.clone(),
            });
        }
    }
    Ok(())
}
