//! A response's body over a turn's lines.

use std::{
    borrow::ToOwned,
    boxed::Box,
    error::Error,
    fmt,
    pin::Pin,
    string::String,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use turnkit_wire::{DecodeError, Event, kind::Class, ndjson::Decoder, value::Value};

use crate::{Chunks, Encoder};

/// Frames are given out once they are this many bytes.
const ENOUGH: usize = 32 * 1024;

/// A host's other tasks get their turn after this many chunks of the body without a frame.
const YIELD_AFTER: u32 = 32;

/// The chunks of a turn as the body of a response, over any body of its lines ([`turnkit_wire::ndjson`]).
///
/// The lines are to be the turn's live ones *from its first event* (PROTOCOL 2.1), or a replay: what a client has already is left out
/// here ([`Encoded::after`]), because a chunk's number is known to who has told the chunks before it.
///
/// - It ends after the chunks of a terminal line, after a question that waits for its answer ([`Encoded::asking`]), and nowhere else.
/// - Where the lines end without a terminal one, are no lines, or cannot be read, it fails ([`Cut`]): the connection has to
///   break, since the clients take a clean end for success.
/// - A keep-alive of the body (blank lines) is a comment.
///
/// Dropping it drops the body that it reads.
#[must_use = "a client reads the turn from its body"]
pub struct Encoded<B, E> {
    body: Option<B>,
    encoder: E,
    chunks: Chunks,
    decoder: Decoder,
    asking: Option<Asking>,
    /// An `interaction` of which is asked whether it is pending.
    asked: Option<(Event, Asked)>,
    /// The run begins behind this place.
    behind: Option<Behind>,
    /// What is said when all frames before it are given out.
    cut: Option<Cut>,
}

/// Whether a question is pending.
type Asked = Pin<Box<dyn Future<Output = bool> + Send>>;
type Asking = Box<dyn FnMut(&str) -> Asked + Send>;

/// Where a run begins that goes on.
enum Behind {
    /// Behind the question of this id.
    Question(String),
    /// Behind the question that a client answers by running the call of this id.
    Call(String),
    /// Behind so many chunks.
    Chunks(u64),
}

/// The lines of a turn were cut: there is more, and it is to be asked for again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cut {
    /// They ended without a terminal line.
    #[error("read the turn to its end: its lines end without a terminal one")]
    Ended,
    /// They could not be read.
    #[error("read the turn's lines")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    /// One of them is no event.
    #[error("read a line of the turn")]
    Line(#[source] DecodeError),
}

impl<B, E> Encoded<B, E>
where
    B: Body + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    E: Encoder + Unpin,
{
    /// The chunks that `encoder` makes of the lines of `body`, as `text/event-stream`.
    pub fn new(body: B, encoder: E) -> Self {
        Self {
            body: Some(body),
            encoder,
            chunks: Chunks::new(),
            decoder: Decoder::new(),
            asking: None,
            asked: None,
            behind: None,
            cut: None,
        }
    }

    /// Frames them as `application/x-ndjson` instead, in the envelope `{"id","chunk"}` that TanStack AI reads. To be said before
    /// [`Encoded::after`].
    pub fn ndjson(self) -> Self {
        Self { chunks: Chunks::ndjson(), ..self }
    }

    /// Leaves out the first `n` chunks: the client has them. Where it has more than are counted, it is given the terminal ones that
    /// it has not, and always the last.
    pub fn after(self, n: u64) -> Self {
        Self { chunks: self.chunks.after(n), ..self }
    }

    /// Asks of each `interaction` whether it is pending *now*, by its id, before it is told. Where it is, the response ends behind
    /// it, so that the client answers. Without this no question ends the response.
    pub fn asking<F, A>(self, mut is_pending: F) -> Self
    where
        F: FnMut(&str) -> A + Send + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        let asking: Asking = Box::new(move |id| Box::pin(is_pending(id)));
        Self { asking: Some(asking), ..self }
    }

    /// Begins a run of its own behind the question of this id, as the response to its answer: its numbers count from its own
    /// start. [`Encoded::found`] tells where that is.
    pub fn behind_question(mut self, id: &str) -> Self {
        self.chunks.mute();
        Self { behind: Some(Behind::Question(id.to_owned())), ..self }
    }

    /// Begins a run of its own behind the question that a client answers by running the call of this id: see
    /// [`behind_question`](Self::behind_question).
    pub fn behind_call(mut self, id: &str) -> Self {
        self.chunks.mute();
        Self { behind: Some(Behind::Call(id.to_owned())), ..self }
    }

    /// Begins a run of its own behind so many chunks of the turn, for a client that comes back to it: see
    /// [`behind_question`](Self::behind_question).
    pub fn behind_chunks(mut self, chunks: u64) -> Self {
        self.chunks.mute();
        Self { behind: Some(Behind::Chunks(chunks)), ..self }
    }

    /// Reads up to the place where the run begins, and says how many chunks of the turn stand before it: 0 for a turn from its
    /// start. What was read is kept for the body.
    ///
    /// # Errors
    ///
    /// The lines were cut before it.
    ///
    /// # Cancellation
    ///
    /// It can be dropped and asked again.
    pub async fn found(&mut self) -> Result<u64, Cut> {
        std::future::poll_fn(|cx| {
            let mut idle = 0;
            while self.behind.is_some() && !self.chunks.is_ended() {
                ready!(self.poll_step(cx, &mut idle))?;
            }
            Poll::Ready(Ok(self.chunks.begins_behind()))
        })
        .await
    }

    /// Reads on: at least one event, one chunk of the body, or the answer about a question.
    fn poll_step(&mut self, cx: &mut Context<'_>, idle: &mut u32) -> Poll<Result<(), Cut>> {
        if let Some((event, asked)) = &mut self.asked {
            let is_pending = ready!(asked.as_mut().poll(cx));
            let event = event.clone();
            self.asked = None;
            self.take(&event, is_pending);
            return Poll::Ready(Ok(()));
        }
        if let Some(event) = self.decoder.next_event() {
            let event = event.map_err(Cut::Line)?;
            self.see(event);
            return Poll::Ready(Ok(()));
        }
        *idle += 1;
        if *idle > YIELD_AFTER {
            *idle = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Err(Cut::Ended)) };
        match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Ok(mut data) = frame.into_data() {
                    let bytes = data.copy_to_bytes(data.remaining());
                    let is_blank = bytes.iter().all(u8::is_ascii_whitespace);
                    if is_blank && !bytes.is_empty() {
                        self.chunks.comment();
                    }
                    self.decoder.push(bytes);
                }
            }
            Some(Err(error)) => {
                self.body = None;
                return Poll::Ready(Err(Cut::Body(error.into())));
            }
            None => {
                self.body = None;
                // A last line without its line feed is taken where it is a whole event (PROTOCOL 1.2).
                if let Some(Ok(event)) = self.decoder.finish() {
                    self.see(event);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn see(&mut self, event: Event) {
        if let (Some(asking), "interaction") = (&mut self.asking, event.kind()) {
            let id = Value::of(&event).get("id").and_then(Value::string);
            if let Some(id) = id {
                let asked = asking(&id.to_str());
                self.asked = Some((event, asked));
                return;
            }
        }
        self.take(&event, false);
    }

    fn take(&mut self, event: &Event, is_pending: bool) {
        if self.behind.is_some() && matches!(event.class(), Class::RunCompleted | Class::RunFailed)
        {
            // The turn has ended without that place: what is left of it is its last chunk.
            self.begin();
            self.chunks.leave_out_all_but_the_last();
        }
        if is_pending {
            self.encoder.pending(event, &mut self.chunks);
        } else {
            self.encoder.event(event, &mut self.chunks);
        }
        let begins = match &self.behind {
            None => false,
            Some(Behind::Chunks(chunks)) => self.chunks.counted() >= *chunks,
            Some(Behind::Question(id)) => is_question(event, &[("id", id)]),
            Some(Behind::Call(id)) => is_question(event, &[("callId", id), ("kind", "tool")]),
        };
        if begins {
            self.begin();
        }
        if is_pending && self.behind.is_none() {
            self.encoder.pause(event, &mut self.chunks);
        }
    }

    fn begin(&mut self) {
        self.behind = None;
        self.chunks.go_on();
        self.encoder.resume(&mut self.chunks);
    }
}

/// Whether an event is an `interaction` with these members.
fn is_question(event: &Event, members: &[(&str, &str)]) -> bool {
    let data = Value::of(event);
    let is = |(name, text): &(&str, &str)| {
        data.get(name).and_then(Value::string).is_some_and(|told| told.is(text))
    };
    event.kind() == "interaction" && members.iter().all(is)
}

impl<B, E> Body for Encoded<B, E>
where
    B: Body + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    E: Encoder + Unpin,
{
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let mut idle = 0;
        loop {
            if this.chunks.is_ended() || this.chunks.len() >= ENOUGH {
                if this.chunks.is_empty() {
                    // The rest of the body is of no use to anybody.
                    this.body = None;
                    return Poll::Ready(None);
                }
                return Poll::Ready(Some(Ok(Frame::data(this.chunks.take()))));
            }
            match this
                .cut
                .take()
                .map_or_else(|| this.poll_step(cx, &mut idle), |cut| Poll::Ready(Err(cut)))
            {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(cut)) if this.chunks.is_empty() => {
                    return Poll::Ready(Some(Err(cut)));
                }
                Poll::Ready(Err(cut)) => this.cut = Some(cut),
                Poll::Pending if this.chunks.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
            return Poll::Ready(Some(Ok(Frame::data(this.chunks.take()))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_ended() && self.chunks.is_empty()
    }
}

impl<B, E: fmt::Debug> fmt::Debug for Encoded<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("encoder", &self.encoder)
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}
