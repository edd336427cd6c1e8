//! Traces: what this process does, told to a collector by OTLP over HTTP.
//!
//! Spans are `tracing` spans of Freehold's own crates. The crates that make them do not know of
//! OpenTelemetry: they say who asked for the work through `freehold_model::trace`, and the recorder
//! turns that into parents. A request continues its caller's trace; an operation continues that of
//! the request which asked for it, in whichever process it is driven; a reconciler's pass begins one.
//!
//! Nothing here may slow or fail the work that is told about: spans go into a bounded queue without
//! waiting, and are dropped and counted when it is full or the collector is away.
//!
//! What leaves is spans' names and fields and the warnings and errors within them: what the log says
//! too, and so no secret. Metrics stay with Prometheus and logs with standard error.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "otel")]
mod queue;
#[cfg(feature = "otel")]
mod wording;

#[cfg(not(feature = "otel"))]
pub(crate) use absent::Traces;
#[cfg(feature = "otel")]
pub(crate) use export::Traces;
