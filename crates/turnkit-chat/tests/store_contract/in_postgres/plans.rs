//! How much each statement reads where there are many sessions, and many turns in one of them.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::Value;
use turnkit_chat::store::{
    Accepted, Claim, Claimed, Deletion, EndedBy, FeedId, FeedPage, FeedRead, Find, HistoryLimits,
    MessagePage, NewRow, QueueChange, SessionPage, SessionUpdate,
};
use turnkit_chat::{ChatStore, Failure, Principal, SessionId, TurnRef};
use turnkit_id::LogId;

use super::*;

const SESSIONS: u32 = 5_000;
const TURNS: u32 = 2_000;
/// What the pages and the history of this test take.
const PAGE: u32 = 10;
/// Rows that a statement may read for a page.
const FEW: u64 = 250;

fn owner() -> Principal {
    Principal::new("tenant", "user")
}

fn long() -> SessionId {
    SessionId::new("long")
}

/// So many sessions and feed entries, and so many turns in one of them.
fn fill(database: &Database) {
    let (owner, sessions, turns) = ("'tenant', 'user'", SESSIONS, TURNS);
    database.sql(&format!(
        "INSERT INTO turnkit_sessions (id, name, tenant_id, user_id, created_at, active_at, next_index)
            SELECT 's' || n, 's' || n, {owner}, clock_timestamp(), clock_timestamp() - n * interval '1 second', 0
                FROM generate_series(1, {sessions}) n;
        INSERT INTO turnkit_sessions (id, name, tenant_id, user_id, created_at, active_at, next_index)
            VALUES ('long', 'name', {owner}, clock_timestamp(), clock_timestamp(), {turns});
        INSERT INTO turnkit_turns (execution_id, session_id, turn_id, turn_index, parent_index, agent, state, created_at,
                lane, said_bytes, said_before, said_bytes_before)
            SELECT 'e' || n, 'long', 't' || n, n, nullif(n - 1, -1), 'agent', 'complete', clock_timestamp(), 0, 10, n, 10 * n
                FROM generate_series(0, {turns} - 1) n;
        INSERT INTO turnkit_messages (session_id, turn_index, execution_id, role, text, status, created_at)
            SELECT 'long', n, 'e' || n, role, 'said ' || n, 'complete', clock_timestamp()
                FROM generate_series(0, {turns} - 1) n, unnest(ARRAY['user', 'assistant']) role;
        INSERT INTO turnkit_feeds (tenant_id, user_id, feed, newest) VALUES ({owner}, '0123456789abcdef', {sessions});
        INSERT INTO turnkit_feed_entries (feed, number, change, session_id, at)
            SELECT '0123456789abcdef', n, 'session.updated', 's' || n, clock_timestamp() FROM generate_series(1, {sessions}) n;
        ANALYZE;"
    ));
}

