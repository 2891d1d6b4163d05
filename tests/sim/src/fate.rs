//! What strikes the hosts of a world, and the network between them, when their time has come.

use std::{collections::VecDeque, time::Duration};

use turmoil::Sim;

use crate::{
    history::Fact,
    log::Logs,
    plan::{HostFault, Scheduled, host},
    world::World,
};

/// The faults of a world that are still to come or to be undone.
pub(crate) struct Fate {
    world: World,
    logs: Logs,
    strokes: VecDeque<(Duration, Stroke)>,
    /// Faults of the network that are in force.
    in_force: Vec<HostFault>,
}

/// What is done to a world at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stroke {
    /// The fault strikes.
    Begin(HostFault),
    /// What it did is undone.
    End(HostFault),
}

impl Fate {
    pub(crate) fn new(world: World, logs: Logs) -> Self {
        let strokes = strokes(&world.plan().faults).into();
        Self { world, logs, strokes, in_force: Vec::new() }
    }

    /// Does all that is due.
    pub(crate) fn strike(&mut self, sim: &mut Sim<'static>) {
        while self.strokes.front().is_some_and(|(at, _)| *at <= sim.elapsed()) {
            match self.strokes.pop_front() {
                Some((_, Stroke::Begin(fault))) => self.begin(sim, fault),
                Some((_, Stroke::End(fault))) => self.end(sim, fault),
                None => return,
            }
        }
    }

    fn begin(&mut self, sim: &mut Sim<'static>, fault: HostFault) {
        let fact = Fact::Fault { kind: fault.kind(), detail: format!("{fault:?}") };
        self.world.history().add_at(sim.elapsed(), fact);
        match fault {
            HostFault::KillWorker { worker, .. } => self.kill(sim, host::WORKERS[worker]),
            HostFault::KillNode { unnoticed, .. } => {
                self.kill(sim, host::SUBSTRATE);
                self.logs.set_unnoticed(unnoticed);
            }
            HostFault::LoseLog { .. } => {
                self.kill(sim, host::SUBSTRATE);
                self.logs.lose();
            }
            HostFault::Fence { unnoticed } => self.logs.fence(sim.elapsed() + unnoticed),
            HostFault::Hold { .. } | HostFault::Partition { .. } => {
                self.in_force.push(fault);
                enforce(sim, fault);
            }
        }
    }

    fn end(&mut self, sim: &mut Sim<'static>, fault: HostFault) {
        match fault {
            HostFault::KillWorker { worker, .. } => start(sim, host::WORKERS[worker]),
            HostFault::KillNode { .. } | HostFault::LoseLog { .. } => start(sim, host::SUBSTRATE),
            HostFault::Fence { .. } => {}
            HostFault::Hold { between: (a, b), .. } => sim.release(a, b),
            HostFault::Partition { between: (a, b), .. } => sim.repair(a, b),
        }
        self.in_force.retain(|other| *other != fault);
    }

    /// Kills a host, and resets its connections.
    ///
    /// A runtime drops its tasks in an order that differs from run to run, and each connection that is dropped would send
    /// its good-bye. So they are dropped in silence, and their other ends are reset in the order in which they were opened.
    fn kill(&self, sim: &mut Sim<'static>, name: &'static str) {
        if !sim.is_host_running(name) {
            return;
        }
        let others = self.world.hosts().into_iter().filter(|other| *other != name);
        let others: Vec<_> = others.collect();
        for other in &others {
            sim.partition(name, *other);
        }
        sim.crash(name);
        for other in &others {
            sim.repair(name, *other);
        }
        for fault in &self.in_force {
            enforce(sim, *fault);
        }
        self.world.reset(name);
    }
}

/// Starts a host, unless it was started before.
fn start(sim: &mut Sim<'static>, name: &'static str) {
    if !sim.is_host_running(name) {
        sim.bounce(name);
    }
}

fn enforce(sim: &Sim<'static>, fault: HostFault) {
    match fault {
        HostFault::Hold { between: (a, b), .. } => sim.hold(a, b),
        HostFault::Partition { between: (a, b), .. } => sim.partition(a, b),
        HostFault::KillWorker { .. }
        | HostFault::KillNode { .. }
        | HostFault::LoseLog { .. }
        | HostFault::Fence { .. } => {}
    }
}

/// Everything that is done to a world, in order of time.
fn strokes(faults: &[Scheduled]) -> Vec<(Duration, Stroke)> {
    let both = |scheduled: &Scheduled| {
        let (at, fault) = (scheduled.at, scheduled.fault);
        [(at, Stroke::Begin(fault)), (at + lasts(fault), Stroke::End(fault))]
    };
    let mut strokes: Vec<_> = faults.iter().flat_map(both).collect();
    strokes.sort_by_key(|(at, _)| *at);
    strokes
}

fn lasts(fault: HostFault) -> Duration {
    match fault {
        HostFault::KillWorker { down, .. }
        | HostFault::KillNode { down, .. }
        | HostFault::LoseLog { down } => down,
        HostFault::Fence { .. } => Duration::ZERO,
        HostFault::Hold { lasts, .. } | HostFault::Partition { lasts, .. } => lasts,
    }
}
