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

use super::builder;

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
    /// By the latest writer, or an earlier one.
    Append {
        by_latest: bool,
        size: usize,
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
            let size = [1, 30, 400, 2_000][usize::try_from(dice.roll(4)).unwrap()];
            Step::Append { by_latest: dice.roll(5) > 0, size }
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

/// One log, with what it has given out.
struct Subject {
    log: Box<dyn ExecutionLog>,
    writers: HashMap<ExecutionKey, Vec<Box<dyn LogWriter>>>,
    readers: HashMap<ExecutionKey, Vec<Arc<dyn LogReader>>>,
}

impl Subject {
    fn new(log: impl ExecutionLog) -> Self {
        Self { log: Box::new(log), writers: HashMap::new(), readers: HashMap::new() }
    }

    /// Does it, and says all that can be seen of it.
    async fn take(&mut self, key: &ExecutionKey, step: &Step) -> String {
        match step {
            Step::Start => self.start(key).await,
            Step::Find => self.find(key).await,
            Step::TakeOver => self.take_over(key).await,
            Step::Append { by_latest, size } => self.append(key, *by_latest, *size).await,
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
        self.log.sweep().await.unwrap();
        for key in keys() {
            if matches!(self.log.find(&key).await.unwrap(), Found::Unknown) {
                self.readers.remove(&key);
            }
        }
    }

    async fn start(&mut self, key: &ExecutionKey) -> String {
        let fingerprint = Some(Fingerprint::of(key.id.as_str().as_bytes()));
        let opening = Opening { fingerprint, first: sized("first", 20) };
        match self.log.start(key, opening).await {
            Ok(Start::Started { writer, reader }) => {
                let epoch = writer.epoch();
                self.readers.entry(key.clone()).or_default().push(reader);
                self.writers.entry(key.clone()).or_default().push(writer);
                format!("started {epoch}")
            }
            Ok(Start::Exists(reader)) => format!("exists {:?}", reader.status().await),
            Ok(Start::Spent) => "spent".to_owned(),
            Err(error) => format!("{error:?}"),
        }
    }

    async fn find(&mut self, key: &ExecutionKey) -> String {
        match self.log.find(key).await.unwrap() {
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
        let heir = self.log.take_over(key).await.unwrap();
        let epoch = heir.as_ref().map(|heir| heir.epoch());
        self.writers.entry(key.clone()).or_default().extend(heir);
        format!("{epoch:?}")
    }

    async fn append(&mut self, key: &ExecutionKey, by_latest: bool, size: usize) -> String {
        let writers = self.writers.entry(key.clone()).or_default();
        let writer = if by_latest { writers.last_mut() } else { writers.first_mut() };
        match writer {
            Some(writer) => format!("{:?}", writer.append(&sized("text", size)).await),
            None => String::new(),
        }
    }

    /// Waits for the end of a log whose latest writer is gone, which is told in its own time.
    async fn settled(&self, key: &ExecutionKey) -> String {
        loop {
            match self.log.find(key).await.unwrap() {
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

async fn play(seed: u64, steps: u32) {
    let limits = Limits {
        events_per_execution: 9,
        bytes_per_execution: 6_000,
        retention: Duration::from_secs(60),
        binding: Duration::from_secs(600),
        ..Limits::default()
    };
    let clock = ManualClock::at(1_700_000_000_000);
    let memory = MemoryLog::with_clock(limits.clone(), Arc::clone(&clock) as Arc<_>);
    let redis: RedisLog =
        builder().limits(limits.clone()).clock(Arc::clone(&clock) as Arc<_>).build().unwrap();
    let (mut memory, mut redis) = (Subject::new(memory), Subject::new(redis));
    let (mut dice, keys) = (Dice(seed * 2 + 1), keys());
    for at in 0..steps {
        let key = &keys[usize::try_from(dice.roll(keys.len() as u64)).unwrap()];
        let step = step(&mut dice);
        if let Step::Advance(millis) = step {
            clock.advance(Duration::from_millis(millis));
            memory.sweep().await;
            redis.sweep().await;
        }
        let said = memory.take(key, &step).await;
        assert_eq!(redis.take(key, &step).await, said, "seed {seed}, step {at}: {step:?} {key:?}");
    }
    for key in &keys {
        for subject in [&mut memory, &mut redis] {
            subject.writers.remove(key);
            subject.settled(key).await;
        }
    }
    for after in [limits.retention, limits.binding] {
        clock.advance(after);
        redis.log.sweep().await.unwrap();
    }
    assert_eq!(redis.log.usage(None).await.unwrap(), Usage::default(), "seed {seed}");
    for key in &keys {
        let of_scope = redis.log.usage(Some(&key.scope)).await.unwrap();
        assert_eq!(of_scope, Usage::default(), "seed {seed}, {key:?}");
    }
}

#[tokio::test]
async fn it_answers_as_the_log_in_memory_and_counts_down_to_nothing() {
    for seed in 0..20 {
        play(seed, 400).await;
    }
}
