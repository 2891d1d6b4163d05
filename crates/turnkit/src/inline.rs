//! A turn that drives itself.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

use crate::{TurnBody, TurnDriver, TurnHandle, TurnOutcome};

/// Body and driver in one stream, for tests and one-shot programs ([`ChatTurn::start_inline`](crate::ChatTurn::start_inline)).
///
/// It ends once the attempt has ended, `trace_flush` included, and then has its [outcome](Self::into_outcome). Nothing happens
/// while it is not polled, and dropping it early drops the attempt: nothing is saved.
#[derive(Debug)]
#[must_use = "an inline turn does nothing unless it is read"]
pub struct InlineTurn {
    body: TurnBody,
    driver: TurnDriver,
    outcome: Option<TurnOutcome>,
}

impl InlineTurn {
    pub(crate) fn new(body: TurnBody, driver: TurnDriver) -> Self {
        Self { body, driver, outcome: None }
    }

    /// What cancels the turn.
    #[must_use]
    pub fn handle(&self) -> TurnHandle {
        self.driver.handle()
    }

    /// How the attempt ended; none before the stream's end.
    #[must_use]
    pub fn into_outcome(self) -> Option<TurnOutcome> {
        self.outcome
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.outcome.is_none() {
            let driven = Pin::new(&mut self.driver).poll(cx);
            let Poll::Ready(outcome) = driven else {
                return Poll::Pending;
            };
            self.outcome = Some(outcome);
        }
        Poll::Ready(())
    }
}

impl Stream for InlineTurn {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let turn = self.get_mut();
        let driven = turn.drive(cx);
        match Pin::new(&mut turn.body).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => Poll::Ready(Some(chunk)),
            Poll::Ready(None) => driven.map(|()| None),
            Poll::Pending => Poll::Pending,
        }
    }
}
