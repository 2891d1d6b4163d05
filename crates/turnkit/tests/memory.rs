//! What a turn costs in memory (PROTOCOL 2.4), counted by an allocator of this test binary's own. It counts by thread, so
//! everything here stays on one.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use futures::StreamExt;
use turnkit::{
    BoxError, ChatTurn, ClientOutcome, Event, ExecutionId, FinalText, Persisted, Produced,
    TurnBody, TurnContext, TurnDriver, TurnHooks, TurnIdentity, TurnOutcome, TurnProducer,
};

const KIB: u64 = 1024;

/// 400 MB and then some.
const TURN_BYTES: usize = 400_000_000;

/// Gives events of its maker until it says none, then is done or silent for ever.
struct Stream<F> {
    next: F,
    stays_open: bool,
}

impl<F: FnMut() -> Option<Event> + Send> TurnProducer for Stream<F> {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Produced, Infallible> {
        match (self.next)() {
            Some(event) => Ok(event.into()),
            None if self.stays_open => pending().await,
            None => Ok(Produced::Done { final_text: Some("done".into()) }),
        }
    }
}

struct Saves;

impl TurnHooks for Saves {
    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        _: &FinalText,
    ) -> Result<Persisted, BoxError> {
        Ok(Persisted::Saved)
    }
}

fn turn() -> ChatTurn {
    let identity = TurnIdentity {
        tenant_id: "acme".into(),
        session_id: "thread-abc".into(),
        user_id: "ada".into(),
        turn_index: 3,
    };
    ChatTurn::new(identity, ExecutionId::derive("project", "thread-abc", 3).unwrap())
}

