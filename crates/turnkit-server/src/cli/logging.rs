//! The log: to standard error, without texts of users and without tokens.

use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};
use turnkit_wire::text;

use super::terminal::wants_color;
use crate::stderr::Lines;

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

/// How long a process that ends waits for its last lines to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of a process, and what else is told of it; to be finished last of all.
pub(super) struct Logging {
    lines: Lines,
    #[cfg(feature = "otel")]
    telemetry: Option<super::telemetry::Telemetry>,
}

/// What is wrong stands in the message alone: as a source it would be told twice.
#[derive(Debug, thiserror::Error)]
#[error("read the log level `{0}`: {1}")]
pub(super) struct InvalidLevel(String, tracing_subscriber::filter::ParseError);

#[derive(Debug, thiserror::Error)]
#[error("start the thread that writes the log")]
struct NoThread(#[source] io::Error);

/// Sets the log up for this process.
pub(super) fn start(options: &Options, is_server: bool) -> Result<Logging, anyhow::Error> {
    let default = if is_server { "info" } else { "warn" };
    let level = options.log_level.clone().or_else(|| std::env::var("RUST_LOG").ok());
    let level = level.unwrap_or_else(|| default.to_owned());
    let filter = level.parse::<Targets>().map_err(|error| InvalidLevel(level, error))?;
    let lines = Lines::start().map_err(NoThread)?;
    let log = layer(options.log_format, lines.clone()).with_filter(filter);
    if is_server {
        panic::set_hook(Box::new(log_panic));
    }
    #[cfg(feature = "otel")]
    {
        let telemetry = super::telemetry::Telemetry::from_environment()?;
        let spans = telemetry.as_ref().map(super::telemetry::Telemetry::layer);
        tracing_subscriber::registry().with(log).with(spans).try_init()?;
        Ok(Logging { lines, telemetry })
    }
    #[cfg(not(feature = "otel"))]
    {
        tracing_subscriber::registry().with(log).try_init()?;
        if std::env::var_os(ENDPOINT).is_some() {
            tracing::warn!(
                "{ENDPOINT} is set, but this turnkit is built without OpenTelemetry; one that has it: cargo build --release --features otel"
            );
        }
        Ok(Logging { lines })
    }
}

impl Logging {
    /// Sends and writes what was not yet.
    pub(super) fn finish(&self) {
        #[cfg(feature = "otel")]
        if let Some(telemetry) = &self.telemetry {
            telemetry.finish();
        }
        self.lines.flush(LAST_LINES);
    }
}

fn layer(format: Format, lines: Lines) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    match format {
        Format::Text => layer.with_ansi(wants_color(io::stderr().is_terminal())).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// A task that panics says so in the log. The standard library would write it to standard error, and wait for whoever reads that.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let why = payload.downcast_ref::<&str>().copied();
    let why = why.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let at = panic.location().map(tracing::field::display);
    tracing::error!(at, why = why.map(text::message).as_deref(), "panicked");
}
