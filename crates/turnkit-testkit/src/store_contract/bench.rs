//! What the rules work with: a database with two handles, turns in it, and words for what came instead.

use std::error::Error as _;
use std::fmt::{self, Debug};
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::time::{Instant, sleep, timeout};
use turnkit_chat::store::{
    Accepted, Claim, Claimed, Find, Found, Joined, Lease, MessagePage, NewRow, Renewed,
    SessionState, Stored, TurnRow,
};
use turnkit_chat::{
    ChatStore, Ending, Failure, Message, Principal, SessionId, StoreError, StoreErrorKind, Turn,
    TurnRef,
};
use turnkit_id::{ExecutionId, LogId};

use super::{Statements, StoreFixture, Written};

/// So many tasks at once, half of them on each handle.
pub(super) const TASKS: usize = 16;

/// A store answers within this time, if only with `Busy`.
const ANSWER: Duration = Duration::from_secs(10);

/// A store that is busy for longer than this fails the rule: nothing but the rule uses it.
const BUSY: Duration = Duration::from_secs(60);

/// So many characters of what was wanted and of what came are shown.
const SHOWN: usize = 600;

/// A rule of the contract, by the name of its test.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Where it is written down.
    pub(super) place: &'static str,
}

impl Rule {
    pub(super) fn broken(
        self,
        at: impl fmt::Display,
        wanted: impl fmt::Display,
        came: impl fmt::Display,
        look_for: &str,
    ) -> ! {
        let Rule { name, place } = self;
        let [wanted, came] = [wanted.to_string(), came.to_string()].map(|mut text| {
            if let Some((end, _)) = text.char_indices().nth(SHOWN) {
                text.truncate(end);
                text.push('…');
            }
            text
        });
        panic!(
            "the store breaks `{name}` {at}\n  wanted: {wanted}\n  came: {came}\n  look for: {look_for}\n  see: {place}"
        )
    }

    /// Wants `came` to be `wanted`.
    pub(super) fn same<T: Debug + PartialEq>(
        self,
        at: impl fmt::Display,
        came: &T,
        wanted: &T,
        look_for: &str,
    ) {
        if came != wanted {
            self.broken(at, format!("{wanted:?}"), format!("{came:?}"), look_for);
        }
    }

    /// Wants two lists to be the same, and tells the first difference alone.
    pub(super) fn same_list<T: Debug + PartialEq>(
        self,
        at: impl fmt::Display,
        came: &[T],
        wanted: &[T],
        look_for: &str,
    ) {
        let all = 0..came.len().max(wanted.len());
        if let Some(place) = all.into_iter().find(|place| came.get(*place) != wanted.get(*place)) {
            let told = |list: &[T]| {
                list.get(place).map_or("the end of the list".to_owned(), |one| format!("{one:?}"))
            };
            let at = format!("{at}, at place {}", place + 1);
            self.broken(at, told(wanted), told(came), look_for);
        }
    }

    /// Wants `is_so` to hold of `came`.
    pub(super) fn holds<T: Debug>(
        self,
        at: impl fmt::Display,
        came: &T,
        wanted: &str,
        is_so: impl FnOnce(&T) -> bool,
        look_for: &str,
    ) {
        if !is_so(came) {
            self.broken(at, wanted, format!("{came:?}"), look_for);
        }
    }

