//! A product that is not made of `turnkit-chat`: the engine, the adapter, and a journal in a file, for one process.
//!
//! It keeps the contract of products. With the name of a mistake as its last argument it makes that one, as somebody would who
//! writes such a product: `other-product DIRECTORY SUBSTRATE PORT [MISTAKE]`.
#![expect(clippy::unwrap_used, reason = "a program of the tests: whatever breaks is to end it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRequestParts, Path as InPath, Query, State as InState},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{net::TcpListener, signal::unix, time::sleep};
use turnkit::{
    BoxError, ChatTurn, ClientLeft, ExecutionId, FinalText, Persisted, Produced, RawText, TurnBody,
    TurnContext, TurnError, TurnHooks, TurnIdentity, TurnProducer,
};
use turnkit_id::LogId;
use turnkit_sandbox::{Error, Retry, RunRequest, SandboxClient, SandboxTurn};

/// What somebody could get wrong.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mistake {
    SavesAfterItHasTold,
    MakesATurnOfEachStart,
    LooksAtTheIdOnly,
    LooksFirstAndInsertsThen,
    ForgetsTheCursor,
    SavesForEachReader,
    TakesACutForTheEnd,
    StopsTheReaderOnly,
    TakesAFailureForTheEnd,
    EndsWithItsReader,
    ChecksNoUserWhereItResumes,
    DiesWhenToldToEnd,
    ForgetsOpenTurns,
    RunsOpenTurnsAgain,
    NamesNoLog,
    KeepsItsQueueInMemory,
    TakesTheNewestThatWaits,
    HidesWhatItShouldDelete,
}

/// A line of the journal.
#[derive(Clone, Serialize, Deserialize)]
enum Record {
    Session {
        id: String,
        user: String,
    },
    Turn {
        session: String,
        id: String,
        message: String,
        execution: String,
    },
    StopAsked {
        execution: String,
    },
    Answer {
        execution: String,
        answer: Answer,
    },
    /// A turn that waits until no other one of its session is open.
    Queued {
        session: String,
        id: String,
        message: String,
    },
    Deleted {
        session: String,
    },
}

#[derive(Clone, Serialize, Deserialize)]
struct Answer {
    status: String,
    text: String,
    code: Option<String>,
}

/// What the journal says.
#[derive(Default)]
struct Sessions {
    users: BTreeMap<String, String>,
    /// How many there ever were: an id is given out once.
    opened: u64,
    turns: Vec<Row>,
    /// The session, the id and the message of each that waits, in their order.
    queue: Vec<(String, String, String)>,
    hidden: BTreeSet<String>,
}

#[derive(Clone)]
struct Row {
    session: String,
    id: String,
    index: u64,
    message: String,
    execution: ExecutionId,
    stop_asked: bool,
    /// One, where all is well.
    answers: Vec<Answer>,
}

impl Sessions {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Session { id, user } => {
                self.opened += 1;
                self.users.insert(id, user);
            }
            Record::Queued { session, id, message } => self.queue.push((session, id, message)),
            // Its rows stay for those who are at them, and nobody finds them.
            Record::Deleted { session } => {
                self.queue.retain(|(waits_in, ..)| *waits_in != session);
                self.users.remove(&session);
            }
            Record::Turn { session, id, message, execution } => {
                self.queue.retain(|(waits_in, waits, _)| (waits_in, waits) != (&session, &id));
                let execution = ExecutionId::parse(&execution).unwrap();
                let index = self.of(&session).count() as u64;
                let (stop_asked, answers) = (false, Vec::new());
                self.turns.push(Row {
                    session,
                    id,
                    index,
                    message,
                    execution,
                    stop_asked,
                    answers,
                });
            }
            Record::StopAsked { execution } => self.row(&execution).stop_asked = true,
            Record::Answer { execution, answer } => self.row(&execution).answers.push(answer),
        }
    }

    fn is_deleted(&self, session: &str) -> bool {
        !self.users.contains_key(session)
    }

    fn of(&self, session: &str) -> impl Iterator<Item = &Row> {
        self.turns.iter().filter(move |row| row.session == session)
    }

    fn row(&mut self, execution: &str) -> &mut Row {
        self.turns.iter_mut().find(|row| row.execution.as_str() == execution).unwrap()
    }
}

struct Journal {
    file: File,
    sessions: Sessions,
}

