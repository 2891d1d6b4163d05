//! One attempt at a turn, driven: takes the machine's steps and tells it what came of them.

mod call;
mod future;
mod outlet;

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tracing::Instrument;
use turnkit_wire::{Event, text};

use self::{
    call::Calls,
    future::{Ask, Asked, Bounded},
    outlet::Outlet,
};
use crate::{
    BoxError, Hook, PartKind, Phase, Produced, TurnContext, TurnError, TurnHooks, TurnOutcome,
    TurnProducer, code,
    contain::{Panicked, contain},
    error::tell,
    machine::{EVENT_UNITS, Line, Machine, Step, Verdict},
    pipe::{Canceller, Writer},
    turn::Settings,
};

/// How many events a producer that is always ready may give before the body and a cancel have their turn (PROTOCOL 2.4).
const EVENTS_PER_POLL: u32 = 64;

/// How long a producer's `cancel` may take (PROTOCOL 2.3).
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// One attempt at a turn, to be polled to its end by whoever keeps the process alive (PROTOCOL 2).
///
/// It resolves to the [`TurnOutcome`], after `trace_flush`. It does not depend on its body: that may be read, left unread or
/// dropped. Dropping the driver cuts the body, and leaves the turn to a retry: nothing is persisted, no hook runs.
///
/// It wakes itself after every 64 events, so a producer that is always ready starves nobody.
///
/// # Panics
/// When it is polled again after it has resolved. A producer or hook that panics, also when it is dropped, does not make it
/// panic, nor does a `tracing` subscriber that panics at an event; a [`Timer`](crate::Timer) or a task's waker that panics does,
/// and so does an error value that panics when it is dropped. That cuts the body.
#[must_use = "a turn does nothing unless its driver is spawned or awaited"]
pub struct TurnDriver {
    attempt: Pin<Box<dyn Future<Output = TurnOutcome> + Send>>,
    canceller: Canceller,
}

impl TurnDriver {
    pub(crate) fn new<P, H>(attempt: Attempt<P, H>, canceller: Canceller) -> Self
    where
        P: TurnProducer + 'static,
        H: TurnHooks + 'static,
    {
        let span = attempt.span();
        let attempt = Box::pin(attempt.run().instrument(span));
        Self { attempt, canceller }
    }

    /// What reaches the turn from outside.
    #[must_use]
    pub fn handle(&self) -> TurnHandle {
        TurnHandle(self.canceller.clone())
    }
}

impl Future for TurnDriver {
    type Output = TurnOutcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TurnOutcome> {
        self.attempt.as_mut().poll(cx)
    }
}

impl fmt::Debug for TurnDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnDriver").finish_non_exhaustive()
    }
}

/// Reaches a turn while its driver runs elsewhere.
#[derive(Clone)]
pub struct TurnHandle(Canceller);

impl TurnHandle {
    /// Stops the turn: the producer's `cancel`, `on_turn_failed` with the partial text, code `cancelled` (PROTOCOL 2.4).
    ///
    /// Returns at once. Acts until the producer is done; after that, and after the turn's end, it does nothing. What
    /// `find_completed` says comes first: an answer that it finds saved is given all the same, and where it fails, that is how
    /// the attempt fails.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// How much longer the turn waits, in all, for a body that is not read, where that is less than what is left of
    /// [`ChatTurn::client_stall`](crate::ChatTurn::client_stall): for a host that ends, and wants its turns to come to their end
    /// although nobody reads them. Returns at once.
    pub fn client_stall(&self, in_all: Duration) {
        self.0.set_patience(in_all);
    }
}

impl fmt::Debug for TurnHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnHandle").finish_non_exhaustive()
    }
}

/// All that an attempt needs.
pub(crate) struct Attempt<P, H> {
    pub(crate) context: TurnContext,
    pub(crate) settings: Settings,
    pub(crate) producer: P,
    pub(crate) hooks: H,
    pub(crate) writer: Writer,
}

impl<P: TurnProducer, H: TurnHooks> Attempt<P, H> {
    fn span(&self) -> tracing::Span {
        let identity = &self.context.identity;
        tracing::info_span!(
            "turn",
            execution_id = self.context.execution_id.as_str(),
            tenant = identity.tenant_id,
            session = identity.session_id,
            turn = identity.turn_index,
        )
    }

    async fn run(self) -> TurnOutcome {
        Driver::new(self).run().await
    }
}

struct Driver<P, H> {
    context: Arc<TurnContext>,
    /// None once it was released.
    producer: Option<P>,
    hooks: H,
    machine: Machine,
    outlet: Outlet,
    calls: Calls,
    /// How many more events this poll may take.
    budget: u32,
    prefers_log: bool,
}

