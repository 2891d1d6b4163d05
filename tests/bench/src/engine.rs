//! The engine: from a producer to the bytes of a body, on one thread, beside a design with a channel item per event.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use allocation_counter::measure;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use indicatif::ProgressBar;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tokio::runtime::Runtime;
use turnkit::{
    BoxError, ChatTurn, ClientOutcome, Event, ExecutionId, FinalText, Persisted, Produced,
    TurnBody, TurnContext, TurnDriver, TurnHooks, TurnIdentity, TurnProducer,
};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events in each pass
    #[arg(long, default_value_t = 3_000_000)]
    events: u64,
    /// Passes; the fastest counts, in CPU time: the machine may have other work
    #[arg(long, default_value_t = 5)]
    passes: usize,
}

/// Prints one table of speeds, and one of memory.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let streams = [
        ("text deltas of one part", deltas(false)?, "≥ 6 M"),
        ("the same, each with its text", deltas(true)?, "≥ 6 M"),
        ("only passed through", others()?, "≥ 12 M"),
    ];
    println!(
        "| stream | design | events/s | allocations per 100 events | chunks per 100 events | to reach |"
    );
    println!("|---|---|--:|--:|--:|---|");
    let progress = ProgressBar::new((streams.len() * args.passes * 2) as u64);
    for (name, events, goal) in &streams {
        let ours = best(args, &progress, || turnkit(&runtime, events, args.events))?;
        let theirs = best(args, &progress, || channel(&runtime, events, args.events))?;
        progress.suspend(|| {
            println!("| {name} | turnkit | {ours} | {goal} |");
            println!(
                "| | a channel per event | {theirs} | {:.1} × slower |",
                ours.speed() / theirs.speed()
            );
        });
    }
    progress.finish_and_clear();
    print_memory(&runtime)
}

fn print_memory(runtime: &Runtime) -> Result<()> {
    println!("\n| memory | measured | to reach |\n|---|--:|---|");
    println!("| an idle turn in flight, of 10,000 | {} B | ≤ 8,192 B |", idle_turn(runtime)?);
    let growth = stalled_turn()? / 1024;
    println!(
        "| a client that stalls on a turn of 400 MB that is passed through | {growth} KiB | ≤ 384 KiB |"
    );
    Ok(())
}

/// One pass of one design over one stream.
struct Pass {
    events: u64,
    chunks: u64,
    allocations: u64,
    time: Duration,
}

