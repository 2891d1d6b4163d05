//! Spans, as a collector receives them over a real socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::support::{Process, run, turnkit};

/// What was posted: the head of the request, and its body.
type Posted = (String, Vec<u8>);

/// A collector that takes everything.
fn collector() -> (String, Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            thread::spawn(move || take(stream.unwrap(), &sender));
        }
    });
    (url, receiver)
}

fn take(stream: TcpStream, sender: &Sender<Posted>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            head.push('\n');
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        sender.send((head, body)).ok();
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
    }
}

fn holds(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_collector_gets_the_spans_of_a_turn_before_the_server_ends() {
    let (url, posted) = collector();
    let data_dir = tempfile::tempdir().unwrap();
    let mut command = turnkit();
    command.args(["serve", "--listen", "127.0.0.1:0", "--demo-pace", "1ms", "--data-dir"]);
    command.arg(data_dir.path()).env("OTEL_EXPORTER_OTLP_ENDPOINT", url);
    // Nothing is sent in time of its own: what arrives was flushed.
    command
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .env("OTEL_RESOURCE_ATTRIBUTES", "region=here");
    let server = Process::spawn(&mut command);
    assert!(run(&["chat", "--server", &server.url, "xyzzy"]).status.success());
    assert_eq!(server.terminate(), Some(0));
    let (head, body) = posted.try_recv().expect("spans");
    assert!(head.starts_with("post /v1/traces "), "{head}");
    let told = ["turnkit", "region", "execution_id", "hook", "find_completed", "trace_flush"];
    for text in told {
        assert!(holds(&body, text), "{text}");
    }
    assert!(!holds(&body, "xyzzy"), "no text of a message");
}
