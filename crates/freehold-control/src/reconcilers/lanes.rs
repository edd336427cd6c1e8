//! One task per server: whoever waits for a dead one holds up only that one's lane.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
};

use freehold_model::Uid;
use tokio::task::{Id, JoinSet};

#[derive(Default)]
pub(super) struct Lanes {
    tasks: JoinSet<()>,
    busy: HashSet<Uid>,
    lane_of: HashMap<Id, Uid>,
}

impl Lanes {
    pub(super) fn is_busy(&self, lane: Uid) -> bool {
        self.busy.contains(&lane)
    }

    /// Starts work in a lane that is not busy.
    pub(super) fn start(&mut self, lane: Uid, work: impl Future<Output = ()> + Send + 'static) {
        if self.busy.insert(lane) {
            let task = self.tasks.spawn(work);
            self.lane_of.insert(task.id(), lane);
        }
    }

    /// Ends all work where it stands; what it held is let go before this returns.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Waits until the work of one lane is done; for ever when there is none.
    pub(super) async fn one_done(&mut self) {
        let (id, failure) = match self.tasks.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((id, ()))) => (id, None),
            Some(Err(error)) => (error.id(), Some(error)),
        };
        if let Some(lane) = self.lane_of.remove(&id) {
            self.busy.remove(&lane);
            if let Some(error) = failure {
                tracing::error!(instance = %lane, %error, "work on an instance ended badly");
            }
        }
    }
}
