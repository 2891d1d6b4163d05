//! The command line: `turnkit serve`, `substrate`, `chat` and `demo`.

mod agents;
mod arguments;
mod chat;
mod client;
mod demo;
mod drawing;
mod follow;
mod logging;
mod serve;
mod signals;
mod substrate;
mod terminal;

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Chat turns that lose nothing: whatever breaks between a browser and an agent, the agent runs once and the answer is saved.
#[derive(Parser)]
#[command(name = "turnkit", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    logging: logging::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Options),
    Serve(serve::Options),
    Substrate(substrate::Options),
    Chat(chat::Options),
}

const EXAMPLES: &str = "\
Examples:
  turnkit demo                     see what it does, in three seconds
  turnkit serve                    open http://127.0.0.1:8787 in a browser
  turnkit chat 'Tell me a story'   talk to it in the terminal

Exit codes: 0 done; 1 failed; 2 wrong usage; 130 stopped by Ctrl-C;
141 nobody reads the output any more (as after SIGPIPE).
Every option can also be set by the environment variable beside it. NO_COLOR turns colours off.";

/// How a command ended.
enum End {
    /// As it should.
    Done,
    /// Not as it should; what there is to say has been said.
    Failed,
    /// By the user.
    Interrupted,
}

impl From<End> for ExitCode {
    fn from(end: End) -> ExitCode {
        match end {
            End::Done => ExitCode::SUCCESS,
            End::Failed => ExitCode::FAILURE,
            End::Interrupted => ExitCode::from(130),
        }
    }
}

/// Runs the command line with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    match parse().and_then(|Cli { logging, command }| start(&logging, command)) {
        Ok(end) => end.into(),
        Err(error) if is_unread(&error) => ExitCode::from(141),
        Err(error) if error.is::<clap::Error>() || error.is::<Misuse>() => misused(&error),
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Cli, anyhow::Error> {
    let mut cli = Cli::command();
    cli.build();
    let arguments = arguments::spread(std::env::args_os(), &cli);
    let matches = Cli::command().try_get_matches_from(arguments)?;
    Ok(Cli::from_arg_matches(&matches)?)
}

fn start(logging: &logging::Options, command: Command) -> Result<End, anyhow::Error> {
    logging::start(logging, command.is_server())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(command.run())
}

impl Command {
    async fn run(self) -> Result<End, anyhow::Error> {
        match self {
            Command::Demo(options) => demo::run(options).await,
            Command::Serve(options) => serve::run(options).await,
            Command::Substrate(options) => substrate::run(options).await,
            Command::Chat(options) => chat::run(options).await,
        }
    }

    /// Whether it tells its story in the log.
    fn is_server(&self) -> bool {
        matches!(self, Command::Serve(_) | Command::Substrate(_))
    }
}

/// Whether it ended only because the reader of its output did, who has nothing to be told.
fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(terminal::WriteError::is_unread)
}

/// Options that are right one by one, and not together.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Misuse {
    kind: ErrorKind,
    message: String,
}

impl Misuse {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Misuse {
        Misuse { kind, message: message.into() }
    }
}

/// Says it as the parser of the command line does, which also says what was asked for: help, a version.
fn misused(error: &anyhow::Error) -> ExitCode {
    let told = match (error.downcast_ref::<clap::Error>(), error.downcast_ref::<Misuse>()) {
        (Some(error), _) => (error.print(), error.exit_code()),
        (_, Some(misuse)) => {
            let error = Cli::command().error(misuse.kind, &misuse.message);
            (error.print(), error.exit_code())
        }
        (None, None) => return ExitCode::FAILURE,
    };
    // Where nobody can be told, the code still says it.
    let (_, code) = told;
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// `turnkit: failed to …: why: why`
fn complain(error: &(dyn Error + 'static)) {
    let mut message = format!("turnkit: failed to {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        message.push_str(": ");
        message.push_str(&source.to_string());
        cause = source.source();
    }
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", terminal::harmless(&message));
}
