//! What is put under load, each as processes of its own: `serve` of the product, and the relays that it is measured beside.

use std::{
    fs,
    io::{self, Write as _},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process},
};
use serde::Serialize;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use turnkit_agents::demo::Demo;
use turnkit_http::server::listener::ConnectionLimits;
use turnkit_server::{Agents, ServerConfig, SubstrateChoice};
use turnkit_substrate::{Limits, MemoryLog, Substrate};

use crate::{agent::Dated, relay};

/// How long turns have when a server is told to end: by then there are none.
const GRACE: Duration = Duration::from_secs(5);
/// More of everything than this tool asks for.
const MANY: usize = 32_768;

/// What answers the turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    /// `turnkit serve` with its substrate within.
    Serve,
    /// `turnkit serve` and `turnkit substrate`, two processes.
    Apart,
    /// A route in axum that makes its lines, sends them and keeps nothing.
    Axum,
    /// The same in Node.
    Node,
    /// `turnkit substrate` alone.
    Substrate,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Serve, Kind::Apart, Kind::Axum, Kind::Node];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Serve => "`serve`",
            Kind::Apart => "`serve` and `substrate` apart",
            Kind::Axum => "a bare relay in axum",
            Kind::Node => "a bare relay in Node",
            Kind::Substrate => "`substrate`",
        }
    }
}

/// A process that this tool starts of itself. It writes its URL on standard output, and ends at SIGTERM.
#[derive(Subcommand)]
pub(crate) enum Role {
    /// The product's server
    #[command(hide = true)]
    Serve(ServeArgs),
    /// A substrate
    #[command(hide = true)]
    Substrate(Pace),
    /// A relay in axum
    #[command(hide = true)]
    Relay(Pace),
}

#[derive(Args)]
pub(crate) struct Pace {
    /// Pause of each agent before each event
    #[arg(long, value_parser = humantime::parse_duration)]
    pace: Duration,
    /// Agents wait for answers to what they ask
    #[arg(long)]
    asks: bool,
}

#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pace: Pace,
    /// Where its database is
    #[arg(long)]
    data_dir: PathBuf,
    /// A substrate elsewhere
    #[arg(long)]
    substrate: Option<String>,
}

/// Does what this process is for.
pub(crate) async fn play(role: Role) -> Result<()> {
    let mut told = signal(SignalKind::terminate())?;
    match role {
        Role::Serve(args) => {
            let substrate = match args.substrate {
                Some(url) => SubstrateChoice::At { url, token: None },
                None => SubstrateChoice::Embedded(Agents::new("demo", agent(&args.pace))),
            };
            let listen = (Ipv4Addr::LOCALHOST, 0).into();
            let mut config = ServerConfig::new(listen, args.data_dir, substrate);
            (config.limits, config.max_turns) = (limits(), MANY);
            let server = turnkit_server::Server::start(config).await?;
            ready(&server.url())?;
            told.recv().await;
            server.stop(GRACE).await;
        }
        Role::Substrate(pace) => {
            let log = MemoryLog::new(limits());
            let substrate = Substrate::builder().agent("demo", agent(&pace)).default_agent("demo");
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            ready(&format!("http://{}", listener.local_addr()?))?;
            substrate
                .log(log)
                .build()?
                .serve(listener, async move {
                    told.recv().await;
                })
                .await?;
        }
        Role::Relay(pace) => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            ready(&format!("http://{}", listener.local_addr()?))?;
            let serving = axum::serve(listener, relay::router(pace.pace).await?);
            tokio::select! {
                served = serving.into_future() => served?,
                _ = told.recv() => {}
            }
        }
    }
    Ok(())
}

fn agent(pace: &Pace) -> Dated {
    Dated { demo: Demo::new().pace(pace.pace), asks: pace.asks }
}

fn limits() -> Limits {
    Limits {
        bytes_per_scope: 4 << 30,
        bytes_in_all: 4 << 30,
        running_per_scope: MANY,
        running_in_all: MANY,
        connection: ConnectionLimits { connections: MANY, ..ConnectionLimits::default() },
        ..Limits::default()
    }
}

fn ready(url: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{url}")
}

/// Those processes, on free ports, with a folder of their own.
pub(crate) struct Servers {
    processes: Vec<Child>,
    /// The address that clients know.
    pub(crate) url: String,
    before: Usage,
    folder: TempDir,
}

/// What processes have used.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    /// At most, and of each process for itself.
    pub(crate) peak_memory_kib: u64,
    /// Now.
    pub(crate) resident_memory_kib: u64,
}