impl Journal {
    fn open(directory: &Path) -> Journal {
        let file = directory.join("journal");
        let file = OpenOptions::new().create(true).append(true).read(true).open(file).unwrap();
        let mut sessions = Sessions::default();
        for line in BufReader::new(&file).lines() {
            // A last line that a kill has torn was answered to nobody.
            if let Ok(record) = serde_json::from_str(&line.unwrap()) {
                sessions.apply(record);
            }
        }
        Journal { file, sessions }
    }

    /// What is written stays written when the process is killed.
    fn write(&mut self, record: Record) {
        let line = serde_json::to_string(&record).unwrap();
        self.file.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.sessions.apply(record);
    }
}

#[derive(Clone)]
struct Product {
    agents: SandboxClient,
    journal: Arc<Mutex<Journal>>,
    /// Executions that are driven in this process.
    driven: Arc<Mutex<BTreeSet<String>>>,
    is_ending: Arc<AtomicBool>,
    mistake: Option<Mistake>,
}

impl Product {
    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn write(&self, record: Record) {
        self.journal.lock().unwrap().write(record);
    }

    /// Writes what there is of an answer. Where a turn of the session waits, it is the open one from then on.
    fn end(&self, journal: &mut Journal, execution: String, answer: Answer) {
        let session = journal.sessions.row(&execution).session.clone();
        journal.write(Record::Answer { execution, answer });
        self.open_next(journal, &session);
    }

    fn open_next(&self, journal: &mut Journal, session: &str) {
        let queue = &journal.sessions.queue;
        let mut waiting = queue.iter().filter(|(waits_in, ..)| waits_in == session);
        let next = match self.mistake {
            Some(Mistake::TakesTheNewestThatWaits) => waiting.next_back(),
            _ => waiting.next(),
        };
        let Some((_, id, message)) = next.cloned() else { return };
        let row =
            write_turn(journal, session.to_owned(), NewTurn { turn_id: id, message, queue: false });
        self.driven.lock().unwrap().insert(row.execution.to_string());
        let product = self.clone();
        tokio::spawn(async move {
            let log = product.agents.log_id().await.ok().flatten();
            drop(product.run(&row, log));
        });
    }

    fn row(&self, execution: &str) -> Row {
        self.journal.lock().unwrap().sessions.row(execution).clone()
    }

    fn is_deleted(&self, session: &str) -> bool {
        self.journal.lock().unwrap().sessions.is_deleted(session)
    }

    fn is_driven(&self, execution: &ExecutionId) -> bool {
        self.driven.lock().unwrap().contains(execution.as_str())
    }

    /// The run of a turn that was just inserted.
    fn run(&self, row: &Row, log: Option<LogId>) -> TurnBody {
        let request = RunRequest::new(row.execution.clone(), &row.message);
        let request = request.session_id(&row.session);
        let named = log.filter(|_| !self.makes(Mistake::NamesNoLog));
        let request = named.into_iter().fold(request, RunRequest::log_id);
        let execution = self.agents.run(request);
        self.drive(row, execution)
    }

    /// A turn that an earlier process has begun.
    fn take_up(&self, row: &Row) {
        let execution = self.agents.attach_or_bind(row.execution.clone()).answering(&row.message);
        drop(self.drive(row, execution));
    }

    fn drive(&self, row: &Row, execution: SandboxTurn) -> TurnBody {
        let left = match self.mistake {
            Some(Mistake::EndsWithItsReader) => ClientLeft::Cancel,
            _ => ClientLeft::Continue,
        };
        let (product, id) = (self.clone(), row.execution.clone());
        self.driven.lock().unwrap().insert(id.to_string());
        let (body, driver) =
            self.attempt(row, left, 0).start(self.producer(row, execution), Hooks(self.clone()));
        tokio::spawn(async move {
            driver.await;
            product.driven.lock().unwrap().remove(id.as_str());
        });
        body
    }

    fn read(&self, row: &Row, after: u64) -> TurnBody {
        let (product, id) = (self.clone(), row.execution.clone());
        let is_due = move || {
            let is_driven = product.is_driven(&id);
            async move { is_driven }
        };
        let execution = self.agents.join(row.execution.clone(), is_due).answering(&row.message);
        let after = if self.makes(Mistake::ForgetsTheCursor) { 0 } else { after };
        let attempt = self.attempt(row, ClientLeft::Abandon, after);
        let (body, driver) = attempt.start(self.producer(row, execution), Hooks(self.clone()));
        tokio::spawn(driver);
        body
    }

