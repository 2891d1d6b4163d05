//! A product between a client and a substrate, with a way to break each connection, and what a rule checks there.

use std::{
    collections::VecDeque,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderName, HeaderValue};
use http_body_util::Full;
use hyper_util::{client::legacy, rt::TokioExecutor};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use turnkit::{Event, wire::kind};
use turnkit_client::{
    Client, Error, Message, NewTurn, SessionState, Turn, TurnFailure, Update, follow::Policy,
};

use super::{
    Product, User,
    agent::{Counting, Script, Site},
    process::{Place, Process},
};
use crate::proxy::{CuttingProxy, Fault};

/// How often it is asked again for what comes to pass without a request.
const LOOK: Duration = Duration::from_millis(50);

/// What the product shows to the substrate.
const TOKEN: &str = "the-token-of-the-contract";

/// A rule of the contract, and what the author of a product that breaks it reads.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// The sections of PROTOCOL.
    pub(super) sections: &'static str,
    pub(super) promise: &'static str,
    pub(super) look_for: &'static str,
}

/// The faults of the next connections, in their order. After them there are none.
type Faults = Arc<Mutex<VecDeque<Fault>>>;

pub(super) struct Bench {
    pub(super) rule: Rule,
    pub(super) agent: Counting,
    product: Product,
    folder: TempDir,
    site: Option<Site>,
    /// From the product to the substrate.
    way: CuttingProxy,
    way_faults: Faults,
    /// From clients to the product.
    front: CuttingProxy,
    front_faults: Faults,
    process: Option<Process>,
}

impl Bench {
    /// The product, started and answering, with an agent that says `script`.
    pub(super) async fn start(rule: Rule, product: Product, script: Script) -> Self {
        let agent = Counting::new(script);
        let site = Site::start(&agent, TOKEN);
        let (way, way_faults) = proxy(site.address).await;
        // Led to the product's address once it is known.
        let (front, front_faults) = proxy(site.address).await;
        let folder = tempfile::tempdir().expect("a folder for the product");
        let site = Some(site);
        let mut bench = Self {
            rule,
            agent,
            product,
            folder,
            site,
            way,
            way_faults,
            front,
            front_faults,
            process: None,
        };
        bench.start_product().await;
        bench
    }

    /// Starts the product in the same directory, and leads clients there.
    pub(super) async fn start_product(&mut self) {
        let process = self.another_process().await;
        self.front.lead_to(process.address);
        self.process = Some(process);
    }

    /// One more process of the product in the same directory, once it answers.
    pub(super) async fn another_process(&self) -> Process {
        let mut process = Process::start(
            &self.product,
            &Place {
                folder: self.folder.path(),
                substrate_url: &self.way.url(),
                substrate_token: TOKEN,
            },
        );
        let client = self.client_of(process.address);
        let answers = async {
            while let Err(error) = client.sessions(None).await {
                if let Some(status) = process.ended() {
                    self.broken_by(&process, &format!("the product ended at its start: {status}"));
                }
                if !error.is_transient() {
                    self.broken_by(&process, &told("GET /api/sessions", &error));
                }
                sleep(LOOK).await;
            }
        };
        if timeout(self.product.patience, answers).await.is_err() {
            let came = format!(
                "no answer at {} within {} s",
                process.address,
                self.product.patience.as_secs()
            );
            self.broken_by(&process, &came);
        }
        process
    }

    /// SIGKILL.
    pub(super) fn kill_product(&mut self) {
        self.process = None;
    }

    /// SIGTERM; [`product_ended`](Self::product_ended) waits for the end.
    pub(super) fn terminate_product(&self) {
        self.process.iter().for_each(Process::terminate);
    }

    pub(super) async fn product_ended(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let ended = async {
            while process.ended().is_none() {
                sleep(LOOK).await;
            }
        };
        if timeout(self.product.patience, ended).await.is_err() {
            let came = format!(
                "it still runs {} s after SIGTERM, although no turn is open",
                self.product.patience.as_secs()
            );
            self.broken_by(&process, &came);
        }
    }

    /// Kills the substrate, and starts one that knows nothing of what was.
    pub(super) fn lose_memory(&mut self) {
        self.site = None;
        let site = Site::start(&self.agent, TOKEN);
        self.way.lead_to(site.address);
        self.way.cut_all();
        self.site = Some(site);
    }

