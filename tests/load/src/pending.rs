//! Many runs that wait for an answer: what they take while nothing happens.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use turnkit_client::{Client, NewTurn};
use turnkit_wire::kind;

use crate::servers::{Kind, Servers, Usage};

/// What is asked: the demo agent wants to know whether it may.
const MESSAGE: &str = "Please approve";
/// Runs that are started at once.
const AT_ONCE: usize = 32;
/// How long a server has to come to rest once all of them wait.
const SETTLE: Duration = Duration::from_secs(10);

/// The figures, for each kind of server.
#[derive(Serialize)]
pub(crate) struct Report {
    pending: u32,
    rest_seconds: f64,
    servers: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    server: Kind,
    /// Beyond what the processes took when they were ready.
    resident_memory_kib: u64,
    /// While they were at rest.
    cpu_seconds: f64,
    /// Of each process.
    open_files: Vec<usize>,
}

/// Starts each kind of server and this many runs in it, which all wait, and looks at it for as long as `rest`.
pub(crate) async fn measure(pending: u32, rest: Duration) -> Result<Report> {
    let mut servers = Vec::new();
    for kind in [Kind::Substrate, Kind::Serve, Kind::Apart] {
        servers.push(row(kind, pending, rest).await?);
    }
    Ok(Report { pending, rest_seconds: rest.as_secs_f64(), servers })
}

async fn row(kind: Kind, pending: u32, rest: Duration) -> Result<Row> {
    let servers = Servers::start_asking(kind).await?;
    let client = Client::builder(&servers.url).build()?;
    let before = servers.used()?;
    let runs = stream::iter(0..pending).map(|n| {
        let (client, servers) = (client.clone(), &servers);
        async move {
            match kind {
                Kind::Substrate => run(&servers.url, n).await,
                _ => turn(&client, n).await,
            }
        }
    });
    runs.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    sleep(SETTLE).await;
    let began = servers.used()?;
    sleep(rest).await;
    let (now, open_files) = (servers.used()?, servers.open_files()?);
    servers.stop().await?;
    let cpu = |usage: &Usage| usage.user_seconds + usage.system_seconds;
    Ok(Row {
        server: kind,
        resident_memory_kib: now.resident_memory_kib.saturating_sub(before.resident_memory_kib),
        cpu_seconds: cpu(&now) - cpu(&began),
        open_files,
    })
}

/// A turn of the product, until its agent has asked. Then its client leaves.
async fn turn(client: &Client, n: u32) -> Result<()> {
    let session = client.create_session().await.context("open a session")?;
    let turn = NewTurn::new(format!("pending-{n}"), MESSAGE);
    let mut body = client.start(&session, &turn).await.context("start the turn")?;
    while let Some(event) = body.next().await? {
        if event.kind() == kind::INTERACTION {
            return Ok(());
        }
    }
    anyhow::bail!("turn {n} has ended without a question")
}

/// A run of a substrate, until its agent has asked. Then its client leaves.
async fn run(url: &str, n: u32) -> Result<()> {
    let host = url.strip_prefix("http://").context("the substrate's URL")?.trim_end_matches('/');
    let body = format!(r#"{{"identifier":"demo","message":"{MESSAGE}"}}"#);
    let request = format!(
        "POST /agents/run/stream HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         x-execution-id: pending-{n}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(host).await.context("connect to the substrate")?;
    stream.write_all(request.as_bytes()).await?;
    let (mut read, mut chunk) = (Vec::new(), [0; 4_096]);
    while !read.windows(ASKED.len()).any(|window| window == ASKED) {
        let length = stream.read(&mut chunk).await?;
        ensure!(length > 0, "run {n} has ended without a question");
        read.extend_from_slice(&chunk[..length]);
    }
    Ok(())
}

const ASKED: &[u8] = b"event: interaction\n";

impl fmt::Display for Report {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs that wait for an answer, and {} s in which nothing happens\n\n\
             | server | CPU in that time | memory a run | open files |\n|---|--:|--:|--:|",
            self.pending, self.rest_seconds
        )?;
        for Row { server, resident_memory_kib, cpu_seconds, open_files } in &self.servers {
            let memory = *resident_memory_kib as f64 / f64::from(self.pending);
            let open_files: Vec<_> = open_files.iter().map(ToString::to_string).collect();
            writeln!(
                f,
                "| {} | {cpu_seconds:.2} s | {memory:.1} KiB | {} |",
                server.name(),
                open_files.join(", ")
            )?;
        }
        Ok(())
    }
}
