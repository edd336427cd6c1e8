//! Look, plan, act, look again.
//!
//! A pass first looks, by the survey where there is one: most passes find nothing and end there. Only
//! when something must be done does it look afresh, and act until the plan is empty.

use freehold_model::{Gate, kinds::Difference};

use super::{
    RedisEngine,
    apply::{Applier, accept_refusal, is_refusal},
    connect::Connection,
    observe::{self, Observed},
    plan::{self, Action, Goal},
    registry::{Claim, RowState},
    rules,
    survey::Surveyed,
};
use crate::{ConvergeMode, DesiredDatabase, Fence, Result, Stamp, Survey};

/// Looks and repairs in one pass. Three suffice for a database that is made; more are for what changes
/// under our hands.
const ROUNDS_MAX: usize = 6;

pub(super) async fn converge(
    engine: &RedisEngine,
    desired: &DesiredDatabase,
    mode: ConvergeMode,
    survey: Option<&Survey>,
    fence: &Fence,
    gate: &Gate,
) -> Result<Vec<Difference>> {
    let goal = Goal::new(desired)?;
    let claim = Claim::new(&desired.name, &desired.stamp, fence)?;
    let mut admin = engine.pool.lease().await?;
    let surveyed = survey.and_then(|survey| survey.engine.downcast_ref::<Surveyed>());
    let mut decided = decide(&mut admin, &goal, &claim, surveyed).await;
    if surveyed.is_some() && is_doubtful(&decided) {
        decided = decide(&mut admin, &goal, &claim, None).await;
    }
    let (seen, actions) = decided?;
    let name = goal.name.as_str();
    let found = if mode != ConvergeMode::Apply || !actions.iter().any(Action::is_actionable) {
        let told = actions.iter().filter(|action| !action.is_silent());
        told.map(|action| action.difference(name)).collect()
    } else {
        let mut applier = Applier {
            admin: &mut admin,
            claim: &claim,
            gate,
        };
        act(&mut applier, &goal, seen.strangers).await?
    };
    admin.keep();
    Ok(found)
}

/// What a look finds to do.
async fn decide(
    admin: &mut Connection,
    goal: &Goal,
    claim: &Claim,
    surveyed: Option<&Surveyed>,
) -> Result<(Observed, Vec<Action>)> {
    let seen = match surveyed {
        Some(surveyed) => {
            let spelling = rules::spelling(admin).await?;
            surveyed.part(goal, claim, spelling, &admin.server)?
        }
        None => observe::look(admin, goal, claim, None).await?,
    };
    let actions = plan::plan(goal, &seen)?;
    Ok((seen, actions))
}

/// A survey may be older than the caller's right to the database: what it says against the database
/// may be what another holder has just ended. A server that does not answer is not asked again.
fn is_doubtful(decided: &Result<(Observed, Vec<Action>)>) -> bool {
    match decided {
        Ok((_, actions)) => !actions.is_empty(),
        Err(error) => !error.is_retryable(),
    }
}

async fn act(
    applier: &mut Applier<'_>,
    goal: &Goal,
    strangers: Vec<(String, String)>,
) -> Result<Vec<Difference>> {
    let name = goal.name.as_str();
    let mut found = Vec::new();
    let mut saved = Saved::NotYet;
    for round in 0.. {
        let seen = look(applier.admin, goal, applier.claim, &strangers).await?;
        let actions = plan::plan(goal, &seen)?;
        let (open, rest): (Vec<Action>, Vec<Action>) = actions
            .into_iter()
            .filter(|action| *action != Action::Save || saved == Saved::NotYet)
            .partition(Action::is_actionable);
        if open.is_empty() || round == ROUNDS_MAX {
            let told = rest
                .iter()
                .chain(&open)
                .filter(|action| !action.is_silent());
            found.extend(told.map(|action| action.difference(name)));
            break;
        }
        found.extend(run(applier, goal, &open, &mut saved).await?);
    }
    Ok(settled(found))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saved {
    NotYet,
    Done,
    /// The server would not; it was told.
    Refused,
}

async fn look(
    admin: &mut Connection,
    goal: &Goal,
    claim: &Claim,
    strangers: &[(String, String)],
) -> Result<Observed> {
    observe::look(admin, goal, claim, Some(strangers.to_vec())).await
}

/// Runs a plan's actions, those that belong together at once.
async fn run(
    applier: &mut Applier<'_>,
    goal: &Goal,
    actions: &[Action],
    saved: &mut Saved,
) -> Result<Vec<Difference>> {
    let name = goal.name.as_str();
    let has = |wanted: &Action| actions.contains(wanted);
    if has(&Action::Create) {
        let doing = format!("create database {name:?}");
        applier.record(Some(RowState::Created), &doing).await?;
    } else if has(&Action::RestoreRow) || has(&Action::RestoreCopy) {
        let doing = format!("restore the registry's row of {name:?}");
        applier.record(None, &doing).await?;
    }
    let accounts: Vec<&Action> = actions
        .iter()
        .filter(|action| {
            matches!(
                action,
                Action::MakeLogin { .. } | Action::SetLogin { .. } | Action::EndSessions { .. }
            )
        })
        .collect();
    if !accounts.is_empty() {
        applier.set_accounts(goal, &accounts).await?;
        if *saved == Saved::Done {
            *saved = Saved::NotYet;
        }
    }
    let mut found: Vec<Difference> = actions
        .iter()
        .filter(|action| !action.is_silent())
        .map(|action| Difference {
            repaired: true,
            ..action.difference(name)
        })
        .collect();
    if has(&Action::Save) {
        match applier.save().await {
            Ok(()) => *saved = Saved::Done,
            Err(error) if is_refusal(&error) => {
                *saved = Saved::Refused;
                let mut difference = Action::Save.difference(name);
                difference.message = format!(
                    "The server cannot save its accounts and forgets them when it ends: {}. Let it \
                     write its ACL file (or its configuration file) and that file's folder.",
                    error.fault
                );
                found.push(difference);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// One finding of each key: unrepaired when the last look still said so.
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
    engine: &RedisEngine,
    name: &str,
    stamp: &Stamp,
    logins: &[String],
    fence: &Fence,
    gate: &Gate,
) -> Result<()> {
    let claim = Claim::new(name, stamp, fence)?;
    let mut admin = engine.pool.lease().await?;
    let mut applier = Applier {
        admin: &mut admin,
        claim: &claim,
        gate,
    };
    applier.close(logins).await?;
    applier.save().await.or_else(accept_refusal)?;
    admin.keep();
    Ok(())
}