impl Servers {
    pub(crate) async fn start(kind: Kind, pace: Duration) -> Result<Self> {
        Self::start_with(kind, pace, false).await
    }

    /// The same, with an agent that asks and waits.
    pub(crate) async fn start_asking(kind: Kind) -> Result<Self> {
        Self::start_with(kind, Duration::from_millis(1), true).await
    }

    async fn start_with(kind: Kind, pace: Duration, asks: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut servers =
            Self { processes: Vec::new(), url: String::new(), before: Usage::default(), folder };
        let micros = format!("{}us", pace.as_micros());
        let role = |name: &str| {
            let mut command = Command::new("/proc/self/exe");
            command.args([name, "--pace", &micros]);
            command.args(asks.then_some("--asks"));
            command
        };
        let serve = |folder: &Path| {
            let mut command = role("serve");
            command.arg("--data-dir").arg(folder);
            command
        };
        match kind {
            Kind::Serve => servers.add(serve(servers.folder.path())).await?,
            Kind::Substrate => servers.add(role("substrate")).await?,
            Kind::Apart => {
                servers.add(role("substrate")).await?;
                let mut serve = serve(servers.folder.path());
                serve.arg("--substrate").arg(&servers.url);
                servers.add(serve).await?;
            }
            Kind::Axum => servers.add(role("relay")).await?,
            Kind::Node => {
                let (script, lines) =
                    (servers.folder.path().join("relay.mjs"), servers.folder.path().join("lines"));
                fs::write(&script, include_str!("relay.mjs"))?;
                fs::write(&lines, relay::lines().await?.join("\n"))?;
                let mut node = Command::new("node");
                node.arg(script).arg(lines).arg(pace.as_secs_f64().to_string());
                servers.add(node).await.context("this row needs Node")?;
            }
        }
        servers.before = servers.used()?;
        Ok(servers)
    }

    async fn add(&mut self, mut command: Command) -> Result<()> {
        let mut process = command
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server")?;
        let stdout = process.stdout.take().context("the server has a standard output")?;
        let url = BufReader::new(stdout).lines().next_line().await?;
        self.url = url.context("the server did not start")?;
        self.processes.push(process);
        Ok(())
    }

    /// What they have used since they were ready.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let (before, now) = (self.before, self.used()?);
        Ok(Usage {
            user_seconds: now.user_seconds - before.user_seconds,
            system_seconds: now.system_seconds - before.system_seconds,
            peak_memory_kib: now.peak_memory_kib.saturating_sub(before.peak_memory_kib),
            resident_memory_kib: now.resident_memory_kib.saturating_sub(before.resident_memory_kib),
        })
    }

    /// How many files and connections each of them has open.
    pub(crate) fn open_files(&self) -> Result<Vec<usize>> {
        let of = |process: &Child| {
            let id = process.id().context("a server has ended")?;
            Ok(fs::read_dir(format!("/proc/{id}/fd"))?.count())
        };
        self.processes.iter().map(of).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds, for people")]
    pub(crate) fn used(&self) -> Result<Usage> {
        let mut all = Usage::default();
        for process in &self.processes {
            let id = process.id().context("a server has ended")?;
            let status = fs::read_to_string(format!("/proc/{id}/status"))?;
            let kib = |name: &str| -> Result<u64> {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                let kib = line.and_then(|kib| kib.trim().strip_suffix(" kB"));
                Ok(kib.with_context(|| format!("no {name}"))?.parse()?)
            };
            let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
            // The name of the program stands in parentheses and may hold spaces.
            let mut ticks =
                stat.rsplit_once(") ").context("no process name")?.1.split(' ').skip(11);
            let mut seconds = || -> Result<f64> {
                let ticks: u64 = ticks.next().context("no CPU time")?.parse()?;
                Ok(ticks as f64 / clock_ticks_per_second() as f64)
            };
            all.user_seconds += seconds()?;
            all.system_seconds += seconds()?;
            all.peak_memory_kib += kib("VmHWM:")?;
            all.resident_memory_kib += kib("VmRSS:")?;
        }
        Ok(all)
    }

    /// Asks them to end, those that clients know first, and wants them to end well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        while let Some(mut process) = self.processes.pop() {
            let id = process.id().context("a server has ended")?;
            let id = Pid::from_raw(id.try_into()?).context("no process has the id 0")?;
            kill_process(id, Signal::TERM)?;
            let status = process.wait().await?;
            ensure!(status.success(), "a server ended with {status}");
        }
        Ok(())
    }
}
