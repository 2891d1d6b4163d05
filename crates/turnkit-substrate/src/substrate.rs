use std::{fmt, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    net::TcpListener,
    sync::Mutex,
    time::{self, Instant},
};
use turnkit_agent::{Agent, CANCEL_GRACE, ErasedAgent};
use turnkit_http::server::{Hosts, listener};

use crate::{
    Clock, Limits, Scope, SystemClock,
    agents::Agents,
    error::{BuildError, ServeError},
    log::{ExecutionLog, LogError, Usage, memory::MemoryLog},
    routes,
    runs::Runs,
    scope::Guard,
};

/// A substrate: agents behind HTTP, one run and one log per execution id (PROTOCOL 3).
///
/// Cloning it gives another handle to the same one.
#[derive(Clone)]
pub struct Substrate {
    shared: Arc<Shared>,
}

impl Substrate {
    /// A substrate to be: it needs at least one agent.
    #[must_use]
    pub fn builder() -> SubstrateBuilder {
        SubstrateBuilder::default()
    }

    /// Its routes, to be served by any server.
    ///
    /// Without tokens, whoever reaches them may use them: then serve them on loopback only. Connections are not bounded
    /// here, and silent ones not timed; [`serve`](Self::serve) does both, and drops what is over also when nobody asks, as
    /// [`run_until`](Self::run_until) does where there are no connections.
    pub fn router(&self) -> Router {
        routes::router(Arc::clone(&self.shared))
    }

    /// Serves the routes on `listener` until `shutdown` resolves, with the bounds and timers of
    /// [`Limits::connection`].
    ///
    /// Then it accepts nothing new and lets running executions and their readers finish, for up to
    /// [`ConnectionLimits::shutdown`](turnkit_http::server::listener::ConnectionLimits::shutdown). What still runs then ends with
    /// `execution.failed`, code `shutting_down`; agents have [`CANCEL_GRACE`] to wind down,
    /// and readers 5 s more to take what they have not read. Dropping the future drops all connections; runs go on.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`] without any token on an address that others can reach; an address that cannot be read.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr()?;
        if self.shared.guard.is_open() && !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback { address });
        }
        tokio::select! {
            () = self.serve_and_finish(listener, shutdown) => {}
            () = self.sweep_for_ever() => {}
        }
        Ok(())
    }

    /// Does what [`serve`](Self::serve) does besides connections, for a substrate whose [`router`](Self::router) is called
    /// without any: drops what is over, until `shutdown` resolves. Then nothing new starts, and running executions have the time
    /// of [`ConnectionLimits::shutdown`](turnkit_http::server::listener::ConnectionLimits::shutdown) to end, before they end with
    /// `execution.failed`, code `shutting_down`. It resolves when no run is left, each with its terminal event in the log.
    ///
    /// Dropping the future stops no run.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()> + Send) {
        let finish = async {
            shutdown.await;
            self.shared.runs.close();
            self.finish_runs(self.shared.limits.connection.shutdown).await;
        };
        tokio::select! {
            () = finish => {}
            () = self.sweep_for_ever() => {}
        }
    }

    /// What happened since it was built.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let runs = &self.shared.runs;
        Stats { runs_started: runs.started(), running: runs.count(), waiting: runs.waiting() }
    }

    /// Whether it can start runs: it is not shutting down, and its log can be written. Asks the log at most once a second.
    ///
    /// # Errors
    /// [`NotReady`]: why not.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.shared.ready().await
    }

    /// What its log takes.
    ///
    /// # Errors
    /// Where the log's store cannot be reached.
    pub async fn usage(&self) -> Result<Usage, LogError> {
        self.shared.log.usage(None).await
    }

    /// The end has an order: no new runs and connections; the runs end, each with its terminal event; their readers take
    /// it; and only then are connections cut. Cut before that, a reader would never learn how its run has ended.
    async fn serve_and_finish(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let (runs, limits) = (&self.shared.runs, &self.shared.limits.connection);
        let shutdown = async {
            shutdown.await;
            runs.close();
        };
        let connections = listener::accept_until(listener, self.router(), limits, shutdown).await;
        let begun = Instant::now();
        self.finish_runs(limits.shutdown).await;
        let grace_left = limits.shutdown.saturating_sub(begun.elapsed());
        connections.end_within(grace_left.max(LAST_READS)).await;
    }

    /// Lets runs end for as long as `grace`, then stops them.
    async fn finish_runs(&self, grace: Duration) {
        let runs = &self.shared.runs;
        if runs.count() > 0 {
            tracing::info!(
                running = runs.count(),
                waiting = runs.waiting(),
                "runs have {grace:?} to end; those that wait for an answer end with the rest"
            );
        }
        if time::timeout(grace, runs.drained()).await.is_err() {
            runs.stop_all();
            if time::timeout(CANCEL_GRACE * 2, runs.drained()).await.is_err() {
                tracing::error!(running = runs.count(), "runs did not stop");
            }
        }
    }

    async fn sweep_for_ever(&self) {
        loop {
            time::sleep(SWEEP_EVERY).await;
            if let Err(error) = self.shared.log.sweep().await {
                tracing::error!(%error, "the log could not be swept");
            }
        }
    }
}