    fn attempt(&self, row: &Row, left: ClientLeft, after: u64) -> ChatTurn {
        let users = &self.journal.lock().unwrap().sessions.users;
        let identity = TurnIdentity {
            tenant_id: "other".to_owned(),
            // Of a session that was deleted since it is nobody's.
            user_id: users.get(&row.session).cloned().unwrap_or_else(|| "nobody".to_owned()),
            session_id: row.session.clone(),
            turn_index: row.index,
        };
        ChatTurn::new(identity, row.execution.clone()).on_client_left(left).resume_after(after)
    }

    fn producer(&self, row: &Row, execution: SandboxTurn) -> Execution {
        Execution { inner: execution, product: self.clone(), session: row.session.clone() }
    }
}

/// The adapter, and what only a product can say: that a log which has changed is a lost execution, and that a session is deleted.
struct Execution {
    inner: SandboxTurn,
    product: Product,
    session: String,
}

/// Why there is no whole answer.
#[derive(Debug)]
enum Stopped {
    Deleted,
    By(Error),
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stopped::Deleted => f.write_str("the session was deleted"),
            Stopped::By(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Stopped {}

impl TurnProducer for Execution {
    type Error = Stopped;

    async fn next(&mut self) -> Result<Produced, Stopped> {
        match (self.inner.next().await, self.product.mistake) {
            (Err(Error::Transport { .. }), Some(Mistake::TakesACutForTheEnd))
            | (Err(Error::Failed(_)), Some(Mistake::TakesAFailureForTheEnd)) => {
                Ok(Produced::Done { final_text: None })
            }
            (Err(_), _) if self.product.is_deleted(&self.session) => Err(Stopped::Deleted),
            (produced, _) => produced.map_err(Stopped::By),
        }
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }

    fn prompt(&self) -> Option<&str> {
        self.inner.prompt()
    }

    fn error_code(error: &Stopped) -> Option<&str> {
        match error {
            Stopped::Deleted => Some("session_deleted"),
            Stopped::By(Error::LogChanged(_)) => Some("execution_lost"),
            Stopped::By(error) => SandboxTurn::error_code(error),
        }
    }

    fn is_retryable(error: &Stopped) -> bool {
        match error {
            Stopped::Deleted => false,
            Stopped::By(error) => SandboxTurn::is_retryable(error),
        }
    }
}

struct Hooks(Product);

impl TurnHooks for Hooks {
    async fn find_completed(
        &self,
        turn: &TurnContext,
    ) -> Result<Option<turnkit::Answer>, BoxError> {
        let row = self.0.row(turn.execution_id().as_str());
        let saved = row.answers.into_iter().find(|answer| answer.status == "complete");
        Ok(saved.map(|answer| answer.text.into()))
    }

    async fn persist_assistant_message(
        &self,
        turn: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        let execution = turn.execution_id().to_string();
        let text = text.as_str().to_owned();
        let answer = Answer { status: "complete".to_owned(), text, code: None };
        if self.0.is_deleted(&self.0.row(&execution).session) {
            return Err("the session was deleted".into());
        }
        if self.0.makes(Mistake::SavesAfterItHasTold) {
            let product = self.0.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(500)).await;
                product.write(Record::Answer { execution, answer });
            });
            return Ok(Persisted::Saved);
        }
        let mut journal = self.0.journal.lock().unwrap();
        let answers = &mut journal.sessions.row(&execution).answers;
        let is_saved = answers.iter().any(|answer| answer.status == "complete");
        if is_saved && !self.0.makes(Mistake::SavesForEachReader) {
            return Ok(Persisted::AlreadySaved);
        }
        let was_open = answers.is_empty();
        // A whole answer takes the place of a partial one.
        answers.retain(|answer| answer.status == "complete");
        if was_open {
            self.0.end(&mut journal, execution, answer);
        } else {
            journal.write(Record::Answer { execution, answer });
        }
        Ok(Persisted::Saved)
    }

    async fn on_turn_failed(
        &self,
        turn: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> Result<(), BoxError> {
        if failure.is_retryable()
            || self.0.is_deleted(&self.0.row(turn.execution_id().as_str()).session)
        {
            return Ok(());
        }
        let mut journal = self.0.journal.lock().unwrap();
        let execution = turn.execution_id().to_string();
        let row = journal.sessions.row(&execution);
        if row.answers.is_empty() {
            let status = if row.stop_asked { "stopped" } else { "failed" }.to_owned();
            let code = failure.code().map(str::to_owned);
            let answer = Answer { status, text: partial.as_str().to_owned(), code };
            self.0.end(&mut journal, execution, answer);
        }
        Ok(())
    }
}

