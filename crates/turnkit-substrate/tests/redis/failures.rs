//! A Redis that is out of reach, comes back, or comes back without its latest events; answers that are lost on their way.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use turnkit_id::LogId;
use turnkit_substrate::{
    Cursor, ExecutionLog as _, Limits,
    log::{
        AppendError, Bound, Ending, Found, LogError, Opening, Position, Start, State,
        redis::RedisLog,
    },
};
use turnkit_testkit::{
    log_contract::ManualClock,
    proxy::{CuttingProxy, Fault, Point},
    redis::RedisServer,
};

use super::{builder, key, number, numbers, opening, retained, start};

#[tokio::test]
async fn a_run_outlives_a_redis_that_comes_back() {
    let mut redis = RedisServer::start_durable();
    let log = RedisLog::builder(redis.url()).build().unwrap();
    let (mut writer, reader) = start(&log, "one").await;
    for at in 0..100 {
        if at % 40 == 20 {
            redis.restart();
        }
        writer.append(&number(at)).await.unwrap();
    }
    writer.end(Ending::Completed, &number(100)).await.unwrap();
    assert_eq!(numbers(&*reader, 101).await, (0..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_that_redis_lost_never_come_again_as_others() {
    let mut redis = RedisServer::start();
    let clock = ManualClock::at(1_700_000_000_000);
    let log = RedisLog::builder(redis.url()).clock(clock as Arc<_>).build().unwrap();
    let (mut writer, reader) = start(&log, "one").await;
    let fenced = tokio::spawn(writer.fenced());
    let kept = writer.append(&number(1)).await.unwrap();
    redis.save();
    let lost = writer.append(&number(2)).await.unwrap();
    redis.restart();

    let error = writer.append(&number(3)).await.unwrap_err();
    assert!(matches!(error, AppendError::Store(_)), "{error}");
    // The writer took over from itself; once its node hears again, it looks.
    sleep(Duration::from_millis(1500)).await;
    assert!(!fenced.is_finished());
    let end = writer.end(Ending::Failed, &number(4)).await.unwrap();
    assert_eq!((end.seq, end.epoch), (lost.seq, kept.epoch + 1));
    assert_eq!(reader.locate(Cursor::After(kept)).await.unwrap(), Position::After(2));
    assert_eq!(reader.locate(Cursor::After(lost)).await.unwrap(), Position::NotHeld);
    assert_eq!(reader.status().await.unwrap().state, State::Ended(Ending::Failed));
}

#[tokio::test]
async fn a_redis_that_forgot_everything_ends_readers_and_writers() {
    let mut redis = RedisServer::start();
    let log = RedisLog::builder(redis.url()).build().unwrap();
    let (mut writer, reader) = start(&log, "one").await;
    redis.restart();
    assert!(matches!(writer.append(&number(1)).await, Err(AppendError::Fenced)));
    assert!(matches!(reader.next(1).await, Err(LogError::Expired)));
    assert!(matches!(log.find(&key("one")).await.unwrap(), Found::Unknown));
}

#[tokio::test]
async fn a_redis_that_forgot_everything_is_another_log() {
    let redis = RedisServer::start();
    let [one, other] = [(); 2].map(|()| RedisLog::builder(redis.url()).build().unwrap());
    let id = one.id().await.unwrap();
    let naming = |id: &LogId| Opening { log_id: Some(id.clone()), ..opening() };
    assert_eq!(redis.command("FLUSHALL"), "+OK\r\n");
    // Before anybody has asked for the new one.
    for log in [&one, &other] {
        let start = log.start(&key("one"), naming(&id)).await.unwrap();
        assert!(matches!(start, Start::LogChanged));
    }
    let new = other.id().await.unwrap();
    assert_ne!(new, id);
    assert!(matches!(one.start(&key("one"), naming(&id)).await.unwrap(), Start::LogChanged));
    assert!(matches!(one.start(&key("one"), naming(&new)).await.unwrap(), Start::Started { .. }));
}

#[tokio::test]
async fn a_redis_that_kept_everything_is_the_same_log() {
    let mut redis = RedisServer::start_durable();
    let log = RedisLog::builder(redis.url()).build().unwrap();
    let id = log.id().await.unwrap();
    redis.restart();
    assert_eq!(log.id().await.unwrap(), id);
}

#[tokio::test]
async fn a_redis_that_stays_away_is_told_and_asked_no_longer() {
    let mut redis = RedisServer::start();
    let log = RedisLog::builder(redis.url()).build().unwrap();
    log.check().await.unwrap();
    redis.kill();
    let error = log.find(&key("one")).await.err().unwrap();
    assert!(matches!(error, LogError::Store(_)), "{error}");
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_replaced() {
    let redis = RedisServer::start();
    let plan = |connection| match connection {
        0 | 1 => Fault::Stall(Point::Bytes(600)),
        _ => Fault::None,
    };
    let proxy = CuttingProxy::start(redis.address(), plan).await.unwrap();
    let log = RedisLog::builder(format!("redis://{}", proxy.address())).build().unwrap();
    let (mut writer, reader) = start(&log, "one").await;
    for at in 0..100 {
        writer.append(&number(at)).await.unwrap();
    }
    assert_eq!(numbers(&*reader, 100).await, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_run_goes_on_at_the_server_that_took_over() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let proxy = CuttingProxy::start(old.address(), |_| Fault::None).await.unwrap();
    let log = RedisLog::builder(format!("redis://{}", proxy.address())).build().unwrap();
    let (mut writer, reader) = start(&log, "one").await;
    writer.append(&number(1)).await.unwrap();
    let _ = new.command(&replica_of(&old));
    while !new.command("INFO replication").contains("master_link_status:up") {
        sleep(Duration::from_millis(20)).await;
    }

    let _ = new.command("REPLICAOF NO ONE");
    let _ = old.command(&replica_of(&new));
    proxy.lead_to(new.address());
    writer.append(&number(2)).await.unwrap();
    writer.end(Ending::Completed, &number(3)).await.unwrap();
    assert_eq!(numbers(&*reader, 3).await, [1, 2, 3]);
}

fn replica_of(server: &RedisServer) -> String {
    let address = server.address();
    format!("REPLICAOF {} {}", address.ip(), address.port())
}

#[tokio::test]
async fn where_the_memory_of_redis_is_full_runs_end_all_the_same() {
    let redis = RedisServer::start();
    let log = RedisLog::builder(redis.url()).build().unwrap();
    let (mut writer, reader) = start(&log, "one").await;
    let (dropped, of_dropped) = start(&log, "two").await;
    let (_stuck, of_stuck) = start(&log, "three").await;
    let _ = redis.command("CONFIG SET maxmemory 1");

    let error = writer.append(&number(1)).await.unwrap_err();
    assert!(matches!(error, AppendError::Store(_)), "{error}");
    writer.end(Ending::Failed, &number(2)).await.unwrap();
    assert_eq!(numbers(&*reader, usize::MAX).await, [2]);
    drop(dropped);
    of_dropped.next(1).await.unwrap();
    let heir = log.take_over(&key("three")).await.unwrap().unwrap();
    heir.end(Ending::Cancelled, &number(3)).await.unwrap();
    assert_eq!(numbers(&*of_stuck, usize::MAX).await, [3]);
}

#[tokio::test]
async fn where_the_memory_of_redis_is_full_no_run_is_lost() {
    let redis = RedisServer::start();
    let lease = Duration::from_secs(2);
    let node = || RedisLog::builder(redis.url()).lease(lease).build().unwrap();
    // A node without runs has no lease that it could fail to renew, so it would end those of the other one.
    let (running, _idle) = (node(), node());
    let (mut writer, reader) = start(&running, "one").await;
    let _ = redis.command("CONFIG SET maxmemory 1");
    sleep(lease * 4).await;
    assert_eq!(reader.status().await.unwrap().state, State::Running);
    let _ = redis.command("CONFIG SET maxmemory 0");
    writer.append(&number(1)).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_is_busy_is_waited_for() {
    let redis = Arc::new(RedisServer::start());
    let log = RedisLog::builder(redis.url()).build().unwrap();
    let (mut writer, _) = start(&log, "one").await;
    let _ = redis.command("CONFIG SET busy-reply-threshold 1");
    let busy = Arc::clone(&redis);
    let busy = tokio::task::spawn_blocking(move || busy.command(r#"EVAL "while true do end" 0"#));
    while !redis.command("PING").contains("BUSY") {
        sleep(Duration::from_millis(20)).await;
    }
    let free = async {
        sleep(Duration::from_millis(300)).await;
        let _ = redis.command("SCRIPT KILL");
    };
    let event = number(1);
    let (appended, ()) = tokio::join!(writer.append(&event), free);
    appended.unwrap();
    busy.await.unwrap();
}

#[tokio::test]
async fn a_reader_of_events_that_were_evicted_is_told() {
    let redis = RedisServer::start();
    let log = RedisLog::builder(redis.url()).build().unwrap();
    let (_writer, reader) = start(&log, "one").await;
    assert_eq!(redis.command("DEL {turnkit}:f:3:a:b:one"), ":1\r\n");
    assert!(matches!(reader.next(0).await, Err(LogError::Expired)));
}

/// Each connection breaks somewhere in an answer, so that what was asked may or may not have been done.
#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again_and_nothing_is_stored_twice() {
    let redis = RedisServer::start();
    let plan = |connection: u64| {
        let point = Point::Bytes(150 + connection * 37 % 200);
        if connection.is_multiple_of(2) { Fault::Cut(point) } else { Fault::Reset(point) }
    };
    let proxy = CuttingProxy::start(redis.address(), plan).await.unwrap();
    let log = RedisLog::builder(format!("redis://{}", proxy.address())).build().unwrap();
    let direct = RedisLog::builder(redis.url()).build().unwrap();
    for id in ["one", "two", "three"] {
        let (mut writer, _) = start(&log, id).await;
        for at in 0..100 {
            assert_eq!(writer.append(&number(at)).await.unwrap().seq, at + 2);
        }
        for from in (100..200).step_by(5) {
            let batch: Vec<_> = (from..from + 5).map(number).collect();
            writer.append_all(&batch).await.unwrap();
        }
        assert_eq!(writer.end(Ending::Completed, &number(200)).await.unwrap().seq, 202);
        let reader = retained(&direct, id).await;
        assert_eq!(numbers(&*reader, 201).await, (0..=200).collect::<Vec<_>>());
    }
    assert!(proxy.connections() > 20, "{}", proxy.connections());
}

/// Its answer is lost, and what was asked is asked again: what is stored by then is not stored twice, and the rest is refused.
#[tokio::test]
async fn a_batch_that_is_refused_in_its_middle_is_so_however_often_it_is_asked() {
    let redis = RedisServer::start();
    let limits = Limits { events_per_execution: 40, ..Limits::default() };
    let node = |url: String| RedisLog::builder(url).limits(limits.clone()).build().unwrap();
    for cut in (0..240).step_by(12) {
        let plan = move |connection: u64| match connection {
            // The one that subscribes, and the one that appends.
            0 | 1 => Fault::Cut(Point::Bytes(100 + cut)),
            _ => Fault::None,
        };
        let proxy = CuttingProxy::start(redis.address(), plan).await.unwrap();
        let log = node(format!("redis://{}", proxy.address()));
        let id = format!("cut-{cut}");
        let (mut writer, _) = start(&log, &id).await;
        let batch: Vec<_> = (0..60).map(number).collect();
        let full = writer.append_all(&batch).await.unwrap_err();
        assert!(matches!(full, AppendError::Full(Bound::EventsPerExecution(40))), "{full}");
        assert_eq!(writer.end(Ending::Failed, &number(60)).await.unwrap().seq, 41);
        let reader = retained(&node(redis.url()), &id).await;
        let expected: Vec<_> = (0..39).chain([60]).collect();
        assert_eq!(numbers(&*reader, usize::MAX).await, expected);
    }
}

#[tokio::test]
async fn an_append_that_is_dropped_is_stored_once_or_never() {
    let log = builder().build().unwrap();
    let (mut writer, reader) = start(&log, "one").await;
    let mut sure = Vec::new();
    for at in 0..300 {
        if at % 3 == 0 {
            writer.append(&number(at)).await.unwrap();
            sure.push(at);
        } else {
            let event = number(at);
            // Dropped before it began, on its way, or when it is answered.
            let _ = timeout(Duration::from_micros(at * 4), writer.append(&event)).await;
        }
    }
    writer.end(Ending::Completed, &number(300)).await.unwrap();
    let stored = numbers(&*reader, usize::MAX).await;
    assert!(stored.is_sorted() && stored.windows(2).all(|pair| pair[0] < pair[1]), "{stored:?}");
    assert!(sure.iter().all(|at| stored.contains(at)));
    assert_eq!(stored.last(), Some(&300));
}

#[test]
fn a_url_that_names_no_redis_is_refused_without_repeating_it() {
    for url in ["", "http://example.com", "redis://user:secret@host:notaport/"] {
        let error = RedisLog::builder(url).limits(Limits::default()).build().unwrap_err();
        let said = error.to_string();
        assert!(said.contains("redis://[user:password@]host"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

/// What a check of this Redis is refused with; it is asked as `user` where one is named.
async fn refused(redis: &RedisServer, user: &str) -> String {
    let log = RedisLog::builder(format!("redis://{user}{}", redis.address())).build().unwrap();
    let Err(LogError::Store(error)) = log.check().await else { panic!("{user}: it is taken") };
    error.to_string()
}

#[tokio::test]
async fn a_redis_that_can_keep_no_log_is_refused_at_once_and_says_why() {
    let redis = RedisServer::start();
    for (user, rights) in [
        ("noscripts", "+@all -@scripting ~* &*"),
        ("otherkeys", "+@all ~other:* &*"),
        ("otherchannels", "+@all ~* resetchannels &other:*"),
        ("silent", "+@all -subscribe ~* &*"),
    ] {
        let set = redis.command(&format!("ACL SETUSER {user} on >secret {rights}"));
        assert_eq!(set, "+OK\r\n", "{user}");
        let why = refused(&redis, &format!("{user}:secret@")).await;
        assert!(why.contains("+@all ~{turnkit}:* &{turnkit}:*"), "{user}: {why}");
        assert!(!why.contains("secret"), "{why}");
    }
    let enough = "ACL SETUSER enough on >secret +@all ~{turnkit}:* &{turnkit}:*";
    assert_eq!(redis.command(enough), "+OK\r\n");
    let url = format!("redis://enough:secret@{}", redis.address());
    RedisLog::builder(url).build().unwrap().check().await.unwrap();

    let replica = RedisServer::start();
    let (host, port) = (redis.address().ip(), redis.address().port());
    assert_eq!(replica.command(&format!("REPLICAOF {host} {port}")), "+OK\r\n");
    let why = refused(&replica, "").await;
    assert!(why.contains("name its primary"), "{why}");

    let nodes = [RedisServer::start_clustered(), RedisServer::start_clustered()];
    let why = refused(&nodes[0], "").await;
    assert!(why.contains("slot of a cluster"), "without slots: {why}");
    assert_eq!(nodes[1].command("CLUSTER ADDSLOTSRANGE 0 16383"), "+OK\r\n");
    nodes[0].meet(&nodes[1]);
    while !nodes[0].command("CLUSTER INFO").contains("cluster_state:ok") {
        sleep(Duration::from_millis(20)).await;
    }
    let why = refused(&nodes[0], "").await;
    assert!(why.contains("name the node that has it"), "{why}");
    RedisLog::builder(nodes[1].url()).build().unwrap().check().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_becomes_a_replica_makes_its_nodes_unready() {
    let [redis, primary] = [RedisServer::start(), RedisServer::start()];
    let log = RedisLog::builder(redis.url()).build().unwrap();
    log.check().await.unwrap();
    log.is_writable().await.unwrap();
    let (host, port) = (primary.address().ip(), primary.address().port());
    assert_eq!(redis.command(&format!("REPLICAOF {host} {port}")), "+OK\r\n");
    assert!(matches!(log.is_writable().await, Err(LogError::Store(_))));
    assert_eq!(redis.command("REPLICAOF NO ONE"), "+OK\r\n");
    log.is_writable().await.unwrap();
}