    /// What happens to the next connections of clients to the product.
    pub(super) fn break_front(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.front_faults).extend(faults);
    }

    /// What happens to the next connections of the product to the substrate, which has none that was made before.
    pub(super) fn break_way(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.way_faults).extend(faults);
        self.way.cut_all();
    }

    /// Lets the next connections of the product to the substrate be.
    pub(super) fn mend_way(&self) {
        lock(&self.way_faults).clear();
    }

    /// The user that most rules are about.
    pub(super) fn ann(&self) -> Client {
        self.client(self.front.address(), Some(&self.product.users[0]))
    }

    pub(super) fn bob(&self) -> Client {
        self.client(self.front.address(), Some(&self.product.users[1]))
    }

    /// Somebody who shows nothing.
    pub(super) fn nobody(&self) -> Client {
        self.client(self.front.address(), None)
    }

    /// The first user, at a process of her choice.
    pub(super) fn client_of(&self, address: SocketAddr) -> Client {
        self.client(address, Some(&self.product.users[0]))
    }

    /// One that makes a connection for each request, and waits hardly at all.
    fn client(&self, address: SocketAddr, user: Option<&User>) -> Client {
        let connections = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build_http::<Full<Bytes>>();
        let mut policy = Policy::with_patience(self.product.patience);
        policy.first_wait = Duration::from_millis(20);
        policy.max_wait = Duration::from_millis(500);
        let client = Client::builder(format!("http://{address}")).policy(policy);
        let headers = user.into_iter().flat_map(|user| &user.headers);
        let client = headers.fold(client.transport(connections), |client, (name, value)| {
            let name = HeaderName::try_from(name).expect("a user's header has a name");
            client.header(name, HeaderValue::try_from(value).expect("a user's header has a value"))
        });
        client.build().expect("a client")
    }

    pub(super) async fn session(&self, client: &Client) -> String {
        self.call("POST /api/sessions", client.create_session()).await
    }

    pub(super) async fn sessions(&self, client: &Client, count: usize) -> Vec<String> {
        join_all((0..count).map(|_| self.session(client))).await
    }

    /// What the call gives, which must be no refusal.
    pub(super) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> T {
        match self.within(what, call).await {
            Ok(answer) => answer,
            Err(error) => self.broken(&told(what, &error)),
        }
    }

    pub(super) async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        match timeout(self.product.patience, future).await {
            Ok(value) => value,
            Err(_) => self.broken(&format!(
                "{what} has not come within {} s",
                self.product.patience.as_secs()
            )),
        }
    }

    /// Waits until so many runs are in the middle.
    pub(super) async fn in_the_middle(&self, runs: usize) {
        let what = format!("the product's request for run {runs} at the substrate");
        self.within(&what, self.agent.waiting(runs)).await;
    }

    /// Reads until `events` events were taken.
    pub(super) async fn read_to(&self, reader: &mut Reader, events: usize) {
        let what = format!("event {events} of the turn {}", reader.turn.turn_id());
        let read = async {
            while reader.lines.len() < events && reader.end.is_none() {
                self.read(reader).await;
            }
        };
        self.within(&what, read).await;
        if reader.lines.len() < events {
            self.broken(&format!("{what} has not come: {}", reader.told()));
        }
    }

    /// Reads to the end.
    pub(super) async fn read_out(&self, reader: &mut Reader) {
        let what = format!("the end of the turn {}", reader.turn.turn_id());
        let read = async {
            while reader.end.is_none() {
                self.read(reader).await;
            }
        };
        self.within(&what, read).await;
    }

    async fn read(&self, reader: &mut Reader) {
        match reader.turn.next().await {
            Ok(Some(Update::Connected { cursor, execution_id })) => {
                if cursor == 0 {
                    reader.lines.clear();
                }
                if let (Some(before), Some(now)) = (&reader.execution_id, &execution_id)
                    && before != now
                {
                    self.broken(&format!(
                        "the turn {} is of the execution {before} first and of {now} then",
                        reader.turn.turn_id()
                    ));
                }
                reader.execution_id = execution_id.or(reader.execution_id.take());
            }
            Ok(Some(Update::Event { event, .. })) => {
                self.is_next(reader, &event);
                reader.lines.push(event);
            }
            Ok(Some(Update::Completed { replayed, .. })) => {
                reader.end = Some(End::Completed { replayed });
            }
            Ok(Some(Update::Failed { failure, .. })) => reader.end = Some(End::Failed(failure)),
            Ok(Some(_)) => {}
            Ok(None) => self.broken("the turn's body has no ending"),
            Err(error) => {
                self.broken(&told(&format!("the turn {}", reader.turn.turn_id()), &error));
            }
        }
    }

    /// It has drawn the agent's events, each once and as it was sent, or the saved answer in their place; and was told that it is
    /// saved.
    pub(super) fn is_whole(&self, reader: &Reader) {
        let id = reader.turn.turn_id();
        match &reader.end {
            Some(End::Completed { replayed: false }) => {}
            Some(End::Completed { replayed: true }) => return self.is_replayed(reader),
            _ => self.broken(&format!("the turn {id} was not completed: {}", reader.told())),
        }
        let (events, expected) = (reader.lines.len(), self.agent.script().events().len() + 1);
        if events != expected {
            self.broken(&format!("the turn {id} completed after {events} events of {expected}"));
        }
    }

    /// The event is the one that follows what the reader has, byte for byte; or one of a replay, which replaces all of it.
    fn is_next(&self, reader: &Reader, event: &Event) {
        if reader.lines.first().is_some_and(is_replay) {
            return;
        }
        let (id, at) = (reader.turn.turn_id(), reader.lines.len());
        let sent = at.checked_sub(1).map(|at| self.agent.script().events().into_iter().nth(at));
        let is_next = match &sent {
            None => event.kind() == kind::RUN_STARTED,
            Some(sent) => {
                event.kind() == kind::RESULT
                    || sent.as_ref().is_some_and(|sent| sent.as_json() == event.as_json())
            }
        };
        if !is_next {
            let sent = match &sent {
                None => kind::RUN_STARTED,
                Some(None) => "the end",
                Some(Some(sent)) => sent.as_json(),
            };
            self.broken(&format!(
                "event {at} of the turn {id}, counted from 0, is {}, and should be {sent}",
                event.as_json()
            ));
        }
    }

    /// It was given the saved answer, in the place of whatever it had drawn (PROTOCOL 2.1, rule 9).
    pub(super) fn is_replayed(&self, reader: &Reader) {
        let id = reader.turn.turn_id();
        let Some(End::Completed { replayed: true }) = reader.end else {
            self.broken(&format!("the turn {id} is not replayed: {}", reader.told()));
        };
        let result = reader.lines.iter().rfind(|line| line.kind() == kind::RESULT);
        let data = result.and_then(|result| result.data::<serde_json::Value>().ok());
        let text = data.as_ref().and_then(|data| data.get("finalText")?.as_str());
        if text != Some(&self.agent.script().text()) {
            self.broken(&format!("the turn {id} is replayed as {text:?}, which is not its answer"));
        }
    }

    /// It was told, last of all, that the turn failed with this code.
    pub(super) fn has_failed(&self, reader: &Reader, code: &str) {
        match &reader.end {
            Some(End::Failed(failure)) if failure.code.as_deref() == Some(code) => {}
            _ => self.broken(&format!(
                "the turn {} did not fail with the code {code}: {}",
                reader.turn.turn_id(),
                reader.told()
            )),
        }
    }

    /// The session, once none of its turns is open.
    pub(super) async fn at_rest(&self, client: &Client, session: &str) -> SessionState {
        let rest = async {
            loop {
                let state = client.session(session, None).await;
                match state {
                    Ok(state) if state.turns.is_empty() => return state,
                    Err(error) if !error.is_transient() => {
                        self.broken(&told("GET /api/sessions/{s}", &error));
                    }
                    _ => sleep(LOOK).await,
                }
            }
        };
        self.within("the end of the session's open turn", rest).await
    }

    /// The turn's answer, of which there is exactly one, as there is of its user's message.
    pub(super) fn answer<'a>(&self, state: &'a SessionState, turn: &str) -> &'a Message {
        let of = |role: &str| -> Vec<&'a Message> {
            let messages = state.messages.iter();
            messages.filter(|said| said.turn_id == turn && said.role == role).collect()
        };
        match (of("user").len(), &of("assistant")[..]) {
            (1, [answer]) => answer,
            (users, answers) => self.broken(&format!(
                "the session holds {users} messages of the user and {} answers of the turn {turn}",
                answers.len()
            )),
        }
    }

    /// The turn's answer is saved, once and whole.
    pub(super) fn is_saved(&self, state: &SessionState, turn: &str) {
        let answer = self.answer(state, turn);
        let expected = self.agent.script().text();
        if (answer.status.as_str(), &answer.text) != ("complete", &expected) {
            self.broken(&format!(
                "the answer of the turn {turn} is saved as {} with the text {:?}, and the agent said {expected:?}",
                answer.status, answer.text
            ));
        }
    }

    /// What there is of the answer is kept with this status: the beginning of what the agent said, `at_least` words of it.
    pub(super) fn is_kept(&self, state: &SessionState, turn: &str, status: &str, at_least: usize) {
        let answer = self.answer(state, turn);
        let script = self.agent.script();
        let least = Script { words: at_least, ..script }.text();
        if answer.status != status {
            self.broken(&format!(
                "the turn {turn} is kept as {}, and not as {status}",
                answer.status
            ));
        }
        if !(script.text().starts_with(&answer.text) && answer.text.starts_with(&least)) {
            self.broken(&format!(
                "of the turn {turn} the text {:?} is kept, and its reader has seen {least:?}",
                answer.text
            ));
        }
    }

    /// A turn that has to wait has this place in the queue.
    pub(super) async fn queue(&self, client: &Client, session: &str, turn: &NewTurn, place: u64) {
        let id = turn.turn_id();
        match self.within("POST …/turns of a queued turn", client.start(session, turn)).await {
            Err(Error::Queued { position }) if position == place => {}
            Err(Error::Queued { position }) => {
                self.broken(&format!("the turn {id} waits as number {position}, and not {place}"));
            }
            Err(error) => self.broken(&told(&format!("the turn {id}, which may wait"), &error)),
            Ok(_) => self.broken(&format!("the turn {id} is begun beside an open one")),
        }
    }

    /// The session is not there to its owner, in any route.
    pub(super) async fn is_gone(&self, client: &Client, session: &str, turn: &NewTurn) {
        let id = turn.turn_id();
        for (route, error) in [
            ("GET /api/sessions/{s}", client.session(session, None).await.err()),
            ("GET …/messages", client.messages(session, None).await.err()),
            ("GET …/turns?state=open", client.open_turns(session).await.err()),
            ("GET …/turns/{turnId}", client.resume(session, id, 0).await.err()),
            ("POST …/turns of its turn", client.start(session, turn).await.err()),
            ("POST …/cancel", client.cancel(session, id).await.err()),
        ] {
            match error {
                Some(Error::Refused(refusal)) if refusal.status() == 404 => {}
                Some(error) => self.broken(&told(route, &error)),
                None => self.broken(&format!("{route} is answered of a deleted session")),
            }
        }
        let listed = self.call("GET /api/sessions", client.sessions(None)).await;
        if listed.iter().any(|listed| listed.session_id == session) {
            self.broken("a deleted session is in its owner's list");
        }
    }

    /// The agent was asked this once.
    pub(super) fn ran_once(&self, message: &str) {
        let runs = self.agent.runs_of(message);
        if runs.len() != 1 {
            self.broken(&format!(
                "the agent was asked {} times for one turn, in the executions {runs:?}",
                runs.len()
            ));
        }
    }

    pub(super) fn broken(&self, came: &str) -> ! {
        let last_words = self.process.as_ref().map(Process::last_words);
        self.fail(came, last_words.as_deref().unwrap_or_default())
    }

    fn broken_by(&self, process: &Process, came: &str) -> ! {
        self.fail(came, &process.last_words())
    }

    fn fail(&self, came: &str, last_words: &str) -> ! {
        let Rule { name, sections, promise, look_for } = self.rule;
        panic!(
            "the product breaks `{name}` (PROTOCOL {sections})\n  promised: {promise}\n  came: {came}\n  look for: {look_for}\n  \
             the end of what it has written: {last_words}"
        )
    }
}

