//! Clients with cursors: they send, follow, leave and come back, stop, and queue; and they remember all that they were told.

use std::{
    collections::BTreeSet,
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use turnkit_client::{Client, Error, NewTurn, SessionState, Turn, Update};

use crate::agent::run_of;

/// What one client was told of one turn.
pub(crate) struct History {
    pub(crate) session: String,
    pub(crate) turn_id: String,
    /// The words that stood there in the end.
    pub(crate) drawn: String,
    /// The runs of the agent that any drawn word was of.
    pub(crate) runs: BTreeSet<String>,
    pub(crate) end: End,
    /// Whether a stop was asked for.
    pub(crate) was_stopped: bool,
    /// Whether it was sent without waiting behind others, when all that came before it had ended.
    pub(crate) was_alone: bool,
}

impl History {
    /// Whether the client knows that the turn has ended.
    fn has_ended(&self) -> bool {
        matches!(self.end, End::Completed | End::Failed(_))
    }
}

/// How a turn ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told that the answer is saved.
    Completed,
    /// It was told that there is no whole one, with this code.
    Failed(String),
    /// Its attempts failed as often as a client bears: what becomes of it is open.
    GivenUp(String),
    /// It was refused.
    Refused(String),
    /// Its client left, and did not come back.
    Left,
}

impl End {
    /// In a table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Completed => "completed".to_owned(),
            Self::Failed(code) => format!("failed: {code}"),
            Self::GivenUp(code) => format!("given up: {code}"),
            Self::Refused(code) => format!("refused: {code}"),
            Self::Left => "left alone".to_owned(),
        }
    }
}

/// Sends turns in a session of its own until `until`, and counts those that have ended for it.
pub(crate) async fn run(
    url: String,
    seed: u64,
    until: Instant,
    ended: Arc<AtomicUsize>,
) -> Result<Vec<History>> {
    let client = Client::builder(url).build()?;
    let mut rng = Rng::with_seed(seed);
    let mut histories = Vec::new();
    let Some(session) = session(&client, until).await else {
        return Ok(histories);
    };
    // Whether all turns that were sent have ended, as far as was told.
    let mut is_alone = true;
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let message = format!("message {number} of {seed}");
        let mut turn = NewTurn::new(format!("turn-{number}"), &message);
        let behind =
            (rng.u8(..) < 40).then(|| NewTurn::new(format!("turn-{number}b"), &message).queued());
        if !is_alone {
            turn = turn.queued();
        }
        let sent = client.send(&session, &turn)?;
        let first = follow(&client, sent, is_alone, &mut rng, behind.as_ref()).await?;
        is_alone = first.has_ended();
        let is_paused = first.was_stopped;
        histories.push(first);
        ended.fetch_add(1, Ordering::Relaxed);
        // A stop pauses what waits, until something new is sent.
        is_alone &= !(is_paused && behind.is_some());
        if let Some(behind) = behind.filter(|_| !is_paused) {
            let sent = client.send(&session, &behind)?;
            let second = follow(&client, sent, false, &mut rng, None).await?;
            is_alone = second.has_ended() && !second.was_stopped;
            histories.push(second);
            ended.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(rng.u64(0..500))).await;
    }
    Ok(histories)
}

/// A session, however often it takes: a lost answer has made another one, which stays empty.
async fn session(client: &Client, until: Instant) -> Option<String> {
    while Instant::now() < until {
        if let Ok(session) = client.create_session().await {
            return Some(session);
        }
        sleep(Duration::from_millis(200)).await;
    }
    None
}

/// Follows a turn, as somebody does who may leave, come back, never come back or press Stop. A turn `behind` it is sent once this one runs.
async fn follow(
    client: &Client,
    mut turn: Turn,
    was_alone: bool,
    rng: &mut Rng,
    behind: Option<&NewTurn>,
) -> Result<History> {
    let mut history = History {
        session: turn.session().to_owned(),
        turn_id: turn.turn_id().to_owned(),
        drawn: String::new(),
        runs: BTreeSet::new(),
        end: End::Left,
        was_stopped: false,
        was_alone,
    };
    let (leaves, stops, never_returns) = (rng.u8(..) < 80, rng.u8(..) < 25, rng.u8(..) < 25);
    let patience = Duration::from_millis(rng.u64(100..2_500));
    let mut interrupt_at = (leaves || stops || never_returns).then(|| Instant::now() + patience);
    let (mut is_known, mut stopping, mut queued) = (false, None, None);
    loop {
        let update = match interrupt_at {
            None => turn.next().await,
            Some(at) => match timeout_at(at, turn.next()).await {
                Ok(update) => update,
                // Who has not been answered does not know that there is a turn, and goes on asking.
                Err(_) if !is_known => {
                    interrupt_at = None;
                    continue;
                }
                Err(_) => {
                    interrupt_at = None;
                    if stops {
                        history.was_stopped = true;
                        stopping = Some(tokio::spawn(turn.cancel()));
                    } else if never_returns {
                        return Ok(history);
                    } else {
                        let cursor = turn.cursor();
                        drop(turn);
                        sleep(Duration::from_millis(rng.u64(0..1_500))).await;
                        turn = client.follow(&history.session, &history.turn_id, cursor)?;
                    }
                    continue;
                }
            },
        };
        match update {
            Ok(Some(Update::Connected { cursor, .. })) => {
                is_known = true;
                if cursor == 0 {
                    history.drawn.clear();
                }
            }
            Ok(Some(Update::Event { event, .. })) => {
                let line: serde_json::Value = serde_json::from_str(event.as_json())?;
                let part = &line["data"]["part"];
                if part["type"] == "text" {
                    let text = line["data"]["delta"].as_str().or(part["text"].as_str());
                    history.drawn.push_str(text.context("a text part without text")?);
                    history.runs.extend(run_of(&history.drawn).map(str::to_owned));
                }
                // While it runs: what is sent now has to wait.
                if let Some(behind) = behind.filter(|_| queued.is_none()) {
                    let mut sent = client.send(&history.session, behind)?;
                    queued = Some(tokio::spawn(async move {
                        timeout(Duration::from_millis(200), sent.next()).await.ok();
                    }));
                }
            }
            Ok(Some(Update::Completed { .. })) => history.end = End::Completed,
            Ok(Some(Update::Failed { failure, .. })) => {
                let code = failure.code.unwrap_or_default();
                let end = if failure.retryable { End::GivenUp } else { End::Failed };
                history.end = end(code);
            }
            Ok(Some(Update::Queued { .. })) => is_known = true,
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(Error::Refused(refusal)) => {
                history.end = End::Refused(refusal.code().to_owned());
                break;
            }
            Err(Error::Failed(failure)) => {
                history.end = End::GivenUp(failure.code.unwrap_or_default());
                break;
            }
            Err(error) => {
                history.end = End::Refused(error.code().to_owned());
                break;
            }
        }
    }
    if let Some(stopping) = mem::take(&mut stopping) {
        // What it was answered does not matter: the turn says how it ended.
        timeout(Duration::from_secs(30), stopping).await.ok();
    }
    Ok(history)
}

/// A session at rest: asked until nothing is open, for `patience` at most.
pub(crate) async fn at_rest(
    client: &Client,
    session: &str,
    patience: Duration,
) -> Result<SessionState> {
    let until = Instant::now() + patience;
    loop {
        match client.session(session, None).await {
            Ok(state) if state.turns.is_empty() || Instant::now() >= until => return Ok(state),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            _ => sleep(Duration::from_millis(250)).await,
        }
    }
}
