//! Traces as a collector receives them, and what a collector that is away changes: nothing.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;

use crate::plant::{Plant, Serving, database, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// What an exporter posts, kept as it came.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<(HeaderMap, Bytes)>>>);

struct Collector {
    url: String,
    received: Received,
    /// Ends the collector when it is dropped.
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let received = Received::default();
        let app = Router::new()
            .route("/v1/traces", post(receive))
            .with_state(received.clone());
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            url,
            received,
            _runtime: runtime,
        }
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let received = self.received.0.lock().unwrap();
        received
            .iter()
            .map(|(_, body)| ExportTraceServiceRequest::decode(body.clone()).unwrap())
            .collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|it| it.resource_spans);
        resources
            .flat_map(|it| it.scope_spans)
            .flat_map(|it| it.spans)
            .collect()
    }

    fn wait_for(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        until(what, || self.spans().into_iter().find(&is_it))
    }
}

async fn receive(State(received): State<Received>, headers: HeaderMap, body: Bytes) {
    received.0.lock().unwrap().push((headers, body));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn words(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let word = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes
        .iter()
        .filter_map(|pair| {
            let value = pair.value.as_ref()?.value.as_ref()?;
            Some((pair.key.as_str(), word(value)))
        })
        .collect()
}

fn serve(plant: &Plant, variables: &[(&str, &str)]) -> Serving {
    plant.serve_with("127.0.0.1:0", "data", &[], variables)
}

/// One number that Prometheus would read.
fn metric(serving: &Serving, name: &str) -> f64 {
    let mut connection = TcpStream::connect(serving.address()).unwrap();
    connection
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: freehold\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find(|line| line.starts_with(name));
    line.map_or(0.0, |line| {
        line.rsplit(' ').next().unwrap().parse().unwrap()
    })
}

#[test]
fn a_request_and_the_operation_that_it_caused_are_in_the_trace_of_the_caller() {
    let collector = Collector::start();
    let plant = Plant::new();
    let serving = serve(
        &plant,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=a-key"),
            ("OTEL_SERVICE_NAME", "databases"),
        ],
    );
    plant.apply(&serving, &plant.platform());
    let manifest = plant.write("orders.yaml", &database("orders"));
    let mut apply = plant.client(&serving, &["apply", "--wait", "-f"]);
    apply
        .arg(manifest)
        .env("TRACEPARENT", format!("00-{TRACE}-{CALLER}-01"));
    crate::plant::said(&mut apply).ok();
    let password = plant.variable(&serving, "orders", "PGPASSWORD");

    let request = collector.wait_for("the request", |span| {
        hex(&span.parent_span_id) == CALLER && span.name.starts_with("POST /v1/")
    });
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(request.kind(), SpanKind::Server);
    let said = words(&request.attributes);
    assert_eq!(said["http.request.method"], "POST");
    assert_eq!(format!("POST {}", said["http.route"]), request.name);
    assert_eq!(said["http.response.status_code"], "200");
    assert!(said.contains_key("freehold.request_id"), "{said:?}");
    assert!(said.contains_key("enduser.id"), "{said:?}");

    let operation = collector.wait_for("the operation", |span| {
        span.name == "operation provision" && hex(&span.trace_id) == TRACE
    });
    assert_eq!(operation.parent_span_id, request.span_id);
    assert_eq!(operation.kind(), SpanKind::Consumer);
    let said = words(&operation.attributes);
    let listed = plant
        .ask(&serving, &["operation", "list", "-o", "name"])
        .ok();
    assert!(listed.contains(&said["freehold.operation"]), "{listed}");
    assert!(said["freehold.target"].contains("orders"), "{said:?}");
    let step = collector.wait_for("a step", |span| {
        span.name.starts_with("step provision ") && hex(&span.trace_id) == TRACE
    });
    assert_eq!(step.parent_span_id, operation.span_id);
    assert!(words(&step.attributes).contains_key("freehold.outcome"));

    // A pass of a reconciler is nobody's work, and begins a trace.
    let pass = collector.wait_for("a pass", |span| span.name == "visit databases");
    assert!(pass.parent_span_id.is_empty() && hex(&pass.trace_id) != TRACE);
    let visit = collector.wait_for("a visit", |span| span.name == "visit database");
    assert!(words(&visit.attributes)["freehold.database"].contains("orders"));

    assert!(metric(&serving, "freehold_trace_spans_sent_total") > 0.0);
    serving.stop();
    everything_is_told_by_whom_it_should_and_nothing_secret(&collector, &plant, &password);
}

