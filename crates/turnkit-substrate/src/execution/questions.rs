//! The pending questions of a run, and its time, which stands still while there are any (PROTOCOL 3.6). Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// How many questions of a run can be pending.
pub(super) const MAX_PENDING: usize = 16;

pub(super) struct Questions {
    pending: Vec<Pending>,
    time: Time,
    /// When the run ends whatever it waits for.
    end: Instant,
}

struct Pending {
    id: String,
    until: Instant,
}

/// The time of the run's `timeout`.
#[derive(Clone, Copy)]
enum Time {
    /// It is over then.
    Passes(Instant),
    /// So much of it is left.
    Stands(Duration),
}

/// What is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The time of the run.
    Run,
    /// The time of the run with all that it waited for.
    RunInAll,
    /// The time of the question of this id.
    Question(String),
}

impl Questions {
    pub(super) fn new(now: Instant, timeout: Duration, in_all: Duration) -> Self {
        Self { pending: Vec::new(), time: Time::Passes(now + timeout), end: now + in_all }
    }

    pub(super) fn are_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.pending.len() >= MAX_PENDING
    }

    pub(super) fn ask(&mut self, id: &str, until: Instant, now: Instant) {
        if let Time::Passes(end) = self.time {
            self.time = Time::Stands(end.saturating_duration_since(now));
        }
        self.pending.push(Pending { id: id.to_owned(), until });
    }

    /// The question of this id waits no more.
    pub(super) fn answer(&mut self, id: &str, now: Instant) {
        self.pending.retain(|pending| pending.id != id);
        if let (Time::Stands(left), false) = (self.time, self.are_pending()) {
            self.time = Time::Passes(now + left);
        }
    }

    /// When there is something due next.
    pub(super) fn next_due(&self) -> Instant {
        let pending = self.pending.iter().map(|pending| pending.until);
        let run = if let Time::Passes(end) = self.time { Some(end) } else { None };
        pending.chain(run).min().unwrap_or(self.end).min(self.end)
    }

    /// What is due now, if anything. A question is due again after `again`, unless it is answered.
    pub(super) fn due(&mut self, now: Instant, again: Duration) -> Option<Due> {
        if self.end <= now {
            return Some(Due::RunInAll);
        }
        if matches!(self.time, Time::Passes(end) if end <= now) {
            return Some(Due::Run);
        }
        let pending = self.pending.iter_mut().find(|pending| pending.until <= now)?;
        pending.until = now + again;
        Some(Due::Question(pending.id.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_time_of_a_run_stands_still_while_any_question_is_pending() {
        let begun = Instant::now();
        let at = |seconds: u32| begun + SECOND * seconds;
        let mut questions = Questions::new(begun, SECOND * 10, SECOND * 1_000);
        assert_eq!(questions.next_due(), at(10));
        questions.ask("a", at(500), at(4));
        questions.ask("b", at(300), at(50));
        assert_eq!(questions.next_due(), at(300));
        questions.answer("b", at(60));
        assert_eq!(questions.next_due(), at(500));
        questions.answer("a", at(100));
        assert_eq!(questions.next_due(), at(106), "six seconds were left");
        assert_eq!(questions.due(at(105), SECOND), None);
        assert_eq!(questions.due(at(106), SECOND), Some(Due::Run));
    }

    #[test]
    fn a_question_is_due_at_its_time_and_again_until_it_is_answered() {
        let begun = Instant::now();
        let at = |seconds: u32| begun + SECOND * seconds;
        let mut questions = Questions::new(begun, SECOND * 10, SECOND * 1_000);
        questions.ask("a", at(20), at(1));
        assert_eq!(questions.due(at(19), SECOND), None);
        assert_eq!(questions.due(at(20), SECOND), Some(Due::Question("a".into())));
        assert_eq!((questions.due(at(20), SECOND), questions.next_due()), (None, at(21)));
        assert_eq!(questions.due(at(21), SECOND), Some(Due::Question("a".into())));
        questions.answer("a", at(21));
        assert_eq!(questions.next_due(), at(30));
    }

    #[test]
    fn a_run_ends_after_all_its_time_whatever_it_waits_for() {
        let begun = Instant::now();
        let mut questions = Questions::new(begun, SECOND * 10, SECOND * 100);
        questions.ask("a", begun + SECOND * 500, begun);
        assert_eq!(questions.next_due(), begun + SECOND * 100);
        assert_eq!(questions.due(begun + SECOND * 100, SECOND), Some(Due::RunInAll));
    }
}
