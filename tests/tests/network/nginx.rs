//! nginx in between, with its default buffering; only its idle time-out is shortened, so that nobody has to wait for it.

use std::{
    fs,
    io::ErrorKind,
    iter,
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{Router, routing::get};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::Semaphore};
use turnkit::{ChatTurn, TurnIdentity};
use turnkit_id::ExecutionId;
use turnkit_testkit::{Recorder, Script};

use crate::{
    namespace::is_possible,
    site::{Body, HEARTBEAT, Site, WORDS, client, listen, next, rest, run, says},
};

/// nginx's idle time-out here; its default is 60 s, and keep-alives come every 15 s.
const IDLE: Duration = Duration::from_millis(500);

/// Keep-alives in a silence that nginx would not sit through.
const LONG: usize = 20;

/// An nginx in front of one server.
struct Nginx {
    address: SocketAddr,
    directory: TempDir,
    child: Child,
}

impl Nginx {
    /// None where the machine has none.
    async fn start(upstream: SocketAddr) -> Option<Self> {
        if !is_possible("nginx", Command::new("nginx").arg("-v")) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = format!(
            "daemon off; pid {0}/pid; error_log {0}/error.log; events {{}}
            http {{
                access_log off; proxy_read_timeout {1}ms;
                server {{ listen {address}; location / {{ proxy_pass http://{upstream}; }} }}
            }}",
            directory.path().display(),
            IDLE.as_millis(),
        );
        fs::write(directory.path().join("nginx.conf"), config).unwrap();
        let child = spawn(&directory);
        let nginx = Self { address, directory, child };
        nginx.listens().await;
        Some(nginx)
    }

    async fn listens(&self) {
        while TcpStream::connect(self.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// New workers take new connections; the old ones end with theirs.
    fn reload(&self) {
        signal("-HUP", &self.child.id().to_string());
    }

    /// SIGKILL for all of its processes, and nobody listens any more: a worker may be gone later than its master.
    fn kill(&mut self) {
        signal("-KILL", &format!("-{}", self.child.id()));
        self.child.wait().unwrap();
        while !self.refuses() {
            thread::yield_now();
        }
    }

    fn refuses(&self) -> bool {
        let tried = std::net::TcpStream::connect(self.address);
        tried.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }

    async fn start_again(&mut self) {
        self.child = spawn(&self.directory);
        self.listens().await;
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that stays free while nginx is down: below those that the system gives to clients, and to whoever asks for any.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 9_000).unwrap();
    let mut ports = iter::repeat_with(|| 20_000 + start + NEXT.fetch_add(1, Ordering::Relaxed));
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    ports.find_map(|port| TcpListener::bind(address(port)).is_ok().then(|| address(port))).unwrap()
}

/// In a process group of its own, with its workers.
fn spawn(directory: &TempDir) -> Child {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory.path()).arg("-c").arg(directory.path().join("nginx.conf"));
    command.process_group(0).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(signal: &str, to: &str) {
    assert!(Command::new("kill").args([signal, "--", to]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn between_adapter_and_substrate_events_come_at_once_and_a_kill_is_mended_by_the_cursor() {
    let site = Site::start().await;
    let Some(mut nginx) = Nginx::start(site.address).await else { return };
    let mut turn = run(&client(nginx.address));
    for at in 0..2 {
        site.allow(1);
        says(&mut turn, at..at + 1).await;
    }
    nginx.reload();
    site.allow(1);
    says(&mut turn, 2..3).await;
    nginx.kill();
    site.allow(1);
    let ((), ()) = tokio::join!(says(&mut turn, 3..4), nginx.start_again());
    site.allow(WORDS);
    says(&mut turn, 4..WORDS).await;
    assert_eq!(next(&mut turn).await, None);
    assert_eq!(site.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn between_client_and_product_lines_come_at_once_and_a_kill_is_mended_by_the_cursor() {
    let site = Site::start().await;
    let shop = site.product(site.address).await;
    let Some(mut nginx) = Nginx::start(shop.address).await else { return };
    let (session, mut body) = shop.begin(nginx.address).await;
    let mut read = body.take(1).await.len();
    for _ in 0..2 {
        site.allow(1);
        read += body.take(1).await.len();
    }
    nginx.reload();
    site.allow(1);
    read += body.take(1).await.len();
    nginx.kill();
    while body.line().await.is_some() {}
    nginx.start_again().await;
    let mut resumed = shop.resume(nginx.address, &session, read).await;
    site.allow(WORDS);
    assert_eq!(resumed.take(WORDS - 2).await, rest(3, &session));
    assert_eq!(site.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_agent_outlasts_nginx_by_heartbeats() {
    let site = Site::start().await;
    let Some(nginx) = Nginx::start(site.address).await else { return };
    let turn = run(&client(site.address));
    let id = turn.execution_id().clone();
    tokio::spawn(async move {
        let mut turn = turn;
        while next(&mut turn).await.is_some() {}
    });
    while site.runs() == 0 {
        tokio::task::yield_now().await;
    }
    let url = format!("http://{}/agents/executions/{id}/stream", nginx.address);
    let mut stream = Body::of(reqwest::get(url).await.unwrap());
    let mut heartbeats = 0;
    while heartbeats < LONG {
        heartbeats += usize::from(stream.line().await.unwrap() == ": heartbeat");
    }
    site.allow(WORDS);
    while stream.line().await.unwrap() != "event: execution.completed" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_turn_outlasts_nginx_by_keep_alives_and_not_without() {
    let gate = Arc::new(Semaphore::new(0));
    let upstream = turns(Arc::clone(&gate)).await;
    let Some(nginx) = Nginx::start(upstream).await else { return };
    let turn = async |path: &str| {
        Body::of(reqwest::get(format!("http://{}/{path}", nginx.address)).await.unwrap())
    };
    let mut silent = turn("silent").await;
    assert_eq!(silent.take(1).await.len(), 1);
    assert_eq!(silent.line().await, None, "nginx cuts what is silent");
    let mut alive = turn("alive").await;
    assert_eq!(alive.take(1).await.len(), 1);
    for _ in 0..LONG {
        assert_eq!(alive.line().await.unwrap(), "");
    }
    gate.add_permits(2);
    let rest = alive.take(2).await;
    assert!(rest[1].contains("session.run.completed"), "{rest:?}");
}

/// Turns that are silent until the gate opens: with keep-alives, and without.
async fn turns(gate: Arc<Semaphore>) -> SocketAddr {
    let (listener, address) = listen().await;
    let turn = move |keep_alive| {
        let gate = Arc::clone(&gate);
        get(async move || {
            let script = Script::new().wait(async move { gate.acquire().await.unwrap().forget() });
            let turn = ChatTurn::new(identity(), ExecutionId::parse("p:s:0").unwrap());
            let turn = turn.keep_alive(keep_alive);
            let (body, driver) = turn.start(script.text("there"), Arc::new(Recorder::new()));
            tokio::spawn(driver);
            ([("x-accel-buffering", "no")], axum::body::Body::from_stream(body))
        })
    };
    let routes = Router::new().route("/alive", turn(HEARTBEAT));
    let routes = routes.route("/silent", turn(Duration::from_secs(3_600)));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

fn identity() -> TurnIdentity {
    TurnIdentity {
        tenant_id: "t".into(),
        session_id: "s".into(),
        user_id: "u".into(),
        turn_index: 0,
    }
}
