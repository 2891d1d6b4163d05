#[cfg(feature = "reqwest")]
mod network;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::{Stream, future::BoxFuture};
use http::{Request, Response};

use crate::{BuildError, TransportError};

/// The body of an answer, in chunks as they come. An item that is an error is the last one.
pub type ResponseBody = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// What carries one request to the substrate, and the answer back.
///
/// The default, behind the feature `reqwest`, is HTTP/1.1 over TCP or TLS (rustls, the platform's roots). Another one, for a
/// simulated network, a tunnel or a client that the product has already, keeps to this:
/// - it sends a request once: no retries, no redirects followed. All of that is the adapter's;
/// - it changes no body: no decompression. An empty body is sent as none;
/// - it gives up a request or a body that is dropped, and closes what carried it;
/// - it may take as long as it likes: the adapter has the time-outs;
/// - it prints no header that is marked [sensitive](http::HeaderValue::is_sensitive).
pub trait Transport: Send + Sync + 'static {
    /// Sends `request`, its URI absolute, and answers with the head of the response and its body.
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, TransportError>>;
}

/// The default transport.
pub(crate) fn by_default(connect_timeout: Duration) -> Result<Arc<dyn Transport>, BuildError> {
    #[cfg(feature = "reqwest")]
    return network::client(connect_timeout);
    #[cfg(not(feature = "reqwest"))]
    {
        let _ = connect_timeout;
        Err(BuildError::NoTransport)
    }
}
