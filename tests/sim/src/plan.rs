//! What a seed stands for: who talks about what, and which faults strike when.

use std::{fmt, ops::Range, time::Duration};

use fastrand::Rng;

use crate::script::Script;

/// The parties of a world, as names of hosts.
pub(crate) mod host {
    /// The substrate's node.
    pub(crate) const SUBSTRATE: &str = "substrate";
    /// The product's workers; the second one is there in some worlds.
    pub(crate) const WORKERS: [&str; 2] = ["worker-0", "worker-1"];
    /// All clients.
    pub(crate) const CLIENTS: &str = "clients";
    /// The raw client of the substrate.
    pub(crate) const WATCHER: &str = "watcher";
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// A client to the product.
    Product,
    /// The product's adapter to the substrate.
    Substrate,
    /// The raw watcher to the substrate.
    Watch,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Product => "client → product",
            Self::Substrate => "product → substrate",
            Self::Watch => "watcher → substrate",
        })
    }
}

/// A world, drawn from its seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The seed that it was drawn from.
    pub seed: u64,
    /// How many workers the product has.
    pub workers: usize,
    /// The conversations, each a row of turns.
    pub sessions: Vec<Vec<Turn>>,
    /// What happens in each of them beside that.
    pub besides: Vec<Beside>,
    /// Faults of hosts and of the network between them, in order of time.
    pub faults: Vec<Scheduled>,
    /// How many connections of a thousand meet a fault of their own.
    pub fault_rate: u32,
    /// The slowest message.
    pub latency: Duration,
    /// The longest that one access to the database or to the log takes.
    pub pause: Duration,
    /// How many of a thousand writes to the database are carried out seconds later, half of them when nobody waits any more.
    pub late_writes: u32,
    /// How many of a thousand reads find the database busy, beside those that do in every world.
    pub busy_reads: u32,
    /// How many of a thousand writes do: none in worlds that are drawn.
    pub busy_writes: u32,
    /// From here on nothing goes wrong any more.
    pub calm_at: Duration,
}

/// One user's message, and the clients that look at its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The id that the client gives it.
    pub id: String,
    /// What the agent will do.
    pub script: Script,
    /// Its clients. The first one starts it.
    pub clients: Vec<Vec<Move>>,
    /// What its agent asks, in this order.
    pub asks: Vec<Asked>,
    /// What is said into it while it runs.
    pub inputs: Vec<Said>,
}

/// A message into a running turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its id.
    pub id: String,
    /// What it says, and what the agent does about it where it becomes a turn of its own.
    pub script: Script,
    /// Who sends it, each from a device of their own: how long after they have seen the turn run.
    pub senders: Vec<Duration>,
}

/// What happens in a conversation beside its row of turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// Turns that are sent to wait behind what is open.
    pub queued: Vec<Queued>,
    /// When the conversation is deleted, from the device of each of these.
    pub deleted: Vec<Duration>,
    /// What the agent does for the turns that resume a queue which a stop has paused.
    pub resuming: Script,
}

/// A turn that is sent to wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// The turn.
    pub turn: Turn,
    /// When it is sent, after the beginning of the conversation.
    pub at: Duration,
    /// What is to become of it while it waits, and how long after it was seen to.
    pub change: Option<(Duration, Change)>,
}

/// What is to become of a turn that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It says something else, and the agent does this about it.
    Edit(Script),
    /// It never runs.
    Remove,
}

/// A question of the agent's, and those who answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its id.
    pub id: String,
    /// After how many of the script's steps it is asked.
    pub after: usize,
    /// How long it can be answered.
    pub lasts: Duration,
    /// Who answers it, each from a device of their own.
    pub answers: Vec<Given>,
}

/// What somebody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// How long after they have seen the question.
    pub wait: Duration,
    /// Yes or no.
    pub yes: bool,
    /// Whether they send it a second time, whatever they were told.
    pub twice: bool,
}

