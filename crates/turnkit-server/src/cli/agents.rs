//! The agents of `serve` and `substrate`, as the command line and the configuration file say.

mod entry;
mod file;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::error::ErrorKind;
use humantime::parse_duration;
use serde_json::Map;
use turnkit_agent::ErasedAgent;

pub(super) use self::entry::Entry;
use self::entry::{Api, Format, Kind, Model, Permission, Program};
pub(super) use self::file::{Wrong, entries};
use super::Misuse;
use super::config::{ConfigError, Place};
use crate::{Agents, LogChoice};

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
    /// Who answers: one or several, separated by commas; the first one where nobody is named. There are `demo`, which needs no
    /// key and no network, `openai` (--openai-base-url), `command` (--command), and those that the configuration file names.
    /// Without it, all that the file and the options below describe, or else demo.
    #[arg(long, value_name = "AGENT", env = "TURNKIT_AGENT", value_delimiter = ',')]
    agent: Vec<String>,
    /// Pause of the demo agent before each event, such as 50ms.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_DEMO_PACE", default_value = "50ms", value_parser = parse_duration)]
    demo_pace: Duration,
    /// Base URL of an OpenAI-compatible server, such as `https://api.openai.com/v1`. Its key comes from `OPENAI_API_KEY`.
    #[arg(long, value_name = "URL", env = "TURNKIT_OPENAI_BASE_URL")]
    openai_base_url: Option<String>,
    /// Model to ask there.
    #[arg(long, value_name = "MODEL", env = "TURNKIT_OPENAI_MODEL")]
    openai_model: Option<String>,
    /// What that server speaks. With `anthropic` its base URL is Anthropic's unless one is set, and its key comes from
    /// `ANTHROPIC_API_KEY`.
    #[arg(long, value_name = "API", env = "TURNKIT_MODEL_API", value_enum, default_value = "chat")]
    model_api: Api,
    /// Program to run for every turn, with its arguments: all words up to the next option of turnkit. One word alone is
    /// split as a shell would; `--command=WORD` adds any word. `{message}` in a word stands for the user's message, which
    /// reaches the program on standard input otherwise.
    #[arg(long, value_names = ["PROGRAM", "ARGS"], num_args = 1.., env = "TURNKIT_COMMAND")]
    command: Vec<OsString>,
    /// What the program prints.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "TURNKIT_COMMAND_FORMAT",
        value_enum,
        default_value = "events"
    )]
    command_format: Format,
    /// Variable that is handed on to the program; may be given several times. It gets PATH, HOME, LANG and TZ anyway.
    #[arg(long, value_name = "NAME", env = "TURNKIT_COMMAND_ENV", value_delimiter = ',')]
    command_env: Vec<String>,
    /// Directory in which the program works.
    #[arg(long, value_name = "DIR", env = "TURNKIT_COMMAND_DIR")]
    command_dir: Option<PathBuf>,
    /// What is answered where a program of the format acp asks for a permission. Without it, whoever follows the turn is asked.
    #[arg(long, value_name = "PERMISSION", env = "TURNKIT_COMMAND_PERMISSION", value_enum)]
    command_permission: Option<Permission>,
    /// The program asks questions, and reads answers and messages from its standard input while it runs; with the format events.
    #[arg(long, env = "TURNKIT_COMMAND_INPUT")]
    command_input: bool,
    /// The agents of the configuration file, and where they stand there.
    #[arg(skip)]
    file: Vec<(Entry, Place)>,
    /// Where the file describes the agents of options, or names them.
    #[arg(skip)]
    places: BTreeMap<&'static str, Place>,
}

impl AgentOptions {
    /// The agents of the configuration file, and what `said` finds there of an option.
    pub(super) fn set_file<'a>(
        &mut self,
        file: Vec<(Entry, Place)>,
        said: impl Fn(&str) -> Option<(&'a [String], Place)>,
    ) {
        self.file = file;
        let texts = |words: &[OsString]| {
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
        };
        let options: [(_, _, Vec<String>); 3] = [
            ("agent", "agent", self.agent.clone()),
            ("openai", "openai-base-url", self.openai_base_url.iter().cloned().collect()),
            ("command", "command", texts(&self.command)),
        ];
        for (name, option, holds) in options {
            // Where something else holds, it is not the file's.
            if let Some((_, place)) = said(option).filter(|(values, _)| *values == holds) {
                self.places.insert(name, place);
            }
        }
    }

    /// The agents that were chosen, ready to run.
    pub(super) fn agents(&self) -> Result<Agents, anyhow::Error> {
        self.names().into_iter().map(|name| Ok((name.clone(), self.agent(&name)?))).collect()
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

    /// Who answers, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        if !self.agent.is_empty() {
            return self.agent.clone();
        }
        let is_openai = self.openai_base_url.is_some() || self.openai_model.is_some();
        let described = [("openai", is_openai), ("command", !self.command.is_empty())];
        let described =
            described.into_iter().filter(|(_, is)| *is).map(|(name, _)| name.to_owned());
        let mut names: Vec<_> = self.file.iter().map(|(entry, _)| entry.name.clone()).collect();
        for name in described {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() { vec!["demo".to_owned()] } else { names }
    }

