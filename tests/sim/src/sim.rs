//! One world, from its first moment to its last.

use std::{
    cell::Cell,
    fmt, fs, panic,
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use turmoil::{Builder, Sim};
use turnkit::BoxError;

use crate::{
    bugs::{self, Bug},
    check::{self, Violation},
    client,
    fate::Fate,
    history::{Fact, Record},
    log::Logs,
    plan::{Plan, host},
    product::{self, Database},
    substrate, watcher,
    world::World,
};

/// How much time passes between two looks at the network. Inside a host, time is finer.
const TICK: Duration = Duration::from_millis(40);

/// No world needs longer: its clients give up before.
const LONGEST: Duration = Duration::from_secs(600);

/// What became of a world.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was to happen.
    pub plan: Plan,
    /// What happened.
    pub records: Vec<Record>,
    /// Which promises were broken.
    pub violations: Vec<Violation>,
}

/// A report with everything: the schedule, what happened, and what was broken.
#[derive(Debug)]
pub struct Story<'a>(pub &'a Report);

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        writeln!(f, "{}", report.plan)?;
        report.records.iter().try_for_each(|record| writeln!(f, "{record}"))?;
        writeln!(f)?;
        report.violations.iter().try_for_each(|broken| writeln!(f, "BROKEN {broken}"))?;
        write!(f, "{} violations", report.violations.len())
    }
}

/// Runs the world of `seed`, with `bug` planted in it, and checks every promise.
///
/// # Errors
/// A world that could not be set up, or in which a party failed that must not: neither says anything about the promises.
pub fn simulate(seed: u64, bug: Option<Bug>) -> Result<Report, BoxError> {
    run(Plan::draw(seed), bug)
}

/// The same for a plan that was not drawn.
///
/// # Errors
/// As [`simulate`].
pub fn run(plan: Plan, bug: Option<Bug>) -> Result<Report, BoxError> {
    watch_for_panics();
    let world = World::new(plan.clone(), bug);
    let disk = tempfile::tempdir_in(disk())?;
    let logs = Logs::new(world.clone());
    let mut sim = build(&plan);
    people(&mut sim, &world, &logs, &database(&plan, disk.path()));
    let mut fate = Fate::new(world.clone(), logs);
    while sim.elapsed() < LONGEST {
        fate.strike(&mut sim);
        if sim.step().map_err(|error| error.to_string())? {
            break;
        }
    }
    if !world.is_over() {
        world.history().add_at(sim.elapsed(), Fact::Endless);
    }
    drop(sim);
    if PANICKED.take() {
        world.history().add(Fact::Panicked);
    }
    let records = world.history().records();
    let violations = check::all(&plan, &records);
    Ok(Report { plan, records, violations })
}

thread_local! {
    /// Whether something has panicked in this thread. A runtime catches it, so that nobody else would notice.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED.set(true);
            before(info);
        }));
    });
    PANICKED.set(false);
}

/// Where the database is: in memory, where the system has a file system for that.
fn disk() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if fs::metadata(&memory).is_ok_and(|data| data.is_dir()) {
        memory
    } else {
        std::env::temp_dir()
    }
}

fn build(plan: &Plan) -> Sim<'static> {
    Builder::new()
        .rng_seed(plan.seed)
        .epoch(std::time::UNIX_EPOCH)
        .tick_duration(TICK)
        .simulation_duration(LONGEST * 2)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(plan.latency)
        .enable_random_order()
        .build()
}

fn database(plan: &Plan, disk: &Path) -> Database {
    // Both stores in turn: what one of them does wrong, the other does not.
    if plan.seed.is_multiple_of(2) {
        Database::Sqlite(disk.join("turnkit.db"))
    } else {
        Database::in_memory()
    }
}

/// Puts everybody into the world.
fn people(sim: &mut Sim<'static>, world: &World, logs: &Logs, database: &Database) {
    let (node_world, logs) = (world.clone(), logs.clone());
    sim.host(host::SUBSTRATE, move || ended(substrate::node(node_world.clone(), logs.clone())));
    let memory = bugs::Memory::default();
    for name in host::WORKERS.into_iter().take(world.plan().workers) {
        let (world, database, memory) = (world.clone(), database.clone(), memory.clone());
        sim.host(name, move || {
            ended(product::worker(world.clone(), database.clone(), memory.clone()))
        });
    }
    sim.client(host::CLIENTS, ended(client::converse(world.clone())));
    sim.client(host::WATCHER, ended(watcher::watch(world.clone())));
}

/// A party's end, as turmoil wants it.
async fn ended(party: impl Future<Output = Result<(), BoxError>>) -> turmoil::Result {
    party.await.map_err(|error| error as Box<dyn std::error::Error>)
}
