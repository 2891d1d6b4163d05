//! Spans to an OpenTelemetry collector, over OTLP and HTTP. The standard `OTEL_…` variables say where to and how; without an
//! endpoint among them nothing is sent.

use std::env;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::registry::LookupSpan;

/// The spans that are on their way; what is left of them is sent by [`finish`](Self::finish).
pub(super) struct Telemetry(SdkTracerProvider);

#[derive(Debug, thiserror::Error)]
#[error("set up the export of spans (see the OTEL_… variables)")]
pub(super) struct Unusable(#[from] ExporterBuildError);

impl Telemetry {
    /// None where no collector is named, or the export is turned off.
    pub(super) fn from_environment() -> Result<Option<Telemetry>, Unusable> {
        if !is_wanted(|name| env::var(name).ok()) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().build()?;
        let resource = Resource::builder();
        let resource = match env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None => resource.with_service_name("turnkit"),
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
        Ok(Some(Telemetry(provider.build())))
    }

    /// Takes the spans of this workspace's crates, from INFO on; no others, and least of all those of the export itself.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let is_ours = filter_fn(|metadata: &Metadata<'_>| metadata.target().starts_with("turnkit"));
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("turnkit"))
            .with_filter(is_ours.and(LevelFilter::INFO))
    }

    /// Sends what is left, for up to 5 s.
    pub(super) fn finish(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last spans may not have been sent");
        }
    }
}

/// By the variables that the standard names.
fn is_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name, value: &str| variable(name).is_some_and(|set| set.eq_ignore_ascii_case(value));
    let is_set = |name| variable(name).is_some_and(|set| !set.is_empty());
    let is_named =
        is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    is_named && !is("OTEL_SDK_DISABLED", "true") && !is("OTEL_TRACES_EXPORTER", "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(variables: &[(&str, &str)]) -> bool {
        is_wanted(|name| {
            let set = variables.iter().find(|(set, _)| *set == name);
            set.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn spans_are_sent_where_a_collector_is_named_and_nobody_says_no() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        assert!(wanted(&[endpoint]));
        assert!(wanted(&[(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://127.0.0.1:4318/v1/traces"
        )]));
        assert!(!wanted(&[]) && !wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
        assert!(!wanted(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(!wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "otlp")]));
    }
}
