//! The server under load, as a process of its own.

use std::{
    env, fs,
    io::{self, Write as _},
    net::Ipv4Addr,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use turnkit_agents::demo::Demo;
use turnkit_server::{Agents, ServerConfig, SubstrateChoice};

use crate::agent::Dated;

/// How long turns have when the server is told to end: by then there are none.
const GRACE: Duration = Duration::from_secs(5);

/// How the server is run.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Pause of each agent before each event
    #[arg(long, value_parser = humantime::parse_duration)]
    pace: Duration,
    /// Where its database is
    #[arg(long)]
    data_dir: PathBuf,
}

/// What `turnkit serve` is made of, with an agent whose events say when they were made. Ends at SIGTERM.
pub(crate) async fn serve(args: ServeArgs) -> Result<()> {
    let agents = Agents::new("demo", Dated(Demo::new().pace(args.pace)));
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let config = ServerConfig::new(listen, args.data_dir, SubstrateChoice::Embedded(agents));
    let mut told = signal(SignalKind::terminate())?;
    let server = turnkit_server::Server::start(config).await?;
    writeln!(io::stdout(), "{}", server.url())?;
    told.recv().await;
    server.stop(GRACE).await;
    Ok(())
}

/// That process, on a free port, with a database of its own.
pub(crate) struct Server {
    process: Child,
    url: String,
    _data: TempDir,
}

/// What the process has used.
pub(crate) struct Usage {
    pub(crate) peak_memory_kib: u64,
    pub(crate) cpu_seconds: f64,
}

impl Server {
    pub(crate) async fn start(pace: Duration) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut process = Command::new(env::current_exe()?)
            .args(["serve", "--pace", &format!("{}us", pace.as_micros())])
            .arg("--data-dir")
            .arg(data.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server")?;
        let stdout = process.stdout.take().context("the server has a standard output")?;
        let url = BufReader::new(stdout).lines().next_line().await?;
        let url = url.context("the server did not start")?;
        Ok(Self { process, url, _data: data })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds, for people")]
    pub(crate) fn usage(&self) -> Result<Usage> {
        let id = self.process.id().context("the server has ended")?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name of the program stands in parentheses and may hold spaces.
        let fields = stat.rsplit_once(") ").context("no process name")?.1.split(' ');
        let ticks: Vec<u64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Usage {
            peak_memory_kib: peak.context("no VmHWM")?.parse()?,
            cpu_seconds: ticks.iter().sum::<u64>() as f64 / clock_ticks_per_second() as f64,
        })
    }

    /// Asks it to end, and wants it to end well.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let id = self.process.id().context("the server has ended")?;
        let id = Pid::from_raw(id.try_into()?).context("no process has the id 0")?;
        kill_process(id, Signal::TERM)?;
        let status = self.process.wait().await?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}
