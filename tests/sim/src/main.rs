//! Runs simulated worlds: many with a summary, or one with its whole story.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, builder::PossibleValuesParser};
use indicatif::{ProgressBar, ProgressStyle};
use turnkit_sim::{
    Bug, Report, Story,
    runner::{self, Summary},
    simulate,
};

/// Tries the promise of exactly once in simulated worlds (PROTOCOL 4.3).
///
/// Example: turnkit-sim --seeds 1000
#[derive(Parser)]
#[command(name = "turnkit-sim")]
struct Arguments {
    /// How many worlds to run
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    seeds: u64,
    /// The seed of the first of them
    #[arg(long, value_name = "K", default_value_t = 0)]
    from: u64,
    /// Run this world alone, and tell everything that happens in it
    #[arg(long, value_name = "K", conflicts_with_all = ["seeds", "from", "jobs", "json", "keep_going"])]
    seed: Option<u64>,
    /// How many threads; by default one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Plant this bug, to see it found
    #[arg(long, value_parser = PossibleValuesParser::new(Bug::ALL.map(Bug::name)))]
    bug: Option<String>,
    /// Go on after a world that breaks a promise
    #[arg(long)]
    keep_going: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let bug = arguments
        .bug
        .as_deref()
        .and_then(|name| Bug::ALL.into_iter().find(|bug| bug.name() == name));
    match arguments.seed {
        Some(seed) => tell(seed, bug),
        None => run(&arguments, bug),
    }
}

/// One world, with everything that happens in it.
fn tell(seed: u64, bug: Option<Bug>) -> io::Result<ExitCode> {
    let report = simulate(seed, bug).map_err(io::Error::other)?;
    writeln!(io::stdout(), "{}", Story(&report))?;
    Ok(code(report.violations.is_empty()))
}

fn run(arguments: &Arguments, bug: Option<Bug>) -> io::Result<ExitCode> {
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    let jobs = arguments.jobs.or_else(|| thread::available_parallelism().ok().map(usize::from));
    let (bar, started) = (progress(arguments.seeds), Instant::now());
    let (mut summary, mut first) = (Summary::default(), None);
    runner::all(seeds, jobs.unwrap_or(1), bug, |seed, outcome| {
        summary.add(seed, &outcome);
        bar.inc(1);
        let is_broken = summary.violations.contains_key(&seed);
        if is_broken && first.is_none() {
            first = outcome.ok();
        }
        arguments.keep_going || !is_broken
    });
    bar.finish_and_clear();
    show(arguments, &summary, started.elapsed())?;
    explain(&summary, first.as_ref(), bug)?;
    Ok(code(summary.violations.is_empty()))
}

fn code(is_kept: bool) -> ExitCode {
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn progress(seeds: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_bar} {pos}/{len} worlds, {per_sec}, {eta} to go");
    let bar = ProgressBar::new(seeds);
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

fn show(arguments: &Arguments, summary: &Summary, took: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, summary)?;
        return writeln!(out);
    }
    let (seeds, took) = (summary.seeds, took.as_secs_f64());
    let rate = runner::per_second(seeds, Duration::from_secs_f64(took));
    writeln!(
        out,
        "{seeds} worlds in {took:.1} s ({rate:.0} a second), {:.1} h simulated",
        summary.simulated_s / 3600.0
    )?;
    let counts = [
        ("turns", summary.turns),
        ("runs of the agent", summary.runs),
        ("events in logs", summary.events),
        ("lines to clients", summary.lines),
        ("connections", summary.connections),
    ];
    table(&mut out, "what there was", counts)?;
    table(
        &mut out,
        "how turns ended",
        summary.endings.iter().map(|(ending, count)| (ending.as_str(), *count)),
    )?;
    table(
        &mut out,
        "faults that struck",
        summary.faults.iter().map(|(kind, count)| (*kind, *count)),
    )?;
    writeln!(out, "\nviolations: {}", summary.violations.len())
}

fn table<'a>(
    out: &mut impl io::Write,
    title: &str,
    rows: impl IntoIterator<Item = (&'a str, u64)>,
) -> io::Result<()> {
    writeln!(out, "\n{title}")?;
    rows.into_iter().try_for_each(|(name, count)| writeln!(out, "  {name:<36} {count:>12}"))
}

/// Says what was broken, with the schedule of the first world, and how to see it again.
fn explain(summary: &Summary, first: Option<&Report>, bug: Option<Bug>) -> io::Result<()> {
    let mut out = io::stderr().lock();
    for (seed, broken) in &summary.violations {
        broken.iter().try_for_each(|broken| writeln!(out, "seed {seed}: {broken}"))?;
    }
    if let Some(report) = first {
        let bug = bug.map(|bug| format!(" --bug {bug}")).unwrap_or_default();
        write!(out, "\n{}", report.plan)?;
        writeln!(out, "\nto see it again: cargo xtask sim --seed {}{bug}", report.plan.seed)?;
    }
    Ok(())
}
