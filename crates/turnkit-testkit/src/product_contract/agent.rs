//! The agent that the product asks: it counts its runs, says what a script says, and waits in the middle until it is let on.

use std::{
    future::pending,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, stream};
use tokio::{runtime::Runtime, sync::watch};
use turnkit::Event;
use turnkit_substrate::{Agent, AgentError, Run, Substrate};

use crate::events;

/// What the agent says to each message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    /// So many words, after an event that is no text.
    pub(super) words: usize,
    /// Before these events it waits: before the first of them for stage 1, and so on.
    pub(super) holds: &'static [usize],
    /// Whether it fails in the end.
    pub(super) fails: bool,
}

/// The code with which it fails.
pub(super) const FAILURE: &str = "contract_failure";

impl Script {
    /// All at once.
    pub(super) const PLAIN: Self = Self { words: 12, holds: &[], fails: false };
    /// With a wait in the middle.
    pub(super) const HELD: Self = Self { words: 12, holds: &[6], fails: false };

    pub(super) fn events(self) -> Vec<Event> {
        // Whoever reads it into a value and writes it anew changes it.
        let note = r#"{"type":"contract.note","data":{"b":1E5,"a":-0,"b":"\ud83d\ude00 \/"}}"#;
        let words = (0..self.words).map(|word| events::delta("p", &self::word(word)));
        [events::verbatim(note)].into_iter().chain(words).collect()
    }

    /// The answer's text.
    pub(super) fn text(self) -> String {
        (0..self.words).map(word).collect()
    }
}

fn word(at: usize) -> String {
    format!("wörd-{at} ")
}

/// Handles of one agent, which any number of substrates may have.
#[derive(Clone)]
pub(super) struct Counting(Arc<State>);

struct State {
    script: Script,
    /// The execution and the message of each run.
    runs: Mutex<Vec<(String, String)>>,
    stage: watch::Sender<usize>,
    /// How many runs have come to their first wait.
    waiting: watch::Sender<usize>,
    /// How many runs are over, or were dropped.
    over: watch::Sender<usize>,
}

impl Counting {
    pub(super) fn new(script: Script) -> Self {
        Self(Arc::new(State {
            script,
            runs: Mutex::default(),
            stage: watch::Sender::new(0),
            waiting: watch::Sender::new(0),
            over: watch::Sender::new(0),
        }))
    }

    pub(super) fn script(&self) -> Script {
        self.0.script
    }

    /// The executions in which the agent was asked this.
    pub(super) fn runs_of(&self, message: &str) -> Vec<String> {
        let runs = self.0.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = runs.iter().filter(|(_, asked)| asked.contains(message));
        asked.map(|(execution, _)| execution.clone()).collect()
    }

    /// What the agent was asked, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        let runs = self.0.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.iter().map(|(_, asked)| asked.clone()).collect()
    }

    /// Lets all runs pass their first `stage` waits.
    pub(super) fn let_on(&self, stage: usize) {
        self.0.stage.send_replace(stage);
    }

    /// Resolves once so many runs have come to their first wait.
    pub(super) async fn waiting(&self, runs: usize) {
        reach(&self.0.waiting, runs).await;
    }

    /// Resolves once so many runs are over.
    pub(super) async fn over(&self, runs: usize) {
        reach(&self.0.over, runs).await;
    }
}

async fn reach(count: &watch::Sender<usize>, at_least: usize) {
    // The sender is held by who waits.
    count.subscribe().wait_for(|count| *count >= at_least).await.ok();
}

impl Agent for Counting {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let state = Arc::clone(&self.0);
        let asked = (run.request().execution_id().to_string(), run.request().message().to_owned());
        state.runs.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        let over = Over(Arc::clone(&state));
        stream::unfold((0, over), move |(at, over)| {
            let (state, cancelled) = (Arc::clone(&state), run.cancel().cancelled());
            async move {
                let script = state.script;
                if let Some(hold) = script.holds.iter().position(|hold| *hold == at) {
                    state.waiting.send_modify(|waiting| *waiting += usize::from(hold == 0));
                    let mut stages = state.stage.subscribe();
                    tokio::select! {
                        _ = stages.wait_for(|stage| *stage > hold) => {}
                        () = cancelled => return None,
                    }
                }
                match script.events().get(at) {
                    Some(event) => Some((Ok(event.clone()), (at + 1, over))),
                    None if script.fails && at == script.words + 1 => {
                        let failure = AgentError::new(FAILURE, "the agent was told to fail");
                        Some((Err(failure), (at + 1, over)))
                    }
                    None => None,
                }
            }
        })
    }
}

/// Counts a run as over when it is dropped.
struct Over(Arc<State>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.send_modify(|over| *over += 1);
    }
}

/// A substrate with a memory of its own, in a runtime of its own, so that it can be killed: when it is dropped, nothing of it
/// runs on, and nothing of it cleans up.
pub(super) struct Site {
    runtime: Option<Runtime>,
    pub(super) address: SocketAddr,
}

impl Site {
    pub(super) fn start(agent: &Counting, token: &str) -> Self {
        let substrate = Substrate::builder().agent("default", agent.clone());
        let substrate = substrate.token("contract", token).build().expect("a substrate");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let address = listener.local_addr().expect("its address");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            substrate.serve(listener, pending()).await.expect("the substrate serves");
        });
        Self { runtime: Some(runtime), address }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
