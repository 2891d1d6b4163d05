use std::{fmt, time::Duration};

use fastrand::Rng;
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};
use turnkit_wire::{Event, sse};

use crate::{
    Client, Error,
    follow::{Answer, Row},
    transport::Body,
};

/// Something that has changed for the user, on whichever client (PROTOCOL 4.2, "A feed").
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeedEntry {
    /// Its place: with it [`Client::feed`] goes on behind it.
    pub id: String,
    /// The session that it is about.
    pub session_id: String,
    /// The turn that it is about, where it is about one.
    pub turn_id: Option<String>,
    /// How that turn, or the question, stands.
    pub state: Option<String>,
    /// The user's message, where it is told.
    pub message: Option<String>,
    /// All of it; its type says what has changed: `turn.accepted`, `turn.ended`, `session.deleted`, …
    pub event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    session_id: String,
    turn_id: Option<String>,
    state: Option<String>,
    message: Option<String>,
}

/// A user's feed, or what of it is about one session, over any number of connections (PROTOCOL 4.2, 4.4). See [`Client::feed`].
///
/// Each entry comes once and in order. Dropping it closes its connection.
pub struct Feed {
    client: Client,
    session: Option<String>,
    /// Behind which entry it goes on; none before the first connection of a feed that begins now.
    place: Option<String>,
    decoder: sse::Decoder,
    body: Option<Body>,
    /// When the last byte came.
    heard: Instant,
    row: Row,
    jitter: Rng,
    began: Instant,
    /// No connection is made before.
    waits_until: Option<Instant>,
    has_ended: bool,
}

impl Feed {
    pub(crate) fn new(
        client: Client,
        session: Option<&str>,
        after: Option<&str>,
    ) -> Result<Feed, Error> {
        // Whatever makes a request of it fail is known before anything is sent.
        client.feed_request(session, after)?;
        let now = Instant::now();
        Ok(Feed {
            jitter: client.jitter(),
            client,
            session: session.map(str::to_owned),
            place: after.map(str::to_owned),
            decoder: sse::Decoder::new(),
            body: None,
            heard: now,
            row: Row::default(),
            began: now,
            waits_until: None,
            has_ended: false,
        })
    }

    /// Behind which entry it goes on: that of the last entry, or where it began; none before the server has said so.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// The next entry, however long that takes. None behind the deletion of the session that it is about, and after an error.
    ///
    /// A connection that is lost or refused for now is made again after the waits of a turn's (PROTOCOL 4.4).
    ///
    /// Cancel safe: nothing is lost where the future is dropped.
    ///
    /// # Errors
    /// A refusal that is final, `feed_expired` (410) among them: the place is unknown, and what there is has to be read anew. What is
    /// no feed; or a failure that outlasted [`Policy::patience`](crate::follow::Policy::patience).
    pub async fn next(&mut self) -> Result<Option<FeedEntry>, Error> {
        while !self.has_ended {
            let told = match self.body {
                Some(_) => self.read().await,
                None => self.connect().await.map(|()| None),
            };
            match told {
                Ok(Some(entry)) => return Ok(Some(entry)),
                Ok(None) => {}
                Err(error) => self.lost(error)?,
            }
        }
        Ok(None)
    }

    async fn connect(&mut self) -> Result<(), Error> {
        if let Some(until) = self.waits_until {
            sleep_until(until).await;
        }
        let request = self.client.feed_request(self.session.as_deref(), self.place.as_deref())?;
        let answer = self.client.ask(request).await?;
        let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !kind.is_some_and(|kind| kind.starts_with(sse::CONTENT_TYPE.as_bytes())) {
            return Err(Error::NotAnAnswer);
        }
        self.decoder.reconnect();
        (self.body, self.heard, self.waits_until) =
            (Some(answer.into_body()), Instant::now(), None);
        Ok(())
    }

    /// What the body has next; none where it has to be asked again.
    async fn read(&mut self) -> Result<Option<FeedEntry>, Error> {
        if let Some(event) = self.decoder.next_event() {
            return self.entry(event.map_err(Error::Line)?).map(Some);
        }
        // The first frame has no data: it says where the feed begins.
        if !self.decoder.cursor().is_empty() {
            self.place = Some(self.decoder.cursor().to_owned());
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        let idle = self.client.idle_timeout();
        let frame = timeout_at(self.heard + idle, body.frame()).await;
        let frame = frame.map_err(|_| Error::Silent(idle))?.ok_or(Error::Cut)?;
        self.heard = Instant::now();
        if let Ok(chunk) = frame.map_err(Error::Broken)?.into_data() {
            self.decoder.push(chunk);
        }
        Ok(None)
    }

    fn entry(&mut self, event: Event) -> Result<FeedEntry, Error> {
        let id = self.decoder.last_event_id().to_owned();
        let Data { session_id, turn_id, state, message } =
            event.data().map_err(|error| Error::Json(error.into()))?;
        self.row = Row::default();
        self.place = Some(id.clone());
        self.has_ended = self.session.is_some() && event.kind() == "session.deleted";
        Ok(FeedEntry { id, session_id, turn_id, state, message, event })
    }

    /// The connection is lost, or there was none: waits, where another one may help.
    fn lost(&mut self, error: Error) -> Result<(), Error> {
        self.body = None;
        let at_least = match error.answer() {
            Some(Answer::Refused { retry_after, .. }) => retry_after,
            _ => None,
        };
        let (now, spread) = (self.began.elapsed(), self.jitter.f64());
        let wait = error
            .is_transient()
            .then(|| self.row.failed(&self.client.policy(), at_least, now, spread))
            .flatten();
        let Some(wait) = wait else {
            self.has_ended = true;
            return Err(error);
        };
        self.waits_until = Some(Instant::now() + wait.min(LONGEST));
        Ok(())
    }
}

/// So that no sum of times is too large for the clock.
const LONGEST: Duration = Duration::from_secs(60 * 60);

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("session", &self.session)
            .field("place", &self.place)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
