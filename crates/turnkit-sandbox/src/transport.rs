use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::{Stream, future::BoxFuture};
use futures_util::TryStreamExt;
use http::{Request, Response};
use reqwest::{Client, redirect, retry};

use crate::{BuildError, TransportError};

/// The body of an answer, in chunks as they come. An item that is an error is the last one.
pub type ResponseBody = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// What carries one request to the substrate, and the answer back.
///
/// The default is HTTP/1.1 over TCP or TLS (rustls, the platform's roots). Another one, for a simulated network or a
/// tunnel, keeps to this:
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
pub(crate) fn over_http(connect_timeout: Duration) -> Result<Arc<dyn Transport>, BuildError> {
    let client = Client::builder()
        .user_agent(concat!("turnkit-sandbox/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        // A variable of the environment would send the token and the user's words to another host.
        .no_proxy()
        .connect_timeout(connect_timeout)
        .build();
    client
        .map(|client| Arc::new(client) as Arc<dyn Transport>)
        .map_err(|error| BuildError::Http(error.without_url().into()))
}

impl Transport for Client {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, TransportError>> {
        let client = self.clone();
        Box::pin(async move {
            let request = request.try_into().map_err(unanswered)?;
            client.execute(request).await.map(streamed).map_err(unanswered)
        })
    }
}

fn streamed(answer: reqwest::Response) -> Response<ResponseBody> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let broken = |error: reqwest::Error| TransportError::Broken(error.without_url().into());
    let body: ResponseBody = Box::pin(answer.bytes_stream().map_err(broken));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn unanswered(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    if error.is_connect() {
        TransportError::Connect(error.into())
    } else {
        TransportError::Answer(error.into())
    }
}