impl Pass {
    fn speed(&self) -> f64 {
        as_f64(self.events) / self.time.as_secs_f64()
    }
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hundreds = as_f64(self.events) / 100.0;
        let (allocations, chunks) = (as_f64(self.allocations), as_f64(self.chunks));
        let millions = self.speed() / 1e6;
        write!(f, "{millions:.2} M | {:.2} | {:.2}", allocations / hundreds, chunks / hundreds)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The fastest of several passes.
fn best(args: &Args, progress: &ProgressBar, pass: impl Fn() -> Result<Pass>) -> Result<Pass> {
    let mut fastest: Option<Pass> = None;
    for _ in 0..args.passes.max(1) {
        let pass = pass()?;
        let faster = fastest.as_ref().is_none_or(|best| pass.time < best.time);
        fastest = if faster { Some(pass) } else { fastest };
        progress.inc(1);
    }
    fastest.context("there is one pass at least")
}

/// A thousand text deltas of one part, about 146 bytes each; with the part's text, where it is sent along.
fn deltas(with_text: bool) -> Result<Arc<[Event]>> {
    const WORDS: [&str; 5] = ["alpha", "beta", " gamma", "delta ", "epsilon"];
    let delta = |n: usize| {
        let word = WORDS[n % WORDS.len()];
        let text = if with_text { format!(r#","text":"{word}""#) } else { String::new() };
        let part = format!(
            r#"{{"id":"prt_1","sessionID":"ses_1234","messageID":"msg_1234","type":"text"{text}}}"#
        );
        format!(
            r#"{{"type":"message.part.updated","data":{{"part":{part},"delta":"{word} {n:04}"}}}}"#
        )
    };
    events(delta)
}

/// A thousand events of the same size that the engine does not look into.
fn others() -> Result<Arc<[Event]>> {
    let note = "still running, nothing to say so far, wait for it";
    let data =
        |n| format!(r#"{{"callId":"call_1234","tool":"bash","step":"{n:06}","note":"{note}"}}"#);
    events(|n| format!(r#"{{"type":"tool.call.progress","data":{}}}"#, data(n)))
}

fn events(json: impl Fn(usize) -> String) -> Result<Arc<[Event]>> {
    let events = (0..1000).map(|n| Ok(Event::from_json(json(n).as_bytes())?));
    Ok(events.collect::<Result<Vec<_>>>()?.into())
}

/// The same events over and over, always ready; then silence, or the end.
struct Ready {
    events: Arc<[Event]>,
    at: usize,
    left: u64,
    stays_open: bool,
}

impl Ready {
    fn new(events: &Arc<[Event]>, count: u64) -> Self {
        Self { events: events.clone(), at: 0, left: count, stays_open: false }
    }

    #[inline]
    fn advance(&mut self) -> Option<Event> {
        self.left = self.left.checked_sub(1)?;
        let event = self.events[self.at].clone();
        self.at = if self.at + 1 == self.events.len() { 0 } else { self.at + 1 };
        Some(event)
    }
}

impl TurnProducer for Ready {
    type Error = BoxError;

    #[inline]
    async fn next(&mut self) -> Result<Produced, BoxError> {
        match self.advance() {
            Some(event) => Ok(Produced::Event(event)),
            None if self.stays_open => std::future::pending().await,
            None => Ok(Produced::Done { final_text: Some("done".into()) }),
        }
    }
}

/// Hooks that count the bytes that they see.
#[derive(Default)]
struct Counting(AtomicU64);

impl Counting {
    fn see(&self, event: &Event) {
        self.0.fetch_add(event.as_line().len() as u64, Ordering::Relaxed);
    }
}

impl TurnHooks for Counting {
    fn on_event(&self, _: &TurnContext, event: &Event) -> Result<(), BoxError> {
        self.see(event);
        Ok(())
    }

    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        black_box(text.as_str().len());
        Ok(Persisted::Saved)
    }
}

fn turn() -> Result<ChatTurn> {
    let identity = TurnIdentity {
        tenant_id: "acme".into(),
        session_id: "thread-abc".into(),
        user_id: "ada".into(),
        turn_index: 0,
    };
    Ok(ChatTurn::new(identity, ExecutionId::derive("bench", "thread-abc", 0)?))
}

fn turnkit(runtime: &Runtime, events: &Arc<[Event]>, count: u64) -> Result<Pass> {
    let turn = turn()?.max_text(usize::MAX / 2);
    let producer = Ready::new(events, count);
    timed(runtime, count, async |chunks| {
        let (mut body, driver) = turn.start(producer, Counting::default());
        let read = async {
            while let Some(Ok(chunk)) = body.next().await {
                black_box(chunk);
                *chunks += 1;
            }
        };
        let ((), outcome) = futures::join!(read, driver);
        outcome.result.is_ok()
    })
}

/// The usual design on the same work: a task looks into each event with serde, and sends its line through a channel.
fn channel(runtime: &Runtime, events: &Arc<[Event]>, count: u64) -> Result<Pass> {
    let ready = Ready::new(events, count);
    timed(runtime, count, async |chunks| {
        let (sender, mut receiver) = mpsc::channel(1024);
        let read = async {
            while let Some(line) = receiver.next().await {
                black_box::<Bytes>(line);
                *chunks += 1;
            }
        };
        futures::join!(read, forward(ready, sender)).1
    })
}

/// What `channel`'s task does.
async fn forward(mut ready: Ready, mut sender: mpsc::Sender<Bytes>) -> bool {
    let hooks = Counting::default();
    let mut parts: Vec<(String, String)> = Vec::new();
    while let Some(event) = ready.advance() {
        hooks.see(&event);
        if event.kind() == "message.part.updated" && !append(&mut parts, &event) {
            return false;
        }
        if sender.send(event.into_line()).await.is_err() {
            return false;
        }
    }
    black_box(parts);
    true
}

/// As borrowed as serde allows: the fastest way to read such an event with it.
#[derive(Deserialize)]
struct Update<'a> {
    part: Part<'a>,
    delta: &'a str,
}

#[derive(Deserialize)]
struct Part<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

fn append(parts: &mut Vec<(String, String)>, event: &Event) -> bool {
    let Ok(Update { part, delta }) = event.data::<Update<'_>>() else {
        return false;
    };
    if part.kind != "text" {
        return true;
    }
    if let Some((_, text)) = parts.iter_mut().find(|(id, _)| id == part.id) {
        text.push_str(delta);
    } else {
        parts.push((part.id.into(), delta.into()));
    }
    true
}

/// Runs `work`, which counts its chunks, and says whether it came to a good end.
fn timed(runtime: &Runtime, events: u64, work: impl AsyncFnOnce(&mut u64) -> bool) -> Result<Pass> {
    let (mut chunks, mut ended_well, mut time) = (0, false, Duration::ZERO);
    let allocations = measure(|| {
        let since = cpu_time();
        ended_well = runtime.block_on(work(&mut chunks));
        time = cpu_time().saturating_sub(since);
    });
    ensure!(ended_well, "the work failed");
    Ok(Pass { events, chunks, allocations: allocations.count_total, time })
}

/// Bytes for each of 10,000 turns whose client has read what there is, and whose producer is silent.
fn idle_turn(runtime: &Runtime) -> Result<i64> {
    const TURNS: u32 = 10_000;
    let events = deltas(true)?;
    let mut turns: Vec<(TurnBody, TurnDriver)> = Vec::with_capacity(TURNS as usize);
    let mut failed = None;
    let info = measure(|| {
        runtime.block_on(async {
            for _ in 0..TURNS {
                match idle(&events).await {
                    Ok(turn) => turns.push(turn),
                    Err(error) => failed = Some(error),
                }
            }
        });
    });
    failed.map_or(Ok(info.bytes_current / i64::from(TURNS)), Err)
}

async fn idle(events: &Arc<[Event]>) -> Result<(TurnBody, TurnDriver)> {
    let producer = Ready { stays_open: true, ..Ready::new(events, 1) };
    let (mut body, mut driver) = turn()?.start(producer, Counting::default());
    ensure!(futures::poll!(&mut driver).is_pending(), "the producer is silent");
    ensure!(body.next().await.is_some(), "the first lines are there");
    ensure!(futures::poll!(body.next()).is_pending(), "and no more");
    Ok((body, driver))
}

/// The most bytes that a turn of 400 MB held while its client read one chunk and then nothing.
fn stalled_turn() -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (turn, events) = (turn()?.client_stall(Duration::from_secs(1)), others()?);
    let producer = Ready::new(&events, 400_000_000 / events[0].as_line().len() as u64);
    let mut client = ClientOutcome::Attached;
    let info = measure(|| {
        let (mut body, driver) = turn.start(producer, Counting::default());
        let reading = async move { (body.next().await, body) };
        let (_held, outcome) = runtime.block_on(async { futures::join!(reading, driver) });
        client = outcome.client;
    });
    ensure!(
        matches!(client, ClientOutcome::Stalled { .. }),
        "the client was not stalled: {client:?}"
    );
    Ok(info.bytes_max)
}

/// What this thread has run so far.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}
