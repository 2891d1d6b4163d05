//! `turnkit chat` where the connection to its server is cut.

use std::io::Read as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::support::{Rig, TEXT};

/// Passes bytes on until it is told to cut: then every connection ends, and the next one before its first byte.
struct Cutter {
    url: String,
    cut: Arc<watch::Sender<bool>>,
}

impl Cutter {
    async fn before(server: &str) -> Cutter {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cut = Arc::new(watch::Sender::new(false));
        let cuts = Arc::clone(&cut);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if cuts.send_replace(false) {
                    continue;
                }
                tokio::spawn(pass_on(client, server.clone(), cuts.subscribe()));
            }
        });
        Cutter { url, cut }
    }
}

async fn pass_on(mut client: TcpStream, server: String, mut cut: watch::Receiver<bool>) {
    let mut server = TcpStream::connect(server).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}

#[tokio::test]
async fn a_reader_that_is_no_terminal_gets_the_answer_and_one_newline() {
    let rig = Rig::start().await;
    let cutter = Cutter::before(&rig.client().url).await;
    let mut chat = Command::new(env!("CARGO_BIN_EXE_turnkit"));
    chat.args(["chat", "--server", &cutter.url, "hello"]).stdin(Stdio::null());
    let mut chat = chat.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    rig.substrate.allow(1);
    let mut out = chat.stdout.take().unwrap();
    let (mut out, mut text) = spawn_blocking(move || {
        let mut first = vec![0; "w0 ".len()];
        out.read_exact(&mut first).unwrap();
        (out, first)
    })
    .await
    .unwrap();
    cutter.cut.send_replace(true);
    rig.substrate.allow(4);
    let Output { stderr, status, .. } =
        spawn_blocking(move || chat.wait_with_output().unwrap()).await.unwrap();
    out.read_to_end(&mut text).unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{stderr}");
    assert_eq!(String::from_utf8(text).unwrap(), format!("{TEXT}\n"));
    assert_eq!(stderr.matches("connection lost after ").count(), 1, "{stderr}");
}

/// What a program says, and its exit code, when its output has no reader from the first.
fn unread(arguments: &[&str]) -> (String, Option<i32>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_turnkit"));
    child.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    drop(child.stdout.take());
    let Output { stderr, status, .. } = child.wait_with_output().unwrap();
    (String::from_utf8(stderr).unwrap(), status.code())
}

#[tokio::test]
async fn where_nobody_reads_it_ends_without_a_word() {
    let rig = Rig::start().await;
    rig.substrate.allow(5);
    let url = rig.client().url.clone();
    let chat = spawn_blocking(move || unread(&["chat", "--json", "--server", &url, "hello"]));
    assert_eq!(chat.await.unwrap(), (String::new(), Some(141)));
    let demo = spawn_blocking(|| unread(&["demo", "--pace", "1ms"]));
    assert_eq!(demo.await.unwrap(), (String::new(), Some(141)));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_told() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_turnkit"));
    let output = demo.args(["demo", "--pace", "1ms"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("turnkit: failed to write to standard output: "), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
}
