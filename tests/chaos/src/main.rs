//! Real processes under random faults: `cargo xtask chaos`.
//!
//! Three substrates over one Redis, two servers over one database, a balancer before each, clients with cursors; and every second something
//! is killed, stopped, cut or started anew. When it is over, what every client was told is held against the database and against what
//! the agents have written down of their own runs (PROTOCOL 4.3).
#![expect(clippy::print_stdout, reason = "it prints what it found")]

mod agent;
mod audit;
mod balancer;
mod check;
mod clients;
mod faults;
mod handover;
mod plant;
mod stage;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use futures_util::future::join_all;
use tokio::{
    runtime::Runtime,
    time::{Instant, interval, timeout},
};
use turnkit_client::Client;

use self::{
    check::REST,
    plant::Bug,
    stage::{Database, Stage},
};

/// Lets faults happen to real processes for a while, and then looks whether every promise was kept.
///
/// Exits with 1 where one was broken, and keeps all logs then.
#[derive(Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Args {
    /// For how long something goes wrong every second
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What goes wrong, and what clients do; a random one where none is given. Processes have their own time, so a seed repeats what was
    /// done and not what came of it
    #[arg(long)]
    seed: Option<u64>,
    /// Clients, each with a session of its own
    #[arg(long, default_value_t = 40)]
    clients: u64,
    /// Where servers keep their turns
    #[arg(long, value_enum, default_value = "postgres")]
    database: Database,
    /// A mistake between the servers and PostgreSQL, which is to be found
    #[arg(long, value_enum, value_name = "BUG")]
    plant: Option<Bug>,
    /// The program turnkit, with its features `command`, `postgres` and `redis`
    #[arg(long, value_name = "PATH")]
    turnkit: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// What substrates run for each turn
    #[command(hide = true)]
    Agent { runs: PathBuf },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.role {
        Some(Role::Agent { runs }) => agent::run(runs),
        None => Runtime::new().map_err(Into::into).and_then(|it| it.block_on(chaos(&args))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn chaos(args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("seed {seed}");
    ensure!(
        args.plant.is_none() || args.database == Database::Postgres,
        "a mistake can be planted before PostgreSQL alone"
    );
    let turnkit = args.turnkit.as_deref().context("which program? --turnkit PATH says it")?;
    let mut stage = Stage::set(turnkit, args.database, args.plant).await?;
    let found = make(args, seed, &mut stage).await;
    if let Ok(0) = found {
        return Ok(());
    }
    let logs = stage.keep();
    let violations = found.with_context(|| format!("go on; all logs: {}", logs.display()))?;
    bail!("{violations} violations; all logs: {}", logs.display())
}

/// Does it all, prints what came of it, and gives the number of violations.
async fn make(args: &Args, seed: u64, stage: &mut Stage) -> Result<usize> {
    let url = format!("http://{}", stage.before_servers.address);
    let client = Client::builder(&url).build()?;
    handover::serves(&client).await?;
    audit::begin(stage);

    let until = Instant::now() + Duration::from_secs(args.seconds);
    let ended = Arc::<AtomicUsize>::default();
    let clients = (0..args.clients).map(|number| {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        tokio::spawn(clients::run(url.clone(), seed, until, Arc::clone(&ended)))
    });
    let clients = clients.collect::<Vec<_>>();
    let count = Arc::clone(&ended);
    let telling = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(10));
        loop {
            let left = until.saturating_duration_since(ticks.tick().await).as_secs();
            eprintln!("{left} s to go: {} turns have ended", count.load(Ordering::Relaxed));
        }
    });
    let faults = faults::make(stage, seed, until).await?;
    let mut histories = Vec::new();
    let mut violations = faults.wrong.clone();
    match timeout(REST, join_all(clients)).await {
        Ok(told) => {
            for told in told {
                histories.extend(told??);
            }
        }
        Err(_) => violations.push("a client still waits for the end of its turn".to_owned()),
    }
    telling.abort();
    check::told(&client, &histories, &faults, &mut violations).await;
    violations.extend(audit::found(stage));
    // The rest takes its time, and would find the same.
    if violations.is_empty() {
        violations.extend(handover::take_place(stage).await?);
        violations.extend(audit::found(stage));
        violations.extend(stage.end()?);
    }
    let runs = check::runs(&stage.runs()?, &histories, &faults, &mut violations);
    if let Some(planter) = &stage.planter {
        ensure!(planter.planted() > 0, "the statements of {:?} do not occur any more", args.plant);
    }

    println!("{:6} turns", histories.len());
    let mut ends = BTreeMap::<String, usize>::new();
    for history in &histories {
        *ends.entry(history.end.name()).or_default() += 1;
    }
    for (end, count) in ends {
        println!("{count:12} {end}");
    }
    println!("{:6} runs", runs.count);
    println!("{:12} a second time, after a start that was lost unanswered", runs.again);
    println!("{:6} faults", faults.made.values().sum::<usize>());
    for (fault, count) in &faults.made {
        println!("{count:12} {fault}");
    }
    println!("{:6} violations", violations.len());
    for violation in violations.iter().take(40) {
        println!("  {violation}");
    }
    Ok(violations.len())
}
