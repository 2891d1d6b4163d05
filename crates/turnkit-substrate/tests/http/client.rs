//! A client that checks what every answer must be.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use turnkit_substrate::{
    Agent, Clock, Limits, ServeError, Substrate, SubstrateBuilder, SystemClock,
};
use turnkit_wire::sse::Parser;

/// A substrate on a loopback port. Dropping it cuts every connection.
pub(crate) struct Server {
    pub(crate) substrate: Substrate,
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub(crate) async fn with_agent(agent: impl Agent) -> Self {
        Self::with_limits(agent, Limits::default()).await
    }

    pub(crate) async fn with_limits(agent: impl Agent, limits: Limits) -> Self {
        Self::with_clock(agent, limits, Arc::new(SystemClock::new())).await
    }

    pub(crate) async fn with_clock(
        agent: impl Agent,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let log = crate::log(limits, Arc::clone(&clock));
        let builder = Substrate::builder().agent("default", agent);
        Self::serve(builder.log(log).clock(clock)).await
    }

    pub(crate) async fn serve(builder: SubstrateBuilder) -> Self {
        Self::serve_until(builder, std::future::pending()).await
    }

    pub(crate) async fn serve_until(
        builder: SubstrateBuilder,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        raise_descriptors();
        let substrate = builder.build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn({
            let substrate = substrate.clone();
            async move { substrate.serve(listener, shutdown).await }
        });
        // A connection of its own for every request.
        let client = reqwest::Client::builder().no_proxy();
        let client = client.pool_max_idle_per_host(0).build().unwrap();
        Self { substrate, address, client, serving }
    }

    /// Resolves when the server has shut down.
    pub(crate) async fn finished(mut self) -> Result<(), ServeError> {
        (&mut self.serving).await.unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
            .timeout(Duration::from_secs(60))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    /// A request to run, as an adapter sends it.
    pub(crate) fn run(&self, id: &str, message: &str) -> RequestBuilder {
        let body = json!({ "message": message });
        self.post("/agents/run/stream", &body).header("X-Execution-ID", id)
    }

    pub(crate) fn attach(&self, id: &str, cursor: &str) -> RequestBuilder {
        self.run(id, "").header("Last-Event-ID", cursor)
    }

    /// The id of its log, as it tells it.
    pub(crate) async fn log_id(&self) -> String {
        let capabilities = Answer::of(self.get("/capabilities")).await.body;
        capabilities["logId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn status(&self, id: &str) -> Answer {
        Answer::of(self.get(&format!("/agents/executions/{id}"))).await
    }

    pub(crate) fn delete(&self, id: &str) -> RequestBuilder {
        self.request(Method::DELETE, &format!("/agents/executions/{id}"))
    }

    pub(crate) async fn cancel(&self, id: &str) -> Answer {
        Answer::of(self.post("/agents/run/cancel", &json!({ "executionId": id }))).await
    }
}

/// Hundreds of connections need more file descriptors than many shells give a process at first.
fn raise_descriptors() {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let (current, maximum) = (allowed, allowed);
    // Where it is refused, the tests with many connections say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Writes `request` to the server as it is, and reads until the server closes.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// An answer that is no stream.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Self { status, headers, body }
    }

    /// Checks the shape that every error has.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.body["success"], false);
        assert_eq!(self.body["error"]["code"], code, "{self:?}");
        assert!(!self.body["error"]["message"].as_str().unwrap().is_empty());
        let retries = matches!(status, 429 | 503);
        assert_eq!(self.headers.contains_key("retry-after"), retries);
    }
}

/// A frame of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

impl Frame {
    pub(crate) fn seq(&self) -> u64 {
        self.id.split_once('-').unwrap().1.parse().unwrap()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.id.split_once('-').unwrap().0.parse().unwrap()
    }
}

/// An open stream.
pub(crate) struct Stream {
    pub(crate) headers: HeaderMap,
    /// Every byte of it so far.
    pub(crate) bytes: Vec<u8>,
    response: reqwest::Response,
    parser: Parser,
    frames: VecDeque<Frame>,
}

impl Stream {
    /// Opens it, and checks what the head of every stream must be.
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-accel-buffering"], "no");
        let (bytes, parser, frames) = (Vec::new(), Parser::new(), VecDeque::new());
        Self { headers, bytes, response, parser, frames }
    }

    pub(crate) fn execution_id(&self) -> &str {
        self.headers["x-execution-id"].to_str().unwrap()
    }

    /// The next frame; `None` at the clean end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        self.try_next().await.unwrap()
    }

    pub(crate) async fn try_next(&mut self) -> reqwest::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Reads some bytes; `false` at the clean end.
    pub(crate) async fn read(&mut self) -> reqwest::Result<bool> {
        let Some(chunk) = self.response.chunk().await? else {
            return Ok(false);
        };
        self.bytes.extend_from_slice(&chunk);
        let frames = &mut self.frames;
        self.parser
            .feed(&chunk, |frame| {
                frames.push_back(Frame {
                    id: frame.id().to_owned(),
                    kind: frame.event().to_owned(),
                    data: serde_json::from_slice(frame.data()).unwrap(),
                });
            })
            .unwrap();
        Ok(true)
    }

    /// All frames up to the clean end.
    pub(crate) async fn rest(mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

/// All frames of the stream that answers this request.
pub(crate) async fn stream(request: RequestBuilder) -> Vec<Frame> {
    Stream::open(request).await.rest().await
}

/// The kinds of frames.
pub(crate) fn kinds(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.kind.as_str()).collect()
}
