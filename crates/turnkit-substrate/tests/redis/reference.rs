//! The log in Redis against the one in memory: whatever is asked, both give the same answers.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use turnkit_id::ExecutionId;
use turnkit_substrate::{
    Cursor, EventId, ExecutionLog, Limits, MemoryLog, Scope,
    log::{
        Ending, ExecutionKey, Fingerprint, Found, LogReader, LogWriter, Opening, Start, State,
        Usage, redis::RedisLog,
    },
};
use turnkit_testkit::log_contract::ManualClock;
use turnkit_wire::Event;
use uuid::Uuid;

use super::REDIS;

/// A seeded generator (xorshift), so that a history that fails can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What is done to both logs.
#[derive(Clone, Debug)]
enum Step {
    Start,
    Find,
    TakeOver,
    /// By the latest writer, or an earlier one: events of such sizes at once.
    Append {
        by_latest: bool,
        sizes: Vec<usize>,
    },
    End(Ending),
    DropWriter,
    Locate(u64, u64),
    Read(u64),
    Advance(u64),
}

fn step(dice: &mut Dice) -> Step {
    match dice.roll(100) {
        0..12 => Step::Start,
        12..20 => Step::Find,
        20..25 => Step::TakeOver,
        25..60 => {
            let mut size = |_| [1, 30, 400, 2_000][usize::try_from(dice.roll(4)).unwrap()];
            let first = size(0);
            let sizes = std::iter::once(first).chain((0..first % 4).map(size)).collect();
            Step::Append { by_latest: dice.roll(5) > 0, sizes }
        }
        60..68 => Step::End(
            [Ending::Completed, Ending::Failed, Ending::Cancelled]
                [usize::try_from(dice.roll(3)).unwrap()],
        ),
        68..71 => Step::DropWriter,
        71..79 => Step::Locate(dice.roll(4), dice.roll(12)),
        79..92 => Step::Read(dice.roll(8)),
        92..97 => Step::Advance(dice.roll(70_000)),
        _ => Step::Advance(700_000),
    }
}

/// One log, behind one node or several that take turns, with what it has given out.
struct Subject {
    nodes: Vec<Box<dyn ExecutionLog>>,
    turn: usize,
    writers: HashMap<ExecutionKey, Vec<Box<dyn LogWriter>>>,
    readers: HashMap<ExecutionKey, Vec<Arc<dyn LogReader>>>,
}

impl Subject {
    fn new(nodes: Vec<Box<dyn ExecutionLog>>) -> Self {
        Self { nodes, turn: 0, writers: HashMap::new(), readers: HashMap::new() }
    }

    fn node(&mut self) -> &dyn ExecutionLog {
        self.turn += 1;
        &*self.nodes[self.turn % self.nodes.len()]
    }

    /// Does it, and says all that can be seen of it.
    async fn take(&mut self, key: &ExecutionKey, step: &Step) -> String {
        match step {
            Step::Start => self.start(key).await,
            Step::Find => self.find(key).await,
            Step::TakeOver => self.take_over(key).await,
            Step::Append { by_latest, sizes } => self.append(key, *by_latest, sizes).await,
            Step::End(ending) => match self.writers.entry(key.clone()).or_default().pop() {
                Some(writer) => {
                    let ended = writer.end(*ending, &sized("end", 10)).await;
                    self.settled(key).await;
                    format!("{ended:?}")
                }
                None => String::new(),
            },
            Step::DropWriter => {
                drop(self.writers.entry(key.clone()).or_default().pop());
                self.settled(key).await
            }
            Step::Locate(epoch, seq) => self.locate(key, *epoch, *seq).await,
            Step::Read(after) => self.read(key, *after).await,
            Step::Advance(_) => String::new(),
        }
    }

    /// Otherwise each log drops what is over where it comes across it, and readers may outlive the binding of their id.
    async fn sweep(&mut self) {
        self.node().sweep().await.unwrap();
        for key in keys() {
            if matches!(self.node().find(&key).await.unwrap(), Found::Unknown) {
                self.readers.remove(&key);
            }
        }
    }

