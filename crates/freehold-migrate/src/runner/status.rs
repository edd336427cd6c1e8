//! Where a database stands against a bundle, as the server itself tells it.

use freehold_engine::ScriptSession;
use serde::{Deserialize, Serialize};

use super::{RunFailure, RunOptions, check_engine, load, non_empty, refused, seat::Seat};
use crate::{Bundle, Dialect, Migrations, Refusal, StatusEntry, plan};

/// Where a database stands against a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub schema: String,
    /// False before the first migration.
    pub history_exists: bool,
    pub entries: Vec<StatusEntry>,
    /// What `apply` would refuse.
    pub refusals: Vec<Refusal>,
}

/// Compares a database with a bundle. Takes no lock and changes nothing.
///
/// # Errors
/// A bundle for another engine, files that are no migrations, or a server that does not answer.
pub async fn status<S: ScriptSession>(
    dialect: Dialect,
    session: &mut S,
    bundle: &Bundle,
    options: &RunOptions,
) -> Result<Status, RunFailure> {
    check_engine(dialect, bundle)?;
    let settings = bundle.settings();
    let seat = Seat::take(session, dialect, options).await?;
    let values = seat.values(settings, options);
    let migrations = Migrations::resolve_with(bundle, &values).map_err(refused)?;
    let rows = seat.table.read(session).await?;
    let history_exists = rows.is_some();
    let mut refusals = Vec::new();
    let may_hold = history_exists || settings.baseline_on_migrate;
    if !may_hold && !seat.table.schema_is_empty(session).await? {
        refusals.push(non_empty(&seat.schema));
    }
    let mut rows = rows.unwrap_or_default();
    let plan = plan(&migrations, &mut rows, &options.plan.within(settings));
    refusals.extend(plan.refusals);
    if let Err(RunFailure::Refused { refusals: more }) = load(&plan.pending) {
        refusals.extend(more);
    }
    Ok(Status {
        schema: seat.schema,
        history_exists,
        entries: plan.status,
        refusals,
    })
}
