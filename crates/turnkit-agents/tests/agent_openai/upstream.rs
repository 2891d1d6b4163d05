//! An OpenAI-compatible server that follows a script.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

/// What a connection does, once it has read a request.
#[derive(Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Until the test says [`Upstream::go_on`].
    Wait,
    /// Until the client is gone; tells it as [`Upstream::left`].
    UntilClosed,
    NextRequest,
    Pause(Duration),
    Close,
}

impl Step {
    pub(crate) fn send(text: &str) -> Self {
        Self::Send(text.as_bytes().to_vec())
    }
}

/// The head of an answer that ends with its connection.
pub(crate) fn head(status: u16, content_type: &str) -> Step {
    Step::send(&format!(
        "HTTP/1.1 {status} \r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n"
    ))
}

/// A stream in these pieces, each a packet of its own.
pub(crate) fn stream(pieces: &[&[u8]]) -> Vec<Step> {
    let pieces = pieces.iter().map(|piece| Step::Send(piece.to_vec()));
    let head = [head(200, "text/event-stream; charset=utf-8")];
    head.into_iter().chain(pieces).chain([Step::Close]).collect()
}

/// A good answer with this text.
pub(crate) fn answer(text: &str) -> Vec<Step> {
    let body = [chunk(&json!({ "content": text })), "data: [DONE]\n\n".to_owned()];
    stream(&[body.concat().as_bytes()])
}

/// A chunk with this delta, as a frame.
pub(crate) fn chunk(delta: &Value) -> String {
    chunk_with(
        &json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }], "usage": null }),
    )
}

/// A chunk with these members, as a frame.
pub(crate) fn chunk_with(members: &Value) -> String {
    let mut chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "/srv/models/small-model.gguf",
    });
    let members = members.as_object().unwrap().clone();
    chunk.as_object_mut().unwrap().extend(members);
    format!("data: {chunk}\n\n")
}

/// A request that came.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) body: Value,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(found, value)| (found == name).then_some(value.as_str()))
    }

    /// Reads one; none where the client is gone.
    async fn read(socket: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().lines();
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut request = Self { line, body: Value::Null, headers };
        let length: usize = request.header("content-length")?.parse().unwrap();
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.ok()?;
        request.body = serde_json::from_slice(&body).unwrap();
        Some(request)
    }
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    asked: Semaphore,
    go_on: Semaphore,
    left: Semaphore,
}

/// The server. Connection `n` follows script `n`.
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn new(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            asked: Semaphore::new(0),
            go_on: Semaphore::new(0),
            left: Semaphore::new(0),
        });
        let accepting = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                for script in scripts {
                    let (socket, _) = listener.accept().await.unwrap();
                    socket.set_nodelay(true).unwrap();
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(follow(socket, script, Arc::clone(&shared)));
                }
                // Whoever comes now is one too many.
                while listener.accept().await.is_ok() {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { address, shared, accepting }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Lets one [`Step::Wait`] end.
    pub(crate) fn go_on(&self) {
        self.shared.go_on.add_permits(1);
    }

    /// Resolves when a request was read.
    pub(crate) async fn asked(&self) {
        self.shared.asked.acquire().await.unwrap().forget();
    }

    /// Resolves when a [`Step::UntilClosed`] saw its client go.
    pub(crate) async fn left(&self) {
        self.shared.left.acquire().await.unwrap().forget();
    }

    /// Accepts nothing any more; the address that is now nobody's.
    pub(crate) async fn close(self) -> String {
        self.accepting.abort();
        let _ = self.accepting.await;
        self.address.to_string()
    }
}

async fn follow(mut socket: TcpStream, script: Vec<Step>, shared: Arc<Shared>) {
    if read(&mut socket, &shared).await.is_none() {
        return;
    }
    for step in script {
        let is_there = match step {
            Step::Send(bytes) => send(&mut socket, &bytes).await,
            Step::Wait => {
                shared.go_on.acquire().await.unwrap().forget();
                Some(())
            }
            Step::UntilClosed => {
                let _ = socket.read(&mut [0]).await;
                shared.left.add_permits(1);
                None
            }
            Step::NextRequest => read(&mut socket, &shared).await,
            Step::Pause(time) => {
                tokio::time::sleep(time).await;
                Some(())
            }
            Step::Close => None,
        };
        if is_there.is_none() {
            return;
        }
    }
}

async fn read(socket: &mut TcpStream, shared: &Shared) -> Option<()> {
    let request = Request::read(socket).await?;
    shared.requests.lock().unwrap().push(request);
    shared.asked.add_permits(1);
    Some(())
}

async fn send(socket: &mut TcpStream, bytes: &[u8]) -> Option<()> {
    socket.write_all(bytes).await.ok()?;
    socket.flush().await.ok()?;
    // Lets the other side see this piece by itself, mostly.
    tokio::task::yield_now().await;
    Some(())
}
