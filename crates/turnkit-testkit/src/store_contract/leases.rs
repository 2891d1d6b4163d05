//! The rules about workers, the log that they dispatch to, and the leases that they hold.

use std::time::Duration;

use turnkit::Persisted;
use turnkit_chat::store::{Claim, Claimed, EndedBy, Joined, LEASE, Lease, Renewed};
use turnkit_chat::{Answer, ChatStore, StoreErrorKind, TurnState};
use turnkit_id::ExecutionId;

use super::StoreFixture;
use super::bench::{Bench, Rule, TASKS, count, ending, log, open, session_id, told};

/// A worker that renews every 5 s and misses one time is still alive.
const HOLDS: Duration = LEASE.saturating_sub(Duration::from_secs(5));
const LAPSES: Duration = LEASE.saturating_add(Duration::from_secs(1));

impl<F: StoreFixture> Bench<F> {
    /// What each of many tasks gets that claim by this epoch at once.
    async fn race_to_claim(&self, claim: impl Fn() -> Claim) -> Vec<Claimed> {
        let rule = self.rule;
        let race = self.race(|_, store| {
            let claim = claim();
            async move { rule.ask("claim", || store.claim(claim.clone())).await }
        });
        race.await
    }

    /// Lets the leases of every worker run out, and keeps the workers.
    async fn lapse(&self) {
        self.fixture.advance(LAPSES).await;
        for store in &self.stores {
            self.renew(store, &[]).await;
        }
    }
}

fn is_granted(claimed: &Claimed) -> bool {
    *claimed != Claimed::Refused
}

/// Of any number of claims of a new turn exactly one is told to `Run`, and after it never another one: not when the lease was released,
/// not when it ran out. The claim that won gets the same answer when it is asked again with its nonce. A claim that may not run is
/// refused as long as nobody has run the turn.
///
/// Broken by a store that marks the turn as dispatched in another transaction than the claim's, or that keeps no nonce.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn a_turn_is_run_once_ever<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A turn is dispatched once\" and \"A lease has an epoch\"; `ChatStore::claim`";
    let rule = Rule { name: "a_turn_is_run_once_ever", place };
    let bench = Bench::new(rule, fixture).await;
    for round in 0..4 {
        let turn = bench.turn(round).await;
        let id = &turn.execution_id;
        let attaches = || Claim { may_run: false, ..bench.claim(&turn, 0) };
        let answers = bench.race_to_claim(attaches).await;
        let at = "of claims that may not run, while nobody has run the turn";
        let look_for =
            "`may_run`: who may not run a turn can't attach to an execution that is not there";
        rule.same(at, &count(&answers, is_granted), &0, look_for);
        let row = bench.row(id).await;
        rule.same(
            at,
            &(row.dispatched, row.epoch),
            &(false, 0),
            "a refused claim that has written",
        );

        let claims: Vec<Claim> = (0..TASKS).map(|_| bench.claim(&turn, 0)).collect();
        let answers = bench
            .race(|task, store| {
                let claim = claims[task].clone();
                async move { rule.ask("claim", || store.claim(claim.clone())).await }
            })
            .await;
        let at = format!("of {TASKS} claims of a new turn at once");
        let run = Claimed::Run(Lease { execution_id: id.clone(), epoch: 1 });
        let won: Vec<usize> = (0..TASKS).filter(|task| is_granted(&answers[*task])).collect();
        let [winner] = won[..] else {
            let look_for =
                "a claim that first looks and then writes: its condition belongs into the write";
            let came = format!("{answers:?}");
            rule.broken(&at, "one `Run`, and all others `Refused`", came, look_for)
        };
        rule.same(
            &at,
            &answers[winner],
            &run,
            "an epoch that begins at 1, and a first claim that runs",
        );
        let row = bench.row(id).await;
        let came = (row.dispatched, row.is_held, row.epoch);
        rule.same(
            &at,
            &came,
            &(true, true, 1),
            "`dispatched` and the lease, written by the claim itself",
        );

        for _ in 0..3 {
            let (store, claim) = (bench.of(winner), &claims[winner]);
            let again = rule.ask("claim", || store.claim(claim.clone())).await;
            let look_for =
                "the nonce: a claim whose answer was lost is asked again, and is the same claim";
            rule.same("of the claim that won, asked again", &again, &run, look_for);
        }
        let again = bench.race_to_claim(|| bench.claim(&turn, 1)).await;
        let look_for = "the lease of a living worker, which another nonce does not get";
        rule.same("of other claims while it is held", &count(&again, is_granted), &0, look_for);

        let mut lease = Lease { execution_id: id.clone(), epoch: 1 };
        let mut holder = winner;
        for epoch in 2..6 {
            if epoch % 2 == 0 {
                bench.release(bench.of(holder), &lease).await;
            } else {
                bench.lapse().await;
            }
            let answers = bench.race_to_claim(|| bench.claim(&turn, epoch - 1)).await;
            let at = format!("of {TASKS} claims by epoch {} of a turn that has run", epoch - 1);
            let won: Vec<usize> = (0..TASKS).filter(|task| is_granted(&answers[*task])).collect();
            lease = Lease { execution_id: id.clone(), epoch };
            let attach = Claimed::Attach(lease.clone());
            match won[..] {
                [winner] if answers[winner] == attach => holder = winner,
                _ => {
                    let look_for =
                        "`dispatched`: it is never taken back, and every later claim attaches";
                    rule.broken(
                        at,
                        format!("one {attach:?}, and all others `Refused`"),
                        format!("{answers:?}"),
                        look_for,
                    )
                }
            }
        }
        let store = bench.store();
        rule.ask("save", || store.save(id.clone(), Answer::new("whole"))).await;
        let answers = bench.race_to_claim(|| bench.claim(&turn, 5)).await;
        let look_for = "the turn's state: only an open one is claimed";
        rule.same("of claims of a turn that has ended", &count(&answers, is_granted), &0, look_for);
    }
}

