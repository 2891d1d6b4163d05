//! The pool, and how a connection is made.
//!
//! A transaction relies on nothing that its session had before: on no setting, no lock, and on prepared statements only where it finds that
//! the session is this connection's own. So a connection may be one of a proxy that gives each transaction another session.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{
    self, Metrics, Object, PoolConfig, PoolError, RecycleError, RecycleResult, TimeoutType,
    Timeouts,
};
use futures_util::future::poll_fn;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Notification, Statement, Transaction};
use uuid::Uuid;

use super::faults::{Fault, Remedy};
use super::tls::Tls;
use crate::{StoreError, StoreErrorKind};

/// How long a call waits for one of the pool's connections, and for a new one.
const WAIT: Duration = Duration::from_secs(3);
/// After so long without a word from the server a connection is tried, and given up some seconds later.
const IDLE: Duration = Duration::from_secs(15);

/// Connections for transactions, at most so many.
pub(super) type Pool = managed::Pool<Server>;
/// One of them. Dropped, it goes back to the pool.
pub(super) type Pooled = Object<Server>;

/// A connection, and the statements that its session has prepared.
///
/// The driver counts their names in each process, so behind a proxy another client may have given one of them to another statement in the
/// session that a transaction gets. So the first of a connection's statements has a name that nobody else gives, and each transaction begins
/// by it: where the session knows it, the session is the one that all others were prepared in as well.
pub(super) struct Connection {
    client: Client,
    statements: Option<Statements>,
}

/// What a session has prepared.
pub(super) struct Statements {
    /// SQL that each transaction begins by; an error where the session is another one.
    pub(super) begin_sql: String,
    pub(super) by_sql: HashMap<String, Statement>,
}

impl Connection {
    /// The client, and what its session has prepared.
    pub(super) fn parts(&mut self) -> (&mut Client, &mut Option<Statements>) {
        (&mut self.client, &mut self.statements)
    }
}

impl Statements {
    /// Prepares `sql`, by which transactions are to begin, in the session of this one, and runs it.
    pub(super) async fn prepare(
        sql: &str,
        transaction: &Transaction<'_>,
    ) -> Result<Statements, tokio_postgres::Error> {
        let name = format!("turnkit_{}", Uuid::new_v4().simple());
        let execute = format!("EXECUTE {name}");
        transaction.batch_execute(&format!("PREPARE {name} AS {sql}; {execute}")).await?;
        Ok(Statements { begin_sql: execute, by_sql: HashMap::new() })
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// The database's server, or several of which one takes writes.
pub(super) struct Server {
    config: Config,
    tls: Tls,
}

impl Server {
    /// The server that a URL names. What is wrong with a URL is told without what stands in it: it may hold a password.
    pub(super) fn parse(url: &str) -> Result<Server, Fault> {
        let broken = |why: &str| Fault::broken(format!("the database's URL {why}"));
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(broken("does not begin with postgres://"));
        }
        let mut config: Config = verified(url).parse().map_err(|_| {
            broken("is none of PostgreSQL: postgres://user:password@host:port/database?option=value, everything else in percent-encoding")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(broken("names no host"));
        }
        if config.get_user().is_none() {
            return Err(broken("names no user"));
        }
        // A standby would refuse all writes, and one that was a primary a moment ago does.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config
            .keepalives_idle(IDLE)
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(WAIT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(IDLE);
        }
        if config.get_application_name().is_none() {
            config.application_name("turnkit");
        }
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => Tls::off(),
            _ => Tls::by_platform()
                .map_err(|error| StoreError::because(StoreErrorKind::Unavailable, error))?,
        };
        Ok(Server { config, tls })
    }

    pub(super) fn pool(self, connections: usize) -> Pool {
        let timeouts = Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) };
        let mut config = PoolConfig::new(connections);
        config.timeouts = timeouts;
        let pool = Pool::builder(self).config(config).runtime(Runtime::Tokio1);
        // It fails for a time-out without a runtime alone.
        pool.build().unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// A connection of its own, and what is told on it unasked. It ends once the client is dropped.
    pub(super) async fn listen(
        &self,
    ) -> Result<(Client, mpsc::UnboundedReceiver<Notification>), Fault> {
        let connecting = timeout(WAIT, Box::pin(self.config.connect(self.tls.clone())));
        let slow = |_| Fault::because(StoreErrorKind::Unavailable, "no connection in time");
        let (client, mut connection) = connecting.await.map_err(slow)??;
        let (heard, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message
                    && heard.send(notification).is_err()
                {
                    return;
                }
            }
        });
        Ok((client, told))
    }
}

impl managed::Manager for Server {
    type Type = Connection;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Connection, tokio_postgres::Error> {
        // Large, and rare: in a box it does not make every call so large.
        let connecting = Box::pin(self.config.connect(self.tls.clone()));
        let (client, connection) = connecting.await?;
        tokio::spawn(async move {
            // Whoever uses it is told the same.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database has ended");
            }
        });
        Ok(Connection { client, statements: None })
    }

    async fn recycle(&self, client: &mut Connection, _: &Metrics) -> RecycleResult<Self::Error> {
        if client.is_closed() { Err(RecycleError::message("it is closed")) } else { Ok(()) }
    }
}

/// The same URL as the driver reads it, which knows no `sslmode` above `require`: here a certificate is verified, with its name, wherever TLS is
/// spoken.
fn verified(url: &str) -> String {
    let Some((before, options)) = url.split_once('?') else {
        return url.to_owned();
    };
    let options = options.split('&').map(|option| match option {
        "sslmode=verify-ca" | "sslmode=verify-full" => "sslmode=require",
        option => option,
    });
    format!("{before}?{}", options.collect::<Vec<_>>().join("&"))
}

/// A connection of the pool, within the bounds of waiting.
pub(super) async fn get(pool: &Pool) -> Result<Pooled, Fault> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => {
            // Where there is none now, there is none in a moment either.
            Fault { remedy: Remedy::None, ..Fault::from_server(&error) }
        }
        PoolError::Timeout(TimeoutType::Wait) => {
            Fault::because(StoreErrorKind::Busy, "every connection of the pool is in use")
        }
        PoolError::Timeout(_) => {
            Fault::because(StoreErrorKind::Unavailable, "no connection in time")
        }
        PoolError::Closed => closed(),
        error => Fault::because(StoreErrorKind::Unavailable, error.to_string()),
    })
}

pub(super) fn closed() -> Fault {
    Fault::because(StoreErrorKind::Unavailable, "the handle is closed")
}
