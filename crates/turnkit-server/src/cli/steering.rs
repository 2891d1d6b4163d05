//! What is typed while a turn runs: it goes into the turn where its agent takes that, and otherwise becomes a turn behind it.

use std::collections::{HashSet, VecDeque};

use futures_util::future::BoxFuture;
use turnkit_client::{AgentTakes, Client, Error, NewTurn, Turn, Update};
use turnkit_wire::kind;
use turnkit_wire::value::Value;
use uuid::Uuid;

/// The lines of one chat.
pub(super) struct Steering {
    client: Client,
    session: String,
    agent: Option<String>,
    takes: Takes,
    /// Not sent yet.
    typed: VecDeque<Said>,
    sending: Option<BoxFuture<'static, Sent>>,
    /// Sent, in their order. Those that the agent has not had become turns, or are such.
    sent: Vec<Said>,
    /// The ids of all that an agent is not known to have.
    untaken: HashSet<String>,
}

/// Something to be told.
pub(super) enum News {
    /// What the agent takes, once.
    Takes(AgentTakes),
    /// What became of a line, in words.
    Told(String),
}

/// What the agent takes.
enum Takes {
    Unknown,
    Asked(BoxFuture<'static, AgentTakes>),
    Known(AgentTakes),
}

/// A line.
#[derive(Clone)]
struct Said {
    id: String,
    message: String,
}

/// What became of a line.
enum Sent {
    /// It is in the turn.
    Into(Said),
    /// It is a turn of its own.
    Behind(Said),
    /// It is to be one: nothing can go into the turn any more, or ever could.
    TooLate(Said),
    Refused(String),
}

impl Steering {
    pub(super) fn new(client: Client, session: String, agent: Option<String>) -> Steering {
        let takes = Takes::Unknown;
        let (typed, sending, sent) = (VecDeque::new(), None, Vec::new());
        let untaken = HashSet::new();
        Steering { client, session, agent, takes, typed, sending, sent, untaken }
    }

    /// Asks what the agent takes, once that matters.
    pub(super) fn ask(&mut self) {
        if !matches!(self.takes, Takes::Unknown) {
            return;
        }
        let (client, name) = (self.client.clone(), self.agent.clone());
        self.takes = Takes::Asked(Box::pin(async move {
            let Ok(agents) = client.agents().await else {
                // Whoever is asked in vain is told so by the answer's refusal.
                let mut takes = AgentTakes::default();
                takes.answers = true;
                return takes;
            };
            let name = name.or(agents.default);
            let agent = agents.agents.into_iter().find(|agent| Some(&agent.name) == name.as_ref());
            agent.map(|agent| agent.takes).unwrap_or_default()
        }));
    }

    /// Takes a line that was typed.
    pub(super) fn say(&mut self, message: String) {
        let id = Uuid::new_v4().to_string();
        self.untaken.insert(id.clone());
        self.ask();
        self.typed.push_back(Said { id, message });
    }

    /// Sees what happens to the turn: its agent has an input. A replay tells no other ones.
    pub(super) fn see(&mut self, update: &Update) {
        let Update::Event { event, cursor } = update else { return };
        if event.kind() == kind::INPUT_TAKEN || (event.kind() == kind::INPUT && *cursor == 0) {
            let id = Value::of(event).get("id").and_then(Value::string);
            id.map(|id| self.untaken.remove(&*id.to_str()));
        }
    }

    /// Sends the next line on its way, if there is one and none is before it.
    pub(super) fn send(&mut self, turn: &Turn) {
        let Takes::Known(takes) = self.takes else { return };
        if self.sending.is_some() {
            return;
        }
        let Some(said) = self.typed.pop_front() else { return };
        self.sending = Some(if takes.input {
            let asking = turn.input(&said.id, &said.message);
            Box::pin(async move {
                match asking.await {
                    Ok(()) => Sent::Into(said),
                    Err(Error::Refused(refusal)) if matches!(refusal.status(), 409 | 410) => {
                        Sent::TooLate(said)
                    }
                    Err(error) => Sent::Refused(error.to_string()),
                }
            })
        } else {
            self.behind(said)
        });
    }

    /// Lets a line wait as a turn of its own.
    fn behind(&self, said: Said) -> BoxFuture<'static, Sent> {
        let (client, session, turn) = (self.client.clone(), self.session.clone(), self.turn(&said));
        Box::pin(async move {
            match client.start(&session, &turn).await {
                Err(Error::Refused(refusal)) if !refusal.is_transient() => {
                    Sent::Refused(refusal.message().to_owned())
                }
                // Where nothing was heard of it, it is sent again when its turn has come.
                _ => Sent::Behind(said),
            }
        })
    }

    fn turn(&self, said: &Said) -> NewTurn {
        let turn = NewTurn::new(&*said.id, &*said.message).queued();
        self.agent.iter().fold(turn, NewTurn::agent)
    }

    /// Waits for something to be told. Dropping the future loses nothing.
    pub(super) async fn news(&mut self) -> News {
        match &mut self.takes {
            Takes::Asked(asked) => {
                let takes = asked.await;
                self.takes = Takes::Known(takes);
                News::Takes(takes)
            }
            // Nothing is sent before that is known.
            Takes::Unknown | Takes::Known(_) => match self.told().await {
                Some(told) => News::Told(told),
                None => std::future::pending().await,
            },
        }
    }

    /// What became of the line that was sent, in words; none where none was. Dropping the future loses nothing.
    pub(super) async fn told(&mut self) -> Option<String> {
        loop {
            let sent = self.sending.as_mut()?.await;
            self.sending = None;
            match sent {
                // It is told by the turn itself.
                Sent::Into(said) => {
                    self.sent.push(said);
                    return Some("sent into the turn".to_owned());
                }
                Sent::Behind(said) => {
                    self.sent.push(said);
                    return Some("waits behind this turn".to_owned());
                }
                Sent::TooLate(said) => self.sending = Some(self.behind(said)),
                Sent::Refused(why) => return Some(why),
            }
        }
    }

    /// The next turn that a line has become, and the line.
    pub(super) fn next(&mut self) -> Option<(NewTurn, String)> {
        self.sent.retain(|said| self.untaken.contains(&said.id));
        let said = if self.sent.is_empty() { self.typed.pop_front()? } else { self.sent.remove(0) };
        Some((self.turn(&said), said.message))
    }
}
