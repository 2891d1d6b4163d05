//! Questions of running agents, and what users say into turns (PROTOCOL 4.2, "Questions and inputs").
//!
//! Only the substrate decides which answer is taken. What is written here is what the log tells of questions, so that lists and feeds
//! show what is pending; and what a user wants to be passed on, so that it is passed on although the process that was told it has died.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{sleep, timeout};
use turnkit_id::ExecutionId;
use turnkit_sandbox::Error;
use turnkit_wire::interaction::{Answered, MAX_BY, Outcome};
use turnkit_wire::kind::Class;
use turnkit_wire::value::Value;
use turnkit_wire::write::Json;
use turnkit_wire::{Event, text};

use super::Turns;
use super::attempt::Conduct;
use crate::Refusal;
use crate::store::{Decision, Intent, StoreErrorKind, Told, Wish};

/// How long the store may hold up the lines of a turn to write what they tell of a question.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a failure it is asked again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// What is kept to be written while the store cannot be.
const MAX_UNTOLD: usize = 1_024;
/// Intents that are read at once, and of these passed on at the same time.
const PIECE: usize = 200;
const AT_ONCE: usize = 8;
/// The waits before intents are passed on again that could not be: each is twice the one before.
const PASS_ON: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Writes down what the log tells of questions, as the attempt that drives the turn reads it.
pub(super) struct Recorder {
    conduct: Arc<Conduct>,
    /// Whether its agent takes answers, once that is known: from any other agent these are events like all others.
    has_questions: Option<bool>,
    pending: HashSet<String>,
    untold: Vec<Told>,
}

impl Recorder {
    pub(super) fn new(conduct: Arc<Conduct>) -> Recorder {
        Recorder { conduct, has_questions: None, pending: HashSet::new(), untold: Vec::new() }
    }

    /// Whether there is something that could not be written yet.
    pub(super) fn is_behind(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Takes what an event tells. It is written before its line is handed on, if the store can be written.
    pub(super) async fn read(&mut self, event: &Event) {
        let told = match event.class() {
            Class::Interaction => {
                let id = Value::of(event).get("id").and_then(Value::string);
                let question = event.data_json().unwrap_or("{}").to_owned();
                id.map(|id| Told::Asked { id: id.to_str().into_owned(), question })
            }
            Class::InteractionAnswered => {
                let answered = Answered::of(event).unwrap_or_default();
                let told = answered.id().zip(answered.outcome());
                told.map(|(id, outcome)| Told::Answered { id: id.to_str().into_owned(), outcome })
            }
            _ => None,
        };
        let Some(told) = told else { return };
        if self.has_questions == Some(false) {
            return;
        }
        if self.untold.len() == MAX_UNTOLD {
            self.untold.remove(0);
        }
        self.untold.push(told);
        self.catch_up().await;
    }

    pub(super) async fn catch_up(&mut self) {
        let (turns, turn) = (&self.conduct.turns, &self.conduct.turn);
        if self.has_questions.is_none() {
            // Asked anew for each attempt: what was known may be of a substrate before this one.
            match turns.catalog.ask_what_it_takes(&turn.agent).await {
                Ok(takes) => self.has_questions = Some(takes.answers),
                Err(_) => return,
            }
        }
        if self.has_questions == Some(false) {
            self.untold.clear();
            return;
        }
        for told in &self.untold {
            match told {
                Told::Asked { id, .. } => self.pending.insert(id.clone()),
                Told::Answered { id, .. } => self.pending.remove(id),
            };
        }
        if let Some(driven) = turns.driven.find(&turn.execution_id) {
            turns.driven.waits(&driven, !self.pending.is_empty());
        }
        let note = turns.store.note(turn.execution_id.clone(), self.untold.clone());
        match timeout(PATIENCE, note).await {
            Ok(Ok(())) => self.untold.clear(),
            Ok(Err(error)) if error.kind() == StoreErrorKind::Gone => self.untold.clear(),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "failed to note a question: it is tried again");
            }
            Err(_) => tracing::warn!("failed to note a question in time: it is tried again"),
        }
    }
}