struct User(String);

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<User, Refusal> {
        let shown = parts.headers.get("x-user").and_then(|user| user.to_str().ok());
        shown.map(|user| User(user.to_owned())).ok_or(Refusal(401, "unauthorized", None))
    }
}

/// A status, a code, and the open turn where there is one.
struct Refusal(u16, &'static str, Option<String>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(status, code, turn_id) = self;
        let error = json!({ "code": code, "message": code, "turnId": turn_id });
        let body = Json(json!({ "success": false, "error": error }));
        (StatusCode::from_u16(status).unwrap(), body).into_response()
    }
}

type At = InState<Product>;

async fn open_session(InState(product): At, User(user): User) -> Response {
    let mut journal = product.journal.lock().unwrap();
    let id = format!("s{}", journal.sessions.opened);
    journal.write(Record::Session { id: id.clone(), user });
    (StatusCode::CREATED, Json(json!({ "sessionId": id }))).into_response()
}

async fn sessions(InState(product): At, User(user): User) -> Json<Value> {
    let journal = product.journal.lock().unwrap();
    let Sessions { users, hidden, .. } = &journal.sessions;
    let of_user = users.iter().filter(|(id, owner)| **owner == user && !hidden.contains(*id));
    let listed: Vec<_> = of_user
        .map(|(id, _)| json!({ "sessionId": id, "title": null, "createdAt": now() }))
        .collect();
    Json(json!({ "sessions": listed }))
}

fn now() -> String {
    humantime::format_rfc3339(SystemTime::now()).to_string()
}

