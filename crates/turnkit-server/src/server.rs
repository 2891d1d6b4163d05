//! The whole server: product, listener and substrate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use turnkit_chat::store::HistoryLimits;
use turnkit_chat::tokens::{Tokens, Users};
use turnkit_chat::{Chat, Ended, Origins, StoreError, TrustedHeader};
use turnkit_http::server::listener::{self, Connections};
use turnkit_sandbox::{SandboxClient, SandboxClientBuilder};
use turnkit_substrate::Limits;

use crate::agents::Agents;
use crate::base_path::BasePath;
use crate::database::DatabaseChoice;
use crate::embedded::Embedded;
use crate::log::{LogChoice, OpenLogError};
use crate::metrics::{Counting, Metrics};
use crate::routes::{App, KnownBy};
use crate::traces::Traces;

/// How long the product may still write down how its last turns ended, and tell their clients, once their substrate has
/// stopped; and how long it may take to close the database.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// How long clients may still take what there is of turns that have ended. Who was slower comes back with the cursor.
const LAST_READS: Duration = Duration::from_secs(5);

/// How a [`Server`] is set up.
#[derive(Debug)]
pub struct ServerConfig {
    /// Where to listen, port 0 for a free one: a loopback address, unless there are users.
    pub listen: SocketAddr,
    /// Where sessions, turns and messages are kept.
    pub database: DatabaseChoice,
    /// Where the agents run.
    pub substrate: SubstrateChoice,
    /// Where an embedded substrate keeps its log.
    pub log: LogChoice,
    /// The limits of the server's connections, and of an embedded substrate and its log; how long the server may take to end is said
    /// where it is [stopped](Server::stop).
    pub limits: Limits,
    /// How many turns it drives at once.
    pub max_turns: usize,
    /// Who may use it.
    pub users: UsersChoice,
    /// Other origins whose pages may use the routes.
    pub origins: Origins,
    /// The path that everything lies under.
    pub base_path: BasePath,
    /// For how long a session is kept in which nothing happens; for ever by default.
    pub retention: Option<Duration>,
    /// How much of what was said goes with a run.
    pub history: HistoryLimits,
    /// How often the sweep looks for turns that nobody drives.
    pub sweep_every: Duration,
    /// How long a write waits for another process's lock on a SQLite file.
    pub busy_timeout: Duration,
}

impl ServerConfig {
    /// A log in memory, limits as by default, 4,096 turns at once, one local user, a sweep every 30 s, 5 s for another process's write.
    #[must_use]
    pub fn new(
        listen: SocketAddr,
        database: impl Into<DatabaseChoice>,
        substrate: SubstrateChoice,
    ) -> ServerConfig {
        ServerConfig {
            listen,
            database: database.into(),
            substrate,
            log: LogChoice::default(),
            limits: Limits::default(),
            max_turns: 4_096,
            users: UsersChoice::Local,
            origins: Origins::default(),
            base_path: BasePath::default(),
            retention: None,
            history: HistoryLimits::default(),
            sweep_every: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(5),
        }
    }
}

/// Who may use a [`Server`], and how they are known.
#[derive(Clone, Debug, Default)]
pub enum UsersChoice {
    /// Whoever reaches it, as one local user: on a loopback address only.
    #[default]
    Local,
    /// These, by their tokens.
    Tokens(Users),
    /// Whomever a proxy names.
    Header(TrustedHeader),
}

/// Where the agents of a [`Server`] run.
pub enum SubstrateChoice {
    /// In this process, with these agents; its runs end with the process, and so does a log in memory. It is asked without
    /// sockets, and by nobody else.
    Embedded(Agents),
    /// At another one.
    At {
        /// Its base URL.
        url: String,
        /// Its bearer token, if it wants one.
        token: Option<String>,
    },
}

/// A running server.
pub struct Server {
    chat: Chat,
    metrics: Arc<Metrics>,
    url: String,
    embedded: Option<Embedded>,
    /// Whether the log of an embedded substrate outlives this process, as that of another one does.
    log_stays: bool,
    stop: oneshot::Sender<()>,
    accepting: JoinHandle<Connections>,
    attending: JoinHandle<()>,
}

