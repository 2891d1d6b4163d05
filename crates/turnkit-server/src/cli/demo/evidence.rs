//! What was seen in the demo, and what follows from it.

use turnkit_wire::Event;

/// Everything that was seen. Nothing in here was known beforehand.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) execution_id: String,
    pub(super) cut_after: u64,
    /// The lines that the first client got before its connection was cut, and after it came back.
    pub(super) before: Vec<Event>,
    pub(super) after: Vec<Event>,
    /// The lines of the client that was not disturbed.
    pub(super) undisturbed: Vec<Event>,
    /// How often the substrate says that it asked the agent.
    pub(super) runs_started: u64,
    /// The substrate's log of the execution.
    pub(super) log: Vec<Logged>,
    pub(super) attempts: Attempts,
    /// The session's messages: from the database file, and from the messages route.
    pub(super) saved: Vec<Saved>,
    pub(super) served: Vec<Saved>,
}

/// One event of the substrate's log.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) id: String,
    pub(super) event: Event,
}

/// What the server says that it did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    pub(super) run: u64,
    pub(super) attach: u64,
    pub(super) read: u64,
}

impl Attempts {
    pub(super) fn all(self) -> u64 {
        self.run + self.attach + self.read
    }
}

/// One message of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) role: String,
    pub(super) text: String,
    pub(super) status: String,
}

/// Something that has to be true.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) claim: &'static str,
    pub(super) holds: bool,
    /// What was seen.
    pub(super) seen: String,
}

