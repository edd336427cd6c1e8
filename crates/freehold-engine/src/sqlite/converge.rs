//! Look, plan, act, look again.
//!
//! A look takes no lock; most passes find nothing and end there. Each action then takes the
//! registry's lock for itself (see `apply.rs`), and the directory is looked at again until the plan is
//! empty.

use std::collections::BTreeSet;

use freehold_model::{Gate, kinds::Difference};

use super::{
    SqliteEngine, apply, observe,
    plan::{self, Action, Goal},
    registry::{self, Claim},
};
use crate::{ConvergeMode, DesiredDatabase, Fence, Result};

/// Looks and repairs in one pass. Two suffice; more are for what changes under our hands.
const ROUNDS_MAX: usize = 4;

pub(super) async fn converge(
    engine: &SqliteEngine,
    desired: &DesiredDatabase,
    mode: ConvergeMode,
    fence: &Fence,
    gate: &Gate,
) -> Result<Vec<Difference>> {
    let goal = Goal::new(desired)?;
    let claim = Claim {
        name: desired.name.clone(),
        stamp: desired.stamp.clone(),
        fence: fence.clone(),
    };
    let mut found: Vec<Difference> = Vec::new();
    let mut attempted = BTreeSet::new();
    for round in 0.. {
        let actions = look(engine, &goal, &claim).await?;
        let stays = actions.iter().all(|action| {
            !action.is_actionable() || attempted.contains(&action.difference(&goal.name).key)
        });
        if mode != ConvergeMode::Apply || stays || round == ROUNDS_MAX {
            let left = actions.iter().map(|action| action.difference(&goal.name));
            found.extend(left);
            break;
        }
        for action in actions.iter().filter(|action| action.is_actionable()) {
            act(engine, &goal, &claim, action, gate).await?;
            let mut repaired = action.difference(&goal.name);
            repaired.repaired = true;
            // Of a database that is made, one finding is enough.
            if *action != Action::Publish || !actions.contains(&Action::Make) {
                attempted.insert(repaired.key.clone());
                found.push(repaired);
            }
        }
    }
    Ok(settled(found))
}

async fn look(engine: &SqliteEngine, goal: &Goal, claim: &Claim) -> Result<Vec<Action>> {
    let (goal, claim) = (goal.clone(), claim.clone());
    engine
        .blocking("look at a database", move |directory| {
            let seen = observe::look(directory, &goal.folder, &claim, goal.open)?;
            plan::plan(&goal, &seen)
        })
        .await
}

async fn act(
    engine: &SqliteEngine,
    goal: &Goal,
    claim: &Claim,
    action: &Action,
    gate: &Gate,
) -> Result<()> {
    let doing = action.effect(&goal.name);
    gate.before(&doing).await?;
    let (goal, claim, action) = (goal.clone(), claim.clone(), action.clone());
    engine
        .blocking(&doing.clone(), move |directory| {
            registry::fenced(directory, &claim, &doing, |registry, row| {
                apply::perform(directory, &goal, &action, registry, row)
            })?;
            Ok(doing)
        })
        .await
        .map(|doing| gate.after(doing))?
        .await?;
    Ok(())
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
