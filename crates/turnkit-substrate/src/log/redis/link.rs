//! The way to Redis: a thread of its own, one connection that comes back, and patience until it does.
//!
//! Everything that waits for Redis does so on that thread. An agent that blocks its runtime must cost no other run its lease.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, RedisError, RetryMethod, ScriptInvocation,
    ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig, PubSub},
};
use tokio::{
    runtime::{self, Handle, Runtime},
    time::{self, Instant},
};

/// How long a Redis that is out of reach is waited for: by a request, and by a run, whose answer is at stake.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
pub(super) const PATIENCE_OF_RUNS: Duration = Duration::from_secs(10);

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

pub(super) struct Link {
    runtime: Option<Runtime>,
    connection: Arc<Connection>,
}

/// What Redis is asked.
pub(super) enum Question {
    Command(Cmd),
    Script(ScriptInvocation<'static>),
}

impl Link {
    pub(super) fn new(client: Client) -> io::Result<Self> {
        let mut thread = runtime::Builder::new_multi_thread();
        let runtime = thread.worker_threads(1).thread_name("turnkit-redis").enable_all().build()?;
        let connection = Arc::new(Connection { client, manager: Mutex::default() });
        Ok(Self { runtime: Some(runtime), connection })
    }

    /// The thread that waits for Redis; `None` while it ends.
    pub(super) fn thread(&self) -> Option<&Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }

    /// Asks, and asks again where Redis is out of reach, for as long as there is patience.
    ///
    /// What was asked is asked to the end, also when this future is dropped.
    pub(super) async fn ask<T>(
        &self,
        question: Question,
        patience: Duration,
    ) -> Result<T, RedisError>
    where
        T: FromRedisValue + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let asking = async move { connection.ask_patiently(&question, patience).await };
        let thread = self.thread().ok_or_else(ended)?;
        thread.spawn(asking).await.map_err(|_| ended())?
    }

    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, RedisError> {
        let mut subscription = self.connection.client.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok(subscription)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A runtime that is merely dropped waits for its threads, which a task must not do.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Connection {
    client: Client,
    /// Made at the first use. It connects again by itself where the connection is closed.
    manager: Mutex<Option<Arc<ConnectionManager>>>,
}

impl Connection {
    async fn ask_patiently<T: FromRedisValue>(
        &self,
        question: &Question,
        patience: Duration,
    ) -> Result<T, RedisError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.ask_once(question).await {
                Err(error) if may_pass(&error) && Instant::now() < deadline => {
                    tracing::debug!(%error, "Redis is asked again");
                    time::sleep(ASK_AGAIN_AFTER).await;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_once<T: FromRedisValue>(&self, question: &Question) -> Result<T, RedisError> {
        let used = self.manager()?;
        let mut manager = ConnectionManager::clone(&used);
        let answer = match question {
            Question::Command(command) => command.query_async(&mut manager).await,
            Question::Script(script) => script.invoke_async(&mut manager).await,
        };
        answer.inspect_err(|error| {
            if may_be_stale(error) {
                self.leave(&used);
            }
        })
    }

    fn manager(&self) -> Result<Arc<ConnectionManager>, RedisError> {
        let mut manager = self.manager.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(manager) = &*manager {
            return Ok(Arc::clone(manager));
        }
        let made = Arc::new(self.connect()?);
        *manager = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Lets the next question make a connection of its own, unless one has done so since.
    fn leave(&self, used: &Arc<ConnectionManager>) {
        let mut manager = self.manager.lock().unwrap_or_else(PoisonError::into_inner);
        manager.take_if(|manager| Arc::ptr_eq(manager, used));
    }

    fn connect(&self) -> Result<ConnectionManager, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_number_of_retries(1)
            .set_max_delay(ASK_AGAIN_AFTER);
        ConnectionManager::new_lazy_with_config(self.client.clone(), config)
    }
}

/// `BUSY`: another one's script keeps Redis from answering.
fn may_pass(error: &RedisError) -> bool {
    let is_final = matches!(error.retry_method(), RetryMethod::NoRetry);
    error.is_io_error() || !is_final || error.code() == Some("BUSY")
}

/// Whether another connection may do better: this one is half open, for which TCP takes many minutes to find out, or leads to
/// a server that was the primary before a failover.
fn may_be_stale(error: &RedisError) -> bool {
    error.is_timeout() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

fn ended() -> RedisError {
    io::Error::other("the log has ended").into()
}
