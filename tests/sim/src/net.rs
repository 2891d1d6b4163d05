//! HTTP/1.1 over turmoil's network, with the faults of single connections.

mod faulty;
mod serve;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, future::ready};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyStream, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{task::JoinHandle, time::timeout};
use turmoil::net::TcpStream;
use turnkit::BoxError;

use self::faulty::Faulty;
use crate::{
    plan::{ConnectionFault, Link},
    world::World,
};

pub(crate) use self::serve::serve;

/// The port of every server.
pub(crate) const PORT: u16 = 80;

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(3);

/// An answer's body, in chunks. After an error, or none, nothing follows.
pub(crate) type Chunks = futures_core::stream::BoxStream<'static, Result<Bytes, BoxError>>;

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// No connection.
    Connect(BoxError),
    /// The connection ended before the head of an answer.
    Broken(BoxError),
}

/// Sends one request over a connection of its own, with whatever fault that connection meets.
pub(crate) async fn send(
    world: &World,
    link: Link,
    to: &'static str,
    request: Request<Bytes>,
) -> Result<Response<Chunks>, NoAnswer> {
    let fault = world.connection(link);
    match fault {
        Some(ConnectionFault::Late(by)) => tokio::time::sleep(by).await,
        Some(ConnectionFault::Twice(after)) => send_again(world, link, to, &request, after),
        _ => {}
    }
    exchange(world, link, to, request, fault).await
}

/// A copy of the request, on its way whatever becomes of the original, its answer read by nobody.
fn send_again(
    world: &World,
    link: Link,
    to: &'static str,
    request: &Request<Bytes>,
    after: Duration,
) {
    world.struck(link, ConnectionFault::Twice(after));
    let (world, copy) = (world.clone(), request.clone());
    drop(tokio::spawn(async move {
        tokio::time::sleep(after).await;
        // What it answers is nobody's business.
        if let Ok(answer) = exchange(&world, link, to, copy, None).await {
            drop(answer.into_body().next().await);
        }
    }));
}

async fn exchange(
    world: &World,
    link: Link,
    to: &'static str,
    request: Request<Bytes>,
    fault: Option<ConnectionFault>,
) -> Result<Response<Chunks>, NoAnswer> {
    let connecting = timeout(CONNECT, TcpStream::connect((to, PORT))).await;
    let stream = connecting.map_err(|late| NoAnswer::Connect(late.into()))?;
    let stream = stream.map_err(|error| NoAnswer::Connect(error.into()))?;
    let stream = Faulty::new(stream, world.clone(), fault.map(|fault| (link, fault)));
    let stream = stream.map_err(|error| NoAnswer::Connect(error.into()))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| NoAnswer::Connect(error.into()))?;
    let connection = Connection(tokio::spawn(connection));
    let answer = sender.send_request(on_the_wire(request)).await;
    let answer = answer.map_err(|error| NoAnswer::Broken(error.into()))?;
    let ends_early = matches!(fault, Some(ConnectionFault::EndAnswer(_)));
    Ok(answer.map(|body| chunks(body, connection, ends_early)))
}

/// In origin form, with the name of its host.
fn on_the_wire(request: Request<Bytes>) -> Request<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    let host = authority.and_then(|host| HeaderValue::from_str(&host).ok());
    parts.headers.insert(header::HOST, host.unwrap_or(HeaderValue::from_static(LOOPBACK)));
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(Uri::default, Uri::from);
    Request::from_parts(parts, Full::new(body))
}

/// The name that servers without tokens let in.
const LOOPBACK: &str = "127.0.0.1";

fn chunks(body: Incoming, connection: Connection, ends_early: bool) -> Chunks {
    let frames = BodyStream::new(body).filter_map(|frame| {
        ready(match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(BoxError::from(error))),
        })
    });
    let chunks = frames.map(move |chunk| {
        let _alive = &connection;
        chunk
    });
    if ends_early {
        // As behind a proxy that ends a body which its upstream has broken off.
        return chunks.take_while(|chunk| ready(chunk.is_ok())).boxed();
    }
    chunks.boxed()
}

/// Closed when dropped.
struct Connection(JoinHandle<Result<(), hyper::Error>>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}
