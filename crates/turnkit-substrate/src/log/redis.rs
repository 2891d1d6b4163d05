//! Redis Streams, for several substrate nodes over one store: any of them serves any execution.

mod answer;
mod link;
mod name;
mod node;
mod reader;
mod store;
mod writer;

use std::{fmt, io, sync::Arc, time::Duration};

use ::redis::ConnectionAddr;
use rustls::crypto::CryptoProvider;
use thiserror::Error;
use turnkit_id::LogId;
use turnkit_wire::Event;
use uuid::Uuid;

use self::{
    answer::{Origin, StoreError},
    name::Name,
    node::Node,
    reader::RedisReader,
    store::{Begun, Bond, Store, Taken},
    writer::RedisWriter,
};
use super::{
    ExecutionKey, ExecutionLog, Found, LogError, LogFuture, LogReader, LogWriter, Opening, Post,
    Slot, Start, Usage, frame::FrameBuffer,
};
use crate::{Clock, EventId, Limits, Scope, SystemClock};

/// An [`ExecutionLog`] in Redis (7 or later, or Valkey), shared by all nodes that name the same server and prefix (PROTOCOL 3.5).
///
/// Each change is one script in Redis: of any number of starts one wins, and an append by a writer that was fenced off is
/// refused there. Readers of all nodes are woken by a channel, and look by themselves every two seconds besides; those on the node
/// of the writer have its latest events from there, once Redis has stored them.
///
/// A writer holds a lease. A node renews those of its writers, and looks for runs whose lease is over: they end with
/// `execution.failed`, code `runner_lost`, at the next epoch. Leases and retention go by the clock of Redis.
///
/// # What it promises
/// What Redis promises: it loses what its persistence and its replication lose. Where it comes back without the latest
/// events, their run fails at a new epoch, so that clients which had read them are told `invalid_replay_cursor`. Let Redis
/// keep its data (`appendonly yes`), and never evict any (`maxmemory-policy noeviction`); all keys of one log live in one
/// slot of a cluster.
///
/// # Limits
/// The byte budgets hold for all nodes together, bounds on runs and connections for each node. All nodes must have the same
/// [`Limits`]. Their clocks give epochs alone, and need not be in step.
///
/// It waits for Redis on a thread of its own, so that an agent that blocks its runtime costs no run its lease. Cloning it gives
/// another handle to the same log.
///
/// ```no_run
/// use turnkit_agents::demo::Demo;
/// use turnkit_substrate::{Limits, Substrate, log::redis::RedisLog};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let log = RedisLog::builder("redis://localhost").limits(Limits::default()).build()?;
/// log.check().await?;
/// let substrate = Substrate::builder().agent("default", Demo::new()).log(log).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisLog {
    shared: Arc<Shared>,
}

impl RedisLog {
    /// A log to be, at `redis://[user:password@]host[:port][/database]`; `unix://` for a socket, `rediss://` for TLS, for which
    /// the process must have installed a provider of cryptography for rustls (`CryptoProvider::install_default`).
    pub fn builder(url: impl Into<String>) -> RedisLogBuilder {
        RedisLogBuilder {
            url: url.into(),
            prefix: "turnkit".into(),
            limits: Limits::default(),
            clock: None,
            retention_clock: None,
            lease: Duration::from_secs(15),
        }
    }

    /// Tries whether Redis can keep a log: a script that writes and publishes under the prefix, and a subscription that hears it.
    /// Warns where it is set up to evict keys: it would throw away running executions.
    ///
    /// # Errors
    /// [`LogError::Store`] where it cannot be reached, refuses the user or password, or takes none of that: it is a replica, say, or
    /// another node of a cluster has the log's slot.
    pub async fn check(&self) -> Result<(), LogError> {
        self.shared.store.try_out_and_listen().await?;
        // Who may not ask for it is not warned.
        let policy = self.shared.store.eviction_policy().await.unwrap_or_default();
        if policy.as_deref().is_some_and(|policy| policy != "noeviction") {
            tracing::warn!(
                policy,
                "Redis may evict running executions: set maxmemory-policy to noeviction"
            );
        }
        Ok(())
    }
}

impl fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLog").finish_non_exhaustive()
    }
}

