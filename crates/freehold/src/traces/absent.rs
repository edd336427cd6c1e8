//! Traces in a program that was built without them: a collector that is asked for is refused, so that
//! nobody waits for spans that never come.

use tracing_subscriber::{Layer, Registry};

use crate::{
    failure::{Failure, Outcome},
    settings::TraceSettings,
};

pub(crate) enum Traces {}

impl Traces {
    pub(crate) fn start(settings: &TraceSettings, _: &str) -> Outcome<Self> {
        let message = format!("traces cannot be sent to {}", settings.endpoint);
        Err(Failure::usage(message).hint(
            "This program was built without the feature `otel`; name no collector, or set \
             OTEL_SDK_DISABLED=true.",
        ))
    }

    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        match *self {}
    }

    pub(crate) async fn stop(self) {
        match self {}
    }
}