/// What users and workers do, each once.
async fn use_all(store: &PostgresStore) {
    let (half, middle) = (SessionId::new(format!("s{}", SESSIONS / 2)), u64::from(TURNS) / 2);
    store.join(LogId::parse("log").unwrap()).await.unwrap();
    for before in [None, Some(half.clone())] {
        for archived in [None, Some(false)] {
            let page = SessionPage { before: before.clone(), limit: PAGE, archived };
            store.sessions(owner(), page).await.unwrap();
        }
    }
    let middle_turn = format!("t{middle}");
    for (before, branch) in [(None, None), (Some(middle), None), (None, Some(middle))] {
        let page = MessagePage { branch, before, turns: PAGE };
        store.session(owner(), long(), page).await.unwrap().unwrap();
    }
    let place = |number| Some(FeedId { feed: "0123456789abcdef".to_owned(), number });
    for session in [None, Some(half.clone())] {
        let after = place(u64::from(SESSIONS) - 20);
        let read = FeedRead { after, session, limit: PAGE as usize };
        let page = store.feed(owner(), read).await.unwrap();
        assert!(matches!(page, FeedPage::Entries(..)));
    }
    store.named(owner(), "name".to_owned(), None).await.unwrap().unwrap();
    store.named(owner(), "another".to_owned(), Some(SessionId::new("new"))).await.unwrap();
    let update = SessionUpdate { title: Some("title".to_owned()), archived: Some(true) };
    store.update_session(owner(), half.clone(), update).await.unwrap();

    let at = |turn: &str| TurnRef::new(long(), turn);
    let new =
        |turn: &str| NewRow { queue: true, ..NewRow::new(owner(), at(turn), "hello", "agent") };
    let Accepted::New(row) = store.accept(new("open")).await.unwrap() else { panic!("it is new") };
    for waits in ["waits", "goes"] {
        assert!(matches!(store.accept(new(waits)).await.unwrap(), Accepted::Queued(_)));
    }
    assert!(matches!(store.accept(new("open")).await.unwrap(), Accepted::Known(_)));
    let edit = QueueChange::Edit { message: Some("edited".to_owned()), agent: None };
    store.change_queued(owner(), at("waits"), edit).await.unwrap();
    store.change_queued(owner(), at("goes"), QueueChange::Remove).await.unwrap();
    store.unattended(PAGE as usize).await.unwrap();
    let id = row.turn.execution_id.clone();
    let claim = Claim { execution_id: id.clone(), nonce: 7, seen_epoch: 0, may_run: true };
    let Claimed::Run(lease) = store.claim(claim).await.unwrap() else { panic!("it is free") };
    store.renew(vec![lease.clone()]).await.unwrap();
    let limits = HistoryLimits { turns: PAGE, ..HistoryLimits::default() };
    let history = store.history(row.turn.clone(), limits).await.unwrap();
    assert_eq!((history.said.len(), history.omitted.turns), (20, u64::from(TURNS - PAGE)));
    store.find(Find::Execution(id.clone())).await.unwrap();
    store.find(Find::Named(owner(), at("open"))).await.unwrap();
    store.find(Find::OfUser(owner(), "open".to_owned())).await.unwrap();
    store.name_turn(owner(), at("open"), "given".to_owned()).await.unwrap();
    store.find(Find::Named(owner(), at("given"))).await.unwrap();
    store.find(Find::OfUser(owner(), "given".to_owned())).await.unwrap();
    store.siblings(owner(), at(&middle_turn)).await.unwrap();
    store.release(lease).await.unwrap();
    store.save(id.clone(), Answer::new("whole")).await.unwrap();
    store.saved(id).await.unwrap();
    // What waited is open now, and the other one that replaces an old answer comes behind it.
    let Accepted::Known(next) = store.accept(new("waits")).await.unwrap() else {
        panic!("it is open")
    };
    let next = next.turn.execution_id;
    store.ask_to_stop(next.clone()).await.unwrap();
    let failure = Failure { code: None, message: "why".to_owned() };
    store.end(EndedBy::Log(next), Ending::failed(failure, "part")).await.unwrap();
    let again = NewRow { replaces: Some(middle_turn), ..new("again") };
    let Accepted::New(again) = store.accept(again).await.unwrap() else { panic!("it is new") };
    store.save(again.turn.execution_id.clone(), Answer::new("again")).await.unwrap();
    // A branch that another one has left in its middle, and that other one.
    for branch in [middle / 2, middle, again.turn.index] {
        let page = MessagePage { branch: Some(branch), before: Some(middle / 2), turns: PAGE };
        let state = store.session(owner(), long(), page).await.unwrap().unwrap();
        assert_eq!(state.messages.last().unwrap().turn_index, middle / 2 - 1);
    }
    let idle = store.idle_sessions(SystemTime::now(), PAGE as usize).await.unwrap();
    assert!(!idle.is_empty());
    let deletion = Deletion { owner: owner(), session_id: half, if_idle_since: None };
    assert!(store.delete_session(deletion).await.unwrap());
    store.to_erase(PAGE as usize).await.unwrap();
}

/// The rows that a node of a plan and those below it have read, in all its loops.
fn read_by(node: &Value) -> u64 {
    let count = |name: &str| node[name].as_f64().unwrap_or_default();
    let is_scan =
        node["Node Type"].as_str().unwrap().contains("Scan") && !node["Relation Name"].is_null();
    let rows = ["Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"];
    let own = rows.into_iter().map(count).sum::<f64>() * count("Actual Loops");
    let below: u64 = node["Plans"].as_array().into_iter().flatten().map(read_by).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of rows")]
    let own = if is_scan { own as u64 } else { 0 };
    own + below
}

/// What each statement has read, each time, where a database is used in every way.
async fn read() -> BTreeMap<String, Vec<u64>> {
    let database = Database::new();
    database.open().await.unwrap().close().await;
    fill(&database);
    // Whoever connects from now on is watched. Tables of any size are read by an index where there is one.
    let settings = [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_timing", "off"),
        ("auto_explain.log_format", "json"),
        ("enable_seqscan", "off"),
    ];
    let name = database.name();
    let set =
        settings.map(|(setting, to)| format!("ALTER DATABASE {name} SET {setting} = '{to}';"));
    let logged = SERVER.log().len();
    SERVER.sql("postgres", &format!("LOAD 'auto_explain'; {}", set.concat()));
    let store = PostgresStore::builder(&database.0).connections(2).open().await.unwrap();
    use_all(&store).await;
    store.close().await;
    let log = SERVER.log();
    let mut read: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for told in log[logged..].split("plan:\n").skip(1) {
        let lines: Vec<_> = told.lines().take_while(|line| line.starts_with('\t')).collect();
        let explained: Value = serde_json::from_str(&lines.join("\n")).unwrap();
        let query = explained["Query Text"].as_str().unwrap().to_owned();
        read.entry(query).or_default().push(read_by(&explained["Plan"]));
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_more_than_it_is_to_give() {
    let read = read().await;
    assert!(read.len() > 40, "{} statements were seen", read.len());
    let too_much = read.iter().filter(|(_, read)| read.iter().any(|rows| *rows > FEW));
    let too_much: Vec<_> =
        too_much.map(|(query, read)| format!("{read:?} rows: {query}")).collect();
    assert!(too_much.is_empty(), "{}", too_much.join("\n\n"));
}
