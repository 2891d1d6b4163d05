//! Several nodes over one Redis.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::runtime::Runtime;
use turnkit_substrate::{
    ExecutionLog as _,
    log::{AppendError, Ending, Found, Start, State, redis::RedisLog},
};

use super::{REDIS, key, number, numbers, opening, start};

/// Nodes of one log.
fn nodes<const N: usize>(lease: Duration) -> [RedisLog; N] {
    let prefix = uuid::Uuid::new_v4().to_string();
    std::array::from_fn(|_| {
        RedisLog::builder(REDIS.url()).prefix(&prefix).lease(lease).build().unwrap()
    })
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(1);

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
async fn what_one_node_appends_every_node_reads() {
    let [writing, reading] = nodes(LONG);
    let (mut writer, _) = start(&writing, "one").await;
    let Found::Retained(reader) = reading.find(&key("one")).await.unwrap() else {
        panic!("it must be known everywhere");
    };
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
    let Found::Retained(reader) = reading.find(&key("one")).await.unwrap() else {
        panic!("it must be known everywhere");
    };
    // Twenty waits of the two seconds after which a reader looks by itself would be forty seconds.
    let reading = tokio::spawn(async move {
        for after in 1..=20 {
            reader.next(after).await.unwrap();
        }
    });
    let appending = async {
        for at in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            writer.append(&number(at)).await.unwrap();
        }
    };
    appending.await;
    tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap().unwrap();
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

#[tokio::test]
async fn a_run_whose_node_is_gone_is_told_by_another_and_its_id_stays_bound() {
    let [dying, living] = nodes(SHORT);
    // As a process that is killed: nothing of it runs any more, not even a `Drop`.
    let run = async move {
        let (writer, _) = start(&dying, "one").await;
        let epoch = writer.epoch();
        std::mem::forget(writer);
        epoch
    };
    let runtime = Runtime::new().unwrap();
    let epoch = runtime.spawn(run).await.unwrap();
    runtime.shutdown_background();
    let Found::Retained(reader) = living.find(&key("one")).await.unwrap() else {
        panic!("a run is not forgotten");
    };
    let page = reader.next(1).await.unwrap().unwrap();
    let text = std::str::from_utf8(&page.frames).unwrap();
    assert!(text.contains("execution.failed") && text.contains("runner_lost"), "{text}");
    let status = reader.status().await.unwrap();
    assert_eq!((status.state, status.last.seq), (State::Ended(Ending::Failed), 2));
    assert!(status.last.epoch > epoch);
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
