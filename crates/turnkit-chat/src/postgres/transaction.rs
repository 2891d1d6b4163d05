//! One transaction for each call, done whole or not at all, within a bound.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use deadpool::managed::Object;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use futures_util::future::try_join;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Row, Statement, Transaction};

use super::connections::{Connection, Statements};
use super::faults::{Fault, Remedy};
use super::values::Value;
use super::{InTransaction, Shared, connections, feed};
use crate::store::Change;
use crate::{Principal, SessionId, StoreErrorKind, Turn};

/// A call is begun again until then.
const RETRY: Duration = Duration::from_secs(2);
/// So often, at most.
const TRIES: u32 = 8;
/// Work and its commit take at most so long, from the beginning of a try; with [`RETRY`] any call is answered within 10 s.
const WORK: Duration = Duration::from_secs(6);
const ALL: Duration = Duration::from_millis(7_500);

/// The bounds that the server keeps: a third of a lease at most for a statement, so that a worker which waits renews in time. A worker that
/// hangs in the middle loses its transaction, and with it the locks that others wait for.
pub(super) const BOUNDS: &str = "SELECT set_config('statement_timeout', '5s', true), set_config('lock_timeout', '3s', true), \
    set_config('idle_in_transaction_session_timeout', '5s', true)";

/// What a call does inside its transaction. It may be begun again, so it takes its input by reference.
pub(super) type Work<I, T> =
    for<'t, 'c> fn(&'t mut Tx<'c>, &'t I) -> BoxFuture<'t, Result<T, Fault>>;

/// Whether a transaction writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It sees one moment, and writes nothing.
    Read,
    /// Each statement sees what was committed before it.
    Write,
}

/// A transaction under way.
pub(super) struct Tx<'c> {
    pub(super) transaction: Transaction<'c>,
    /// Where they are still to be sent.
    bounds: Option<&'c str>,
    /// What the session has prepared, where it is known to be this connection's own.
    statements: Option<&'c mut HashMap<String, Statement>>,
    /// The worker whose handle it is.
    pub(super) worker: &'c str,
    /// The product's own statements.
    pub(super) product: Option<&'c dyn InTransaction>,
    /// What has changed, and in whose session: written last, so that the counter of a feed is held for a moment only.
    told: Option<(Principal, SessionId)>,
    changes: Vec<Told>,
    /// Whether there may be a turn now that nobody drives.
    pub(super) freed: bool,
    /// Whether all is to be undone, although the call has an answer.
    pub(super) undo: bool,
}

/// What an entry of a feed is to tell.
pub(super) struct Told {
    pub(super) change: Change,
    pub(super) turn_id: Option<String>,
    pub(super) interaction: Option<String>,
}

