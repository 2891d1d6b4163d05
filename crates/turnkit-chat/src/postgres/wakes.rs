//! How one machine hears that another has given up a turn.
//!
//! What is told is a hint: a sweep finds the same turn a little later. So it is told after the commit, and what comes together is told
//! once: a `NOTIFY` inside a transaction makes all commits of the database come one after the other. Where nothing is heard, because a
//! proxy stands in between or the connection is gone, the database is looked into each second.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, interval, sleep, timeout_at};
use tokio_postgres::{Client, Notification};
use uuid::Uuid;

use super::faults::Fault;
use super::leases::free;
use super::transaction::{Access, Tx, run};
use super::values::{text, unsigned};
use super::{Shared, connections};
use crate::StoreErrorKind;

/// The channel of all stores in one database.
const CHANNEL: &str = "turnkit_freed";
/// What comes within this time is told once.
const TOGETHER: Duration = Duration::from_millis(20);
/// Within this time a handle hears what it told itself.
const HEARD: Duration = Duration::from_secs(2);
/// How often the database is looked into where nothing is heard, and where something is: leases run out without a word.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_SELDOM: Duration = Duration::from_secs(5);
/// So many looks pass between two tries to listen.
const DEAF_LOOKS: u32 = 10;
/// Turns that a look sees.
const SEEN: i64 = 256;

/// Tells the others what this handle has freed, until it closes.
pub(super) async fn tell(shared: Arc<Shared>) {
    let telling = async {
        loop {
            shared.to_tell.notified().await;
            sleep(TOGETHER).await;
            if let Err(fault) = say(&shared, &shared.worker).await {
                let error = &fault.error as &dyn std::error::Error;
                tracing::debug!(
                    error,
                    "others are not told of a turn that nobody drives: they look by themselves"
                );
            }
        }
    };
    tokio::select! {
        () = telling => {}
        () = shared.closing.cancelled() => {}
    }
}

/// Says a word on the channel, through the pool.
async fn say(shared: &Shared, word: &str) -> Result<(), Fault> {
    let connection = connections::get(&shared.pool).await?;
    Ok(connection.batch_execute(&format!("NOTIFY {CHANNEL}, '{word}'")).await?)
}

/// Listens to what others tell, until the handle closes.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut seen = HashSet::new();
    let listening = async {
        let mut is_deaf = false;
        loop {
            match Ear::open(&shared).await {
                Ok(mut ear) => {
                    if is_deaf {
                        tracing::info!(
                            "what other processes tell through the database is heard again"
                        );
                    }
                    is_deaf = false;
                    ear.hear(&shared, &mut seen).await;
                }
                Err(fault) if !is_deaf => {
                    is_deaf = true;
                    let error = &fault.error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "nothing is heard of what other processes tell through the database: it is looked into each second"
                    );
                }
                Err(_) => {}
            }
            for _ in 0..DEAF_LOOKS {
                look(&shared, &mut seen).await;
                sleep(LOOK).await;
            }
        }
    };
    tokio::select! {
        () = listening => {}
        () = shared.closing.cancelled() => {}
    }
}

/// A connection that hears.
struct Ear {
    /// The connection ends with it.
    _client: Client,
    told: UnboundedReceiver<Notification>,
}

impl Ear {
    /// Listens, and tries whether what is told through the pool is heard here.
    async fn open(shared: &Shared) -> Result<Ear, Fault> {
        let (client, mut told) = shared.pool.manager().listen().await?;
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        let word = Uuid::new_v4().to_string();
        say(shared, &word).await?;
        let until = Instant::now() + HEARD;
        loop {
            match timeout_at(until, told.recv()).await {
                Ok(Some(heard)) if heard.payload() == word => {
                    return Ok(Ear { _client: client, told });
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Err(Fault::because(
                        StoreErrorKind::Unavailable,
                        "the connection has ended",
                    ));
                }
                Err(_) => {
                    let why = "a NOTIFY is not heard: LISTEN needs a connection that no proxy shares between sessions";
                    return Err(Fault::because(StoreErrorKind::Unavailable, why));
                }
            }
        }
    }

    /// Rings for what is told, until the connection ends.
    async fn hear(&mut self, shared: &Shared, seen: &mut HashSet<(String, u64)>) {
        // The first look is at once: something may have been told before there was an ear for it.
        let mut looks = interval(LOOK_SELDOM);
        loop {
            tokio::select! {
                heard = self.told.recv() => match heard {
                    Some(heard) if heard.payload() != shared.worker => shared.freed.ring(),
                    Some(_) => {}
                    None => return,
                },
                _ = looks.tick() => look(shared, seen).await,
            }
        }
    }
}

/// Rings where there is a turn that nobody drives and that was not there at the last look. One that was just accepted is about to be driven.
async fn look(shared: &Shared, seen: &mut HashSet<(String, u64)>) {
    match run(shared, None, Access::Read, &(), |tx, ()| Box::pin(unattended(tx))).await {
        Ok(now) => {
            if now.iter().any(|turn| !seen.contains(turn)) {
                shared.freed.ring();
            }
            *seen = now;
        }
        Err(fault) => {
            let error = &fault.error as &dyn std::error::Error;
            tracing::debug!(error, "cannot look for turns that nobody drives");
        }
    }
}

async fn unattended(tx: &mut Tx<'_>) -> Result<HashSet<(String, u64)>, Fault> {
    let sql = format!(
        "SELECT t.execution_id, t.epoch FROM turnkit_turns t
        WHERE {} AND t.created_at < clock_timestamp() - interval '1 second' ORDER BY t.number LIMIT $1",
        free()
    );
    let rows = tx.rows(&sql, &[SEEN.into()]).await?;
    rows.iter().map(|row| Ok((text(row, 0)?, unsigned(row, 1)?))).collect()
}