impl Turns {
    /// Passes an intent on, and writes beside it what the substrate says. The answer is for whoever wanted it. Where the substrate has
    /// said nothing that is final, the intent stays as it is, and is passed on again.
    pub(crate) async fn pass_on(&self, intent: &Intent) -> Result<(), Refusal> {
        let (decision, answer) =
            self.ask_substrate(&intent.execution_id, &intent.by, &intent.wish).await;
        // The turn is open, and its run has not begun or is lost: an input waits until it has, or becomes a turn. Were it refused, its
        // user would send it as a turn, and the same one from another tab would still go into the run.
        let waits =
            |said: &Decision| said.status == 404 && matches!(intent.wish, Wish::Input { .. });
        match decision {
            Some(said) if waits(&said) => {
                self.undecided.notify_one();
                Err(Refusal::Substrate("the run of this turn has not begun".into()))
            }
            Some(decision) => {
                match self.settled(|store| store.decide(intent.number, decision)).await {
                    Ok(()) => {}
                    // The substrate's answer stands. It is passed on once more then, and answered the same.
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "failed to note what became of an intent");
                    }
                }
                answer
            }
            None => {
                self.undecided.notify_one();
                answer
            }
        }
    }

    /// What the substrate says to a wish: its decision, where that is one, and the answer for the user.
    pub(crate) async fn ask_substrate(
        &self,
        execution_id: &ExecutionId,
        by: &str,
        wish: &Wish,
    ) -> (Option<Decision>, Result<(), Refusal>) {
        let by = text::head(by, MAX_BY);
        let said = match wish {
            Wish::Answer { interaction, outcome, data } => {
                // It was verified before it was noted.
                let data = data.as_deref().and_then(|data| Json::verify(data).ok());
                let answer = self.agents.answer(
                    execution_id,
                    interaction,
                    *outcome,
                    data.as_ref(),
                    Some(by),
                );
                answer.await
            }
            Wish::Input { id, message } => {
                self.agents.input(execution_id, id, message, Some(by)).await
            }
        };
        let own = match wish {
            Wish::Answer { outcome, .. } => Some(*outcome),
            Wish::Input { .. } => None,
        };
        let error = match said {
            Ok(()) => {
                let status = if own.is_some() { 200 } else { 202 };
                return (Some(Decision { status, outcome: own }), Ok(()));
            }
            Err(error) => error,
        };
        let is_answer = own.is_some();
        let decided = |status, outcome, refusal| (Some(Decision { status, outcome }), Err(refusal));
        match &error {
            Error::Refused(said) if !said.is_transient() && said.status() < 500 => {
                match (said.status(), said.code()) {
                    (409, Some("interaction_answered")) => {
                        let outcome = said.outcome().and_then(Outcome::parse);
                        decided(409, outcome, Refusal::OtherAnswer { outcome })
                    }
                    (410, Some("interaction_gone")) => decided(410, None, Refusal::InteractionGone),
                    (410, Some("execution_ended")) => decided(410, None, Refusal::InputTooLate),
                    (409, Some("input_not_accepted")) => decided(409, None, Refusal::NoInput),
                    (409, Some("input_conflict")) => decided(409, None, Refusal::InputConflict),
                    (404, _) if is_answer => decided(404, None, Refusal::NoInteraction),
                    (404, _) => decided(404, None, Refusal::InputTooLate),
                    (status @ (400 | 413 | 422), _) => {
                        let message = said.message().unwrap_or("it was refused");
                        let message = text::message(message).into_owned();
                        let field = said.field().map(str::to_owned);
                        decided(status, None, Refusal::InvalidAnswer { status, field, message })
                    }
                    // About this process, and not about what it has passed on.
                    _ => (None, Err(Refusal::Substrate(error.into()))),
                }
            }
            Error::Refused(said) if said.code() == Some("too_many_inputs") => {
                decided(429, None, Refusal::TooManyWishes { limit: None })
            }
            // Whether its agent has had it is told by the end of the turn, and not by a log that is not there.
            Error::Lost(_) if !is_answer => decided(404, None, Refusal::InputTooLate),
            // What was never sent to the substrate has asked nothing, yet; what it has lost never will.
            Error::Lost(said) if said.status() == 404 => decided(404, None, Refusal::NoInteraction),
            Error::Lost(_) => decided(410, None, Refusal::InteractionGone),
            _ => (None, Err(Refusal::Substrate(error.into()))),
        }
    }

    /// Passes on what is left to pass on, each time somebody says that there is something. Never ends.
    pub(crate) async fn pass_on_when_told(&self) {
        let (mut wait, longest) = PASS_ON;
        loop {
            self.undecided.notified().await;
            if self.pass_all_on().await {
                wait = PASS_ON.0;
            } else {
                // Who could not be passed on has said so already.
                sleep(wait).await;
                wait = (wait * 2).min(longest);
            }
        }
    }

    /// Whether nothing is left that could not be passed on now. What could not is no reason for others to wait behind it.
    async fn pass_all_on(&self) -> bool {
        let (mut after, mut all_passed) = (0, true);
        loop {
            let left = match self.store.undecided(after, PIECE).await {
                Ok(left) => left,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "failed to read what is to be passed on");
                    return all_passed;
                }
            };
            let is_last = left.len() < PIECE;
            after = left.last().map_or(after, |intent| intent.number);
            let passed = stream::iter(left).map(|intent| async move {
                let refusal = self.pass_on(&intent).await.err();
                !matches!(refusal, Some(Refusal::Substrate(_)))
            });
            let passed = passed.buffer_unordered(AT_ONCE);
            all_passed &= passed.fold(true, |all, one| async move { all && one }).await;
            if is_last {
                return all_passed;
            }
        }
    }
}
