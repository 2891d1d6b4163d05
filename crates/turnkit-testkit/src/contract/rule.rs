//! A rule as it is checked, and what the author of a producer that breaks it reads.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures::future::{Either, select};
use turnkit::{BoxError, Event, Produced, TurnProducer};

use super::{ProducerFixture, Upstream, UpstreamEnd, hint};

/// So that a producer that never wakes fails its test rather than hanging it.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many characters of a line are shown,
const SHOWN: usize = 160;

/// from so many bytes before the first that differs.
const BEFORE: usize = 40;

/// A rule of the contract, by the name of its test.
#[derive(Clone, Copy)]
pub(super) struct Rule(pub(super) &'static str);

/// What `next` said.
enum Answer {
    Event(Event),
    Done,
    Failed(BoxError),
}

impl Rule {
    /// The producer under test.
    pub(super) async fn produce<F: ProducerFixture>(
        self,
        fixture: &mut F,
        events: &[Event],
        end: UpstreamEnd,
    ) -> F::Producer {
        let producer = fixture.produce(Upstream { events: events.to_vec(), end });
        self.in_time("before event 1", "the fixture's `produce` to end", hint::STUCK, producer)
            .await
    }

    /// Waits for the fixture to find nothing left of its dropped producer.
    pub(super) async fn take_release<F: ProducerFixture>(self, fixture: &mut F, at: &str) {
        let wanted = "the fixture's `released` to end";
        self.in_time(at, wanted, hint::LEAK, fixture.released()).await;
    }

    /// Takes the first `count` events from the producer, and compares each as it comes.
    pub(super) async fn take_events<P: TurnProducer>(
        self,
        producer: &mut P,
        sent: &[Event],
        count: usize,
    ) {
        for (index, event) in sent.iter().enumerate().take(count) {
            let wanted = excerpt(event.as_json(), 0);
            let at = at(index, sent);
            let answer = self.in_time(&at, &wanted, hint::STUCK, producer.next()).await;
            self.compare(sent, index, &answer.into());
        }
    }

    /// Wants the end that the upstream has after `taken` events.
    pub(super) async fn take_end<P: TurnProducer>(
        self,
        producer: &mut P,
        taken: usize,
        end: UpstreamEnd,
    ) {
        let at = format!("at the end, after {taken} events");
        let wanted =
            if end == UpstreamEnd::Failed { "an error that says what failed" } else { "`Done`" };
        let answer = self.in_time(&at, wanted, hint::STUCK_AT_END, producer.next()).await.into();
        let look_for = match (&answer, end) {
            (Answer::Done, UpstreamEnd::Done) => return,
            (Answer::Failed(error), UpstreamEnd::Failed) if says_something(error) => return,
            (Answer::Failed(_), UpstreamEnd::Failed) => hint::MUTE,
            (Answer::Event(_), _) => hint::GOES_ON,
            (Answer::Done, _) => hint::SWALLOWED,
            (Answer::Failed(_), _) => hint::NO_FAILURE,
        };
        self.broken(&at, wanted, &answer.to_string(), look_for)
    }

    /// Wants `came` to be the event of this index.
    fn compare(self, sent: &[Event], index: usize, came: &Answer) {
        let wanted = sent[index].as_json();
        let Answer::Event(event) = came else {
            self.broken(&at(index, sent), &excerpt(wanted, 0), &came.to_string(), hint::ENDS_EARLY)
        };
        if event.as_line() == sent[index].as_line() {
            return;
        }
        let look_for = match sent.iter().position(|other| other == event) {
            Some(place) if place > index => hint::OVERTAKES,
            Some(_) => hint::REPEATS,
            None if event.kind() == sent[index].kind() => hint::REWRITES,
            None => hint::FOREIGN,
        };
        let byte = first_difference(wanted, event.as_json());
        let at = format!("{}, byte {byte}", at(index, sent));
        self.broken(&at, &excerpt(wanted, byte), &excerpt(event.as_json(), byte), look_for)
    }

    /// What `future` gives within the time that a step has.
    pub(super) async fn in_time<T>(
        self,
        at: &str,
        wanted: &str,
        look_for: &str,
        future: impl Future<Output = T>,
    ) -> T {
        // The sleep is asked first: its own wake must not stand in for the one that the future owes.
        match select(pin!(tokio::time::sleep(PATIENCE)), pin!(future)).await {
            Either::Right((answer, _)) => answer,
            Either::Left(((), mut late)) => {
                let is_ready = poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx).is_ready())).await;
                let look_for = if is_ready { hint::NO_WAKE } else { look_for };
                let came = format!("nothing for {} s", PATIENCE.as_secs());
                self.broken(at, wanted, &came, look_for)
            }
        }
    }

    pub(super) fn broken(self, at: &str, wanted: &str, came: &str, look_for: &str) -> ! {
        let Self(rule) = self;
        panic!(
            "the producer breaks `{rule}` {at}\n  wanted: {wanted}\n  came: {came}\n  look for: {look_for}"
        )
    }
}

impl<E: Into<BoxError>> From<Result<Produced, E>> for Answer {
    fn from(answer: Result<Produced, E>) -> Self {
        match answer {
            Ok(Produced::Event(event)) => Self::Event(event),
            Ok(Produced::Done { .. }) => Self::Done,
            Err(error) => Self::Failed(error.into()),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => f.write_str(&excerpt(event.as_json(), 0)),
            Self::Done => f.write_str("`Done`"),
            Self::Failed(error) => write!(f, "the error \"{}\"", excerpt(&error.to_string(), 0)),
        }
    }
}

/// A line from shortly before a byte of it, cut.
fn excerpt(line: &str, byte: usize) -> String {
    let mut places = line.char_indices().map(|(at, _)| at).skip_while(|at| at + BEFORE < byte);
    let from = places.next().unwrap_or(line.len());
    let to = places.nth(SHOWN - 1).unwrap_or(line.len());
    let cut = |is_cut| if is_cut { "…" } else { "" };
    format!("{}{}{}", cut(from > 0), &line[from..to], cut(to < line.len()))
}

fn at(index: usize, sent: &[Event]) -> String {
    format!("at event {} of {}", index + 1, sent.len())
}

fn says_something(error: &BoxError) -> bool {
    !error.to_string().trim().is_empty()
}

fn first_difference(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_from_shortly_before_what_is_wrong() {
        let line = "é".repeat(1_000);
        assert_eq!(excerpt(&line, 0), format!("{}…", "é".repeat(SHOWN)));
        assert_eq!(excerpt(&line, 1_001), format!("…{}…", "é".repeat(SHOWN)));
        assert_eq!(excerpt(&line, 2_000), format!("…{}", "é".repeat(BEFORE / 2)));
        assert_eq!(excerpt("short", 5), "short");
    }
}
