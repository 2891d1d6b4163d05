//! Several nodes over one Redis.

use std::{
    io::{BufRead as _, BufReader},
    ops::RangeInclusive,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, future::join_all};
use serde_json::json;
use turnkit_agent::Received;
use turnkit_substrate::{
    ExecutionLog as _, Substrate, Takes,
    log::{
        AppendError, Change, Ending, Found, LogError, LogReader, LogWriter, Slot, Start, State,
        redis::RedisLog,
    },
};

use turnkit_testkit::{
    log_contract::ManualClock,
    proxy::{CuttingProxy, Fault},
    redis::RedisServer,
};
use turnkit_wire::{
    Event,
    interaction::{Interaction, Kind},
};

use super::{REDIS, key, number, numbers, opening, retained, start};
use crate::{
    agents::Driven,
    client::{Answer, Frame, Server, Stream, kinds},
};

/// Nodes of one log.
fn nodes<const N: usize>(lease: Duration) -> [RedisLog; N] {
    let prefix = uuid::Uuid::new_v4().to_string();
    std::array::from_fn(|_| {
        RedisLog::builder(REDIS.url()).prefix(&prefix).lease(lease).build().unwrap()
    })
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(1);
/// Of nodes whose threads may be kept waiting for a while.
const LEASE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn of_starts_on_all_nodes_one_wins() {
    let nodes: [RedisLog; 4] = nodes(LONG);
    let key = key("one");
    let starts = (0..200).map(|at| nodes[at % 4].start(&key, opening()));
    let starts = join_all(starts).await;
    let started = starts.iter().filter(|start| matches!(start, Ok(Start::Started { .. })));
    assert_eq!(started.count(), 1);
    assert!(starts.iter().all(Result::is_ok));
}

#[tokio::test]
async fn all_nodes_tell_one_id_and_the_first_to_ask_makes_it() {
    let nodes: [RedisLog; 4] = nodes(LONG);
    let ids = join_all((0..40).map(|at| nodes[at % 4].id())).await;
    let first = ids[0].as_ref().unwrap();
    assert!(ids.iter().all(|id| id.as_ref().unwrap() == first));
}

#[tokio::test]
async fn what_one_node_appends_every_node_reads() {
    let [writing, reading] = nodes(LONG);
    let (mut writer, _) = start(&writing, "one").await;
    let reader = retained(&reading, "one").await;
    let readers = join_all((0..10).map(|_| {
        let reader = Arc::clone(&reader);
        tokio::spawn(async move { numbers(&*reader, 500).await })
    }));
    let writing = async {
        for at in 0..500 {
            writer.append(&number(at)).await.unwrap();
        }
    };
    let (readers, ()) = tokio::join!(readers, writing);
    for read in readers {
        assert_eq!(read.unwrap(), (0..500).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_the_channel() {
    let [writing, reading] = nodes(LONG);
    let (mut writer, _) = start(&writing, "one").await;
    let reader = retained(&reading, "one").await;
    is_woken_by_each(&mut *writer, &*reader, 1..=40).await;
}

/// Each event is appended once the one before was read. Unwoken, a reader looks after two seconds each time.
async fn is_woken_by_each(
    writer: &mut dyn LogWriter,
    reader: &dyn LogReader,
    numbers: RangeInclusive<u64>,
) {
    let unwoken = Duration::from_secs(2) * u32::try_from(numbers.clone().count()).unwrap();
    let turns = async {
        for after in numbers {
            let append = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                writer.append(&number(after)).await.unwrap();
            };
            let (page, ()) = tokio::join!(reader.next(after), append);
            assert_eq!(page.unwrap().unwrap().last, after + 1);
        }
    };
    tokio::time::timeout(unwoken / 2, turns).await.expect("it is not woken");
}

/// How many scripts a Redis has run.
fn scripts(redis: &RedisServer) -> u64 {
    let said = redis.command("INFO commandstats");
    let line = said.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn whoever_reads_beside_the_writer_has_its_events_without_asking_redis() {
    let redis = RedisServer::start();
    // Its leases are not renewed meanwhile.
    let log = RedisLog::builder(redis.url()).lease(LONG * 60).build().unwrap();
    let (mut writer, reader) = start(&log, "one").await;
    assert_eq!(reader.next(0).await.unwrap().unwrap().last, 1);
    // Redis does not know the script at first, and is asked twice.
    writer.append(&number(2)).await.unwrap();
    let before = scripts(&redis);
    for at in 1..=50 {
        let batch = [number(2 * at + 1), number(2 * at + 2)];
        writer.append_all(&batch).await.unwrap();
        assert_eq!(reader.next(2 * at).await.unwrap().unwrap().last, 2 * at + 2);
    }
    assert_eq!(scripts(&redis) - before, 50);
    // Whoever is further behind asks, and so does everybody after the end.
    assert_eq!(numbers(&*reader, 101).await, (2..=102).collect::<Vec<_>>());
    writer.end(Ending::Completed, &number(103)).await.unwrap();
    assert!(log.erase(&key("one")).await.unwrap());
    assert!(matches!(reader.next(100).await, Err(LogError::Expired)));
}

/// The writer that was fenced off tells them nothing more, and may not know of it for a while.
#[tokio::test]
async fn readers_beside_a_writer_that_was_fenced_off_hear_the_next_one() {
    let [first, second] = nodes(LONG);
    let (mut fenced, reader) = start(&first, "one").await;
    fenced.append(&number(1)).await.unwrap();
    let mut heir = second.take_over(&key("one")).await.unwrap().unwrap();
    is_woken_by_each(&mut *heir, &*reader, 2..=21).await;
    assert!(matches!(fenced.append(&number(2)).await, Err(AppendError::Fenced)));
}

#[tokio::test]
async fn a_node_whose_clock_is_ahead_drops_nothing_that_others_keep() {
    let prefix = uuid::Uuid::new_v4().to_string();
    let node = || RedisLog::builder(REDIS.url()).prefix(&prefix);
    let here = node().build().unwrap();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let ahead = (since + Duration::from_secs(2 * 60 * 60)).as_millis();
    let ahead = ManualClock::at(u64::try_from(ahead).unwrap());
    let ahead = node().clock(ahead as Arc<_>).build().unwrap();
    let (writer, _) = start(&here, "one").await;
    writer.end(Ending::Completed, &number(1)).await.unwrap();
    ahead.sweep().await.unwrap();
    assert_eq!(numbers(&*retained(&ahead, "one").await, 1).await, [1]);
    let (writer, _) = start(&ahead, "two").await;
    writer.end(Ending::Completed, &number(2)).await.unwrap();
    assert_eq!(numbers(&*retained(&here, "two").await, 1).await, [2]);
}

#[tokio::test]
async fn another_node_fences_a_writer_off_and_it_hears_of_it() {
    let [first, second] = nodes(LONG);
    let (mut writer, _) = start(&first, "one").await;
    let fenced = tokio::spawn(writer.fenced());
    tokio::task::yield_now().await;
    let heir = second.take_over(&key("one")).await.unwrap().unwrap();
    fenced.await.unwrap();
    assert!(matches!(writer.append(&number(1)).await, Err(AppendError::Fenced)));
    heir.end(Ending::Cancelled, &number(2)).await.unwrap();
    assert!(first.take_over(&key("one")).await.unwrap().is_none());
}

/// Tells a process of this test which Redis and which prefix its node has.
const NODE: &str = "TURNKIT_TEST_NODE";

/// In a process of its own: starts a run, says so, and goes on until it is killed.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
async fn run_until_killed(node: &str) {
    let (url, prefix) = node.split_once(' ').unwrap();
    let log = RedisLog::builder(url).prefix(prefix).lease(SHORT).build().unwrap();
    let (writer, _) = start(&log, "one").await;
    println!("started at {}", writer.epoch());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_run_whose_process_was_killed_is_told_by_another_node_and_its_id_stays_bound() {
    const NAME: &str =
        "nodes::a_run_whose_process_was_killed_is_told_by_another_node_and_its_id_stays_bound";
    if let Ok(node) = std::env::var(NODE) {
        return run_until_killed(&node).await;
    }
    let prefix = uuid::Uuid::new_v4().to_string();
    let mut dying = Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(NODE, format!("{} {prefix}", REDIS.url()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(dying.stdout.take().unwrap()).lines();
    let epoch = said
        .map(Result::unwrap)
        .find_map(|line| line.split_once("started at ")?.1.parse::<u64>().ok());
    dying.kill().unwrap();
    dying.wait().unwrap();

    let living = RedisLog::builder(REDIS.url()).prefix(&prefix).lease(SHORT).build().unwrap();
    let reader = retained(&living, "one").await;
    let page = reader.next(1).await.unwrap().unwrap();
    let text = std::str::from_utf8(&page.frames).unwrap();
    assert!(text.contains("execution.failed") && text.contains("runner_lost"), "{text}");
    let status = reader.status().await.unwrap();
    assert_eq!((status.state, status.last.seq), (State::Ended(Ending::Failed), 2));
    assert!(status.last.epoch > epoch.unwrap());
    assert!(matches!(living.start(&key("one"), opening()).await.unwrap(), Start::Exists(_)));
}

#[tokio::test]
async fn a_silent_run_outlives_its_lease_as_long_as_its_node_lives() {
    let [running, other] = nodes(SHORT);
    let (mut writer, reader) = start(&running, "one").await;
    // It makes the other node look for lost runs.
    assert!(matches!(other.find(&key("one")).await.unwrap(), Found::Retained(_)));
    tokio::time::sleep(SHORT * 4).await;
    assert_eq!(reader.status().await.unwrap().state, State::Running);
    writer.append(&number(1)).await.unwrap();
}

#[tokio::test]
async fn the_many_runs_of_a_node_that_is_gone_cost_no_other_run_its_lease() {
    let prefix = uuid::Uuid::new_v4().to_string();
    let node = |url: &str| RedisLog::builder(url).prefix(&prefix).lease(LEASE).build().unwrap();
    let running = |running| {
        let running = format!(":{running}\r\n");
        REDIS.command(&format!("ZCARD {{{prefix}}}:running")) == running
    };
    let plan = |_| Fault::Delay(Duration::from_millis(5));
    let far = CuttingProxy::start(REDIS.address(), plan).await.unwrap();
    let far = node(&format!("redis://{}", far.address()));
    let (mut writer, _) = start(&far, "one").await;

    let near = node(&REDIS.url());
    let (mut at, mut gone) = (0, 0);
    while gone < 100 {
        let key = key(&format!("gone-{at}"));
        // Sent, and nobody takes the writer.
        gone += u32::from(near.start(&key, opening()).now_or_never().is_none());
        at += 1;
    }
    while !running(101) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(near);
    while !running(1) {
        let lease = REDIS.command(&format!("ZSCORE {{{prefix}}}:running 3:a:b:one"));
        let lease: u128 = lease.lines().nth(1).unwrap().parse().unwrap();
        assert!(lease > SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writer.append(&number(1)).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_a_jump_of_the_clock_ends_is_renewed_before_its_run_is_lost() {
    let prefix = uuid::Uuid::new_v4().to_string();
    let node = || RedisLog::builder(REDIS.url()).prefix(&prefix).lease(LEASE).build().unwrap();
    let (running, _others) = (node(), [node(), node(), node()]);
    let (mut writer, _) = start(&running, "one").await;
    for _ in 0..4 {
        tokio::time::sleep(LEASE).await;
        let ended = REDIS.command(&format!("ZADD {{{prefix}}}:running XX CH 1 3:a:b:one"));
        assert_eq!(ended, ":1\r\n");
    }
    tokio::time::sleep(LEASE).await;
    writer.append(&number(1)).await.unwrap();
}

#[tokio::test]
async fn a_page_of_large_events_is_no_larger_than_one_of_them() {
    let [log] = nodes(LONG);
    let (mut writer, reader) = start(&log, "one").await;
    let large = Event::new("large", &"x".repeat(1024 * 1024 - 100)).unwrap();
    for _ in 0..12 {
        writer.append(&large).await.unwrap();
    }
    let (mut after, mut pages) = (1, 0);
    while after < 13 {
        let page = reader.next(after).await.unwrap().unwrap();
        assert!(page.frames.len() < 1_200_000, "{}", page.frames.len());
        (after, pages) = (page.last, pages + 1);
    }
    assert_eq!(pages, 12);
}

async fn serve(log: RedisLog, agent: Driven) -> Server {
    Server::serve(Substrate::builder().agent("default", agent).log(log)).await
}

#[tokio::test]
async fn a_run_on_one_node_is_read_and_cancelled_on_another() {
    let [first, second] = nodes(LONG);
    let ((agent, mut runs), (idle, mut none)) = (Driven::new(), Driven::new());
    let (running, other) = (serve(first, agent).await, serve(second, idle).await);
    let whole = Stream::open(running.run("one", "hello")).await;
    let run = runs.recv().await.unwrap();
    run.text("one");

    let mut elsewhere = Stream::open(other.run("one", "hello")).await;
    let began = [elsewhere.next().await.unwrap(), elsewhere.next().await.unwrap()];
    assert_eq!(kinds(&began), ["execution.started", "message.part.updated"]);
    assert_eq!(other.status("one").await.body["state"], "running");
    assert_eq!(other.cancel("one").await.body["state"], "cancelled");
    // The agent says nothing more, and is stopped all the same.
    run.cancel.cancelled().await;
    drop(run);

    let whole = whole.rest().await;
    assert_eq!(kinds(&whole)[2..], ["execution.cancelled"]);
    assert_eq!(whole[..2], began);
    assert_eq!(elsewhere.rest().await, whole[2..]);
    let last = &whole[2].id;
    assert_eq!(Answer::of(running.attach("one", last)).await.status, 204);
    assert!(none.try_recv().is_err(), "an agent was asked again");
}

#[tokio::test]
async fn a_reader_goes_on_at_another_node_without_gap_or_duplicate() {
    let [first, second] = nodes(LONG);
    let ((agent, mut runs), (idle, _none)) = (Driven::new(), Driven::new());
    let nodes = [serve(first, agent).await, serve(second, idle).await];
    let whole = Stream::open(nodes[0].run("one", "hello")).await;
    let run = runs.recv().await.unwrap();
    let mut frames = vec![];
    for at in 0..60 {
        run.text(&at.to_string());
        let cursor = frames.last().map_or("0".to_owned(), |frame: &Frame| frame.id.clone());
        let mut stream = Stream::open(nodes[at % 2].attach("one", &cursor)).await;
        frames.push(stream.next().await.unwrap());
    }
    drop(run);
    let whole = whole.rest().await;
    assert_eq!(frames, whole[..60]);
    assert_eq!(whole.len(), 62);
}

#[tokio::test]
async fn an_answer_goes_to_any_node_and_one_of_many_is_taken() {
    let [first, second, third] = nodes(LONG);
    let (agent, mut runs) = Driven::taking(Takes { answers: true, input: true });
    let ((second_agent, _), (third_agent, _)) = (Driven::new(), Driven::new());
    let running = serve(first, agent).await;
    let others = [serve(second, second_agent).await, serve(third, third_agent).await];
    let mut reader = Stream::open(running.run("one", "hello")).await;
    let run = runs.recv().await.unwrap();
    for round in 0..20 {
        let id = format!("q{round}");
        run.send(Interaction::new(Kind::Approval, &id).event());
        while reader.next().await.unwrap().kind != "interaction" {}
        assert_eq!(others[0].status("one").await.body["pending"][0]["id"], id);
        let answers = (0..8).map(|at| {
            let outcome = if at < 4 { "accepted" } else { "declined" };
            let path = format!("/agents/executions/one/interactions/{id}");
            let body = json!({ "outcome": outcome });
            let request = others[at % 2].post(&path, &body);
            async move { (outcome, Answer::of(request).await) }
        });
        let answers = join_all(answers).await;
        let Some(Received::Answer(heard)) = run.inbox.next().await else {
            panic!("the agent hears an answer");
        };
        assert_eq!(heard.id(), id);
        let heard = heard.outcome().as_str();
        for (outcome, answer) in answers {
            let told = answer.body.pointer("/outcome").or(answer.body.pointer("/error/outcome"));
            assert_eq!(told.unwrap(), heard, "everybody hears which");
            assert_eq!(answer.status == 200, outcome == heard);
        }
        let frame = reader.next().await.unwrap();
        assert_eq!((&*frame.kind, &frame.data["outcome"]), ("interaction.answered", &json!(heard)));
        assert_eq!(others[1].status("one").await.body["pending"], json!([]));
    }
    let input = json!({ "id": "i", "message": "more" });
    for other in &others {
        let answer = Answer::of(other.post("/agents/executions/one/input", &input)).await;
        assert_eq!(answer.status, 202);
    }
    assert!(matches!(run.inbox.next().await, Some(Received::Input(_))));
    drop(run);
    let rest = reader.rest().await;
    assert_eq!(kinds(&rest), ["input", "input.taken", "execution.completed"]);
}

#[tokio::test]
async fn an_answer_that_its_runner_has_not_appended_is_safe_to_be_sent_again() {
    let [running, other] = nodes(LONG);
    let (mut writer, _) = super::start_in(&running, &super::local("one")).await;
    let question = Interaction::new(Kind::Approval, "q").event();
    writer.append_with(&question, Change::Asks("q")).await.unwrap();
    let (agent, _runs) = Driven::new();
    let other = serve(other, agent).await;
    let answer = |outcome| {
        let path = "/agents/executions/one/interactions/q";
        Answer::of(other.post(path, &json!({ "outcome": outcome })))
    };
    answer("accepted").await.assert_error(503, "unavailable");
    let (slot, event) = writer.posted().await.unwrap().swap_remove(0);
    let (late, other, append) = tokio::join!(
        answer("declined"),
        answer("accepted"),
        writer.append_with(&event, Change::Tells(&slot)),
    );
    append.unwrap();
    late.assert_error(409, "interaction_answered");
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn what_was_posted_is_found_although_its_message_was_lost() {
    let prefix = uuid::Uuid::new_v4().to_string();
    let node = || RedisLog::builder(REDIS.url()).prefix(&prefix).lease(LEASE).build().unwrap();
    let log = node();
    let (mut writer, _) = start(&log, "one").await;
    let question = Interaction::new(Kind::Approval, "q").event();
    writer.append_with(&question, Change::Asks("q")).await.unwrap();
    let waiting = tokio::spawn(writer.posted());
    // As a post does, but for its message.
    let name = "3:a:b:one";
    let item = "iq\\n{\"type\":\"interaction.answered\",\"data\":{\"id\":\"q\"}}";
    for command in [
        format!("HINCRBY {{{prefix}}}:e:{name} posted 1"),
        format!("RPUSH {{{prefix}}}:b:{name} \"{}\"", item.replace('"', "\\\"")),
    ] {
        assert_eq!(REDIS.command(&command), ":1\r\n");
    }
    let posted = waiting.await.unwrap().unwrap();
    assert_eq!(posted[0].0, Slot::Interaction("q".into()));
}
