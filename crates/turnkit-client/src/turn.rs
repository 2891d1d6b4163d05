use std::{fmt, future::Future, mem, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, sleep_until, timeout_at};
use turnkit_wire::{Event, ndjson};

use crate::{
    Answered, Cancelled, Client, Error, NewAnswer, NewTurn, TurnFailure,
    follow::{Answer, End, Follow, Request as Ask, Step, Verdict},
    transport::Body,
};

/// What happens to a turn that is followed, in this order: any number of the first four, and one of the last two, which is
/// last. Each event comes once, over any number of connections.
#[derive(Debug)]
#[non_exhaustive]
pub enum Update {
    /// A body has begun, or turns out to be a replay (PROTOCOL 2.1, rule 9). Where `cursor` is 0, what was drawn before is void:
    /// events come from the first one.
    Connected {
        /// How many events were taken before.
        cursor: u64,
        /// The execution, as the server names it.
        execution_id: Option<String>,
    },
    /// An event of the turn. A `result` whose `finalText` says something new replaces the text that was drawn (PROTOCOL 2.3).
    Event {
        /// The event.
        event: Event,
        /// How many events were taken with this one; 0 in a replay.
        cursor: u64,
    },
    /// The connection was lost or refused for now, or the attempt has failed retryably. It goes on after a wait.
    Disconnected {
        /// How many events were taken: 0 after a failed attempt.
        cursor: u64,
        /// What happened.
        error: Error,
        /// How long it waits.
        wait: Duration,
    },
    /// The turn has not begun: it waits behind others, and is asked for again after a wait.
    Queued {
        /// Its place among those that wait, counted from 1.
        position: u64,
    },
    /// The answer is saved.
    Completed {
        /// Whether it came from the product's store.
        replayed: bool,
        /// The last line. Its `finalText`, where there is one, replaces the text that was drawn.
        line: Event,
    },
    /// There is no whole answer.
    Failed {
        /// What the last line says.
        failure: TurnFailure,
        /// The `error` before the last line, which says the same; where a body was cut in between, the one of the last body.
        error: Option<Event>,
        /// The last line.
        line: Event,
    },
}

/// A turn, followed to its end over any number of connections (PROTOCOL 4.4). See [`Client::send`].
///
/// Dropping it closes its connection, and changes nothing at the server.
pub struct Turn {
    client: Client,
    session: String,
    id: String,
    start: Option<Request<Full<Bytes>>>,
    follow: Follow,
    jitter: Rng,
    began: Instant,
    body: Option<TurnBody>,
    held: Option<Event>,
    /// The execution of the body that is read.
    execution_id: Option<String>,
    /// The first line of a replay, before which the replay itself is told.
    first: Option<Event>,
}

impl Turn {
    pub(crate) fn new(
        client: Client,
        session: &str,
        new: Option<&NewTurn>,
        turn_id: &str,
        after: u64,
    ) -> Result<Turn, Error> {
        let start = new.map(|new| client.start_request(session, new)).transpose()?;
        // Whatever makes a request of it fail is known before anything is sent.
        client.resume_request(session, turn_id, after)?;
        let policy = client.policy();
        let follow = match start {
            Some(_) => Follow::start(policy),
            None => Follow::resume(policy, after),
        };
        Ok(Turn {
            jitter: client.jitter(),
            client,
            session: session.to_owned(),
            id: turn_id.to_owned(),
            start,
            follow,
            began: Instant::now(),
            body: None,
            held: None,
            execution_id: None,
            first: None,
        })
    }

    /// The session that it belongs to.
    #[must_use]
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Its id.
    #[must_use]
    pub fn turn_id(&self) -> &str {
        &self.id
    }

