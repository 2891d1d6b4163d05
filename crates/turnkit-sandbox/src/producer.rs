use std::{
    fmt,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use futures_core::future::BoxFuture;
use futures_util::{
    FutureExt as _,
    future::{Either, Shared, select},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};
use turnkit::{Produced, TurnProducer};
use turnkit_id::{ExecutionId, LogId};
use turnkit_wire::{DecodeError, Event, sse};

use crate::{
    Error, ExecutionState, ProtocolError, RunRequest, TransportError,
    error::Ending,
    resume::{Answer, Connect, End, GiveUp, Intent, Resume, Step, Verdict, of_attach, of_run},
    substrate::{Opened, Substrate},
    transport::{ResponseBody, chunk},
};

/// How often [`SandboxTurn::cancel`](TurnProducer::cancel) tries, with the waits of the policy before an answer.
const CANCEL_ATTEMPTS: u32 = 5;

/// One execution, read as a turn's producer (PROTOCOL 4.1).
///
/// Gives the execution's events byte-exact and in order, each once, however often the connection is lost; those that are
/// about the stream itself are left out. Nothing is sent before the first `next`. A `next` that is dropped loses nothing.
/// `cancel` cancels the execution at the substrate; dropping the turn leaves it alive.
///
/// Needs tokio with time and I/O enabled.
pub struct SandboxTurn {
    substrate: Arc<Substrate>,
    execution_id: ExecutionId,
    run_body: Bytes,
    log_id: Option<LogId>,
    attach_body: Bytes,
    prompt: Option<String>,
    resume: Resume,
    origin: Instant,
    jitter: Rng,
    stream: Option<Stream>,
    requests: u32,
    has_begun: bool,
    /// Resolves when somebody has an event of the execution; of a run only.
    begun: Option<Shared<BoxFuture<'static, ()>>>,
    due: Option<Due>,
    /// What went wrong last; what is reported where there is no way on.
    problem: Option<Error>,
}

/// Whether a run is still to come.
pub(crate) type Due = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

struct Stream {
    body: ResponseBody,
    decoder: sse::Decoder,
}

impl SandboxTurn {
    /// The user's message that this execution answers, for an attach: a run knows its own. Where the agent echoes it, the
    /// engine leaves it out of the answer's text (PROTOCOL 4.1).
    #[must_use]
    pub fn answering(mut self, message: impl Into<String>) -> Self {
        self.prompt = Some(message.into());
        self
    }

    /// For a run: `begun` resolves when somebody else, such as a reader that [joined](crate::SandboxClient::join), has an event of the
    /// execution. Until it was answered itself, the run is then given up and attaches instead, because what is known to run is
    /// never asked for again (PROTOCOL 4.2): its answer may be late or lost. From then on it is an
    /// [`attach_or_bind`](crate::SandboxClient::attach_or_bind).
    ///
    /// Of an attach, and after the first answer, it is not asked.
    #[must_use]
    pub fn begun_when(mut self, begun: impl Future<Output = ()> + Send + 'static) -> Self {
        self.begun = Some(begun.boxed().shared());
        self
    }

    /// Whether an event was handed on, or the execution was read to its end. An execution that is
    /// [cancelled](Error::Cancelled) before that may have been bound by whoever found it lost (PROTOCOL 4.2).
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// How many requests for the stream it has sent. Where the first one was refused, nothing that it sent was ever accepted.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The execution that is read.
    #[must_use]
    pub fn execution_id(&self) -> &ExecutionId {
        &self.execution_id
    }
}

impl TurnProducer for SandboxTurn {
    type Error = Error;

    async fn next(&mut self) -> Result<Produced, Error> {
        loop {
            match self.resume.step() {
                Step::Read => {
                    if let Some(event) = self.read().await {
                        self.has_begun = true;
                        return Ok(Produced::Event(event));
                    }
                }
                Step::Connect(_) | Step::WaitUntil(_) => self.go_on_or_begun().await,
                Step::AskWhetherDue => self.ask_whether_due().await,
                Step::Bind => self.bind().await,
                Step::End(_) => {
                    let end = self.end();
                    self.has_begun |= end.is_ok();
                    return end;
                }
            }
        }
    }

    async fn cancel(&mut self) {
        self.stream = None;
        for attempt in 0..CANCEL_ATTEMPTS {
            let Err(error) = self.substrate.cancel(&self.execution_id).await else {
                return;
            };
            warn!(execution_id = %self.execution_id, code = error.code(), "could not cancel");
            if !error.is_retryable() {
                return;
            }
            let policy = &self.substrate.settings.before_answer;
            sleep(policy.wait(attempt, self.jitter.f64())).await;
        }
    }

    fn prompt(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    fn error_code(error: &Error) -> Option<&str> {
        Some(error.code())
    }

    fn is_retryable(error: &Error) -> bool {
        error.is_retryable()
    }

    fn is_temporary(error: &Error) -> bool {
        error.is_temporary()
    }
}

/// Without the user's words.
impl fmt::Debug for SandboxTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxTurn")
            .field("execution_id", &self.execution_id)
            .field("resume", &self.resume)
            .field("problem", &self.problem)
            .finish_non_exhaustive()
    }
}

