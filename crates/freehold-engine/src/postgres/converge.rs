//! Look, plan, act, look again.
//!
//! A pass first looks without any lock, by the survey where there is one: most passes find nothing
//! and end there, with one short connection into the database. What a survey says against the
//! database is believed only after a look of its own. Only when something must be done does it take the registry row's lock, look again under it, and act until the plan is empty. What the
//! registry knows as not made yet goes through [`birth`] instead, which looks less.

use std::collections::BTreeSet;

use freehold_model::{Gate, kinds::Difference};

use super::{
    PostgresEngine,
    apply::Applier,
    birth::{self, Birth},
    connect::Connection,
    inside::{self, Inside},
    observe::{self, Cluster, Observed, Scope},
    plan::{self, Action, Goal, RoleChange, SessionsOf},
    registry::{self, Claim, LOOKING_MARK, RowState},
    reserve,
    survey::Surveyed,
};
use crate::{ConvergeMode, DesiredDatabase, EngineError, Fault, Fence, Result, Stamp, Survey};

/// Looks and repairs in one pass. Two suffice for a database that is made and then entered; more
/// are for what changes under our hands.
const ROUNDS_MAX: usize = 6;

pub(super) async fn converge(
    engine: &PostgresEngine,
    desired: &DesiredDatabase,
    mode: ConvergeMode,
    survey: Option<&Survey>,
    fence: &Fence,
    gate: &Gate,
) -> Result<Vec<Difference>> {
    let goal = Goal::new(desired)?;
    if mode == ConvergeMode::Apply
        && survey.is_none()
        && let Some(claim) = unmade(engine, &goal, fence).await?
    {
        let pass = Pass { goal: &goal, mode };
        return act(engine, &pass, &claim, gate, State::Unmade).await;
    }
    let mut decided = decide(engine, &goal, survey, fence).await;
    if survey.is_some() && is_doubtful(&decided) {
        decided = decide(engine, &goal, None, fence).await;
    }
    let (claim, actions) = decided?;
    let pass = Pass { goal: &goal, mode };
    if !actions.iter().any(|action| pass.may_do(action)) {
        let unrepaired = actions
            .iter()
            .map(|action| action.difference(&desired.name));
        return Ok(distinct(unrepaired));
    }
    act(engine, &pass, &claim, gate, State::Made).await
}

/// What a look without a lock finds to do, and the claim that it was checked against.
async fn decide(
    engine: &PostgresEngine,
    goal: &Goal<'_>,
    survey: Option<&Survey>,
    fence: &Fence,
) -> Result<(Claim, Vec<Action>)> {
    let desired = goal.desired;
    let seen = look(engine, goal, survey).await?;
    let claim = Claim {
        name: desired.name.clone(),
        stamp: desired.stamp.clone(),
        server: seen.identity.clone(),
        fence: fence.clone(),
    };
    claim.check(seen.cluster.rows.get(&desired.name))?;
    let actions = plan::plan(goal, &seen)?;
    Ok((claim, actions))
}

/// A survey may be older than the caller's right to the database: what it says against the database
/// may be what another holder has just ended. A server that does not answer is not asked again.
fn is_doubtful(decided: &Result<(Claim, Vec<Action>)>) -> bool {
    match decided {
        Ok((_, actions)) => !actions.is_empty(),
        Err(error) => !error.is_retryable(),
    }
}

/// What a look without a lock said of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unmade,
    Made,
}

