//! What the server takes from outside, so that a simulation can give it something else.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use turnkit::{Persisted, TurnContext};
use uuid::Uuid;

/// Clock, ids, and how the database is used. The default is the real world.
#[derive(Clone)]
pub struct Environment {
    /// The time that is written into the database. Nothing is decided by it.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// The ids of new sessions. Nobody may be able to make one up that another user has.
    pub ids: Arc<dyn Fn() -> String + Send + Sync>,
    /// How long a write waits for another process's lock on the database.
    pub busy_timeout: Duration,
    /// Whether the database has threads of its own. Without them, whoever uses it blocks meanwhile.
    pub threads: bool,
    /// Awaited before and after each use of the database that has no threads: so a simulation can stop the server between
    /// a commit and its answer.
    pub pause: Option<Pause>,
    /// Told what each hook of each attempt has done.
    pub on_hook: Option<OnHook>,
}

/// Something to wait for.
pub type Pause = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// An observer of hooks.
pub type OnHook = Arc<dyn Fn(&TurnContext, Hooked) + Send + Sync>;

/// What a hook of the product has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooked {
    /// The answer is saved: by this attempt, or by one before it.
    Persisted(Persisted),
    /// The turn has completed in this attempt.
    Completed,
    /// The attempt has failed.
    Failed,
    /// The attempt has ended.
    Flushed,
}

impl Default for Environment {
    fn default() -> Environment {
        Environment {
            clock: Arc::new(SystemTime::now),
            // Version 7: ids made later sort later, which keeps the index compact.
            ids: Arc::new(|| Uuid::now_v7().to_string()),
            busy_timeout: Duration::from_secs(5),
            threads: true,
            pause: None,
            on_hook: None,
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("busy_timeout", &self.busy_timeout)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
