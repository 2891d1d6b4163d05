//! The adapter's transport over the simulated network.

use std::sync::Arc;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame};
use turnkit_id::ExecutionId;
use turnkit_sandbox::TransportError;
use turnkit_wire::sse;

use crate::{
    history::Fact,
    net::{self, NoAnswer},
    plan::{Link, host},
    world::World,
};

/// The body of an answer, in chunks. An item that is an error is the last one.
pub(crate) type Chunks = BoxStream<'static, Result<Bytes, TransportError>>;

/// An answer to come.
pub(crate) type Sending = BoxFuture<'static, Result<Response<Chunks>, TransportError>>;

/// How requests come to the substrate.
pub(crate) type Way = Arc<dyn Fn(Request<Bytes>) -> Sending + Send + Sync>;

/// Sends each request over a connection of its own to the substrate's node.
pub(crate) fn simulated(world: World) -> Way {
    Arc::new(move |request| Box::pin(send(world.clone(), request)))
}

/// Sends a request of the adapter on this way.
pub(crate) async fn over(
    way: Way,
    request: Request<Full<Bytes>>,
) -> Result<Response<impl Body<Data = Bytes, Error = TransportError>>, TransportError> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await;
    let answer = way(Request::from_parts(head, body.to_bytes())).await?;
    Ok(answer.map(|chunks| StreamBody::new(chunks.map_ok(Frame::data))))
}

async fn send(world: World, request: Request<Bytes>) -> Result<Response<Chunks>, TransportError> {
    // Between a decision and the request that carries it out there is a moment in which a process can die.
    world.pause().await;
    let is_run = !request.headers().contains_key(CURSOR);
    let answer = net::send(&world, Link::Substrate, host::SUBSTRATE, request).await;
    let answer = answer.map_err(|no_answer| match no_answer {
        NoAnswer::Connect(error) => TransportError::Connect(error),
        NoAnswer::Broken(error) => TransportError::Answer(error),
    })?;
    let execution = execution(answer.headers()).filter(|_| answer.status() == 200);
    if let Some(execution) = execution.clone().filter(|_| is_run) {
        world.add(Fact::Answered { execution });
    }
    let is_stream =
        answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == sse::CONTENT_TYPE);
    let streamed = execution.filter(|_| is_stream).map(|execution| (world, execution));
    Ok(answer
        .map(|chunks| telling_its_end(chunks.map_err(TransportError::Broken).boxed(), streamed)))
}

/// The same body. Once its reader has come to the clean end, the history says so.
fn telling_its_end(body: Chunks, whose: Option<(World, ExecutionId)>) -> Chunks {
    let next = |(mut body, whose): (Chunks, Option<(World, ExecutionId)>)| async move {
        match (body.next().await, whose) {
            (Some(Ok(chunk)), whose) => Some((Ok(chunk), (body, whose))),
            (Some(Err(error)), _) => Some((Err(error), (body, None))),
            (None, whose) => {
                if let Some((world, execution)) = whose {
                    world.add(Fact::StreamEnded { execution });
                }
                None
            }
        }
    };
    stream::unfold((body, whose), next).boxed()
}

/// What only an attach carries.
pub(crate) const CURSOR: &str = "last-event-id";

/// The execution that a request or an answer is about.
pub(crate) fn execution(headers: &HeaderMap) -> Option<ExecutionId> {
    ExecutionId::parse(headers.get("x-execution-id")?.to_str().ok()?).ok()
}