impl Evidence {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            self.was_cut(),
            self.ran_once(),
            self.log_is_whole(),
            self.lines_join(),
            self.is_saved_once(),
            self.text_is_same(),
        ]
    }

    fn was_cut(&self) -> Check {
        let holds = self.before.len() as u64 == self.cut_after && !self.after.is_empty();
        let seen =
            format!("{} lines before the cut, {} after it", self.before.len(), self.after.len());
        Check {
            name: "cut",
            claim: "the connection was cut in the middle of the turn",
            holds,
            seen,
        }
    }

    fn ran_once(&self) -> Check {
        let started =
            self.log.iter().filter(|logged| logged.event.kind() == "execution.started").count();
        let holds = self.runs_started == 1 && started == 1;
        let seen = format!(
            "the substrate says that it asked the agent {}, and its log holds {}",
            times(self.runs_started),
            counted(started, "execution.started")
        );
        Check { name: "ran_once", claim: "the agent ran once", holds, seen }
    }

    fn log_is_whole(&self) -> Check {
        let last = self.log.last().map_or("nothing", |logged| logged.event.kind());
        let holds = last == "execution.completed" && self.has_every_seq();
        let id =
            |logged: Option<&Logged>| logged.map(|logged| logged.id.clone()).unwrap_or_default();
        let seen = format!(
            "{} to {} without a gap, ending in {last}",
            id(self.log.first()),
            id(self.log.last())
        );
        Check { name: "log", claim: "the log is whole, from one run", holds, seen }
    }

    /// Ids are `<epoch>-<seq>`: one epoch is one run, and `seq` counts from 1 (PROTOCOL 3.1).
    fn has_every_seq(&self) -> bool {
        let Some((epoch, _)) = self.log.first().and_then(|logged| logged.id.split_once('-')) else {
            return false;
        };
        (1..).zip(&self.log).all(|(seq, logged)| logged.id == format!("{epoch}-{seq}"))
    }

    fn lines_join(&self) -> Check {
        let joined = bytes(self.before.iter().chain(&self.after));
        let undisturbed = bytes(&self.undisturbed);
        let lines = self.before.len() + self.after.len();
        let holds = joined == undisturbed
            && self.after.last().is_some_and(|last| last.kind() == "session.run.completed");
        let seen = match joined.iter().zip(&undisturbed).position(|(one, other)| one != other) {
            Some(at) => format!("they differ at byte {at}"),
            None if joined.len() == undisturbed.len() => {
                format!(
                    "{} + {} = {lines} lines, {} bytes, not one of them different",
                    self.before.len(),
                    self.after.len(),
                    joined.len()
                )
            }
            None => format!("{} bytes against {}", joined.len(), undisturbed.len()),
        };
        Check {
            name: "lines",
            claim: "the lines joined are those of a client that was not disturbed",
            holds,
            seen,
        }
    }

    fn is_saved_once(&self) -> Check {
        let roles: Vec<_> =
            self.saved.iter().map(|saved| (saved.role.as_str(), saved.status.as_str())).collect();
        let holds =
            roles == [("user", "complete"), ("assistant", "complete")] && self.saved == self.served;
        let answers = self.saved.iter().filter(|saved| saved.role == "assistant").count();
        let seen = format!(
            "{} readers of the execution came to it, the database holds {}, and the messages route {}",
            self.attempts.all(),
            counted(answers, "answer"),
            if self.saved == self.served { "says the same" } else { "says something else" }
        );
        Check { name: "saved_once", claim: "the answer was saved once", holds, seen }
    }

    fn text_is_same(&self) -> Check {
        let saved = self.answer().map(|saved| saved.text.as_str());
        let drawn = self.drawn();
        let holds = saved == Some(drawn.as_str()) && !drawn.is_empty();
        let seen = format!(
            "{} characters saved, {} drawn",
            saved.map_or(0, |text| text.chars().count()),
            drawn.chars().count()
        );
        Check { name: "text", claim: "the saved answer is the text of the lines", holds, seen }
    }

    /// What each layer did, counted.
    pub(super) fn deeds(&self) -> [(&'static str, String); 5] {
        let (logged, attempts) = (self.log.len(), self.attempts);
        let own =
            self.log.iter().filter(|logged| logged.event.kind().starts_with("execution.")).count();
        let (runs, readers) = (times(self.runs_started), attempts.all());
        let (drives, attaches) = (attempts.run + attempts.attach, attempts.attach + attempts.read);
        [
            ("agent", format!("ran {runs} and made {} events", logged - own)),
            (
                "substrate",
                format!(
                    "logged {logged} events, {own} of them its own, and served them to {readers} readers"
                ),
            ),
            (
                "adapter",
                format!(
                    "{} run, {attaches} attaches; kept the substrate's own events to itself",
                    attempts.run
                ),
            ),
            (
                "engine",
                format!(
                    "{readers} attempts: {drives} went on without its client, {} read along",
                    attempts.read
                ),
            ),
            (
                "server",
                format!("saved {} messages, the answer under its execution id", self.saved.len()),
            ),
        ]
    }

    /// The assistant's message in the database.
    pub(super) fn answer(&self) -> Option<&Saved> {
        self.saved.iter().find(|saved| saved.role == "assistant")
    }

    /// The text that the first client has put together out of its lines, over the cut.
    fn drawn(&self) -> String {
        self.before.iter().chain(&self.after).filter_map(text_delta).collect()
    }
}

/// The new text in an event, where it is a piece of the answer.
fn text_delta(event: &Event) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Update {
        part: Part,
        delta: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Part {
        #[serde(rename = "type")]
        kind: String,
    }
    if event.kind() != "message.part.updated" {
        return None;
    }
    let update: Update = event.data().ok()?;
    update.delta.filter(|_| update.part.kind == "text")
}

fn bytes<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<u8> {
    events.into_iter().flat_map(Event::as_line).copied().collect()
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("one {what}") } else { format!("{count} × {what}") }
}

#[cfg(test)]
mod tests {
    use turnkit_wire::{kind, lifecycle, write::Part};

    use super::*;

    fn text(delta: &str) -> Event {
        Part::new("p").text_delta(delta)
    }

    fn started() -> Event {
        Event::new(kind::RUN_STARTED, &serde_json::json!({ "sessionId": "s" })).unwrap()
    }