/// Something that a client does on its own account while it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// After this many more lines it closes the connection, and comes back with its cursor.
    Away {
        /// Lines until then.
        lines: u64,
        /// How long it is away.
        pause: Duration,
    },
    /// The same, but what it has drawn is lost (a reload): it comes back without a cursor.
    Reload {
        /// Lines until then.
        lines: u64,
        /// How long it is away.
        pause: Duration,
    },
    /// After this many more lines it asks to stop the turn, and reads on.
    Stop {
        /// Lines until then.
        lines: u64,
    },
    /// After this many more lines it reads nothing for a while.
    Stall {
        /// Lines until then.
        lines: u64,
        /// How long.
        pause: Duration,
    },
    /// After this many more lines it leaves and never comes back.
    Leave {
        /// Lines until then.
        lines: u64,
    },
}

/// A fault that strikes at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// When.
    pub at: Duration,
    /// What.
    pub fault: HostFault,
}

/// A fault of a host, or of the network between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// A worker of the product is killed, and started again.
    KillWorker {
        /// Which one.
        worker: usize,
        /// How long it is down.
        down: Duration,
    },
    /// The substrate's node is killed, and started again with the same log, in which its runs are taken for lost after
    /// `unnoticed`.
    KillNode {
        /// How long it is down.
        down: Duration,
        /// How long its runs' leases outlast its restart.
        unnoticed: Duration,
    },
    /// The substrate's node is killed together with its log, and started again with an empty one.
    LoseLog {
        /// How long it is down.
        down: Duration,
    },
    /// The runs of the substrate's node are taken from it while it lives: it hangs, and others have waited for long enough. After
    /// `unnoticed` they are told as lost.
    Fence {
        /// How long nobody says so.
        unnoticed: Duration,
    },
    /// Everything between two hosts is held back, then delivered.
    Hold {
        /// Between whom.
        between: (&'static str, &'static str),
        /// How long.
        lasts: Duration,
    },
    /// Everything between two hosts is dropped without a word: connections are half-open after it.
    Partition {
        /// Between whom.
        between: (&'static str, &'static str),
        /// How long.
        lasts: Duration,
    },
}

/// A fault of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionFault {
    /// Reset when this many bytes of the answer were read.
    CutAnswer(u64),
    /// The answer's body ends, as if it were whole, when this many bytes of the answer were read.
    EndAnswer(u64),
    /// Reset when this many bytes of the request were written.
    CutRequest(u64),
    /// When this many bytes of the answer were read, nothing more comes for a while.
    StallAnswer(u64, Duration),
    /// The request leaves late.
    Late(Duration),
    /// The request is sent a second time, after a while, over a connection of its own; its answer goes nowhere.
    Twice(Duration),
    /// The answer comes in pieces of at most this many bytes.
    Pieces(usize),
}

impl ConnectionFault {
    /// Its kind, for counting.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CutAnswer(_) => "answer cut at a byte",
            Self::EndAnswer(_) => "answer ended early",
            Self::CutRequest(_) => "request cut at a byte",
            Self::StallAnswer(..) => "answer stalled",
            Self::Late(_) => "request late",
            Self::Twice(_) => "request sent twice",
            Self::Pieces(_) => "answer in pieces",
        }
    }
}

impl HostFault {
    /// Its kind, for counting.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::KillWorker { .. } => "product worker killed",
            Self::KillNode { .. } => "substrate node killed",
            Self::LoseLog { .. } => "substrate log lost",
            Self::Fence { .. } => "substrate's runs fenced off",
            Self::Hold { .. } => "messages held back",
            Self::Partition { .. } => "messages dropped",
        }
    }
}

