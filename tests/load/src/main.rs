//! Many turns at once through a real server process: `cargo xtask load`.
//!
//! The server is what `turnkit serve` is made of, with an agent of this tool, which writes into each event when it made it. What
//! lies between that and the arrival at the client here is what the server adds: log, adapter, engine and one socket, and this
//! client's own wait for a core. Both sides read the same clock. With `--beside` the same turns go, in the same run, through a
//! server and a substrate apart, and through the bare relays that people write first. Nothing timed decides a test: the table is
//! for people.
#![expect(clippy::print_stdout, reason = "it prints a table")]

mod agent;
mod client;
mod pending;
mod relay;
mod report;
mod servers;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{runtime, task::LocalSet, time::sleep};
use turnkit_client::Client;

use self::{
    report::{Report, Row},
    servers::{Kind, Role, Servers},
};

/// Starts a server, sends it turns that all run at once, and prints what that cost.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Turns at once
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    turns: u32,
    /// Events a second that the agent of each turn sends
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Time over which the turns start
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    ramp: Duration,
    /// Measure a substrate apart, and bare relays in axum and Node, as well
    #[arg(long)]
    beside: bool,
    /// Measure so many runs that wait for an answer instead, in a substrate, a server, and both apart
    #[arg(long, value_name = "N", conflicts_with_all = ["turns", "rate", "ramp", "beside"], value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pending: Option<u32>,
    /// How long those are looked at
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "pending", value_parser = humantime::parse_duration)]
    rest: Duration,
    /// Print one line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    raise_descriptor_limit(u64::from(args.pending.unwrap_or(args.turns)) + 64)?;
    if let Some(role) = args.role {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_writer(std::io::stderr)
            .init();
        return runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(servers::play(role));
    }
    // One thread: the server is to have the machine.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(pending) = args.pending {
        let report = runtime.block_on(pending::measure(pending, args.rest))?;
        if args.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{report}");
        }
        return Ok(());
    }
    let kinds = if args.beside { &Kind::ALL[..] } else { &Kind::ALL[..1] };
    let mut servers = Vec::new();
    for kind in kinds {
        servers.push(LocalSet::new().block_on(&runtime, load(&args, *kind))?);
    }
    let failed: usize = servers.iter().map(|row| row.errors.len()).sum();
    let report = Report { turns: args.turns, events_per_second_and_turn: args.rate, servers };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    ensure!(failed == 0, "{failed} turns failed");
    Ok(())
}

async fn load(args: &Args, kind: Kind) -> Result<Row> {
    let servers = Servers::start(kind, Duration::from_secs(1) / args.rate).await?;
    let client = Client::builder(&servers.url).build()?;
    let progress = Rc::new(bar(kind, u64::from(args.turns))?);
    let since = Instant::now();
    let mut turns = Vec::new();
    for n in 0..args.turns {
        let (progress, client) = (progress.clone(), client.clone());
        turns.push(tokio::task::spawn_local(async move {
            let taken = client::turn(&client, n).await;
            progress.inc(1);
            taken
        }));
        sleep(args.ramp / args.turns).await;
    }
    let mut taken = Vec::new();
    for turn in turns {
        taken.push(turn.await?);
    }
    progress.finish_and_clear();
    let row = Row::new(kind, taken, since.elapsed(), servers.usage()?);
    servers.stop().await?;
    Ok(row)
}

fn bar(kind: Kind, turns: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos} of {len} turns, {elapsed}")?;
    let bar = ProgressBar::new(turns).with_style(style).with_message(kind.name());
    bar.enable_steady_tick(Duration::from_millis(500));
    Ok(bar)
}

fn raise_descriptor_limit(wanted: u64) -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")?;
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        bail!("{wanted} open files are needed, and the limit is {:?}", limit.maximum);
    }
    Ok(())
}
