//! What goes wrong: one thing every second, drawn from a seed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use fastrand::Rng;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep, sleep_until},
};

use crate::stage::{Process, Stage};

/// Longer than a lease.
const STOPPED: Duration = Duration::from_secs(17);
/// How long a process stays dead.
const DEAD: Duration = Duration::from_millis(700);
/// How much of what Redis had written is lost with its machine: `appendfsync everysec` promises no more than the second before.
const TAIL: Duration = Duration::from_millis(900);

/// What went wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// How often, by kind.
    pub(crate) made: BTreeMap<&'static str, usize>,
    /// Processes that did not end as they should.
    pub(crate) wrong: Vec<String>,
    /// Whether Redis has lost what it had confirmed.
    pub(crate) has_lost_tail: bool,
}

/// What is to be undone, and when.
struct Undo {
    at: Instant,
    kind: Kind,
    number: usize,
    what: Undone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Undone {
    /// It was killed.
    Start,
    /// It was stopped.
    Continue,
    /// It was told to end.
    Replace,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Substrate,
}

/// Makes faults until `until`, and undoes all of them.
pub(crate) async fn make(stage: &mut Stage, seed: u64, until: Instant) -> Result<Faults> {
    let mut rng = Rng::with_seed(seed);
    let mut faults = Faults::default();
    let mut undos: Vec<Undo> = Vec::new();
    // Once, somewhere in the middle.
    let left = until - Instant::now();
    let fails_over_at = Instant::now() + left.mul_f32(0.25 + rng.f32() / 2.0);
    while Instant::now() < until {
        let next = Instant::now() + Duration::from_secs(1);
        if Instant::now() >= fails_over_at && block_in_place(|| stage.fail_over()) {
            faults.made.insert("PostgreSQL failed over to its standby", 1);
        }
        let (server, substrate) =
            (rng.usize(..stage.servers.len()), rng.usize(..stage.substrates.len()));
        let fault = match rng.u8(..100) {
            0..18 => touch(stage, Kind::Server, server, Undone::Start, &mut undos)?,
            18..34 => touch(stage, Kind::Substrate, substrate, Undone::Start, &mut undos)?,
            34..41 => touch(stage, Kind::Server, server, Undone::Continue, &mut undos)?,
            41..48 => touch(stage, Kind::Substrate, substrate, Undone::Continue, &mut undos)?,
            48..53 => touch(stage, Kind::Server, server, Undone::Replace, &mut undos)?,
            53..57 => touch(stage, Kind::Substrate, substrate, Undone::Replace, &mut undos)?,
            57..71 => {
                stage.before_servers.cut();
                Some("connections of clients cut")
            }
            71..84 => {
                stage.before_substrates.cut();
                Some("connections to substrates cut")
            }
            84..88 => {
                block_in_place(|| stage.redis.restart());
                Some("Redis killed")
            }
            88..92 => {
                let written = stage.redis.written();
                sleep(TAIL).await;
                block_in_place(|| stage.redis.restart_without_tail(written));
                faults.has_lost_tail = true;
                Some("Redis killed, its last second lost")
            }
            _ => stage.postgres.as_mut().map(|postgres| {
                block_in_place(|| postgres.restart());
                "PostgreSQL killed"
            }),
        };
        if let Some(fault) = fault {
            *faults.made.entry(fault).or_default() += 1;
        }
        while Instant::now() < next {
            undo(stage, &mut undos, Instant::now(), &mut faults)?;
            sleep(Duration::from_millis(50)).await;
        }
    }
    if let Some(last) = undos.iter().map(|undo| undo.at).max() {
        sleep_until(last).await;
    }
    undo(stage, &mut undos, Instant::now() + STOPPED, &mut faults)?;
    stage.mend()?;
    Ok(faults)
}

fn of(stage: &mut Stage, kind: Kind) -> &mut Vec<Process> {
    match kind {
        Kind::Server => &mut stage.servers,
        Kind::Substrate => &mut stage.substrates,
    }
}

/// Does something to a process, and gives its name. One that something was done to already is left alone, and never are two of a kind stopped.
fn touch(
    stage: &mut Stage,
    kind: Kind,
    number: usize,
    what: Undone,
    undos: &mut Vec<Undo>,
) -> Result<Option<&'static str>> {
    let is_taken = undos.iter().any(|undo| {
        let is_second_stop = undo.what == Undone::Continue && what == Undone::Continue;
        undo.kind == kind && (undo.number == number || is_second_stop)
    });
    let process = &mut of(stage, kind)[number];
    if is_taken || what == Undone::Replace && !process.is_settled() {
        return Ok(None);
    }
    let after = match what {
        Undone::Start => {
            process.kill()?;
            DEAD
        }
        Undone::Continue => {
            process.signal("STOP")?;
            STOPPED
        }
        Undone::Replace => {
            process.signal("TERM")?;
            2 * DEAD
        }
    };
    undos.push(Undo { at: Instant::now() + after, kind, number, what });
    Ok(Some(match (kind, what) {
        (Kind::Server, Undone::Start) => "server killed",
        (Kind::Server, Undone::Continue) => "server stopped past its lease",
        (Kind::Server, Undone::Replace) => "server replaced",
        (Kind::Substrate, Undone::Start) => "substrate killed",
        (Kind::Substrate, Undone::Continue) => "substrate stopped past its lease",
        (Kind::Substrate, Undone::Replace) => "substrate replaced",
    }))
}

fn undo(stage: &mut Stage, undos: &mut Vec<Undo>, now: Instant, faults: &mut Faults) -> Result<()> {
    for undo in undos.extract_if(.., |undo| undo.at <= now) {
        let process = &mut of(stage, undo.kind)[undo.number];
        match undo.what {
            Undone::Start => process.start()?,
            Undone::Continue => process.signal("CONT")?,
            Undone::Replace => {
                faults.wrong.extend(block_in_place(|| process.ended())?);
                process.start()?;
            }
        }
    }
    Ok(())
}
