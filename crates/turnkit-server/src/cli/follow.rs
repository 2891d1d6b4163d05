//! A turn followed to its end, whatever happens to the connection.

use std::mem;
use std::time::Duration;

use tokio::time::sleep;
use turnkit_wire::view::Failure;
use turnkit_wire::{Event, kind};

use super::client::{Ask, ClientError, Lines, ProductClient};

/// Failures in a row before it gives up, and the pauses between them.
const MAX_FAILURES: u32 = 10;
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What a turn's reader is told.
pub(super) enum Step {
    /// One event.
    Event(Event),
    /// The connection was lost, and comes back after `cursor` events. Told once, however often it takes.
    Lost { why: ClientError, cursor: u64 },
    /// The attempt has failed and can be made again: what was drawn is void, the events come from the first one.
    Anew,
}

/// One turn of a session.
pub(super) struct Turn {
    client: ProductClient,
    session: String,
    ask: Ask,
    /// The events taken so far (PROTOCOL 1.2).
    cursor: u64,
    is_accepted: bool,
    lines: Option<Lines>,
    failures: u32,
    /// Whether the reader knows that the connection is lost.
    is_told: bool,
}

impl Turn {
    pub(super) fn new(client: ProductClient, session: String, ask: Ask) -> Turn {
        Turn {
            client,
            session,
            ask,
            cursor: 0,
            is_accepted: false,
            lines: None,
            failures: 0,
            is_told: false,
        }
    }

    /// The next step. After `session.run.completed` or `session.run.failed` the turn is over.
    /// Cancel: safe; nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Step, ClientError> {
        loop {
            match self.read().await {
                Ok(event) => return Ok(self.took(event)),
                Err(error) if error.is_passing() && self.failures < MAX_FAILURES => {
                    self.lines = None;
                    self.failures += 1;
                    if !mem::replace(&mut self.is_told, true) {
                        return Ok(Step::Lost { why: error, cursor: self.cursor });
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks the server to stop the turn.
    pub(super) fn cancel(&self) -> impl Future<Output = Result<(), ClientError>> + use<> {
        let (client, session, turn) =
            (self.client.clone(), self.session.clone(), self.ask.turn_id.clone());
        async move { client.cancel(&session, &turn).await }
    }

    async fn read(&mut self) -> Result<Event, ClientError> {
        if self.lines.is_none() {
            sleep(pause(self.failures)).await;
        }
        let lines = match &mut self.lines {
            Some(lines) => lines,
            none => {
                let opened =
                    open(&self.client, &self.session, &self.ask, self.is_accepted, self.cursor);
                none.insert(opened.await?)
            }
        };
        self.is_accepted = true;
        lines.next().await?.ok_or(ClientError::Cut)
    }

    fn took(&mut self, event: Event) -> Step {
        self.is_told = false;
        if is_retryable_failure(&event) && self.failures < MAX_FAILURES {
            self.failures += 1;
            (self.cursor, self.is_accepted, self.lines) = (0, false, None);
            return Step::Anew;
        }
        // Terminal lines are not counted (PROTOCOL 2.1).
        if !event.class().is_terminal_line() {
            self.cursor += 1;
            self.failures = 0;
        }
        Step::Event(event)
    }
}

fn is_retryable_failure(event: &Event) -> bool {
    event.kind() == kind::RUN_FAILED
        && Failure::of(event).and_then(|failure| failure.retryable()) == Some(true)
}

/// Until the server is known to have the turn, the same start is sent again: it starts the turn once.
async fn open(
    client: &ProductClient,
    session: &str,
    ask: &Ask,
    is_accepted: bool,
    cursor: u64,
) -> Result<Lines, ClientError> {
    if is_accepted {
        return client.resume(session, &ask.turn_id, cursor).await;
    }
    client.start(session, ask).await
}

fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => PAUSE.0.saturating_mul(1 << doublings.min(16)).min(PAUSE.1),
    }
}

#[cfg(test)]
mod tests {
    use turnkit_wire::lifecycle;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<_> = (0..8).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(pauses, [0, 250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
    }

    #[test]
    fn only_a_failure_that_says_so_is_tried_again() {
        assert!(is_retryable_failure(&lifecycle::run_failed("s", "m", true, false, None, None)));
        assert!(!is_retryable_failure(&lifecycle::run_failed("s", "m", false, false, None, None)));
        assert!(!is_retryable_failure(&lifecycle::run_completed("s", false)));
    }
}
