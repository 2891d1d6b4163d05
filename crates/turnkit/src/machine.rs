//! Every rule about order lives here (PROTOCOL 2.1, 2.4, 2.5).
//!
//! The machine is pure: no clock, no I/O, no hook, no producer. It says which [`Step`] comes next; the driver takes it and
//! tells what came of it. Events are judged one by one, by [`Machine::event`]. What the body and the handle did meanwhile is told
//! by [`Machine::notice`].
//!
//! What is elsewhere is about time and bytes: when a client has stalled and when a blank line is due (`driver/outlet.rs`), how many
//! events a poll may take and how long a call may (`driver.rs`, `driver/future.rs`), and when a body that is dropped has left rather
//! than ended, and that a line over the bound still goes where it must (`pipe.rs`).
//!
//! ```text
//!                 Lookup ── a saved answer ──▶ started, parts, result, completed ───┐
//!                    │ none       └── error ────────────────────────────────┐       │
//!            session.run.started                                            │       │
//!                    │                                                      │       │
//!       ┌──────── Produce ◀─┐                                               │       │
//!       │ done       │ │    │ event: sent, skipped, kept back               │       │
//!       │            │ └────┘                                               │       │
//!       │            ├── cancelled, client left under Cancel ─▶ Cancel ─────┤       │
//!       │            ├── error, panic, reported failure, no usable text ────┤       │
//!       │            └── client left under Abandon ────────────────────────────▶ End (nobody is told)
//!       ▼ Release                                                   Release ▼       │
//!   Transform ── error ────────────────────────────────────────────────▶  Fail      │
//!       │                                                                   ▲       │
//! TransformParts ─ error ───────────────────────────────────────────────────┤       │
//!       │ (skipped where all is text)                                       │       │
//!    Persist ─── error ─────────────────────────────────────────────────────┤       │
//!       │ saved    │ already saved                                          │       │
//!    Complete      │                                           error, failed│       │
//!       └────┬─────┘                                                        │       │
//!            ▼                                                              ▼       ▼
//!        completed, or error and failed{invalid_cursor} ──────────────▶  Close ─▶ Flush ─▶ End
//! ```
//!
//! An attempt that prefers the log (PROTOCOL 2.5) begins at `session.run.started`, and comes to Lookup where the producer has lost its
//! events: without a saved answer it fails by that.

mod reported;

use std::{collections::VecDeque, sync::Arc};

use turnkit_wire::{
    Event,
    kind::Class,
    lifecycle::{self, RunStarted},
    text,
};

use self::reported::Reported;
use crate::{
    Answer, AnswerPart, ClientLeft, ClientOutcome, FinalText, Hook, Persisted, Phase, RawText,
    TurnContext, TurnError,
    answer::AnswerReader,
    code,
    error::HookFault,
    pipe::{self, Signals},
    turn::Settings,
};

/// What the driver is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Show the line to `on_event`, and send it to the client if it says so.
    Emit(Line),
    /// Run `find_completed`; tell what was [noticed](Machine::notice) meanwhile, then [what it answered](Machine::looked_up).
    Lookup,
    /// Ask the producer: [`Machine::event`], [`Machine::done`] or [`Machine::producer_failed`]. What is
    /// [noticed](Machine::notice) meanwhile, and after each event, may end it.
    Produce,
    /// Run the producer's `cancel`.
    Cancel,
    /// Drop the producer: nothing more is asked of it, and no hook is to keep its connection waiting.
    Release,
    /// Run `transform_final_text` on [`Machine::raw_text`], then [`Machine::transformed`].
    Transform,
    /// Run `transform_part` on those of [`Machine::parts`] that are no text, then [`Machine::parts_transformed`].
    TransformParts,
    /// Run `persist_assistant_message` on [`Machine::final_text`], then [`Machine::persisted`].
    Persist,
    /// Run `on_turn_complete`.
    Complete,
    /// Run `on_turn_failed` with [`Machine::failure`] and [`Machine::raw_text`].
    Fail,
    /// End the body.
    Close,
    /// Run `trace_flush`.
    Flush,
    /// The attempt is over.
    End,
}

/// How many cursor units a producer's event is.
pub(crate) const EVENT_UNITS: u64 = 1;

/// A line that the engine made, or held back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) event: Event,
    /// Whether the client gets it, or has it already.
    pub(crate) sent: bool,
    /// How many cursor units it is: 1, or 0 for a terminal line.
    pub(crate) units: u64,
}

/// What becomes of a producer's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `on_event` sees it, then the client gets it as [one cursor unit](EVENT_UNITS). Where it has to wait for room, it goes out
    /// whatever interrupts the turn meanwhile, and before the terminal lines: what a client gets has no gap.
    Send,
    /// `on_event` sees it; the client has it.
    Skip,
    /// Nobody sees it (now).
    Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Lookup,
    Produce,
    /// The producer is done with: nothing interrupts the attempt any more.
    Settled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    Cancel,
    Abandon,
}