/// Makes a [`RedisLog`].
pub struct RedisLogBuilder {
    url: String,
    prefix: String,
    limits: Limits,
    clock: Option<Arc<dyn Clock>>,
    retention_clock: Option<Arc<dyn Clock>>,
    lease: Duration,
}

impl RedisLogBuilder {
    /// What the names of all its keys begin with, so that several logs can share a Redis. Default: `turnkit`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The limits that it keeps. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes epochs from this clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Takes retention and the life of bindings from this clock, so that a test can hold it still. Default: that of Redis, which is one for
    /// all nodes.
    #[must_use]
    pub fn retention_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.retention_clock = Some(clock);
        self
    }

    /// How long a run outlives the last sign of its node, at least 1 s: after that, and three fifths of it more, it is lost. A
    /// Redis that is out of reach for longer loses its runs too. Default: 15 s.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_secs(1));
        self
    }

    /// The log, which begins to look for its Redis. [`RedisLog::check`] tells whether it is there.
    ///
    /// # Errors
    /// [`RedisLogError`].
    pub fn build(self) -> Result<RedisLog, RedisLogError> {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let client = ::redis::Client::open(self.url);
        let client = client.map_err(|error| RedisLogError::Url(error.category().to_owned()))?;
        // Without one, rustls panics at the first connection where the build has none or several to choose from.
        if matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
            && CryptoProvider::get_default().is_none()
        {
            return Err(RedisLogError::NoTlsProvider);
        }
        let store =
            Store::new(client, &self.prefix, self.limits, clock, self.retention_clock, self.lease)?;
        let shared = Arc::new(Shared { store, node: Node::default() });
        node::keep(&shared, self.lease);
        Ok(RedisLog { shared })
    }
}

impl fmt::Debug for RedisLogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLogBuilder").finish_non_exhaustive()
    }
}

/// Why there is no log in Redis.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedisLogError {
    /// The URL names no Redis. It is not repeated: it may hold a password.
    #[error(
        "connect to Redis: the URL must be redis://[user:password@]host[:port][/database]: {0}"
    )]
    Url(String),
    /// The URL wants TLS, and the process has installed no provider of cryptography for rustls.
    #[error("use TLS with Redis: the process has installed no provider of cryptography for rustls")]
    NoTlsProvider,
    /// There is no thread to wait for Redis.
    #[error("start the thread that waits for Redis")]
    Thread(#[from] io::Error),
}

impl ExecutionLog for RedisLog {
    fn limits(&self) -> &Limits {
        self.shared.store.limits()
    }

    fn id(&self) -> LogFuture<'_, Result<LogId, LogError>> {
        Box::pin(async { Ok(self.shared.store.log_id().await?) })
    }

    fn is_writable(&self) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(async { Ok(self.shared.store.try_out("ready").await?) })
    }

    fn start<'a>(
        &'a self,
        key: &'a ExecutionKey,
        opening: Opening,
    ) -> LogFuture<'a, Result<Start, LogError>> {
        Box::pin(self.shared.start(key, opening))
    }

    fn find<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<Found, LogError>> {
        Box::pin(self.shared.find(key))
    }

    fn take_over<'a>(
        &'a self,
        key: &'a ExecutionKey,
    ) -> LogFuture<'a, Result<Option<Box<dyn LogWriter>>, LogError>> {
        Box::pin(async {
            let shared = &self.shared;
            let claim = shared.claim(&Name::of(key), Uuid::new_v4(), Heir::Anyone).await?;
            let write =
                |claim| Box::new(RedisWriter::new(shared, key, claim)) as Box<dyn LogWriter>;
            Ok(claim.map(write))
        })
    }

    fn erase<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<bool, LogError>> {
        Box::pin(async { Ok(self.shared.store.erase(&Name::of(key)).await?) })
    }

    fn post<'a>(
        &'a self,
        key: &'a ExecutionKey,
        slot: &'a Slot,
        event: &'a Event,
    ) -> LogFuture<'a, Result<Post, LogError>> {
        Box::pin(async move {
            let post = self.shared.store.post(&Name::of(key), slot, event).await?;
            post.map_err(LogError::Full)
        })
    }

    fn sweep(&self) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(async {
            while self.shared.store.sweep().await? > 0 {}
            Ok(())
        })
    }

    fn usage<'a>(&'a self, scope: Option<&'a Scope>) -> LogFuture<'a, Result<Usage, LogError>> {
        Box::pin(async move { Ok(self.shared.store.usage(scope).await?) })
    }
}