    /// How many events were taken: with it [`Client::follow`] goes on where this one was left (PROTOCOL 1.2).
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.follow.cursor()
    }

    /// Ends a wait before a new connection now, as where the network is back.
    pub fn wake(&mut self) {
        self.follow.wake();
    }

    /// Stops the turn, which then ends with [`Update::Failed`] and the code `cancelled`, and asks again where that is lost or
    /// refused for now. The future is independent of this turn, which is to be followed on beside it.
    ///
    /// # Errors
    /// The last refusal or failure, where it is final or one too many (PROTOCOL 4.4).
    pub fn cancel(&self) -> impl Future<Output = Result<Cancelled, Error>> + Send + use<> {
        self.client.cancel_until_answered(&self.session, &self.id)
    }

    /// Answers a question that the turn's agent asks (`interaction`, PROTOCOL 3.6), and asks again where that is lost or refused for
    /// now. What the agent was told comes as `interaction.answered`, whoever has answered. The future is independent of this turn,
    /// which is to be followed on beside it.
    ///
    /// # Errors
    /// As [`Client::answer`], where that is final or one too many (PROTOCOL 4.4).
    pub fn answer(
        &self,
        interaction: &str,
        answer: &NewAnswer,
    ) -> impl Future<Output = Result<Answered, Error>> + Send + use<> {
        self.client.answer_until_answered(&self.session, &self.id, interaction, answer)
    }

    /// Sends a message into this turn while it runs, under an id that is new for each message, and asks again where that is lost. It
    /// comes as `input`, and as `input.taken` once the agent has it.
    ///
    /// # Errors
    /// As [`Client::input`], where that is final or one too many (PROTOCOL 4.4).
    pub fn input(
        &self,
        id: &str,
        message: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        self.client.input_until_answered(&self.session, &self.id, id, message)
    }

    /// The next update; none after the last one, and after an error.
    ///
    /// Cancel safe: nothing is lost where the future is dropped. A request under way is sent again then, which starts nothing
    /// twice.
    ///
    /// # Errors
    /// What makes following the turn useless: a refusal that is final, a line that is no event, or a failure that outlasted
    /// [`Policy::patience`](crate::follow::Policy::patience). The turn may go on at the server.
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        loop {
            match self.follow.step() {
                Step::Send(ask) => return self.connect(ask).await.map(Some),
                Step::Read => {
                    if let Some(update) = self.read().await? {
                        return Ok(Some(update));
                    }
                }
                Step::WaitUntil(until) => {
                    sleep_until(self.began + until).await;
                    self.follow.tick(self.began.elapsed());
                }
                Step::End(_) => return Ok(None),
            }
        }
    }

    async fn connect(&mut self, ask: Ask) -> Result<Update, Error> {
        let request = match (ask, &self.start) {
            (Ask::Start, Some(start)) => start.clone(),
            (Ask::Start, None) => self.client.resume_request(&self.session, &self.id, 0)?,
            (Ask::Resume { after }, _) => {
                self.client.resume_request(&self.session, &self.id, after)?
            }
        };
        let opened = self.client.open(request).await;
        let (now, spread) = (self.began.elapsed(), self.jitter.f64());
        match opened {
            Ok(body) => {
                self.follow.answered(Answer::Body, now, spread);
                self.execution_id = body.execution_id().map(str::to_owned);
                (self.body, self.held) = (Some(body), None);
                Ok(self.connected())
            }
            Err(error) => {
                match error.answer() {
                    Some(answer) => self.follow.answered(answer, now, spread),
                    None => self.follow.lost(now, spread),
                }
                match error {
                    Error::Queued { position } => Ok(Update::Queued { position }),
                    error => self.disconnected(error, now),
                }
            }
        }
    }

    fn connected(&self) -> Update {
        let execution_id = self.execution_id.clone();
        Update::Connected { cursor: self.follow.cursor(), execution_id }
    }

    /// Takes one event off the body; none where there is nothing to tell.
    async fn read(&mut self) -> Result<Option<Update>, Error> {
        if let Some(event) = self.first.take() {
            return Ok(Some(Update::Event { event, cursor: self.follow.cursor() }));
        }
        let Some(body) = &mut self.body else {
            return self.lost(Error::Cut);
        };
        let event = match body.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return self.lost(Error::Cut),
            Err(error @ Error::Line(_)) => {
                self.follow.unreadable();
                self.body = None;
                return Err(error);
            }
            Err(error) => return self.lost(error),
        };
        let now = self.began.elapsed();
        match self.follow.event(&event, now, self.jitter.f64()) {
            Verdict::Taken => Ok(Some(Update::Event { event, cursor: self.follow.cursor() })),
            Verdict::Replay => {
                self.first = Some(event);
                Ok(Some(self.connected()))
            }
            Verdict::Held => {
                self.held = Some(event);
                Ok(None)
            }
            Verdict::Restart => {
                (self.body, self.held) = (None, None);
                self.disconnected(Error::Failed(TurnFailure::of(&event)), now).map(Some)
            }
            Verdict::End => {
                self.body = None;
                let error = mem::take(&mut self.held);
                Ok(Some(match self.follow.step() {
                    Step::End(End::Completed { replayed }) => {
                        Update::Completed { replayed, line: event }
                    }
                    _ => Update::Failed { failure: TurnFailure::of(&event), error, line: event },
                }))
            }
        }
    }

    fn lost(&mut self, error: Error) -> Result<Option<Update>, Error> {
        self.body = None;
        let now = self.began.elapsed();
        self.follow.lost(now, self.jitter.f64());
        self.disconnected(error, now).map(Some)
    }

    /// What to tell after a failure: that it waits, or that it does not.
    fn disconnected(&self, error: Error, now: Duration) -> Result<Update, Error> {
        match self.follow.step() {
            Step::WaitUntil(until) => {
                let wait = until.saturating_sub(now);
                Ok(Update::Disconnected { cursor: self.follow.cursor(), error, wait })
            }
            _ => Err(error),
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("session", &self.session)
            .field("turn_id", &self.id)
            .field("follow", &self.follow)
            .finish_non_exhaustive()
    }
}