    /// What the store answers; asked again while it is busy, as its callers do.
    pub(super) async fn try_ask<'a, T>(
        self,
        call: &str,
        ask: impl Fn() -> Stored<'a, T>,
    ) -> Result<T, StoreError> {
        let since = Instant::now();
        loop {
            let Ok(answer) = timeout(ANSWER, ask()).await else {
                let wanted = "an answer within 10 s";
                let look_for =
                    "a wait without a bound: a lock that is never let go, a wake that is lost";
                self.broken(format_args!("in `{call}`"), wanted, "none", look_for)
            };
            match answer {
                Err(error) if error.kind() == StoreErrorKind::Busy => {
                    if since.elapsed() > BUSY {
                        let wanted = "an answer, as nobody else uses the store";
                        let came = format!("`Busy` for {} s", BUSY.as_secs());
                        let look_for =
                            "a lock or a transaction that a dropped or failed call has left behind";
                        self.broken(format_args!("in `{call}`"), wanted, came, look_for)
                    }
                    sleep(Duration::from_millis(2)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Asks as [`try_ask`](Self::try_ask) does, and an error breaks the rule.
    pub(super) async fn ask<'a, T>(self, call: &str, ask: impl Fn() -> Stored<'a, T>) -> T {
        match self.try_ask(call, ask).await {
            Ok(answer) => answer,
            Err(error) => self.broken(
                format_args!("in `{call}`"),
                "an answer",
                told(&error),
                "a call that is refused although it keeps to the contract; only `Busy` is asked again here",
            ),
        }
    }
}

/// An error with all that lies behind it.
pub(super) fn told(error: &StoreError) -> String {
    let mut text = format!("the error {:?}: failed to {error}", error.kind());
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// A database, and two workers on it that have joined.
pub(super) struct Bench<F: StoreFixture> {
    pub(super) rule: Rule,
    pub(super) fixture: F,
    pub(super) stores: [Arc<F::Store>; 2],
    nonces: AtomicU64,
}

impl<F: StoreFixture> Bench<F> {
    pub(super) async fn new(rule: Rule, fixture: F) -> Bench<F> {
        let stores = [open(rule, &fixture).await, open(rule, &fixture).await];
        let bench = Bench { rule, fixture, stores, nonces: AtomicU64::new(0) };
        for store in &bench.stores {
            bench.join(store).await;
        }
        bench
    }

    /// The first handle.
    pub(super) fn store(&self) -> &F::Store {
        &self.stores[0]
    }

    pub(super) async fn join(&self, store: &F::Store) {
        let joined = self.rule.ask("join", || store.join(log("log"))).await;
        let look_for = "a worker that is refused although nobody renews under another log";
        self.rule.same("in `join`", &joined, &Joined::Member, look_for);
    }

    /// What [`TASKS`] tasks get that ask at the same moment, in the tasks' order; every other one asks the second handle.
    pub(super) async fn race<T, C>(&self, call: impl Fn(usize, Arc<F::Store>) -> C) -> Vec<T>
    where
        T: Send + 'static,
        C: Future<Output = T> + Send + 'static,
    {
        let start = Arc::new(Barrier::new(TASKS));
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (start, call) = (Arc::clone(&start), call(task, Arc::clone(self.of(task))));
                tokio::spawn(async move {
                    start.wait().await;
                    call.await
                })
            })
            .collect();
        let mut answers = Vec::with_capacity(TASKS);
        for task in tasks {
            answers.push(task.await.unwrap_or_else(|error| resume_unwind(error.into_panic())));
        }
        answers
    }

    /// The handle that a task of a race has.
    pub(super) fn of(&self, task: usize) -> &Arc<F::Store> {
        &self.stores[task % 2]
    }

    pub(super) async fn session(&self, number: usize) -> SessionId {
        let (store, id) = (self.store(), session_id(number));
        let open = || store.open_session(owner(), id.clone());
        self.rule.ask("open_session", open).await;
        id
    }

    /// A new turn of a session.
    pub(super) async fn accept(&self, session: &SessionId, turn_id: &str) -> Turn {
        self.accept_message(session, turn_id, "hello").await
    }

    pub(super) async fn accept_message(
        &self,
        session: &SessionId,
        turn_id: &str,
        message: &str,
    ) -> Turn {
        let (store, new) = (self.store(), asked(session, turn_id, message));
        match self.rule.ask("accept", || store.accept(new.clone())).await {
            Accepted::New(row) => row.turn,
            other => {
                let look_for = "a turn that is refused although its session has no open one";
                self.rule.broken("in `accept`", "`New`", format!("{other:?}"), look_for)
            }
        }
    }

    /// A new turn in a session of its own.
    pub(super) async fn turn(&self, session: usize) -> Turn {
        let session = self.session(session).await;
        self.accept(&session, "turn").await
    }

    /// A claim as no other one: by this epoch, of a worker that would start the agent.
    pub(super) fn claim(&self, turn: &Turn, seen_epoch: u64) -> Claim {
        let nonce = u128::from(self.nonces.fetch_add(1, Ordering::SeqCst)) | (0xC0_FFEE << 64);
        let execution_id = turn.execution_id.clone();
        Claim { execution_id, nonce, seen_epoch, may_run: true }
    }

    /// The lease that a handle gets by a claim that must be granted.
    pub(super) async fn hold(&self, store: &F::Store, turn: &Turn, seen_epoch: u64) -> Lease {
        let claim = self.claim(turn, seen_epoch);
        let claimed = self.rule.ask("claim", || store.claim(claim.clone())).await;
        match claimed {
            Claimed::Run(lease) | Claimed::Attach(lease) => lease,
            Claimed::Refused => {
                let wanted = format!("a lease, as it is free and its epoch is {seen_epoch}");
                let look_for = "a free lease that is taken for held, or an epoch that has moved without a claim";
                self.rule.broken("in `claim`", wanted, "`Refused`", look_for)
            }
        }
    }

    pub(super) async fn release(&self, store: &F::Store, lease: &Lease) {
        self.rule.ask("release", || store.release(lease.clone())).await;
    }

    pub(super) async fn renew(&self, store: &F::Store, held: &[Lease]) -> Renewed {
        self.rule.ask("renew", || store.renew(held.to_vec())).await
    }

    /// The turn's row as the second handle sees it: it is the same data.
    pub(super) async fn row(&self, execution_id: &ExecutionId) -> TurnRow {
        let (store, what) = (&self.stores[1], Find::Execution(execution_id.clone()));
        match self.rule.ask("find", || store.find(what.clone())).await {
            Found::Turn(row) => row,
            other => {
                let look_for =
                    "a turn that was accepted over one handle and is not seen by another";
                self.rule.broken("in `find`", "the turn", format!("{other:?}"), look_for)
            }
        }
    }

    pub(super) async fn state_of(&self, session: &SessionId, page: MessagePage) -> SessionState {
        let store = &self.stores[1];
        let ask = || store.session(owner(), session.clone(), page);
        self.rule.ask("session", ask).await.unwrap_or_else(|| {
            let look_for = "a session that was opened over one handle and is not seen by another";
            self.rule.broken("in `session`", "the session", "`None`", look_for)
        })
    }

    /// All messages of a session.
    pub(super) async fn messages(&self, session: &SessionId) -> Vec<Message> {
        self.state_of(session, MessagePage::newest(1_000)).await.messages
    }

    pub(super) async fn unattended(&self, store: &F::Store, limit: usize) -> Vec<ExecutionId> {
        self.rule.ask("unattended", || store.unattended(limit)).await
    }

    /// Wants so many rows of the product's statements, where the store runs any.
    pub(super) async fn wrote(&self, at: &str, execution_id: &ExecutionId, wanted: Written) {
        if F::Statements::ARE_RUN {
            let came = F::Statements::written(&self.fixture, execution_id).await;
            let look_for = "statements outside of the transaction whose part they are, or run for a call that wrote nothing";
            self.rule.same(format_args!("in the product's tables {at}"), &came, &wanted, look_for);
        }
    }
}

/// A new handle.
pub(super) async fn open<F: StoreFixture>(rule: Rule, fixture: &F) -> Arc<F::Store> {
    Arc::new(rule.ask("open", || Box::pin(fixture.open())).await)
}

/// What `call` gives, unless it is dropped before: after it was polled so many times, at once or when it wakes its task again.
pub(super) async fn dropped_after<T>(
    polls: usize,
    at_once: bool,
    mut call: Stored<'_, T>,
) -> Option<Result<T, StoreError>> {
    let mut polled = 0;
    poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        match call.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if at_once && polled == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How many of the answers are so.
pub(super) fn count<T>(answers: &[T], is_so: impl Fn(&T) -> bool) -> usize {
    answers.iter().filter(|answer| is_so(answer)).count()
}

pub(super) fn owner() -> Principal {
    Principal::new("tenant", "user")
}

pub(super) fn session_id(number: usize) -> SessionId {
    SessionId::new(format!("00000000-0000-7000-8000-{number:012}"))
}

pub(super) fn asked(session: &SessionId, turn_id: &str, message: &str) -> NewRow {
    NewRow::new(owner(), TurnRef::new(session.clone(), turn_id), message, "agent")
}

pub(super) fn ending(code: &str, partial: &str) -> Ending {
    let failure = Failure { code: Some(code.to_owned()), message: format!("failed with {code}") };
    Ending::failed(failure, partial)
}

pub(super) fn log(name: &str) -> LogId {
    LogId::parse(name).expect("a valid id")
}
