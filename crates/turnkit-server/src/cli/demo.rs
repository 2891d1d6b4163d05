//! `turnkit demo`

mod evidence;
mod stage;
mod story;

use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use humantime::parse_duration;

use self::story::Story;
use super::End;

/// Run one turn over real HTTP, cut its connection in the middle, take it up again, and check what came of it.
///
/// A server, a substrate and an agent are started on free loopback ports, with a database in a temporary directory. A first
/// client starts a turn and drops its connection after a few lines, then comes back with its cursor. A second client reads
/// the same turn without being disturbed. At the end the two are compared byte for byte, the substrate is asked how often
/// the agent ran, and the message is read back from the database. If anything is not as it should be, the exit code is 1.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The message to send.
    #[arg(
        long,
        value_name = "TEXT",
        env = "TURNKIT_DEMO_MESSAGE",
        default_value = "What happens if I lose the connection?"
    )]
    message: String,
    /// Cut the connection after this many lines; the shortest answer has about 50.
    #[arg(long, value_name = "LINES", env = "TURNKIT_DEMO_CUT_AFTER", default_value_t = 9, value_parser = at_least_one())]
    cut_after: u64,
    /// Pause of the agent before each event.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_DEMO_PACE", default_value = "40ms", value_parser = parse_duration)]
    pace: Duration,
    /// Print one JSON object with the result of each check instead.
    #[arg(long, env = "TURNKIT_JSON")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  turnkit demo
  turnkit demo --cut-after 30 --message 'Tell me something long'
  turnkit demo --json | jq .ok

Exit codes: 0 everything is as it should be; 1 something is not; 2 wrong usage;
141 nobody reads the output any more.";

fn at_least_one() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

pub(super) async fn run(options: Options) -> Result<End, anyhow::Error> {
    let mut story = Story::new(options.json);
    let evidence = stage::play(&options, &mut story).await?;
    let checks = evidence.checks();
    story.verdict(&evidence, &checks)?;
    Ok(if checks.iter().all(|check| check.holds) { End::Done } else { End::Failed })
}
