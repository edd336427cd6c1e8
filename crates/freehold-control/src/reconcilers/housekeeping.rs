//! Removes what nobody needs any more: expired records, old changes, operations that ended long ago. And
//! writes down the refused logins that were only counted, and takes back what a killed server left begun:
//! the marks of deletions.

use std::time::Duration;

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::start::Control;

const INTERVAL: Duration = Duration::from_secs(60);
/// Readers of the change feed reconnect within this time or start over.
const KEEP_CHANGES: Duration = Duration::from_secs(60 * 60);
const KEEP_OPERATIONS: SignedDuration = SignedDuration::from_hours(24 * 90);

pub(crate) async fn run(control: &Control, shutdown: CancellationToken) {
    loop {
        if let Err(error) = control.unmark_abandoned().await {
            tracing::warn!(%error, "deletions that were cut short could not be taken back");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        control.record_counted_refusals(false).await;
        if let Err(error) = control.store.purge(KEEP_CHANGES).await {
            tracing::warn!(%error, "expired records could not be removed");
        }
        let before = control.clock.now() - KEEP_OPERATIONS;
        if let Err(error) = control.operations.purge(before).await {
            tracing::warn!(%error, "old operations could not be removed");
        }
    }
    // Nobody is left to count for.
    control.record_counted_refusals(true).await;
}
