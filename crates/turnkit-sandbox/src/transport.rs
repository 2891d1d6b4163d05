//! The way to the substrate: a service of HTTP requests, whichever it is, boxed once.

#[cfg(feature = "reqwest")]
mod network;

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use tower_service::Service;
use turnkit::BoxError;

use crate::{BuildError, TransportError};

/// The body of an answer, in frames as they come. An error is its end.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, TransportError>;

/// What carries one request to the substrate, and the answer back.
pub(crate) trait Transport: Send + Sync + 'static {
    fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, TransportError>>;
}

/// Any service, as a transport.
pub(crate) fn of<S, B>(service: S) -> Arc<dyn Transport>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Arc::new(OfService(service))
}

/// The default transport: HTTP over the host's network.
pub(crate) fn by_default(connect_timeout: Duration) -> Result<Arc<dyn Transport>, BuildError> {
    #[cfg(feature = "reqwest")]
    return network::client(connect_timeout).map(of);
    #[cfg(not(feature = "reqwest"))]
    {
        let _ = connect_timeout;
        Err(BuildError::NoTransport)
    }
}

/// The next bytes of a body; `None` at its end. Dropping the future loses nothing.
pub(crate) async fn chunk(body: &mut ResponseBody) -> Option<Result<Bytes, TransportError>> {
    loop {
        match body.frame().await? {
            // Trailers say nothing that this protocol knows.
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

struct OfService<S>(S);

impl<S, B> Transport for OfService<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, TransportError>> {
        let mut service = self.0.clone();
        Box::pin(async move {
            let unanswered = |error: S::Error| classed(error.into(), TransportError::Answer);
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(unanswered)?;
            let answer = service.call(request).await.map_err(unanswered)?;
            let broken = |error: B::Error| classed(error.into(), TransportError::Broken);
            Ok(answer.map(|body| body.map_err(broken).boxed_unsync()))
        })
    }
}

/// The error as the service itself classes it, and as `otherwise` where it does not.
fn classed(error: BoxError, otherwise: fn(BoxError) -> TransportError) -> TransportError {
    error.downcast().map_or_else(otherwise, |error| *error)
}
