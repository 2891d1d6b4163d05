//! Thousands of connections that say nothing. A test binary of its own, for its memory and its file descriptors.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use turnkit_agents::demo::Demo;
use turnkit_http::server::listener::ConnectionLimits;
use turnkit_substrate::{Limits, MemoryLog, Substrate};

const SILENT: usize = 10_000;

/// Set in the process that has the clients' ends: where they connect to. One process may not have both ends of so many.
const CLIENTS_OF: &str = "TURNKIT_TEST_CLIENTS_OF";

/// Fewer than may wait to be accepted.
const AT_ONCE: usize = 500;

const CONNECTED: &str = "all are connected";

#[test]
fn they_cost_little_and_stop_nobody() {
    allow_descriptors(SILENT + 200);
    match env::var(CLIENTS_OF) {
        Ok(server) => connect_all(server.parse().unwrap()),
        Err(_) => tokio::runtime::Runtime::new().unwrap().block_on(serve_all()),
    }
}

async fn serve_all() {
    let connection = ConnectionLimits {
        connections: SILENT + 100,
        header_read: Duration::from_secs(600),
        ..ConnectionLimits::default()
    };
    let log = MemoryLog::new(Limits { connection, ..Limits::default() });
    let substrate = Substrate::builder().agent("default", Demo::new()).log(log);
    let substrate = substrate.build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { substrate.serve(listener, std::future::pending()).await });
    assert_eq!(health(address).await, 200);
    let before = resident();
    let mut clients = clients_of(address);
    let mut said = BufReader::new(clients.stdout.take().unwrap()).lines().map_while(Result::ok);
    let wait = move || (said.any(|line| line.contains(CONNECTED)), said);
    let (are_connected, said) = tokio::task::spawn_blocking(wait).await.unwrap();
    assert!(are_connected, "the clients could not connect");
    assert_eq!(health(address).await, 200);
    let each = resident().saturating_sub(before) / SILENT;
    assert!(each <= 4096, "{each} bytes for each silent connection");
    drop(clients.stdin.take());
    assert_eq!(said.filter(|line| line.contains("FAILED")).count(), 0);
    assert!(clients.wait().unwrap().success());
}

fn clients_of(server: SocketAddr) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "they_cost_little_and_stop_nobody", "--nocapture"]);
    command.env(CLIENTS_OF, server.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Stays connected until standard input ends.
fn connect_all(server: SocketAddr) {
    let mut silent = Vec::new();
    while silent.len() < SILENT {
        silent.extend((0..AT_ONCE).map(|_| TcpStream::connect(server).unwrap()));
        assert_eq!(ask(server), *b"HTTP/1.1 200");
    }
    println!("{CONNECTED}");
    assert_eq!(io::copy(&mut io::stdin(), &mut io::sink()).unwrap(), 0);
    drop(silent);
}

/// An answer means that all connections before this one were accepted.
fn ask(server: SocketAddr) -> [u8; 12] {
    let mut connection = TcpStream::connect(server).unwrap();
    connection.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut status = [0; 12];
    connection.read_exact(&mut status).unwrap();
    status
}

async fn health(server: SocketAddr) -> u16 {
    reqwest::get(format!("http://{server}/health")).await.unwrap().status().as_u16()
}

/// Resident bytes of this process.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn allow_descriptors(count: usize) {
    let limit = getrlimit(Resource::Nofile);
    let (current, maximum) = (Some(count as u64), limit.maximum);
    if limit.current.is_some_and(|allowed| allowed < count as u64) {
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }
}
