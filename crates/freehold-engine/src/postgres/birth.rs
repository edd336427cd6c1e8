//! Makes a database that was never there, in as few transactions as its effects allow.
//!
//! A repair looks again after everything it did and keeps its effects small. A birth knows more: the
//! registry says that nothing was made yet, the row is locked, and what is about to be made is known
//! before it is. So the whole of it is four effects, each past the gate and under the fence:
//!
//! 1. the roles, their memberships and settings, and the word that a database will be made;
//! 2. `CREATE DATABASE`, which cannot be in a transaction;
//! 3. the word that it was made, its rights and limits, passwords, and the opening of logins;
//! 4. what is inside.
//!
//! Only what a template may have brought along is looked at in between, by a superuser already while the
//! third effect is on its way. That nothing else is looked at
//! is sound for actions after which there is nothing to see ([`is_conclusive`]): what was made a
//! moment ago, in a transaction that committed, is as it was made. Whatever somebody does to it by
//! hand meanwhile is drift, and the next round finds it.
//!
//! A birth that meets anything else (a session of a login that should have none, a right that the admin
//! lacks, a schema to be made, objects out of the template) does what it can and leaves the rest to
//! the rounds of `converge`. Killed anywhere, the registry's row says how far it came, and a repair
//! completes it.

use std::sync::Arc;

use freehold_model::kinds::Difference;

use super::{
    apply::Applier,
    connect::{Lease, Permit, Pool},
    inside::{self, Inside},
    observe::Observed,
    plan::{self, Action, Goal, On, RoleChange},
    registry::INSIDE_MARK,
};
use crate::Result;

/// How far a birth came.
pub(super) enum Birth {
    /// Nothing was done: it is no case for a birth.
    Declined,
    /// This much was repaired; there may be more to do.
    Begun(Vec<Difference>),
    /// Everything is as desired, except for what only a person can settle.
    Complete(Vec<Difference>),
}

/// Goes as far as it can. The row is locked, its claim holds, and `seen` was seen under the lock.
pub(super) async fn make(
    applier: &mut Applier<'_>,
    goal: &Goal<'_>,
    mut seen: Observed,
) -> Result<Birth> {
    let name = goal.desired.name.as_str();
    let actions = plan::plan(goal, &seen)?;
    let Some((before, after)) = parts(&actions) else {
        return Ok(Birth::Declined);
    };
    let mut found = Vec::new();

    let what = format!("make the roles of {name:?}");
    let announcement = applier.announcement()?;
    if !applier
        .together(&what, ["", &announcement], &before)
        .await?
    {
        return Ok(Birth::Declined);
    }
    repaired(name, &before, &mut found);

    let what = format!("create database {name:?}");
    applier.gate.before(&what).await?;
    applier.make_database(&what).await?;
    applier.gate.after(&what).await?;
    repaired(name, &[&Action::CreateDatabase], &mut found);

    let what = format!("open database {name:?}");
    let record = applier.record()?;
    let first_to_enter = applier
        .admin
        .superuser
        .then(|| applier.permit.take())
        .flatten();
    let (opened, entered) = tokio::join!(
        applier.together(&what, [&record, ""], &after),
        enter(applier.pool, first_to_enter, name),
    );
    let opened = opened?;
    // Whoever fails to enter gives up: the right to the connection went with it, and waiting for another
    // while the first connection is held would be waiting for those who wait for both.
    let within = entered?.map(|(inner, within)| {
        applier.inner = Some(inner);
        within
    });
    if !opened {
        let usual = applier.usual_limit();
        applier.admin.change(&usual, "limit statements").await?;
        return Ok(Birth::Begun(found));
    }
    repaired(name, &after, &mut found);

    let newborn = plan::newborn(&seen.cluster.admin);
    seen.cluster.databases.insert(name.to_owned(), newborn);
    let complete = furnish(applier, goal, &seen, within, &mut found).await?;
    if !complete {
        return Ok(Birth::Begun(found));
    }
    let reports = actions.iter().filter(|action| is_report(action));
    found.extend(reports.map(|report| report.difference(name)));
    Ok(Birth::Complete(found))
}

