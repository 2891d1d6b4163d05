//! One tab: a cursor, and what it does with its connection.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::Response;
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use turnkit_wire::{Event, ndjson};

use super::api::{self, Api};
use crate::{
    history::{ClientAct, ClientId, Fact},
    net::Chunks,
    plan::{Move, Turn},
    transport,
    world::World,
};

/// How long a body may be silent; the engine says something every 15 s.
const IDLE: Duration = Duration::from_secs(20);

/// How soon it comes back after a connection that it has not closed itself.
const AGAIN: Duration = Duration::from_millis(600);

/// One client of one turn.
pub(super) struct Tab {
    world: World,
    api: Arc<Api>,
    session: Arc<str>,
    message: String,
    id: ClientId,
    moves: VecDeque<Move>,
    /// Lines since its last move.
    since: u64,
    cursor: u64,
    /// Whether it knows that the turn was accepted.
    is_accepted: bool,
}

/// How a connection ended, for the one who reads.
pub(super) enum Next {
    /// It comes back after this long.
    Again(Duration),
    /// It is done.
    Over,
}

impl Tab {
    pub(super) fn new(world: World, session: Arc<str>, turn: &Turn, id: ClientId) -> Self {
        let number = turn.id.bytes().map(u64::from).sum::<u64>() + id.tab as u64;
        Self {
            api: Arc::new(Api::new(world.clone(), number)),
            world,
            session,
            message: turn.script.message.clone(),
            moves: turn.clients.get(id.tab).cloned().unwrap_or_default().into(),
            id,
            since: 0,
            cursor: 0,
            is_accepted: false,
        }
    }

    /// One connection, to its end.
    pub(super) async fn connect(&mut self) -> Next {
        let answer = if self.is_accepted {
            self.api.resume(&self.session, &self.id.turn, self.cursor).await
        } else {
            self.api.start(&self.session, &self.id.turn, &self.message).await
        };
        match answer {
            Some(answer) if answer.status() == 200 => self.body(answer).await,
            Some(answer) => self.refused(answer).await,
            None => Next::Again(AGAIN),
        }
    }

    async fn body(&mut self, answer: Response<Chunks>) -> Next {
        if !self.is_accepted {
            self.cursor = 0;
            self.is_accepted = true;
        }
        let execution = transport::execution(answer.headers());
        self.add(ClientAct::Body { execution, after: self.cursor });
        let next = self.read(answer.into_body()).await;
        self.add(ClientAct::BodyOver);
        next
    }

    async fn read(&mut self, mut chunks: Chunks) -> Next {
        let mut lines = ndjson::Decoder::new();
        if let Some(next) = self.make_move().await {
            return next;
        }
        while let Ok(Some(Ok(chunk))) = timeout(IDLE, chunks.next()).await {
            lines.push(chunk);
            while let Some(Ok(event)) = lines.next_event() {
                if let Some(next) = self.line(event).await {
                    return next;
                }
            }
        }
        match lines.finish() {
            Some(Ok(event)) => self.line(event).await.unwrap_or(Next::Again(AGAIN)),
            _ => Next::Again(AGAIN),
        }
    }

    async fn line(&mut self, event: Event) -> Option<Next> {
        self.add(ClientAct::Line(event.clone()));
        match event.kind() {
            "session.run.completed" => return Some(Next::Over),
            "session.run.failed" => return Some(self.failed(&event)),
            "error" => return None,
            _ => {}
        }
        self.cursor += 1;
        self.since += 1;
        self.make_move().await
    }

    /// A failed attempt voids the cursor: who tries again draws anew.
    fn failed(&mut self, event: &Event) -> Next {
        #[derive(Deserialize)]
        struct Failed {
            retryable: bool,
        }
        self.is_accepted = false;
        match event.data::<Failed>() {
            Ok(Failed { retryable: true }) => Next::Again(AGAIN),
            _ => Next::Over,
        }
    }

    async fn make_move(&mut self) -> Option<Next> {
        let lines = match self.moves.front()? {
            Move::Away { lines, .. }
            | Move::Reload { lines, .. }
            | Move::Stop { lines }
            | Move::Stall { lines, .. }
            | Move::Leave { lines } => *lines,
        };
        if self.since < lines {
            return None;
        }
        self.since = 0;
        match self.moves.pop_front()? {
            Move::Away { pause, .. } => Some(Next::Again(pause)),
            Move::Reload { pause, .. } => {
                self.cursor = 0;
                Some(Next::Again(pause))
            }
            Move::Stop { .. } => self.stop(),
            Move::Stall { pause, .. } => {
                sleep(pause).await;
                None
            }
            Move::Leave { .. } => {
                self.add(ClientAct::Left);
                Some(Next::Over)
            }
        }
    }

    /// Asks until it is heard, while the body is read on.
    fn stop(&self) -> Option<Next> {
        self.add(ClientAct::AskedToStop);
        let (api, session, turn) =
            (Arc::clone(&self.api), Arc::clone(&self.session), self.id.turn.clone());
        drop(tokio::spawn(async move {
            while api.stop(&session, &turn).await.is_none() {
                sleep(AGAIN).await;
            }
        }));
        None
    }

    async fn refused(&mut self, answer: Response<Chunks>) -> Next {
        let status = answer.status().as_u16();
        let code = api::code(answer.into_body()).await;
        self.is_accepted &= code != "turn_not_found";
        self.add(ClientAct::Refused { status, code });
        Next::Again(AGAIN)
    }

    fn add(&self, act: ClientAct) {
        self.world.add(Fact::Client { client: self.id.clone(), act });
    }
}