/// The events of a turn over one connection, terminal lines too (PROTOCOL 1.2). See [`Client::start`]. Dropping it closes the
/// connection.
pub struct TurnBody {
    body: Body,
    execution_id: Option<String>,
    decoder: ndjson::Decoder,
    idle_timeout: Duration,
    /// When the last byte came.
    heard: Instant,
    has_ended: bool,
}

impl TurnBody {
    pub(crate) fn new(answer: Response<Body>, idle_timeout: Duration, max_line: usize) -> TurnBody {
        let execution_id = answer.headers().get("x-execution-id");
        TurnBody {
            execution_id: execution_id.and_then(|id| id.to_str().ok()).map(str::to_owned),
            body: answer.into_body(),
            decoder: ndjson::Decoder::with_max_line(max_line),
            idle_timeout,
            heard: Instant::now(),
            has_ended: false,
        }
    }

    /// The execution that the server names in `X-Execution-ID`.
    #[must_use]
    pub fn execution_id(&self) -> Option<&str> {
        self.execution_id.as_deref()
    }

    /// The next event; none where the body has ended. A last line that was cut is dropped.
    ///
    /// Cancel safe: nothing is lost where the future is dropped.
    ///
    /// # Errors
    /// [`Error::Line`] where a line is no event, [`Error::Silent`] and [`Error::Broken`] where the connection was lost.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.decoder.next_event() {
                return event.map(Some).map_err(Error::Line);
            }
            if self.has_ended {
                return Ok(None);
            }
            let frame = timeout_at(self.heard + self.idle_timeout, self.body.frame()).await;
            let frame = frame.map_err(|_| Error::Silent(self.idle_timeout))?;
            self.heard = Instant::now();
            if let Some(frame) = frame.transpose().map_err(Error::Broken)? {
                if let Ok(chunk) = frame.into_data() {
                    self.decoder.push(chunk);
                }
            } else {
                self.has_ended = true;
                // One that the end has torn was not sent whole: that is a cut, not a mistake of the server.
                return Ok(self.decoder.finish().and_then(Result::ok));
            }
        }
    }
}

impl fmt::Debug for TurnBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnBody")
            .field("execution_id", &self.execution_id)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
