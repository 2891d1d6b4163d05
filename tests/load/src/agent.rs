//! The agent under load: each of its events says when it was made.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{Stream, StreamExt as _};
use memchr::memmem;
use turnkit_agent::{Agent, AgentError, Run, Takes};
use turnkit_agents::demo::Demo;
use turnkit_wire::Event;

/// The demo agent, with a last member in each event: the moment at which it was made, in Unix microseconds.
pub(crate) struct Dated {
    pub(crate) demo: Demo,
    /// Whether it waits for answers to what it asks.
    pub(crate) asks: bool,
}

const MEMBER: &str = r#","sentAt":"#;

impl Agent for Dated {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        self.demo.run(run).map(|event| {
            Event::from_bytes(dated(event?.as_json()).into())
                .map_err(|error| AgentError::new("load_failed", error.to_string()))
        })
    }

    fn takes(&self) -> Takes {
        if self.asks { self.demo.takes() } else { Takes::default() }
    }
}

/// The JSON of an event, with that member.
pub(crate) fn dated(json: &str) -> String {
    format!("{}{MEMBER}{}}}", json.strip_suffix('}').unwrap_or_default(), unix_micros())
}

/// How old an event of this agent is, in microseconds. None for one that is not the agent's.
pub(crate) fn age(event: &Event) -> Option<u32> {
    let now = unix_micros();
    let json = event.as_json();
    let at = memmem::rfind(json.as_bytes(), MEMBER.as_bytes())? + MEMBER.len();
    let made: u64 = json.get(at..)?.strip_suffix('}')?.parse().ok()?;
    Some(u32::try_from(now.saturating_sub(made)).unwrap_or(u32::MAX))
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use turnkit_wire::write::Part;

    use super::*;

    #[test]
    fn an_event_says_when_it_was_made_and_is_else_the_same() {
        let event = Part::new("p").text_delta(r#"a word,"sentAt":1}"#);
        assert_eq!(age(&event), None, "what an agent says is no moment");
        let dated = Event::from_bytes(dated(event.as_json()).into()).unwrap();
        let (same, _) = dated.as_json().rsplit_once(MEMBER).unwrap();
        assert_eq!(format!("{same}}}"), event.as_json());
        assert_ne!(age(&dated), Some(u32::MAX));
    }
}
