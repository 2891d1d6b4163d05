//! A server that says exactly what a test tells it to, byte by byte, over real sockets.

use std::{
    borrow::BorrowMut,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use turnkit::{Produced, TurnProducer};
use turnkit_id::ExecutionId;
use turnkit_sandbox::{Error, Retry, RunRequest, SandboxClient, SandboxClientBuilder, SandboxTurn};

/// What one connection answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes, then silence.
    Silent(Vec<u8>),
    /// These bytes, then the others for ever.
    Endless(Vec<u8>, Vec<u8>),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &&str| {
            line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        self.head.lines().find(of)?.split_once(':').map(|(_, value)| value.trim())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Answers the nth connection with the nth answer, and later ones by closing.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    open: watch::Sender<u32>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let open = watch::Sender::new(0);
        let answers = answers.into_iter().collect();
        let serving = tokio::spawn(serve(listener, answers, Arc::clone(&requests), open.clone()));
        Self { address, requests, open, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Resolves once no connection is open.
    pub(crate) async fn released(&self) {
        self.open.subscribe().wait_for(|open| *open == 0).await.unwrap();
    }

    /// A client that does not wait long.
    pub(crate) fn client(&self) -> SandboxClient {
        self.builder().build().unwrap()
    }

    pub(crate) fn builder(&self) -> SandboxClientBuilder {
        let quick = |policy| Retry {
            first: Duration::from_millis(1),
            max: Duration::from_millis(5),
            ..policy
        };
        SandboxClient::builder(self.url())
            .retry_before_answer(Retry { attempts: 3, ..quick(Retry::BEFORE_ANSWER) })
            .retry_after_answer(quick(Retry::AFTER_ANSWER))
    }

    /// A run of `hello` under [`id`].
    pub(crate) fn run(&self) -> SandboxTurn {
        self.client().run(RunRequest::new(id(), "hello"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn id() -> ExecutionId {
    ExecutionId::derive("project", "session", 0).unwrap()
}

/// The lines of a turn, and how it ended.
pub(crate) async fn read(
    mut turn: impl BorrowMut<SandboxTurn>,
) -> (Vec<String>, Result<(), Error>) {
    let mut lines = Vec::new();
    loop {
        match turn.borrow_mut().next().await {
            Ok(Produced::Event(event)) => lines.push(event.as_json().to_owned()),
            Ok(Produced::Done { .. }) => return (lines, Ok(())),
            Err(error) => return (lines, Err(error)),
        }
    }
}

pub(crate) async fn error_of(turn: SandboxTurn) -> Error {
    let (lines, end) = read(turn).await;
    assert_eq!(lines, Vec::<String>::new());
    end.unwrap_err()
}

/// A 200 with an event stream that ends where the connection does.
pub(crate) fn stream(body: impl AsRef<[u8]>) -> Answer {
    Answer::Bytes(response("200 OK", "content-type: text/event-stream\r\n", body))
}

pub(crate) fn refusal(status: &str, headers: &str, body: &str) -> Answer {
    Answer::Bytes(response(status, headers, body))
}

pub(crate) fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

/// Frames of a log `7-1` to `7-n`, all of type `x`.
pub(crate) fn frames(range: std::ops::RangeInclusive<u32>) -> String {
    let frame = |seq| format!("id: 7-{seq}\nevent: x\ndata: {{\"seq\":{seq}}}\n\n");
    range.map(frame).collect()
}

/// The lines that [`frames`] give.
pub(crate) fn lines(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    let line = |seq| format!(r#"{{"type":"x","data":{{"seq":{seq}}}}}"#);
    range.map(line).collect()
}

pub(crate) fn completed(seq: u32) -> String {
    format!("id: 7-{seq}\nevent: execution.completed\ndata: {{}}\n\n")
}

async fn serve(
    listener: TcpListener,
    answers: Vec<Answer>,
    requests: Arc<Mutex<Vec<Request>>>,
    open: watch::Sender<u32>,
) {
    let mut answers = answers.into_iter();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let Some(request) = receive(&mut client).await else {
            continue;
        };
        requests.lock().unwrap().push(request);
        let Some(answer) = answers.next() else {
            continue;
        };
        open.send_modify(|open| *open += 1);
        let open = open.clone();
        tokio::spawn(async move {
            // Who is spoken to may leave at any time.
            drop(say(client, answer).await);
            open.send_modify(|open| *open -= 1);
        });
    }
}

async fn say(mut client: TcpStream, answer: Answer) -> io::Result<()> {
    match answer {
        Answer::Bytes(bytes) => {
            client.write_all(&bytes).await?;
            client.shutdown().await
        }
        Answer::Silent(bytes) => {
            client.write_all(&bytes).await?;
            client.read_to_end(&mut Vec::new()).await.map(drop)
        }
        Answer::Endless(first, more) => {
            client.write_all(&first).await?;
            loop {
                client.write_all(&more).await?;
            }
        }
    }
}

async fn receive(client: &mut TcpStream) -> Option<Request> {
    let mut received = Vec::new();
    loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(received[..end].to_vec()).unwrap();
            let request = Request { head, body: received[end + 4..].to_vec() };
            let length =
                request.header("content-length").map_or(0, |length| length.parse().unwrap());
            if request.body.len() >= length {
                return Some(request);
            }
        }
        if client.read_buf(&mut received).await.unwrap() == 0 {
            return None;
        }
    }
}