pub(crate) struct Machine {
    context: Arc<TurnContext>,
    client_left: ClientLeft,
    /// The cursor that the client came with.
    resume_after: u64,
    stage: Stage,
    /// What is certain to come next. Empty while producing.
    plan: VecDeque<Step>,
    /// What interrupted the lookup, which is not torn: its answer decides what the interrupt means.
    interrupted: Option<Interrupt>,
    answer: AnswerReader,
    reported: Reported,
    /// Why the attempt fails, unless the answer that it has lost is saved.
    lost: Option<TurnError>,
    raw_text: RawText,
    parts_are_transformed: bool,
    result: Option<Result<FinalText, TurnError>>,
    replayed: bool,
    /// Cursor units so far: `session.run.started` and the producer's events.
    units: u64,
    /// Lines that are none: the terminal ones, and those of a replay.
    uncounted_lines: u64,
    skipped: u64,
}

impl Machine {
    pub(crate) fn new(
        context: Arc<TurnContext>,
        settings: &Settings,
        prompt: Option<&str>,
    ) -> Self {
        let mut machine = Self {
            context,
            client_left: settings.client_left,
            resume_after: settings.resume_after,
            stage: Stage::Lookup,
            plan: VecDeque::new(),
            interrupted: None,
            answer: AnswerReader::new(settings, prompt),
            reported: Reported::default(),
            lost: None,
            raw_text: RawText::default(),
            parts_are_transformed: false,
            result: None,
            replayed: false,
            units: 0,
            uncounted_lines: 0,
            skipped: 0,
        };
        if settings.prefers_log {
            machine.start();
        } else {
            machine.plan.push_back(Step::Lookup);
        }
        machine
    }

    pub(crate) fn next(&mut self) -> Step {
        self.plan.pop_front().unwrap_or(match self.stage {
            Stage::Produce => Step::Produce,
            Stage::Lookup | Stage::Settled => Step::End,
        })
    }

    pub(crate) fn is_producing(&self) -> bool {
        self.stage == Stage::Produce
    }

    /// What `find_completed` answered.
    pub(crate) fn looked_up(&mut self, found: Result<Option<Answer>, HookFault>) {
        self.stage = Stage::Settled;
        if self.interrupted == Some(Interrupt::Abandon) {
            return self.abandon();
        }
        let fault = match found {
            Ok(Some(answer)) => return self.replay(answer),
            Ok(None) => None,
            Err(fault) => Some(fault),
        };
        let lost = self.lost.take();
        if lost.is_none() {
            self.start();
        }
        match (fault, lost) {
            (Some(fault), _) => {
                self.stage = Stage::Settled;
                self.fail(fault.into_turn_error(Hook::FindCompleted, Phase::Lookup));
            }
            (None, Some(error)) => self.fail_producing(error),
            (None, None) if self.interrupted.is_some() => self.cancelled(),
            (None, None) => {}
        }
    }

    /// Judges the producer's next event.
    #[inline]
    pub(crate) fn event(&mut self, event: &Event) -> Verdict {
        match event.class() {
            Class::Part => self.answer.part(event),
            Class::Result => self.answer.result(event),
            Class::Warning => self.answer.warning(event),
            class if class.is_interaction() => self.answer.interaction(event),
            Class::Error => {
                self.reported.own_error(event);
                return Verdict::Keep;
            }
            Class::ExecutionFailed | Class::ExecutionCancelled => self.reported.failure(event),
            Class::RunFailed => {
                self.reported.failure(event);
                return Verdict::Keep;
            }
            class if class.is_envelope() => return Verdict::Keep,
            _ => {}
        }
        self.count()
    }

    /// The producer answered `Done`.
    pub(crate) fn done(&mut self, final_text: Option<String>) {
        self.stage = Stage::Settled;
        self.plan.push_back(Step::Release);
        let settled = self.answer.settle(final_text);
        self.raw_text = self.answer.take();
        match self.reported.failure.take().map_or(settled, Err) {
            Ok(()) => self.plan.push_back(Step::Transform),
            Err(error) => self.fail(error),
        }
    }

    /// The producer answered with an error, or panicked.
    pub(crate) fn producer_failed(&mut self, error: TurnError) {
        self.stage = Stage::Settled;
        self.fail_producing(error);
    }

    /// The producer answered with an error that says that its events are lost: an answer that is saved stands for them. A turn
    /// that has reported its failure has none.
    pub(crate) fn events_lost(&mut self, error: TurnError) {
        if self.reported.failure.is_some() {
            return self.producer_failed(error);
        }
        self.stage = Stage::Lookup;
        self.lost = Some(error);
        self.plan.extend([Step::Release, Step::Lookup]);
    }

