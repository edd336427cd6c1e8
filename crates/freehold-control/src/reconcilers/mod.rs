//! The keepers of steady state: no input, idempotent, run periodically and when there is news.

pub(crate) mod databases;
pub(crate) mod housekeeping;
pub(crate) mod instances;

use std::time::Duration;

use freehold_store::CollectionName;
use tokio_util::sync::CancellationToken;

use crate::start::Control;

/// Whether a change in a collection is worth waking the reconcilers for.
pub(crate) fn concerns(collection: &CollectionName) -> bool {
    matches!(
        collection.as_str(),
        "instances" | "classes" | "databases" | "accesses" | "claims"
    )
}

/// Waits for news or for the time to run out; false when it is time to stop.
async fn pause(control: &Control, limit: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => false,
        () = control.nudge.notified() => true,
        () = tokio::time::sleep(limit) => true,
    }
}
