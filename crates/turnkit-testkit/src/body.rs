//! A reader of a turn's body, as a client reads it.

use std::fmt;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use turnkit::{Event, ndjson, wire::DecodeError};

/// Reads NDJSON off a body: all of it, a few events of it, or nothing. To leave, drop it.
pub struct BodyReader<S> {
    body: S,
    decoder: ndjson::Decoder,
    received: Vec<u8>,
    chunks: usize,
    events: u64,
}

impl<S, E> BodyReader<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: fmt::Display,
{
    /// A reader that has read nothing.
    pub fn new(body: S) -> Self {
        Self { body, decoder: ndjson::Decoder::new(), received: Vec::new(), chunks: 0, events: 0 }
    }

    /// The next event; none at the body's end.
    ///
    /// # Panics
    /// On a line that is not an event, and on an error of the body.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.next_line().await.map(unwrap)?;
        self.events += u64::from(!event.class().is_terminal_line());
        Some(event)
    }

    /// The next `count` events, or fewer at the body's end.
    ///
    /// # Panics
    /// As [`next`](Self::next).
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.next().await {
                Some(event) => events.push(event),
                None => break,
            }
        }
        events
    }

    /// All that is left.
    ///
    /// # Panics
    /// As [`next`](Self::next).
    pub async fn rest(&mut self) -> Vec<Event> {
        self.take(usize::MAX).await
    }

    /// Everything received so far, as it came.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// How many chunks came.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// The cursor to come back with: the events taken so far, terminal lines not counted (PROTOCOL 1.2).
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.events
    }

    /// The blank lines among what was received: keep-alives.
    #[must_use]
    pub fn keep_alives(&self) -> usize {
        let lines = self.received.split_inclusive(|&byte| byte == b'\n');
        lines.filter(|line| *line == b"\n").count()
    }

    async fn next_line(&mut self) -> Option<Result<Event, DecodeError>> {
        loop {
            if let Some(event) = self.decoder.next_event() {
                return Some(event);
            }
            match self.body.next().await {
                Some(chunk) => self.receive(unwrap(chunk)),
                None => return self.decoder.finish(),
            }
        }
    }

    fn receive(&mut self, chunk: Bytes) {
        self.chunks += 1;
        self.received.extend_from_slice(&chunk);
        self.decoder.push(chunk);
    }
}

impl<S> fmt::Debug for BodyReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").field("events", &self.events).finish_non_exhaustive()
    }
}

fn unwrap<T, E: fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
