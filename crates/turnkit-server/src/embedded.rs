//! A substrate inside this process, on a loopback port of its own.

mod transport;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use turnkit_http::server::listener::ConnectionLimits;
use turnkit_sandbox::{SandboxClient, SandboxClientBuilder};
use turnkit_substrate::{Limits, Substrate};

use crate::agents::Agents;
use crate::log::LogChoice;
use crate::random;
use crate::server::StartError;

/// What still runs when it is told to stop has had the product's grace.
const GRACE: Duration = Duration::ZERO;

/// A substrate that only this process knows how to talk to.
pub(crate) struct Embedded {
    pub(crate) substrate: Substrate,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Embedded {
    /// Starts it on a free port, with a random token.
    pub(crate) async fn start(agents: Agents, log: &LogChoice) -> Result<Embedded, StartError> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bind = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let token = random::secret().map_err(StartError::Random)?;
        let substrate = build(agents, log, &token).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(substrate.clone(), listener, stopped));
        Ok(Embedded { substrate, address, token, stop, serving })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client that asks it without leaving the process.
    pub(crate) fn client(&self) -> SandboxClientBuilder {
        SandboxClient::builder(self.url())
            .bearer_token(self.token.clone())
            .transport(transport::to(self.substrate.router()))
    }

    /// Ends what still runs, lets its readers take how, and waits for both.
    pub(crate) async fn stop(self) {
        // A substrate that has gone already cannot be told, and need not be.
        let _ = self.stop.send(());
        let _ = self.serving.await;
    }
}

async fn build(agents: Agents, log: &LogChoice, token: &str) -> Result<Substrate, StartError> {
    let connection = ConnectionLimits { shutdown: GRACE, ..ConnectionLimits::default() };
    let limits = Limits { connection, ..Limits::default() };
    agents
        .join(Substrate::builder())
        .erased_log(log.open(limits).await?)
        .token("turnkit", token)
        .build()
        .map_err(StartError::Substrate)
}

async fn serve(substrate: Substrate, listener: TcpListener, stopped: oneshot::Receiver<()>) {
    let stopped = async { drop(stopped.await) };
    if let Err(error) = substrate.serve(listener, stopped).await {
        tracing::error!(error = &error as &dyn std::error::Error, "the embedded substrate failed");
    }
}