/// Opens the session into the new database and looks around in it, while its rights are still being set:
/// a new session's first look at cold catalogs takes as long as that does. Only a superuser gets in so
/// early; without the right to a connection nobody does.
async fn enter(
    pool: &Arc<Pool>,
    permit: Option<Permit>,
    name: &str,
) -> Result<Option<(Lease, Option<Inside>)>> {
    let Some(permit) = permit else {
        return Ok(None);
    };
    let inner = pool.inside(permit, name, INSIDE_MARK).await?;
    let within = inside::look_at_newborn(&inner).await?;
    Ok(Some((inner, within)))
}

/// Sets up the inside; whether there is nothing more to do. `within` is what was seen there already.
async fn furnish(
    applier: &mut Applier<'_>,
    goal: &Goal<'_>,
    seen: &Observed,
    within: Option<Option<Inside>>,
    found: &mut Vec<Difference>,
) -> Result<bool> {
    let name = goal.desired.name.as_str();
    let within = match within {
        Some(within) => within,
        None => inside::look_at_newborn(applier.inner().await?).await?,
    };
    let Some(within) = within else {
        return Ok(false);
    };
    let actions = plan::furnish(goal, seen, &within);
    let (reports, to_do): (Vec<&Action>, Vec<&Action>) =
        actions.iter().partition(|action| is_report(action));
    let what = format!("grant inside {name:?}");
    if !applier.together_inside(&what, &to_do).await? {
        return Ok(false);
    }
    repaired(name, &to_do, found);
    let complete = to_do.iter().all(|action| is_conclusive_inside(action));
    if complete {
        found.extend(reports.iter().map(|report| report.difference(name)));
    }
    Ok(complete)
}

/// What is done before and after the database is made; nothing when it is not made now, or when
/// something is to be done that must be looked at again.
fn parts(actions: &[Action]) -> Option<(Vec<&Action>, Vec<&Action>)> {
    let at = actions
        .iter()
        .position(|action| matches!(action, Action::CreateDatabase))?;
    let conclusive = actions
        .iter()
        .all(|action| is_report(action) || is_conclusive(action));
    conclusive.then(|| (not_reports(&actions[..at]), not_reports(&actions[at + 1..])))
}

fn not_reports(actions: &[Action]) -> Vec<&Action> {
    actions.iter().filter(|action| !is_report(action)).collect()
}

fn is_report(action: &Action) -> bool {
    matches!(action, Action::Report { .. })
}

/// After it nothing can be left of the difference, nor another come to light. Whatever takes a right
/// from somebody who may be using it is not: sessions must be ended, and looked for again.
fn is_conclusive(action: &Action) -> bool {
    match action {
        Action::CreateRole { .. }
        | Action::SetPassword { .. }
        | Action::GrantMembership { .. }
        | Action::Set { value: Some(_), .. }
        | Action::CreateDatabase
        | Action::DatabaseConnections { .. }
        | Action::Grant { on: On::Database, .. }
        // Nobody has used it: the database is made with a connection limit of 0.
        | Action::Revoke { on: On::Database, from: None, .. } => true,
        Action::AlterRole { changes, .. } => changes
            .iter()
            .all(|change| matches!(change, RoleChange::Login(true) | RoleChange::ValidUntil(_))),
        _ => false,
    }
}

/// The same inside. A schema or an extension that is made has rights and objects of its own, which are
/// seen when it is there.
fn is_conclusive_inside(action: &Action) -> bool {
    matches!(
        action,
        Action::Grant { .. } | Action::Revoke { .. } | Action::SchemaOwner { .. }
    )
}

fn repaired(database: &str, actions: &[&Action], found: &mut Vec<Difference>) {
    found.extend(actions.iter().map(|action| Difference {
        repaired: true,
        ..action.difference(database)
    }));
}
