//! An accept loop with the timers and bounds that a bare `axum::serve` does not set (PROTOCOL 3.2).
//!
//! Any HTTP/1.1 service in front of untrusted peers can be served by it.

use std::{
    convert::Infallible, error::Error, future::ready, io, net::SocketAddr, sync::Arc,
    time::Duration,
};

use axum::{extract::ConnectInfo, response::IntoResponse as _};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Either;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as HyperService, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time,
};
use tower::Service;

use super::ApiError;

/// The bounds of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections: 8,192. One more is answered with 503 `unavailable` and closed.
    pub connections: usize,
    /// The longest head of a request, in bytes, and how much of an answer waits in memory for a slow peer: 64 KiB; at least
    /// 8 KiB. A longer head is answered with 431, and so is one of more than 100 fields.
    pub header_bytes: usize,
    /// How long the head of a request may take, from the moment that the connection could carry one: 10 s. Then the
    /// connection is closed, also an idle one that is kept alive.
    pub header_read: Duration,
    /// How long the body of a request may take: 30 s. Kept by the service, not by this module.
    pub body_read: Duration,
    /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`, RFC 5482): 60 s. So a peer that is gone, and one that
    /// reads nothing for so long, loses its connection.
    pub tcp_user_timeout: Duration,
    /// How long requests may go on after the shutdown began: 30 s. Then they are cut.
    pub shutdown: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            header_bytes: 64 * 1024,
            header_read: Duration::from_secs(10),
            body_read: Duration::from_secs(30),
            tcp_user_timeout: Duration::from_secs(60),
            shutdown: Duration::from_secs(30),
        }
    }
}

/// A listener at `address`. A port that is in use is tried again for 2 s: a server that was killed leaves it to the system, which
/// takes a moment to clear it away.
///
/// # Errors
/// Where the address cannot be had.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = time::Instant::now() + BIND_WITHIN;
    loop {
        match TcpListener::bind(address).await {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && time::Instant::now() < deadline =>
            {
                time::sleep(BIND_AGAIN).await;
            }
            bound => return bound,
        }
    }
}

/// Serves `service` on every connection of `listener`, until `shutdown` resolves and the requests under way are answered.
///
/// An answer that is still under way [`ConnectionLimits::shutdown`] later is cut. Errors of a connection end that connection
/// only; when there are no file descriptors left, it waits for some. Dropping the future cuts every connection.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use turnkit_http::server::listener::{ConnectionLimits, serve};
///
/// # async fn run() -> std::io::Result<()> {
/// let routes: Router = Router::new().route("/", get(|| async { "hello" }));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let shutdown = async { drop(stopped.await) };
/// serve(listener, routes, &ConnectionLimits::default(), shutdown).await;
/// # drop(stop);
/// # Ok(())
/// # }
/// ```
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    limits: &ConnectionLimits,
    shutdown: impl Future<Output = ()> + Send,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let connections = accept_until(listener, service, limits, shutdown).await;
    connections.end_within(limits.shutdown).await;
}

/// Serves `service` on every connection of `listener` until `shutdown` resolves; then the listener is closed, and the
/// connections end with the requests that are under way. For servers that have more to end than connections; the time that
/// they may take is theirs to say, not [`ConnectionLimits::shutdown`].
///
/// Each request's extensions hold the address of its peer, as axum's `ConnectInfo<SocketAddr>`. Dropping the future, or what it gives, cuts
/// every connection.
pub async fn accept_until<S, B>(
    listener: TcpListener,
    service: S,
    limits: &ConnectionLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> Connections
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    lengthen_queue(&listener);
    let phase = watch::Sender::new(Phase::Open);
    let acceptor = Acceptor::new(limits);
    let spawn = |connection: Connection, stream, peer| {
        tokio::spawn(connection.serve(stream, peer, service.clone()));
    };
    tokio::select! {
        never = acceptor.accept_all(&listener, &phase, spawn) => match never {},
        () = shutdown => {}
    }
    drop(listener);
    phase.send_replace(Phase::Draining);
    Connections { phase }
}

/// The connections that are left when no new one is accepted. Dropping it cuts them.
#[derive(Debug)]
pub struct Connections {
    phase: watch::Sender<Phase>,
}

impl Connections {
    /// Waits until they have ended, and cuts those that have not after `grace`.
    pub async fn end_within(self, grace: Duration) {
        if time::timeout(grace, self.ended()).await.is_err() {
            self.cut().await;
        }
    }

    /// Waits until they have ended. Cancel: safe.
    pub async fn ended(&self) {
        self.phase.closed().await;
    }

    /// Cuts those that are left, and waits until they are gone: their peers see that what they have is not whole.
    pub async fn cut(self) {
        self.phase.send_replace(Phase::Closed);
        self.ended().await;
    }
}

/// What connections are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Answer what was asked, then close.
    Draining,
    /// Close.
    Closed,
}

struct Acceptor {
    limits: ConnectionLimits,
    permits: Arc<Semaphore>,
    /// For connections over the bound that are told so; more than these are closed without a word.
    refusals: Arc<Semaphore>,
}

impl Acceptor {
    fn new(limits: &ConnectionLimits) -> Self {
        Self {
            limits: limits.clone(),
            permits: Arc::new(Semaphore::new(limits.connections)),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
        }
    }