impl Plan {
    /// Draws a world from `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let workers = 1 + usize::from(rng.u8(..4) == 0);
        let calm_at = within(&mut rng, 4_000..14_000);
        // Drawn apart, so that all else is as it was before there was any; and mostly where two workers can meet. By the factor, worlds
        // that once broke a promise stay as they were.
        let mut troubles = Rng::with_seed(seed ^ GOLDEN.wrapping_mul(244));
        let is_troubled = troubles.usize(..4) < [1, 3][workers - 1];
        let mut sessions = sessions(&mut rng);
        // Drawn apart as well.
        let mut asking = Rng::with_seed(seed ^ GOLDEN.wrapping_mul(245));
        for turn in sessions.iter_mut().flatten() {
            turn.asks = asks(&mut asking, turn);
        }
        let mut faults = faults(&mut rng, workers, calm_at);
        // And so is what happens beside all that, in a part of the worlds.
        let mut beside = Rng::with_seed(seed ^ GOLDEN.wrapping_mul(BESIDE));
        let is_full = beside.u8(..3) == 0;
        let besides = (0..sessions.len()).map(|session| besides(&mut beside, session, is_full));
        let besides = besides.collect();
        if is_full {
            for turn in sessions.iter_mut().flatten() {
                turn.inputs = inputs(&mut beside, turn);
            }
            if beside.u8(..2) == 0 {
                let at = calm_at.mul_f64(beside.f64());
                let fault = HostFault::Fence { unnoticed: within(&mut beside, 0..9_000) };
                faults.push(Scheduled { at, fault });
                faults.sort_by_key(|scheduled| scheduled.at);
            }
        }
        Self {
            seed,
            workers,
            sessions,
            besides,
            faults,
            fault_rate: [0, 150, 400, 700][rng.usize(..4)],
            latency: millis([60, 150, 400][rng.usize(..3)]),
            pause: millis([0, 20, 120][rng.usize(..3)]),
            late_writes: if is_troubled { 250 } else { 0 },
            busy_reads: if is_troubled { 250 } else { 0 },
            busy_writes: 0,
            calm_at,
        }
    }

    /// All turns that clients start.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        let queued = self.besides.iter().flat_map(|beside| &beside.queued);
        self.sessions.iter().flatten().chain(queued.map(|queued| &queued.turn))
    }

    /// Whether anything happens beside the turns of this world.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.besides.iter().any(|beside| !beside.queued.is_empty() || !beside.deleted.is_empty())
            || self.turns().any(|turn| !turn.inputs.is_empty())
    }

    /// Whether somebody wants to remove the turn of this id while it waits.
    #[must_use]
    pub fn is_removed(&self, turn: &str) -> bool {
        let mut queued = self.besides.iter().flat_map(|beside| &beside.queued);
        queued.any(|queued| {
            queued.turn.id == turn && matches!(queued.change, Some((_, Change::Remove)))
        })
    }

    /// What the agent may do for the turn of this id: an edited one says one thing or another.
    pub fn scripts(&self, turn: &str) -> impl Iterator<Item = &Script> {
        let queued = self.besides.iter().flat_map(|beside| &beside.queued);
        let edited = queued.filter_map(|queued| match &queued.change {
            Some((_, Change::Edit(script))) => Some((queued.turn.id.as_str(), script)),
            _ => None,
        });
        let own = self.turns().map(|turn| (turn.id.as_str(), &turn.script));
        let inputs = self.turns().flat_map(|turn| &turn.inputs);
        let inputs = inputs.map(|said| (said.id.as_str(), &said.script));
        let resuming = self.besides.iter().map(|beside| ("resume", &beside.resuming));
        let all = own.chain(edited).chain(inputs).chain(resuming);
        // The number of a turn that resumes, or that an input has become, is behind its name.
        let is_its = move |id: &str| match turn.strip_prefix(id) {
            Some("") => true,
            Some(rest) => rest.starts_with(":i") || id == "resume",
            None => false,
        };
        all.filter(move |(id, _)| is_its(id)).map(|(_, script)| script)
    }

    /// What the agent does when it is told `message`, and what it asks meanwhile.
    #[must_use]
    pub fn script_for(&self, message: &str) -> Option<(&Script, &[Asked])> {
        if let Some(turn) = self.turns().find(|turn| turn.script.message == message) {
            return Some((&turn.script, &turn.asks));
        }
        let inputs = self.turns().flat_map(|turn| &turn.inputs).map(|said| &said.script);
        let others = self.besides.iter().flat_map(|beside| {
            let edits = beside.queued.iter().filter_map(|queued| match &queued.change {
                Some((_, Change::Edit(script))) => Some(script),
                _ => None,
            });
            edits.chain([&beside.resuming])
        });
        inputs
            .chain(others)
            .find(|script| script.message == message)
            .map(|script| (script, &[][..]))
    }

    /// Whether the substrate loses its log in this world.
    #[must_use]
    pub fn loses_log(&self) -> bool {
        self.faults.iter().any(|scheduled| matches!(scheduled.fault, HostFault::LoseLog { .. }))
    }

    /// Whether a worker of the product is killed in this world.
    #[must_use]
    pub fn kills_a_worker(&self) -> bool {
        self.faults.iter().any(|scheduled| matches!(scheduled.fault, HostFault::KillWorker { .. }))
    }

    /// The fault of the `number`th connection of a link, if it meets one.
    #[must_use]
    pub fn connection(&self, link: Link, number: u64) -> Option<ConnectionFault> {
        let place = (number << 2) | link as u64;
        let mut rng = Rng::with_seed(self.seed ^ place.wrapping_mul(GOLDEN));
        let fault = (rng.u32(..1000) < self.fault_rate).then(|| connection_fault(&mut rng))?;
        // A copy of a request that outlives the log meets a substrate that knows nothing: no protocol can tell it apart.
        let is_copy = matches!(fault, ConnectionFault::Twice(_) | ConnectionFault::Late(_));
        (!is_copy || !self.loses_log()).then_some(fault)
    }
}

