//! A network of a test's own, whose packets can be dropped.

use std::{
    env, fs,
    process::{Command, Stdio},
    time::Duration,
};

/// Set for the test that runs inside.
const INSIDE: &str = "TURNKIT_TEST_NAMESPACE";

/// Runs `body` in a network namespace of its own: by calling this very test again, under `unshare`.
pub(crate) fn in_a_network_of_its_own(test: &str, body: impl Future<Output = ()>) {
    if env::var_os(INSIDE).is_some() {
        sh("ip", &["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        return runtime.unwrap().block_on(body);
    }
    if !is_possible("network namespaces with iptables", isolated("iptables").arg("-L")) {
        return;
    }
    let mut command = isolated(env::current_exe().unwrap().to_str().unwrap());
    let status = command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "inside its namespace the test has failed");
}

/// Whether the machine can do what `probe` does; where not, that is said, and under `CI=true` it is a failure.
pub(crate) fn is_possible(what: &str, probe: &mut Command) -> bool {
    let probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_possible = probe.is_ok_and(|status| status.success());
    let is_ci = env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(is_possible || !is_ci, "this machine has no {what}, which CI needs");
    if !is_possible {
        eprintln!("NOT TESTED: this machine has no {what}");
    }
    is_possible
}

/// Drops every packet from and to this port, silently.
pub(crate) fn drop_packets_of(port: u16) {
    for side in ["--sport", "--dport"] {
        let rule = ["-w", "-I", "INPUT", "-p", "tcp", side, &port.to_string(), "-j", "DROP"];
        sh("iptables", &rule);
    }
}

/// The port of the one client that is connected to the server at `server`, once all others have left.
pub(crate) async fn client_of(server: u16) -> u16 {
    loop {
        let connected = rows().into_iter().filter(|row| is_established(row)).map(|row| ports(&row));
        let clients: Vec<_> = connected.filter(|(_, remote)| *remote == server).collect();
        if let [(client, _)] = clients[..] {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the server at `server` has given up its connection with `client`.
pub(crate) async fn given_up(server: u16, client: u16) {
    while sockets().any(|socket| socket == (server, client)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Local and remote port of every socket of this network.
fn sockets() -> impl Iterator<Item = (u16, u16)> {
    rows().into_iter().map(|row| ports(&row))
}

fn rows() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    table.lines().skip(1).map(str::to_owned).collect()
}

/// Not one that waits for its last packets.
fn is_established(row: &str) -> bool {
    row.split_whitespace().nth(3) == Some("01")
}

fn ports(row: &str) -> (u16, u16) {
    let mut columns = row.split_whitespace().skip(1);
    let mut port = || {
        let (_, port) = columns.next().unwrap().rsplit_once(':').unwrap();
        u16::from_str_radix(port, 16).unwrap()
    };
    (port(), port())
}

fn isolated(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--", program]);
    command
}

fn sh(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}
