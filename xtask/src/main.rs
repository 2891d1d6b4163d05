//! The workspace's own commands: `cargo xtask --help`.

mod beside;
mod browser;
mod chaos;
mod codec;
mod front_ends;
mod fuzz;
mod mutants;
mod no_std;
mod programs;
mod run;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The commands that developers and CI run on this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  cargo xtask test               everything that must pass before a commit
  cargo xtask codec --accept     take the codec's changed snapshots
  cargo xtask bench wire         the codec beside its peers, one table
  cargo xtask sim --seeds 1000   a thousand simulated worlds, with a summary
  cargo xtask load --turns 500   500 turns at once, each at 20 events a second
  cargo xtask load --pending 10000  what so many runs take that wait for an answer
  cargo xtask chaos --seconds 60  a minute of faults on real processes over Redis and PostgreSQL
  cargo xtask mutants --only pipe  is each line of the pipe tested?
  cargo xtask fuzz --seconds 60  each fuzz target for a minute";

#[derive(Subcommand)]
enum Command {
    /// Run everything: format, lints, tidy, tests, the page in a browser, documentation, the `no_std` proof
    Test(test::Args),
    /// What CI runs: `test`, then the demo
    Ci,
    /// Run the codec's snapshot tests, show the snapshots, and review those that changed
    Codec(codec::Args),
    /// Check dependency arrows, documentation and citations
    Tidy,
    /// Prove that turnkit-wire, turnkit-id and turnkit-ui need no std
    NoStd,
    /// Resolve turnkit-chat beside sqlx and diesel, which link SQLite as well
    Beside,
    /// Print a layer's table, ours beside public peers on the same bytes
    #[command(disable_help_flag = true)]
    Bench(run::Args),
    /// Run the simulation of client, product, substrate and agent under faults
    #[command(disable_help_flag = true)]
    Sim(run::Args),
    /// Run 2,000 turns at once through a release build of the server, and print what they cost
    #[command(disable_help_flag = true)]
    Load(run::Args),
    /// Let faults happen to real processes over Redis and PostgreSQL, and check every promise
    #[command(disable_help_flag = true)]
    Chaos(run::Args),
    /// Break the engine's rules one by one, and want a test to fail for each (needs cargo-mutants)
    Mutants(mutants::Args),
    /// Test the page in a real browser (needs node and Chromium)
    Browser,
    /// Test turns in the published clients of the AI SDK, AG-UI and TanStack AI (needs node)
    FrontEnds,
    /// Take the pictures in docs/screenshots anew (needs node and Chromium)
    Screenshots,
    /// Fuzz the codec (needs cargo-fuzz and a nightly toolchain)
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Test(args) => test::run(&args),
        Command::Ci => test::ci(),
        Command::Codec(args) => codec::run(&args),
        Command::Tidy => tidy::run(),
        Command::NoStd => no_std::run(),
        Command::Beside => beside::run(),
        Command::Bench(args) => run::bench(&args),
        Command::Sim(args) => run::sim(&args),
        Command::Load(args) => run::load(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Browser => browser::test(),
        Command::FrontEnds => front_ends::test(),
        Command::Screenshots => browser::screenshots(),
        Command::Fuzz(args) => fuzz::run(&args),
    }
}