/// 2^64 divided by the golden ratio: spreads consecutive numbers.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// With this factor nothing happens beside the turns of those worlds that once broke a promise: they stay as they were.
const BESIDE: u64 = 260;

fn sessions(rng: &mut Rng) -> Vec<Vec<Turn>> {
    let sessions = 1 + rng.usize(..2);
    (0..sessions).map(|session| turns(rng, session)).collect()
}

fn turns(rng: &mut Rng, session: usize) -> Vec<Turn> {
    let turns = 1 + rng.usize(..2);
    (0..turns)
        .map(|turn| Turn {
            id: format!("turn-{session}-{turn}"),
            script: Script::draw(rng, &format!("message {session} {turn}")),
            clients: clients(rng),
            asks: Vec::new(),
            inputs: Vec::new(),
        })
        .collect()
}

/// What happens beside the turns of a conversation; nothing where the world is not one of those in which anything does.
fn besides(rng: &mut Rng, session: usize, is_full: bool) -> Beside {
    let resuming = Script::draw(rng, &format!("resume {session}"));
    let queued = if is_full && rng.u8(..2) == 0 { 1 + rng.usize(..3) } else { 0 };
    let queued = (0..queued).map(|number| queued_turn(rng, session, number)).collect();
    let deleters = if is_full && rng.u8(..4) == 0 { 1 + rng.usize(..2) } else { 0 };
    let deleted = (0..deleters).map(|_| within(rng, 500..16_000)).collect();
    Beside { queued, deleted, resuming }
}

fn queued_turn(rng: &mut Rng, session: usize, number: usize) -> Queued {
    let message = format!("queued {session} {number}");
    let turn = Turn {
        id: format!("queued-{session}-{number}"),
        script: Script::draw(rng, &message),
        clients: clients(rng),
        asks: Vec::new(),
        inputs: Vec::new(),
    };
    let change = match rng.u8(..4) {
        0 => Some(Change::Edit(Script::draw(rng, &format!("{message} edited")))),
        1 => Some(Change::Remove),
        _ => None,
    };
    let change = change.map(|change| (within(rng, 0..4_000), change));
    Queued { turn, at: within(rng, 0..9_000), change }
}

