//! From the end of a span to the collector: a bounded queue and one task that empties it.
//!
//! The SDK's own batch processor runs on a thread without an asynchronous runtime, which the HTTP
//! client needs, and tells nobody how much it drops. This one is a channel: the end of a span costs
//! one attempt to put it there, and whatever does not arrive is counted by reason in
//! `freehold_trace_spans_dropped_total`.

use std::time::Duration;

use freehold_api::client;
use metrics::{counter, describe_counter};
use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{Span, SpanData, SpanExporter as _, SpanProcessor},
};
use reqwest::Url;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::wording;
use crate::{
    failure::{Failure, Outcome},
    settings::TraceSettings,
};

/// Spans sent together at most.
const BATCH: usize = 512;
/// How long a batch may take on its way, repetitions included.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long a process that ends waits for the collector.
const FINISH_LIMIT: Duration = Duration::from_secs(3);

const SENT: &str = "freehold_trace_spans_sent_total";
const DROPPED: &str = "freehold_trace_spans_dropped_total";

/// The client that posts batches. It is the one library that Freehold's own client uses.
pub(super) fn client(address: &Url) -> Outcome<reqwest::Client> {
    let failed = |e: reqwest::Error| Failure::failed("traces cannot be sent").because(&e);
    client::http(address, None)?
        .timeout(SEND_LIMIT)
        .build()
        .map_err(failed)
}

/// Takes spans that have ended.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() || wording::is_unnamed(&span) {
            return;
        }
        if self.0.try_send(span).is_err() {
            dropped("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task that empties the queue.
pub(super) struct Sending {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Sending {
    pub(super) async fn finish(mut self) {
        self.stop.cancel();
        if timeout(FINISH_LIMIT, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::debug!("the last spans were not taken by the collector in time");
        }
    }
}

pub(super) fn start(exporter: SpanExporter, settings: &TraceSettings) -> (Queue, Sending) {
    describe_counter!(SENT, "Spans that the collector of traces has taken.");
    describe_counter!(
        DROPPED,
        "Spans that were not told: the queue was full, or the collector did not take them."
    );
    let (sender, spans) = mpsc::channel(settings.queue_spans.max(1));
    let stop = CancellationToken::new();
    let shipping = Shipping {
        exporter,
        spans,
        delay: settings.delay,
        stop: stop.clone(),
        is_away: false,
    };
    let task = tokio::spawn(shipping.run());
    (Queue(sender), Sending { task, stop })
}

struct Shipping {
    exporter: SpanExporter,
    spans: mpsc::Receiver<SpanData>,
    /// How long the first span of a batch waits for others.
    delay: Duration,
    stop: CancellationToken,
    /// Whether the collector did not take the last batch: said once, and once more when it is back.
    is_away: bool,
}

impl Shipping {
    async fn run(mut self) {
        let stop = self.stop.clone();
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                () = stop.cancelled() => break,
                received = self.spans.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
            }
            self.fill(&mut batch).await;
            self.send(batch).await;
        }
        // Nothing is accepted any more; what is there goes out.
        self.spans.close();
        let mut batch = Vec::new();
        while self.spans.recv_many(&mut batch, BATCH).await > 0 {
            self.send(std::mem::take(&mut batch)).await;
        }
    }

    /// Waits for more, so that a busy server sends a few large batches and not many small ones.
    async fn fill(&mut self, batch: &mut Vec<SpanData>) {
        let until = Instant::now() + self.delay;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep_until(until) => return,
                received = self.spans.recv_many(batch, room) => {
                    if received == 0 {
                        return;
                    }
                }
            }
        }
    }

    async fn send(&mut self, mut batch: Vec<SpanData>) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        batch.iter_mut().for_each(wording::translate);
        let sent = timeout(SEND_LIMIT, self.exporter.export(batch)).await;
        let failure = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(OTelSdkError::Timeout(SEND_LIMIT)),
        };
        match failure {
            None => {
                counter!(SENT).increment(count);
                if std::mem::take(&mut self.is_away) {
                    tracing::info!("the collector of traces takes spans again");
                }
            }
            Some(error) => {
                dropped("not_taken", count);
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(%error, "the collector of traces does not take spans; they are dropped until it does");
                }
            }
        }
    }
}

fn dropped(reason: &'static str, count: u64) {
    counter!(DROPPED, "reason" => reason).increment(count);
}
