//! The way to Redis: one connection that comes back, and patience until it does.

use std::time::Duration;

use redis::{
    Client, Cmd, FromRedisValue, RedisError, RetryMethod, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig, PubSub},
};
use tokio::{
    sync::OnceCell,
    time::{self, Instant},
};

/// How long a Redis that is out of reach is waited for: by a request, and by a run, whose answer is at stake.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
pub(super) const PATIENCE_OF_RUNS: Duration = Duration::from_secs(10);

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

pub(super) struct Link {
    client: Client,
    /// Made at the first use, in the runtime where that is.
    connection: OnceCell<ConnectionManager>,
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        Self { client, connection: OnceCell::new() }
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.patiently(PATIENCE, Question::Command(command)).await
    }

    pub(super) async fn call<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
        patience: Duration,
    ) -> Result<T, RedisError> {
        self.patiently(patience, Question::Script(script)).await
    }

    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, RedisError> {
        let mut subscription = self.client.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok(subscription)
    }

    /// Asks again where Redis is out of reach, for as long as there is patience.
    async fn patiently<T: FromRedisValue>(
        &self,
        patience: Duration,
        question: Question<'_>,
    ) -> Result<T, RedisError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.ask_once(&question).await {
                Err(error) if may_pass(&error) && Instant::now() < deadline => {
                    tracing::debug!(%error, "Redis is asked again");
                    time::sleep(ASK_AGAIN_AFTER).await;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_once<T: FromRedisValue>(&self, question: &Question<'_>) -> Result<T, RedisError> {
        let connect = || async { self.connect() };
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        match question {
            Question::Command(command) => command.query_async(&mut connection).await,
            Question::Script(script) => script.invoke_async(&mut connection).await,
        }
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

enum Question<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

fn may_pass(error: &RedisError) -> bool {
    error.is_io_error() || !matches!(error.retry_method(), RetryMethod::NoRetry)
}
