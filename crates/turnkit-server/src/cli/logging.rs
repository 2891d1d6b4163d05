//! The log: to standard error, without texts of users and without tokens.

use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::{ParseError, Targets};
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
pub(super) struct InvalidLevel(String, String);

#[derive(Debug, thiserror::Error)]
#[error("start the thread that writes the log")]
struct NoThread(#[source] io::Error);

/// Sets the log up for this process.
pub(super) fn start(options: &Options, is_server: bool) -> Result<Logging, anyhow::Error> {
    let default = if is_server { "info" } else { "warn" };
    let level = options.log_level.clone().or_else(|| std::env::var("RUST_LOG").ok());
    let filter = filter(&level.unwrap_or_default(), default)?;
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

/// What a log tells: levels, each alone or of one target. Nothing between two commas says nothing.
fn filter(level: &str, default: &str) -> Result<Targets, InvalidLevel> {
    let invalid = |why: &str| InvalidLevel(level.to_owned(), why.to_owned());
    if level.contains('[') {
        return Err(invalid("spans and their fields cannot be named, targets can: turnkit=debug"));
    }
    let said = level.split(',').map(str::trim).filter(|said| !said.is_empty());
    let said = said.collect::<Vec<_>>().join(",");
    let said = if said.is_empty() { default } else { &said };
    said.parse().map_err(|error: ParseError| invalid(&error.to_string()))
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

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_level_is_that_of_all_or_of_targets_and_nothing_is_taken_for_silence() {
        let tells = |level: &str, target: &str, at: Level| {
            filter(level, "info").unwrap().would_enable(target, &at)
        };
        for level in ["", ",", "info", "info,", " info , ", "hyper=trace,info"] {
            assert!(tells(level, "turnkit", Level::INFO), "{level:?}");
            assert!(!tells(level, "turnkit", Level::DEBUG), "{level:?}");
        }
        assert!(tells("turnkit=debug,hyper=info", "turnkit::turns", Level::DEBUG));
        assert!(!tells("turnkit=debug,hyper=info", "hyper", Level::DEBUG));
        for level in ["a=b=c", "turnkit[turn]=debug", "turnkit[{id=1}]"] {
            assert!(filter(level, "info").is_err(), "{level:?}");
        }
    }
}
