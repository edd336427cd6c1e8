//! Spans on their way out of this process, and the parents that they are given.

use freehold_model::trace::{self, Role, TraceParent};
use opentelemetry::{
    Context, KeyValue,
    trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        TracerProvider as _,
    },
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider, trace::SpanExporter as _};
use reqwest::Url;
use tracing::{Level, Metadata, Span, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, Registry, filter::FilterFn};

use super::queue;
use crate::{
    failure::{Failure, Outcome},
    settings::TraceSettings,
};

/// Spans on their way to a collector.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    sending: queue::Sending,
}

impl Traces {
    /// Begins to send to the collector, which need not be there yet. `instance` is this server's name
    /// among several.
    pub(crate) fn start(settings: &TraceSettings, instance: &str) -> Outcome<Self> {
        let address = address(&settings.endpoint)?;
        let refuse = |e: &(dyn std::error::Error + 'static)| {
            Failure::usage("traces cannot be sent as configured")
                .because(e)
                .hint("docs/configuration.md lists the settings of traces.")
        };
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(queue::client(&address)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address.as_str())
            .build()
            .map_err(|e| refuse(&e))?;
        let resource = resource(settings, instance);
        exporter.set_resource(&resource);
        let (processor, sending) = queue::start(exporter, settings);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        trace::record_with(Box::new(Continuing));
        Ok(Self { provider, sending })
    }

    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let tracer = self.provider.tracer("freehold");
        let ours = FilterFn::new(is_told).with_max_level_hint(LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
            .boxed()
    }

    /// Sends what has gathered, if the collector takes it within a moment.
    pub(crate) async fn stop(self) {
        self.sending.finish().await;
    }
}

/// Freehold's own spans, and what went wrong within them. The client that sends them is not ours and
/// would tell of itself for ever.
fn is_told(metadata: &Metadata<'_>) -> bool {
    let level = if metadata.is_span() {
        Level::INFO
    } else {
        Level::WARN
    };
    metadata.target().starts_with("freehold") && *metadata.level() <= level
}

/// Where spans are posted to. The address is shown in messages, so it holds no password.
fn address(endpoint: &str) -> Outcome<Url> {
    let refuse = |why: &str| {
        Failure::usage(format!("the collector's address {why}")).hint(
            "Write it like http://127.0.0.1:4318; headers go into OTEL_EXPORTER_OTLP_HEADERS.",
        )
    };
    let url = Url::parse(endpoint).map_err(|e| refuse("cannot be read").because(&e))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refuse("is not one of http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("holds a user or a password"));
    }
    Ok(url)
}

/// Who tells: the standard variables (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`) are read by the
/// builder and win over what stands here.
fn resource(settings: &TraceSettings, instance: &str) -> Resource {
    let mut ours = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ];
    if let Some(name) = &settings.service_name {
        ours.push(KeyValue::new("service.name", name.clone()));
    }
    Resource::builder().with_attributes(ours).build()
}

/// Gives spans the parents that the rest of Freehold names.
struct Continuing;

impl trace::Recorder for Continuing {
    fn current(&self) -> Option<TraceParent> {
        let context = Span::current().context();
        let span = context.span();
        let span = span.span_context();
        let text = format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        );
        // Outside of every span all of it is zeros, which is no parent.
        TraceParent::parse(&text)
    }

    fn begin(&self, span: &Span, role: Role, name: &str, within: Option<&TraceParent>) {
        span.record("otel.name", name);
        let kind = match role {
            Role::Server => "server",
            Role::Consumer => "consumer",
            Role::Internal => "internal",
        };
        span.record("otel.kind", kind);
        if let Some(parent) = within.and_then(remote) {
            // Refused only for a span that is filtered out or has been entered: then it has no
            // parent, and the work goes on.
            let _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
    }
}

fn remote(parent: &TraceParent) -> Option<SpanContext> {
    let mut parts = parent.as_str().split('-').skip(1);
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    Some(SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_may_be_shown() {
        assert!(address("http://127.0.0.1:4318/v1/traces").is_ok());
        for bad in ["", "collector:4317", "grpc://c:4317", "http://u:hunter2@c"] {
            let failure = address(bad).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }

    #[test]
    fn a_parent_from_elsewhere_keeps_its_ids_and_its_choice_of_being_recorded() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let context = remote(&TraceParent::parse(text).unwrap()).unwrap();
        assert!(context.is_remote() && context.is_valid() && !context.is_sampled());
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
    }
}