impl<P: TurnProducer, H: TurnHooks> Driver<P, H> {
    fn new(attempt: Attempt<P, H>) -> Self {
        let (context, producer, mut settings) =
            (Arc::new(attempt.context), attempt.producer, attempt.settings);
        settings.clock = settings.clock.or_current();
        let prompt = contain(|| producer.prompt()).ok();
        Self {
            machine: Machine::new(Arc::clone(&context), &settings, prompt.flatten()),
            outlet: Outlet::new(attempt.writer, &settings),
            calls: Calls::new(&settings),
            hooks: attempt.hooks,
            budget: EVENTS_PER_POLL,
            prefers_log: settings.prefers_log,
            context,
            producer: Some(producer),
        }
    }

    async fn run(mut self) -> TurnOutcome {
        loop {
            match self.machine.next() {
                Step::Emit(line) => self.emit(&line),
                Step::Lookup => self.look_up().await,
                Step::Produce => self.produce().await,
                Step::Cancel => self.cancel().await,
                Step::Release => self.release(),
                Step::Transform => self.transform().await,
                Step::TransformParts => self.transform_parts().await,
                Step::Persist => self.persist().await,
                Step::Complete => self.complete().await,
                Step::Fail => self.fail().await,
                Step::Close => self.outlet.close(),
                Step::Flush => self.flush().await,
                Step::End => return self.outcome(),
            }
        }
    }

    fn emit(&mut self, line: &Line) {
        self.show(&line.event);
        if line.sent {
            self.outlet.push(line.event.line(), line.units);
        }
    }

    fn show(&mut self, event: &Event) {
        let hook = || self.hooks.on_event(&self.context, event);
        self.calls.run_now(Hook::OnEvent, hook);
    }

    async fn produce(&mut self) {
        while self.machine.is_producing() {
            match self.ask().await {
                Asked::Answered(Ok(Produced::Event(event))) => self.forward(&event).await,
                Asked::Answered(Ok(Produced::Done { final_text })) => self.machine.done(final_text),
                Asked::Answered(Err(error)) => {
                    let is_lost = contain(|| P::is_lost(&error)).unwrap_or(false);
                    let error = classify::<P>(error);
                    if is_lost && self.prefers_log {
                        self.machine.events_lost(error);
                    } else {
                        self.machine.producer_failed(error);
                    }
                }
                Asked::Panicked => self.machine.producer_failed(panicked()),
                Asked::Interrupted => {}
            }
        }
    }

    /// Waits for the producer's next answer, or for an interrupt.
    async fn ask(&mut self) -> Asked<P::Error> {
        let Self { producer: Some(producer), machine, outlet, budget, .. } = self else {
            return Asked::Panicked;
        };
        // In a block of its own, so that a `next` that panics before it gives a future is contained as well.
        let next = async { producer.next().await };
        let mut ask = pin!(Ask::new(next, machine, outlet, budget));
        let asked = ask.as_mut().await;
        warn_of_drop(ask.end(), "a future of the producer");
        asked
    }

    async fn forward(&mut self, event: &Event) {
        let verdict = self.machine.event(event);
        if verdict == Verdict::Keep {
            return;
        }
        self.show(event);
        if verdict == Verdict::Send {
            if let Some(signals) = self.outlet.try_push(event.line(), EVENT_UNITS) {
                return self.machine.notice(signals);
            }
            self.wait_for_room(event.line().len()).await;
            self.outlet.push(event.line(), EVENT_UNITS);
        }
        self.notice();
    }

    /// Waits until the body has taken enough, left, or was cut; or until the turn is interrupted. The line that waits is sent
    /// in any case: what the client gets has no gap.
    async fn wait_for_room(&mut self, len: usize) {
        let machine = &mut self.machine;
        let stop = |signals| {
            machine.notice(signals);
            !machine.is_producing()
        };
        self.outlet.wait_for_room(len, stop).await;
    }

    fn notice(&mut self) {
        self.machine.notice(self.outlet.signals());
    }

    async fn cancel(&mut self) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        let cancel = async {
            producer.cancel().await;
            Ok(())
        };
        let cancelled = Bounded::new(cancel, CANCEL_TIMEOUT, &mut self.outlet).await;
        if cancelled.is_err() {
            let limit = CANCEL_TIMEOUT;
            tell(|| tracing::warn!(?limit, "the producer's cancel panicked or took too long"));
        }
    }

    fn release(&mut self) {
        let producer = self.producer.take();
        warn_of_drop(contain(|| drop(producer)), "the producer");
    }

    async fn look_up(&mut self) {
        let hook = async { self.hooks.find_completed(&self.context).await };
        let found = self.calls.run(&mut self.outlet, Hook::FindCompleted, hook);
        let found = found.await;
        self.notice();
        self.machine.looked_up(found);
    }
}