/// Of any number of claims that have seen the same epoch of a free lease one is granted, and begins the next epoch. Claims by an older
/// or a later epoch are refused, and so are all while the lease is held by a living worker.
///
/// Broken by a store that compares no epoch, or compares it in another step than the one that writes.
pub async fn a_seen_epoch_has_one_winner<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A lease has an epoch\"; `ChatStore::claim`";
    let rule = Rule { name: "a_seen_epoch_has_one_winner", place };
    let bench = Bench::new(rule, fixture).await;
    let turn = bench.turn(0).await;
    let mut lease = bench.hold(bench.of(0), &turn, 0).await;
    let mut holder = 0;
    for epoch in 1..8_u64 {
        let held = bench.race_to_claim(|| bench.claim(&turn, epoch)).await;
        let look_for = "the worker that holds the lease, and lives: it is not asked to give way";
        rule.same("of claims of a held lease", &count(&held, is_granted), &0, look_for);
        bench.release(bench.of(holder), &lease).await;
        for seen in [epoch - 1, epoch + 1, epoch + 1_000] {
            let answers = bench.race_to_claim(|| bench.claim(&turn, seen)).await;
            let at = format!("of claims by epoch {seen}, where the row's is {epoch}");
            let look_for =
                "the seen epoch: who has looked before another one held the turn claims nothing";
            rule.same(at, &count(&answers, is_granted), &0, look_for);
        }
        let answers = bench.race_to_claim(|| bench.claim(&turn, epoch)).await;
        let at = format!("of {TASKS} claims by the row's epoch {epoch} at once");
        let won: Vec<usize> = (0..TASKS).filter(|task| is_granted(&answers[*task])).collect();
        let [winner] = won[..] else {
            let look_for =
                "a claim that first looks and then writes: its condition belongs into the write";
            let wanted = "one lease, and all others `Refused`";
            rule.broken(at, wanted, format!("{answers:?}"), look_for)
        };
        lease = Lease { execution_id: turn.execution_id.clone(), epoch: epoch + 1 };
        let look_for = "an epoch that is one higher with each claim, and with nothing else";
        rule.same(at, &answers[winner], &Claimed::Attach(lease.clone()), look_for);
        holder = winner;
    }
}