/// A session's messages and its open turns.
async fn session(
    InState(product): At,
    User(user): User,
    InPath(session): InPath<String>,
) -> Result<Json<Value>, Refusal> {
    let journal = product.journal.lock().unwrap();
    if journal.sessions.users.get(&session) != Some(&user) {
        return Err(Refusal(404, "session_not_found", None));
    }
    let (mut messages, mut turns) = (Vec::new(), Vec::new());
    for row in journal.sessions.of(&session) {
        let Row { id, index, execution, .. } = row;
        let message = |role: &str, text: &str, status: &str, code: Option<&str>| {
            json!({
                "role": role, "text": text, "status": status, "error": code.map(|code| json!({ "code": code })),
                "turnIndex": index, "turnId": id, "executionId": execution.as_str(), "createdAt": now(),
            })
        };
        messages.push(message("user", &row.message, "complete", None));
        if row.answers.is_empty() {
            let execution = execution.as_str();
            turns.push(json!({ "turnId": id, "executionId": execution, "turnIndex": index }));
        }
        messages.extend(row.answers.iter().map(|answer| {
            message("assistant", &answer.text, &answer.status, answer.code.as_deref())
        }));
    }
    Ok(Json(json!({ "sessionId": session, "messages": messages, "turns": turns })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewTurn {
    turn_id: String,
    message: String,
    #[serde(default)]
    queue: bool,
}

async fn start(
    InState(product): At,
    User(user): User,
    InPath(session): InPath<String>,
    Json(new): Json<NewTurn>,
) -> Result<Response, Refusal> {
    // The log that the turn is dispatched to, where it is a new one.
    let log = product.agents.log_id().await;
    if product.makes(Mistake::LooksFirstAndInsertsThen) {
        let found = find(&product, &user, &session, &new)?;
        sleep(Duration::from_millis(20)).await;
        return Ok(match found {
            Some(row) => response(product.read(&row, 0)),
            None => response(product.run(&insert(&product, session, new), log.ok().flatten())),
        });
    }
    let row = {
        let journal = &mut product.journal.lock().unwrap();
        if let Some(position) = wait(&product, journal, &user, &session, &new)? {
            return Ok(queued(&new.turn_id, position));
        }
        match look(&product, &journal.sessions, &user, &session, &new)? {
            Some(row) => Err(row),
            None if log.is_err() || product.is_ending.load(Ordering::Relaxed) => {
                return Err(Refusal(503, "unavailable", None));
            }
            None => Ok(write_turn(journal, session, new)),
        }
    };
    Ok(match row {
        Ok(row) => response(product.run(&row, log.ok().flatten())),
        Err(row) => response(product.read(&row, 0)),
    })
}

/// The place of a turn that waits, since now or since before, where it is one that has to.
fn wait(
    product: &Product,
    journal: &mut Journal,
    user: &str,
    session: &str,
    new: &NewTurn,
) -> Result<Option<usize>, Refusal> {
    let sessions = &journal.sessions;
    if sessions.users.get(session).is_none_or(|owner| owner != user) {
        return Err(Refusal(404, "session_not_found", None));
    }
    let mut waiting = sessions.queue.iter().filter(|(waits_in, ..)| waits_in == session);
    let count = waiting.clone().count();
    if let Some(place) = waiting.position(|(_, id, _)| *id == new.turn_id) {
        return Ok(Some(place + 1));
    }
    let is_known = sessions.of(session).any(|row| row.id == new.turn_id);
    let has_to = sessions.of(session).any(|row| row.answers.is_empty());
    if is_known || !new.queue || !has_to {
        return Ok(None);
    }
    let (session, id, message) = (session.to_owned(), new.turn_id.clone(), new.message.clone());
    let record = Record::Queued { session, id, message };
    if product.makes(Mistake::KeepsItsQueueInMemory) {
        journal.sessions.apply(record);
    } else {
        journal.write(record);
    }
    Ok(Some(count + 1))
}

fn queued(turn: &str, position: usize) -> Response {
    let body = json!({ "turnId": turn, "state": "queued", "position": position });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

fn response(body: TurnBody) -> Response {
    body.into_response().map(Body::new)
}

fn find(
    product: &Product,
    user: &str,
    session: &str,
    new: &NewTurn,
) -> Result<Option<Row>, Refusal> {
    look(product, &product.journal.lock().unwrap().sessions, user, session, new)
}

/// The turn that has this id, if any; where there is none, there is room for it.
fn look(
    product: &Product,
    sessions: &Sessions,
    user: &str,
    session: &str,
    new: &NewTurn,
) -> Result<Option<Row>, Refusal> {
    if sessions.users.get(session).is_none_or(|owner| owner != user) {
        return Err(Refusal(404, "session_not_found", None));
    }
    if product.makes(Mistake::MakesATurnOfEachStart) {
        return Ok(None);
    }
    if let Some(row) = sessions.of(session).find(|row| row.id == new.turn_id) {
        if row.message != new.message && !product.makes(Mistake::LooksAtTheIdOnly) {
            return Err(Refusal(409, "turn_conflict", None));
        }
        return Ok(Some(row.clone()));
    }
    match sessions.of(session).find(|row| row.answers.is_empty()) {
        Some(open) => Err(Refusal(409, "turn_running", Some(open.id.clone()))),
        None => Ok(None),
    }
}

fn insert(product: &Product, session: String, new: NewTurn) -> Row {
    write_turn(&mut product.journal.lock().unwrap(), session, new)
}

fn write_turn(journal: &mut Journal, session: String, new: NewTurn) -> Row {
    let index = journal.sessions.of(&session).count() as u64;
    let execution = ExecutionId::derive("other", &session, index).unwrap().to_string();
    let (id, message) = (new.turn_id, new.message);
    journal.write(Record::Turn { session, id, message, execution: execution.clone() });
    journal.sessions.row(&execution).clone()
}

/// A turn of one of the user's sessions.
fn turn_of(product: &Product, user: &str, session: &str, turn: &str) -> Result<Row, Refusal> {
    let sessions = &product.journal.lock().unwrap().sessions;
    if sessions.users.get(session).is_none_or(|owner| owner != user) {
        return Err(Refusal(404, "session_not_found", None));
    }
    let row = sessions.of(session).find(|row| row.id == turn);
    row.cloned().ok_or(Refusal(404, "turn_not_found", None))
}

#[derive(Deserialize)]
struct After {
    after: u64,
}

async fn resume(
    InState(product): At,
    User(mut user): User,
    InPath((session, turn)): InPath<(String, String)>,
    Query(After { after }): Query<After>,
) -> Result<Response, Refusal> {
    if product.makes(Mistake::ChecksNoUserWhereItResumes) {
        let users = &product.journal.lock().unwrap().sessions.users;
        user = users.get(&session).cloned().unwrap_or(user);
    }
    let new = NewTurn { turn_id: turn.clone(), message: String::new(), queue: false };
    let waits = wait(&product, &mut product.journal.lock().unwrap(), &user, &session, &new)?;
    if let Some(position) = waits {
        return Ok(queued(&turn, position));
    }
    let row = turn_of(&product, &user, &session, &turn)?;
    Ok(response(product.read(&row, after)))
}

/// The rows go first, so that nobody begins a turn whose execution is then erased.
async fn delete(
    InState(product): At,
    User(user): User,
    InPath(session): InPath<String>,
) -> Result<StatusCode, Refusal> {
    let executions: Vec<ExecutionId> = {
        let journal = &mut product.journal.lock().unwrap();
        match journal.sessions.users.get(&session) {
            Some(owner) if *owner == user => {}
            // It was its owner's, or it never was: nothing is left to be deleted.
            None => return Ok(StatusCode::NO_CONTENT),
            Some(_) => return Err(Refusal(404, "session_not_found", None)),
        }
        if product.makes(Mistake::HidesWhatItShouldDelete) {
            journal.sessions.hidden.insert(session);
            return Ok(StatusCode::NO_CONTENT);
        }
        journal.write(Record::Deleted { session: session.clone() });
        journal.sessions.of(&session).map(|row| row.execution.clone()).collect()
    };
    for execution in executions {
        if product.agents.erase(&execution).await.is_err() {
            return Err(Refusal(503, "unavailable", None));
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn cancel(
    InState(product): At,
    User(user): User,
    InPath((session, turn)): InPath<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let row = turn_of(&product, &user, &session, &turn)?;
    let execution = row.execution.to_string();
    if row.answers.is_empty() {
        product.write(Record::StopAsked { execution: execution.clone() });
        if product.makes(Mistake::StopsTheReaderOnly) {
            let (status, text) = ("stopped".to_owned(), String::new());
            let answer = Answer { status, text, code: Some("cancelled".to_owned()) };
            product.write(Record::Answer { execution: execution.clone(), answer });
        } else if product.agents.cancel(&row.execution).await.is_err() {
            return Err(Refusal(503, "unavailable", None));
        }
    }
    loop {
        if let Some(answer) = product.row(&execution).answers.first() {
            let state = &answer.status;
            return Ok(Json(json!({ "turnId": turn, "executionId": execution, "state": state })));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, substrate, port, mistake @ ..] = &arguments[..] else {
        return Err("arguments: DIRECTORY SUBSTRATE PORT [MISTAKE]".into());
    };
    let mistake: Option<Mistake> = match mistake.first() {
        Some(name) => Some(serde_json::from_value(name.as_str().into())?),
        None => None,
    };
    let mut agents = SandboxClient::builder(substrate).bearer_token(env::var("SUBSTRATE_TOKEN")?);
    if mistake == Some(Mistake::TakesACutForTheEnd) {
        agents = agents.retry_after_answer(Retry { attempts: 0, ..Retry::AFTER_ANSWER });
    }
    let product = Product {
        agents: agents.build()?,
        journal: Arc::new(Mutex::new(Journal::open(Path::new(directory)))),
        driven: Arc::default(),
        is_ending: Arc::default(),
        mistake,
    };
    let turns = product.journal.lock().unwrap().sessions.turns.clone();
    let is_open = |row: &Row| row.answers.is_empty() && !product.is_deleted(&row.session);
    for row in turns.into_iter().filter(is_open) {
        match mistake {
            Some(Mistake::ForgetsOpenTurns) => {}
            Some(Mistake::RunsOpenTurnsAgain) => {
                let execution = format!("{}-again", row.execution);
                let execution = ExecutionId::parse(&execution)?;
                let request = RunRequest::new(execution, &row.message);
                let execution = product.agents.run(request);
                drop(product.drive(&row, execution));
            }
            _ => product.take_up(&row),
        }
    }
    let routes = Router::new()
        .route("/api/sessions", get(sessions).post(open_session))
        .route("/api/sessions/{session}", get(session).delete(delete))
        .route("/api/sessions/{session}/messages", get(session))
        .route("/api/sessions/{session}/turns", get(session).post(start))
        .route("/api/sessions/{session}/turns/{turn}", get(resume))
        .route("/api/sessions/{session}/turns/{turn}/cancel", post(cancel))
        .with_state(product.clone());
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    if mistake == Some(Mistake::DiesWhenToldToEnd) {
        return Ok(axum::serve(listener, routes).await?);
    }
    let mut told = unix::signal(unix::SignalKind::terminate())?;
    let ending = Arc::clone(&product.is_ending);
    let stop = async move {
        told.recv().await;
        ending.store(true, Ordering::Relaxed);
    };
    axum::serve(listener, routes).with_graceful_shutdown(stop).await?;
    while !product.driven.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
