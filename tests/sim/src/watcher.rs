//! A raw client of the substrate: it takes what comes, drops no repeats, and writes everything down.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, header};
use tokio::time::{sleep, timeout};
use turnkit::BoxError;
use turnkit_id::ExecutionId;
use turnkit_wire::sse;

use crate::{
    history::{EventId, Fact, WatchAct},
    net::{self, Chunks},
    plan::{Link, host},
    substrate::TOKEN,
    world::{World, now},
};

/// How often it looks for new executions, and how long it waits before it comes back to one.
const AGAIN: Duration = Duration::from_millis(400);

/// How long a stream may be silent; the substrate says something every 2 s.
const IDLE: Duration = Duration::from_secs(6);

/// Watches every execution until the world is over.
pub(crate) async fn watch(world: World) -> Result<(), BoxError> {
    let mut watched = BTreeSet::new();
    while !world.is_over() {
        for execution in world.executions() {
            if watched.insert(execution.clone()) {
                tokio::spawn(Watcher { world: world.clone(), execution, cursor: None }.watch());
            }
        }
        sleep(AGAIN).await;
    }
    Ok(())
}

struct Watcher {
    world: World,
    execution: ExecutionId,
    cursor: Option<EventId>,
}

/// Whether there may be more.
enum More {
    Yes,
    No,
}

impl Watcher {
    async fn watch(mut self) {
        while let More::Yes = self.attach().await {
            sleep(AGAIN).await;
        }
    }

    async fn attach(&mut self) -> More {
        let Ok(request) = self.request() else {
            return More::No;
        };
        let asked = now();
        let Ok(answer) = net::send(&self.world, Link::Watch, host::SUBSTRATE, request).await else {
            return More::Yes;
        };
        match answer.status().as_u16() {
            200 => {
                self.add(WatchAct::Stream { after: self.cursor, asked });
                self.read(answer.into_body()).await
            }
            204 => More::No,
            status => self.refused(status, asked),
        }
    }

    fn request(&self) -> Result<Request<Bytes>, http::Error> {
        let uri = format!("http://{}/agents/executions/{}/stream", host::SUBSTRATE, self.execution);
        let request = Request::get(uri).header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        let request = match self.cursor {
            Some(cursor) => request.header("last-event-id", cursor.to_string()),
            None => request,
        };
        request.body(Bytes::new())
    }

    fn refused(&mut self, status: u16, asked: Duration) -> More {
        self.add(WatchAct::Refused { after: self.cursor, asked, status });
        // What it knew is gone: it begins anew with what there is now.
        let forgets = self.cursor.take().is_some();
        if forgets { More::Yes } else { More::No }
    }

    async fn read(&mut self, mut chunks: Chunks) -> More {
        let mut parser = sse::Parser::new();
        while let Ok(Some(Ok(chunk))) = timeout(IDLE, chunks.next()).await {
            let mut seen = Vec::new();
            let fed = parser.feed(&chunk, |frame| {
                let id = EventId::parse(frame.id());
                seen.extend(frame.to_event().ok().flatten().map(|event| (id, event)));
            });
            for (id, event) in seen {
                self.cursor = id.or(self.cursor);
                self.add(WatchAct::Frame { id, event });
            }
            if fed.is_err() {
                return More::No;
            }
        }
        More::Yes
    }

    fn add(&self, act: WatchAct) {
        self.world.add(Fact::Watch { execution: self.execution.clone(), act });
    }
}