fn everything_is_told_by_whom_it_should_and_nothing_secret(
    collector: &Collector,
    plant: &Plant,
    password: &str,
) {
    for request in collector.requests() {
        for told in request.resource_spans {
            let resource = told.resource.unwrap();
            let said = words(&resource.attributes);
            assert_eq!(said["service.name"], "databases");
            assert!(said.contains_key("service.instance.id"), "{said:?}");
        }
    }
    let watched = ["/metrics", "/readyz", "/healthz"];
    for span in collector.spans() {
        assert!(!watched.iter().any(|path| span.name.ends_with(path)));
        assert_ne!(span.name, "request");
    }
    let token = fs::read_to_string(plant.path("data/bootstrap-token")).unwrap();
    let token = token.trim().rsplit('_').next().unwrap().to_owned();
    let secrets = [token.as_str(), password, plant.pg.superuser_password()];
    for (headers, body) in &*collector.received.0.lock().unwrap() {
        assert_eq!(headers["x-collector-key"], "a-key");
        for secret in secrets {
            assert!(secret.len() >= 16, "no real secret");
            let found = body.windows(secret.len()).any(|it| it == secret.as_bytes());
            assert!(!found, "a secret was told to the collector");
        }
    }
}

#[test]
fn what_has_gathered_is_sent_when_the_server_stops() {
    let collector = Collector::start();
    let plant = Plant::new();
    // A flag says where to; nothing is sent for an hour.
    let flags = ["--traces-endpoint", &collector.url];
    let hour = [("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let serving = plant.serve_with("127.0.0.1:0", "data", &flags, &hour);
    plant.ask(&serving, &["get", "environments"]).ok();
    assert!(collector.spans().is_empty());
    serving.stop();
    let spans = collector.spans();
    assert!(
        spans.iter().any(|span| span.name.starts_with("GET /v1/")),
        "{spans:?}"
    );
}

/// One collector refuses connections; another takes them and never answers.
#[test]
fn a_collector_that_is_away_changes_nothing_and_what_it_misses_is_counted() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silence = format!("http://{}", silent.local_addr().unwrap());
    for (url, reason) in [(nobody, "not_taken"), (silence, "queue_full")] {
        let plant = Plant::new();
        let serving = serve(
            &plant,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
                ("OTEL_BSP_SCHEDULE_DELAY", "1"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
            ],
        );
        plant.apply(&serving, &plant.platform());
        plant.apply(&serving, &database("orders"));
        plant.variable(&serving, "orders", "PGDATABASE");
        let name = format!("freehold_trace_spans_dropped_total{{reason=\"{reason}\"}}");
        until(&name, || (metric(&serving, &name) > 0.0).then_some(()));
        serving.stop();
    }
}

#[test]
fn a_collector_that_cannot_be_one_is_refused_at_the_start_without_its_password() {
    let plant = Plant::new();
    let config = plant.write(
        "traces.toml",
        "[server.traces]\nendpoint = 'http://ana:hunter2@collector:4318'\n",
    );
    let config = config.to_str().unwrap();
    let said = crate::plant::said(&mut plant.command(&["serve", "--config", config]));
    assert_eq!(said.code(), 2, "{said:?}");
    assert!(said.err.contains("the collector's address"), "{said:?}");
    assert!(!said.err.contains("hunter2"), "{said:?}");
}
