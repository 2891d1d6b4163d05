//! The adapter's transport over the simulated network.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use turnkit_id::ExecutionId;
use turnkit_sandbox::{ResponseBody, Transport, TransportError};
use turnkit_wire::sse;

use crate::{
    history::Fact,
    net::{self, NoAnswer},
    plan::{Link, host},
    world::World,
};

/// Sends each request over a connection of its own to the substrate's node.
pub(crate) struct Simulated {
    world: World,
}

impl Simulated {
    pub(crate) fn new(world: World) -> Self {
        Self { world }
    }
}

impl Transport for Simulated {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, TransportError>> {
        Box::pin(send(self.world.clone(), request))
    }
}

async fn send(
    world: World,
    request: Request<Bytes>,
) -> Result<Response<ResponseBody>, TransportError> {
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
fn telling_its_end(body: ResponseBody, whose: Option<(World, ExecutionId)>) -> ResponseBody {
    let next = |(mut body, whose): (ResponseBody, Option<(World, ExecutionId)>)| async move {
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
