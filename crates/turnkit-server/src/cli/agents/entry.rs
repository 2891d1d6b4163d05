//! An agent as it was described, on the command line or in the configuration file, and how it is made ready.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Map, Value};
use turnkit_agent::ErasedAgent;
use turnkit_agents::demo::Demo;

/// An agent, by its name.
pub(in crate::cli) struct Entry {
    pub(in crate::cli) name: String,
    pub(super) description: Option<String>,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// With this pause before each event.
    Demo(Duration),
    Model(Box<Model>),
    Program(Program),
}

/// Where a secret comes from. It never stands in the configuration itself.
#[cfg_attr(
    not(feature = "openai"),
    expect(dead_code, reason = "the agent is no part of this build")
)]
pub(super) enum Secret {
    Variable(String),
    /// A variable that need not be set.
    IfSet(&'static str),
    File(PathBuf),
}

/// A model behind an API: every option of [`OpenAiBuilder`](turnkit_agents::openai::OpenAiBuilder).
#[cfg_attr(
    not(feature = "openai"),
    expect(dead_code, reason = "the agent is no part of this build")
)]
pub(super) struct Model {
    pub(super) api: Api,
    pub(super) base_url: Option<String>,
    pub(super) name: String,
    /// More that a request may choose.
    pub(super) models: Vec<String>,
    pub(super) key: Option<Secret>,
    pub(super) system: Option<String>,
    pub(super) parameters: Map<String, Value>,
    pub(super) headers: Vec<(String, String)>,
    /// Headers, and the variables that hold their values.
    pub(super) headers_env: Vec<(String, String)>,
    pub(super) proxy: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) history: Option<(usize, usize)>,
    pub(super) retry: Option<(u32, Duration)>,
    pub(super) loading: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) answer: Option<Duration>,
    pub(super) idle: Option<Duration>,
}

/// A program: every option of [`Command`](turnkit_agents::command::Command) that needs no Rust.
#[cfg_attr(
    not(all(feature = "command", unix)),
    expect(dead_code, reason = "the agent is no part of this build")
)]
pub(super) struct Program {
    pub(super) words: Vec<OsString>,
    pub(super) format: Format,
    pub(super) env: Vec<String>,
    pub(super) dir: Option<PathBuf>,
    pub(super) permission: Option<Permission>,
    pub(super) input: bool,
    pub(super) grace: Option<Duration>,
    pub(super) max_event: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Api {
    /// `/chat/completions`, which nearly every server speaks
    #[default]
    Chat,
    /// Anthropic's `/messages`
    #[value(alias = "messages")]
    Anthropic,
    /// OpenAI's `/responses`
    Responses,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// turnkit's own events, one a line
    #[default]
    Events,
    /// Whatever it prints is the answer
    Text,
    /// Claude Code: `claude -p --output-format stream-json --verbose --include-partial-messages`
    #[value(alias = "claude-code")]
    Claude,
    /// Codex: `codex exec --json`
    Codex,
    /// Gemini CLI: `gemini --output-format stream-json`
    #[value(alias = "gemini-cli")]
    Gemini,
    /// opencode: `opencode run --format json`
    #[value(name = "opencode", alias = "open-code")]
    OpenCode,
    /// The Agent Client Protocol: `gemini --acp`, `goose acp`, `opencode acp`, …
    Acp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Permission {
    /// What is asked for is allowed this time
    AllowOnce,
    /// It is allowed for good
    AllowAlways,
    /// It is refused this time
    RejectOnce,
    /// It is refused for good
    RejectAlways,
}

/// The pause of a demo where nothing else is said.
pub(super) const PACE: Duration = Duration::from_millis(50);

impl Api {
    pub(super) fn of(word: &str) -> Option<Api> {
        ValueEnum::from_str(word, false).ok()
    }

    /// Where everybody asks this API who says nothing else.
    pub(super) fn default_base_url(self) -> Option<&'static str> {
        match self {
            Api::Anthropic => Some("https://api.anthropic.com/v1"),
            Api::Chat | Api::Responses => None,
        }
    }

    /// The variable that holds the key where nothing else is said.
    #[cfg_attr(
        not(feature = "openai"),
        expect(dead_code, reason = "the agent is no part of this build")
    )]
    pub(super) fn key(self) -> &'static str {
        match self {
            Api::Anthropic => "ANTHROPIC_API_KEY",
            Api::Chat | Api::Responses => "OPENAI_API_KEY",
        }
    }
}

impl Format {
    pub(super) fn of(word: &str) -> Option<Format> {
        ValueEnum::from_str(word, false).ok()
    }
}

impl Permission {
    pub(super) fn of(word: &str) -> Option<Permission> {
        ValueEnum::from_str(word, false).ok()
    }
}

impl Model {
    /// How much of a conversation is sent where only one of the two limits is set: the agent's own defaults.
    pub(super) const HISTORY: (usize, usize) = (100, 256 * 1024);
}

/// Why an agent cannot be made ready.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(
    not(all(feature = "openai", feature = "command")),
    expect(dead_code, reason = "not every agent is a part of this build")
)]
pub(super) enum Unready {
    #[error("find the variable {0}: it is not set, or empty")]
    Variable(String),
    #[error("read {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("find the program {0}")]
    Program(String, #[source] std::io::Error),
    #[error("find the directory {}", .0.display())]
    Directory(PathBuf),
}

impl Entry {
    /// The agent, ready to run. Nothing is sent and nothing is started.
    pub(super) fn agent(&self) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        let description = self.description.as_deref();
        Ok(match &self.kind {
            Kind::Demo(pace) => {
                let demo = Demo::new().pace(*pace);
                Arc::new(match description {
                    Some(description) => demo.described(description),
                    None => demo,
                })
            }
            Kind::Model(model) => model.agent(description)?,
            Kind::Program(program) => program.agent(description)?,
        })
    }
}