/// A worker whose epoch is over is refused its endings, its claims and its renewals, and its release frees nothing; but the answer that
/// it has read it saves, and the ending that the log tells it writes.
///
/// Broken by a store that ends a turn for whoever says that it has ended, and by one that refuses a late answer.
pub async fn a_fenced_epoch_is_refused_everything_but_saving<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"Who may write which ending\"; `ChatStore::end`, `ChatStore::save`, `EndedBy`";
    let rule = Rule { name: "a_fenced_epoch_is_refused_everything_but_saving", place };
    let bench = Bench::new(rule, fixture).await;
    let [late, now] = &bench.stores;
    for (round, saves) in [true, false].into_iter().enumerate() {
        let turn = bench.turn(round).await;
        let id = &turn.execution_id;
        let over = bench.hold(late, &turn, 0).await;
        bench.lapse().await;
        let lease = bench.hold(now, &turn, 1).await;

        let by = EndedBy::Lease(over.clone());
        let ended = rule.ask("end", || late.end(by.clone(), ending("own", "part"))).await;
        let row = bench.row(id).await;
        let at = "of an ending by a lease whose epoch is over";
        let look_for =
            "the epoch of the lease in the ending's condition: another worker drives the turn";
        rule.same(at, &(ended, row.state), &(false, TurnState::Open), look_for);

        bench.release(late, &over).await;
        let look_for =
            "the epoch in the condition of a release: it gives up its own lease, and no later one";
        rule.same(
            "after a release by an epoch that is over",
            &bench.row(id).await.is_held,
            &true,
            look_for,
        );

        // Free again, so that nothing but the epoch stands against the claim.
        bench.release(now, &lease).await;
        let claim = bench.claim(&turn, over.epoch);
        let again = rule.ask("claim", || late.claim(claim.clone())).await;
        let look_for = "the seen epoch in a claim's condition";
        rule.same("of a claim by an epoch that is over", &again, &Claimed::Refused, look_for);
        let lease = bench.hold(now, &turn, lease.epoch).await;

        let renewed = bench.renew(late, std::slice::from_ref(&over)).await;
        let look_for = "a worker that is told what it has lost: it drops that attempt";
        rule.same(
            "of a renewal of an epoch that is over",
            &renewed.lost,
            &vec![id.clone()],
            look_for,
        );

        if saves {
            let saved = rule.ask("save", || late.save(id.clone(), Answer::new("whole"))).await;
            let look_for = "a lease in the condition of a save: the execution's id is the key, and nothing else";
            rule.same(
                "of an answer by who has lost the lease",
                &saved,
                &Persisted::Saved,
                look_for,
            );
            let row = bench.row(id).await;
            rule.same(
                "after that answer",
                &row.state,
                &TurnState::Complete,
                "the turn's state, of the save's own transaction",
            );
        } else {
            let by = EndedBy::Log(id.clone());
            let ended = rule.ask("end", || late.end(by.clone(), ending("told", "part"))).await;
            let look_for = "a lease in the condition of an ending that the log tells: it is a fact of the execution";
            rule.same("of an ending that the log tells", &ended, &true, look_for);
        }
        let by = EndedBy::Lease(lease.clone());
        let ended = rule.ask("end", || now.end(by.clone(), ending("own", "part"))).await;
        rule.same(
            "of an ending under the row's epoch, once it has ended",
            &ended,
            &false,
            "the turn's state in an ending's condition",
        );
    }
}

/// A lease holds as long as its worker has renewed within 15 s by the store's clock, and is free after that: `find` and `unattended`
/// say so, and a claim gets it.
///
/// Broken by a store whose clock is the caller's, that counts from the claim, or that never lets a lease end.
pub async fn a_lease_lasts_by_the_stores_clock<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A lease is free\"; `LEASE`, `ChatStore::renew`";
    let rule = Rule { name: "a_lease_lasts_by_the_stores_clock", place };
    let bench = Bench::new(rule, fixture).await;
    let [holder, other] = &bench.stores;
    let turn = bench.turn(0).await;
    let id = &turn.execution_id;
    let lease = bench.hold(holder, &turn, 0).await;
    for times in 0..4 {
        bench.fixture.advance(HOLDS).await;
        let renewed = bench.renew(other, &[]).await;
        rule.same(
            "of a renewal of nothing",
            &renewed.lost,
            &vec![],
            "what is lost: only what was named",
        );
        let at = format!("10 s after the claim or the last of {times} renewals");
        let look_for = "the time of the worker's last renewal: the lease lasts 15 s from there";
        rule.same(&at, &bench.row(id).await.is_held, &true, look_for);
        rule.same(&at, &bench.unattended(other, 9).await, &vec![], look_for);
        let claim = bench.claim(&turn, 1);
        let claimed = rule.ask("claim", || other.claim(claim.clone())).await;
        rule.same(&at, &claimed, &Claimed::Refused, look_for);
        let renewed = bench.renew(holder, std::slice::from_ref(&lease)).await;
        rule.same(&at, &renewed.lost, &vec![], "a lease that is held and named: it is not lost");
    }
    bench.fixture.advance(LAPSES).await;
    bench.renew(other, &[]).await;
    let at = "16 s after the last renewal";
    let look_for = "the store's clock: a worker that has not renewed for 15 s holds nothing";
    rule.same(at, &bench.row(id).await.is_held, &false, look_for);
    rule.same(at, &bench.unattended(other, 9).await, &vec![id.clone()], look_for);
    let claim = bench.claim(&turn, 1);
    let claimed = rule.ask("claim", || other.claim(claim.clone())).await;
    let granted = Claimed::Attach(Lease { execution_id: id.clone(), epoch: 2 });
    rule.same(at, &claimed, &granted, look_for);
}

