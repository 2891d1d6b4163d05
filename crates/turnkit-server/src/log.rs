//! Where the log of a substrate of ours is kept.

use std::fmt;
use std::sync::Arc;

use turnkit_substrate::log::LogError;
use turnkit_substrate::log::memory::MemoryLog;
#[cfg(feature = "redis")]
use turnkit_substrate::log::redis::{RedisLog, RedisLogError};
use turnkit_substrate::{ExecutionLog, Limits};

/// Where the log of an embedded substrate is kept.
#[derive(Clone, Default)]
pub enum LogChoice {
    /// In this process: it ends with it.
    #[default]
    Memory,
    /// In the Redis of this URL, which all servers that name it share, and which outlives them. Behind the feature `redis`.
    #[cfg(feature = "redis")]
    Redis(String),
}

impl LogChoice {
    /// The log, once its store has answered.
    pub(crate) async fn open(&self, limits: Limits) -> Result<Arc<dyn ExecutionLog>, OpenLogError> {
        Ok(match self {
            LogChoice::Memory => Arc::new(MemoryLog::new(limits)),
            #[cfg(feature = "redis")]
            LogChoice::Redis(url) => {
                let log = RedisLog::builder(url).limits(limits).build()?;
                log.check().await?;
                Arc::new(log)
            }
        })
    }

    /// Whether other processes can reach it.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            LogChoice::Memory => false,
            #[cfg(feature = "redis")]
            LogChoice::Redis(_) => true,
        }
    }
}

/// Without the URL, which may hold a password.
impl fmt::Debug for LogChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_shared() { "Redis(..)" } else { "Memory" })
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenLogError {
    /// The URL names no Redis.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] RedisLogError),
    /// Redis does not answer, or refuses the user or password.
    #[error("use the log in Redis (--log)")]
    Store(#[from] LogError),
}
