//! `turnkit serve`

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use http::HeaderName;
use turnkit_chat::store::HistoryLimits;
use turnkit_chat::{Network, NoOrigin, Origins, TrustedHeader};

use super::agents::AgentOptions;
use super::limits::{LogLimits, ServingLimits, count, history_size};
use super::open_files::raise_open_files;
use super::signals::{Hangups, Signals};
use super::terminal::{Screen, Written};
use super::tokens::Tokens;
use super::{End, Misuse};
use crate::{BasePath, DatabaseChoice, Server, ServerConfig, SubstrateChoice, UsersChoice};

/// Serve the chat page and its routes.
///
/// Without --substrate the agents run in this process, behind a substrate that opens no port. Its log of running
/// turns survives clients; the server too, where --log keeps it in Redis. Messages are kept in the database.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// Address to listen on; port 0 takes a free port. Without --tokens or --trust-header it must be a loopback address.
    #[arg(long, value_name = "ADDRESS", env = "TURNKIT_LISTEN", default_value = "127.0.0.1:8787", value_parser = address)]
    listen: SocketAddr,
    /// Where sessions and messages are kept: `sqlite:DIR`, which is what --data-dir DIR says, or
    /// `postgres://user:password@host[:port]/database[?option=value]`, which the servers of several machines can share. A password is better
    /// set by the environment: other users can see a command line.
    #[arg(long, value_name = "DATABASE", env = "TURNKIT_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Directory of the database in SQLite; made where it is missing.
    #[arg(long, value_name = "DIR", env = "TURNKIT_DATA_DIR", default_value = "turnkit-data")]
    data_dir: PathBuf,
    /// Base URL of another substrate to run agents at.
    #[arg(
        long,
        value_name = "URL",
        env = "TURNKIT_SUBSTRATE",
        conflicts_with_all = ["log", "agent", "demo_pace", "openai_base_url", "openai_model", "model_api", "command", "command_format", "command_env", "command_dir", "command_permission", "command_input", "log_memory", "log_retention", "log_binding", "run_timeout", "max_run_timeout", "max_runs", "max_run_events", "max_run_memory", "max_event"]
    )]
    substrate: Option<String>,
    /// Bearer token for --substrate. Better set by the environment: other users can see a command line.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TURNKIT_SUBSTRATE_TOKEN",
        hide_env_values = true,
        requires = "substrate"
    )]
    substrate_token: Option<String>,
    /// File of users' bearer tokens: a line for each, with a token, its tenant and its user. Without it, whoever reaches the
    /// server is its one local user. SIGHUP has it read again.
    #[arg(long, value_name = "FILE", env = "TURNKIT_TOKENS")]
    tokens: Option<PathBuf>,
    /// Header in which a proxy says who asks, such as X-Forwarded-User. It is believed where the connection comes from --trusted-proxy, and
    /// a request from anywhere else is refused. The proxy must take it out of what clients send.
    #[arg(
        long,
        value_name = "NAME",
        env = "TURNKIT_TRUST_HEADER",
        requires = "trusted_proxy",
        conflicts_with = "tokens"
    )]
    trust_header: Option<HeaderName>,
    /// Address of such a proxy, or a network of them, such as 10.0.0.0/8; as often as needed.
    #[arg(
        long,
        value_name = "CIDR",
        env = "TURNKIT_TRUSTED_PROXY",
        value_delimiter = ',',
        requires = "trust_header"
    )]
    trusted_proxy: Vec<Network>,
    /// Another origin whose pages may use the routes, such as <https://app.example>; as often as needed.
    #[arg(long, value_name = "ORIGIN", env = "TURNKIT_ALLOW_ORIGIN", value_delimiter = ',', value_parser = origin)]
    allow_origin: Vec<String>,
    /// Path of the host that everything is served under, such as /chat, behind a proxy that passes it on. One that takes it away
    /// needs nothing here.
    #[arg(long, value_name = "PATH", env = "TURNKIT_BASE_PATH", default_value = "/")]
    base_path: BasePath,
    /// Delete sessions in which nothing happened for so long, such as 90d. Without it they are kept until somebody deletes them.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_RETENTION", value_parser = retention)]
    retention: Option<Duration>,
    /// How many turns of a conversation go with a message, the newest ones; 0 for none.
    #[arg(long, value_name = "NUMBER", env = "TURNKIT_HISTORY_TURNS", default_value = "50")]
    history_turns: u32,
    /// How much of a conversation goes with a message. A turn that takes more than half of it is cut.
    #[arg(long, value_name = "SIZE", env = "TURNKIT_HISTORY_BYTES", default_value = "256KiB", value_parser = history_size)]
    history_bytes: usize,
    #[command(flatten)]
    embedded: AgentOptions,
    /// How many turns this server drives at a time.
    #[arg(long, value_name = "NUMBER", env = "TURNKIT_MAX_TURNS", default_value = "4096", value_parser = count, help_heading = "Limits")]
    max_turns: usize,
    #[command(flatten)]
    serving: ServingLimits,
    #[command(flatten)]
    logs: LogLimits,
}

const SHORTEST_RETENTION: Duration = Duration::from_secs(60 * 60);

const EXAMPLES: &str = "\
Examples:
  turnkit serve
  turnkit serve --listen 127.0.0.1:0 --data-dir /var/lib/turnkit
  turnkit serve --agent openai --openai-base-url http://127.0.0.1:8080/v1 --openai-model qwen3
  turnkit serve --agent demo,command --command python3 agent.py
  turnkit serve --command-format claude --command-env ANTHROPIC_API_KEY \\
      --command claude -p --output-format stream-json --verbose --include-partial-messages
  turnkit serve --config turnkit.toml --check
  turnkit serve --listen 0.0.0.0:8787 --tokens /etc/turnkit/tokens
  turnkit serve --substrate http://127.0.0.1:8788
  TURNKIT_DATABASE=postgres://turnkit:...@db/turnkit turnkit serve --substrate http://agents:8788

