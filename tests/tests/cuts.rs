//! Adapter and substrate over a connection that breaks: the lines are the same every time, and the agent ran once.
//!
//! `TURNKIT_CUTS=full` reads a stream of 10,000 events, cut at each frame's end and at 5,000 random bytes: 15,000 readings
//! of all of it. Without it the streams are shorter and cut at each frame's end and at each byte.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::{
    collections::VecDeque,
    env,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use turnkit::{ChatTurn, Produced, TurnIdentity, TurnProducer};
use turnkit_id::ExecutionId;
use turnkit_sandbox::{Retry, RunRequest, SandboxClient, SandboxTurn};
use turnkit_substrate::{Agent, AgentError, Limits, MemoryLog, Run, Substrate};
use turnkit_testkit::{
    Recorder, events,
    proxy::{CuttingProxy, Fault, Point},
};
use turnkit_wire::Event;

/// Readings under way at once: more than the cores, so that waiting costs nothing.
const AT_ONCE: usize = 8;

/// The head of an answer is shorter, in bytes.
const HEAD: u64 = 400;

/// A substrate whose agent counts its runs.
struct Site {
    address: SocketAddr,
    runs: Arc<AtomicU32>,
    serving: JoinHandle<()>,
}

impl Site {
    async fn start(events: Vec<Event>) -> Self {
        let runs = Arc::new(AtomicU32::new(0));
        let agent = Scripted { events, runs: Arc::clone(&runs) };
        let log = MemoryLog::new(Limits::default());
        let substrate = Substrate::builder().agent("default", agent).log(log).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            substrate.serve(listener, std::future::pending()).await.unwrap();
        });
        Self { address, runs, serving }
    }

    async fn proxy(&self, plan: impl FnMut(u64) -> Fault + Send + 'static) -> CuttingProxy {
        CuttingProxy::start(self.address, plan).await.unwrap()
    }

    fn client(&self) -> SandboxClient {
        client(self.address)
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Scripted {
    events: Vec<Event>,
    runs: Arc<AtomicU32>,
}

impl Agent for Scripted {
    fn run(
        &self,
        _: Run,
    ) -> impl stream::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        self.runs.fetch_add(1, Ordering::SeqCst);
        stream::iter(self.events.clone()).map(Ok)
    }
}

/// A client that waits hardly at all, and never gives up.
fn client(address: SocketAddr) -> SandboxClient {
    let eager = |policy| Retry {
        first: Duration::ZERO,
        max: Duration::from_millis(1),
        attempts: u32::MAX,
        ..policy
    };
    let builder = SandboxClient::builder(format!("http://{address}"));
    let builder = builder.retry_before_answer(eager(Retry::BEFORE_ANSWER));
    let builder = builder.retry_after_answer(eager(Retry::AFTER_ANSWER));
    builder.idle_timeout(Duration::from_millis(500)).build().unwrap()
}

fn id() -> ExecutionId {
    ExecutionId::derive("cuts", "session", 0).unwrap()
}

fn run(client: &SandboxClient) -> SandboxTurn {
    client.run(RunRequest::new(id(), "go"))
}

/// An answer of `count` events of changing size.
fn answer(count: usize) -> Vec<Event> {
    let text = |n: usize| "déjà vu ".repeat(n % 7 + 1);
    (1..count).map(|n| events::delta("p", &text(n))).chain([events::result("done")]).collect()
}

async fn read(turn: &mut SandboxTurn) -> Option<Bytes> {
    match turn.next().await.unwrap() {
        Produced::Event(event) => Some(event.into_line()),
        Produced::Done { .. } => None,
    }
}

async fn lines(mut turn: SandboxTurn) -> Vec<Bytes> {
    let mut lines = Vec::new();
    while let Some(line) = read(&mut turn).await {
        lines.push(line);
    }
    lines
}

/// Reads the whole turn, and compares as it goes.
async fn same_lines(mut turn: SandboxTurn, expected: &[Bytes], about: &str) {
    for (index, line) in expected.iter().enumerate() {
        assert_eq!(read(&mut turn).await.as_ref(), Some(line), "line {index}, {about}");
    }
    assert_eq!(read(&mut turn).await, None, "{about}");
}

