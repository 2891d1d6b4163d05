//! A substrate in memory that is killed during starts, and started again at the same address (PROTOCOL 3.5).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};
use turnkit::TurnProducer as _;
use turnkit_id::{ExecutionId, LogId};
use turnkit_sandbox::{Error, Retry, RunRequest, SandboxClient};

use crate::support::Process;

/// 40 starts a second.
const START_EVERY: Duration = Duration::from_millis(25);

/// For how long each piece of an answer is on its way. What is on its way when the substrate is killed is lost with it, so a kill
/// always meets runs that have begun and were not answered.
const LATE: Duration = Duration::from_millis(100);

/// How often the substrate is killed, and how many starts there are from one kill to the next, where the environment does not say
/// it (`RUN_TWICE_KILLS`, `RUN_TWICE_STARTS`). The full count is 26 and 60.
const KILLS: usize = 3;
const STARTS: usize = 10;

/// Writes down that it was run, and answers.
const AGENT: &str = r#"read -r request && printf '%s\n' "$request" >> "$1" && printf '{"type":"result","data":{"finalText":"done"}}\n'"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_execution_runs_twice_where_each_start_names_its_log() {
    let seen = kill_during_starts(true).await;
    assert_eq!(seen.twice, 0, "{seen:?}");
    assert!(seen.changed >= kills(), "not each kill has met a run that had begun: {seen:?}");
}

/// What the test above would see if the id of the log did nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn executions_run_twice_where_no_start_names_its_log() {
    let seen = kill_during_starts(false).await;
    assert!(seen.twice >= kills(), "{seen:?}");
    assert_eq!(seen.changed, 0, "{seen:?}");
}

#[derive(Debug, Default)]
struct Seen {
    started: usize,
    completed: usize,
    /// Executions whose agent was run more than once.
    twice: usize,
    /// Starts that met another log than they named.
    changed: usize,
    /// Executions that were answered, and gone when their reader came back.
    lost: usize,
}

fn kills() -> usize {
    number("RUN_TWICE_KILLS", KILLS)
}

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

async fn kill_during_starts(names_log: bool) -> Seen {
    let folder = TempDir::new().unwrap();
    let (script, runs) = (folder.path().join("agent.sh"), folder.path().join("runs"));
    fs::write(&script, AGENT).unwrap();
    fs::write(&runs, "").unwrap();
    let mut substrate = start(&script, &runs);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let listening = listener.local_addr().unwrap();
    let listener = Arc::new(listener);
    let mut way = Way::to(&substrate, &listener);
    let starter = Arc::new(Starter {
        client: client(listening),
        names_log,
        started: AtomicUsize::new(0),
        answered: Mutex::default(),
        is_over: AtomicBool::new(false),
    });
    let starting = tokio::spawn(Arc::clone(&starter).start_always());
    let mut met = BTreeSet::new();
    for kill in 1..=kills() {
        let enough = kill * number("RUN_TWICE_STARTS", STARTS);
        while starter.started.load(Ordering::Relaxed) < enough
            || starter.unanswered(&counted(&runs)).is_subset(&met)
        {
            sleep(Duration::from_millis(1)).await;
        }
        drop(way);
        substrate.kill();
        met.extend(starter.unanswered(&counted(&runs)));
        substrate = start(&script, &runs);
        way = Way::to(&substrate, &listener);
    }
    starter.is_over.store(true, Ordering::Relaxed);
    let mut seen = starting.await.unwrap();
    seen.twice = counted(&runs).values().filter(|count| **count > 1).count();
    let (killed, during) = (kills(), seen.started);
    eprintln!("{killed} kills during {during} starts, each names its log: {names_log}: {seen:?}");
    seen
}

fn start(script: &Path, runs: &Path) -> Process {
    let command = format!("sh {} {}", script.display(), runs.display());
    let listen = ["substrate", "--listen", "127.0.0.1:0"];
    Process::start(&[&listen[..], &["--agent", "command", "--command", &command]].concat())
}

