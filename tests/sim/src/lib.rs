//! The promise of exactly once, tried: client, product, substrate and agent in one seeded, simulated world (PROTOCOL 4.3).
//!
//! ```
//! let report = turnkit_sim::simulate(7, None)?;
//! assert!(report.violations.is_empty(), "{}", turnkit_sim::Story(&report));
//! # Ok::<(), turnkit::BoxError>(())
//! ```
//!
//! A seed draws a [`Plan`]: sessions, turns, what the agent answers, what each client does, and which faults strike when.
//! [`simulate`] runs that world on turmoil's network and clock, in one thread, and so the same way each time. The engine, the
//! adapter, the substrate's routes and the product's are the real ones. What happened is a history of [`Record`]s; each promise
//! is a pure function over it, in [`check`].
//!
//! **In scope:** connections cut at any byte, requests lost, late or sent twice, delays and reordering, half-open connections,
//! killed product workers, killed substrate nodes with a log that outlives them or not, clients that leave and come back. And
//! [`Bug`]s, planted to show that the checks find what they are for.
//!
//! **Out of scope:** real sockets, files and processes (the end-to-end tests have those), and time as clocks on walls show it.

mod agent;
mod bugs;
pub mod check;
mod client;
mod fate;
mod history;
mod log;
mod net;
mod plan;
mod product;
pub mod runner;
mod script;
mod sim;
mod substrate;
mod transport;
mod watcher;
mod world;

pub use self::{
    bugs::Bug,
    history::{
        ClientAct, ClientId, EventId, Fact, History, Hooked, Kept, Record, Stored, WatchAct, faults,
    },
    plan::{ConnectionFault, HostFault, Link, Move, Plan, Scheduled, Turn},
    script::{Outcome, Script, Step},
    sim::{Report, Story, run, simulate},
};