    /// The agent of this name: one of the file, or one that options describe.
    fn agent(&self, name: &str) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        let unready = |place: &Place, error: &anyhow::Error| {
            let why = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            let verb = if error.is::<Misuse>() { "" } else { "failed to " };
            ConfigError::at(place, format!("the agent `{name}` cannot be made ready: {verb}{why}"))
        };
        if let Some((entry, place)) = self.file.iter().find(|(entry, _)| entry.name == name) {
            return entry.agent().map_err(|error| unready(place, &error).into());
        }
        let kind = match name {
            "demo" => Ok(Kind::Demo(self.demo_pace)),
            "openai" => self.model().map(|model| Kind::Model(Box::new(model))),
            "command" => self.program().map(Kind::Program),
            _ => {
                let file = self.file.iter().map(|(entry, _)| entry.name.as_str());
                let names: Vec<_> = ["demo", "openai", "command"].into_iter().chain(file).collect();
                let message = format!("there is no agent `{name}`: there are {}", names.join(", "));
                return Err(match self.places.get("agent") {
                    Some(place) => ConfigError::at(place, message).into(),
                    None => Misuse::new(ErrorKind::InvalidValue, message).into(),
                });
            }
        };
        let made = kind
            .map_err(anyhow::Error::from)
            .and_then(|kind| Entry { name: name.to_owned(), description: None, kind }.agent());
        made.map_err(|error| match self.places.get(name) {
            Some(place) => unready(place, &error).into(),
            None => error,
        })
    }

    fn model(&self) -> Result<Model, Misuse> {
        // What can't be had is told before what else would be needed for it.
        if cfg!(not(feature = "openai")) {
            return Err(not_built("the agent openai", "openai"));
        }
        let base_url = self.openai_base_url.clone();
        let has_url = base_url.is_some() || self.model_api.default_base_url().is_some();
        let (true, Some(name)) = (has_url, self.openai_model.clone()) else {
            return Err(misuse(
                "the agent openai needs a server and a model: --openai-base-url URL --openai-model MODEL",
            ));
        };
        Ok(Model {
            api: self.model_api,
            base_url,
            name,
            models: Vec::new(),
            key: None,
            system: None,
            parameters: Map::new(),
            headers: Vec::new(),
            headers_env: Vec::new(),
            proxy: None,
            ca_file: None,
            history: None,
            retry: None,
            loading: None,
            connect: None,
            answer: None,
            idle: None,
        })
    }

    fn program(&self) -> Result<Program, Misuse> {
        if cfg!(not(feature = "command")) {
            return Err(not_built("the agent command", "command"));
        }
        let words = self.words()?;
        if words.is_empty() {
            return Err(misuse("the agent command needs a program: --command PROGRAM [ARGS]"));
        }
        if let Some(name) = self.command_env.iter().find(|name| name.contains('=')) {
            let name = name.split('=').next().unwrap_or_default();
            let message = format!(
                "--command-env takes the name of a variable and no value: --command-env {name}"
            );
            return Err(Misuse::new(ErrorKind::InvalidValue, message));
        }
        if self.command_input && self.command_format != Format::Events {
            return Err(misuse("--command-input is for programs of the format events"));
        }
        Ok(Program {
            words,
            format: self.command_format,
            env: self.command_env.clone(),
            dir: self.command_dir.clone(),
            permission: self.command_permission,
            input: self.command_input,
            grace: None,
            max_event: None,
        })
    }

    /// The words of the command: as they were given, or one that is split.
    fn words(&self) -> Result<Vec<OsString>, Misuse> {
        let [line] = &self.command[..] else {
            return Ok(self.command.clone());
        };
        let Some(text) = line.to_str() else {
            return Ok(vec![line.clone()]);
        };
        let words = split(text);
        let words = words.ok_or_else(|| misuse("--command: a quote is not closed"))?;
        Ok(words.into_iter().map(OsString::from).collect())
    }
}

/// The words of a command line, as a shell would split them; none where a quote is not closed.
fn split(line: &str) -> Option<Vec<String>> {
    #[cfg(feature = "command")]
    return shlex::split(line);
    #[cfg(not(feature = "command"))]
    return Some(line.split_whitespace().map(str::to_owned).collect());
}

fn misuse(message: &str) -> Misuse {
    Misuse::new(ErrorKind::MissingRequiredArgument, message)
}

/// What was asked for is behind a feature of the build that is off.
pub(super) fn not_built(what: &str, feature: &str) -> Misuse {
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
        let names = |arguments: &[&str]| options(arguments).names();
        assert_eq!(names(&[]), ["demo"]);
        assert_eq!(names(&["--agent", "command,demo"]), ["command", "demo"]);
        assert_eq!(names(&["--agent", "openai", "--agent", "demo"]), ["openai", "demo"]);
        assert_eq!(names(&["--openai-model", "m", "--command", "x"]), ["openai", "command"]);
        assert_eq!(names(&["--agent", "demo", "--command", "x"]), ["demo"]);
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