impl Tx<'_> {
    /// The rows that a statement gives.
    pub(super) async fn rows(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Fault> {
        if let Some(statement) = self.prepared(sql, values).await? {
            return Ok(self.transaction.query(&statement, &parameters(values)).await?);
        }
        let values = typed(values);
        let rows = self.transaction.query_typed(sql, &values);
        Ok(match self.bounds.take() {
            // Both are sent at once.
            Some(bounds) => try_join(self.transaction.batch_execute(bounds), rows).await?.1,
            None => rows.await?,
        })
    }

    /// The one row that a statement gives, if any.
    pub(super) async fn row(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, values).await?.pop())
    }

    /// The row of a statement that always gives one.
    pub(super) async fn one(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Row, Fault> {
        self.row(sql, values).await?.ok_or_else(|| Fault::broken("a statement gave no row"))
    }

    /// Whether a statement gives a row.
    pub(super) async fn exists(&mut self, sql: &str, values: &[Value<'_>]) -> Result<bool, Fault> {
        Ok(!self.rows(sql, values).await?.is_empty())
    }

    /// How many rows a statement has written.
    pub(super) async fn write(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, Fault> {
        if let Some(statement) = self.prepared(sql, values).await? {
            return Ok(self.transaction.execute(&statement, &parameters(values)).await?);
        }
        let values = typed(values);
        let written = self.transaction.execute_typed(sql, &values);
        Ok(match self.bounds.take() {
            Some(bounds) => try_join(self.transaction.batch_execute(bounds), written).await?.1,
            None => written.await?,
        })
    }

    /// The statement as the session has it, where it can be relied on. To read and to plan one takes longer than to run it.
    async fn prepared(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Option<Statement>, Fault> {
        let Some(statements) = self.statements.as_deref_mut() else { return Ok(None) };
        if let Some(known) = statements.get(sql) {
            return Ok(Some(known.clone()));
        }
        let kinds: Vec<Type> = values.iter().map(Value::kind).collect();
        let statement = self.transaction.prepare_typed(sql, &kinds).await?;
        statements.insert(sql.to_owned(), statement.clone());
        Ok(Some(statement))
    }

    /// Tells the session's owner of a change in it; `turn_id` names the turn that has changed.
    pub(super) fn tell(
        &mut self,
        owner: &Principal,
        session: &SessionId,
        change: Change,
        turn_id: Option<&str>,
    ) {
        self.told.get_or_insert_with(|| (owner.clone(), session.clone()));
        self.changes.push(Told { change, turn_id: turn_id.map(str::to_owned), interaction: None });
    }

    /// Tells a turn's owner of a change that is about a question of its agent.
    pub(super) fn tell_of(&mut self, turn: &Turn, change: Change, interaction: &str) {
        self.tell(&turn.owner, &turn.session_id, change, Some(&turn.turn_id));
        if let Some(told) = self.changes.last_mut() {
            told.interaction = Some(interaction.to_owned());
        }
    }

    /// Runs statements of the product. A panic of theirs is an error of the call.
    pub(super) async fn guarded<T>(statements: impl Future<Output = T>) -> Result<T, Fault> {
        let ran = AssertUnwindSafe(statements).catch_unwind().await;
        ran.map_err(|_| Fault::broken("the product's statements panicked"))
    }
}

fn typed<'v>(values: &'v [Value<'_>]) -> Vec<(&'v (dyn ToSql + Sync), Type)> {
    values.iter().map(|value| (value as &(dyn ToSql + Sync), value.kind())).collect()
}

fn parameters<'v>(values: &'v [Value<'_>]) -> Vec<&'v (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Does `work` in a transaction of its own, and commits it. What was undone because of others, or was lost with its connection before the
/// commit, is done again.
pub(super) async fn run<I, T>(
    shared: &Shared,
    product: Option<&dyn InTransaction>,
    access: Access,
    input: &I,
    work: Work<I, T>,
) -> Result<T, Fault> {
    let since = Instant::now();
    let mut tries = 0;
    loop {
        let fault = match attempt(shared, product, access, input, work).await {
            Ok(done) => return Ok(done),
            Err(fault) => fault,
        };
        tries += 1;
        if fault.remedy == Remedy::None || tries == TRIES || since.elapsed() > RETRY {
            return Err(fault);
        }
        match fault.remedy {
            // What ended this connection has ended the others.
            Remedy::Elsewhere => _ = shared.pool.retain(|_, _| false),
            Remedy::Unprepared => shared.prepares.store(false, Relaxed),
            Remedy::None | Remedy::Again => {}
        }
        // Those who were in each other's way are not to meet again.
        let jitter = shared.worker.as_bytes().last().copied().unwrap_or_default() % 16;
        sleep(Duration::from_millis(u64::from(tries * tries * 3) + u64::from(jitter))).await;
    }
}

async fn attempt<I, T>(
    shared: &Shared,
    product: Option<&dyn InTransaction>,
    access: Access,
    input: &I,
    work: Work<I, T>,
) -> Result<T, Fault> {
    let since = Instant::now();
    let mut connection = connections::get(&shared.pool).await?;
    let done = whole(shared, product, access, &mut connection, since, input, work).await;
    match done {
        Ok((done, freed)) => {
            if freed {
                shared.tell_freed();
            }
            Ok(done)
        }
        Err(fault) => {
            // Dropped, the connection is closed, and whatever it still does is undone.
            if fault.spoils {
                drop(Object::take(connection));
            }
            Err(fault)
        }
    }
}

/// A transaction from its beginning to its commit.
async fn whole<I, T>(
    shared: &Shared,
    product: Option<&dyn InTransaction>,
    access: Access,
    connection: &mut Connection,
    since: Instant,
    input: &I,
    work: Work<I, T>,
) -> Result<(T, bool), Fault> {
    let working = async {
        let mut tx = begin(shared, product, access, connection).await?;
        let done = work(&mut tx, input).await?;
        if tx.undo {
            tx.transaction.rollback().await?;
            return Ok::<_, Fault>((done, None, false));
        }
        if let Some((owner, session)) = tx.told.take() {
            let changes = std::mem::take(&mut tx.changes);
            feed::write(&mut tx, &owner, &session, &changes).await?;
        }
        Ok((done, Some(tx.transaction), tx.freed))
    };
    let worked = timeout_at(since + WORK, working).await;
    let slow = |_| Fault::because(StoreErrorKind::Busy, "the database takes too long").spoiling();
    let (done, transaction, freed) = worked.map_err(slow)??;
    if let Some(transaction) = transaction {
        let committed = timeout_at(since + ALL, transaction.commit()).await;
        let silent =
            |_| Fault::because(StoreErrorKind::OutcomeUnknown, "no answer to a commit").spoiling();
        committed.map_err(silent)?.map_err(|error| Fault::at_commit(&error))?;
    }
    Ok((done, freed))
}

async fn begin<'c>(
    shared: &'c Shared,
    product: Option<&'c dyn InTransaction>,
    access: Access,
    connection: &'c mut Connection,
) -> Result<Tx<'c>, Fault> {
    let (client, statements) = connection.parts();
    let builder = client.build_transaction();
    let builder = match access {
        Access::Read => builder.isolation_level(IsolationLevel::RepeatableRead).read_only(true),
        // Whatever the database's own default is: locks are taken, and then read behind them.
        Access::Write => builder.isolation_level(IsolationLevel::ReadCommitted),
    };
    let transaction = builder.start().await?;
    let bounds = shared.bounds.as_str();
    // Transactions that read are planned anew: a page, for the rows that it asks for.
    let (bounds, statements) = if access == Access::Write && shared.prepares.load(Relaxed) {
        if let Some(statements) = &*statements {
            transaction.batch_execute(&statements.begin_sql).await?;
        } else {
            *statements = Some(Statements::prepare(bounds, &transaction).await?);
        }
        (None, statements.as_mut().map(|statements| &mut statements.by_sql))
    } else {
        (Some(bounds), None)
    };
    Ok(Tx {
        transaction,
        bounds,
        statements,
        worker: &shared.worker,
        product,
        told: None,
        changes: Vec::new(),
        freed: false,
        undo: false,
    })
}
