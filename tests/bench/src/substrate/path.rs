//! Events per second from an agent to whoever reads them, over loopback HTTP: as far as the adapter, and the whole way.

use std::{fmt, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use turnkit::{ExecutionId, Produced, TurnProducer as _};
use turnkit_sandbox::{RunRequest, SandboxClient};
use turnkit_server::{Server, ServerConfig, SubstrateChoice};
use turnkit_wire::ndjson;

use super::{Repeated, SMALL, memory_log, serve, text};

/// Events of one run: small ones, and fewer than an execution may have.
const EVENTS: usize = 90_000;

/// How far the events go.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// Agent, substrate, adapter.
    Adapter,
    /// Agent, substrate, adapter, engine, a client that decodes the lines.
    Whole,
}

impl Way {
    /// The best of some runs, on a runtime of `threads` threads.
    pub(super) fn best(self, threads: usize, passes: usize) -> Result<Speed> {
        let runtime = runtime(threads)?;
        let speeds: Result<Vec<_>> = runtime.block_on(async {
            let agent = Repeated { events: EVENTS, text: text(SMALL) };
            let (_substrate, address) = serve(agent, memory_log()).await?;
            match self {
                Self::Adapter => adapter(address, passes).await,
                Self::Whole => whole(address, passes).await,
            }
        });
        let best = speeds?.into_iter().min_by_key(|speed| speed.took);
        best.context("no pass")
    }
}

/// How long the events of one run took.
#[derive(Clone, Copy)]
pub(super) struct Speed {
    took: Duration,
    processor: Duration,
}

impl Speed {
    async fn of(events: impl Future<Output = Result<usize>>) -> Result<Self> {
        let (start, worked) = (now(ClockId::Monotonic), now(ClockId::ProcessCPUTime));
        let count = events.await?;
        ensure!(count == EVENTS, "{count} events of {EVENTS}");
        Ok(Self {
            took: now(ClockId::Monotonic).saturating_sub(start),
            processor: now(ClockId::ProcessCPUTime).saturating_sub(worked),
        })
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (took, processor) = (self.took.as_secs_f64(), self.processor.as_secs_f64());
        let events = EVENTS as f64;
        let (rate, each) = (events / took / 1e3, processor / events * 1e6);
        write!(f, "{rate:.0} k events/s; {each:.2} µs of CPU each, {:.1} cores", processor / took)
    }
}

async fn adapter(substrate: SocketAddr, passes: usize) -> Result<Vec<Speed>> {
    let client = SandboxClient::builder(format!("http://{substrate}")).build()?;
    let mut speeds = Vec::new();
    for pass in 0..passes {
        let id = ExecutionId::derive("bench", "adapter", pass as u64)?;
        let mut turn = client.run(RunRequest::new(id, "go"));
        let events = async {
            let mut count = 0;
            while let Produced::Event(_) = turn.next().await? {
                count += 1;
            }
            Ok(count)
        };
        speeds.push(Speed::of(events).await?);
    }
    Ok(speeds)
}

async fn whole(substrate: SocketAddr, passes: usize) -> Result<Vec<Speed>> {
    let data_dir = TempDir::new()?;
    let server = Server::start(config(&data_dir, substrate)).await?;
    let client = reqwest::Client::new();
    let mut speeds = Vec::new();
    for _ in 0..passes {
        let session = client.post(format!("{}/api/sessions", server.url())).send().await?;
        let session: serde_json::Value = serde_json::from_slice(&session.bytes().await?)?;
        let session = session["sessionId"].as_str().context("no session")?;
        let turn = format!("{}/api/sessions/{session}/turns", server.url());
        speeds.push(Speed::of(events_of_turn(&client, turn)).await?);
    }
    server.stop(Duration::from_secs(5)).await;
    Ok(speeds)
}

fn config(data_dir: &TempDir, substrate: SocketAddr) -> ServerConfig {
    let substrate = SubstrateChoice::At { url: format!("http://{substrate}"), token: None };
    ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)), data_dir.path(), substrate)
}

/// One turn, read to its end; how many of its lines are the agent's.
async fn events_of_turn(client: &reqwest::Client, turns: String) -> Result<usize> {
    let body = r#"{"turnId":"t","message":"go"}"#;
    let request = client.post(turns).header("content-type", "application/json").body(body);
    let mut lines = request.send().await?.error_for_status()?.bytes_stream();
    let (mut decoder, mut count) = (ndjson::Decoder::new(), 0);
    while let Some(chunk) = lines.next().await {
        decoder.push(chunk?);
        while let Some(event) = decoder.next_event() {
            match event?.kind() {
                "session.run.started" => {}
                "session.run.completed" => return Ok(count),
                "session.run.failed" => bail!("the turn has failed"),
                _ => count += 1,
            }
        }
    }
    bail!("the turn was cut")
}

fn runtime(threads: usize) -> Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(threads).enable_all().build()?)
}

fn now(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}
