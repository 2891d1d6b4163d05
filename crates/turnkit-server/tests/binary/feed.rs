//! What a user is told of all that changes, while the servers that tell it are killed.

use std::collections::HashSet;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time::sleep;
use turnkit_client::{Client, FeedEntry};

use crate::kill::client;
use crate::support::{Process, http};

/// Users' programs that change something.
const WRITERS: u64 = 6;
/// How many of them delete their sessions now and then.
const DELETING: u64 = 2;
/// How often one of the two servers is killed.
const KILLS: u64 = 3;

/// How many entries are written at least: `TURNKIT_FEED=full` for 10,000.
fn entries() -> usize {
    if env::var("TURNKIT_FEED").is_ok_and(|how| how == "full") { 10_000 } else { 300 }
}

/// Numbers that look like chance, and are the same each time.
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A server that keeps its address when it is started again.
struct Server {
    process: Process,
    start: Arc<dyn Fn(&str) -> Process>,
}

impl Server {
    fn new(start: &Arc<dyn Fn(&str) -> Process>) -> Server {
        Server { process: start("127.0.0.1:0"), start: Arc::clone(start) }
    }

    fn kill_and_start(self) -> Server {
        let Server { process, start } = self;
        let address = process.url.strip_prefix("http://").unwrap().to_owned();
        process.kill();
        Server { process: start(&address), start }
    }
}

/// Random changes of a few sessions, at whichever server answers; what fails is left to the next one.
async fn write(bases: [String; 2], seed: u64, written: Arc<AtomicUsize>) {
    let (http, mut drawn) = (http(), Drawn(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mut session: Option<String> = None;
    for step in 0.. {
        if written.load(Ordering::Relaxed) >= entries() {
            return;
        }
        let base = format!("{}/api/sessions", bases[usize::try_from(drawn.below(2)).unwrap()]);
        let Some(id) = &session else {
            let made = http.post(&base).header("content-type", "application/json").send().await;
            if let Ok(made) = made
                && let Ok(made) = made.bytes().await
                && let Ok(made) = serde_json::from_slice::<serde_json::Value>(&made)
            {
                session = made["sessionId"].as_str().map(str::to_owned);
            } else {
                sleep(Duration::from_millis(20)).await;
            }
            continue;
        };
        let turn = format!("t{}", drawn.below(step / 4 + 1));
        let (method, path, body) = match drawn.below(100) {
            0..30 => ("PATCH", String::new(), json!({ "title": format!("{seed} {step}") })),
            30..60 => {
                let body = json!({ "turnId": turn, "message": "hello", "queue": true });
                ("POST", "/turns".to_owned(), body)
            }
            60..75 => ("PATCH", format!("/turns/{turn}"), json!({ "message": "edited" })),
            75..85 => ("DELETE", format!("/turns/{turn}"), json!({})),
            85..98 => ("POST", format!("/turns/{turn}/cancel"), json!({})),
            _ if seed > DELETING => continue,
            _ => ("DELETE", String::new(), json!({})),
        };
        let request = http.request(method.parse().unwrap(), format!("{base}/{id}{path}"));
        let request = request.header("content-type", "application/json").body(body.to_string());
        // The turn itself is of no interest: whoever leaves does not stop it.
        match request.send().await.map(|answer| answer.status().as_u16()) {
            Ok(200 | 202) => drop(written.fetch_add(1, Ordering::Relaxed)),
            Ok(204) if path.is_empty() => session = None,
            Ok(404) => session = None,
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// All entries behind `after` up to one about the session `end`, over any number of connections.
async fn follow(client: Client, after: String, end: String) -> Vec<FeedEntry> {
    let mut feed = client.feed(None, Some(&after)).unwrap();
    let mut told = Vec::new();
    loop {
        let entry = feed.next().await.unwrap().expect("the feed of a user has no end");
        let is_last = entry.session_id == end;
        told.push(entry);
        if is_last {
            return told;
        }
    }
}

fn number(entry: &FeedEntry) -> u64 {
    entry.id.rsplit_once('-').unwrap().1.parse().unwrap()
}

/// Whoever follows the feed of two servers that are killed in turn, while users do anything at either, is told everything once and in
/// order; and so is who comes back with the first place when all is over. Only of what was deleted meanwhile nothing but that is told.
pub(crate) async fn is_told_once_and_in_order(serve: Arc<dyn Fn(&str) -> Process>) {
    let mut servers = [Server::new(&serve), Server::new(&serve)];
    let clients = [0, 1].map(|at| client(&servers[at].process));
    let bases = [0, 1].map(|at| servers[at].process.url.clone());
    let end = clients[0].create_session().await.unwrap();
    let begin = clients[0].session(&end, None).await.unwrap().feed.unwrap();
    let following = clients.clone().map(|client| {
        // Two at each server: what one connection carries is nothing that another one needs.
        [(); 2].map(|()| tokio::spawn(follow(client.clone(), begin.clone(), end.clone())))
    });
    let written = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (1..=WRITERS)
        .map(|seed| tokio::spawn(write(bases.clone(), seed, Arc::clone(&written))))
        .collect();
    for kill in 1..=KILLS {
        let due = entries() * usize::try_from(kill).unwrap() / usize::try_from(KILLS + 1).unwrap();
        while written.load(Ordering::Relaxed) < due {
            sleep(Duration::from_millis(5)).await;
        }
        let [one, other] = servers;
        servers = [other, tokio::task::block_in_place(|| one.kill_and_start())];
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let named = http().patch(format!("{}/api/sessions/{end}", bases[0]));
    let named = named.header("content-type", "application/json").body(r#"{"title":"the end"}"#);
    assert_eq!(named.send().await.unwrap().status(), 200);

    let whole = follow(clients[1].clone(), begin, end).await;
    let numbers: Vec<u64> = whole.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|before, after| before < after), "{numbers:?}");
    let gone = whole.iter().filter(|entry| entry.event.kind() == "session.deleted");
    let deleted: HashSet<_> = gone.map(|entry| entry.session_id.clone()).collect();
    assert!(whole.len() >= entries() / 2 && !deleted.is_empty(), "{}", whole.len());
    let lasting = |told: &[FeedEntry]| -> Vec<String> {
        let lasting = told.iter().filter(|entry| {
            !deleted.contains(&entry.session_id) || entry.event.kind() == "session.deleted"
        });
        lasting.map(|entry| format!("{} {}", entry.id, entry.event.kind())).collect()
    };
    let wanted = lasting(&whole);
    for told in join_all(following.into_iter().flatten()).await {
        let told = told.unwrap();
        assert!(told.is_sorted_by(|before, after| number(before) < number(after)));
        assert_eq!(lasting(&told), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_over_one_file_that_are_killed_miss_and_repeat_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let substrate = Process::substrate("1ms");
    let (data_dir, url) = (directory.path().to_owned(), substrate.url.clone());
    is_told_once_and_in_order(Arc::new(move |listen| {
        let data_dir = data_dir.to_str().unwrap();
        Process::start(&["serve", "--listen", listen, "--data-dir", data_dir, "--substrate", &url])
    }))
    .await;
}
