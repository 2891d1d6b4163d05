//! The product tier as a value: everything but sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use axum::Router;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turnkit_sandbox::SandboxClient;
use turnkit_substrate::Substrate;

use crate::agents::Catalog;
use crate::environment::Environment;
use crate::metrics::Metrics;
use crate::routes::{self, App};
use crate::store::{self, Store};
use crate::turns::{Registry, Traces, Turns};
use crate::users::Users;
use crate::worker::Worker;

/// The product's routes over a database and a substrate (PROTOCOL 4.2).
///
/// It opens no socket and starts nothing by itself: serve [`router`](Self::router), and run
/// [`sweep_always`](Self::sweep_always) beside it.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use turnkit_sandbox::SandboxClient;
/// use turnkit_server::Product;
///
/// let substrate = SandboxClient::builder("http://127.0.0.1:9000").bearer_token("secret").build()?;
/// let product = Product::builder("turnkit-data", substrate).build()?;
/// tokio::spawn(product.sweep_always());
/// axum::serve(tokio::net::TcpListener::bind("127.0.0.1:8787").await?, product.router()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Product {
    turns: Arc<Turns>,
    users: Option<Users>,
    sweep_every: Duration,
    /// Tracks the database's threads, and what may still use them.
    open: TaskTracker,
}

impl Product {
    /// A product that keeps its database in `data_dir` and its agents behind `substrate`.
    #[must_use]
    pub fn builder(data_dir: impl Into<PathBuf>, substrate: SandboxClient) -> ProductBuilder {
        ProductBuilder {
            data_dir: data_dir.into(),
            substrate,
            environment: Environment::default(),
            users: None,
            sweep_every: Duration::from_secs(30),
            max_turns: 4_096,
            embedded: None,
        }
    }

    /// The routes. Without [`users`](ProductBuilder::users), whoever reaches them acts as the one local user, so they answer
    /// requests that name a loopback host only.
    pub fn router(&self) -> Router {
        let (store, turns) = (self.turns.store.clone(), Arc::clone(&self.turns));
        routes::router(App { store, turns, users: self.users.clone() })
    }

    /// Drives, without any client, each open turn that no living process drives: at once, and then again and again. Ends
    /// never; drop it to stop.
    pub fn sweep_always(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        Arc::clone(&self.turns).sweep_always(self.sweep_every)
    }

    /// How many turns this process drives.
    #[must_use]
    pub fn running(&self) -> usize {
        self.turns.registry.len()
    }

    /// Waits until this process drives no turn any more.
    pub async fn drained(&self) {
        self.turns.registry.empty().await;
    }

    /// Cuts the turns that are still driven, and waits until nothing of it is left: the database is closed, and another
    /// process, or the next in this one, finds each turn free. Whoever has a clone, its routes or its sweep must drop them.
    pub(crate) async fn close(self) {
        let Product { turns, open, .. } = self;
        turns.cut.cancel();
        drop(turns);
        open.close();
        open.wait().await;
    }

    /// What it counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.turns.metrics
    }
}

/// Makes a [`Product`].
#[derive(Clone, Debug)]
pub struct ProductBuilder {
    data_dir: PathBuf,
    substrate: SandboxClient,
    environment: Environment,
    users: Option<Users>,
    sweep_every: Duration,
    max_turns: usize,
    embedded: Option<Substrate>,
}

impl ProductBuilder {
    /// Clock, ids, and how the database is used.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> ProductBuilder {
        self.environment = environment;
        self
    }

    /// Who may use it. Default: whoever reaches it, as one local user.
    #[must_use]
    pub fn users(mut self, users: Users) -> ProductBuilder {
        self.users = Some(users);
        self
    }

    /// How often the sweep looks for turns that nobody drives. Default: 30 s.
    #[must_use]
    pub fn sweep_every(mut self, interval: Duration) -> ProductBuilder {
        self.sweep_every = interval;
        self
    }

    /// How many turns this process drives at once. Default: 4,096; beyond it: 503 `too_many_turns`.
    #[must_use]
    pub fn max_turns(mut self, limit: usize) -> ProductBuilder {
        self.max_turns = limit;
        self
    }

    /// The substrate behind the client, where it is in this process: its log is shown among the metrics.
    #[must_use]
    pub(crate) fn embedded(mut self, substrate: Option<Substrate>) -> ProductBuilder {
        self.embedded = substrate;
        self
    }

    /// Opens the database; makes the directory, readable by its owner alone, where it is missing.
    ///
    /// # Errors
    /// A directory that cannot be made or used; a database that cannot be opened, or that a newer version has written.
    pub fn build(self) -> Result<Product, OpenError> {
        let path = self.data_dir.as_path();
        let directory = |source| OpenError::Directory { path: path.to_owned(), source };
        make_private(path).map_err(directory)?;
        let worker = Worker::register(&path.join("workers")).map_err(directory)?;
        let open = TaskTracker::new();
        let store = Store::open(&path.join(store::FILE), self.environment, &open);
        let store = store
            .map_err(|error| OpenError::Database { path: path.to_owned(), source: error.into() })?;
        let turns = Turns {
            store,
            catalog: Catalog::new(self.substrate.clone()),
            sandbox: self.substrate,
            worker,
            registry: Registry::new(self.max_turns),
            metrics: Arc::new(Metrics::default()),
            traces: Traces::default(),
            embedded: self.embedded,
            unattended: Notify::new(),
            cut: CancellationToken::new(),
            _open: open.token(),
        };
        let (turns, users, sweep_every) = (Arc::new(turns), self.users, self.sweep_every);
        Ok(Product { turns, users, sweep_every, open })
    }
}

/// Why there is no [`Product`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory cannot be made or used.
    #[error("use the data directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database in it cannot be opened.
    #[error("open the database in {}", .path.display())]
    Database {
        /// The data directory.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes the directory where it is missing. What users wrote is nobody else's business.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| match error.kind() {
        // Where it is there and is none, the system says merely that it exists.
        io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
        _ => error,
    })
}