/// What is said into a turn: nothing into most. Only where the whole answer is told in the end, as with questions.
fn inputs(rng: &mut Rng, turn: &Turn) -> Vec<Said> {
    let is_told = turn.script.answer().is_some_and(|answer| answer != turn.script.text);
    let inputs = if rng.u8(..3) > 0 { 1 + rng.usize(..2) } else { 0 };
    let inputs = (0..inputs).map(|number| {
        let id = format!("input-{}-{number}", turn.id);
        let script = Script::draw(rng, &format!("into {} {number}", turn.id));
        Said { id, script, senders: (0..=rng.usize(..2)).map(|_| within(rng, 0..6_000)).collect() }
    });
    let inputs: Vec<_> = inputs.collect();
    if is_told { inputs } else { Vec::new() }
}

/// What the agent of a turn asks: nothing in most turns. Only where the whole answer is told in the end, whatever stands between its parts.
fn asks(rng: &mut Rng, turn: &Turn) -> Vec<Asked> {
    let is_told = turn.script.answer().is_some_and(|answer| answer != turn.script.text);
    let questions = if rng.u8(..2) == 0 { 1 + rng.usize(..2) } else { 0 };
    let mut asks: Vec<Asked> = (0..questions)
        .map(|number| Asked {
            id: format!("q{number}"),
            after: rng.usize(..turn.script.steps.len().max(1)),
            lasts: within(rng, 4_000..40_000),
            answers: (0..rng.usize(..4)).map(|_| given(rng)).collect(),
        })
        .collect();
    asks.sort_by_key(|asked| asked.after);
    if is_told { asks } else { Vec::new() }
}

fn given(rng: &mut Rng) -> Given {
    Given { wait: within(rng, 0..9_000), yes: rng.bool(), twice: rng.u8(..3) == 0 }
}

fn clients(rng: &mut Rng) -> Vec<Vec<Move>> {
    let tabs = 1 + usize::from(rng.u8(..4) == 0);
    (0..tabs).map(|_| moves(rng)).collect()
}

fn moves(rng: &mut Rng) -> Vec<Move> {
    let moves = rng.usize(..3);
    (0..moves).map(|_| client_move(rng)).collect()
}

fn client_move(rng: &mut Rng) -> Move {
    let (lines, pause) = (rng.u64(..8), within(rng, 0..5_000));
    match rng.u8(..10) {
        0..=3 => Move::Away { lines, pause },
        4 | 5 => Move::Reload { lines, pause },
        6 => Move::Stall { lines, pause },
        7 | 8 => Move::Leave { lines },
        _ => Move::Stop { lines },
    }
}

fn faults(rng: &mut Rng, workers: usize, calm_at: Duration) -> Vec<Scheduled> {
    let mut faults: Vec<_> = (0..rng.usize(..4))
        .map(|_| Scheduled { at: calm_at.mul_f64(rng.f64()), fault: host_fault(rng, workers) })
        .collect();
    faults.sort_by_key(|scheduled| scheduled.at);
    faults
}

fn host_fault(rng: &mut Rng, workers: usize) -> HostFault {
    let down = within(rng, 0..4_000);
    let lasts = within(rng, 100..4_000);
    let worker = rng.usize(..workers);
    let between = [
        (host::CLIENTS, host::WORKERS[worker]),
        (host::WORKERS[worker], host::SUBSTRATE),
        (host::WATCHER, host::SUBSTRATE),
    ][rng.usize(..3)];
    match rng.u8(..10) {
        0..=3 => HostFault::KillWorker { worker, down },
        4 | 5 => HostFault::KillNode { down, unnoticed: within(rng, 0..3_000) },
        6 => HostFault::LoseLog { down },
        7 | 8 => HostFault::Hold { between, lasts },
        _ => HostFault::Partition { between, lasts },
    }
}

