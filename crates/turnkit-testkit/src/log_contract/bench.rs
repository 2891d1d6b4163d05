//! What the clauses work with: a log, its clock, and events of known sizes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use turnkit_id::ExecutionId;
use turnkit_substrate::{
    Clock, ExecutionLog, Limits, Scope,
    log::{
        AppendError, ExecutionKey, Fingerprint, Found, LogReader, LogWriter, Opening, Start, Usage,
    },
};
use turnkit_wire::Event;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows this time, in Unix milliseconds.
    #[must_use]
    pub fn at(unix_ms: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(unix_ms)))
    }

    /// Moves it on; less than a millisecond is nothing.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// One log with its clock.
pub(super) struct Bench<L> {
    pub(super) log: L,
    pub(super) clock: Arc<ManualClock>,
}

impl<L: ExecutionLog> Bench<L> {
    pub(super) fn new(make: impl Fn(Limits, Arc<dyn Clock>) -> L) -> Self {
        Self::with_limits(make, Limits::default())
    }

    pub(super) fn with_limits(make: impl Fn(Limits, Arc<dyn Clock>) -> L, limits: Limits) -> Self {
        let clock = ManualClock::at(NOON);
        let log = make(limits, Arc::clone(&clock) as Arc<dyn Clock>);
        Self { log, clock }
    }

    pub(super) async fn find(&self, id: &str) -> Found {
        self.log.find(&key(id)).await.unwrap()
    }

    pub(super) async fn start(&self, id: &str) -> (Box<dyn LogWriter>, Arc<dyn LogReader>) {
        match self.start_again(id).await {
            Start::Started { writer, reader } => (writer, reader),
            _ => panic!("{id} must be free"),
        }
    }

    pub(super) async fn start_again(&self, id: &str) -> Start {
        self.log.start(&key(id), opening(id)).await.unwrap()
    }

    pub(super) async fn take_over(&self, id: &str) -> Box<dyn LogWriter> {
        self.log.take_over(&key(id)).await.unwrap().unwrap()
    }

    pub(super) async fn usage(&self) -> Usage {
        let all = self.log.usage(None).await.unwrap();
        let scope = self.log.usage(Some(&Scope::new("scope"))).await.unwrap();
        assert_eq!(all, scope, "there is one scope only");
        all
    }
}

/// The time at which every clock here begins.
pub(super) const NOON: u64 = 1_700_000_000_000;

/// A scope's budget, and a server's.
pub(super) fn budgets(bytes: u64) -> [Limits; 2] {
    let scope = Limits { bytes_per_scope: bytes, ..Limits::default() };
    let server = Limits { bytes_in_all: bytes, ..Limits::default() };
    [scope, server]
}

pub(super) fn key(id: &str) -> ExecutionKey {
    key_in("scope", id)
}

pub(super) fn key_in(scope: &str, id: &str) -> ExecutionKey {
    let id = ExecutionId::parse(id).unwrap();
    ExecutionKey { scope: Scope::new(scope), id }
}

pub(super) fn opening(id: &str) -> Opening {
    let fingerprint = Some(Fingerprint::of(id.as_bytes()));
    Opening { fingerprint, first: started(id), takes_input: true, log_id: None }
}

pub(super) fn started(id: &str) -> Event {
    Event::new("execution.started", &serde_json::json!({ "executionId": id })).unwrap()
}

pub(super) fn number(number: u64) -> Event {
    Event::new("number", &number).unwrap()
}

pub(super) fn sized(bytes: usize) -> Event {
    Event::new("text", &"x".repeat(bytes)).unwrap()
}

/// Appends until there is no more room.
pub(super) async fn fill(writer: &mut dyn LogWriter) -> AppendError {
    loop {
        if let Err(error) = writer.append(&sized(40)).await {
            return error;
        }
    }
}

/// The frames after `after`, up to and with `last`.
pub(super) async fn read(reader: &dyn LogReader, mut after: u64, last: u64) -> BytesMut {
    let mut frames = BytesMut::new();
    while after < last {
        let page = reader.next(after).await.unwrap().unwrap();
        frames.extend_from_slice(&page.frames);
        after = page.last;
    }
    frames
}
