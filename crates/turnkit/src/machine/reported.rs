//! Failures that a producer reports in its events (PROTOCOL 2.1, 2.4).

use turnkit_wire::{
    Event,
    kind::Class,
    view::{Failure, Text},
};

use crate::{Phase, TurnError, code};

/// The failure that a producer reported, and what the client is told of it.
#[derive(Default)]
pub(super) struct Reported {
    /// Its own `error` event, to be sent as it is.
    pub(super) line: Option<Event>,
    pub(super) failure: Option<TurnError>,
}

impl Reported {
    /// An `error`. The first one stands for the turn's failure, whatever else was reported.
    pub(super) fn own_error(&mut self, event: &Event) {
        if self.line.is_none() {
            self.line = Some(event.detached());
            self.failure = Some(failure(event));
        }
    }

    /// Any other event that says so. The first one counts, unless there is an `error`.
    pub(super) fn failure(&mut self, event: &Event) {
        self.failure.get_or_insert_with(|| failure(event));
    }
}

fn failure(event: &Event) -> TurnError {
    let view = Failure::of(event).unwrap_or_default();
    let (message, code) = unsaid(event.class());
    let text = |text: Text<'_>| text.to_str().into_owned();
    TurnError {
        phase: Phase::Produce,
        message: view.message().map_or_else(|| message.to_owned(), text),
        code: view.code().map(text).or(code.map(str::to_owned)),
        retryable: false,
        temporary: view.temporary().unwrap_or(false),
        source: None,
    }
}

/// What stands for a message and a code that are not given.
fn unsaid(class: Class) -> (&'static str, Option<&'static str>) {
    match class {
        Class::ExecutionFailed => ("the execution failed", None),
        Class::ExecutionCancelled => ("the execution was cancelled", Some(code::CANCELLED)),
        _ => ("the producer reported an error", None),
    }
}