    async fn start(&mut self, key: &ExecutionKey) -> String {
        let fingerprint = Some(Fingerprint::of(key.id.as_str().as_bytes()));
        let opening =
            Opening { fingerprint, first: sized("first", 20), takes_input: false, log_id: None };
        match self.node().start(key, opening).await {
            Ok(Start::Started { writer, reader }) => {
                let epoch = writer.epoch();
                self.readers.entry(key.clone()).or_default().push(reader);
                self.writers.entry(key.clone()).or_default().push(writer);
                format!("started {epoch}")
            }
            Ok(Start::Exists(reader)) => format!("exists {:?}", reader.status().await),
            Ok(Start::Spent) => "spent".to_owned(),
            Ok(Start::LogChanged) => "log changed".to_owned(),
            Err(error) => format!("{error:?}"),
        }
    }

    async fn find(&mut self, key: &ExecutionKey) -> String {
        match self.node().find(key).await.unwrap() {
            Found::Unknown => "unknown".to_owned(),
            Found::Spent => "spent".to_owned(),
            Found::Retained(reader) => {
                let said =
                    format!("{:?} {:?}", reader.status().await, reader.fingerprint().is_some());
                self.readers.entry(key.clone()).or_default().push(reader);
                said
            }
        }
    }

    async fn take_over(&mut self, key: &ExecutionKey) -> String {
        let heir = self.node().take_over(key).await.unwrap();
        let epoch = heir.as_ref().map(|heir| heir.epoch());
        self.writers.entry(key.clone()).or_default().extend(heir);
        format!("{epoch:?}")
    }

    async fn append(&mut self, key: &ExecutionKey, by_latest: bool, sizes: &[usize]) -> String {
        let writers = self.writers.entry(key.clone()).or_default();
        let writer = if by_latest { writers.last_mut() } else { writers.first_mut() };
        match writer {
            Some(writer) => {
                let events: Vec<_> = sizes.iter().map(|size| sized("text", *size)).collect();
                match &*events {
                    [event] => format!("{:?}", writer.append(event).await),
                    events => format!("{:?}", writer.append_all(events).await),
                }
            }
            None => String::new(),
        }
    }

    /// Waits for the end of a log whose latest writer is gone, which is told in its own time.
    async fn settled(&mut self, key: &ExecutionKey) -> String {
        loop {
            match self.node().find(key).await.unwrap() {
                Found::Retained(reader) => {
                    let status = reader.status().await.unwrap();
                    if status.state != State::Running {
                        return format!("{status:?}");
                    }
                    reader.next(status.last.seq).await.unwrap();
                }
                _ => return "gone".to_owned(),
            }
        }
    }

    async fn locate(&mut self, key: &ExecutionKey, epoch: u64, seq: u64) -> String {
        let mut said = String::new();
        for reader in self.readers.get(key).into_iter().flatten() {
            let Ok(status) = reader.status().await else {
                said += " gone";
                continue;
            };
            let epoch = status.last.epoch.saturating_sub(epoch);
            let cursor = Cursor::After(EventId { epoch, seq });
            write!(said, " {:?}", reader.locate(cursor).await).unwrap();
        }
        said
    }

    /// All that there is after an event, which is not waited for.
    async fn read(&mut self, key: &ExecutionKey, after: u64) -> String {
        let mut said = String::new();
        for reader in self.readers.get(key).into_iter().flatten() {
            let (mut after, mut frames) = (after, Vec::new());
            let last = reader.status().await.map_or(u64::MAX, |status| status.last.seq);
            let is_over = reader.status().await.is_ok_and(|status| status.state != State::Running);
            let end = loop {
                if after >= last && !is_over {
                    break "nothing yet".to_owned();
                }
                match reader.next(after).await {
                    Ok(Some(page)) => {
                        frames.extend_from_slice(&page.frames);
                        after = page.last;
                    }
                    Ok(None) => break "end".to_owned(),
                    Err(error) => break format!("{error:?}"),
                }
            };
            write!(said, " {} {end};", String::from_utf8(frames).unwrap()).unwrap();
        }
        said
    }
}

