//! A peer that is still sending when it was answered.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{runtime::Handle, time};

/// Lets whoever sent the request see its answer, although the body was refused or nobody asked for it.
///
/// A connection that is closed while its peer still sends is reset, and most clients then report that instead of what they were
/// told. So the rest of a body that is dropped is read beside the answer and thrown away: at most 8 MiB, for at most 10 s, and
/// not longer than its peer pauses for 1 s. For [`axum::middleware::map_request`], as the outermost layer.
#[must_use]
pub fn linger(request: Request) -> Request {
    request.map(|body| Body::new(Lingering { body, is_over: false }))
}

struct Lingering {
    body: Body,
    is_over: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.is_over = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if self.is_over || self.body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let rest = mem::take(&mut self.body);
            runtime.spawn(async { time::timeout(IN_ALL, discard(rest)).await });
        }
    }
}

async fn discard(mut body: Body) {
    let mut left = MOST;
    while let Ok(Some(Ok(frame))) = time::timeout(PAUSE, body.frame()).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return,
        }
    }
}

const MOST: usize = 8 * 1024 * 1024;
const PAUSE: Duration = Duration::from_secs(1);
const IN_ALL: Duration = Duration::from_secs(10);