/// A renewal keeps the leases that it names and tells which of them are lost; one that it does not name is released, but not within 15 s of
/// its claim, whose answer may still be under way.
///
/// Broken by a store that renews all of a worker's leases: those of attempts that are gone are then held for ever.
pub async fn a_renewal_keeps_what_it_names<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A lease is free\"; `ChatStore::renew`";
    let rule = Rule { name: "a_renewal_keeps_what_it_names", place };
    let bench = Bench::new(rule, fixture).await;
    let [holder, other] = &bench.stores;
    let (kept, dropped) = (bench.turn(0).await, bench.turn(1).await);
    let leases = [bench.hold(holder, &kept, 0).await, bench.hold(holder, &dropped, 0).await];
    bench.fixture.advance(HOLDS).await;
    bench.renew(other, &[]).await;
    let renewed = bench.renew(holder, &leases[..1]).await;
    rule.same(
        "of a renewal 10 s after the claims",
        &renewed,
        &Renewed { lost: vec![], log: log("log") },
        "what is lost, and the store's log",
    );
    let look_for = "a claim of less than 15 s ago: its worker may not have its answer yet";
    let at = "of a lease that is not named 10 s after its claim";
    rule.same(at, &bench.row(&dropped.execution_id).await.is_held, &true, look_for);

    bench.fixture.advance(HOLDS).await;
    bench.renew(other, &[]).await;
    let renewed = bench.renew(holder, &leases[..1]).await;
    let at = "20 s after the claims";
    rule.same(at, &renewed.lost, &vec![], "a lease that is held and named: it is not lost");
    let free = bench.unattended(other, 9).await;
    let look_for = "a lease that its worker does not name: whoever drove that turn is gone";
    rule.same(at, &free, &vec![dropped.execution_id.clone()], look_for);
    let taken = bench.hold(other, &dropped, 1).await;
    rule.same(at, &taken.epoch, &2, "the epoch of a claim: one higher than the released one");

    let renewed = bench.renew(holder, &leases).await;
    let look_for = "a lease of which another epoch has begun: its worker must hear of it";
    rule.same(
        "of a renewal of what another worker holds",
        &renewed.lost,
        &vec![dropped.execution_id.clone()],
        look_for,
    );
    rule.ask("save", || other.save(kept.execution_id.clone(), Answer::new("whole"))).await;
    let renewed = bench.renew(holder, &leases[..1]).await;
    let look_for = "a turn that has ended: its lease is over";
    rule.same(
        "of a renewal of an ended turn",
        &renewed.lost,
        &vec![kept.execution_id.clone()],
        look_for,
    );
}