fn sized(kind: &str, bytes: usize) -> Event {
    Event::new(kind, &"ü".repeat(bytes)).unwrap()
}

/// Scopes and ids with the characters that stand between them in Redis, some of several bytes.
fn keys() -> Vec<ExecutionKey> {
    let scopes = ["a", "a:b", "1:a", "ünï\ncode}{\0", ""];
    let ids = ["one", "1:one", "a:b:{one}"];
    let key =
        |scope, id| ExecutionKey { scope: Scope::new(scope), id: ExecutionId::parse(id).unwrap() };
    scopes.iter().flat_map(|scope| ids.map(|id| key(scope, id))).collect()
}

/// Two nodes of a log in Redis.
fn redis(limits: &Limits, clock: &Arc<ManualClock>) -> Subject {
    let prefix = Uuid::new_v4().to_string();
    let node = || {
        let log = RedisLog::builder(REDIS.url()).prefix(&prefix).limits(limits.clone());
        let log =
            log.clock(Arc::clone(clock) as Arc<_>).retention_clock(Arc::clone(clock) as Arc<_>);
        Box::new(log.build().unwrap()) as Box<_>
    };
    Subject::new(vec![node(), node()])
}

/// Does as many steps with all of them, which must say the same.
async fn play(seed: u64, steps: u32, subjects: &mut [Subject], clock: &ManualClock) {
    let (mut dice, keys) = (Dice(seed * 2 + 1), keys());
    for at in 0..steps {
        let key = &keys[usize::try_from(dice.roll(keys.len() as u64)).unwrap()];
        let step = step(&mut dice);
        if let Step::Advance(millis) = step {
            clock.advance(Duration::from_millis(millis));
        }
        let mut said = None;
        for subject in &mut *subjects {
            if matches!(step, Step::Advance(_)) {
                subject.sweep().await;
            }
            let now = subject.take(key, &step).await;
            let before = said.get_or_insert_with(|| now.clone());
            assert_eq!(&now, before, "seed {seed}, step {at}: {step:?} {key:?}");
        }
    }
}

/// Lets all runs end and all times pass.
async fn count_down(subject: &mut Subject, limits: &Limits, clock: &ManualClock) {
    for key in keys() {
        subject.writers.remove(&key);
        subject.settled(&key).await;
    }
    for after in [limits.retention, limits.binding] {
        clock.advance(after);
        subject.node().sweep().await.unwrap();
    }
    assert_eq!(subject.node().usage(None).await.unwrap(), Usage::default());
    for key in keys() {
        let of_scope = subject.node().usage(Some(&key.scope)).await.unwrap();
        assert_eq!(of_scope, Usage::default(), "{key:?}");
    }
}

fn limits() -> Limits {
    Limits {
        events_per_execution: 9,
        bytes_per_execution: 6_000,
        retention: Duration::from_secs(60),
        binding: Duration::from_secs(600),
        ..Limits::default()
    }
}

#[tokio::test]
async fn it_answers_as_the_log_in_memory_and_counts_down_to_nothing() {
    for seed in 0..20 {
        let (limits, clock) = (limits(), ManualClock::at(1_700_000_000_000));
        let memory = MemoryLog::with_clock(limits.clone(), Arc::clone(&clock) as Arc<_>);
        let memory = Subject::new(vec![Box::new(memory)]);
        let mut subjects = [memory, redis(&limits, &clock)];
        play(seed, 400, &mut subjects, &clock).await;
        count_down(&mut subjects[1], &limits, &clock).await;
    }
}

/// The two logs charge differently, so here one is alone.
#[tokio::test]
async fn where_its_budgets_are_full_it_counts_down_to_nothing_too() {
    for seed in 0..20 {
        let clock = ManualClock::at(1_700_000_000_000);
        let limits = Limits { bytes_per_scope: 9_000, bytes_in_all: 20_000, ..limits() };
        let mut subject = [redis(&limits, &clock)];
        play(seed, 400, &mut subject, &clock).await;
        count_down(&mut subject[0], &limits, &clock).await;
    }
}