fn is_full() -> bool {
    env::var_os("TURNKIT_CUTS").is_some_and(|cuts| cuts == "full")
}

/// Reads the execution once for each of `faults`, which the first connection of its reading meets.
async fn read_with_each(
    site: &Site,
    expected: Vec<Bytes>,
    faults: impl IntoIterator<Item = Fault>,
) {
    let expected = Arc::new(expected);
    let faults = Arc::new(Mutex::new(faults.into_iter().collect::<VecDeque<_>>()));
    let mut readers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let reader = Reader::start(site).await;
        readers.spawn(reader.read_with_each(Arc::clone(&faults), Arc::clone(&expected)));
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}

/// A client behind a proxy whose next connection meets a fault.
struct Reader {
    client: SandboxClient,
    next: Arc<Mutex<Option<Fault>>>,
    _proxy: CuttingProxy,
}

impl Reader {
    async fn start(site: &Site) -> Self {
        let next = Arc::<Mutex<Option<Fault>>>::default();
        let taken = Arc::clone(&next);
        let proxy = site.proxy(move |_| taken.lock().unwrap().take().unwrap_or(Fault::None)).await;
        Self { client: client(proxy.address()), next, _proxy: proxy }
    }

    async fn read_with_each(self, faults: Arc<Mutex<VecDeque<Fault>>>, expected: Arc<Vec<Bytes>>) {
        loop {
            let Some(fault) = faults.lock().unwrap().pop_front() else {
                return;
            };
            *self.next.lock().unwrap() = Some(fault);
            // A connection that the client kept from the reading before meets nothing.
            while self.next.lock().unwrap().is_some() {
                same_lines(self.client.attach(id()), &expected, &format!("{fault:?}")).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_reading_cut_at_the_end_of_each_frame_gives_the_same_lines() {
    let count = if is_full() { 10_000 } else { 500 };
    let site = Site::start(answer(count)).await;
    // The first frame of an answer is `retry:`, the second an event.
    let proxy = site.proxy(|_| Fault::Cut(Point::Frames(2))).await;
    let cut = lines(run(&client(proxy.address()))).await;
    assert_eq!(cut, lines(site.client().attach(id())).await);
    assert_eq!(cut.len(), count);
    assert!(proxy.connections() >= count as u64, "{} connections", proxy.connections());
    assert_eq!(site.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_cut_at_the_end_of_any_frame_gives_the_same_lines() {
    let count = if is_full() { 10_000 } else { 100 };
    let site = Site::start(answer(count)).await;
    let expected = lines(run(&site.client())).await;
    let started = Instant::now();
    let ends = (1..=count as u64 + 2).map(Point::Frames);
    read_with_each(&site, expected, ends.map(Fault::Cut)).await;
    eprintln!("{count} events, cut at the end of each frame: {:?}", started.elapsed());
    assert_eq!(site.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_cut_at_any_byte_gives_the_same_lines() {
    let count = if is_full() { 10_000 } else { 5 };
    let site = Site::start(answer(count)).await;
    let expected = lines(run(&site.client())).await;
    let started = Instant::now();
    let fault = |(index, at): (usize, u64)| {
        let point = Point::Bytes(at);
        if index % 2 == 0 { Fault::Cut(point) } else { Fault::Reset(point) }
    };
    let bytes = site.answer_bytes().await + HEAD;
    let at: Vec<u64> = if is_full() { random(5_000, bytes) } else { (0..bytes).collect() };
    let cuts = at.len();
    read_with_each(&site, expected, at.into_iter().enumerate().map(fault)).await;
    eprintln!("{count} events, cut at {cuts} of {bytes} bytes: {:?}", started.elapsed());
    assert_eq!(site.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_every_connection_meets_another_fault_gives_the_same_lines() {
    for seed in 0..20 {
        let site = Site::start(answer(200)).await;
        let mut faults = Random(seed);
        let proxy = site.proxy(move |_| faults.fault()).await;
        let cut = lines(run(&client(proxy.address()))).await;
        assert_eq!(cut, lines(site.client().attach(id())).await, "seed {seed}");
        assert_eq!(site.runs(), 1, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_reaches_the_substrate_twice_runs_once() {
    let site = Site::start(answer(50)).await;
    let proxy = site.proxy(|_| Fault::AnswerTwice).await;
    assert_eq!(lines(run(&client(proxy.address()))).await.len(), 50);
    assert_eq!(site.runs(), 1);
}

#[tokio::test]
async fn a_substrate_that_forgot_the_execution_is_not_asked_to_run_it_again() {
    let site = Site::start(answer(50)).await;
    let proxy = site.proxy(|_| Fault::Cut(Point::Frames(9))).await;
    let mut turn = run(&client(proxy.address()));
    read(&mut turn).await.unwrap();
    let second = Site::start(answer(50)).await;
    proxy.lead_to(second.address);
    let error = loop {
        match turn.next().await {
            Ok(Produced::Event(_)) => {}
            end => break end.unwrap_err(),
        }
    };
    assert_eq!(error.code(), "execution_lost");
    assert_eq!(second.runs(), 0);
}

#[tokio::test]
async fn a_prompt_that_the_agent_echoes_is_no_part_of_the_answer() {
    let part = |id: &str, message: &str, text: &str| {
        let part = json!({"id": id, "messageID": message, "type": "text", "text": text});
        events::event("message.part.updated", &json!({ "part": part }))
    };
    let echoed = vec![part("p1", "m1", "go"), part("p2", "m2", "the answer")];
    let site = Site::start(echoed).await;
    assert_eq!(saved(run(&site.client())).await, ["the answer"]);
    assert_eq!(saved(site.client().attach(id()).answering("go")).await, ["the answer"]);
    assert_eq!(saved(site.client().attach(id())).await, ["go\n\nthe answer"]);
}

#[tokio::test]
async fn cancelling_a_turn_cancels_its_execution() {
    let site = Site::start(Vec::new()).await;
    let client = site.client();
    client.cancel(&id()).await.unwrap();
    let mut late = run(&client);
    let error = late.next().await.unwrap_err();
    assert_eq!(error.code(), "cancelled");
    assert!(client.status(&id()).await.unwrap().state.is_terminal());
    assert_eq!(site.runs(), 0);
}

impl Site {
    /// How long the answer to an attach is.
    async fn answer_bytes(&self) -> u64 {
        let url = format!("http://{}/agents/executions/{}/stream", self.address, id());
        let body = reqwest::get(url).await.unwrap().bytes().await.unwrap();
        body.len() as u64
    }
}

/// The texts that a turn over this producer saves.
async fn saved(producer: SandboxTurn) -> Vec<String> {
    let identity = TurnIdentity {
        tenant_id: "t".into(),
        session_id: "s".into(),
        user_id: "u".into(),
        turn_index: 0,
    };
    let hooks = Arc::new(Recorder::new());
    let (body, driver) = ChatTurn::new(identity, id()).start(producer, Arc::clone(&hooks));
    let (_, outcome) = tokio::join!(body.collect::<Vec<_>>(), driver);
    vec![outcome.result.unwrap().into_string()]
}

/// Repeatable numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn fault(&mut self) -> Fault {
        let point = match self.next(2) {
            0 => Point::Bytes(self.next(8_000)),
            _ => Point::Frames(self.next(60)),
        };
        match self.next(12) {
            0 => Fault::Stall(point),
            1 => Fault::AnswerTwice,
            2 => Fault::Delay(Duration::from_millis(1)),
            3 => Fault::Split(17),
            4..7 => Fault::Reset(point),
            _ => Fault::Cut(point),
        }
    }
}

fn random(count: usize, below: u64) -> Vec<u64> {
    let mut random = Random(5);
    (0..count).map(|_| random.next(below)).collect()
}
