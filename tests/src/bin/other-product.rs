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
}

/// A line of the journal.
#[derive(Clone, Serialize, Deserialize)]
enum Record {
    Session { id: String, user: String },
    Turn { session: String, id: String, message: String, execution: String },
    StopAsked { execution: String },
    Answer { execution: String, answer: Answer },
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
    turns: Vec<Row>,
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
            Record::Session { id, user } => drop(self.users.insert(id, user)),
            Record::Turn { session, id, message, execution } => {
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

    fn row(&self, execution: &str) -> Row {
        self.journal.lock().unwrap().sessions.row(execution).clone()
    }

    fn is_driven(&self, execution: &ExecutionId) -> bool {
        self.driven.lock().unwrap().contains(execution.as_str())
    }

    /// The run of a turn that was just inserted.
    fn run(&self, row: Row, log: Option<LogId>) -> TurnBody {
        let request = RunRequest::new(row.execution.clone(), &row.message);
        let request = request.session_id(&row.session);
        let named = log.filter(|_| !self.makes(Mistake::NamesNoLog));
        let request = named.into_iter().fold(request, RunRequest::log_id);
        let execution = self.agents.run(request);
        self.drive(row, execution)
    }

    /// A turn that an earlier process has begun.
    fn take_up(&self, row: Row) {
        let execution = self.agents.attach_or_bind(row.execution.clone()).answering(&row.message);
        drop(self.drive(row, execution));
    }

    fn drive(&self, row: Row, execution: SandboxTurn) -> TurnBody {
        let left = match self.mistake {
            Some(Mistake::EndsWithItsReader) => ClientLeft::Cancel,
            _ => ClientLeft::Continue,
        };
        let (product, id) = (self.clone(), row.execution.clone());
        self.driven.lock().unwrap().insert(id.to_string());
        let (body, driver) =
            self.attempt(row, left, 0).start(self.producer(execution), Hooks(self.clone()));
        tokio::spawn(async move {
            driver.await;
            product.driven.lock().unwrap().remove(id.as_str());
        });
        body
    }

    fn read(&self, row: Row, after: u64) -> TurnBody {
        let (product, id) = (self.clone(), row.execution.clone());
        let is_due = move || {
            let is_driven = product.is_driven(&id);
            async move { is_driven }
        };
        let execution = self.agents.join(row.execution.clone(), is_due).answering(&row.message);
        let after = if self.makes(Mistake::ForgetsTheCursor) { 0 } else { after };
        let attempt = self.attempt(row, ClientLeft::Abandon, after);
        let (body, driver) = attempt.start(self.producer(execution), Hooks(self.clone()));
        tokio::spawn(driver);
        body
    }

    fn attempt(&self, row: Row, left: ClientLeft, after: u64) -> ChatTurn {
        let users = &self.journal.lock().unwrap().sessions.users;
        let identity = TurnIdentity {
            tenant_id: "other".to_owned(),
            user_id: users[&row.session].clone(),
            session_id: row.session,
            turn_index: row.index,
        };
        ChatTurn::new(identity, row.execution).on_client_left(left).resume_after(after)
    }

    fn producer(&self, execution: SandboxTurn) -> Execution {
        Execution { execution, mistake: self.mistake }
    }
}

/// The adapter, and the one thing that only a product can say: that a log which has changed is a lost execution.
struct Execution {
    execution: SandboxTurn,
    mistake: Option<Mistake>,
}

impl TurnProducer for Execution {
    type Error = Error;

    async fn next(&mut self) -> Result<Produced, Error> {
        match (self.execution.next().await, self.mistake) {
            (Err(Error::Transport { .. }), Some(Mistake::TakesACutForTheEnd))
            | (Err(Error::Failed(_)), Some(Mistake::TakesAFailureForTheEnd)) => {
                Ok(Produced::Done { final_text: None })
            }
            (produced, _) => produced,
        }
    }

    async fn cancel(&mut self) {
        self.execution.cancel().await;
    }

    fn prompt(&self) -> Option<&str> {
        self.execution.prompt()
    }

    fn error_code(error: &Error) -> Option<&str> {
        match error {
            Error::LogChanged(_) => Some("execution_lost"),
            error => SandboxTurn::error_code(error),
        }
    }

    fn is_retryable(error: &Error) -> bool {
        SandboxTurn::is_retryable(error)
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
        // A whole answer takes the place of a partial one.
        answers.retain(|answer| answer.status == "complete");
        journal.write(Record::Answer { execution, answer });
        Ok(Persisted::Saved)
    }

    async fn on_turn_failed(
        &self,
        turn: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> Result<(), BoxError> {
        if failure.is_retryable() {
            return Ok(());
        }
        let mut journal = self.0.journal.lock().unwrap();
        let execution = turn.execution_id().to_string();
        let row = journal.sessions.row(&execution);
        if row.answers.is_empty() {
            let status = if row.stop_asked { "stopped" } else { "failed" }.to_owned();
            let code = failure.code().map(str::to_owned);
            let answer = Answer { status, text: partial.as_str().to_owned(), code };
            journal.write(Record::Answer { execution, answer });
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
    let id = format!("s{}", journal.sessions.users.len());
    journal.write(Record::Session { id: id.clone(), user });
    (StatusCode::CREATED, Json(json!({ "sessionId": id }))).into_response()
}

async fn sessions(InState(product): At, User(user): User) -> Json<Value> {
    let journal = product.journal.lock().unwrap();
    let of_user = journal.sessions.users.iter().filter(|(_, owner)| **owner == user);
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
            Some(row) => response(product.read(row, 0)),
            None => response(product.run(insert(&product, session, new), log.ok().flatten())),
        });
    }
    let row = {
        let journal = &mut product.journal.lock().unwrap();
        match look(&product, &journal.sessions, &user, &session, &new)? {
            Some(row) => Err(row),
            None if log.is_err() || product.is_ending.load(Ordering::Relaxed) => {
                return Err(Refusal(503, "unavailable", None));
            }
            None => Ok(write_turn(journal, session, new)),
        }
    };
    Ok(match row {
        Ok(row) => response(product.run(row, log.ok().flatten())),
        Err(row) => response(product.read(row, 0)),
    })
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
    let row = turn_of(&product, &user, &session, &turn)?;
    Ok(response(product.read(row, after)))
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
    for row in turns.into_iter().filter(|row| row.answers.is_empty()) {
        match mistake {
            Some(Mistake::ForgetsOpenTurns) => {}
            Some(Mistake::RunsOpenTurnsAgain) => {
                let execution = format!("{}-again", row.execution);
                let execution = ExecutionId::parse(&execution)?;
                let request = RunRequest::new(execution, &row.message);
                let execution = product.agents.run(request);
                drop(product.drive(row, execution));
            }
            _ => product.take_up(row),
        }
    }
    let routes = Router::new()
        .route("/api/sessions", get(sessions).post(open_session))
        .route("/api/sessions/{session}", get(session))
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