SIGTERM and Ctrl-C let running turns finish, for up to --grace; a second Ctrl-C does not wait.";

pub(super) async fn run(options: Options) -> Result<End, anyhow::Error> {
    let mut signals = Signals::listen()?;
    let hangups = Hangups::listen()?;
    raise_open_files();
    let tokens = options.tokens.clone().map(Tokens::load).transpose()?;
    let users = tokens.as_ref().map(|tokens| UsersChoice::Tokens(tokens.users()));
    let grace = options.serving.grace;
    let config = options.config()?;
    let users = users.unwrap_or_else(|| config.users.clone());
    let server = Server::start(ServerConfig { users, ..config }).await?;
    match tokens {
        Some(tokens) => drop(tokio::spawn(tokens.read_when_told(hangups))),
        None => hangups.ignore(),
    }
    ready(&server.url())?;
    signals.next().await;
    tracing::info!("stopping: running turns may finish");
    Ok(unless_asked_again(server.stop(grace), &mut signals).await)
}

impl Options {
    pub(super) fn agents(&mut self) -> &mut AgentOptions {
        &mut self.embedded
    }

    /// Of --database and --data-dir the one counts that was said nearer: on the command line, in the environment, in the file.
    pub(super) fn settle_database(&mut self, matches: &ArgMatches) -> Result<(), Misuse> {
        let said = |option| match matches.value_source(option) {
            Some(ValueSource::CommandLine) => 2,
            Some(ValueSource::EnvVariable) => 1,
            _ => 0,
        };
        match (said("database"), said("data_dir")) {
            (2, 2) => Err(Misuse::new(
                ErrorKind::ArgumentConflict,
                "--data-dir DIR is short for --database sqlite:DIR: one of the two is enough",
            )),
            (database, directory) => {
                if directory > database {
                    self.database = None;
                }
                Ok(())
            }
        }
    }

    fn database(&self) -> Result<DatabaseChoice, Misuse> {
        let Some(database) = &self.database else {
            return Ok(DatabaseChoice::Sqlite(self.data_dir.clone()));
        };
        let wrong = |why: String| Misuse::new(ErrorKind::InvalidValue, why);
        if let Some(directory) = database.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(DatabaseChoice::Sqlite(directory.into()));
        }
        if !database.starts_with("postgres://") && !database.starts_with("postgresql://") {
            return Err(wrong(
                "--database must be sqlite:DIR or postgres://user@host/database".to_owned(),
            ));
        }
        #[cfg(feature = "postgres")]
        {
            let choice = DatabaseChoice::Postgres(database.clone());
            choice.check().map_err(|error| {
                let why = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string);
                wrong(format!("--database: {why}"))
            })?;
            Ok(choice)
        }
        #[cfg(not(feature = "postgres"))]
        Err(super::agents::not_built("a database in PostgreSQL", "postgres"))
    }

    /// Whether it could start, as far as that can be told without starting anything.
    pub(super) fn checked(self) -> Result<String, anyhow::Error> {
        self.tokens.clone().map(Tokens::load).transpose()?;
        let agents = match &self.substrate {
            Some(_) => "of the substrate".to_owned(),
            None => self.embedded.names().join(", "),
        };
        let line =
            format!("the configuration is right; address: {}; agents: {agents}", self.listen);
        self.config()?;
        Ok(line)
    }

    fn config(self) -> Result<ServerConfig, anyhow::Error> {
        let (log, database) = (self.embedded.log()?, self.database()?);
        let substrate = match self.substrate {
            Some(url) => SubstrateChoice::At { url, token: self.substrate_token },
            None => SubstrateChoice::Embedded(self.embedded.agents()?),
        };
        let mut named = self.allow_origin.iter();
        let origins = named.try_fold(Origins::default(), |origins, one| origins.and(one))?;
        let users = match self.trust_header {
            Some(name) => UsersChoice::Header(TrustedHeader::new(name, self.trusted_proxy)),
            None => UsersChoice::Local,
        };
        Ok(ServerConfig {
            log,
            users,
            origins,
            base_path: self.base_path,
            limits: self.logs.with(&self.serving),
            max_turns: self.max_turns,
            retention: self.retention,
            history: HistoryLimits { turns: self.history_turns, bytes: self.history_bytes },
            ..ServerConfig::new(self.listen, database, substrate)
        })
    }
}

/// What --listen takes: no name, which could have several addresses.
pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "it must be an IP address and a port, such as 127.0.0.1:8787")
}

/// What --retention takes: what is shorter than an hour would delete what somebody is about to answer.
fn retention(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= SHORTEST_RETENTION => Ok(time),
        Ok(_) => Err("it must be at least 1h".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What --allow-origin takes.
fn origin(text: &str) -> Result<String, NoOrigin> {
    Origins::default().and(text).map(|_| text.to_owned())
}

/// The line that scripts wait for.
pub(super) fn ready(url: &str) -> Written {
    Screen::stdout().text(format_args!("turnkit listening on {url}\n"))
}

/// Who asks twice does not want to wait.
pub(super) async fn unless_asked_again(stopping: impl Future, signals: &mut Signals) -> End {
    tokio::select! {
        _ = stopping => End::Done,
        () = signals.next() => End::Interrupted,
    }
}
