//! The product's database: what users ask for, in a file with few and with many sessions and turns.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, stream};
use turnkit_chat::sqlite::SqliteStore;
use turnkit_chat::store::{
    Accepted, FeedId, FeedPage, FeedRead, HistoryLimits, MessagePage, NewRow, SessionPage,
};
use turnkit_chat::{Answer, ChatStore, Principal, SessionId, Turn, TurnRef};

/// How often each call is made in a round, and by how many turns the session grows in it; the table has the median of the fastest round.
const TIMES: usize = 51;
/// The databases take turns, so that whatever else the machine does is shared among them.
const ROUNDS: usize = 9;
/// Accepts at once, while a file is filled.
const AT_ONCE: usize = 256;

/// A file with so many sessions of one user, of which the one in the middle has so many turns.
struct Filled {
    store: SqliteStore,
    middle: SessionId,
    sessions: usize,
    turns: u64,
    _directory: tempfile::TempDir,
}

/// Prints one table.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let sizes = [(20, 20), (20_000, 20), (20, 2_000)];
    let mut databases = Vec::new();
    for (sessions, turns) in sizes {
        eprintln!("{sessions} sessions, {turns} turns in one of them");
        databases.push(runtime.block_on(fill(sessions, turns))?);
    }
    let mut columns = vec![Vec::new(); sizes.len()];
    for round in 0..ROUNDS {
        for (filled, column) in databases.iter().zip(&mut columns) {
            let measured = runtime.block_on(measure(filled, round))?;
            if column.is_empty() {
                *column = measured;
            } else {
                column.iter_mut().zip(measured).for_each(|(best, now)| best.1 = best.1.min(now.1));
            }
        }
    }
    for filled in &databases {
        runtime.block_on(filled.store.close());
    }
    let heads = sizes.map(|(sessions, turns)| format!("{sessions} sessions, {turns} turns in one"));
    println!("| median of {TIMES} calls, the fastest of {ROUNDS} rounds | {} |", heads.join(" | "));
    println!("|---|--:|--:|--:|");
    let Some(first) = columns.first() else { return Ok(()) };
    for (row, (name, _)) in first.iter().enumerate() {
        let times = columns.iter().map(|column| in_micros(column[row].1));
        println!("| {name} | {} |", times.collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}

fn owner() -> Principal {
    Principal::new("tenant", "user")
}

fn session(number: usize) -> SessionId {
    SessionId::new(format!("session-{number:06}"))
}

async fn turn(store: &SqliteStore, session: &SessionId, turn_id: String) -> Result<Turn> {
    let message = "What is the airspeed of an unladen swallow, and of a laden one? ".repeat(4);
    let at = TurnRef::new(session.clone(), turn_id);
    match store.accept(NewRow::new(owner(), at, message, "agent")).await? {
        Accepted::New(row) => Ok(row.turn),
        other => bail!("a turn was not accepted: {other:?}"),
    }
}

async fn answer(store: &SqliteStore, turn: &Turn) -> Result<()> {
    let text = "That depends on whether it is an African or a European swallow. ".repeat(30);
    store.save(turn.execution_id.clone(), Answer::new(text)).await?;
    Ok(())
}

async fn fill(sessions: usize, turns: u64) -> Result<Filled> {
    let directory = tempfile::tempdir()?;
    let store = SqliteStore::open(directory.path().join("chat.db"))?;
    let one = async |number: usize| -> Result<()> {
        let id = session(number);
        store.open_session(owner(), id.clone()).await?;
        let first = turn(&store, &id, "t0".to_owned()).await?;
        answer(&store, &first).await
    };
    let mut filling = stream::iter(0..sessions).map(&one).buffer_unordered(AT_ONCE);
    while let Some(filled) = filling.next().await {
        filled?;
    }
    drop(filling);
    let middle = session(sessions / 2);
    for number in 1..turns {
        let next = turn(&store, &middle, format!("t{number}")).await?;
        answer(&store, &next).await?;
    }
    Ok(Filled { store, middle, sessions, turns, _directory: directory })
}

async fn measure(filled: &Filled, round: usize) -> Result<Vec<(&'static str, Duration)>> {
    let Filled { store, middle, sessions, turns, .. } = filled;
    let listed = |before| {
        let page = SessionPage { before, limit: 20, archived: Some(false) };
        store.sessions(owner(), page)
    };
    let shown = |before| {
        let page = MessagePage { branch: None, before, turns: 10 };
        store.session(owner(), middle.clone(), page)
    };
    let newest = store.sessions(owner(), SessionPage { before: None, limit: 1, archived: None });
    let FeedId { feed, number } = newest.await?.feed;
    let mut rows = Vec::new();
    rows.push(("the newest 20 sessions", median(async || listed(None).await).await?));
    let half = session(sessions / 2);
    rows.push((
        "20 sessions from the middle",
        median(async || listed(Some(half.clone())).await).await?,
    ));
    rows.push(("the newest 10 turns of the session", median(async || shown(None).await).await?));
    rows.push(("10 turns from its middle", median(async || shown(Some(turns / 2)).await).await?));
    let branch = |branch| {
        let page = MessagePage { branch: Some(branch), before: None, turns: 10 };
        store.session(owner(), middle.clone(), page)
    };
    rows.push((
        "the newest 10 turns of the branch of its first one",
        median(async || branch(0).await).await?,
    ));
    let read = || FeedRead {
        after: Some(FeedId { feed: feed.clone(), number: number.saturating_sub(20) }),
        session: None,
        limit: 20,
    };
    rows.push((
        "the last 20 entries of the feed",
        median(async || match store.feed(owner(), read()).await? {
            FeedPage::Entries(entries, _) => Ok(entries.len()),
            FeedPage::Expired => Ok(0),
        })
        .await?,
    ));
    let open = turn(store, middle, format!("measured-{round}")).await?;
    let limits = HistoryLimits { turns: 20, ..HistoryLimits::default() };
    for (name, turns) in [
        ("the history of a new turn, 20 turns", 20),
        ("the history of a new turn, as many as there are of 50", 50),
    ] {
        let limits = HistoryLimits { turns, ..limits };
        rows.push((name, median(async || store.history(open.clone(), limits).await).await?));
    }
    answer(store, &open).await?;
    let count = std::cell::Cell::new(0);
    rows.push((
        "a new turn: accepted, its history of 20 turns read, its answer saved (two commits)",
        median(async || {
            count.set(count.get() + 1);
            let new = turn(store, middle, format!("more-{round}-{}", count.get()))
                .await
                .map_err(no_store)?;
            store.history(new.clone(), limits).await?;
            answer(store, &new).await.map_err(no_store)
        })
        .await?,
    ));
    Ok(rows)
}

fn no_store(error: anyhow::Error) -> turnkit_chat::StoreError {
    turnkit_chat::StoreError::because(turnkit_chat::StoreErrorKind::Broken, error)
}

async fn median<T>(
    call: impl AsyncFn() -> Result<T, turnkit_chat::StoreError>,
) -> Result<Duration> {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let since = Instant::now();
        call().await.context("ask the store")?;
        times.push(since.elapsed());
    }
    times.sort();
    Ok(times[TIMES / 2])
}

fn in_micros(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
