//! Many turns at once through a real server process: `cargo xtask load`.
//!
//! The server is what `turnkit serve` is made of, with an agent of this tool, which writes into each event when it made it. What
//! lies between that and the arrival at the client here is what the server adds: log, adapter, engine and one socket, and this
//! client's own wait for a core. Both sides read the same clock. Nothing timed decides a test: the table is for people.
#![expect(clippy::print_stdout, reason = "it prints a table")]

mod agent;
mod client;
mod report;
mod server;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{runtime, task::LocalSet, time::sleep};
use turnkit_client::Client;

use self::{
    report::Report,
    server::{ServeArgs, Server},
};

/// Starts a server, sends it turns that all run at once, and prints what that cost.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Serve>,
    /// Turns at once
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    turns: u32,
    /// Events a second that the agent of each turn sends
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Time over which the turns start
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    ramp: Duration,
    /// Print one line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Serve {
    /// The process that this tool starts
    #[command(hide = true)]
    Serve(ServeArgs),
}

fn main() -> Result<()> {
    let args = Args::parse();
    raise_descriptor_limit(u64::from(args.turns) + 64)?;
    if let Some(Serve::Serve(args)) = args.command {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_writer(std::io::stderr)
            .init();
        return runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(server::serve(args));
    }
    // One thread: the server is to have the machine.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, load(&args))?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    ensure!(report.errors.is_empty(), "{} of {} turns failed", report.errors.len(), args.turns);
    Ok(())
}

async fn load(args: &Args) -> Result<Report> {
    let mut server = Server::start(Duration::from_secs(1) / args.rate).await?;
    let client = Client::builder(server.url()).build()?;
    let progress = Rc::new(bar(u64::from(args.turns))?);
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
    let report = Report::new(args, taken, since.elapsed(), &server.usage()?);
    server.stop().await?;
    Ok(report)
}

fn bar(turns: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} turns, {elapsed}")?;
    let bar = ProgressBar::new(turns).with_style(style);
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
