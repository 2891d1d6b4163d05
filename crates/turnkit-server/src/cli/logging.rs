//! The log: to standard error, without texts of users and without tokens.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::terminal::wants_color;

/// What stands over the options that every command has, below those of its own.
pub(super) const HEADING: &str = "For every command";

#[derive(Args)]
pub(super) struct Options {
    /// What to log to standard error: error, warn, info, debug or trace, or a filter like `turnkit=debug,hyper=info`.
    /// Without it `RUST_LOG` counts, then info for servers and warn for others.
    #[arg(long, value_name = "LEVEL", env = "TURNKIT_LOG_LEVEL", global = true, help_heading = HEADING)]
    log_level: Option<String>,
    /// How a line of the log looks: for people, or one JSON object each.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "TURNKIT_LOG_FORMAT",
        default_value = "text",
        global = true,
        help_heading = HEADING
    )]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[cfg(not(feature = "otel"))]
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The log of a process, and what else is told of it; to be finished last of all.
pub(super) struct Logging {
    #[cfg(feature = "otel")]
    telemetry: Option<super::telemetry::Telemetry>,
}

/// What is wrong stands in the message alone: as a source it would be told twice.
#[derive(Debug, thiserror::Error)]
#[error("read the log level `{0}`: {1}")]
pub(super) struct InvalidLevel(String, tracing_subscriber::filter::ParseError);

/// Sets the log up for this process.
pub(super) fn start(options: &Options, is_server: bool) -> Result<Logging, anyhow::Error> {
    let default = if is_server { "info" } else { "warn" };
    let level = options.log_level.clone().or_else(|| std::env::var("RUST_LOG").ok());
    let level = level.unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&level).map_err(|error| InvalidLevel(level, error))?;
    let log = lines(options.log_format).with_filter(filter);
    #[cfg(feature = "otel")]
    {
        let telemetry = super::telemetry::Telemetry::from_environment()?;
        let spans = telemetry.as_ref().map(super::telemetry::Telemetry::layer);
        tracing_subscriber::registry().with(log).with(spans).try_init()?;
        Ok(Logging { telemetry })
    }
    #[cfg(not(feature = "otel"))]
    {
        tracing_subscriber::registry().with(log).try_init()?;
        if std::env::var_os(ENDPOINT).is_some() {
            tracing::warn!(
                "{ENDPOINT} is set, but this turnkit is built without OpenTelemetry; one that has it: cargo build --release --features otel"
            );
        }
        Ok(Logging {})
    }
}

impl Logging {
    /// Sends what has not been sent yet.
    #[cfg_attr(
        not(feature = "otel"),
        expect(clippy::unused_self, reason = "a log alone keeps nothing back")
    )]
    pub(super) fn finish(&self) {
        #[cfg(feature = "otel")]
        if let Some(telemetry) = &self.telemetry {
            telemetry.finish();
        }
    }
}

fn lines(format: Format) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        Format::Text => lines.with_ansi(wants_color(io::stderr().is_terminal())).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    }
}
