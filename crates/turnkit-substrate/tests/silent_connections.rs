//! Thousands of connections that say nothing. A test binary of its own, for its memory and its file descriptors.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, time::Duration};

use futures_util::{StreamExt as _, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use turnkit_substrate::{
    Limits, MemoryLog, Substrate, agents::demo::Demo, listener::ConnectionLimits,
};

/// As many as the process may have open, a client's and a server's end of each.
const SILENT: usize = 9_000;

#[tokio::test(flavor = "multi_thread")]
async fn they_cost_little_and_stop_nobody() {
    let silent = SILENT.min((descriptors() - 500) / 2);
    let connection = ConnectionLimits {
        connections: silent + 100,
        header_read: Duration::from_secs(600),
        ..ConnectionLimits::default()
    };
    let log = MemoryLog::new(Limits { connection, ..Limits::default() });
    let substrate = Substrate::builder().agent("default", Demo::new()).log(log);
    let substrate = substrate.build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { substrate.serve(listener, std::future::pending()).await });

    let before = resident_kib();
    let connects = (0..silent).map(|_| TcpStream::connect(address));
    let connects = stream::iter(connects).buffer_unordered(500);
    let silent: Vec<_> = connects.map(Result::unwrap).collect().await;

    let mut one = TcpStream::connect(address).await.unwrap();
    let ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    one.write_all(ask).await.unwrap();
    let mut answer = String::new();
    one.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let each = (resident_kib().saturating_sub(before)) * 1024 / silent.len();
    assert!(each <= 4096, "{each} bytes for each silent connection");
    drop(silent);
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

/// How many file descriptors this process may have, once it has asked for all that it is allowed.
fn descriptors() -> usize {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let (current, maximum) = (allowed, allowed);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    allowed.map_or(usize::MAX, |all| usize::try_from(all).unwrap())
}