fn connection_fault(rng: &mut Rng) -> ConnectionFault {
    // Most answers are short, and their first bytes are where most states change.
    let longest = [40, 400, 4_000, 20_000][rng.usize(..4)];
    let answer = rng.u64(..longest);
    match rng.u8(..12) {
        0..=3 => ConnectionFault::CutAnswer(answer),
        4 | 5 => ConnectionFault::EndAnswer(answer),
        6 | 7 => ConnectionFault::CutRequest(rng.u64(..500)),
        8 => ConnectionFault::StallAnswer(answer, within(rng, 500..12_000)),
        9 => ConnectionFault::Late(within(rng, 100..6_000)),
        10 => ConnectionFault::Twice(within(rng, 0..6_000)),
        _ => ConnectionFault::Pieces(1 + rng.usize(..40)),
    }
}

fn within(rng: &mut Rng, range: Range<u64>) -> Duration {
    millis(rng.u64(range))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        writeln!(
            f,
            "  {} worker(s), latency up to {:?}, pauses up to {:?}, {} of 1000 connections faulty, {} of 1000 writes late and {} reads busy, calm after {:?}",
            self.workers,
            self.latency,
            self.pause,
            self.fault_rate,
            self.late_writes,
            self.busy_reads,
            self.calm_at
        )?;
        for turn in self.turns() {
            writeln!(f, "  {}: {}", turn.id, turn.script)?;
            for (tab, moves) in turn.clients.iter().enumerate() {
                writeln!(f, "    client {tab}: {moves:?}")?;
            }
            for Asked { id, after, lasts, answers } in &turn.asks {
                writeln!(f, "    asks {id} after {after} events for {lasts:?}: {answers:?}")?;
            }
            for Said { id, senders, .. } in &turn.inputs {
                writeln!(f, "    is told {id} after {senders:?}")?;
            }
        }
        for (session, Beside { queued, deleted, .. }) in self.besides.iter().enumerate() {
            for Queued { turn, at, change } in queued {
                let change = change.as_ref().map(|(after, change)| match change {
                    Change::Edit(_) => format!(", edited after {after:?}"),
                    Change::Remove => format!(", removed after {after:?}"),
                });
                writeln!(f, "  {} waits from {at:?}{}", turn.id, change.unwrap_or_default())?;
            }
            if !deleted.is_empty() {
                writeln!(f, "  conversation {session} is deleted at {deleted:?}")?;
            }
        }
        for Scheduled { at, fault } in &self.faults {
            writeln!(f, "  at {at:?}: {fault:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_world() {
        for seed in 0..50 {
            assert_eq!(Plan::draw(seed), Plan::draw(seed));
        }
    }

    #[test]
    fn every_kind_of_fault_is_drawn_within_a_few_hundred_seeds() {
        let mut kinds = std::collections::BTreeSet::new();
        for plan in (0..300).map(Plan::draw) {
            kinds.extend(plan.faults.iter().map(|scheduled| scheduled.fault.kind()));
            let connections = (0..20).filter_map(|number| plan.connection(Link::Product, number));
            kinds.extend(connections.map(|fault| fault.kind()));
        }
        assert_eq!(kinds.len(), 13, "{kinds:?}");
    }

    #[test]
    fn a_world_without_a_log_that_outlives_its_node_has_no_copies_of_requests() {
        let lossy = (0..300).map(Plan::draw).filter(Plan::loses_log);
        for plan in lossy {
            let faults = (0..200).filter_map(|number| plan.connection(Link::Substrate, number));
            let copies = faults.filter(|fault| matches!(fault, ConnectionFault::Twice(_)));
            assert_eq!(copies.count(), 0);
        }
    }
}
