//! The adapter's way to a substrate in the same process: its routes, without sockets between.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tower::ServiceExt as _;
use turnkit_sandbox::{ResponseBody, Transport, TransportError};

/// Asks `routes` directly. Each request is a call, and an answer's body is read where it is made: when the adapter asks.
pub(super) fn to(routes: Router) -> Arc<dyn Transport> {
    Arc::new(InProcess { routes })
}

struct InProcess {
    routes: Router,
}

impl Transport for InProcess {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, TransportError>> {
        let answer = self.routes.clone().oneshot(request.map(Body::from));
        Box::pin(async move {
            let Ok(answer) = answer.await;
            Ok(answer.map(streamed))
        })
    }
}

fn streamed(body: Body) -> ResponseBody {
    let broken = |error: axum::Error| TransportError::Broken(error.into());
    Box::pin(body.into_data_stream().map_err(broken))
}
