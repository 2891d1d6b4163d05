//! The command line: `turnkit serve`, `substrate`, `chat` and `demo`.

mod agents;
mod arguments;
mod chat;
mod config;
mod demo;
mod drawing;
mod limits;
mod logging;
mod open_files;
mod questions;
mod serve;
mod signals;
mod steering;
mod substrate;
#[cfg(feature = "otel")]
mod telemetry;
mod terminal;
mod tokens;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use turnkit_client::BuildError as ClientError;
use turnkit_sandbox::BuildError;

use self::config::{Config, ConfigError};
use crate::StartError;

/// Chat turns that lose nothing: whatever breaks between a browser and an agent, the agent runs once and the answer is saved.
#[derive(Parser)]
#[command(name = "turnkit", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    logging: logging::Options,
    /// File with options by their long names, in TOML. The command line and the environment go before it.
    #[arg(long, value_name = "FILE", env = config::VARIABLE, global = true, help_heading = logging::HEADING)]
    config: Option<PathBuf>,
    /// Print the options that hold, as such a file, and end.
    #[arg(long, env = "TURNKIT_PRINT_CONFIG", global = true, help_heading = logging::HEADING)]
    print_config: bool,
    /// Check the options, the file and all that they name, and end. Nothing is sent, and nothing is started.
    #[arg(long, env = "TURNKIT_CHECK", global = true, help_heading = logging::HEADING)]
    check: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Options),
    Serve(Box<serve::Options>),
    Substrate(Box<substrate::Options>),
    Chat(chat::Options),
}

const EXAMPLES: &str = "\
Examples:
  turnkit demo                     see what it does, in three seconds
  turnkit serve                    open http://127.0.0.1:8787 in a browser
  turnkit chat 'Tell me a story'   talk to it in the terminal

Exit codes: 0 done; 1 failed; 2 wrong usage; 130 stopped by Ctrl-C;
141 nobody reads the output any more (as after SIGPIPE).
Every option can also be set by the environment variable beside it, or in a file: --config. NO_COLOR turns colours off.";

/// How a command ended.
enum End {
    /// As it should.
    Done,
    /// Not as it should; what there is to say has been said.
    Failed,
    /// By the user.
    Interrupted,
    /// An agent asks, and nobody is there to answer.
    Unanswered,
}

impl From<End> for ExitCode {
    fn from(end: End) -> ExitCode {
        match end {
            End::Done => ExitCode::SUCCESS,
            End::Failed => ExitCode::FAILURE,
            End::Interrupted => ExitCode::from(130),
            End::Unanswered => ExitCode::from(3),
        }
    }
}

