//! Following the store's change feed: what another process has written reaches this one quickly.
//!
//! Three things depend on it, none for correctness: an operation requested elsewhere starts without
//! waiting for the next poll, a cancellation requested elsewhere reaches a running step, and those
//! who watch a history are woken.

use std::{collections::BTreeSet, time::Duration};

use freehold_model::OperationId;
use freehold_store::{ChangePosition, ErrorKind, Result};

use crate::{record, runner::Driving, saver, worker::Shared};

const PAGE: usize = 1000;

/// Follows the feed until it is dropped.
pub(crate) async fn follow(shared: &Shared, driving: &Driving) {
    let mut after = None;
    // What happened before we came is found by the first look for due operations; only what was
    // cancelled while we caught up is looked for here.
    let mut caught_up = false;
    loop {
        match read(shared, driving, after, caught_up).await {
            Ok((next, full)) => {
                after = Some(next);
                if full {
                    continue;
                }
                caught_up = true;
            }
            Err(error) if error.kind() == ErrorKind::Compacted => {
                (after, caught_up) = (None, false);
                shared.nudges.due.notify_one();
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::info!(%error, "the store has no change feed; operations are found by polling");
                return std::future::pending().await;
            }
            Err(error) => {
                tracing::debug!(%error, "the change feed cannot be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        tokio::time::sleep(shared.config.feed_interval).await;
    }
}

async fn read(
    shared: &Shared,
    driving: &Driving,
    after: Option<ChangePosition>,
    caught_up: bool,
) -> Result<(ChangePosition, bool)> {
    let page = shared.store.changes(after, PAGE).await?;
    let full = page.changes.len() >= PAGE;
    if !caught_up && full {
        return Ok((page.next, full));
    }
    let operations = record::operations();
    let mut touched: BTreeSet<OperationId> = page
        .changes
        .iter()
        .filter(|change| change.collection == operations)
        .filter_map(|change| change.key.as_str().parse().ok())
        .collect();
    if !caught_up {
        touched.extend(driving.ids());
    }
    if touched.is_empty() {
        return Ok((page.next, full));
    }
    let mut others = false;
    for id in touched {
        if !driving.is_driving(id) {
            others = true;
        } else if let Some((record, _)) = saver::read(&shared.store, id).await?
            && record.is_cancellation_open()
        {
            driving.cancel(id);
        }
    }
    if others {
        shared.nudges.due.notify_one();
    }
    shared.nudges.changed();
    Ok((page.next, full))
}