/// What a client has of a turn.
pub(super) struct Reader {
    pub(super) turn: Turn,
    pub(super) lines: Vec<Event>,
    pub(super) execution_id: Option<String>,
    end: Option<End>,
}

enum End {
    Completed { replayed: bool },
    Failed(TurnFailure),
}

impl Reader {
    /// Follows a turn that is started now.
    pub(super) fn send(client: &Client, session: &str, turn: &NewTurn) -> Self {
        Self::new(client.send(session, turn).expect("a turn that can be asked for"))
    }

    /// Follows a turn that is there.
    pub(super) fn follow(client: &Client, session: &str, turn: &str) -> Self {
        Self::new(client.follow(session, turn, 0).expect("a turn that can be asked for"))
    }

    fn new(turn: Turn) -> Self {
        Self { turn, lines: Vec::new(), execution_id: None, end: None }
    }

    pub(super) fn has_completed(&self) -> bool {
        matches!(self.end, Some(End::Completed { .. }))
    }

    fn told(&self) -> String {
        let events = self.lines.len();
        match &self.end {
            None => format!("{events} events have come"),
            Some(End::Completed { replayed: false }) => format!("completed after {events} events"),
            Some(End::Completed { replayed: true }) => "completed, as replayed".to_owned(),
            Some(End::Failed(failure)) => format!("failed after {events} events: {failure}"),
        }
    }
}

async fn proxy(server: SocketAddr) -> (CuttingProxy, Faults) {
    let faults = Faults::default();
    let next = Arc::clone(&faults);
    let plan = move |_| lock(&next).pop_front().unwrap_or(Fault::None);
    (CuttingProxy::start(server, plan).await.expect("a free port"), faults)
}

/// Whether a replay begins with this line.
fn is_replay(started: &Event) -> bool {
    let data = started.data::<serde_json::Value>();
    data.is_ok_and(|data| data.get("replayed").and_then(serde_json::Value::as_bool) == Some(true))
}

fn lock(faults: &Faults) -> std::sync::MutexGuard<'_, VecDeque<Fault>> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The errors of a call, from the outermost on.
fn told(what: &str, error: &Error) -> String {
    let mut told = format!("{what}: failed to {error}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        told.extend([": ", &error.to_string()]);
        source = error.source();
    }
    told
}
