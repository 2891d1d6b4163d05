//! The product's database in PostgreSQL: whole turns, beside the bare statements of a turn on the same server.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use futures::try_join;
use turnkit_chat::postgres::PostgresStore;
use turnkit_chat::postgres::tokio_postgres::{Client, NoTls, Statement, connect};
use turnkit_chat::store::{Accepted, Claim, Claimed, NewRow};
use turnkit_chat::{Answer, ChatStore, Principal, SessionId, TurnRef};
use turnkit_id::LogId;
use turnkit_testkit::postgres::PostgresServer;

/// As many as a server of ours has. Each drives one session's turns, one after the other.
const CONNECTIONS: usize = 16;
/// Turns of each.
const TURNS: usize = 200;
/// Turns of each before these, which are not counted: until its connections are made and its statements planned.
const WARM_UP: usize = 20;
const TIMED: Range<usize> = WARM_UP..WARM_UP + TURNS;
/// Ours and bare in turn, so that both have the same machine.
const ROUNDS: usize = 5;

/// Prints one table.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // It waits for the disk, as one in production does.
    let server = PostgresServer::with(&[]);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        ours.push(runtime.block_on(through_the_store(&server.database()))?);
        bare.push(runtime.block_on(through_bare_statements(&server.database()))?);
    }
    let [ours, bare] = [ours, bare].map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    });
    println!(
        "| turns a second: accepted, claimed and saved in three transactions, over {CONNECTIONS} connections | median of {ROUNDS} rounds |"
    );
    println!("|---|--:|");
    println!("| the store | {ours:.0} |");
    println!("| the bare statements, prepared | {bare:.0} |");
    println!("| the store of the bare statements | {:.0} % |", 100.0 * ours / bare);
    Ok(())
}

fn message() -> String {
    "What is the airspeed of an unladen swallow, and of a laden one? ".repeat(4)
}

fn answer() -> String {
    "That depends on whether it is an African or a European swallow. ".repeat(30)
}

/// Turns a second.
fn rate(time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let turns = (CONNECTIONS * TURNS) as f64;
    turns / time.as_secs_f64()
}

async fn through_the_store(url: &str) -> Result<f64> {
    let store = PostgresStore::builder(url).connections(CONNECTIONS).open().await?;
    store.join(LogId::parse("log")?).await?;
    let owner = |number: usize| Principal::new("tenant", format!("user-{number}"));
    let session = |number: usize| SessionId::new(format!("session-{number}"));
    for number in 0..CONNECTIONS {
        store.open_session(owner(number), session(number)).await?;
    }
    let drive = async |number: usize, turns: Range<usize>| -> Result<()> {
        for turn in turns {
            let at = TurnRef::new(session(number), format!("turn-{turn}"));
            let new = NewRow::new(owner(number), at, message(), "agent");
            let Accepted::New(row) = store.accept(new).await? else {
                bail!("a turn was not accepted");
            };
            let id = row.turn.execution_id;
            let nonce = 1;
            let claim = Claim { execution_id: id.clone(), nonce, seen_epoch: 0, may_run: true };
            let Claimed::Run(_) = store.claim(claim).await? else {
                bail!("a turn was not claimed");
            };
            store.save(id, Answer::new(answer())).await?;
        }
        Ok(())
    };
    try_join_all((0..CONNECTIONS).map(|number| drive(number, 0..WARM_UP))).await?;
    let since = Instant::now();
    try_join_all((0..CONNECTIONS).map(|number| drive(number, TIMED))).await?;
    let time = since.elapsed();
    store.close().await;
    Ok(rate(time))
}

/// What must be written of a turn, in the store's own tables, and nothing else: no feed, no queue, no look at who asks.
async fn through_bare_statements(url: &str) -> Result<f64> {
    PostgresStore::open(url).await?.close().await;
    let mut all = Vec::new();
    for number in 0..CONNECTIONS {
        let (client, connection) = connect(url, NoTls).await?;
        tokio::spawn(connection);
        let sql =
            "INSERT INTO turnkit_sessions (id, name, tenant_id, user_id, created_at, active_at)
            VALUES ($1, $1, 'tenant', $1, clock_timestamp(), clock_timestamp())";
        client.execute(sql, &[&format!("session-{number}")]).await?;
        let mut bare = Bare::prepare(client, format!("session-{number}")).await?;
        bare.drive(0..WARM_UP).await?;
        all.push(bare);
    }
    let since = Instant::now();
    try_join_all(all.iter_mut().map(|bare| bare.drive(TIMED))).await?;
    Ok(rate(since.elapsed()))
}

/// A connection with its statements, and the session whose turns go over it.
struct Bare {
    client: Client,
    session: String,
    counted: Statement,
    opened: Statement,
    said: Statement,
    claimed: Statement,
    ended: Statement,
    touched: Statement,
}

impl Bare {
    async fn prepare(client: Client, session: String) -> Result<Bare> {
        let counted = client.prepare(
            "UPDATE turnkit_sessions SET next_index = next_index + 1, active_at = clock_timestamp() WHERE id = $1 RETURNING next_index - 1",
        );
        let opened = client.prepare(
            "INSERT INTO turnkit_turns (session_id, turn_index, turn_id, execution_id, agent, lane, created_at)
                VALUES ($1, $2, $3, $4, 'agent', 0, clock_timestamp())",
        );
        let said = client.prepare(
            "INSERT INTO turnkit_messages (execution_id, role, session_id, turn_index, text, status, created_at)
                VALUES ($1, $2, $3, $4, $5, 'complete', clock_timestamp())",
        );
        let claimed = client.prepare(
            "UPDATE turnkit_turns SET epoch = epoch + 1, worker = 'worker', nonce = $2, ran = true, dispatched = true, claimed_at = clock_timestamp()
                WHERE execution_id = $1 AND state = 'open' AND epoch = 0",
        );
        let ended = client.prepare(
            "UPDATE turnkit_turns SET state = 'complete', ended_at = clock_timestamp() WHERE execution_id = $1 AND state <> 'complete'",
        );
        let touched = client
            .prepare("UPDATE turnkit_sessions SET active_at = clock_timestamp() WHERE id = $1");
        let (counted, opened, said, claimed, ended, touched) =
            try_join!(counted, opened, said, claimed, ended, touched)?;
        Ok(Bare { client, session, counted, opened, said, claimed, ended, touched })
    }

    async fn drive(&mut self, turns: Range<usize>) -> Result<()> {
        let Bare { client, session, counted, opened, said, claimed, ended, touched } = self;
        for turn in turns {
            let (name, execution) = (format!("turn-{turn}"), format!("tenant:{session}:{turn}"));
            let tx = client.transaction().await?;
            let index: i64 = tx.query_one(counted, &[session]).await?.get(0);
            tx.execute(opened, &[session, &index, &name, &execution]).await?;
            tx.execute(said, &[&execution, &"user", session, &index, &message()]).await?;
            tx.commit().await.context("accept")?;
            let tx = client.transaction().await?;
            tx.execute(claimed, &[&execution, &&[0_u8; 16][..]]).await?;
            tx.commit().await.context("claim")?;
            let tx = client.transaction().await?;
            tx.execute(ended, &[&execution]).await?;
            tx.execute(said, &[&execution, &"assistant", session, &index, &answer()]).await?;
            tx.execute(touched, &[session]).await?;
            tx.commit().await.context("save")?;
        }
        Ok(())
    }
}