/// The way to a substrate that is killed: once it is dropped, nothing more comes from there.
struct Way(JoinHandle<()>);

impl Way {
    fn to(substrate: &Process, listener: &Arc<TcpListener>) -> Self {
        let server = substrate.url.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = Arc::clone(listener);
        Self(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, server));
            }
        }))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn relay(client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let (mut requests, mut answered) = client.into_split();
    let (mut answers, mut asked) = TcpStream::connect(server).await?.into_split();
    let asking = async { copy(&mut requests, &mut asked).await.map(drop) };
    let answering = async {
        let mut piece = vec![0; 64 << 10];
        loop {
            let length = answers.read(&mut piece).await?;
            if length == 0 {
                return answered.shutdown().await;
            }
            sleep(LATE).await;
            answered.write_all(&piece[..length]).await?;
        }
    };
    // Either side that is done, or fails, ends the connection for both.
    tokio::select! {
        ended = asking => ended,
        ended = answering => ended,
    }
}

/// How often each execution's agent was run.
fn counted(runs: &Path) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for line in fs::read_to_string(runs).unwrap().split_inclusive('\n') {
        // The last line may be half written.
        if let Some(line) = line.strip_suffix('\n') {
            let request: Value = serde_json::from_str(line).unwrap();
            *counted.entry(request["executionId"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    counted
}

fn client(address: SocketAddr) -> SandboxClient {
    let quick = |policy| Retry {
        first: Duration::from_millis(20),
        max: Duration::from_millis(100),
        ..policy
    };
    SandboxClient::builder(format!("http://{address}"))
        .retry_before_answer(quick(Retry::BEFORE_ANSWER))
        .retry_after_answer(Retry { attempts: u32::MAX, ..quick(Retry::AFTER_ANSWER) })
        .build()
        .unwrap()
}

struct Starter {
    client: SandboxClient,
    names_log: bool,
    started: AtomicUsize,
    answered: Mutex<BTreeSet<String>>,
    is_over: AtomicBool,
}

impl Starter {
    /// One start after another, until it is over; then each of them to its end.
    async fn start_always(self: Arc<Self>) -> Seen {
        let mut running = JoinSet::new();
        let mut ticks = interval(START_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let session = format!("s{}", self.started.fetch_add(1, Ordering::Relaxed));
            let id = ExecutionId::derive("project", &session, 0).unwrap();
            running.spawn(Arc::clone(&self).run(id));
        }
        let started = self.started.load(Ordering::Relaxed);
        let mut seen = Seen { started, ..Seen::default() };
        for end in running.join_all().await {
            match end {
                Ok(()) => seen.completed += 1,
                Err(Error::LogChanged(_)) => seen.changed += 1,
                Err(Error::Lost(_)) => seen.lost += 1,
                // Without an execution and its log, nothing that the network does is final.
                Err(error) => panic!("{error}"),
            }
        }
        seen
    }

    async fn run(self: Arc<Self>, id: ExecutionId) -> Result<(), Error> {
        let mut request = RunRequest::new(id.clone(), "hello");
        if self.names_log {
            request = request.log_id(self.log_id().await);
        }
        let mut turn = self.client.run(request);
        let first = turn.next().await;
        self.answered.lock().unwrap().insert(id.to_string());
        let mut produced = first?;
        while !matches!(produced, turnkit::Produced::Done { .. }) {
            produced = turn.next().await?;
        }
        Ok(())
    }

    /// Asks until the substrate is there.
    async fn log_id(&self) -> LogId {
        loop {
            match self.client.log_id().await {
                Ok(id) => return id.expect("our substrate tells the id of its log"),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Executions that have run, and whose answer has not come.
    fn unanswered(&self, counted: &BTreeMap<String, usize>) -> BTreeSet<String> {
        let answered = self.answered.lock().unwrap();
        counted.keys().filter(|id| !answered.contains(*id)).cloned().collect()
    }
}