impl Server {
    /// Binds the address, starts the embedded substrate where there is one, opens the database and joins it, and serves.
    ///
    /// # Errors
    /// [`StartError`]: what could not be had, and why.
    pub async fn start(config: ServerConfig) -> Result<Server, StartError> {
        let listener = bind(config.listen, matches!(config.users, UsersChoice::Local)).await?;
        let address = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let (sandbox, embedded) =
            connect(config.substrate, &config.log, config.limits.clone()).await?;
        let log_stays = embedded.is_none() || config.log.is_shared();
        let (metrics, traces) = (Arc::<Metrics>::default(), Traces::default());
        let chat = config.database.chat(config.busy_timeout, sandbox.clone()).await?;
        let chat = chat
            .observe(Arc::new(Counting(Arc::clone(&metrics))))
            .observe(Arc::new(traces.clone()))
            .sweep_every(config.sweep_every)
            .max_turns(config.max_turns)
            .history(config.history);
        let chat = match config.retention {
            Some(time) => chat.retention(time),
            None => chat,
        };
        let built = chat.build().await;
        let (chat, attendant) = built.map_err(|error| config.database.refused(error))?;
        let path = config.base_path.as_str();
        let url = format!("http://{address}{path}");
        let tokens = |users| Tokens::new(users, chat.clone()).under(path);
        let app = App {
            users: match config.users {
                UsersChoice::Local => KnownBy::Nothing,
                UsersChoice::Tokens(users) => KnownBy::Tokens(tokens(users)),
                UsersChoice::Header(header) => KnownBy::Header(header),
            },
            chat: chat.clone(),
            origins: config.origins,
            base_path: config.base_path.clone(),
            metrics: Arc::clone(&metrics),
            traces,
            sandbox,
            embedded: embedded.as_ref().map(|embedded| embedded.substrate.clone()),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let accepting = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let limits = &config.limits.connection;
            listener::accept_until(listener, app.router(), limits, stopped).await
        });
        let attending = tokio::spawn(attendant);
        Ok(Server { chat, metrics, url, embedded, log_stays, stop, accepting, attending })
    }

    /// Where it listens, with its [`BasePath`].
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Accepts nothing new, lets running turns finish for up to `grace`, stops, and closes the database: the data directory
    /// may then be moved, removed, or served by another. A client that does not read holds nothing up: its body is cut, and its turn
    /// comes to its end.
    ///
    /// A turn that runs longer is cut: with an embedded substrate it fails with code `shutting_down`, as its log is about to
    /// be gone; it keeps its partial text, and its clients are told. With another one it stays open, and the next server
    /// takes it up. So does one whose end the database does not take. How many stay open is logged, and told.
    pub async fn stop(self, grace: Duration) -> Ended {
        let Server { chat, embedded, log_stays, stop, accepting, attending, .. } = self;
        // The end has an order: runs, then the turns that read them, then the clients of the turns.
        chat.begin_shutdown(grace + LAST_WRITES);
        // A listener that has gone already cannot be told, and need not be.
        let _ = stop.send(());
        match accepting.await {
            Err(error) => tracing::error!(%error, "the listener failed"),
            Ok(connections) => {
                let finished = async || {
                    chat.drained().await;
                    // Who does not read keeps the connection for as long as it likes.
                    let _ = timeout(LAST_READS, connections.ended()).await;
                };
                let in_time = timeout(grace, finished()).await.is_ok();
                if !in_time && chat.running() > 0 && !grace.is_zero() {
                    tracing::warn!(turns = chat.running(), "turns did not end in time");
                }
                if let Some(embedded) = embedded {
                    embedded.stop().await;
                    // What is not written by then is taken up by the next server.
                    let _ = timeout(LAST_WRITES, finished()).await;
                }
                connections.cut().await;
            }
        }
        chat.begin_shutdown(Duration::ZERO);
        let ended = async {
            let ended = chat.ended().await;
            // It lets go of the store last.
            let _ = attending.await;
            ended
        };
        let Ok(ended) = timeout(LAST_WRITES, ended).await else {
            match chat.running() {
                0 => tracing::error!("the database did not close in time"),
                turns => tracing::error!(
                    turns,
                    "the database did not close in time: what these turns came to is not saved"
                ),
            }
            return Ended::default();
        };
        match ended.open {
            0 => {}
            turns if log_stays => tracing::warn!(turns, "turns stay open for the next server"),
            turns => tracing::error!(
                turns,
                "turns end without their answers being saved: the log that has them ends with this process"
            ),
        }
        ended
    }

    /// Waits until it drives no turn any more.
    pub(crate) async fn drained(&self) {
        self.chat.drained().await;
    }

    /// What it counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Where users are not known, whoever reaches the server is its user.
    #[error(
        "listen on {address}: without users' tokens (--tokens FILE) or a proxy that names them (--trust-header NAME) \
        only loopback addresses are served, such as 127.0.0.1:8787"
    )]
    NotLoopback {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error("listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The embedded substrate has no log.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The embedded substrate could not be set up.
    #[error("set up the embedded substrate")]
    Substrate(#[source] turnkit_substrate::BuildError),
    /// The substrate's URL or token cannot be used.
    #[error("use the substrate")]
    Client(#[source] turnkit_sandbox::BuildError),
    /// Another server runs its turns at a substrate that this one cannot reach: each would find the other's turns lost.
    #[error(
        "use {database}: a server with another substrate uses it; \
        start all its servers with the same --substrate URL or the same --log redis://…, \
        or give this one a --database (or --data-dir) of its own"
    )]
    InUse {
        /// The database.
        database: DatabaseChoice,
    },
    /// The data directory cannot be made or used.
    #[error("use the data directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error("open {database}")]
    Database {
        /// The database.
        database: DatabaseChoice,
        /// Why not.
        source: StoreError,
    },
}

/// Without the token.
impl fmt::Debug for SubstrateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubstrateChoice::Embedded(agents) => f.debug_tuple("Embedded").field(agents).finish(),
            SubstrateChoice::At { url, .. } => {
                f.debug_struct("At").field("url", url).finish_non_exhaustive()
            }
        }
    }
}

async fn bind(address: SocketAddr, is_open: bool) -> Result<TcpListener, StartError> {
    if !address.ip().is_loopback() {
        if is_open {
            return Err(StartError::NotLoopback { address });
        }
        tracing::warn!(%address, "tokens and messages travel in the clear, unless a proxy that speaks https stands before");
    }
    listener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

async fn connect(
    choice: SubstrateChoice,
    log: &LogChoice,
    limits: Limits,
) -> Result<(SandboxClient, Option<Embedded>), StartError> {
    let (client, embedded) = match choice {
        SubstrateChoice::At { url, token } => (at(url, token), None),
        SubstrateChoice::Embedded(agents) => {
            let embedded = Embedded::start(agents, log, limits).await?;
            (embedded.client(), Some(embedded))
        }
    };
    Ok((client.build().map_err(StartError::Client)?, embedded))
}

fn at(url: String, token: Option<String>) -> SandboxClientBuilder {
    let client = SandboxClient::builder(url);
    match token {
        Some(token) => client.bearer_token(token),
        None => client,
    }
}