    fn saved(role: &str, text: &str) -> Saved {
        Saved { role: role.into(), text: text.into(), status: "complete".into() }
    }

    fn logged(seq: u64, event: Event) -> Logged {
        Logged { id: format!("7-{seq}"), event }
    }

    fn good() -> Evidence {
        let before = vec![started(), text("a")];
        let after = vec![text("b"), lifecycle::run_completed("s", None, false)];
        let messages = vec![saved("user", "hello"), saved("assistant", "ab")];
        let kinds =
            ["execution.started", "execution.completed"].map(|kind| Event::bare(kind).unwrap());
        let [started, completed] = kinds;
        Evidence {
            cut_after: 2,
            undisturbed: [before.clone(), after.clone()].concat(),
            before,
            after,
            runs_started: 1,
            log: vec![
                logged(1, started),
                logged(2, text("a")),
                logged(3, text("b")),
                logged(4, completed),
            ],
            served: messages.clone(),
            saved: messages,
            ..Evidence::default()
        }
    }

    /// The names of the checks that do not hold once something is not as it should be.
    fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
        let mut evidence = good();
        change(&mut evidence);
        evidence.checks().into_iter().filter(|check| !check.holds).map(|check| check.name).collect()
    }

    #[test]
    fn what_is_as_it_should_be_passes() {
        assert_eq!(broken(|_| {}), [""; 0]);
    }

    #[test]
    fn a_second_run_is_seen() {
        assert_eq!(broken(|evidence| evidence.runs_started = 2), ["ran_once"]);
        let again = |evidence: &mut Evidence| {
            evidence.log[1].event = Event::bare("execution.started").unwrap();
        };
        assert_eq!(broken(again), ["ran_once"]);
    }

    #[test]
    fn a_gap_in_the_log_and_another_epoch_are_seen() {
        assert_eq!(broken(|evidence| drop(evidence.log.remove(1))), ["log"]);
        assert_eq!(broken(|evidence| evidence.log[3].id = "8-4".into()), ["log"]);
        assert_eq!(broken(|evidence| drop(evidence.log.pop())), ["log"]);
        assert_eq!(broken(|evidence| evidence.log.clear()), ["ran_once", "log"]);
    }

    #[test]
    fn a_line_too_many_or_too_few_or_another_one_is_seen() {
        assert_eq!(broken(|evidence| evidence.after.insert(0, text("a"))), ["lines", "text"]);
        assert_eq!(broken(|evidence| drop(evidence.after.remove(0))), ["lines", "text"]);
        assert_eq!(broken(|evidence| drop(evidence.undisturbed.pop())), ["lines"]);
        assert_eq!(broken(|evidence| evidence.undisturbed[1] = text("x")), ["lines"]);
    }

    #[test]
    fn a_turn_that_was_not_cut_proves_nothing() {
        assert_eq!(broken(|evidence| evidence.cut_after = 3), ["cut"]);
    }

    #[test]
    fn an_answer_that_is_not_saved_or_saved_twice_or_another_one_is_seen() {
        let both = |evidence: &mut Evidence, change: fn(&mut Vec<Saved>)| {
            change(&mut evidence.saved);
            change(&mut evidence.served);
        };
        assert_eq!(
            broken(|evidence| both(evidence, |messages| drop(messages.pop()))),
            ["saved_once", "text"]
        );
        assert_eq!(
            broken(|evidence| both(evidence, |messages| messages.push(saved("assistant", "ab")))),
            ["saved_once"]
        );
        assert_eq!(
            broken(|evidence| both(evidence, |messages| messages[1].text = "a".into())),
            ["text"]
        );
        assert_eq!(
            broken(|evidence| both(evidence, |messages| messages[1].status = "failed".into())),
            ["saved_once"]
        );
        assert_eq!(broken(|evidence| drop(evidence.served.pop())), ["saved_once"]);
    }
}
