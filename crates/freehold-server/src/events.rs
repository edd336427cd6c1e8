//! Server-sent events of one operation.
//!
//! Each event's `id` is its sequence number, so a client that lost its connection says where it was
//! (`Last-Event-ID`) and goes on from there. A comment every ten seconds keeps proxies from closing
//! the stream; an `end` event carries the operation as it ended. A stream lives for a bounded time
//! and holds one of a bounded number of places. Its token is looked at again every few seconds, so a
//! revoked one, or one whose subject has left the team, sees no more.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use freehold_api::OperationEvents;
use freehold_control::Caller;
use freehold_model::{OperationId, Result, kinds::OperationPhase};
use futures::stream::{self, Stream};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use crate::{App, failure::Refusal, telemetry::Open};

const HEARTBEAT: Duration = Duration::from_secs(10);
/// News from another server's work arrives by looking.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// However fast news comes, the store is asked no more often than this per stream.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// A token that was revoked sees nothing more after at most this long.
const PROVEN_FOR: Duration = Duration::from_secs(5);

struct Following {
    app: App,
    caller: Caller,
    /// When the caller was last known to be one.
    proven_at: Instant,
    id: OperationId,
    after: u64,
    news: watch::Receiver<u64>,
    queue: VecDeque<Event>,
    /// The last look showed that nothing more happens by itself.
    over: bool,
    /// The end has been told.
    ended: bool,
    until: Instant,
    _place: OwnedSemaphorePermit,
    _open: Open,
}

/// Refuses before the stream begins, so that a refusal has its status and body.
pub(crate) async fn stream(
    app: App,
    caller: Caller,
    id: OperationId,
    after: u64,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let Ok(place) = app.streams.clone().try_acquire_owned() else {
        return Err(Refusal::throttled("event streams"));
    };
    let news = app.control.news();
    let first = app.control.operation_events(&caller, id, after).await?;
    let mut following = Following {
        until: Instant::now() + app.limits.stream_lifetime,
        proven_at: Instant::now(),
        _open: app.telemetry.stream_begins(),
        _place: place,
        queue: VecDeque::new(),
        over: false,
        ended: false,
        app,
        caller,
        id,
        after,
        news,
    };
    following.take_in(first);
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("beat");
    Ok(Sse::new(stream::unfold(following, next)).keep_alive(keep_alive))
}

async fn next(mut following: Following) -> Option<(Result<Event, Infallible>, Following)> {
    loop {
        if let Some(event) = following.queue.pop_front() {
            return Some((Ok(event), following));
        }
        if following.ended || !following.wait().await {
            return None;
        }
        match following.look().await {
            Ok(events) => following.take_in(events),
            Err(error) => {
                // The client comes back and is told by a proper answer if it is for good.
                tracing::info!(%error, operation = %following.id, "an event stream was broken off");
                return None;
            }
        }
    }
}

impl Following {
    /// Returns when it is worth looking again, or false when the stream is to end.
    async fn wait(&mut self) -> bool {
        if self.over {
            return true;
        }
        let pause = async {
            tokio::time::sleep(PAUSE_MIN).await;
            tokio::select! {
                changed = self.news.changed() => if changed.is_err() {
                    tokio::time::sleep(POLL_INTERVAL).await;
                },
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        };
        tokio::select! {
            () = self.app.draining.cancelled() => false,
            () = tokio::time::sleep_until(self.until) => false,
            () = pause => true,
        }
    }

    async fn look(&mut self) -> Result<OperationEvents> {
        if self.proven_at.elapsed() >= PROVEN_FOR {
            self.caller = self.app.control.authenticate_again(&self.caller).await?;
            self.proven_at = Instant::now();
        }
        let events = self
            .app
            .control
            .operation_events(&self.caller, self.id, self.after);
        events.await
    }

    fn take_in(&mut self, news: OperationEvents) {
        let quiet = news.events.is_empty();
        for event in news.events {
            self.after = event.sequence;
            let data = serde_json::to_string(&event).expect("an event is plain data");
            let frame = Event::default().event("progress").data(data);
            self.queue.push_back(frame.id(event.sequence.to_string()));
        }
        // The operation and its events are two reads. Only a look that finds nothing new after one
        // that found it over proves that the last event has been told.
        let over_before = self.over;
        self.over = is_over(news.operation.spec.phase);
        if over_before && self.over && quiet {
            let data = serde_json::to_string(&news.operation).expect("a view is plain data");
            self.queue
                .push_back(Event::default().event("end").data(data));
            self.ended = true;
        }
    }
}

/// Nothing more happens by itself: it has ended, or a person must decide.
fn is_over(phase: OperationPhase) -> bool {
    phase.is_final() || phase == OperationPhase::NeedsAttention
}