/// A worker that dispatches to another log than a living one renews under is refused; where none lives, its log takes the old one's
/// place. The store's log is moved by one conditional update, and all are told which one it is. Who has not joined claims nothing.
///
/// Broken by a store that takes any log, or moves it for whoever asks.
pub async fn a_worker_of_another_log_is_refused<F: StoreFixture>(fixture: F) {
    let place =
        "PROTOCOL 4.2, \"The store knows the log\"; `ChatStore::join`, `ChatStore::move_log`";
    let rule = Rule { name: "a_worker_of_another_log_is_refused", place };
    let bench = Bench::new(rule, fixture).await;
    let [first, second] = &bench.stores;
    let third = open(rule, &bench.fixture).await;
    let turn = bench.turn(0).await;
    let claim = bench.claim(&turn, 0);
    let at = "of a handle that has not joined";
    let answers = [
        rule.try_ask("claim", || third.claim(claim.clone())).await.err(),
        rule.try_ask("renew", || third.renew(Vec::new())).await.err(),
    ];
    for error in answers {
        match error {
            Some(error) if error.kind() == StoreErrorKind::Broken => {}
            came => {
                let came = came.map_or("an answer".to_owned(), |error| told(&error));
                let look_for = "a worker that the store does not know: its leases could not be told from those of a dead one";
                rule.broken(at, "an error of the kind `Broken`", came, look_for)
            }
        }
    }
    let row = bench.row(&turn.execution_id).await;
    rule.same(at, &(row.epoch, row.dispatched), &(0, false), "a refused claim that has written");

    let joined = rule.ask("join", || third.join(log("other"))).await;
    let look_for = "the log of the workers that live: the turns of each would be lost to the other";
    let at = "of a worker of another log than those that live";
    rule.same(at, &joined, &Joined::OtherLog(log("log")), look_for);
    let joined = rule.ask("join", || first.join(log("log"))).await;
    rule.same(
        "of a worker that joins again",
        &joined,
        &Joined::Member,
        "a worker that takes itself for another one",
    );
    bench.renew(first, &[]).await;

    let answers = bench
        .race(|task, store| async move {
            rule.ask("move_log", || store.move_log(log("log"), log(&format!("new-{task}")))).await
        })
        .await;
    let at = format!("of {TASKS} moves of the log from the same one at once");
    let look_for =
        "the old log in the condition of the move: one moves it, and the others are told where";
    for answer in &answers {
        rule.same(&at, answer, &answers[0], look_for);
    }
    let moved = answers[0].clone();
    rule.holds(
        &at,
        &moved,
        "one of the new ones",
        |moved| moved.as_str().starts_with("new-"),
        look_for,
    );
    for store in [first, second] {
        rule.same(
            "of a renewal after the move",
            &bench.renew(store, &[]).await.log,
            &moved,
            look_for,
        );
    }

    bench.fixture.advance(LAPSES).await;
    let joined = rule.ask("join", || third.join(log("other"))).await;
    let at = "of a worker of another log, where none lives";
    rule.same(
        at,
        &joined,
        &Joined::Member,
        "workers that have not renewed for 15 s: they are dead, and their log with them",
    );
    rule.same(
        at,
        &bench.renew(&third, &[]).await.log,
        &log("other"),
        "the new worker's log in the old one's place",
    );
}

/// Every open turn whose lease is free is listed, the oldest first, each once, and at most as many as were asked for: one that nobody ever
/// held, one that was released, one whose worker has not renewed. Turns that are held or have ended are not.
///
/// Broken by a store whose list is a join that repeats rows, or that applies the limit before it knows who lives.
pub async fn every_free_open_turn_is_listed_once<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A product is attended\"; `ChatStore::unattended`";
    let rule = Rule { name: "every_free_open_turn_is_listed_once", place };
    let bench = Bench::new(rule, fixture).await;
    let [first, second] = &bench.stores;
    let (mut free, mut leases): (Vec<ExecutionId>, Vec<Lease>) = (Vec::new(), Vec::new());
    for number in 0..30 {
        let turn = bench.turn(number).await;
        let id = turn.execution_id.clone();
        match number % 5 {
            0 => leases.push(bench.hold(first, &turn, 0).await),
            1 => free.push(id),
            2 => {
                let lease = bench.hold(first, &turn, 0).await;
                bench.release(first, &lease).await;
                free.push(id);
            }
            3 => {
                rule.ask("save", || first.save(id.clone(), Answer::new("whole"))).await;
                // The next turn of its session, which is newer than all before it.
                free.push(bench.accept(&session_id(number), "next").await.execution_id);
            }
            _ => {
                let by = EndedBy::Log(id.clone());
                rule.ask("end", || first.end(by.clone(), ending("told", ""))).await;
            }
        }
    }
    for store in [first, second] {
        for limit in [0, 1, 7, free.len(), 1_000] {
            let listed = bench.unattended(store, limit).await;
            let wanted: Vec<ExecutionId> = free.iter().take(limit).cloned().collect();
            let at = format!("of at most {limit} turns that nobody attends to");
            let look_for = "turns that are held or have ended, a limit that counts them too, or an order that is not that of acceptance";
            rule.same_list(at, &listed, &wanted, look_for);
        }
    }
    let answers = bench
        .race(|_, store| async move { rule.ask("unattended", || store.unattended(1_000)).await })
        .await;
    for answer in answers {
        rule.same(
            "of many lists at once",
            &answer,
            &free,
            "a list that takes what it tells: it changes nothing",
        );
    }

    bench.fixture.advance(LAPSES).await;
    bench.renew(second, &[]).await;
    let listed = bench.unattended(second, 1_000).await;
    let look_for = "turns whose worker has not renewed for 15 s: they are free as well";
    let at = "once their worker is dead";
    rule.same(at, &listed.len(), &(free.len() + leases.len()), look_for);
    let all_there =
        |listed: &Vec<ExecutionId>| leases.iter().all(|lease| listed.contains(&lease.execution_id));
    rule.holds(at, &listed, "what it held, too", all_there, look_for);
}