/// What a log, its readers and its writers have in common.
struct Shared {
    store: Store,
    node: Node,
}

/// A log's writer, as Redis knows it, and the last event of its log, under the writer's epoch.
struct Claim {
    writer: Uuid,
    last: EventId,
}

/// Who may take a log over from its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heir {
    /// Whoever asks.
    Anyone,
    /// The one who finds its lease over.
    OfLost,
    /// The one who knows that the writer of this epoch is gone.
    Of(u64),
}

impl Shared {
    async fn start(
        self: &Arc<Self>,
        key: &ExecutionKey,
        opening: Opening,
    ) -> Result<Start, LogError> {
        let (name, writer, epoch) = (Name::of(key), Uuid::new_v4(), self.store.now());
        let first = EventId { epoch, seq: 1 };
        let mut frame = FrameBuffer::default();
        frame.encode(first, &opening.first).map_err(LogError::Frame)?;
        let begun = self.store.start(&name, writer, epoch, &opening, frame.as_bytes());
        Ok(match begun.await? {
            Begun::Started(bound_at) => {
                let origin = Origin { fingerprint: opening.fingerprint, bound_at };
                let claim = Claim { writer, last: first };
                let writer = RedisWriter::first(self, key, claim, bound_at);
                Start::Started { writer: Box::new(writer), reader: self.reader(name, origin) }
            }
            Begun::Exists(origin) => Start::Exists(self.reader(name, origin)),
            Begun::Spent => Start::Spent,
            Begun::LogChanged => Start::LogChanged,
            Begun::Full(bound) => return Err(LogError::Full(bound)),
        })
    }

    async fn find(self: &Arc<Self>, key: &ExecutionKey) -> Result<Found, LogError> {
        let name = Name::of(key);
        Ok(match self.store.find(&name).await? {
            Bond::Retained(origin) => Found::Retained(self.reader(name, origin)),
            Bond::Spent => Found::Spent,
            Bond::Unknown => Found::Unknown,
        })
    }

    /// Takes a running log over from its writer. Tries again where another one does so at the same time.
    async fn claim(
        &self,
        name: &Name,
        writer: Uuid,
        heir: Heir,
    ) -> Result<Option<Claim>, StoreError> {
        while let Some(epoch) = self.store.running_epoch(name).await? {
            if matches!(heir, Heir::Of(gone) if gone != epoch) {
                return Ok(None);
            }
            match self.store.take_over(name, writer, epoch, heir == Heir::OfLost).await? {
                Taken::Over => return Ok(None),
                Taken::ByAnother => {}
                Taken::Ours(last) => return Ok(Some(Claim { writer, last })),
            }
        }
        Ok(None)
    }

    fn reader(self: &Arc<Self>, name: Name, origin: Origin) -> Arc<dyn LogReader> {
        Arc::new(RedisReader::new(Arc::clone(self), name, origin))
    }
}

#[cfg(test)]
mod tests {
    use turnkit_id::ExecutionId;
    use turnkit_testkit::redis::RedisServer;

    use super::*;
    use crate::log::Ending;

    #[test]
    fn tls_in_a_process_without_a_provider_is_refused() {
        let refused = RedisLog::builder("rediss://localhost").build().map(drop);
        assert!(matches!(refused, Err(RedisLogError::NoTlsProvider)), "{refused:?}");
    }

    #[tokio::test]
    async fn the_lease_of_a_run_that_has_ended_is_renewed_no_more() {
        let redis = RedisServer::start();
        let log = RedisLog::builder(redis.url()).build().unwrap();
        let id = ExecutionId::parse("one").unwrap();
        let key = ExecutionKey { scope: Scope::local(), id };
        let event = Event::bare("event").unwrap();
        let opening =
            Opening { fingerprint: None, first: event.clone(), takes_input: false, log_id: None };
        let Ok(Start::Started { writer, .. }) = log.start(&key, opening).await else {
            panic!("the id is free");
        };
        assert_eq!(log.shared.node.held().len(), 1);
        writer.end(Ending::Completed, &event).await.unwrap();
        assert_eq!(log.shared.node.held(), []);
    }
}