/// Why a [`Substrate`] starts no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// It is about to end.
    #[error("the substrate is shutting down")]
    ShuttingDown,
    /// Its log cannot be written; why is in the process's own.
    #[error("the log cannot be written")]
    Log,
}

/// What happened in a [`Substrate`] since it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// How often an agent was asked.
    pub runs_started: u64,
    /// How many runs there are now, agents that are still winding down and runs that wait for an answer among them.
    pub running: usize,
    /// How many of them wait for an answer.
    pub waiting: usize,
}

impl fmt::Debug for Substrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Substrate").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Makes a [`Substrate`].
#[derive(Default)]
pub struct SubstrateBuilder {
    agents: Vec<(String, Arc<dyn ErasedAgent>)>,
    default_agent: Option<String>,
    log: Option<Arc<dyn ExecutionLog>>,
    clock: Option<Arc<dyn Clock>>,
    tokens: Vec<(Scope, String)>,
    hosts: Vec<String>,
}

impl SubstrateBuilder {
    /// Answers runs of `identifier` with this agent; `default` answers those that name none.
    #[must_use]
    pub fn agent(self, identifier: impl Into<String>, agent: impl Agent) -> Self {
        self.erased_agent(identifier, Arc::new(agent))
    }

    /// Answers runs of `identifier` with an agent that was chosen at run time: see [`agent`](Self::agent).
    #[must_use]
    pub fn erased_agent(
        mut self,
        identifier: impl Into<String>,
        agent: Arc<dyn ErasedAgent>,
    ) -> Self {
        self.agents.push((identifier.into(), agent));
        self
    }

    /// Lets the agent of this name answer runs that name none too. `GET /agents` tells which one it is, instead of an agent
    /// `default`.
    #[must_use]
    pub fn default_agent(mut self, identifier: impl Into<String>) -> Self {
        self.default_agent = Some(identifier.into());
        self
    }

    /// Keeps executions in this log, and to its limits. Default: a [`MemoryLog`] with the default limits.
    #[must_use]
    pub fn log(self, log: impl ExecutionLog) -> Self {
        self.erased_log(Arc::new(log))
    }

    /// Keeps executions in a log that was chosen at run time: see [`log`](Self::log).
    #[must_use]
    pub fn erased_log(mut self, log: Arc<dyn ExecutionLog>) -> Self {
        self.log = Some(log);
        self
    }

    /// Takes timestamps from this clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Lets whoever bears `token` act in `scope`. Any number of tokens; without any, everyone acts in the scope `local`, and
    /// requests must name a loopback host (PROTOCOL 3.3).
    #[must_use]
    pub fn token(mut self, scope: &str, token: impl Into<String>) -> Self {
        self.tokens.push((Scope::new(scope), token.into()));
        self
    }

    /// Takes requests for this name (`host`, or `host:port` for that port only) besides loopback names. Matters only without
    /// tokens.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// The substrate.
    ///
    /// # Errors
    /// [`BuildError`]: no agent, a name or token that cannot be, or a limit that cannot be kept.
    pub fn build(self) -> Result<Substrate, BuildError> {
        let log = self.log.unwrap_or_else(|| Arc::new(MemoryLog::default()));
        let limits = log.limits().clone();
        limits.check()?;
        let hosts = self.hosts.iter().fold(Hosts::loopback(), |hosts, name| hosts.and(name));
        let mut guard = Guard::new(hosts);
        for (scope, token) in self.tokens {
            guard.add_token(scope, &token)?;
        }
        let shared = Shared {
            agents: Agents::new(self.agents, self.default_agent)?,
            log,
            limits,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::new())),
            guard,
            runs: Runs::new(),
            log_state: Mutex::default(),
        };
        Ok(Substrate { shared: Arc::new(shared) })
    }
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) agents: Agents,
    pub(crate) log: Arc<dyn ExecutionLog>,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) guard: Guard,
    pub(crate) runs: Arc<Runs>,
    /// When the log was last tried, and whether it could be written.
    log_state: Mutex<Option<(Instant, bool)>>,
}

impl Shared {
    pub(crate) async fn ready(&self) -> Result<(), NotReady> {
        if self.runs.is_closed() {
            return Err(NotReady::ShuttingDown);
        }
        // Whoever asks meanwhile waits for the same answer: anybody may ask, and the store is not to notice.
        let mut state = self.log_state.lock().await;
        let was_writable = state.is_none_or(|(_, is_writable)| is_writable);
        if state.is_none_or(|(at, _)| at.elapsed() >= ASK_LOG_EVERY) {
            let written = self.log.is_writable().await;
            match &written {
                Err(error) if was_writable => tracing::error!(
                    error = error as &dyn std::error::Error,
                    "the log cannot be written: no run is started"
                ),
                Ok(()) if !was_writable => tracing::info!("the log can be written again"),
                _ => {}
            }
            *state = Some((Instant::now(), written.is_ok()));
        }
        match *state {
            Some((_, true)) => Ok(()),
            _ => Err(NotReady::Log),
        }
    }
}

/// How often the log is tried at most.
const ASK_LOG_EVERY: Duration = Duration::from_secs(1);

const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// How long readers have, at least, to take how their runs have ended.
const LAST_READS: Duration = Duration::from_secs(5);