fn delta(length: usize) -> Event {
    let part = r#"{"id":"prt_1","sessionID":"ses_1","messageID":"msg_1","type":"text"}"#;
    let delta = "x".repeat(length);
    let json =
        format!(r#"{{"type":"message.part.updated","data":{{"part":{part},"delta":"{delta}"}}}}"#);
    Event::from_json(json.as_bytes()).unwrap()
}

/// A turn of 400 MB whose client reads one line and then nothing: what the process grew by at most, and the outcome.
fn stalled(turn: ChatTurn, mut make: impl FnMut() -> Event + Send + 'static) -> (u64, TurnOutcome) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let outcome = Mutex::new(None);
    let mut left = TURN_BYTES;
    let next = move || {
        let event = (left > 0).then(&mut make)?;
        left = left.saturating_sub(event.as_line().len());
        Some(event)
    };
    let producer = Stream { next, stays_open: false };
    let info = measure(|| {
        let (mut body, driver) = turn.start(producer, Saves);
        runtime.block_on(async {
            let reading = async {
                let chunk = body.next().await;
                (chunk, body)
            };
            let (_held, ended) = tokio::join!(reading, driver);
            *outcome.lock().unwrap() = Some(ended);
        });
    });
    (info.bytes_max, outcome.into_inner().unwrap().unwrap())
}

fn check_stalled(growth: u64, max_text: u64, outcome: &TurnOutcome) {
    assert!(growth <= 384 * KIB + max_text, "the process grew by {} KiB", growth / KIB);
    assert!(growth >= 128 * KIB, "{growth} bytes: the client was not stalled at all");
    assert!(matches!(outcome.client, ClientOutcome::Stalled { .. }), "{:?}", outcome.client);
    assert_eq!(outcome.result.as_ref().unwrap().as_str(), "done");
    println!("the process grew by {} KiB at most", growth / KIB);
}

#[test]
fn a_stalled_client_holds_no_more_than_the_bound_and_the_text() {
    let event = delta(900);
    let (growth, outcome) = stalled(turn().max_text(64 * 1024), move || event.clone());
    check_stalled(growth, 64 * KIB, &outcome);
}

#[test]
fn a_stalled_client_of_long_lines_holds_no_more_than_the_bound() {
    // Each event is an allocation of its own, and is passed on uncopied.
    let json = format!(r#"{{"type":"big","data":"{}"}}"#, "x".repeat(20_000));
    let (growth, outcome) = stalled(turn(), move || Event::from_json(json.as_bytes()).unwrap());
    check_stalled(growth, 0, &outcome);
}

#[test]
fn a_snapshot_that_was_replaced_holds_no_memory() {
    const LENGTH: usize = 256 * 1024;
    let snapshot = |part, length| {
        let part = format!(r#"{{"id":"{part}","type":"text","text":"{}"}}"#, "x".repeat(length));
        let json = format!(r#"{{"type":"message.part.updated","data":{{"part":{part}}}}}"#);
        Event::from_json(json.as_bytes()).unwrap()
    };
    // Each part is long for a moment: together never longer than the bound.
    let mut parts = (0..100).flat_map(|part| [(part, LENGTH), (part, 1)]);
    let next = move || parts.next().map(|(part, length)| snapshot(part, length));
    let info = measure(|| {
        let producer = Stream { next, stays_open: false };
        let (body, driver) = turn().max_text(LENGTH + 100).start(producer, Saves);
        drop(body);
        assert!(futures::executor::block_on(driver).result.is_ok());
    });
    assert!(info.bytes_max <= 8 * LENGTH as u64, "{} KiB for a text of 256", info.bytes_max / KIB);
}

/// Drives a turn of `events` deltas on this thread while its body is read: what was allocated, and in how many chunks the
/// body left.
fn run(events: usize) -> (AllocationInfo, usize) {
    let deltas: Arc<[Event]> = (0..10).map(|length| delta(20 + length)).collect();
    let mut left = events;
    let next = move || {
        left = left.checked_sub(1)?;
        Some(deltas[left % deltas.len()].clone())
    };
    let mut chunks = 0;
    let info = measure(|| {
        let producer = Stream { next, stays_open: false };
        let (body, driver) = turn().start(producer, Saves);
        let reading = async { chunks = body.count().await };
        let ((), outcome) = futures::executor::block_on(async { futures::join!(reading, driver) });
        assert!(outcome.result.is_ok());
    });
    (info, chunks)
}

#[test]
fn a_hundred_events_cost_at_most_one_allocation_and_three_chunks() {
    const EVENTS: usize = 50_000;
    let (info, chunks) = run(EVENTS);
    let allocations = usize::try_from(info.count_total).unwrap();
    assert!(allocations <= EVENTS / 100, "{allocations} allocations for {EVENTS} events");
    assert!(chunks <= 3 * EVENTS / 100, "{chunks} chunks for {EVENTS} events");
    println!("{allocations} allocations and {chunks} chunks for {EVENTS} events");
}

#[test]
fn an_idle_turn_in_flight_takes_at_most_8_kib() {
    const TURNS: usize = 10_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut turns: Vec<(TurnBody, TurnDriver)> = Vec::with_capacity(TURNS);
    let event = delta(30);
    let info = measure(|| {
        runtime.block_on(async {
            for _ in 0..TURNS {
                turns.push(idle(&event).await);
            }
        });
    });
    let each = u64::try_from(info.bytes_current).unwrap() / TURNS as u64;
    assert!(each <= 8 * KIB, "{each} bytes for an idle turn");
    assert_eq!(turns.len(), TURNS);
    println!("{each} bytes for an idle turn");
}

/// A turn whose client has read what there is, and whose producer is silent.
async fn idle(event: &Event) -> (TurnBody, TurnDriver) {
    let mut first = Some(event.clone());
    let producer = Stream { next: move || first.take(), stays_open: true };
    let (mut body, mut driver) =
        turn().keep_alive(Duration::from_secs(3600)).start(producer, Saves);
    assert!(futures::poll!(&mut driver).is_pending());
    assert!(body.next().await.is_some());
    assert!(futures::poll!(body.next()).is_pending());
    (body, driver)
}

#[test]
fn a_turn_that_was_busy_gives_its_buffer_back_once_it_is_silent() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut left = 1000;
    let event = delta(900);
    let next = move || {
        left -= 1;
        (left >= 0).then(|| event.clone())
    };
    let producer = Stream { next, stays_open: true };
    let mut kept = None;
    let info = measure(|| {
        let (mut body, mut driver) = turn().max_text(0).start(producer, Saves);
        runtime.block_on(async {
            let reading = async { while body.next().await != Some(Ok("\n".into())) {} };
            futures::future::select(std::pin::pin!(reading), &mut driver).await;
        });
        kept = Some((body, driver));
    });
    assert!(info.bytes_max > 32 * KIB && info.bytes_current < 8 * 1024, "{info:?}");
}

#[test]
fn a_handle_that_outlives_its_turn_keeps_no_buffer() {
    let event = delta(900);
    let mut left = 1000;
    let next = move || {
        left -= 1;
        (left >= 0).then(|| event.clone())
    };
    let mut kept = None;
    let info = measure(|| {
        let (body, driver) = turn().start(Stream { next, stays_open: false }, Saves);
        kept = Some(driver.handle());
        let reading = body.count();
        let (_, outcome) = futures::executor::block_on(async { futures::join!(reading, driver) });
        assert_eq!(outcome.client, ClientOutcome::Attached);
    });
    assert!(info.bytes_current < 1024, "{info:?}");
}
