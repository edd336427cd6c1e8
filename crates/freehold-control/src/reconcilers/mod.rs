//! The keepers of steady state: no input, idempotent, run periodically and when there is news.

pub(crate) mod databases;
pub(crate) mod housekeeping;
pub(crate) mod instances;
mod lanes;

use std::time::Duration;

use freehold_model::{
    ResourceKey,
    kinds::Instance,
    trace::{self, Role},
};
use freehold_store::CollectionName;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Span, field};

use self::lanes::Lanes;
use crate::start::Control;

/// Whether a change in a collection is worth waking the reconcilers for.
pub(crate) fn concerns(collection: &CollectionName) -> bool {
    matches!(
        collection.as_str(),
        "instances" | "classes" | "databases" | "accesses" | "claims"
    )
}

/// The span of work on one instance, which nobody asked for and which begins a trace of its own.
fn pass(name: &str, instance: &Instance) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "pass",
        instance = %instance.metadata.name,
        otel.name = field::Empty,
        otel.kind = field::Empty,
    );
    trace::begin(&span, Role::Internal, name, None);
    span
}

/// The span of a pass's work on one database.
fn part(name: &str, database: &ResourceKey) -> Span {
    let span = tracing::info_span!(
        "visit",
        %database,
        otel.name = field::Empty,
        otel.kind = field::Empty,
    );
    trace::begin(&span, Role::Internal, name, None);
    span
}

/// What a reconciler waits for between two rounds.
struct Rhythm {
    news: watch::Receiver<u64>,
    lanes: Lanes,
}

impl Rhythm {
    fn new(control: &Control) -> Self {
        Self {
            news: control.nudge.subscribe(),
            lanes: Lanes::default(),
        }
    }

    /// To be called before a round reads: news that comes while it reads is news for the next one.
    fn begin(&mut self) -> Instant {
        self.news.borrow_and_update();
        Instant::now()
    }

    /// Waits for news, for a lane that has become free, or for the time to run out; false when it is
    /// time to stop. A round that took long is followed by a rest in proportion, so that a flood of
    /// changes costs at most a fifth of one processor.
    async fn pause(
        &mut self,
        began: Instant,
        limit: Duration,
        shutdown: &CancellationToken,
    ) -> bool {
        let rest = (began.elapsed() * 4).min(limit);
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(rest) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => false,
            _ = self.news.changed() => true,
            () = self.lanes.one_done() => true,
            () = tokio::time::sleep(limit) => true,
        }
    }
}