    /// What happened at the other ends. A cancel comes first: it outweighs a client that went away.
    #[inline]
    pub(crate) fn notice(&mut self, signals: Signals) {
        if signals.cancelled {
            self.cancel();
        }
        if signals.left {
            self.client_left();
        }
    }

    /// The body was dropped.
    fn client_left(&mut self) {
        match self.client_left {
            ClientLeft::Continue => {}
            ClientLeft::Cancel => self.interrupt(Interrupt::Cancel),
            ClientLeft::Abandon => self.interrupt(Interrupt::Abandon),
        }
    }

    /// The handle asked for it.
    fn cancel(&mut self) {
        self.interrupt(Interrupt::Cancel);
    }

    pub(crate) fn raw_text(&self) -> &RawText {
        &self.raw_text
    }

    pub(crate) fn transformed(&mut self, text: Result<String, HookFault>) {
        match text {
            Ok(text) => {
                let raw = std::mem::take(&mut self.raw_text);
                let text = raw.transformed(text);
                let has_parts = text.has_more_than_text();
                self.plan.push_back(if has_parts { Step::TransformParts } else { Step::Persist });
                self.result = Some(Ok(text));
            }
            Err(fault) => {
                self.fail(fault.into_turn_error(Hook::TransformFinalText, Phase::Transform));
            }
        }
    }

    /// The parts of the answer, or of what there is of it where the attempt has failed.
    pub(crate) fn parts(&self) -> Arc<[AnswerPart]> {
        let answer = match &self.result {
            Some(Ok(text)) => text.answer(),
            _ => self.raw_text.answer(),
        };
        Arc::clone(&answer.parts)
    }

    /// Gives back the fault of an attempt that has failed already: nothing is kept of parts that could not be transformed.
    pub(crate) fn parts_transformed(
        &mut self,
        parts: Result<Vec<AnswerPart>, HookFault>,
    ) -> Option<HookFault> {
        match (&mut self.result, parts) {
            (Some(Ok(text)), Ok(parts)) => {
                text.set_parts(parts);
                self.parts_are_transformed = true;
                self.plan.push_back(Step::Persist);
                None
            }
            (Some(Ok(_)), Err(fault)) => {
                if let Some(Ok(text)) = self.result.take() {
                    self.raw_text = text.into_raw();
                }
                self.raw_text.keep_text_only();
                self.fail(fault.into_turn_error(Hook::TransformPart, Phase::Transform));
                None
            }
            (_, Ok(parts)) => {
                self.raw_text.set_parts(parts);
                None
            }
            (_, Err(fault)) => {
                self.raw_text.keep_text_only();
                Some(fault)
            }
        }
    }

    pub(crate) fn final_text(&self) -> Option<&FinalText> {
        self.result.as_ref()?.as_ref().ok()
    }

    pub(crate) fn persisted(&mut self, persisted: Result<Persisted, HookFault>) {
        match persisted {
            Ok(Persisted::Saved) => {
                self.plan.push_back(Step::Complete);
                self.complete();
            }
            Ok(Persisted::AlreadySaved) => self.complete(),
            Err(fault) => {
                if let Some(Ok(text)) = self.result.take() {
                    self.raw_text = text.into_raw();
                }
                self.fail(fault.into_turn_error(Hook::PersistAssistantMessage, Phase::Persist));
            }
        }
    }

    pub(crate) fn failure(&self) -> Option<&TurnError> {
        self.result.as_ref()?.as_ref().err()
    }

    /// All lines of the attempt so far.
    pub(crate) fn lines(&self) -> u64 {
        self.units + self.uncounted_lines
    }

    /// What became of the client, whose body ended so after it had taken so many cursor units. That it is not there any more comes
    /// before what it would have been told.
    pub(crate) fn client(&self, body: pipe::End, taken: u64) -> ClientOutcome {
        let after_events = self.skipped + taken;
        match (body, self.overrun()) {
            (pipe::End::Left, _) => ClientOutcome::Left { after_events },
            (pipe::End::Cut, _) => ClientOutcome::Stalled { after_events },
            (pipe::End::Open, Some(events)) => ClientOutcome::InvalidCursor { events },
            (pipe::End::Open, None) => ClientOutcome::Attached,
        }
    }

    /// The number of the turn's events, where the client's cursor is beyond it.
    fn overrun(&self) -> Option<u64> {
        let ended_well = matches!(self.result, Some(Ok(_))) && !self.replayed;
        (ended_well && self.resume_after > self.units).then_some(self.units)
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.replayed
    }

    pub(crate) fn into_result(self) -> Result<FinalText, TurnError> {
        self.result.unwrap_or_else(|| Err(abandoned()))
    }
}

