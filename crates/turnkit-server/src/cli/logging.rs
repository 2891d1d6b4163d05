//! The log: to standard error, without texts of users and without tokens.

use std::io::{self, IsTerminal as _};

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::terminal::wants_color;

#[derive(Args)]
pub(super) struct Options {
    /// What to log to standard error: error, warn, info, debug or trace, or a filter like `turnkit=debug,hyper=info`.
    /// Without it `RUST_LOG` counts, then info for servers and warn for others.
    #[arg(long, value_name = "LEVEL", env = "TURNKIT_LOG_LEVEL", global = true)]
    log_level: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("read the log level `{0}`")]
struct InvalidLevel(String, #[source] tracing_subscriber::filter::ParseError);

/// Sets the log up for this process.
pub(super) fn start(options: &Options, is_server: bool) -> Result<(), anyhow::Error> {
    let default = if is_server { "info" } else { "warn" };
    let level = options.log_level.clone().or_else(|| std::env::var("RUST_LOG").ok());
    let level = level.unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&level).map_err(|error| InvalidLevel(level, error))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(wants_color(io::stderr().is_terminal()))
        .try_init()
        .map_err(anyhow::Error::from_boxed)
}