/// The claim of a database that is reserved and not made yet: there is work for certain, so the look
/// without a lock is saved.
async fn unmade(engine: &PostgresEngine, goal: &Goal<'_>, fence: &Fence) -> Result<Option<Claim>> {
    let permit = engine.pool.permit(1).await?;
    let admin = engine.registry(permit).await?;
    let claim = Claim {
        name: goal.desired.name.clone(),
        stamp: goal.desired.stamp.clone(),
        server: reserve::identity(&admin).await?,
        fence: fence.clone(),
    };
    let row = claim.row(&admin).await?;
    claim.check(row.as_ref())?;
    admin.keep();
    let unmade = row.is_some_and(|row| row.state != RowState::Created);
    Ok((unmade && goal.is_open()).then_some(claim))
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

/// Looks without a lock, one connection at a time.
async fn look(
    engine: &PostgresEngine,
    goal: &Goal<'_>,
    survey: Option<&Survey>,
) -> Result<Observed> {
    let mut permit = engine.pool.permit(1).await?;
    let surveyed = survey.and_then(|survey| {
        let surveyed = survey.engine.downcast_ref::<Surveyed>()?;
        Some((surveyed, survey.identity.clone()))
    });
    let mut seen = if let Some((surveyed, identity)) = surveyed {
        Observed {
            version: surveyed.version.clone(),
            superuser: surveyed.superuser,
            identity,
            cluster: surveyed.cluster.of(&goal.desired.name, &goal.role_names()),
            inside: None,
        }
    } else {
        let admin = engine.registry(permit).await?;
        let seen = look_around(&admin, goal).await?;
        admin.keep();
        permit = engine.pool.permit(1).await?;
        seen
    };
    if enterable(goal, &seen) {
        let inner = engine
            .pool
            .inside(permit, &goal.desired.name, LOOKING_MARK)
            .await?;
        let mut within = inside::look(&inner, &goal.targets()).await?;
        let permit = inner.close();
        let strangers = strangers(goal, &seen, &within);
        if !strangers.is_empty() {
            let admin = engine.registry(permit).await?;
            within.tenants = observe::registered(&admin, &strangers).await?;
            admin.keep();
        }
        seen.inside = Some(within);
    }
    Ok(seen)
}

async fn look_around(admin: &Connection, goal: &Goal<'_>) -> Result<Observed> {
    let roles = goal.role_names();
    let scope = Scope::Of {
        database: &goal.desired.name,
        roles: &roles,
    };
    Ok(Observed {
        version: admin.version.clone(),
        superuser: admin.superuser,
        identity: reserve::identity(admin).await?,
        cluster: observe::cluster(admin, &scope).await?,
        inside: None,
    })
}

/// Whether there is a database of ours that our admin can get into.
fn enterable(goal: &Goal<'_>, seen: &Observed) -> bool {
    let name = &goal.desired.name;
    let made = seen.cluster.rows.get(name).is_some_and(|row| {
        row.state == RowState::Created
            && seen.cluster.databases.get(name).map(|facts| facts.oid) == row.database_oid
    });
    let open = seen.cluster.databases.get(name).is_some_and(|facts| {
        facts.allow_connections && (seen.superuser || facts.connection_limit != 0)
    });
    made && open && goal.is_open()
}

/// Grantees inside that are neither ours nor known: the registry may know them as another tenant's.
fn strangers(goal: &Goal<'_>, seen: &Observed, within: &Inside) -> Vec<String> {
    let known: BTreeSet<String> = goal.role_names().into_iter().collect();
    let lists = within
        .schemas
        .iter()
        .map(|schema| &schema.acl)
        .chain(within.groups.iter().map(|group| &group.acl))
        .chain(within.columns.iter().map(|column| &column.acl))
        .chain(within.defaults.iter().map(|defaults| &defaults.acl));
    let grantees: BTreeSet<&String> = lists
        .flatten()
        .filter_map(|grant| grant.to.as_ref())
        .collect();
    grantees
        .into_iter()
        .filter(|role| !known.contains(*role) && !seen.cluster.registered_roles.contains_key(*role))
        // The server keeps this prefix to itself.
        .filter(|role| !role.starts_with("pg_"))
        .cloned()
        .collect()
}

/// Makes or repairs under the row's lock. Errors drop both connections, and the lock with them.
async fn act(
    engine: &PostgresEngine,
    pass: &Pass<'_>,
    claim: &Claim,
    gate: &Gate,
    state: State,
) -> Result<Vec<Difference>> {
    let goal = pass.goal;
    let (first, second) = engine.pool.permit(2).await?.halves();
    let admin = engine.registry(first).await?;
    let mut applier = Applier {
        admin: &admin,
        pool: &engine.pool,
        claim,
        gate,
        owner: goal.owner.clone(),
        permit: Some(second),
        inner: None,
    };
    registry::lock(&admin, claim).await?;
    let born = match state {
        State::Unmade => give_birth(&mut applier, goal).await?,
        State::Made => Birth::Declined,
    };
    let found = match born {
        Birth::Complete(found) => found,
        Birth::Begun(found) => repair(&mut applier, pass, found).await?,
        Birth::Declined => {
            take_over(&applier).await?;
            repair(&mut applier, pass, Vec::new()).await?
        }
    };
    drop(applier);
    registry::unlock(&admin, &claim.name).await?;
    admin.keep();
    // What was repaired and is found again was not repaired.
    Ok(settled(found))
}

/// Makes what does not exist yet. The row is read with everything else, and its epoch is raised by the
/// first effect: inside a database that does not exist there can be nobody of an earlier holder.
async fn give_birth(applier: &mut Applier<'_>, goal: &Goal<'_>) -> Result<Birth> {
    let seen = look_around(applier.admin, goal).await?;
    let row = seen.cluster.rows.get(&goal.desired.name);
    applier.claim.check(row)?;
    if row.is_none_or(|row| row.state == RowState::Created) {
        // Somebody else was faster.
        return Ok(Birth::Declined);
    }
    birth::make(applier, goal, seen).await
}

/// Looks and acts until the plan is empty.
async fn repair(
    applier: &mut Applier<'_>,
    pass: &Pass<'_>,
    mut found: Vec<Difference>,
) -> Result<Vec<Difference>> {
    let goal = pass.goal;
    let mut refused = BTreeSet::new();
    for round in 0.. {
        let seen = look_locked(applier, goal).await?;
        let actions = plan::plan(goal, &seen)?;
        let (open, rest): (Vec<Action>, Vec<Action>) = actions.into_iter().partition(|action| {
            pass.may_do(action) && !refused.contains(&action.difference(&goal.desired.name).key)
        });
        if open.is_empty() || round == ROUNDS_MAX {
            let reported = rest
                .iter()
                .filter(|action| !pass.may_do(action))
                .chain(&open);
            found.extend(reported.map(|action| action.difference(&goal.desired.name)));
            break;
        }
        let applied = applier.run(&open).await?;
        found.extend(applied.differences);
        refused.extend(applied.refused);
    }
    Ok(found)
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

/// Raises the epoch of the locked row, and ends what an earlier holder may have left running.
async fn take_over(applier: &Applier<'_>) -> Result<()> {
    let (admin, claim) = (applier.admin, applier.claim);
    let row = claim.row(admin).await?;
    claim.check(row.as_ref())?;
    if row
        .as_ref()
        .is_some_and(|row| row.epoch < claim.fence.epoch)
    {
        applier.in_registry("", "raise the epoch").await?;
    }
    if row.is_some_and(|row| row.state == RowState::Created) {
        registry::end_predecessors(admin, &claim.name).await?;
    }
    Ok(())
}

async fn look_locked(applier: &mut Applier<'_>, goal: &Goal<'_>) -> Result<Observed> {
    let mut seen = look_around(applier.admin, goal).await?;
    if enterable(goal, &seen) {
        let targets = goal.targets();
        let inner = applier.inner().await?;
        let mut within = inside::look(inner, &targets).await?;
        let strangers = strangers(goal, &seen, &within);
        if !strangers.is_empty() {
            within.tenants = observe::registered(applier.admin, &strangers).await?;
        }
        seen.inside = Some(within);
    }
    Ok(seen)
}

/// No login, no right, no session for logins that nothing names any more.
pub(super) async fn disable_logins(
    engine: &PostgresEngine,
    name: &str,
    stamp: &Stamp,
    logins: &[String],
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let (first, second) = engine.pool.permit(2).await?.halves();
    let admin = engine.registry(first).await?;
    let claim = Claim {
        name: name.to_owned(),
        stamp: stamp.clone(),
        server: reserve::identity(&admin).await?,
        fence: fence.clone(),
    };
    let mut applier = Applier {
        admin: &admin,
        pool: &engine.pool,
        claim: &claim,
        gate,
        owner: super::names::owner(name),
        permit: Some(second),
        inner: None,
    };
    registry::lock(&admin, &claim).await?;
    take_over(&applier).await?;
    let scope = Scope::Of {
        database: name,
        roles: logins,
    };
    // Twice: what takes effect now, and another look for sessions that slipped in.
    for _ in 0..ROUNDS_MAX {
        let cluster = observe::cluster(&admin, &scope).await?;
        let actions = disabling(&cluster, name, logins)?;
        if actions.is_empty() {
            break;
        }
        applier.run(&actions).await?;
    }
    drop(applier);
    registry::unlock(&admin, name).await?;
    admin.keep();
    Ok(())
}

/// What is still to be taken from logins.
fn disabling(cluster: &Cluster, database: &str, logins: &[String]) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    for login in logins {
        let Some(facts) = cluster.roles.get(login) else {
            continue;
        };
        let ours = cluster
            .registered_roles
            .get(login)
            .is_some_and(|known| known.database == database && known.oid == facts.oid);
        if !ours {
            return Err(EngineError::new(
                Fault::NameTaken {
                    name: login.clone(),
                    owner: None,
                },
                format!("disable logins of {database:?}"),
            ));
        }
        if facts.login {
            actions.push(Action::AlterRole {
                role: login.clone(),
                changes: vec![RoleChange::Login(false)],
            });
        }
        for membership in &cluster.memberships {
            if membership.member == *login {
                actions.push(Action::RevokeMembership {
                    role: membership.role.clone(),
                    member: login.clone(),
                    by: membership.by.clone(),
                });
            }
        }
        let granted: BTreeSet<String> = cluster
            .databases
            .get(database)
            .into_iter()
            .flat_map(|facts| &facts.acl)
            .filter(|grant| grant.to.as_ref() == Some(login))
            .map(|grant| grant.privilege.clone())
            .collect();
        if !granted.is_empty() {
            actions.push(Action::Revoke {
                on: plan::On::Database,
                from: Some(login.clone()),
                privileges: granted,
                option_only: false,
            });
        }
        let sessions = cluster
            .sessions
            .iter()
            .filter(|sessions| sessions.role == *login);
        let count = sessions.map(|sessions| sessions.count).sum();
        if count > 0 {
            actions.push(Action::EndSessions {
                of: SessionsOf::Login(login.clone()),
                count,
            });
        }
    }
    Ok(actions)
}
