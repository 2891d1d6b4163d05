//! One tab: a turn that it follows, and what it does with its connection.

use std::{collections::VecDeque, time::Duration};

use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};
use turnkit_client::{
    Client, Error, NewTurn, TurnBody,
    follow::{Answer, End, Follow, Policy, Request, Step, Verdict},
};
use turnkit_id::ExecutionId;

use super::is_late;
use crate::{
    history::{ClientAct, ClientId, Fact},
    plan::{Move, Turn},
    world::World,
};

/// How soon it begins anew where its turn was refused: the one before it is still open.
const AGAIN: Duration = Duration::from_millis(600);

/// One client of one turn.
pub(super) struct Tab {
    world: World,
    client: Client,
    session: String,
    turn: NewTurn,
    id: ClientId,
    moves: VecDeque<Move>,
    /// Events since its last move.
    since: u64,
    follow: Follow,
    jitter: Rng,
    began: Instant,
    body: Option<TurnBody>,
    has_left: bool,
    /// The conversation, or the turn that waited, is not there any more.
    is_gone: bool,
}

impl Tab {
    pub(super) fn new(
        world: World,
        client: Client,
        session: &str,
        turn: &Turn,
        waits: bool,
        id: ClientId,
    ) -> Self {
        let new = NewTurn::new(&turn.id, &turn.script.message);
        Self {
            jitter: Rng::with_seed(world.plan().seed ^ number(&id)),
            world,
            client,
            session: session.to_owned(),
            turn: if waits { new.queued() } else { new },
            moves: turn.clients.get(id.tab).cloned().unwrap_or_default().into(),
            id,
            since: 0,
            follow: begin(),
            began: Instant::now(),
            body: None,
            has_left: false,
            is_gone: false,
        }
    }

    /// Follows the turn until it is done with it, or until it is too late.
    pub(super) async fn follow(mut self) {
        while !is_late(&self.world) {
            match self.follow.step() {
                Step::Send(request) => self.ask(request).await,
                Step::Read => self.read().await,
                Step::WaitUntil(until) => {
                    sleep_until(self.began + until).await;
                    self.follow.tick(self.began.elapsed());
                }
                Step::End(End::Completed { .. } | End::Failed) => return,
                Step::End(End::Refused) if self.is_gone => return,
                Step::End(End::Refused) => {
                    sleep(AGAIN).await;
                    self.follow = begin();
                }
                Step::End(End::Unreadable | End::GivenUp) => break,
            }
            if self.has_left {
                return;
            }
        }
        self.add(ClientAct::GaveUp);
    }

    async fn ask(&mut self, request: Request) {
        let answer = match request {
            Request::Start => self.client.start(&self.session, &self.turn).await,
            Request::Resume { after } => {
                self.client.resume(&self.session, self.turn.turn_id(), after).await
            }
        };
        let (now, spread) = (self.began.elapsed(), self.jitter.f64());
        match answer {
            Ok(body) => {
                self.follow.answered(Answer::Body, now, spread);
                let execution = body.execution_id().and_then(|id| ExecutionId::parse(id).ok());
                self.add(ClientAct::Body { execution, after: self.follow.cursor() });
                self.body = Some(body);
                self.make_move().await;
            }
            Err(error) => {
                if let Error::Refused(refusal) = &error {
                    let (status, code) = (refusal.status(), refusal.code().to_owned());
                    self.is_gone = matches!(&*code, "session_not_found" | "turn_removed");
                    self.add(ClientAct::Refused { status, code });
                }
                match error.answer() {
                    Some(answer) => self.follow.answered(answer, now, spread),
                    None => self.follow.lost(now, spread),
                }
            }
        }
    }

    /// One line of the body, or its end.
    async fn read(&mut self) {
        let line = match &mut self.body {
            Some(body) => body.next().await,
            None => Ok(None),
        };
        let (now, spread) = (self.began.elapsed(), self.jitter.f64());
        match line {
            Ok(Some(event)) => {
                self.add(ClientAct::Line(event.clone()));
                match self.follow.event(&event, now, spread) {
                    Verdict::Taken | Verdict::Replay => {
                        self.since += 1;
                        self.make_move().await;
                    }
                    Verdict::Held => {}
                    Verdict::Restart | Verdict::End => self.close(),
                }
            }
            Err(Error::Line(_)) => self.follow.unreadable(),
            Ok(None) | Err(_) => {
                self.close();
                self.follow.lost(now, spread);
            }
        }
    }

    fn close(&mut self) {
        if self.body.take().is_some() {
            self.add(ClientAct::BodyOver);
        }
    }

    async fn make_move(&mut self) {
        let lines = match self.moves.front() {
            None => return,
            Some(
                Move::Away { lines, .. }
                | Move::Reload { lines, .. }
                | Move::Stop { lines }
                | Move::Stall { lines, .. }
                | Move::Leave { lines },
            ) => *lines,
        };
        if self.since < lines {
            return;
        }
        self.since = 0;
        match self.moves.pop_front() {
            Some(Move::Away { pause, .. }) => {
                self.close();
                self.follow.reconnect();
                sleep(pause).await;
            }
            Some(Move::Reload { pause, .. }) => {
                self.close();
                self.follow.reload();
                sleep(pause).await;
            }
            Some(Move::Stall { pause, .. }) => sleep(pause).await,
            Some(Move::Stop { .. }) => self.stop(),
            Some(Move::Leave { .. }) => {
                self.add(ClientAct::Left);
                self.close();
                self.has_left = true;
            }
            None => {}
        }
    }

    /// Asks until it is heard, while the body is read on.
    fn stop(&self) {
        self.add(ClientAct::AskedToStop);
        if let Ok(turn) = self.client.follow(&self.session, self.turn.turn_id(), 0) {
            drop(tokio::spawn(turn.cancel()));
        }
    }

    fn add(&self, act: ClientAct) {
        self.world.add(Fact::Client { client: self.id.clone(), act });
    }
}

fn begin() -> Follow {
    Follow::start(Policy::with_patience(Duration::MAX))
}

/// Tells the clients of a world from each other.
pub(super) fn number(id: &ClientId) -> u64 {
    id.turn.bytes().map(u64::from).sum::<u64>() + id.tab as u64
}