/// The hooks of the answer, and the end.
impl<P: TurnProducer, H: TurnHooks> Driver<P, H> {
    async fn transform(&mut self) {
        // The hook owns what it is given; the engine keeps the partial text for a failure.
        let text = self.machine.raw_text().clone();
        let hook = async { self.hooks.transform_final_text(&self.context, text).await };
        let text = self.calls.run(&mut self.outlet, Hook::TransformFinalText, hook).await;
        self.machine.transformed(text);
    }

    async fn transform_parts(&mut self) {
        let parts = self.machine.parts();
        let hook = async {
            let mut transformed = Vec::with_capacity(parts.len());
            for part in parts.iter().cloned() {
                if part.kind() == PartKind::Text {
                    transformed.push(part);
                    continue;
                }
                let part = self.hooks.transform_part(&self.context, part).await?;
                if part.as_ref().is_some_and(|part| part.kind() == PartKind::Text) {
                    return Err("a part that is no text was made one".into());
                }
                transformed.extend(part);
            }
            Ok(transformed)
        };
        let transformed = self.calls.run(&mut self.outlet, Hook::TransformPart, hook).await;
        if let Some(fault) = self.machine.parts_transformed(transformed) {
            self.calls.note(Hook::TransformPart, fault);
        }
    }

    async fn persist(&mut self) {
        let Some(text) = self.machine.final_text() else {
            return;
        };
        let hook = async { self.hooks.persist_assistant_message(&self.context, text).await };
        let persisted = self.calls.run(&mut self.outlet, Hook::PersistAssistantMessage, hook).await;
        self.machine.persisted(persisted);
    }

    async fn complete(&mut self) {
        let Some(text) = self.machine.final_text() else {
            return;
        };
        let hook = async { self.hooks.on_turn_complete(&self.context, text).await };
        self.calls.run_aside(&mut self.outlet, Hook::OnTurnComplete, hook).await;
    }

    async fn fail(&mut self) {
        let Some(failure) = self.machine.failure() else {
            return;
        };
        let partial = self.machine.raw_text();
        let hook = async { self.hooks.on_turn_failed(&self.context, failure, partial).await };
        self.calls.run_aside(&mut self.outlet, Hook::OnTurnFailed, hook).await;
    }

    async fn flush(&mut self) {
        let hook = async { self.hooks.trace_flush(&self.context).await };
        self.calls.run_aside(&mut self.outlet, Hook::TraceFlush, hook).await;
    }

    fn outcome(mut self) -> TurnOutcome {
        self.release();
        warn_of_drop(contain(|| drop(self.hooks)), "the hooks");
        let (events, replayed) = (self.machine.lines(), self.machine.is_replayed());
        let (body, taken) = self.outlet.body();
        let client = self.machine.client(body, taken);
        let result = self.machine.into_result();
        tell(|| match &result {
            Ok(_) => tracing::debug!(events, replayed, "the attempt completed"),
            Err(failure) => log(failure),
        });
        TurnOutcome { result, hook_errors: self.calls.into_errors(), client, events, replayed }
    }
}

fn warn_of_drop(dropped: Result<(), Panicked>, what: &str) {
    if dropped.is_err() {
        tell(|| tracing::error!(what, "panicked when it was dropped"));
    }
}

/// Without the message, which may quote a user's text. The code may be a peer's.
fn log(failure: &TurnError) {
    let phase = failure.phase.as_str();
    match failure.code() {
        Some(code::ABANDONED) => tracing::debug!(phase, "the attempt was abandoned"),
        code => {
            tracing::warn!(phase, code = code.map(text::message).as_deref(), "the attempt failed");
        }
    }
}

/// What the producer's error says about the turn. The error's own code may panic too.
fn classify<P: TurnProducer>(error: P::Error) -> TurnError {
    let classify = || {
        let code = P::error_code(&error).map(str::to_owned);
        let (retryable, temporary) = (P::is_retryable(&error), P::is_temporary(&error));
        let source: BoxError = error.into();
        TurnError {
            phase: Phase::Produce,
            message: source.to_string(),
            code,
            retryable,
            temporary,
            source: Some(source),
        }
    };
    contain(classify).unwrap_or_else(|Panicked| panicked())
}

fn panicked() -> TurnError {
    TurnError::produce(code::PANIC, "the producer panicked")
}
