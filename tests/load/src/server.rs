//! The server process.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// `turnkit serve` on a free port, with a database of its own.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    _data: TempDir,
}

/// What the process has used.
pub(crate) struct Usage {
    pub(crate) peak_memory_kib: u64,
    pub(crate) cpu_seconds: f64,
}

impl Server {
    pub(crate) async fn start(binary: &Path, pace: Duration) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut process = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--agent", "demo", "--demo-sent-at"])
            .args(["--log-level", "warn"])
            .args(["--demo-pace", &format!("{}us", pace.as_micros())])
            .arg("--data-dir")
            .arg(data.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let stdout = process.stdout.take().context("the server has a standard output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let url =
            line.as_deref().and_then(|line| line.strip_prefix("turnkit listening on http://"));
        let address =
            url.with_context(|| format!("the server did not start: {line:?}"))?.parse()?;
        Ok(Self { process, address, _data: data })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
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