#[cfg(feature = "openai")]
fn variable(name: &str) -> Result<String, Unready> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    value.ok_or_else(|| Unready::Variable(name.to_owned()))
}

#[cfg(feature = "openai")]
impl Secret {
    fn read(&self) -> Result<Option<String>, Unready> {
        match self {
            Secret::Variable(name) => variable(name).map(Some),
            Secret::IfSet(name) => Ok(variable(name).ok()),
            Secret::File(path) => {
                let read = std::fs::read_to_string(path)
                    .map_err(|error| Unready::File(path.clone(), error))?;
                // An editor's mark at the beginning and its line break at the end are no part of it.
                Ok(Some(read.trim_start_matches('\u{feff}').trim().to_owned()))
            }
        }
    }
}

impl Model {
    #[cfg(feature = "openai")]
    fn agent(&self, description: Option<&str>) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        use turnkit_agents::openai::{self, OpenAi};

        let base_url = self.base_url.as_deref().or(self.api.default_base_url()).unwrap_or_default();
        let mut builder = OpenAi::builder(base_url, &self.name).api(match self.api {
            Api::Chat => openai::Api::ChatCompletions,
            Api::Anthropic => openai::Api::Messages,
            Api::Responses => openai::Api::Responses,
        });
        let key =
            self.key.as_ref().map_or_else(|| Secret::IfSet(self.api.key()).read(), Secret::read)?;
        if let Some(key) = key {
            builder = builder.key(key);
        }
        for model in &self.models {
            builder = builder.offer(model);
        }
        for (name, value) in &self.parameters {
            builder = builder.parameter(name, value.clone());
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        for (name, from) in &self.headers_env {
            builder = builder.header(name, variable(from)?);
        }
        if let Some(path) = &self.ca_file {
            let pem = std::fs::read(path).map_err(|error| Unready::File(path.clone(), error))?;
            builder = builder.roots(pem);
        }
        if let Some(system) = &self.system {
            builder = builder.system(system);
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy);
        }
        if let Some((messages, bytes)) = self.history {
            builder = builder.history(messages, bytes);
        }
        if let Some((times, within)) = self.retry {
            builder = builder.retry(times, within);
        }
        if let Some(within) = self.loading {
            builder = builder.loading(within);
        }
        if let Some(after) = self.connect {
            builder = builder.connect_timeout(after);
        }
        if let Some(after) = self.answer {
            builder = builder.answer_timeout(after);
        }
        if let Some(after) = self.idle {
            builder = builder.idle_timeout(after);
        }
        if let Some(description) = description {
            builder = builder.described(description);
        }
        Ok(Arc::new(builder.build()?))
    }

    #[cfg(not(feature = "openai"))]
    #[expect(clippy::unused_self, reason = "the agent is no part of this build")]
    fn agent(&self, _description: Option<&str>) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        Err(super::not_built("the agent openai", "openai").into())
    }
}

impl Program {
    #[cfg(all(feature = "command", unix))]
    fn agent(&self, description: Option<&str>) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        use turnkit_agents::command::{self, Command};

        let Some((program, arguments)) = self.words.split_first() else {
            return Err(super::misuse(
                "the agent command needs a program: --command PROGRAM [ARGS]",
            )
            .into());
        };
        let mut command = Command::new(program).args(arguments).format(match self.format {
            Format::Events => command::Format::Events,
            Format::Text => command::Format::Text,
            Format::Claude => command::Format::Claude,
            Format::Codex => command::Format::Codex,
            Format::Gemini => command::Format::Gemini,
            Format::OpenCode => command::Format::OpenCode,
            Format::Acp => command::Format::Acp,
        });
        for name in &self.env {
            command = command.pass_env(name);
        }
        if let Some(dir) = &self.dir {
            if !dir.is_dir() {
                return Err(Unready::Directory(dir.clone()).into());
            }
            command = command.current_dir(dir);
        }
        if let Some(permission) = self.permission {
            command = command.permission(match permission {
                Permission::AllowOnce => command::Permission::AllowOnce,
                Permission::AllowAlways => command::Permission::AllowAlways,
                Permission::RejectOnce => command::Permission::RejectOnce,
                Permission::RejectAlways => command::Permission::RejectAlways,
            });
        }
        command = command.input(self.input);
        if let Some(grace) = self.grace {
            command = command.grace(grace);
        }
        if let Some(bytes) = self.max_event {
            command = command.max_event(bytes);
        }
        if let Some(description) = description {
            command = command.described(description);
        }
        command.locate().map_err(|error| Unready::Program(program.display().to_string(), error))?;
        Ok(Arc::new(command))
    }

    #[cfg(not(feature = "command"))]
    #[expect(clippy::unused_self, reason = "the agent is no part of this build")]
    fn agent(&self, _description: Option<&str>) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        Err(super::not_built("the agent command", "command").into())
    }

    #[cfg(all(feature = "command", not(unix)))]
    #[expect(clippy::unused_self, reason = "there is no such agent here")]
    fn agent(&self, _description: Option<&str>) -> Result<Arc<dyn ErasedAgent>, anyhow::Error> {
        Err(super::misuse("the agent command runs on Unix only").into())
    }
}