/// Runs the command line with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    match parse().and_then(|cli| cli.map_or(Ok(End::Done), start)) {
        Ok(end) => end.into(),
        Err(error) if is_unread(&error) => ExitCode::from(141),
        Err(error) if error.is::<clap::Error>() || error.is::<Misuse>() => misused(&error),
        Err(error) => {
            complain(&*error);
            if is_of_an_option(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// The command line over the configuration file; `None` where it asked for what holds, and was told.
fn parse() -> Result<Option<Cli>, anyhow::Error> {
    let cli = Cli::command();
    let arguments = arguments::spread(std::env::args_os(), &cli);
    let config = load(&arguments, &cli)?;
    let matches = matches(cli, &arguments, config.as_ref())?;
    let mut parsed = Cli::from_arg_matches(&matches)?;
    if let (Command::Serve(options), Some((_, matches))) =
        (&mut parsed.command, matches.subcommand())
    {
        options.settle_database(matches)?;
    }
    if !parsed.print_config {
        if let (Some((name, agents)), Some(mut config)) = (parsed.command.agents(), config) {
            agents.set_file(config.take_agents(), |option| config.said(name, option));
        }
        return Ok(Some(parsed));
    }
    let mut cli = Cli::command();
    cli.build();
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = cli.find_subcommand(name)
    {
        let mut screen = terminal::Screen::stdout();
        config::print(command, matches, config.as_ref()).try_for_each(|line| screen.line(line))?;
    }
    Ok(None)
}

/// The configuration file, if one is named. Who asks for help is not told what is wrong in it instead.
fn load(arguments: &[OsString], cli: &clap::Command) -> Result<Option<Config>, anyhow::Error> {
    let Some(path) = config::path(arguments) else {
        return Ok(None);
    };
    let wrong = match Config::load(&path, cli) {
        Ok(config) => return Ok(Some(config)),
        Err(wrong) => wrong,
    };
    match cli.clone().try_get_matches_from(arguments) {
        Err(asked) if !asked.use_stderr() => Err(asked.into()),
        _ => Err(wrong.into()),
    }
}

fn matches(
    cli: clap::Command,
    arguments: &[OsString],
    config: Option<&Config>,
) -> Result<ArgMatches, anyhow::Error> {
    let Some(config) = config else {
        return Ok(cli.try_get_matches_from(arguments)?);
    };
    let refused = match config.apply(cli.clone()).try_get_matches_from(arguments) {
        Ok(matches) => return Ok(matches),
        Err(refused) => refused,
    };
    let command = arguments.iter().find_map(|argument| cli.find_subcommand(argument));
    let command = command.map(|command| command.get_name().to_owned()).unwrap_or_default();
    // What is right without the file is wrong in the file.
    match cli.try_get_matches_from(arguments) {
        Ok(_) => Err(config.blame(&command, &refused).map_or_else(|| refused.into(), Into::into)),
        Err(refused) => Err(refused.into()),
    }
}

fn start(cli: Cli) -> Result<End, anyhow::Error> {
    if cli.check {
        let mut screen = terminal::Screen::stdout();
        screen.line(cli.command.check()?)?;
        return Ok(End::Done);
    }
    let logging = logging::start(&cli.logging, cli.command.is_server())?;
    tracing::debug!(file = ?cli.config, "configured");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let end = runtime.block_on(cli.command.run());
    // Its tasks end with it, and their spans with them.
    drop(runtime);
    logging.finish();
    end
}

impl Command {
    async fn run(self) -> Result<End, anyhow::Error> {
        match self {
            Command::Demo(options) => demo::run(options).await,
            Command::Serve(options) => serve::run(*options).await,
            Command::Substrate(options) => substrate::run(*options).await,
            Command::Chat(options) => chat::run(options).await,
        }
    }

    /// The options of its agents, where it has any.
    fn agents(&mut self) -> Option<(&'static str, &mut agents::AgentOptions)> {
        match self {
            Command::Serve(options) => Some(("serve", options.agents())),
            Command::Substrate(options) => Some(("substrate", options.agents())),
            Command::Demo(_) | Command::Chat(_) => None,
        }
    }

    /// Whether it could start: what it would do then, in a line.
    fn check(self) -> Result<String, anyhow::Error> {
        match self {
            Command::Serve(options) => options.checked(),
            Command::Substrate(options) => options.checked(),
            Command::Demo(_) | Command::Chat(_) => Ok("the options are right".to_owned()),
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

/// Whether an option's value is wrong in itself, wherever it came from.
fn is_of_an_option(error: &anyhow::Error) -> bool {
    use BuildError::{BaseUrl, Token};

    let substrate = error.downcast_ref().and_then(|error| match error {
        StartError::Client(unusable) => Some(unusable),
        _ => None,
    });
    error.is::<ConfigError>()
        || error.is::<logging::InvalidLevel>()
        || matches!(error.downcast_ref(), Some(ClientError::Url(_) | ClientError::Token(_)))
        || matches!(substrate, Some(BaseUrl(_) | Token(_)))
        || matches!(error.downcast_ref(), Some(turnkit_substrate::BuildError::Token { .. }))
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
    let _ = writeln!(io::stderr(), "{}", terminal::in_line(&message));
}