impl Machine {
    /// Counts one cursor unit and says whether the client has it already.
    #[inline]
    fn count(&mut self) -> Verdict {
        self.units += EVENT_UNITS;
        if self.units > self.resume_after {
            return Verdict::Send;
        }
        self.skipped += 1;
        Verdict::Skip
    }

    fn emit(&mut self, event: Event) {
        let sent = self.count() == Verdict::Send;
        self.plan_line(event, sent, EVENT_UNITS);
    }

    /// A line that no cursor counts, and that is always sent.
    fn emit_uncounted(&mut self, event: Event) {
        self.uncounted_lines += 1;
        self.plan_line(event, true, 0);
    }

    fn plan_line(&mut self, event: Event, sent: bool, units: u64) {
        let line = Line { event, sent, units };
        self.plan.push_back(Step::Emit(line));
    }

    fn interrupt(&mut self, interrupt: Interrupt) {
        match (self.stage, interrupt) {
            // A stop that was asked for outweighs a client that merely went away.
            (Stage::Lookup, Interrupt::Cancel) => self.interrupted = Some(interrupt),
            (Stage::Lookup, Interrupt::Abandon) => {
                self.interrupted.get_or_insert(interrupt);
            }
            (Stage::Produce, Interrupt::Cancel) => self.cancelled(),
            (Stage::Produce, Interrupt::Abandon) => self.abandon(),
            (Stage::Settled, _) => {}
        }
    }

    fn cancelled(&mut self) {
        self.stage = Stage::Settled;
        self.plan.push_back(Step::Cancel);
        self.fail_producing(TurnError::produce(code::CANCELLED, "the turn was cancelled"));
    }

    fn abandon(&mut self) {
        self.stage = Stage::Settled;
        self.result = Some(Err(abandoned()));
    }

    fn start(&mut self) {
        self.stage = Stage::Produce;
        self.emit(self.started(false));
    }

    fn started(&self, replayed: bool) -> Event {
        let TurnContext { identity, execution_id, turn_id } = &*self.context;
        let started = RunStarted {
            session_id: &identity.session_id,
            tenant_id: &identity.tenant_id,
            turn_index: identity.turn_index,
            execution_id: execution_id.as_str(),
            turn_id: turn_id.as_deref(),
            replayed,
        };
        started.event()
    }

    fn replay(&mut self, answer: Answer) {
        self.emit_uncounted(self.started(true));
        answer.parts.iter().for_each(|part| self.emit_uncounted(part.event()));
        self.emit_uncounted(answer.summary.event(Some(&answer.text)));
        self.emit_uncounted(lifecycle::run_completed(self.session_id(), None, true));
        self.close();
        self.replayed = true;
        self.result = Some(Ok(FinalText::saved(answer)));
    }

    /// The turn is saved.
    fn complete(&mut self) {
        if self.overrun().is_some() {
            let message = "the cursor is beyond the turn's events";
            let error = TurnError::produce(code::INVALID_CURSOR, message);
            self.emit_failure(&error.retryable());
        } else {
            let unseen = self.final_text().and_then(FinalText::unseen);
            let completed = lifecycle::run_completed(self.session_id(), unseen, false);
            self.emit_uncounted(completed);
        }
        self.close();
    }

    /// Fails for `otherwise`, unless the producer has reported a failure of its own.
    fn fail_producing(&mut self, otherwise: TurnError) {
        self.plan.push_back(Step::Release);
        self.raw_text = self.answer.take();
        let reported = self.reported.failure.take();
        self.fail(reported.unwrap_or(otherwise));
    }

    fn fail(&mut self, error: TurnError) {
        if self.raw_text.has_more_than_text() && !self.parts_are_transformed {
            self.plan.push_back(Step::TransformParts);
        }
        self.plan.push_back(Step::Fail);
        self.emit_failure(&error);
        self.result = Some(Err(error));
        self.close();
    }

    fn emit_failure(&mut self, error: &TurnError) {
        let message = text::message(&error.message);
        let code = error.code.as_deref().map(text::message);
        let own = self.reported.line.take();
        self.emit_uncounted(own.unwrap_or_else(|| lifecycle::error(&message, code.as_deref())));
        self.emit_uncounted(lifecycle::run_failed(
            self.session_id(),
            &message,
            error.retryable,
            error.temporary,
            code.as_deref(),
            Some(error.phase.as_str()),
        ));
    }

    fn close(&mut self) {
        self.plan.extend([Step::Close, Step::Flush]);
    }

    fn session_id(&self) -> &str {
        &self.context.identity.session_id
    }
}

fn abandoned() -> TurnError {
    TurnError::produce(code::ABANDONED, "the client left")
}

#[cfg(test)]
mod tests;
