//! Metrics for Prometheus: what the server itself records, and whatever the other crates record
//! through the `metrics` facade. Labels are routes and statuses, never names of teams or databases.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use freehold_model::{Error, Result};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const REQUESTS: &str = "freehold_http_requests_total";
const DURATION: &str = "freehold_http_request_seconds";
const OPEN: &str = "freehold_http_requests_open";
const STREAMS: &str = "freehold_http_streams_open";

const BUCKETS_SECONDS: [f64; 12] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0,
];

/// The recorder that `/metrics` shows.
#[derive(Debug, Clone)]
pub struct Telemetry {
    prometheus: PrometheusHandle,
}

impl Telemetry {
    /// Becomes the process's recorder; possible once per process.
    pub fn install() -> Result<Self> {
        let recorder = recorder()?;
        let telemetry = Self {
            prometheus: recorder.handle(),
        };
        metrics::set_global_recorder(recorder)
            .map_err(|e| Error::internal("setting up metrics", e.to_string()))?;
        describe();
        Ok(telemetry)
    }

    /// Shows nothing of the rest of the process: for several servers in one test program.
    pub fn detached() -> Result<Self> {
        Ok(Self {
            prometheus: recorder()?.handle(),
        })
    }

    pub(crate) fn render(&self) -> String {
        self.prometheus.render()
    }

    /// Folds what has gathered since; without it memory grows between scrapes.
    pub(crate) fn upkeep(&self) {
        self.prometheus.run_upkeep();
    }

    #[expect(
        clippy::unused_self,
        reason = "recording goes through the telemetry, wherever it ends"
    )]
    pub(crate) fn request_begins(&self) -> Open {
        Open::begin(OPEN)
    }

    #[expect(
        clippy::unused_self,
        reason = "recording goes through the telemetry, wherever it ends"
    )]
    pub(crate) fn stream_begins(&self) -> Open {
        Open::begin(STREAMS)
    }

    #[expect(
        clippy::unused_self,
        reason = "recording goes through the telemetry, wherever it ends"
    )]
    pub(crate) fn request_ended(
        &self,
        method: &Method,
        route: &str,
        status: StatusCode,
        took: Duration,
    ) {
        let method = known(method).to_owned();
        let route = route.to_owned();
        let status = status.as_str().to_owned();
        counter!(REQUESTS, "method" => method.clone(), "route" => route.clone(), "status" => status)
            .increment(1);
        histogram!(DURATION, "method" => method, "route" => route).record(took.as_secs_f64());
    }
}

/// A client may invent methods; each would be a metric, and a name of a span, of its own.
pub(crate) fn known(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
        _ => "OTHER",
    }
}

/// Counts one more while it lives.
pub(crate) struct Open(&'static str);

impl Open {
    fn begin(name: &'static str) -> Self {
        gauge!(name).increment(1.0);
        Self(name)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1.0);
    }
}

fn recorder() -> Result<metrics_exporter_prometheus::PrometheusRecorder> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_SECONDS)
        .map_err(|e| Error::internal("setting up metrics", e))?;
    Ok(builder.build_recorder())
}

fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by method, route and status.");
    describe_histogram!(
        DURATION,
        "Seconds from a request's arrival to its answer's head."
    );
    describe_gauge!(OPEN, "Requests being answered.");
    describe_gauge!(STREAMS, "Event streams being served.");
}
