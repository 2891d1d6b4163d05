//! Mistakes of an adapter, made between the real one and the network.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, future::ready, stream};
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use turnkit_id::ExecutionId;
use turnkit_wire::sse;

use super::Bug;
use crate::{
    transport::{CURSOR, Chunks, Way, execution},
    world::World,
};

/// The bodies that started the executions, remembered beyond the death of a worker.
pub(crate) type Memory = Arc<Mutex<BTreeMap<ExecutionId, Bytes>>>;

/// `inner`, with the mistake of this world, if that is one of the adapter's.
pub(crate) fn transport(world: &World, inner: Way, memory: Memory) -> Way {
    if world.has(Bug::ResumeStarts) {
        restarting(inner, memory, |cursor| cursor != "0")
    } else if world.has(Bug::DispatchOnRetry) {
        restarting(inner, memory, |cursor| cursor == "0")
    } else if world.has(Bug::CursorSkipsFiltered) {
        rewriting(inner, without_filtered)
    } else if world.has(Bug::EndWithoutTerminal) {
        rewriting(inner, with_an_end)
    } else {
        inner
    }
}

/// Sends the run itself where an attach was asked for.
fn restarting(inner: Way, memory: Memory, restarts: fn(&str) -> bool) -> Way {
    Arc::new(move |mut request: Request<Bytes>| {
        if let Some(execution) = execution(request.headers()) {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            match cursor(request.headers()) {
                None => {
                    memory.insert(execution, request.body().clone());
                }
                Some(cursor) if restarts(&cursor) => {
                    if let Some(run) = memory.get(&execution) {
                        *request.body_mut() = run.clone();
                        request.headers_mut().remove(CURSOR);
                    }
                }
                Some(_) => {}
            }
        }
        inner(request)
    })
}

fn cursor(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(CURSOR)?.to_str().ok()?.to_owned())
}

/// Changes the event streams among the answers.
fn rewriting(inner: Way, rewrite: fn(Chunks) -> Chunks) -> Way {
    Arc::new(move |request| {
        let sending = inner(request);
        Box::pin(async move {
            let answer = sending.await?;
            let content = answer.headers().get(CONTENT_TYPE);
            let is_stream = content.is_some_and(|content| content == sse::CONTENT_TYPE);
            Ok(if is_stream { answer.map(rewrite) } else { answer })
        })
    })
}

/// Whatever ends a stream, it says that the execution is done.
fn with_an_end(body: Chunks) -> Chunks {
    let end = stream::once(async { Ok(Bytes::from_static(b"\n\nevent: done\ndata: {}\n\n")) });
    let body = body.take_while(|chunk| ready(chunk.is_ok()));
    Box::pin(body.chain(end))
}

/// Without the frames that no client gets to see, and so without their ids.
fn without_filtered(body: Chunks) -> Chunks {
    let mut parser = sse::Parser::new();
    Box::pin(body.map_ok(move |chunk| {
        let mut kept = BytesMut::new();
        // A frame over the limit would be over the adapter's, too.
        let _ = parser.feed(&chunk, |frame| {
            if frame.event() != "heartbeat" {
                let name = frame.has_event().then(|| frame.event());
                // It was a frame before, so it can be one again.
                let _ = sse::write_frame(&mut kept, name, Some(frame.id()), frame.data());
            }
        });
        kept.freeze()
    }))
}
