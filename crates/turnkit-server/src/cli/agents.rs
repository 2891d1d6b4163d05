//! The agents of `serve` and `substrate`, as the command line says.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use humantime::parse_duration;
use turnkit_agent::ErasedAgent;
use turnkit_agents::demo::Demo;

use super::Misuse;
use crate::{Agents, LogChoice};

/// Where the key of `--agent openai` comes from.
#[cfg(feature = "openai")]
const KEY: &str = "OPENAI_API_KEY";

/// The agents of a substrate, and its log.
#[derive(Args)]
pub(super) struct AgentOptions {
    /// Where the logs of runs are kept: `memory`, or `redis://[user:password@]host[:port][/database]`, which several
    /// servers can share (`rediss://` for TLS). A password is better set by the environment: other users can see a command
    /// line.
    #[arg(
        long,
        value_name = "STORE",
        env = "TURNKIT_LOG",
        hide_env_values = true,
        default_value = "memory"
    )]
    log: String,
    /// Who answers: one or several of these, separated by commas; the first one where nobody is named. Without it, those
    /// that the options below describe, or else demo.
    #[arg(long, value_name = "AGENT", env = "TURNKIT_AGENT", value_delimiter = ',')]
    agent: Vec<AgentKind>,
    /// Pause of the demo agent before each event, such as 50ms.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_DEMO_PACE", default_value = "50ms", value_parser = parse_duration)]
    demo_pace: Duration,
    /// Base URL of an OpenAI-compatible server, such as `https://api.openai.com/v1`. Its key comes from `OPENAI_API_KEY`.
    #[arg(long, value_name = "URL", env = "TURNKIT_OPENAI_BASE_URL")]
    openai_base_url: Option<String>,
    /// Model to ask there.
    #[arg(long, value_name = "MODEL", env = "TURNKIT_OPENAI_MODEL")]
    openai_model: Option<String>,
    /// Program to run for every turn, with its arguments: all words up to the next option of turnkit. One word alone is
    /// split as a shell would; `--command=WORD` adds any word.
    #[arg(long, value_names = ["PROGRAM", "ARGS"], num_args = 1.., env = "TURNKIT_COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AgentKind {
    /// A scripted answer; needs no key and no network
    Demo,
    /// A model: --openai-base-url and --openai-model
    Openai,
    /// A program of yours: --command
    Command,
}

impl AgentKind {
    fn name(self) -> &'static str {
        match self {
            AgentKind::Demo => "demo",
            AgentKind::Openai => "openai",
            AgentKind::Command => "command",
        }
    }
}

impl AgentOptions {
    /// The agents that were chosen, ready to run.
    pub(super) fn agents(&self) -> Result<Agents, anyhow::Error> {
        let named =
            self.kinds().into_iter().map(|kind| Ok((kind.name().to_owned(), self.agent(kind)?)));
        named.collect()
    }

    /// Where the log is kept. The store may hold a password, so it is not repeated.
    pub(super) fn log(&self) -> Result<LogChoice, Misuse> {
        let is_redis = |store: &str| {
            ["redis://", "rediss://", "unix://"].iter().any(|scheme| store.starts_with(scheme))
        };
        match self.log.as_str() {
            "memory" => Ok(LogChoice::Memory),
            #[cfg(feature = "redis")]
            store if is_redis(store) => Ok(LogChoice::Redis(store.to_owned())),
            #[cfg(not(feature = "redis"))]
            store if is_redis(store) => Err(not_built("a log in Redis", "redis")),
            _ => Err(misuse("--log must be memory or redis://host")),
        }
    }

