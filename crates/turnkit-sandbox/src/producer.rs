use std::{
    fmt, mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};
use turnkit::{Produced, TurnProducer};
use turnkit_id::{ExecutionId, LogId};
use turnkit_wire::{DecodeError, Event, sse};

use crate::{
    Error, ProtocolError, Refusal, RunRequest, TransportError,
    error::Ending,
    resume::{Answer, Connect, End, GiveUp, Intent, Resume, Step, Verdict},
    substrate::{Opened, Substrate},
    transport::ResponseBody,
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
    has_asked: bool,
    /// What went wrong last; what is reported where there is no way on.
    problem: Option<Error>,
}

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
                        return Ok(Produced::Event(event));
                    }
                }
                Step::Connect(_) => self.connect().await,
                Step::WaitUntil(until) => {
                    sleep_until(self.origin + until).await;
                    self.resume.tick(self.origin.elapsed());
                }
                Step::End(_) => return self.end(),
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

    pub(crate) fn attach(substrate: Arc<Substrate>, execution_id: ExecutionId) -> Self {
        Self::new(substrate, &RunRequest::new(execution_id, ""), Intent::Attach)
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
            has_asked: false,
            problem: None,
            substrate,
        }
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
        let verdict = self.resume.frame(id, event.kind());
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
        match timeout(idle, stream.body.next()).await {
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
        if mem::replace(&mut self.has_asked, true) {
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
            Ok(Opened::Refused(refusal)) => self.refused(refusal, is_attach),
            Err(Error::Transport { cause, .. }) => self.lost(cause),
            Err(error) => self.answered(Answer::Unusable, Some(error)),
        }
    }

    fn refused(&mut self, refusal: Refusal, is_attach: bool) {
        let (status, retry_after) = (refusal.status(), refusal.retry_after());
        let answer = Answer::Refused { status, retry_after };
        let problem = if is_attach { refusal.into_error_of_attach() } else { refusal.into_error() };
        self.answered(answer, Some(problem));
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
