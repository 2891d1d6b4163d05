//! `turnkit substrate`

use std::net::SocketAddr;

use clap::Args;
use tokio::sync::oneshot;
use turnkit_http::server::listener;
use turnkit_substrate::{ServeError, Substrate};

use super::End;
use super::agents::AgentOptions;
use super::limits::{LogLimits, ServingLimits};
use super::open_files::raise_open_files;
use super::serve::{address, ready, unless_asked_again};
use super::signals::{Hangups, Signals};

/// Serve a substrate alone: agents behind HTTP, one run and one log for each execution id.
///
/// Without --token it listens on loopback only, and answers whoever reaches it.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// Address to listen on; port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS", env = "TURNKIT_LISTEN", default_value = "127.0.0.1:8788", value_parser = address)]
    listen: SocketAddr,
    /// Bearer token that requests must carry. Better set by the environment: other users can see a command line.
    #[arg(long, value_name = "TOKEN", env = "TURNKIT_SUBSTRATE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    agents: AgentOptions,
    #[command(flatten)]
    serving: ServingLimits,
    #[command(flatten)]
    logs: LogLimits,
}

const EXAMPLES: &str = "\
Examples:
  turnkit substrate
  turnkit substrate --listen 127.0.0.1:9000 --agent command --command python3 agent.py
  turnkit substrate --log redis://127.0.0.1
  curl -N http://127.0.0.1:8788/agents/run/stream -H 'content-type: application/json' \\
      -d '{\"identifier\":\"default\",\"message\":\"hello\"}'

SIGTERM and Ctrl-C let running executions finish, for up to --grace; a second Ctrl-C does not wait.";

#[derive(Debug, thiserror::Error)]
#[error("listen on {0}")]
struct Unavailable(SocketAddr, #[source] std::io::Error);

pub(super) async fn run(options: Options) -> Result<End, anyhow::Error> {
    let mut signals = Signals::listen()?;
    Hangups::listen()?.ignore();
    raise_open_files();
    options.check()?;
    let substrate = options.build().await?;
    let listener = listener::bind(options.listen).await;
    let listener = listener.map_err(|error| Unavailable(options.listen, error))?;
    let url = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving =
        tokio::spawn(async move { substrate.serve(listener, async { drop(stopped.await) }).await });
    ready(&url)?;
    tokio::select! {
        served = &mut serving => return Ok(served?.map(|()| End::Done)?),
        () = signals.next() => {}
    }
    drop(stop);
    tracing::info!("stopping: running executions may finish");
    Ok(unless_asked_again(async { drop(serving.await) }, &mut signals).await)
}

impl Options {
    pub(super) fn agents(&mut self) -> &mut AgentOptions {
        &mut self.agents
    }

    /// Whether it could start, as far as that can be told without starting anything.
    pub(super) fn checked(self) -> Result<String, anyhow::Error> {
        self.check()?;
        self.agents.agents()?;
        self.agents.log()?;
        let agents = self.agents.names().join(", ");
        Ok(format!("the configuration is right; address: {}; agents: {agents}", self.listen))
    }

    /// Before anything is open: serving refuses it as well, but scripts would have read the ready line by then.
    fn check(&self) -> Result<(), ServeError> {
        if self.token.is_none() && !self.listen.ip().is_loopback() {
            return Err(ServeError::NotLoopback { address: self.listen });
        }
        Ok(())
    }

    async fn build(&self) -> Result<Substrate, anyhow::Error> {
        let agents = self.agents.agents()?;
        let log = self.agents.log()?.open(self.logs.with(&self.serving)).await?;
        let builder = agents.join(Substrate::builder()).erased_log(log);
        let builder = match &self.token {
            Some(token) => builder.token("turnkit", token),
            None => builder,
        };
        Ok(builder.build()?)
    }
}