impl SandboxTurn {
    pub(crate) fn run(substrate: Arc<Substrate>, request: RunRequest) -> Self {
        let (run_body, log_id) = (request.run_body(), request.named_log().cloned());
        let turn = Self::new(substrate, &request, Intent::Run);
        Self { run_body, log_id, ..turn }.answering(request.into_message())
    }

    pub(crate) fn attach(
        substrate: Arc<Substrate>,
        execution_id: ExecutionId,
        intent: Intent,
    ) -> Self {
        Self::new(substrate, &RunRequest::new(execution_id, ""), intent)
    }

    fn new(substrate: Arc<Substrate>, request: &RunRequest, intent: Intent) -> Self {
        let settings = &substrate.settings;
        let (before, after) = (settings.before_answer.clone(), settings.after_answer.clone());
        Self {
            resume: Resume::new(intent, before, after, Duration::ZERO),
            execution_id: request.execution_id().clone(),
            run_body: Bytes::new(),
            log_id: None,
            attach_body: request.attach_body(),
            prompt: None,
            origin: Instant::now(),
            jitter: settings.jitter_seed.map_or_else(Rng::new, Rng::with_seed),
            stream: None,
            requests: 0,
            has_begun: false,
            begun: None,
            due: None,
            problem: None,
            substrate,
        }
    }

    /// A turn that reads along, and asks `due` where the execution is not there.
    pub(crate) fn join(substrate: Arc<Substrate>, execution_id: ExecutionId, due: Due) -> Self {
        let turn = Self::attach(substrate, execution_id, Intent::Join);
        Self { due: Some(due), ..turn }
    }

    /// Connects or waits, unless the execution is known to have begun before that is over.
    async fn go_on_or_begun(&mut self) {
        let heeds = self.resume.is_unanswered_run();
        let Some(begun) = self.begun.clone().filter(|_| heeds) else {
            return self.go_on().await;
        };
        // The signal first: polled after it, the run might be sent again in this very moment.
        let has_begun = matches!(select(begun, pin!(self.go_on())).await, Either::Left(_));
        if has_begun {
            self.resume.begun(self.origin.elapsed());
        }
    }

    async fn go_on(&mut self) {
        if let Step::WaitUntil(until) = self.resume.step() {
            sleep_until(self.origin + until).await;
            self.resume.tick(self.origin.elapsed());
        } else {
            self.connect().await;
        }
    }

    async fn ask_whether_due(&mut self) {
        let is_due = match &self.due {
            Some(due) => due().await,
            None => false,
        };
        let (now, spread) = self.moment();
        self.resume.due(is_due, now, spread);
    }

    /// The execution is lost, and its run may still be under way, sent by a process that died: cancelling an unknown id keeps it from
    /// starting (PROTOCOL 3.1). Where the substrate can't be told, that is what failed, and the next attempt tells it.
    async fn bind(&mut self) {
        let told = self.substrate.cancel(&self.execution_id).await;
        let is_there = told.as_ref().is_ok_and(|told| told.state != ExecutionState::CANCELLED);
        if let Err(error) = told {
            warn!(execution_id = %self.execution_id, code = error.code(), "could not bind a lost execution");
            if error.is_retryable() {
                self.problem = Some(error);
            }
        }
        self.resume.bound(is_there);
    }

    /// Reads until an event is to be handed on. None: the stream is over, the machine knows what follows.
    async fn read(&mut self) -> Option<Event> {
        loop {
            let stream = self.stream.as_mut()?;
            match stream.decoder.next_event() {
                _ if stream.decoder.is_done() => self.closed(),
                Some(Ok(event)) => match self.judge(&event) {
                    Verdict::Forward => return Some(event),
                    Verdict::Skip => {}
                    Verdict::End => return None,
                },
                Some(Err(error)) => self.unreadable(error),
                None => self.fill().await,
            }
        }
    }

    fn judge(&mut self, event: &Event) -> Verdict {
        let Some(stream) = &self.stream else {
            return Verdict::End;
        };
        let id = stream.decoder.event_has_id().then(|| stream.decoder.last_event_id());
        let verdict = self.resume.frame(id, event.class());
        if verdict == Verdict::End {
            self.stream = None;
            self.problem = ended(event, self.resume.step());
        }
        verdict
    }

