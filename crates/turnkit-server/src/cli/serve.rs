//! `turnkit serve`

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use humantime::parse_duration;
use turnkit_substrate::agents::demo::Demo;

use super::End;
use super::signals::Signals;
use super::terminal::{Screen, Written};
use crate::{Agents, Server, ServerConfig, SubstrateChoice};

/// How long running turns may go on once the server is told to stop.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// Serve the chat page and its routes.
///
/// Without --substrate the agent runs in this process, behind a substrate on a loopback port of its own. Its log of running
/// turns is in memory: it survives clients, not the server. Messages are kept in the data directory.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// Address to listen on: a loopback address; port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS", env = "TURNKIT_LISTEN", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Directory of the database; made where it is missing.
    #[arg(long, value_name = "DIR", env = "TURNKIT_DATA_DIR", default_value = "turnkit-data")]
    data_dir: PathBuf,
    /// Base URL of another substrate to run agents at.
    #[arg(long, value_name = "URL", env = "TURNKIT_SUBSTRATE", conflicts_with_all = ["log", "agent", "demo_pace"])]
    substrate: Option<String>,
    /// Bearer token for --substrate. Better set by the environment: other users can see a command line.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TURNKIT_SUBSTRATE_TOKEN",
        hide_env_values = true,
        requires = "substrate"
    )]
    substrate_token: Option<String>,
    #[command(flatten)]
    embedded: AgentOptions,
}

/// The agent of a substrate, and its log.
#[derive(Args)]
pub(super) struct AgentOptions {
    /// Where the logs of running turns are kept.
    #[arg(long, value_name = "STORE", env = "TURNKIT_LOG", default_value = "memory")]
    log: LogStore,
    /// The agent that answers.
    #[arg(long, value_name = "AGENT", env = "TURNKIT_AGENT", default_value = "demo")]
    agent: AgentKind,
    /// Pause of the demo agent before each event, such as 50ms.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_DEMO_PACE", default_value = "50ms", value_parser = parse_duration)]
    demo_pace: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogStore {
    Memory,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AgentKind {
    Demo,
}

impl AgentOptions {
    /// The agent that was chosen.
    pub(super) fn agent(&self) -> Demo {
        let (LogStore::Memory, AgentKind::Demo) = (self.log, self.agent);
        Demo::new().pace(self.demo_pace)
    }
}

const EXAMPLES: &str = "\
Examples:
  turnkit serve
  turnkit serve --listen 127.0.0.1:0 --data-dir /var/lib/turnkit
  turnkit serve --substrate http://127.0.0.1:8788

SIGTERM and Ctrl-C let running turns finish, for up to 30 s; a second Ctrl-C does not wait.";

pub(super) async fn run(options: Options) -> Result<End, anyhow::Error> {
    let mut signals = Signals::listen()?;
    let server = Server::start(options.config()).await?;
    ready(&server.url())?;
    signals.next().await;
    tracing::info!("stopping: running turns may finish");
    Ok(unless_asked_again(server.stop(GRACE), &mut signals).await)
}

impl Options {
    fn config(self) -> ServerConfig {
        let substrate = match self.substrate {
            Some(url) => SubstrateChoice::At { url, token: self.substrate_token },
            None => SubstrateChoice::Embedded(Agents::new("demo", self.embedded.agent())),
        };
        ServerConfig::new(self.listen, self.data_dir, substrate)
    }
}

/// The line that scripts wait for.
pub(super) fn ready(url: &str) -> Written {
    Screen::stdout().text(format_args!("turnkit listening on {url}\n"))
}

/// Who asks twice does not want to wait.
pub(super) async fn unless_asked_again(
    stopping: impl Future<Output = ()>,
    signals: &mut Signals,
) -> End {
    tokio::select! {
        () = stopping => End::Done,
        () = signals.next() => End::Interrupted,
    }
}
