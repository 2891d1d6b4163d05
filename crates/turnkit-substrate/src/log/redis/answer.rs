//! What Redis answers, read.

use std::{slice, str};

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, RedisError, Value};
use thiserror::Error;

use super::name::Name;
use crate::{
    Cursor, EventId,
    log::{AppendError, Ending, Fingerprint, LogError, Position, State, Status},
};

/// What a script answers: a word, and what goes with it.
pub(super) struct Answer(Vec<Bytes>);

impl FromRedisValue for Answer {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        Vec::from_redis_value(value).map(Self)
    }
}

impl Answer {
    pub(super) fn bytes(&self, at: usize) -> Result<&Bytes, StoreError> {
        self.0.get(at).ok_or_else(|| self.unknown())
    }

    pub(super) fn text(&self, at: usize) -> Result<&str, StoreError> {
        str::from_utf8(self.bytes(at)?).map_err(|_| self.unknown())
    }

    pub(super) fn word(&self) -> Result<&str, StoreError> {
        self.text(0)
    }

    pub(super) fn number(&self, at: usize) -> Result<u64, StoreError> {
        self.text(at)?.parse().map_err(|_| self.unknown())
    }

    pub(super) fn origin(&self) -> Result<Origin, StoreError> {
        Ok(Origin { fingerprint: self.fingerprint()?, bound_at: self.number(2)? })
    }

    /// Empty where the execution was bound without a body.
    fn fingerprint(&self) -> Result<Option<Fingerprint>, StoreError> {
        let bytes = self.bytes(1)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let print = <[u8; 32]>::try_from(&bytes[..]).map_err(|_| self.unknown())?;
        Ok(Some(Fingerprint(print)))
    }

    pub(super) fn name(&self, at: usize) -> Result<Name, StoreError> {
        Name::parse(self.text(at)?).ok_or_else(|| self.unknown())
    }

    pub(super) fn names(&self) -> Result<Vec<Name>, StoreError> {
        (0..self.0.len()).map(|at| self.name(at)).collect()
    }

    pub(super) fn items(&self) -> slice::Iter<'_, Bytes> {
        self.0.iter()
    }

    /// Says the first word alone: what follows may be a user's.
    pub(super) fn unknown(&self) -> StoreError {
        let word = self.0.first().map(|word| word.slice(..word.len().min(32)));
        StoreError::Answer(format!("{:?}", word.unwrap_or_default()))
    }
}

/// What tells a log from another one under the same id.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) fingerprint: Option<Fingerprint>,
    /// In Unix milliseconds.
    pub(super) bound_at: u64,
}

/// From which event on a log has which epoch, the first one first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Epochs(Vec<EventId>);

impl Epochs {
    /// Out of `<epoch>:<first event>,…`.
    pub(super) fn parse(text: Option<String>) -> Result<Self, StoreError> {
        let text = text.unwrap_or_default();
        let parse = |entry: &str| {
            let (epoch, first) = entry.split_once(':')?;
            Some(EventId { epoch: epoch.parse().ok()?, seq: first.parse().ok()? })
        };
        let epochs: Option<Vec<_>> = text.split(',').map(parse).collect();
        epochs.map(Self).ok_or(StoreError::Answer(text))
    }

    pub(super) fn of(&self, seq: u64) -> u64 {
        let epoch = self.0.iter().rev().find(|from| from.seq <= seq);
        epoch.map_or(0, |from| from.epoch)
    }

    /// Where `cursor` stands in a log of this `status`.
    pub(super) fn locate(&self, cursor: Cursor, status: &Status) -> Position {
        match cursor {
            Cursor::Start => Position::After(0),
            Cursor::After(id) => {
                let held = (1..=status.last.seq).contains(&id.seq) && self.of(id.seq) == id.epoch;
                let at_end = id.seq == status.last.seq && status.state != State::Running;
                match (held, at_end) {
                    (false, _) => Position::NotHeld,
                    (true, true) => Position::AtEnd,
                    (true, false) => Position::After(id.seq),
                }
            }
        }
    }
}

pub(super) fn parse_state(state: &str) -> Result<State, StoreError> {
    let states = [
        State::Running,
        State::Ended(Ending::Completed),
        State::Ended(Ending::Failed),
        State::Ended(Ending::Cancelled),
    ];
    let known = states.into_iter().find(|known| known.as_str() == state);
    known.ok_or_else(|| StoreError::Answer(state.to_owned()))
}

pub(super) fn number(text: Option<String>) -> Result<u64, StoreError> {
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| StoreError::Answer(text))
}

/// Why Redis gave no answer that is one.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    /// Not its source: it says what lies behind it by itself.
    #[error("{0}{hint}", hint = hint(.0))]
    Redis(RedisError),
    /// What is published is not heard.
    #[error("Redis takes what is published, and does not pass it on to subscribers")]
    Deaf,
    #[error("Redis answers what no script of this version gives: {0}")]
    Answer(String),
    /// The execution is not there any more.
    #[error("the execution's events are gone")]
    Gone,
    /// Redis has fewer events than it had said to have stored.
    #[error("Redis has lost events of this execution")]
    LostEvents,
}

/// What the words of Redis mean to whoever set it up.
fn hint(error: &RedisError) -> &'static str {
    // What a script may not do is told in words alone.
    let is_of_script =
        error.detail().is_some_and(|words| words.contains("user executing the script"));
    match error.code() {
        code if is_of_script || code == Some("NOPERM") => {
            ". The user of the URL needs scripts, publish and subscribe, and all keys and channels that begin with the log's prefix: \
             +@all ~{turnkit}:* &{turnkit}:*"
        }
        Some("MOVED" | "ASK" | "CLUSTERDOWN") => {
            ". A log lies in one slot of a cluster: name the node that has it, or a Redis that is no cluster"
        }
        Some("READONLY") => ". It is a replica: name its primary",
        _ => "",
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<StoreError> for LogError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Gone => Self::Expired,
            error => Self::Store(Box::new(error)),
        }
    }
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}