    async fn fill(&mut self) {
        let Some(stream) = self.stream.as_mut() else {
            return;
        };
        let idle = self.substrate.settings.idle_timeout;
        match timeout(idle, chunk(&mut stream.body)).await {
            Ok(Some(Ok(chunk))) => stream.decoder.push(chunk),
            Ok(Some(Err(cause))) => self.lost(cause),
            Ok(None) => self.closed(),
            Err(_) => self.lost(TransportError::Idle(idle)),
        }
    }

    fn unreadable(&mut self, error: DecodeError) {
        self.stream = None;
        self.problem = Some(Error::Protocol(ProtocolError::Event(error)));
        self.resume.unreadable();
    }

    fn closed(&mut self) {
        let (now, spread) = self.leave();
        self.resume.closed(now, spread);
        self.failed(TransportError::Closed);
    }

    fn lost(&mut self, cause: TransportError) {
        let (now, spread) = self.leave();
        self.resume.failed(now, spread);
        self.failed(cause);
    }

    /// Closes the stream, and takes along what it said about coming back.
    fn leave(&mut self) -> (Duration, f64) {
        let wait = self.stream.take().and_then(|stream| stream.decoder.retry_ms());
        if let Some(wait) = wait {
            self.resume.server_wait(Duration::from_millis(wait));
        }
        self.moment()
    }

    fn moment(&mut self) -> (Duration, f64) {
        (self.origin.elapsed(), self.jitter.f64())
    }

    fn failed(&mut self, cause: TransportError) {
        if self.resume.step() == Step::End(&End::Completed) {
            return;
        }
        let failures = self.resume.failures();
        self.problem = Some(Error::Transport { cause, failures });
        self.report();
    }

    /// Says that something went wrong, without a word of what was sent or read.
    fn report(&self) {
        let Some(problem) = &self.problem else { return };
        let (code, failures) = (problem.code(), self.resume.failures());
        let wait = match self.resume.step() {
            Step::WaitUntil(until) => Some(until.saturating_sub(self.origin.elapsed())),
            _ => None,
        };
        debug!(execution_id = %self.execution_id, code, failures, ?wait, "lost the substrate");
    }

    async fn connect(&mut self) {
        let Step::Connect(connect) = self.resume.step() else {
            return;
        };
        self.requests = self.requests.saturating_add(1);
        if self.requests > 1 {
            self.substrate.reconnects.fetch_add(1, Relaxed);
        }
        let is_attach = connect != Connect::Run;
        let (substrate, id) = (&self.substrate, &self.execution_id);
        let opened = match connect {
            Connect::Run => substrate.run(id, self.run_body.clone(), self.log_id.as_ref()).await,
            Connect::Attach { cursor } => {
                substrate.attach(id, self.attach_body.clone(), cursor).await
            }
        };
        match opened {
            Ok(Opened::Stream(body)) => self.opened(body),
            Ok(Opened::NothingMore) => self.answered(Answer::NothingMore, None),
            Ok(Opened::Refused(refusal)) => {
                let of = if is_attach { of_attach } else { of_run };
                let (answer, problem) = of(&refusal);
                self.answered(answer, Some(problem));
            }
            Err(Error::Transport { cause, .. }) => self.lost(cause),
            Err(error) => self.answered(Answer::Unusable, Some(error)),
        }
    }

    fn opened(&mut self, body: ResponseBody) {
        let decoder = sse::Decoder::with_max_event(self.substrate.settings.max_event);
        self.stream = Some(Stream { body, decoder });
        self.answered(Answer::Stream, None);
    }

    fn answered(&mut self, answer: Answer, problem: Option<Error>) {
        let (now, spread) = self.moment();
        self.resume.answered(answer, now, spread);
        self.problem = problem;
        self.report();
    }

    fn end(&mut self) -> Result<Produced, Error> {
        let done = Ok(Produced::Done { final_text: None });
        let Step::End(end) = self.resume.step() else {
            return done;
        };
        let problem = match end {
            End::Completed => return done,
            End::GivenUp(GiveUp::Gap(gap)) => Some(Error::Gap(gap.clone())),
            End::GivenUp(GiveUp::Unterminated) => {
                Some(Error::Protocol(ProtocolError::Unterminated))
            }
            End::GivenUp(GiveUp::Unresumable) => Some(unresumable(self.resume.failures())),
            End::Failed | End::Cancelled | End::GivenUp(_) => self.problem.take(),
        };
        problem.map_or(done, Err)
    }
}

/// What the terminal event `event` says, where it is not that all is well.
fn ended(event: &Event, step: Step<'_>) -> Option<Error> {
    match step {
        Step::End(End::Failed) => Some(Error::Failed(Ending::of(event, "the execution failed"))),
        Step::End(End::Cancelled) => {
            Some(Error::Cancelled(Ending::of(event, "the execution was cancelled")))
        }
        _ => None,
    }
}

fn unresumable(failures: u32) -> Error {
    let cause = TransportError::Unresumable;
    Error::Transport { cause, failures }
}