    async fn accept_all(
        &self,
        listener: &TcpListener,
        phase: &watch::Sender<Phase>,
        spawn: impl Fn(Connection, TcpStream, SocketAddr),
    ) -> Infallible {
        loop {
            let (stream, peer) = accept(listener).await;
            self.set_options(&stream);
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
                self.refuse(stream);
                continue;
            };
            let connection = Connection {
                limits: self.limits.clone(),
                phase: phase.subscribe(),
                _permit: permit,
            };
            spawn(connection, stream, peer);
        }
    }

    /// Small writes leave at once, and a peer that is gone is noticed. A connection that cannot have them works without.
    fn set_options(&self, stream: &TcpStream) {
        let set = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let set = set.and_then(|()| {
            SockRef::from(stream).set_tcp_user_timeout(Some(self.limits.tcp_user_timeout))
        });
        if let Err(error) = set {
            tracing::debug!(%error, "a connection did not take its options");
        }
    }

    fn refuse(&self, stream: TcpStream) {
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            tokio::spawn(async move {
                // The peer may be gone, or not read: either way it is closed.
                let _ = time::timeout(REFUSAL_TIME, tell_refused(stream)).await;
                drop(permit);
            });
        }
    }
}

/// The standard library lets 128 connections wait to be accepted. Of more clients that come back in one moment, as they do after
/// a restart, each would lose a second or more.
fn lengthen_queue(listener: &TcpListener) {
    if let Err(error) = SockRef::from(listener).listen(QUEUE) {
        tracing::debug!(%error, "the queue of new connections stays short");
    }
}

/// The next connection. Running out of file descriptors passes once connections end.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "connections cannot be accepted now");
                time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers one request with 503: an answer before any request would be none to many clients.
async fn tell_refused(stream: TcpStream) -> hyper::Result<()> {
    let refusal = service_fn(|_| {
        let refusal = ApiError::unavailable("the server has too many connections");
        ready(Ok::<_, Infallible>(refusal.into_response()))
    });
    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), refusal).await
}

/// The system may allow fewer.
const QUEUE: i32 = 4_096;
const BIND_WITHIN: Duration = Duration::from_secs(2);
const BIND_AGAIN: Duration = Duration::from_millis(50);
const REFUSALS: usize = 64;
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

struct Connection {
    limits: ConnectionLimits,
    phase: watch::Receiver<Phase>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve<S, B>(mut self, stream: TcpStream, peer: SocketAddr, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if !self.has_something_to_say(&stream).await {
            return;
        }
        let service = bounded(service, peer, self.limits.header_bytes.max(MIN_BUFFER));
        // Boxed, so that a silent connection's task is small as well.
        let mut connection = Box::pin(self.http().serve_connection(TokioIo::new(stream), service));
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                phase = next_phase(&mut self.phase) => match phase {
                    Phase::Closed => return,
                    _ => connection.as_mut().graceful_shutdown(),
                },
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// A silent connection costs no buffers: HTTP begins with its first byte.
    async fn has_something_to_say(&mut self, stream: &TcpStream) -> bool {
        let mut first = [0];
        tokio::select! {
            peeked = stream.peek(&mut first) => peeked.is_ok_and(|bytes| bytes > 0),
            () = time::sleep(self.limits.header_read) => false,
            _ = next_phase(&mut self.phase) => false,
        }
    }

    fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_read)
            .max_buf_size(self.limits.header_bytes.max(MIN_BUFFER));
        http
    }
}

/// The smallest buffer that hyper takes.
const MIN_BUFFER: usize = 8 * 1024;

/// The service, told who the peer is, behind the exact limit of a head: where bytes come fast, hyper takes in more than its bound.
fn bounded<S, B>(
    service: S,
    peer: SocketAddr,
    limit: usize,
) -> impl HyperService<
    Request<Incoming>,
    Response = Response<Either<B, axum::body::Body>>,
    Error = Infallible,
    Future: Send,
>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let service = TowerToHyperService::new(service);
    service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = (head_bytes(&request) <= limit).then(|| service.call(request));
        async move {
            Ok(match answer {
                Some(answer) => answer.await?.map(Either::Left),
                None => ApiError::head_too_large(limit).into_response().map(Either::Right),
            })
        }
    })
}

/// How long a head is, as it is commonly written.
fn head_bytes(request: &Request<Incoming>) -> usize {
    let line = request.method().as_str().len() + request.uri().to_string().len();
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let fields = fields.map(|bytes| bytes + ": \r\n".len()).sum::<usize>();
    line + "  HTTP/1.1\r\n\r\n".len() + fields
}

/// The phase after this one; [`Phase::Closed`] where the server itself is gone.
async fn next_phase(phase: &mut watch::Receiver<Phase>) -> Phase {
    match phase.changed().await {
        Ok(()) => *phase.borrow_and_update(),
        Err(_) => Phase::Closed,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn five_hundred_clients_may_come_while_nobody_accepts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let limits = ConnectionLimits::default();
            serve(listener, axum::Router::<()>::new(), &limits, std::future::pending()).await;
        });
        tokio::task::yield_now().await;
        // This is the server's thread as well: while it connects, it does not accept.
        let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(30));
        let clients: io::Result<Vec<_>> = (0..500).map(connect).collect();
        assert_eq!(clients.unwrap().len(), 500);
    }

    #[tokio::test]
    async fn a_port_that_is_in_use_for_a_moment_is_waited_for() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = holder.local_addr().unwrap();
        let mut bound = std::pin::pin!(bind(address));
        assert!(futures_util::poll!(&mut bound).is_pending());
        drop(holder);
        assert_eq!(bound.await.unwrap().local_addr().unwrap(), address);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_stays_in_use_is_told() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = bind(holder.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn an_accepted_socket_notices_a_peer_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_client, (accepted, _)) = tokio::join!(TcpStream::connect(address), accept(&listener));
        let acceptor = Acceptor::new(&ConnectionLimits::default());
        acceptor.set_options(&accepted);
        let timeout = SockRef::from(&accepted).tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(Duration::from_secs(60)));
        assert!(accepted.nodelay().unwrap());
    }
}