    fn kinds(&self) -> Vec<AgentKind> {
        if !self.agent.is_empty() {
            return self.agent.clone();
        }
        let is_openai = self.openai_base_url.is_some() || self.openai_model.is_some();
        let described =
            [(AgentKind::Openai, is_openai), (AgentKind::Command, !self.command.is_empty())];
        let kinds: Vec<_> =
            described.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind).collect();
        if kinds.is_empty() { vec![AgentKind::Demo] } else { kinds }
    }

    fn agent(&self, kind: AgentKind) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        Ok(match kind {
            AgentKind::Demo => Arc::new(Demo::new().pace(self.demo_pace)),
            AgentKind::Openai => self.openai()?,
            AgentKind::Command => self.command()?,
        })
    }

    #[cfg(feature = "openai")]
    fn openai(&self) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        use turnkit_agents::openai::OpenAi;

        let (Some(url), Some(model)) = (&self.openai_base_url, &self.openai_model) else {
            return Err(misuse(
                "the agent openai needs a server and a model: --openai-base-url URL --openai-model MODEL",
            )
            .into());
        };
        let builder = OpenAi::builder(url, model);
        let key = std::env::var(KEY).ok().filter(|key| !key.is_empty());
        let builder = match key {
            Some(key) => builder.key(key),
            None => builder,
        };
        Ok(Arc::new(builder.build()?))
    }

    #[cfg(not(feature = "openai"))]
    fn openai(&self) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        Err(not_built("the agent openai", "openai").into())
    }

    #[cfg(all(feature = "command", unix))]
    fn command(&self) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        use turnkit_agents::command::Command;

        let words = self.words()?;
        let Some((program, arguments)) = words.split_first() else {
            return Err(
                misuse("the agent command needs a program: --command PROGRAM [ARGS]").into()
            );
        };
        let command = Command::new(program).args(arguments);
        let missing = |error| Missing { program: program.display().to_string(), error };
        command.locate().map_err(missing)?;
        Ok(Arc::new(command))
    }

    #[cfg(not(feature = "command"))]
    fn command(&self) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        Err(not_built("the agent command", "command").into())
    }

    #[cfg(all(feature = "command", not(unix)))]
    fn command(&self) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        Err(misuse("the agent command runs on Unix only").into())
    }

    /// The words of the command: as they were given, or one that is split.
    #[cfg(all(feature = "command", unix))]
    fn words(&self) -> Result<Vec<OsString>, Misuse> {
        let [line] = &self.command[..] else {
            return Ok(self.command.clone());
        };
        let Some(text) = line.to_str() else {
            return Ok(vec![line.clone()]);
        };
        let words = shlex::split(text).ok_or_else(|| misuse("--command: a quote is not closed"))?;
        Ok(words.into_iter().map(OsString::from).collect())
    }
}

#[cfg(all(feature = "command", unix))]
#[derive(Debug, thiserror::Error)]
#[error("find the program {program}")]
struct Missing {
    program: String,
    #[source]
    error: std::io::Error,
}

fn misuse(message: &str) -> Misuse {
    Misuse::new(ErrorKind::MissingRequiredArgument, message)
}

/// What was asked for is behind a feature of the build that is off.
#[cfg(not(all(feature = "openai", feature = "command", feature = "redis")))]
fn not_built(what: &str, feature: &str) -> Misuse {
    Misuse::new(
        ErrorKind::InvalidValue,
        format!(
            "{what} is no part of this build of turnkit; one that has it: cargo build --release --features {feature}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: AgentOptions,
    }

    fn options(arguments: &[&str]) -> AgentOptions {
        Cli::try_parse_from([&["turnkit"], arguments].concat()).unwrap().options
    }

    #[test]
    fn the_agents_are_those_that_are_named_or_described() {
        use AgentKind::{Command, Demo, Openai};

        assert_eq!(options(&[]).kinds(), [Demo]);
        assert_eq!(options(&["--agent", "command,demo"]).kinds(), [Command, Demo]);
        assert_eq!(options(&["--agent", "openai", "--agent", "demo"]).kinds(), [Openai, Demo]);
        assert_eq!(options(&["--openai-model", "m", "--command", "x"]).kinds(), [Openai, Command]);
        assert_eq!(options(&["--agent", "demo", "--command", "x"]).kinds(), [Demo]);
    }

    #[cfg(all(feature = "command", unix))]
    #[test]
    fn a_command_of_one_word_is_split_and_one_of_more_is_not() {
        let words =
            |arguments: &[&str]| options(arguments).words().map_err(|error| error.to_string());
        let is = |words: &[&str]| Ok(words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(words(&["--command", "sh -c 'echo a b'"]), is(&["sh", "-c", "echo a b"]));
        assert_eq!(words(&["--command", "a b", "c d"]), is(&["a b", "c d"]));
        assert_eq!(words(&["--command=a b", "--command=-c"]), is(&["a b", "-c"]));
        assert!(words(&["--command", "a 'b"]).unwrap_err().contains("a quote is not closed"));
    }
}
